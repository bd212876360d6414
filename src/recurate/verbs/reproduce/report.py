"""A reproduced experiment: published beside found, and the arms overlaid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recurate.core.version import VERSION
from recurate.log.trajectory import MEASURED, Trajectory
from recurate.report.charts import largest_groups
from recurate.report.sections import Section, write_sections
from recurate.verbs.compare.report import key_title, overlay_chart
from recurate.verbs.reproduce.claims import Finding
from recurate.verbs.reproduce.over_seeds import over_seeds
from recurate.verbs.reproduce.reproduce import Reproduction

SHOWN = (
    "mean_reward",
    "mean_exp_reward",
    "var_exp_reward",
    "entropy",
    "frechet:classifier",
    "frechet:values",
)


@dataclass(frozen=True)
class Arm:
    """An arm's name and its trajectory over the seeds."""

    name: str
    trajectory: Trajectory


def sections(found: Reproduction) -> list[Section]:
    """Return the table of claims, and how it is to be read."""
    table = [["published", "measured here", "bound", "here (95 %)", "verdict"]]
    table += [
        [
            finding.claim.published,
            finding.claim.measured,
            f"{'>' if finding.claim.above else '<'} {finding.claim.bound:g}",
            interval(finding),
            finding.verdict,
        ]
        for finding in found.findings
    ]
    text = (
        f"{found.experiment.source}. {found.experiment.setting} Scale {found.scale}, seeds "
        f"{', '.join(map(str, found.seeds))}: means with Student's intervals over the seeds. A claim agrees "
        "if its whole interval lies beyond the bound, which was stated before."
    )
    return [Section("Published and here", text, table, marked="does not")]


def interval(finding: Finding) -> str:
    """Return a mean with its interval."""
    return f"{finding.mean:.3g}" + ("" if math.isinf(finding.reach) else f" ± {finding.reach:.2g}")


def write_reproduction(found: Reproduction, folder: Path) -> Path:
    """Write ``report.html``: the claims, and every arm over rounds."""
    arms = [Arm(name, over_seeds(runs)) for name, runs in found.runs.items()]
    keys = [key for arm in arms for key in arm.trajectory.about(MEASURED) if key[0] in SHOWN]
    rows = [row for arm in arms for row in arm.trajectory.where(MEASURED, "share").rows]
    keys += [("share", None, group) for group in largest_groups(list(rows))]
    shown = sections(found)
    for key in dict.fromkeys(keys):
        chart = overlay_chart(tuple(arms), key)
        shown.append(Section(key_title(arms, key), chart=chart))
    agreed = sum(finding.verdict == "agrees" for finding in found.findings)
    path = folder / "report.html"
    write_sections(
        shown,
        path,
        title=f"{found.experiment.name}, reproduced",
        subtitle=f"recurate {VERSION}, scale {found.scale}",
        summary=f"{agreed} of {len(found.findings)} claims agree.",
    )
    return path


def findings_table(found: Reproduction) -> pa.Table:
    """Return the claims with the values of every seed, one row a claim and seed."""
    rows = [
        {
            "published": f.claim.published,
            "measured": f.claim.measured,
            "relation": ">" if f.claim.above else "<",
            "bound": f.claim.bound,
            "seed": seed,
            "value": value,
            "mean": f.mean,
            "reach": None if math.isinf(f.reach) else f.reach,
            "verdict": f.verdict,
        }
        for f in found.findings
        for seed, value in zip(found.seeds, f.values, strict=True)
    ]
    return pa.Table.from_pylist(rows)
