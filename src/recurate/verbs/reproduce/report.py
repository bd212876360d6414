"""A reproduced experiment: published beside found, and the arms overlaid."""

from __future__ import annotations

import math

import pyarrow as pa

from recurate.log.trajectory import MEASURED
from recurate.report import charts
from recurate.report.overlays import overlay_chart
from recurate.report.sections import Section
from recurate.verbs.reproduce import text_scale
from recurate.verbs.reproduce.claims import Finding
from recurate.verbs.reproduce.over_seeds import over_seeds
from recurate.verbs.reproduce.reproduce import Reproduction
from recurate.verbs.result import Facts, Result

SHOWN = (
    "mean_reward",
    "mean_exp_reward",
    "var_exp_reward",
    "entropy",
    "frechet:classifier",
    "frechet:values",
)


def reproduction_result(found: Reproduction) -> Result[Reproduction]:
    """Return a reproduction as a result."""
    agreed = sum(finding.verdict == "agrees" for finding in found.findings)
    return Result(
        found,
        verb="reproduce",
        title=f"{found.experiment.name}, reproduced",
        summary=f"{agreed} of {len(found.findings)} claims agree.",
        warnings=(),
        source=found.experiment.source,
        make_facts=lambda: _facts(found),
        make_sections=lambda: sections(found),
        make_tables=lambda: {"claims.csv": findings_table(found), **_grid_tables(found)},
    )


def _grid_tables(found: Reproduction) -> dict[str, pa.Table]:
    cells = found.experiment.cells
    return {"grid.csv": text_scale.grid_table(cells, found.runs)} if cells else {}


def _facts(found: Reproduction) -> Facts:
    claims = findings_table(found).to_pylist()
    return {"scale": found.scale, "seeds": found.seeds, "claims": claims}


def sections(found: Reproduction) -> list[Section]:
    """Return the table of claims, how it is to be read, and every arm over rounds."""
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
    cells = found.experiment.cells
    more = text_scale.grid_sections(cells, found.runs) if cells else _overlays(found)
    return [Section("Published and here", text, table, marked="does not"), *more]


def interval(finding: Finding) -> str:
    """Return a mean with its interval."""
    return f"{finding.mean:.3g}" + ("" if math.isinf(finding.reach) else f" ± {finding.reach:.2g}")


def _overlays(found: Reproduction) -> list[Section]:
    arms = {name: over_seeds(runs) for name, runs in found.runs.items()}
    measured = [arm.where(MEASURED) for arm in arms.values()]
    keys = [key for arm in measured for key in arm.about() if key[0] in SHOWN]
    rows = [row for arm in measured for row in arm.where(quantity="share").rows]
    keys += [("share", None, group) for group in charts.largest_groups(rows)]
    cards = tuple(Section(charts.title(key), chart=overlay_chart(arms, key)) for key in dict.fromkeys(keys))
    return [Section("All rounds", "Means over the seeds.", cards=cards, printed=False)] if cards else []


def findings_table(found: Reproduction) -> pa.Table:
    """Return the claims with the values of every seed, one row per claim and seed."""
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
