"""A trainer that takes a configuration file (axolotl, LLaMA-Factory) behind the external generator.

    python by_config.py CONFIG --data FILE --load FOLDER --save FOLDER --seed N -- axolotl train CONFIG

Copies CONFIG (JSON, which is YAML too) with four keys replaced, writes the training set in the layout that
both trainers call alpaca, and runs the command after ``--`` with the copy in CONFIG's place.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    words = sys.argv[1:]
    at = words.index("--")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    for name in ("data", "load", "save"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args(words[:at])
    settings = json.loads(Path(args.config).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        data, copy = Path(folder) / "train.jsonl", Path(folder) / "config.yml"
        rows = [json.loads(line) for line in args.data.read_text(encoding="utf-8").splitlines()]
        lines = [
            json.dumps({"instruction": row["context"], "input": "", "output": row["sample"]}) for row in rows
        ]
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings["seed"], settings["output_dir"] = args.seed, str(args.save)
        if "model_name_or_path" in settings:  # LLaMA-Factory, which finds its data by name
            settings |= {"model_name_or_path": str(args.load), "dataset_dir": folder, "dataset": "round"}
            names = {"round": {"file_name": data.name}}
            (Path(folder) / "dataset_info.json").write_text(json.dumps(names), encoding="utf-8")
        else:  # axolotl
            settings |= {"base_model": str(args.load), "datasets": [{"path": str(data), "type": "alpaca"}]}
        copy.write_text(json.dumps(settings), encoding="utf-8")
        return subprocess.run([str(copy) if w == args.config else w for w in words[at + 1 :]]).returncode


if __name__ == "__main__":
    sys.exit(main())
