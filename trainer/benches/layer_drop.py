#!/usr/bin/env python3
"""How much of the saving that layer drop promises shows on the clock.

Theta stands at 0.5. A closed block should save what a block costs; what a block costs is measured apart, as the difference
between the whole model and one of half its depth. All arms take turns in one run.
"""

import os
import pathlib
import tempfile

import compare


def main():
    options = compare.arguments()
    threads = len(os.sched_getaffinity(0))
    print(f"{compare.processor()}, {threads} cores\n")
    print("| | encoder's share | closed form | drawn | saved | of the closed form | of what was drawn |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lamina = compare.Lamina(options, pathlib.Path(folder), threads)
        for name in options.sizes:
            for blocks in [12, 24]:
                measure(name, blocks, options, lamina)


def measure(name, blocks, options, lamina):
    size = compare.SIZES[name] | {"blocks": blocks}
    drop = {"schedule": "constant", "theta_limit": 0.5}
    arms = {
        "whole": compare.recipe(size, "float32"),
        "half": compare.recipe(size | {"blocks": blocks // 2}, "float32"),
        "drop": compare.recipe(size, "float32", layer_drop=drop),
    }
    arms = lamina.run(arms, options.rounds, options.steps, warmup=2)
    # The mean and not the median: the number of open blocks differs from step to step.
    seconds = {arm: sum(found["turns"]) / len(found["turns"]) for arm, found in arms.items()}
    rows = arms["drop"]["by_open"]
    opened = sum(row["open_blocks"] * row["steps"] for row in rows) / sum(row["steps"] for row in rows)
    share = 2 * (seconds["whole"] - seconds["half"]) / seconds["whole"]
    closed = 0.5 * (blocks + 1) / (2 * blocks)
    drawn, saved = 1 - opened / blocks, 1 - seconds["drop"] / seconds["whole"]
    print(f"| {name}, {blocks} blocks | {share:.1%} | {share * closed:.1%} | {share * drawn:.1%} | {saved:.1%} | "
          f"{saved / (share * closed):.0%} | {saved / (share * drawn):.0%} |", flush=True)


if __name__ == "__main__":
    main()
