#!/usr/bin/env python3
"""Peak memory of a pre-train step: the largest resident set of a process of its own after a few steps."""

import os
import pathlib
import subprocess
import tempfile

import compare


def main():
    options = compare.arguments().parse_args()
    threads = len(os.sched_getaffinity(0))
    for name in options.sizes:
        size = compare.SIZES[name] | {"batch": 32}
        print(f"\n{name}, batch 32 x {compare.LENGTH}, {options.steps} steps\n\n| | peak, MiB |\n|---|---:|")
        for peer in ["stock", "tuned"]:
            for precision in compare.PRECISIONS:
                system = compare.Peer(peer, precision, False, size, options, threads)
                try:
                    system.turn(options.steps)
                except compare.Died as reason:
                    system.stop()
                    print(f"| {system.name} | does not run: {reason} |", flush=True)
                    continue
                system.process.stdin.close()
                row(system.name, system.process)
        with tempfile.TemporaryDirectory() as folder:
            lamina = compare.Lamina(options, pathlib.Path(folder), threads)
            for precision in compare.PRECISIONS:
                for more in [{}, {"recompute": True}]:
                    name = " ".join([f"Lamina {precision}", *more])
                    arms = {name: compare.recipe(size, precision, **more)}
                    # Another process packs the text first, so that this is not part of the measurement.
                    lamina.run(arms, rounds=1, steps=1, warmup=0)
                    row(name, lamina.start(arms, rounds=1, steps=options.steps, warmup=0)[0])


def row(name, process: subprocess.Popen):
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = f"{usage.ru_maxrss / 1024:,.0f}" if process.returncode == 0 else "does not run"
    print(f"| {name} | {peak} |", flush=True)


if __name__ == "__main__":
    main()
