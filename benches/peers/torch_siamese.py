"""A Siamese net in PyTorch, on the CPU: the same work as `wordmill train siamese` with its defaults.

Frozen word vectors gathered by rows, both words of a pair through one nn.Linear call, contrastive loss with L2 on W in the optimizer,
fused Adam with a linear schedule, examples shuffled once an epoch. Prints a JSON summary: pairs a second over the timed steps.
"""
import argparse
import json
import time

import torch
from torch import nn

p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
p.add_argument("--pairs", required=True, help="word TAB word TAB 1 or 0")
p.add_argument("--vectors", required=True, help="GloVe text")
p.add_argument("--hidden", type=int, default=100)
p.add_argument("--margin", type=float, default=1.0)
p.add_argument("--l2", type=float, default=1e-4)
p.add_argument("--batch", type=int, default=64)
p.add_argument("--steps", type=int, default=3000)
p.add_argument("--warm-up", type=int, default=200, help="steps that are not timed")
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--threads", type=int, default=1)
p.add_argument("--compile", action="store_true")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(1)

vectors = {}
for line in open(a.vectors, encoding="utf8"):
    word, *numbers = line.rstrip().split(" ")
    vectors[word] = [float(x) for x in numbers]
ids = {word: i for i, word in enumerate(vectors)}
table = torch.tensor(list(vectors.values()))
rows = [line.rstrip("\n").split("\t") for line in open(a.pairs, encoding="utf8")]
rows = [row for row in rows if row[0] in ids and row[1] in ids]
pairs = torch.tensor([[ids[first], ids[second]] for first, second, _ in rows])
alike = torch.tensor([float(label) for _, _, label in rows])

layer = nn.Linear(table.shape[1], a.hidden)
groups = [{"params": [layer.weight], "weight_decay": a.l2}, {"params": [layer.bias]}]
adam = torch.optim.Adam(groups, lr=a.lr, fused=True)


def loss(x, y):
    """x: the vectors of the first words, then those of the second; y: 1 for alike."""
    h1, h2 = torch.sigmoid(layer(x)).chunk(2)
    squared = (h1 - h2).square().sum(1)
    lacking = (a.margin - (squared + 1e-12).sqrt()).clamp(min=0)
    return 0.5 * (y * squared + (1 - y) * lacking.square()).mean()


if a.compile:
    loss = torch.compile(loss)

total, done, began, sum_of_losses = a.warm_up + a.steps, 0, 0.0, 0.0
timed = 0
while done < total:
    order = torch.randperm(len(pairs))
    for batch in order.split(a.batch):
        if done == a.warm_up:
            began = time.perf_counter()
        x = table[pairs[batch].T.reshape(-1)]
        value = loss(x, alike[batch])
        adam.zero_grad(set_to_none=True)
        value.backward()
        for group in adam.param_groups:
            group["lr"] = a.lr * (total - done) / total
        adam.step()
        timed += len(batch) if done >= a.warm_up else 0
        done += 1
        if done == total:
            break
seconds = time.perf_counter() - began
summary = {"pairs_per_second": timed / seconds, "last_loss": value.item(), "threads": a.threads, "compile": a.compile}
print(json.dumps(summary))
