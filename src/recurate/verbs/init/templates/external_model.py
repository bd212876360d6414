"""A model for the loop, in plain Python: it repeats its training samples, with a little noise.

    python external_model.py fit --training FILE --out FOLDER
    python external_model.py sample --checkpoint FOLDER --requests FILE --out FILE --seed N

Files are JSON lines. Training samples have "sample" (here a list of numbers) and "context" (the prompt, if
there is one). For each requested candidate, {"item": N, "context": ...}, one line {"item": N, "sample": ...}
is written.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

NOISE = 0.05  # standard deviation of what is added to each number


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows to a file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def fit(training: Path, checkpoint: Path) -> None:
    """Train the model, which remembers its samples."""
    write(checkpoint / "samples.jsonl", [{"sample": row["sample"]} for row in read(training)])


def sample(checkpoint: Path, requests: Path, out: Path, seed: int) -> None:
    """Draw one candidate per request; equal seeds give equal candidates."""
    draw = random.Random(seed)
    known = [row["sample"] for row in read(checkpoint / "samples.jsonl")]
    rows = []
    for request in read(requests):
        values = [value + draw.gauss(0.0, NOISE) for value in draw.choice(known)]
        rows.append({"item": request["item"], "sample": values})
    write(out, rows)


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, paths in (("fit", ("training", "out")), ("sample", ("checkpoint", "requests", "out"))):
        command = commands.add_parser(name)
        for path in paths:
            command.add_argument(f"--{path}", type=Path, required=True)
        command.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.command == "fit":
        fit(args.training, args.out)
    else:
        sample(args.checkpoint, args.requests, args.out, args.seed)


if __name__ == "__main__":
    main()
