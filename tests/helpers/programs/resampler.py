"""A model in plain Python: it repeats what it was trained on. Commands: fit, sample, score.

Faults on request: --exit CODE, --sleep SECONDS, --once FILE (fault only while FILE is absent), --skip (write
nothing), --short (one row too few), --bad (samples that are not finite numbers).
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path


def read(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fit(args):
    rows = [{"context": row["context"], "sample": row["sample"]} for row in read(args.training)]
    write(Path(args.out) / "memory.jsonl", rows)


def sample(args):
    draw = random.Random(args.seed)
    known = {}
    for row in read(Path(args.checkpoint) / "memory.jsonl"):
        known.setdefault(row["context"], []).append(row["sample"])
    rows = [
        {"item": row["item"], "sample": draw.choice(known[row["context"]])} for row in read(args.contexts)
    ]
    draw.shuffle(rows)  # any order will do
    if args.bad:
        rows[0]["sample"] = [float("nan")] * len(rows[0]["sample"])
    write(args.out, rows[: len(rows) - args.short])


def score(args):
    write(
        args.out, [{"item": row["item"], "reward": float(len(row["sample"]))} for row in read(args.training)]
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["fit", "sample", "score"])
    for name in ("training", "checkpoint", "contexts", "out", "once"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--sleep", type=float, default=0.0)
    for name in ("skip", "short", "bad"):
        parser.add_argument(f"--{name}", action="store_true")
    args = parser.parse_args()
    print(f"{args.command} begins", flush=True)
    faulty = args.once is None or not Path(args.once).exists()
    if args.once is not None:
        Path(args.once).touch()
    if faulty and args.sleep:
        time.sleep(args.sleep)
    if faulty and args.exit:
        print("something is wrong with the model", file=sys.stderr, flush=True)
        raise SystemExit(args.exit)
    if not faulty:
        args.short = args.bad = args.skip = False
    if not args.skip:
        globals()[args.command](args)


if __name__ == "__main__":
    main()
