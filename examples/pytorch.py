"""A language model of wordmill in PyTorch: its perplexity there, and its weights back.

    pip install torch safetensors
    wordmill export model --to pytorch model.safetensors
    python pytorch.py model.safetensors test.txt
    python pytorch.py model.safetensors test.txt --save back.safetensors
    wordmill import back.safetensors --vocab model.vocab.txt --out again

The perplexity is that of `wordmill eval model test.txt`: exp of the mean loss over all words and line ends, each given all before.
"""

import argparse
import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


class LanguageModel(torch.nn.Module):
    """The modules whose names and shapes are those of the file."""

    def __init__(self, tensors, activation):
        super().__init__()
        words, embed = tensors["embedding.weight"].shape
        rows, hidden = tensors["rnn.weight_hh_l0"].shape
        layers = sum(name.startswith("rnn.weight_hh_l") for name in tensors)
        self.embedding = torch.nn.Embedding(words, embed)
        if rows == 4 * hidden:
            self.rnn = torch.nn.LSTM(embed, hidden, num_layers=layers)
        elif rows == 3 * hidden:
            self.rnn = torch.nn.GRU(embed, hidden, num_layers=layers)
        else:
            self.rnn = torch.nn.RNN(embed, hidden, num_layers=layers, nonlinearity=activation)
        self.output = torch.nn.Linear(hidden, words)
        self.load_state_dict(tensors)

    def forward(self, ids, state):
        top, state = self.rnn(self.embedding(ids), state)
        return self.output(top), state


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--save", type=Path, help="write the weights again")
    arguments = parser.parse_args()

    with safe_open(arguments.weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        notes = file.metadata() or {}
    model = LanguageModel(tensors, notes.get("activation", "tanh"))

    vocabulary = arguments.weights.with_suffix(".vocab.txt").read_text(encoding="utf8").rstrip("\n").split("\n")
    ids = {line.split("\t")[0]: number for number, line in enumerate(vocabulary)}
    # Lines and words as in wordmill: only ASCII white space separates them.
    text = arguments.text.read_bytes().removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    words = [word.decode() for line in text for word in line.split() + [b"<eos>"]]
    targets = torch.tensor([ids.get(word, ids["<unk>"]) for word in words])
    inputs = torch.cat([torch.tensor([ids["<eos>"]]), targets[:-1]])

    total, state = 0.0, None
    with torch.no_grad():
        for inputs, goals in zip(inputs.split(500), targets.split(500)):
            logits, state = model(inputs[:, None], state)
            total += torch.nn.functional.cross_entropy(logits[:, 0].double(), goals, reduction="sum").item()
    print(f"perplexity {math.exp(total / len(targets)):.4f}")
    if arguments.save:
        save_file({name: x.contiguous() for name, x in model.state_dict().items()}, arguments.save, metadata=notes)


main()
