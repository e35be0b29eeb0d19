#!/usr/bin/env python3
"""The cost of a pre-training on this machine: for each size, tokens/s and hours, with and without layer drop.

The models train in bfloat16 with batches of 32 x 128 (`base`: 8 x 128). Theta is at its limit of 0.5, as in nearly all
of a run. Both arms of a size take turns in one run.
"""

import os
import pathlib
import statistics
import tempfile

import compare

SIZES = {
    "tiny": {"blocks": 2, "hidden": 128, "heads": 2, "batch": 32},
    **{name: compare.SIZES[name] for name in ["mini", "narrow", "small"]},
    "medium": {"blocks": 8, "hidden": 512, "heads": 8, "batch": 32},
    "base": compare.SIZES["base"],
}
TOKENS = 100e6


def main():
    options = compare.arguments(SIZES, list(SIZES)).parse_args()
    threads = len(os.sched_getaffinity(0))
    print(f"{compare.processor()}, {threads} cores\n")
    print("| | blocks x width | tokens/s | with layer drop | hours of 100 million tokens | with layer drop |")
    print("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        lamina = compare.Lamina(options, pathlib.Path(folder), threads)
        for name in options.sizes:
            row(name, SIZES[name], options, lamina)


def row(name, size, options, lamina):
    # Systematic gates save the same on average as independent ones, and show it within fewer steps.
    drop = {"schedule": "constant", "theta_limit": 0.5, "sampler": "systematic"}
    arms = {"whole": compare.recipe(size, "bfloat16"), "drop": compare.recipe(size, "bfloat16", layer_drop=drop)}
    # The mean is taken instead of the median, because the number of open blocks differs from step to step.
    seconds = {arm: statistics.mean(compare.steps_of(found, "seconds"))
               for arm, found in lamina.run(arms, options.rounds, options.steps, warmup=compare.WARMUP).items()}
    rates = [size["batch"] * compare.LENGTH / seconds[arm] for arm in ["whole", "drop"]]
    hours = [f"{TOKENS / rate / 3600:.1f}" for rate in rates]
    print(f"| {name} | {size['blocks']} x {size['hidden']} | {rates[0]:,.0f} | {rates[1]:,.0f} | "
          f"{hours[0]} | {hours[1]} |", flush=True)


if __name__ == "__main__":
    main()
