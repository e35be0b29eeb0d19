#!/usr/bin/env python3
"""Compares Lamina's pre-train step with its peers' in one run: the same cores, shapes, batch and masked positions.

Every system gets a turn of a few steps in each round, in reverse order in every second round, so that other load on the
machine affects all of them alike. A turn counts as the mean of its steps, a system as the median of its turns.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile

SIZES = {
    "narrow": {"blocks": 12, "hidden": 128, "heads": 2, "batch": 32},
    "mini": {"blocks": 4, "hidden": 256, "heads": 4, "batch": 32},
    "small": {"blocks": 4, "hidden": 512, "heads": 8, "batch": 32},
    "base": {"blocks": 12, "hidden": 768, "heads": 12, "batch": 8},
    "large": {"blocks": 24, "hidden": 1024, "heads": 16, "batch": 8},
}
DEFAULT = ["narrow", "mini", "small", "base"]
LENGTH = 128
# Number of steps at the start of a turn that are not counted.
WARMUP = 2
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 30522
PRECISIONS = ["float32", "bfloat16"]
HERE = pathlib.Path(__file__).parent


def main():
    parser = arguments()
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens in a sequence")
    parser.add_argument("--batch", type=int, help="sequences in a batch, instead of the defaults for a CPU")
    parser.add_argument("--eager", action="store_true", help="leave out the compiled peers")
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    # The wait policy of OpenMP is not changed: with threads that sleep at once, PyTorch is a fifth slower.
    os.environ.update(OMP_NUM_THREADS=str(threads))
    peaks = {precision: matrix_peak(precision, options, threads) for precision in PRECISIONS}
    listed = ", ".join(f"{precision} {peak / 1e12:,.2f} TFLOP/s" for precision, peak in peaks.items())
    print(f"{processor()}, {threads} cores, on {options.device}; batch x {options.length} tokens, "
          f"{masked(options.length)} of them masked; {options.rounds} rounds of {options.steps} steps\n\n"
          f"Matrix peak: {listed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        lamina = Lamina(options, pathlib.Path(folder), threads)
        for name in options.sizes:
            size = SIZES[name] | {"length": options.length} | ({"batch": options.batch} if options.batch else {})
            compare(name, size, options, lamina, threads, peaks)


def arguments(sizes=SIZES, default=DEFAULT):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", required=True, help="the release build of lamina-trainer")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with requirements.txt")
    parser.add_argument("--sizes", nargs="+", default=default, choices=sizes, metavar="SIZE")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=5, help="in a turn")
    parser.set_defaults(device="cpu", length=LENGTH)
    return parser


def matrix_peak(precision, options, threads):
    """FLOP/s of the fastest of several products of large square matrices."""
    width = 2048 if options.device == "cpu" else 8192
    peer = Peer("peak", precision, False, {"width": width}, options, threads)
    seconds = peer.turn(10)
    peer.process.kill()
    return 2 * width**3 / min(seconds, default=float("nan"))


def masked(length):
    """Number of masked tokens: 15 % of those between [CLS] and [SEP]."""
    return round(0.15 * (length - 2))


def flops(size):
    """FLOPs of the matrix products in a step, forward and backward; the head computes the masked positions only."""
    hidden, length = size["hidden"], size["length"]
    block = 24 * hidden**2 + 4 * length * hidden
    head = 2 * hidden * (hidden + VOCABULARY)
    return 3 * size["batch"] * (length * size["blocks"] * block + masked(length) * head)


def compare(name, size, options, lamina, threads, peaks):
    peers = [
        Peer(peer, precision, compiled, size, options, threads)
        for peer in ["stock", "tuned"]
        for precision in PRECISIONS
        for compiled in ([False] if options.eager else [False, True])
    ]
    systems = peers + [Arm(lamina, name, size, precision) for precision in PRECISIONS]
    tokens = size["batch"] * size["length"]
    try:
        # The first turn compiles and allocates.
        systems = [system for system in systems if system.turn(2)]
        turns = {system.name: [] for system in systems}
        for number in range(options.rounds):
            for system in systems if number % 2 == 0 else reversed(systems):
                turns[system.name].append(tokens / statistics.mean(system.turn(options.steps)))
    finally:
        for peer in peers:
            peer.process.kill()
    rates = {system: statistics.median(rates) for system, rates in turns.items()}
    table(name, size, rates, turns, peaks)


def table(name, size, rates, turns, peaks):
    def best(start):
        return max((rate for system, rate in rates.items() if system.startswith(start)), default=float("nan"))

    print(f"\n{name}: {size['blocks']} x {size['hidden']}, {size['heads']} heads, batch {size['batch']}\n")
    print("| | tokens/s | slowest and fastest turn | of the matrix peak |\n|---|---:|---|---:|")
    per_token = flops(size) / (size["batch"] * size["length"])
    for system, rate in rates.items():
        share = rate * per_token / peaks[system.split()[-1]]
        print(f"| {system} | {rate:,.0f} | {min(turns[system]):,.0f} to {max(turns[system]):,.0f} | {share:.0%} |")
    stock, eager, tuned, ours = best("stock"), best("stock eager"), best("tuned"), best("Lamina")
    print(f"\nLamina's best is {ours / eager:.2f} x the best stock eager, {ours / stock:.2f} x the best stock, "
          f"{ours / tuned:.2f} x the best tuned.", flush=True)


class Peer:
    """A process that waits between its turns."""

    def __init__(self, peer, precision, compiled, size, options, threads):
        self.name = f"{peer} {'compiled' if compiled else 'eager'} {precision}"
        order = {"peer": peer, "precision": precision, "compiled": compiled, "size": size, "vocabulary": VOCABULARY,
                 "batch": size.get("batch"), "length": options.length, "masked": masked(options.length),
                 "threads": threads, "device": options.device}
        self.process = subprocess.Popen([options.python, HERE / "peers" / "worker.py", json.dumps(order)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, steps):
        """Seconds of each step after WARMUP steps, as for Lamina; an empty list if the peer does not run."""
        try:
            print(steps + WARMUP, file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline() or "[]")[WARMUP:]
        except BrokenPipeError:
            return []


class Lamina:
    """Text, vocabulary and recipes for a timing of the trainer."""

    def __init__(self, options, folder, threads):
        self.options, self.folder, self.threads = options, folder, threads
        words = [spelled(number) for number in range(VOCABULARY - len(SPECIALS))]
        (folder / "vocab.txt").write_text("\n".join(SPECIALS + words) + "\n")
        draws = random.Random(0)
        documents = (" ".join(draws.choices(words, k=2000)) for _ in range(300))
        (folder / "text.txt").write_text("\n\n".join(documents) + "\n")

    def run(self, arms, rounds, steps, warmup):
        """The arms of the report by name; None if the trainer fails."""
        process, out = self.start(arms, rounds, steps, warmup)
        _, log = process.communicate()
        if process.returncode:
            print(log, file=sys.stderr)
            return None
        report = json.loads(pathlib.Path(out, "report.json").read_text())
        return {arm["name"]: arm for arm in report["arms"]}

    def start(self, arms, rounds, steps, warmup):
        """Starts a trainer that times the arms, and returns the process and its folder."""
        (self.folder / "recipe.json").write_text(json.dumps({"recipe": {
            "stage": "timing", "rounds": rounds, "steps_per_turn": steps, "warmup_steps": warmup,
            "arms": [{"name": name, "recipe": recipe} for name, recipe in arms.items()]}}))
        out = tempfile.mkdtemp(dir=self.folder)
        command = [self.options.trainer, "run", "--recipe", self.folder / "recipe.json", "--out", out,
                   "--corpus", self.folder / "text.txt", "--vocabulary", self.folder / "vocab.txt",
                   "--cache", self.folder / "cache", "--device", self.options.device, "--threads", str(self.threads)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True), out


class Arm:
    def __init__(self, lamina, name, size, precision):
        self.name, self.lamina, self.recipe = f"Lamina {precision}", lamina, recipe(size, precision)

    def turn(self, steps):
        arms = self.lamina.run({self.name: self.recipe}, rounds=1, steps=steps, warmup=WARMUP)
        return arms[self.name]["turns"] if arms else []


def recipe(size, precision, **more):
    """A pre-train recipe of the trainer."""
    model = {"blocks": size["blocks"], "hidden": size["hidden"], "heads": size["heads"],
             "intermediate": 4 * size["hidden"], "norm": "pre"}
    if precision != "float32":
        more["precision"] = precision
    return {"model": model, "learning_rate": {"peak": 1e-4}, "steps": 1000, "batch": size["batch"],
            "length": size.get("length", LENGTH),
            "corpus": {"name": "random words"}, "vocabulary": {"kind": "file", "dataset": {"name": "numbers"}},
            "validate_every": 1000, **more}


def spelled(number):
    """The word of a number: aaaa, aaab, ... Words of letters only are one token each."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in (3, 2, 1, 0))


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
