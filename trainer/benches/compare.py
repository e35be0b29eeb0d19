#!/usr/bin/env python3
"""Compares Lamina's pre-train step with its peers' in one run: the same cores, shapes, batch and masked positions.

Every system gets a turn of a few steps in each round, in reverse order in every second round, so that other load on the
machine affects all of them alike. A turn counts as the mean of its steps, a system as the median of its turns.

A system that cannot run, or that dies, is a row that says why, and the others go on; the exit status is then 1. Peers stay
in memory between their turns, so one for which there is no room left is not started.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import random
import signal
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
        failed = []
        for name in options.sizes:
            size = SIZES[name] | {"length": options.length} | ({"batch": options.batch} if options.batch else {})
            failed += compare(name, size, options, lamina, threads, peaks)
    if failed:
        sys.exit("compare: these did not run to the end:\n" + "\n".join(f"  {line}" for line in failed))


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
    """FLOP/s of the fastest of several products of large square matrices; NaN if they cannot be measured."""
    width = 2048 if options.device == "cpu" else 8192
    peer = Peer("peak", precision, False, {"width": width}, options, threads)
    try:
        return 2 * width**3 / min(peer.turn(10))
    except Died as reason:
        print(f"compare: the matrix peak in {precision} was not measured: {reason}", file=sys.stderr)
        return float("nan")
    finally:
        peer.stop()


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
    """Prints the table of a size, and returns a line for each system that did not run to the end."""
    peers = [
        Peer(peer, precision, compiled, size, options, threads)
        for peer in ["stock", "tuned"]
        for precision in PRECISIONS
        for compiled in ([False] if options.eager else [False, True])
    ]
    systems = peers + [Arm(lamina, name, size, precision) for precision in PRECISIONS]
    tokens = size["batch"] * size["length"]
    turns, deaths = {system.name: [] for system in systems}, {}

    def turn(system, steps, when):
        """Seconds of each step, or None for a system that has died now or before."""
        if system.name in deaths:
            return None
        try:
            return system.turn(steps)
        except Died as reason:
            deaths[system.name] = f"died in {when}: {reason}" if system.has_started else f"not started: {reason}"
            print(f"compare: {name}, {system.name} {deaths[system.name]}", file=sys.stderr)
            system.stop()
            return None

    try:
        # The first turn compiles and allocates. The largest peer so far says what the next one may take.
        largest = 0
        for system in systems:
            system.needed = largest
            turn(system, 2, "its first turn")
            largest = max(largest, system.memory())
        for number in range(options.rounds):
            for system in systems if number % 2 == 0 else reversed(systems):
                seconds = turn(system, options.steps, f"round {number + 1} of {options.rounds}")
                if seconds:
                    turns[system.name].append(tokens / statistics.mean(seconds))
    finally:
        for peer in peers:
            peer.stop()
    # What a system did before it died is not comparable: it missed rounds that the others had.
    rates = {system: statistics.median(rates) for system, rates in turns.items() if system not in deaths}
    table(name, size, rates, turns, peaks, deaths)
    return [f"{name}, {system}: {death}" for system, death in deaths.items()]


def table(name, size, rates, turns, peaks, deaths):
    def best(start):
        return max((rate for system, rate in rates.items() if system.startswith(start)), default=float("nan"))

    print(f"\n{name}: {size['blocks']} x {size['hidden']}, {size['heads']} heads, batch {size['batch']}\n")
    print("| | tokens/s | slowest and fastest turn | of the matrix peak |\n|---|---:|---|---:|")
    per_token = flops(size) / (size["batch"] * size["length"])
    for system, rate in rates.items():
        share = rate * per_token / peaks[system.split()[-1]]
        print(f"| {system} | {rate:,.0f} | {min(turns[system]):,.0f} to {max(turns[system]):,.0f} | {share:.0%} |")
    for system, death in deaths.items():
        print(f"| {system} | - | {death.replace('|', '/')} | - |")
    stock, eager, tuned, ours = best("stock"), best("stock eager"), best("tuned"), best("Lamina")
    print(f"\nLamina's best is {ours / eager:.2f} x the best stock eager, {ours / stock:.2f} x the best stock, "
          f"{ours / tuned:.2f} x the best tuned.", flush=True)


class Died(Exception):
    """The reason for which a system has no more turns."""


class Peer:
    """A process that waits between its turns. It starts with its first one."""

    def __init__(self, peer, precision, compiled, size, options, threads):
        self.name = f"{peer} {'compiled' if compiled else 'eager'} {precision}"
        order = {"peer": peer, "precision": precision, "compiled": compiled, "size": size, "vocabulary": VOCABULARY,
                 "batch": size.get("batch"), "length": options.length, "masked": masked(options.length),
                 "threads": threads, "device": options.device}
        self.command = [options.python, HERE / "peers" / "worker.py", json.dumps(order)]
        self.process, self.log = None, None
        # Bytes of memory that it may take, 0 if unknown.
        self.needed = 0

    @property
    def has_started(self):
        return self.process is not None

    def turn(self, steps):
        """Seconds of each step after WARMUP steps, as for Lamina."""
        if self.process is None:
            self.start()
        try:
            print(steps + WARMUP, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise Died(self.ending()) from None
        answer = self.process.stdout.readline()
        try:
            return json.loads(answer)[WARMUP:]
        except ValueError:
            raise Died(self.ending()) from None

    def start(self):
        # A turn of Lamina needs room, too: its trainer starts beside the peers.
        free = available()
        if free < 2 * self.needed:
            raise Died(f"{free / 1e9:.1f} GB of memory are free, and one before it took {self.needed / 1e9:.1f} GB "
                       f"(a smaller --batch, or --eager, needs less)")
        self.log = tempfile.TemporaryFile("w+", errors="replace")
        try:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self.log, text=True)
        except OSError as error:
            raise Died(str(error)) from None

    def ending(self):
        """How the process ended, with the last line of its log."""
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            return "its answer is not a list of seconds"
        self.log.seek(0)
        lines = self.log.read().split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it left no message")
        return f"{ended(status)}; {last}"

    def memory(self):
        """The most bytes of memory that the process had, 0 if it has ended."""
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except (AttributeError, OSError):
            return 0
        return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)

    def stop(self):
        """Ends the process and waits until its memory is free."""
        if self.process:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def ended(status):
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"killed by {name}" + (", as the kernel does when memory is full" if name == "SIGKILL" else "")


def available():
    """Bytes of memory that can be had without swapping."""
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), float("inf"))


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
            print(f"compare: {self.options.trainer}: {ended(process.returncode)}", file=sys.stderr)
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


def steps_of(arm, field):
    """The values of a field of all timed steps of an arm of a report."""
    return [value for turn in arm["turns"] for value in turn[field]]


class Arm:
    """An arm of a trainer, which starts anew for each turn."""

    has_started = True

    def __init__(self, lamina, name, size, precision):
        self.name, self.lamina, self.recipe = f"Lamina {precision}", lamina, recipe(size, precision)

    def turn(self, steps):
        arms = self.lamina.run({self.name: self.recipe}, rounds=1, steps=steps, warmup=WARMUP)
        if not arms:
            raise Died("the trainer failed, its log is above")
        return steps_of(arms[self.name], "seconds")

    def memory(self):
        return 0

    def stop(self):
        pass


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
