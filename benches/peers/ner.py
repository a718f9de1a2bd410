"""A window tagger in PyTorch, on the CPU: the same work as `wordmill train ner --objective window --features none`.

Prints a JSON summary: tokens a second over all epochs, and the peak of memory.
"""
import argparse
import json
import resource
import time

import torch
import torch.nn.functional as F
from torch import nn

p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
p.add_argument("--train", required=True, help="CoNLL: the word in the first column, the tag in the last")
p.add_argument("--embed", type=int, default=50)
p.add_argument("--hidden", type=int, default=100)
p.add_argument("--window", type=int, default=3)
p.add_argument("--batch", type=int, default=64)
p.add_argument("--max-steps", type=int, default=2000)
p.add_argument("--warm-up", type=int, default=0, help="steps that are not timed: the compiler's")
p.add_argument("--lr", type=float, default=1e-3)
p.add_argument("--dropout", type=float, default=0.1)
p.add_argument("--l2", type=float, default=1e-3)
p.add_argument("--threads", type=int, default=2)
p.add_argument("--compile", action="store_true")
p.add_argument("--sparse", action="store_true", help="sparse gradients of word vectors, as wordmill has them")
a = p.parse_args()
torch.set_num_threads(a.threads)
torch.manual_seed(1)

sentences, sentence = [], []
for line in open(a.train, encoding="utf8"):
    fields = line.split()
    if fields and fields[0] != "-DOCSTART-":
        sentence.append((fields[0], fields[-1]))
    elif sentence:
        sentences.append(sentence)
        sentence = []
sentences += [sentence] if sentence else []

vocabulary, tags, around = {"<s>": 0, "</s>": 1}, {}, a.window // 2
X, Y = [], []
for sentence in sentences:
    ids = [vocabulary.setdefault(word, len(vocabulary)) for word, _ in sentence]
    ids = [0] * around + ids + [1] * around
    for i, (_, tag) in enumerate(sentence):
        X.append(ids[i : i + a.window])
        Y.append(tags.setdefault(tag, len(tags)))
X, Y = torch.tensor(X), torch.tensor(Y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(vocabulary), a.embed, sparse=a.sparse)
        self.W, self.U = nn.Linear(a.window * a.embed, a.hidden), nn.Linear(a.hidden, len(tags))
        self.dropout = nn.Dropout(a.dropout)

    def forward(self, x):
        h = torch.tanh(self.W(self.dropout(self.embedding(x).flatten(1))))
        return self.U(self.dropout(h))


net = Net()
forward = torch.compile(net) if a.compile else net
dense = list(net.W.parameters()) + list(net.U.parameters())
if a.sparse:
    optimizers = [torch.optim.SparseAdam(list(net.embedding.parameters()), a.lr), torch.optim.Adam(dense, a.lr, fused=True)]
else:
    optimizers = [torch.optim.Adam(net.parameters(), a.lr, fused=True)]

order = torch.randperm(len(X))
for step in range(a.warm_up + a.max_steps):
    if step == a.warm_up:
        begin = time.perf_counter()
    at = step * a.batch % (len(X) - a.batch)
    rows = order[at : at + a.batch]
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    penalty = net.W.weight.square().sum() + net.U.weight.square().sum()
    loss = F.cross_entropy(forward(X[rows]), Y[rows]) + a.l2 / 2 * penalty
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
seconds = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"words_per_second": a.max_steps * a.batch / seconds, "seconds": seconds, "peak_mb": peak / 1e6}))
