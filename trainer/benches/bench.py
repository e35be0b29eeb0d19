"""Lamina's pre-train step against its peers: one run, interleaved, equal cores, shapes and masked positions.

    bench.py TRAINER [--sizes narrow,mini] [--rounds 3] [--steps 8] [--no-compile]

Prints a table of median tokens/s per size, and Lamina's ratio to stock eager and to the best of the tuned ones. TRAINER is
the program lamina-trainer. Each contender is a process of its own, whose first two steps are not counted; the order turns
around from round to round, so that a drift of the machine hits all alike.
"""
import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
# blocks, hidden, heads, batch
SIZES = {"narrow": (12, 128, 2, 32), "mini": (4, 256, 4, 32), "small": (4, 512, 8, 32), "base": (12, 768, 12, 8)}
LENGTH = 128


def contenders(compiles):
    for precision in ("float32", "bfloat16"):
        yield ("lamina", precision, False)
    for peer in ("stock", "tuned"):
        for compiled in (False, True) if compiles else (False,):
            for precision in ("float32", "bfloat16"):
                yield (peer, precision, compiled)


def seconds(contender, size, options, folder):
    """Seconds of each counted step."""
    (name, precision, compiled), (blocks, hidden, heads, batch) = contender, SIZES[size]
    if name == "lamina":
        recipe = {
            "model": {"blocks": blocks, "hidden": hidden, "heads": heads, "intermediate": 4 * hidden, "norm": "pre"},
            "learning_rate": {"peak": 1e-4}, "steps": 1000, "batch": batch, "length": LENGTH, "validate_every": 1000,
            "corpus": {"name": "words"}, "vocabulary": {"kind": "file", "dataset": {"name": "words"}},
            "precision": precision,
        }
        arms = [{"name": "step", "recipe": recipe}]
        timing = {"stage": "timing", "arms": arms, "rounds": options.steps + 2, "steps_per_turn": 1, "warmup_steps": 0}
        (folder / "recipe.json").write_text(json.dumps({"recipe": timing}))
        command = [options.trainer, "run", "--recipe", "recipe.json", "--corpus", "text.txt", "--vocabulary", "vocab.txt",
                   "--cache", "cache", "--out", "out", "--device", "cpu", "--threads", str(options.threads)]
        lines = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        return json.loads(lines[-1])["report"]["arms"][0]["turns"][2:]
    command = [sys.executable, HERE / f"{name}.py", "--blocks", blocks, "--hidden", hidden, "--heads", heads,
               "--batch", batch, "--steps", options.steps, "--threads", options.threads]
    command += ["--bfloat16"] * (precision == "bfloat16") + ["--compile"] * compiled
    environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
    done = subprocess.run([str(part) for part in command], env=environment, stdout=subprocess.PIPE, text=True)
    # A compiler that gives up is a result, too.
    return json.loads(done.stdout.splitlines()[-1])["seconds"] if done.returncode == 0 else []


def words(folder):
    """A vocabulary of 30,522 words, and text made of them."""
    draws = random.Random(0)
    vocabulary = [f"w{number:x}" for number in range(30517)]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabulary]) + "\n")
    documents = ("\n".join(" ".join(draws.choices(vocabulary, k=20)) for _ in range(30)) for _ in range(400))
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer", type=os.path.abspath)
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    everyone = list(contenders(not options.no_compile))
    print("| size | contender | tokens/s | Lamina's best is |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        words(folder)
        for size in options.sizes.split(","):
            taken = {contender: [] for contender in everyone}
            for round_ in range(options.rounds):
                for contender in everyone if round_ % 2 == 0 else reversed(everyone):
                    taken[contender] += seconds(contender, size, options, folder)
            speed = {c: SIZES[size][3] * LENGTH / statistics.median(s) for c, s in taken.items() if s}
            ours = max(value for (name, _, _), value in speed.items() if name == "lamina")
            for (name, precision, compiled), value in speed.items():
                way = "compiled, " if compiled else ""
                ratio = "" if name == "lamina" else f"{ours / value:.2f}x"
                print(f"| {size} | {name}, {way}{precision} | {value:.0f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
