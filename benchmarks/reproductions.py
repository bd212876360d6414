"""Record what `recurate reproduce` found: benchmarks/results/reproductions.md and the packaged recorded.json.

for name in F-gaussians P-disjoint A-disjoint; do recurate reproduce $name; done
python benchmarks/reproductions.py reproduced/*

Experiments that are not among the folders keep what was recorded of them. The hour-long text-scale can be
recorded from the table grid.csv that it wrote, whose numbers its claims rest on:

python benchmarks/reproductions.py --grid benchmarks/results/text_scale.csv --code c4aa795 --date 2026-11-27
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from measuring import machine, table

from recurate.log.folders import StoredRun
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.verbs.reproduce import recorded, text_scale
from recurate.verbs.reproduce.catalogue import CATALOGUE, experiment
from recurate.verbs.reproduce.claims import UNDECIDED, judge
from recurate.verbs.reproduce.report import findings_table
from recurate.verbs.reproduce.reproduce import Reproduction

HEAD = ("published", "measured here", "bound", "seeds", "here (95 %)", "verdict")
ROOT = Path(__file__).parent.parent
PACKAGED = ROOT / "src" / "recurate" / "verbs" / "reproduce" / recorded.FILE


def record(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return an experiment's name and the record of what a folder of its results has."""
    facts = json.loads((folder / "reproduce.json").read_text(encoding="utf-8"))
    seeds = [int(seed) for seed in facts["seeds"]]
    run = next(folder.glob("*/seed-*"), None)
    found = claims(rows_of(folder))
    when = datetime.datetime.fromtimestamp((folder / "reproduce.json").stat().st_mtime, datetime.UTC)
    return facts["experiment"], {
        "date": when.date().isoformat(),
        "code": revision() if run is None else StoredRun(run).manifest()["code_revision"],
        "scale": facts["scale"] if seeds else "data" if any("interval" in c for c in found) else "exact",
        "seeds": seeds,
        "claims": found,
    }


def revision() -> str:
    """Return the commit of this working tree, with a mark if the source has changed since."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "src"], check=False).returncode
    return commit.strip() + ("-modified" if changed else "")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's table of claims, one per claim and seed."""
    with (folder / "claims.csv").open(encoding="utf-8") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def claims(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one record per claim, from its rows per seed."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        mine = found.setdefault(
            (row["published"], row["measured"]),
            {name: row[name] for name in ("published", "measured", "relation")}
            | {"bound": float(row["bound"]), "values": [], "mean": short(row["mean"])}
            | {"reach": None if row["reach"] is None else short(row["reach"]), "verdict": row["verdict"]},
        )
        mine["values"].append(short(row["value"]))
        if row["lower"] is not None:
            mine["interval"] = [short(row["lower"]), short(row["upper"])]
    return list(found.values())


def grid_record(path: Path, code: str, date: str) -> dict[str, Any]:
    """Return the record of text-scale from its table of the last rounds' values."""
    runs: dict[int, dict[str, Trajectory]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cell = text_scale.Cell(int(row["parameters"]), int(row["k"]), float(row["real_fraction"]))
            runs.setdefault(int(row["run"]), {})[str(cell)] = Trajectory(
                tuple(
                    Row(0, source, quantity, float(row[f"{column}_{source}"]), group=group)
                    for source in (MEASURED, FORECAST)
                    for column, quantity, group in (
                        ("entropy", "entropy", None), ("largest_share", "share", "largest"),
                    )
                )
            )  # fmt: skip
    chosen, seeds = experiment("text-scale", "small"), tuple(sorted(runs))
    findings = tuple(judge(claim, [runs[seed] for seed in seeds]) for claim in chosen.claims)
    rows = findings_table(Reproduction(chosen, "small", seeds, {}, {}, findings)).to_pylist()
    return {"date": date, "code": code, "scale": "small", "seeds": list(seeds), "claims": claims(rows)}


def short(number: float | str) -> float:
    """Return a number at four digits."""
    return float(f"{float(number):.4g}")


def cells(claim: dict[str, Any]) -> list[str]:
    """Return a claim's row of the Markdown table."""
    reach = "" if claim["reach"] is None else f" ± {claim['reach']:.2g}"
    given = "data" if "interval" in claim else "exact"
    alone = len(claim["values"]) == 1 and ("interval" in claim or claim["verdict"] != UNDECIDED)
    values = given if alone else ", ".join(f"{v:.3g}" for v in claim["values"])
    bound = f"{claim['relation']} {claim['bound']:g}"
    if "interval" in claim:
        reach = " ({:.3g} to {:.3g})".format(*claim["interval"])
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
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        help="what recurate reproduce has written; none: rewrite the page alone",
    )
    parser.add_argument("--grid", type=Path, help="grid.csv of text-scale, with --code and --date of its run")
    parser.add_argument("--code", help="commit that the grid was made with")
    parser.add_argument("--date", help="day of the grid's run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder of the results")
    arguments = parser.parse_args()
    if arguments.grid and not (arguments.code and arguments.date):
        parser.error("--grid needs --code and --date")
    records = recorded.recorded() | dict(record(folder) for folder in arguments.folders)
    if arguments.grid:
        records["text-scale"] = grid_record(arguments.grid, arguments.code, arguments.date)
    records = {name: records[name] for name in CATALOGUE if name in records}
    text = page(records, machine(["torch"]))  # before the next line changes src
    PACKAGED.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (arguments.out / "reproductions.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
