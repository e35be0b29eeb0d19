#!/usr/bin/env python3
"""Prints one row per arm of a finished job, from its report and its dry run: loss, seconds, tokens/s, FLOPs, memory.

    export TOKEN=$(cat ~/.local/share/lamina/token)
    lamina submit examples/jobs/reviewers.json --watch; trainer/benches/arms.py http://localhost:8642 JOB
"""

import json
import os
import sys
import urllib.request


def main():
    server, job = sys.argv[1:]
    report = ask(f"{server}/jobs/{job}/report")
    spec = ask(f"{server}/jobs/{job}")["spec"]
    plan = ask(f"{server}/jobs?dry_run=true", spec)
    flops = {arm["name"]: arm["pretrain_flops"] for arm in plan["arms"]}
    speed = {arm["arm"]: arm for arm in report["speed"]["arms"]}
    print("| arm | validation loss | seconds | tokens/s, timed | speed-up | TFLOP | peak, MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for arm in report["pretrain"]:
        name, timed = arm["arm"], speed[arm["arm"]]
        seconds = [seed["hours"] * 3600 for seed in arm["seeds"] if seed["hours"] is not None]
        if not seconds:
            print(f"| {name} | no run has ended |  |  |  |  |  |")
            continue
        loss = f"{arm['validation_loss']['mean']:.3f}"
        print(f"| {name} | {loss} | {sum(seconds) / len(seconds):.0f} | {timed['tokens_per_second']:,.0f} | "
              f"{timed['ratio_to_baseline']:.2f} | {flops[name] / 1e12:.1f} | "
              f"{timed['memory']['peak_bytes'] / 2**20:.0f} |")


def ask(url, body=None):
    headers = {"Authorization": f"Bearer {os.environ['TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
