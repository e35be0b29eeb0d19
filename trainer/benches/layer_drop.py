#!/usr/bin/env python3
"""The measured saving of layer drop beside its closed form, and the effect of a nearly fixed number of open blocks.

Theta is 0.5. A closed block should save the time of a block, which is measured separately as the difference between the
whole model and one of half its depth. All arms take turns in one run. The second table compares independent with
systematic gates of the same keep probabilities: how much step time and memory vary with the number of open blocks.
"""

import os
import pathlib
import statistics
import tempfile

import compare


def main():
    options = compare.arguments().parse_args()
    threads = len(os.sched_getaffinity(0))
    print(f"{compare.processor()}, {threads} cores\n")
    print("| | encoder's share | closed form | drawn | saved | of the closed form | of what was drawn |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lamina = compare.Lamina(options, pathlib.Path(folder), threads)
        for name in options.sizes:
            for blocks in [12, 24]:
                measure(name, blocks, options, lamina)
        print("\n| | open blocks | ms/step | sd of it by what is open | peak, MiB | mean, MiB |")
        print("|---|---:|---:|---:|---:|---:|")
        for name in options.sizes:
            samplers(name, options, lamina)


def measure(name, blocks, options, lamina):
    size = compare.SIZES[name] | {"blocks": blocks}
    drop = {"schedule": "constant", "theta_limit": 0.5}
    arms = {
        "whole": compare.recipe(size, "float32"),
        "half": compare.recipe(size | {"blocks": blocks // 2}, "float32"),
        "drop": compare.recipe(size, "float32", layer_drop=drop),
    }
    arms = lamina.run(arms, options.rounds, options.steps, warmup=compare.WARMUP)
    # The mean is taken instead of the median, because the number of open blocks differs from step to step.
    seconds = {arm: statistics.mean(compare.steps_of(found, "seconds")) for arm, found in arms.items()}
    opened = statistics.mean(compare.steps_of(arms["drop"], "open_blocks"))
    share = 2 * (seconds["whole"] - seconds["half"]) / seconds["whole"]
    closed = 0.5 * (blocks + 1) / (2 * blocks)
    drawn, saved = 1 - opened / blocks, 1 - seconds["drop"] / seconds["whole"]
    print(f"| {name}, {blocks} blocks | {share:.1%} | {share * closed:.1%} | {share * drawn:.1%} | {saved:.1%} | "
          f"{saved / (share * closed):.0%} | {saved / (share * drawn):.0%} |", flush=True)


def samplers(name, options, lamina):
    drop = {"schedule": "constant", "theta_limit": 0.5}
    arms = {
        f"{name}, {sampler}": compare.recipe(compare.SIZES[name], "float32", layer_drop=drop | {"sampler": sampler})
        for sampler in ["independent", "systematic"]
    }
    # Memory is measured in the warm-up.
    for arm, found in lamina.run(arms, options.rounds, options.steps, warmup=6).items():
        opened, seconds = (compare.steps_of(found, field) for field in ["open_blocks", "seconds"])
        means = {number: statistics.mean(time for time, open in zip(seconds, opened) if open == number)
                 for number in set(opened)}
        spread = statistics.pstdev(means[number] for number in opened)
        memory = found["memory"]["by_open"]
        of = {key: [row[key] for row in memory] for key in ["peak_bytes", "mean_bytes"]}
        bounds = {key: f"{min(values) / 2**20:.0f} to {max(values) / 2**20:.0f}" for key, values in of.items()}
        print(f"| {arm} | {min(opened):g} to {max(opened):g} | {statistics.mean(seconds) * 1e3:.0f} | {spread * 1e3:.1f} | "
              f"{bounds['peak_bytes']} | {bounds['mean_bytes']} |", flush=True)


if __name__ == "__main__":
    main()
