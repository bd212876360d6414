"""Record what `recurate reproduce` found: benchmarks/results/reproductions.md and the packaged recorded.json.

for name in F-gaussians P-disjoint A-disjoint; do recurate reproduce $name; done
python benchmarks/reproductions.py reproduced/*

Experiments that are not among the folders keep what was recorded of them.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

from measuring import machine, table

from recurate.log.folders import StoredRun
from recurate.verbs.reproduce import recorded
from recurate.verbs.reproduce.catalogue import CATALOGUE

HEAD = ("published", "measured here", "bound", "seeds", "here (95 %)", "verdict")
ROOT = Path(__file__).parent.parent
PACKAGED = ROOT / "src" / "recurate" / "verbs" / "reproduce" / recorded.FILE


def record(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return an experiment's name and the record of what a folder of its results has."""
    facts = json.loads((folder / "reproduce.json").read_text(encoding="utf-8"))
    seeds = [int(seed) for seed in facts["seeds"]]
    run = next(folder.glob("*/seed-*"), None)
    when = datetime.datetime.fromtimestamp((folder / "reproduce.json").stat().st_mtime, datetime.UTC)
    return facts["experiment"], {
        "date": when.date().isoformat(),
        "code": revision() if run is None else StoredRun(run).manifest()["code_revision"],
        "scale": facts["scale"] if seeds else "exact",
        "seeds": seeds,
        "claims": claims(folder),
    }


def revision() -> str:
    """Return the commit of this working tree, with a mark if the source has changed since."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], check=False).returncode
    return commit.strip() + ("-modified" if changed else "")


def claims(folder: Path) -> list[dict[str, Any]]:
    """Return one record per claim, from its rows per seed."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    with (folder / "claims.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            mine = found.setdefault(
                (row["published"], row["measured"]),
                {name: row[name] for name in ("published", "measured", "relation")}
                | {"bound": float(row["bound"]), "values": [], "mean": short(row["mean"])}
                | {"reach": short(row["reach"]) if row["reach"] else None, "verdict": row["verdict"]},
            )
            mine["values"].append(short(row["value"]))
    return list(found.values())


def short(number: str) -> float:
    """Return a number at four digits."""
    return float(f"{float(number):.4g}")


def cells(claim: dict[str, Any]) -> list[str]:
    """Return a claim's row of the Markdown table."""
    reach = "" if claim["reach"] is None else f" ± {claim['reach']:.2g}"
    values = "exact" if len(claim["values"]) == 1 else ", ".join(f"{v:.3g}" for v in claim["values"])
    bound = f"{claim['relation']} {claim['bound']:g}"
    mean = f"{claim['mean']:.3g}{reach}"
    return [claim["published"], claim["measured"], bound, values, mean, claim["verdict"]]


def page(records: dict[str, Any], facts: dict[str, str]) -> str:
    """Return all records as Markdown."""
    lines = ["# Published experiments, reproduced", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    for name, found in records.items():
        scale = f", scale {found['scale']}" if found["seeds"] else ""
        lines += [
            "",
            f"## {name}",
            "",
            f"`recurate reproduce {name}`{scale}, {found['date']}, code {found['code']}",
        ]
        lines += ["", *table(HEAD, [cells(claim) for claim in found["claims"]])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="what recurate reproduce has written")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    records = recorded.recorded() | dict(record(folder) for folder in arguments.folders)
    records = {name: records[name] for name in CATALOGUE if name in records}
    PACKAGED.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    text = page(records, machine(["torch"]))
    (arguments.out / "reproductions.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
