"""Write what `recurate reproduce` found as benchmarks/results/reproductions.md.

for name in F-gaussians F-moons F-cifar-airplane F-cifar-confidence; do recurate reproduce $name; done
python benchmarks/reproductions.py reproduced/*
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from measuring import machine, table

from recurate.loop.run_folder import RunFolder

HEAD = ("published", "measured here", "bound", "seeds", "here (95 %)", "verdict")


def rows_of(folder: Path) -> list[list[str]]:
    """Return a row a claim, from its rows a seed."""
    claims: dict[tuple[str, str], list[dict[str, str]]] = {}
    with (folder / "claims.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            claims.setdefault((row["published"], row["measured"]), []).append(row)
    rows = []
    for (published, measured), found in claims.items():
        first = found[0]
        values = ", ".join(f"{float(row['value']):.3g}" for row in found)
        reach = f" ± {float(first['reach']):.2g}" if first["reach"] else ""
        here = f"{float(first['mean']):.3g}{reach}"
        rows.append(
            [published, measured, f"{first['relation']} {first['bound']}", values, here, first["verdict"]]
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="what recurate reproduce has written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    facts = machine(["torch"])
    lines = ["# Published experiments, reproduced", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    for folder in arguments.folders:
        run = next(folder.glob("*/seed-*"))
        code = RunFolder.open(run).manifest()["code_revision"]
        lines += ["", f"## {folder.name}", "", f"`recurate reproduce {folder.name}`, code {code}", ""]
        lines += table(HEAD, rows_of(folder))
    text = "\n".join(lines) + "\n"
    (arguments.out / "reproductions.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
