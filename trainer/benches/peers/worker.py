"""Trains one peer, or multiplies matrices. Each line on stdin is a number of steps; the answer is a line of JSON with
the seconds of each step."""

import contextlib
import importlib
import json
import sys
import time

import torch


def main():
    order = json.loads(sys.argv[1])
    torch.set_num_threads(order["threads"])
    torch.manual_seed(0)
    device = torch.device(order["device"])
    prepare, work = product(order, device) if order["peer"] == "peak" else training(order, device)

    def seconds():
        given = prepare()
        wait(device)
        start = time.perf_counter()
        work(*given)
        wait(device)
        return time.perf_counter() - start

    for line in sys.stdin:
        print(json.dumps([seconds() for _ in range(int(line))]), flush=True)


def wait(device):
    """Waits until the GPU is done: it works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product(order, device):
    """A function that gives two matrices, and their product, which shows the peak rate of the device's matrix units."""
    kind = getattr(torch, order["precision"])
    a, b = (torch.randn(2 * [order["size"]["width"]], device=device).to(kind) for _ in range(2))
    return lambda: (a, b), torch.mm


def training(order, device):
    """A function that draws a batch, and a training step on it."""
    model, loss = importlib.import_module(order["peer"]).build(order["size"], order["vocabulary"])
    model.to(device)
    run = torch.compile(model) if order["compiled"] else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batch, length, masked = order["batch"], order["length"], order["masked"]

    def cast():
        half = order["precision"] == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16) if half else contextlib.nullcontext()

    def drawn():
        ids = torch.randint(5, order["vocabulary"], (batch, length))
        places = torch.rand(batch, length).argsort(1)[:, :masked].sort(1).values
        at = (places + length * torch.arange(batch)[:, None]).flatten()
        return ids.to(device), at.to(device), ids.flatten()[at].to(device)

    def step(ids, at, words):
        with cast():
            value = loss(run, ids, at, words)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value.item()

    return drawn, step


main()
