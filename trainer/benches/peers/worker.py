"""Trains one peer. Each line on stdin asks for so many steps and is answered by a line of JSON with their seconds."""

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
    model, loss = importlib.import_module(order["peer"]).build(order["size"], order["vocabulary"])
    run = torch.compile(model) if order["compiled"] else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batch, length, masked = order["batch"], order["length"], order["masked"]

    def cast():
        half = order["precision"] == "bfloat16"
        return torch.autocast("cpu", dtype=torch.bfloat16) if half else contextlib.nullcontext()

    def drawn():
        ids = torch.randint(5, order["vocabulary"], (batch, length))
        places = torch.rand(batch, length).argsort(1)[:, :masked].sort(1).values
        at = (places + length * torch.arange(batch)[:, None]).flatten()
        return ids, at, ids.flatten()[at]

    def step():
        ids, at, words = drawn()
        start = time.perf_counter()
        with cast():
            value = loss(run, ids, at, words)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        value.item()
        return time.perf_counter() - start

    for line in sys.stdin:
        print(json.dumps([step() for _ in range(int(line))]), flush=True)


main()
