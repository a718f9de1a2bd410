"""Measures wordmill beside PyTorch, in turns, and writes one Markdown table; see README.md.

    python benches/peers/run.py --data DIR --minutes 20 --out table.md

DIR holds train.txt and valid.txt. Every round runs each program once, so that a machine that is slow for a while is slow for all;
rounds go on until the time is used up. First come short runs for speed and memory, then runs of an epoch for perplexity.
"""
import argparse
import json
import math
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
p.add_argument("--data", required=True, type=pathlib.Path, help="directory with train.txt and valid.txt")
p.add_argument("--ner", type=pathlib.Path, help="tagged text (CoNLL) for the tagger's rows")
p.add_argument("--wordmill", type=pathlib.Path, default=ROOT / "target/release/wordmill", help="[default: the release build]")
p.add_argument("--minutes", type=float, default=20, help="what all of it may take, about [default: 20]")
p.add_argument("--epochs", type=float, default=1, help="of the runs for perplexity; 0 leaves them out [default: 1]")
p.add_argument("--evaluations", type=int, default=5, help="in an epoch [default: 5]")
p.add_argument("--only", action="append", help="configurations whose name holds this; several may be given")
p.add_argument("--out", type=pathlib.Path, help="the table [default: standard output]")
a = p.parse_args()
begin = time.monotonic()
scratch = pathlib.Path(tempfile.mkdtemp())


def left():
    """Seconds of the budget."""
    return 60 * a.minutes - (time.monotonic() - begin)


def say(text):
    print(f"[{(time.monotonic() - begin) / 60:5.1f} min] {text}", file=sys.stderr, flush=True)


def run(command):
    """The lines of JSON that a command prints."""
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        say(f"failed: {' '.join(map(str, command))}\n{done.stderr[-2000:]}")
        return None
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def zipf_text():
    """A million words of 100,000 that fall as Zipf's law says, each there at least once."""
    path = scratch / "zipf.txt"
    draw, V = random.Random(1), 100_000
    words = list(range(V - 2)) + [min(int(math.exp(draw.random() * math.log(V - 1)) - 1), V - 3) for _ in range(900_000)]
    draw.shuffle(words)
    with open(path, "w") as out:
        for i in range(0, len(words), 20):
            print(*(f"w{word}" for word in words[i : i + 20]), file=out)
    return path


class Wordmill:
    def __init__(self, *options):
        self.options = list(options)
        self.name = ", ".join(["wordmill", *(option for option in options if not option.startswith("--"))])

    def speed(self, c):
        out = scratch / "model"
        shutil.rmtree(out, ignore_errors=True)
        lines = run([a.wordmill, "train", c.task, "--out", out, "--quiet", "--json", "--schedule", "constant", *c.common, *c.wordmill,
                     *self.options, "--max-steps", c.steps * 3])
        return lines and {"words_per_second": lines[-1]["words_per_second"], "peak_mb": lines[-1]["peak_memory_mb"]}

    def learn(self, c, valid, every, steps):
        """In pieces, as it evaluates where a run ends; it goes on to the same bits."""
        out = scratch / "learned"
        shutil.rmtree(out, ignore_errors=True)
        course = []
        for end in [*range(every, steps, every), steps]:
            more = ["--resume"] if course else ["--schedule", "constant", "--valid", valid, *c.common, *c.wordmill, *self.options]
            lines = run([a.wordmill, "train", c.task, "--out", out, "--quiet", "--json", *more, "--epochs", 1000, "--max-steps", end])
            if lines is None:
                return None
            reports = [json.loads(line) for line in open(out / "metrics.jsonl")]
            course.append((reports[-1]["seconds"], reports[-1]["valid_perplexity"]))
        return course


class PyTorch:
    def __init__(self, *options):
        self.options = list(options)
        said = {"--compile": "`torch.compile`", "--bf16": "bf16", "--sparse": "sparse embedding"}
        self.name = ", ".join(["PyTorch", *(said[option] for option in options)])

    def speed(self, c):
        warm_up = 10 if "--compile" in self.options else 3
        lines = run([sys.executable, HERE / c.script, *c.common, *c.torch, *self.options, "--max-steps", c.steps, "--warm-up", warm_up])
        return lines and lines[-1]

    def learn(self, c, valid, every, steps):
        lines = run([sys.executable, HERE / c.script, "--valid", valid, *c.common, *c.torch, *self.options, "--max-steps", steps, "--every",
                     every])
        return lines and [(line["seconds"], line["perplexity"]) for line in lines[:-1]]


class Configuration:
    def __init__(self, name, task, common, wordmill, torch, steps, peers, learns=False):
        self.name, self.task, self.script = name, task, f"{task}.py"
        self.common, self.wordmill, self.torch = common, wordmill, torch
        own = [Wordmill(), Wordmill("--precision", "bf16")] if task == "lm" else [Wordmill()]
        self.steps, self.programs, self.learns = steps, [*own, *peers], learns
        self.results = {program.name: [] for program in self.programs}
        self.courses = {}


