"""What the peers share: arguments, the timed loop, and one line of JSON with the seconds of each step."""
import argparse
import contextlib
import json
import time

import torch

VOCABULARY, LENGTH, MASKED = 30522, 128, 0.15


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("blocks", "hidden", "heads", "batch", "steps", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def batch(size):
    """Token ids `[size, LENGTH]`, the flat positions to restore, and the ids there."""
    ids = torch.randint(0, VOCABULARY, (size, LENGTH))
    per_sequence = round(MASKED * (LENGTH - 2))
    places = torch.stack([torch.randperm(LENGTH - 2)[:per_sequence].sort().values + 1 for _ in range(size)])
    positions = (places + torch.arange(size)[:, None] * LENGTH).flatten()
    return ids, positions, ids.flatten()[positions]


def run(options, model, loss_of):
    """Times `options.steps` updates by AdamW with a clip; `loss_of(model, batch)` is the loss. Two more come first."""
    torch.set_num_threads(options.threads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    called = torch.compile(model) if options.compile else model
    seconds = []
    for _ in range(options.steps + 2):
        example = batch(options.batch)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if options.bfloat16 else contextlib.nullcontext():
            loss = loss_of(called, example)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds[2:]}))
