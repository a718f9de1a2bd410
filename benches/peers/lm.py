"""A recurrent language model in PyTorch, on the CPU: the strongest plain program for the same work as `wordmill train lm`.

Fused nn.RNN, nn.GRU or nn.LSTM, truncated back-propagation with carried state, one optimizer step a window, fused optimizers. Losses: full
(F.cross_entropy), or sampled (log-uniform, shared by the window, corrected by log q, accidental hits masked, sparse gradients).
Prints JSON: a line for each evaluation, then a summary.
"""
import argparse
import collections
import json
import math
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
p.add_argument("--train", required=True)
p.add_argument("--valid")
p.add_argument("--max-vocab", type=int, help="the most frequent words only")
p.add_argument("--embed", type=int, default=50)
p.add_argument("--hidden", type=int, default=100)
p.add_argument("--tau", type=int, default=10)
p.add_argument("--batch", type=int, default=64)
p.add_argument("--cell", choices=["rnn", "gru", "lstm"], default="rnn")
p.add_argument("--loss", choices=["full", "sampled"], default="full")
p.add_argument("--samples", type=int, default=1024)
p.add_argument("--optimizer", choices=["sgd", "adam", "adagrad"], default="adam")
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--clip", type=float, default=5.0)
p.add_argument("--dropout", type=float, default=0.1)
p.add_argument("--epochs", type=float, default=1.0)
p.add_argument("--max-steps", type=int)
p.add_argument("--every", type=int, help="evaluate on --valid after so many steps [default: at the end]")
p.add_argument("--warm-up", type=int, default=0, help="steps that are not timed: the compiler's")
p.add_argument("--threads", type=int, default=2)
p.add_argument("--seed", type=int, default=1)
p.add_argument("--bf16", action="store_true")
p.add_argument("--compile", action="store_true")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(a.seed)
assert a.loss == "full" or not a.valid, "the sampled loss is for speed only"


def words(path):
    return [word for line in open(path, encoding="utf8") for word in line.split() + ["<eos>"]]


text = words(a.train)
vocabulary = {"<unk>": 0}
for word, _ in collections.Counter(text).most_common():
    if a.max_vocab is None or len(vocabulary) < a.max_vocab:
        vocabulary.setdefault(word, len(vocabulary))
V = len(vocabulary)


def lanes(text):
    """Word ids as [steps, batch]."""
    ids = torch.tensor([vocabulary.get(word, 0) for word in text])
    n = len(ids) // a.batch
    return ids[: n * a.batch].view(a.batch, n).t().contiguous()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        sparse = a.loss == "sampled"
        self.embedding = nn.Embedding(V, a.embed, sparse=sparse)
        self.rnn = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[a.cell](a.embed, a.hidden)
        self.dropout = nn.Dropout(a.dropout)
        if sparse:
            self.U, self.b = nn.Embedding(V, a.hidden, sparse=True), nn.Embedding(V, 1, sparse=True)
            nn.init.uniform_(self.U.weight, -0.1, 0.1)
            nn.init.zeros_(self.b.weight)
        else:
            self.output = nn.Linear(a.hidden, V)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)

    def states(self, x, h):
        y, h = self.rnn(self.dropout(self.embedding(x)), h)
        return self.dropout(y).flatten(0, 1), h

    def loss(self, y, target):
        if a.loss == "full":
            return F.cross_entropy(self.output(y).float(), target)
        scale = math.log(V + 1)
        noise = (torch.exp(torch.rand(a.samples) * scale) - 1).long().clamp(0, V - 1)
        log_q = lambda i: torch.log(torch.log((i + 2.0) / (i + 1.0)) / scale * a.samples)
        rows = torch.cat([target, noise])
        W, B = self.U(rows), self.b(rows).squeeze(1)
        n = len(target)
        true = (y * W[:n]).sum(1) + B[:n] - log_q(target.float())
        others = y @ W[n:].t() + B[n:] - log_q(noise.float())
        others = others.masked_fill(target[:, None] == noise[None, :], -1e9)
        return (torch.logsumexp(torch.cat([true[:, None], others], 1), 1) - true).mean()


model = Model()
states = torch.compile(model.states) if a.compile else model.states
loss = torch.compile(model.loss) if a.compile else model.loss
if a.loss == "sampled":
    tables = [q for name, q in model.named_parameters() if not name.startswith("rnn")]
    dense = list(model.rnn.parameters())
    of = {"adam": (torch.optim.SparseAdam, torch.optim.Adam), "adagrad": (torch.optim.Adagrad,) * 2, "sgd": (torch.optim.SGD,) * 2}
    optimizers = [of[a.optimizer][0](tables, a.lr), of[a.optimizer][1](dense, a.lr)]
else:
    dense = list(model.parameters())
    of = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}
    optimizers = [of[a.optimizer](dense, a.lr, fused=True)]


def step(x, target, h):
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
        y, h = states(x, h)
        value = loss(y, target)
    value.backward()
    nn.utils.clip_grad_norm_(dense, a.clip)
    for optimizer in optimizers:
        optimizer.step()
    return value.item(), tuple(x.detach() for x in h) if a.cell == "lstm" else h.detach()


def perplexity(data):
    model.eval()
    total, n, h = 0.0, 0, None
    with torch.no_grad():
        for i in range(0, len(data) - 1, a.tau):
            k = min(a.tau, len(data) - 1 - i)
            y, h = model.states(data[i : i + k], h)
            target = data[i + 1 : i + 1 + k].flatten()
            total += F.cross_entropy(model.output(y), target).item() * len(target)
            n += len(target)
    model.train()
    return math.exp(total / n)


data = lanes(text)
valid = lanes(words(a.valid)) if a.valid else None
windows = (len(data) - 1) // a.tau
last = a.warm_up + (a.max_steps or int(a.epochs * windows))
h, timed, seconds, measured = None, 0, 0.0, None
for i in range(last):
    if i % windows == 0:
        h = None
    at = i % windows * a.tau
    begin = time.perf_counter()
    value, h = step(data[at : at + a.tau], data[at + 1 : at + 1 + a.tau].flatten(), h)
    if i >= a.warm_up:
        seconds += time.perf_counter() - begin
        timed += 1
    done = i + 1
    if valid is not None and (done == last or a.every and done % a.every == 0):
        measured = perplexity(valid)
        print(json.dumps({"step": done, "seconds": seconds, "perplexity": measured}), flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"words_per_second": timed * a.tau * a.batch / seconds, "seconds": seconds, "peak_mb": peak / 1e6, "words": V,
                  "loss": value, "perplexity": measured}))
