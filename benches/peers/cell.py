"""One recurrent layer in PyTorch, forward and backward over 20 steps, without an output layer: rows (steps x lanes) a second.

The same as the group `cells` of `cargo bench`.
"""
import time

import torch

STEPS = 20
for threads in (1, 2):
    torch.set_num_threads(threads)
    for cell in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM):
        for units in (128, 256, 512):
            for lanes in (32, 64):
                layer = cell(units, units)
                x, state = torch.randn(STEPS, lanes, units, requires_grad=True), torch.zeros(1, lanes, units)

                def run():
                    layer.zero_grad(set_to_none=True)
                    x.grad = None
                    layer(x, (state, state) if cell is torch.nn.LSTM else state)[0].sum().backward()

                run()
                best, begin = float("inf"), time.perf_counter()
                while time.perf_counter() - begin < 1:
                    call = time.perf_counter()
                    run()
                    best = min(best, time.perf_counter() - call)
                rows = STEPS * lanes
                products = {torch.nn.RNN: 1, torch.nn.GRU: 3, torch.nn.LSTM: 4}[cell]
                speed = 6 * rows * 2 * units * units * products / best / 1e9
                print(f"{cell.__name__} H {units}, {lanes} lanes, {threads} threads: {rows / best:9.0f} rows/s {speed:6.1f} GFLOP/s")