train = a.data / "train.txt"
LR = ["--lr", 0.001]
PEERS = [PyTorch(), PyTorch("--compile"), PyTorch("--bf16"), PyTorch("--bf16", "--compile")]
SAMPLED = ["--cell", "gru", "--embed", 256, "--hidden", 256, "--tau", 20, "--loss", "sampled", "--samples", 1024]
configurations = [
    Configuration("RNN, V of the text, D 50, H 100, τ 10, full softmax", "lm", ["--train", train, *LR], [], [], 150, PEERS, True),
    Configuration("GRU, V of the text, D and H 256, τ 20, full softmax", "lm",
                  ["--train", train, *LR, "--cell", "gru", "--embed", 256, "--hidden", 256, "--tau", 20], [], [], 40, PEERS),
    Configuration("GRU, V 100,000, D and H 256, τ 20, sampled softmax (1,024), Adagrad", "lm",
                  ["--train", zipf_text(), *SAMPLED, "--optimizer", "adagrad", "--lr", 0.05], [], [], 40,
                  # torch.compile knows no sparse gradients.
                  [PyTorch()]),
]
if a.ner:
    configurations.append(Configuration(
        "Tagger, window 3, D 50, H 100, one softmax a token", "ner", ["--train", a.ner, *LR], ["--features", "none", "--objective", "window"],
        [], 2000, [PyTorch("--sparse"), PyTorch(), PyTorch("--compile")]))
configurations = [c for c in configurations if not a.only or any(part in c.name for part in a.only)]


def learn(c):
    """An epoch of each program, with evaluations."""
    tau = c.common[c.common.index("--tau") + 1] if "--tau" in c.common else 10
    words = sum(len(line.split()) + 1 for line in open(train, encoding="utf8"))
    steps = int(words // (64 * tau) * a.epochs)
    every = max(1, int(steps / (a.evaluations * a.epochs)))
    for program in c.programs:
        say(f"{c.name}: {program.name} learns, {steps} steps")
        course = program.learn(c, a.data / "valid.txt", every, steps)
        if course:
            c.courses[program.name] = course


def reach(course, perplexity):
    """Seconds until a perplexity is reached, between evaluations on a straight line of its logarithm."""
    before = None
    for seconds, value in course:
        if value <= perplexity:
            if before is None or before[1] == value:
                return seconds
            part = (math.log(before[1]) - math.log(perplexity)) / (math.log(before[1]) - math.log(value))
            return before[0] + part * (seconds - before[0])
        before = (seconds, value)
    return None


def number(x):
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def spread(values):
    middle = statistics.median(values)
    return number(middle) if len(values) == 1 else f"{number(middle)} ({number(min(values))}-{number(max(values))})"


def table():
    lines = []
    for c in configurations:
        done = [program for program in c.programs if c.results[program.name]]
        if not done:
            continue
        target = max((course[-1][1] for course in c.courses.values()), default=None)
        own = [program for program in done if isinstance(program, Wordmill)]
        head = ["", "words/s", *(f"{program.name} is" for program in own), "peak MB"]
        if target:
            head += [f"perplexity after {a.epochs:g} epoch{'s' * (a.epochs != 1)}", f"seconds to {target:.1f}"]
        lines += [f"*{c.name}*, {max(len(r) for r in c.results.values())} rounds:", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for program in done:
            results = c.results[program.name]
            speeds = [result["words_per_second"] for result in results]
            row = [program.name, spread(speeds)]
            for ours in own:
                pairs = [x["words_per_second"] / y for x, y in zip(c.results[ours.name], speeds)]
                row.append("" if program in own else f"{statistics.median(pairs):.1f} ×")
            row += [number(statistics.median(result["peak_mb"] for result in results))]
            if target:
                course = c.courses.get(program.name)
                seconds = course and reach(course, target)
                row += [f"{course[-1][1]:.1f}" if course else "", f"{seconds:.0f}" if seconds else ""]
            lines.append("| " + " | ".join(row) + " |")
        lines.append("")
    return "\n".join(lines)


def write():
    if a.out:
        a.out.write_text(table(), encoding="utf8")


try:
    rounds, longest = 0, 0.0
    # Learning has what is left after half of the time, and the rounds the rest.
    learners = [c for c in configurations if c.learns and a.epochs > 0]
    budget = 30 * a.minutes if learners else 60 * a.minutes
    while rounds == 0 or time.monotonic() - begin + longest < budget:
        start = time.monotonic()
        for c in configurations:
            for program in c.programs:
                say(f"round {rounds + 1}, {c.name}: {program.name}")
                result = program.speed(c)
                if result:
                    c.results[program.name].append(result)
        rounds, longest = rounds + 1, max(longest, time.monotonic() - start)
        write()
    for c in learners:
        learn(c)
        write()
    if not a.out:
        print(table())
    say("done")
finally:
    shutil.rmtree(scratch, ignore_errors=True)
