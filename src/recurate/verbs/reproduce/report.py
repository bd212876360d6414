"""A reproduced experiment: published beside found, and the arms overlaid."""

from __future__ import annotations

import math

import pyarrow as pa

from recurate.log.trajectory import MEASURED
from recurate.report import charts
from recurate.report.overlays import overlay_chart
from recurate.report.sections import Section
from recurate.theory.models_forecast import OWN
from recurate.verbs.reproduce.catalogue import PAPER, one_size
from recurate.verbs.reproduce.claims import AGREES, NOT_HERE, REFUTED, UNDECIDED, Finding
from recurate.verbs.reproduce.over_seeds import over_seeds
from recurate.verbs.reproduce.reproduce import Reproduction
from recurate.verbs.result import Facts, Result

OTHERS = (REFUTED, UNDECIDED, NOT_HERE)  # verdicts other than agreement
NAMED = 2  # claims of a verdict that the summary names
SHOWN = (
    OWN,
    "mean_reward",
    "mean_exp_reward",
    "var_exp_reward",
    "entropy",
    "frechet:classifier",
    "frechet:values",
)


def reproduction_result(found: Reproduction) -> Result[Reproduction]:
    """Return a reproduction as a result."""
    return Result(
        found,
        verb="reproduce",
        title=f"{found.experiment.name}, reproduced",
        summary=summary(found),
        outcome=verdict_of(found),
        warnings=_warnings(found),
        source=found.experiment.source,
        make_facts=lambda: _facts(found),
        make_sections=lambda: sections(found),
        make_tables=lambda: {"claims.csv": findings_table(found), **_more_tables(found)},
    )


def _warnings(found: Reproduction) -> tuple[str, ...]:
    """Return what a reader who asked for the paper's scale would otherwise take for it."""
    name = found.experiment.name
    if found.scale == PAPER and one_size(name):
        return (f"{name} has one size: the scale paper is the same as small",)
    return ()


def verdict_of(found: Reproduction) -> str:
    """Return the first of OTHERS that a claim has, ``undecided`` with one seed, else ``agrees``."""
    verdicts = {finding.verdict for finding in found.findings}
    if any(math.isinf(finding.reach) for finding in found.findings):
        return UNDECIDED
    return next((v for v in OTHERS if v in verdicts), AGREES)


def summary(found: Reproduction) -> str:
    """Return how many claims agree or, where one seed gives no interval, lie beyond their bounds.

    Claims that do not agree are named.
    """
    count = len(found.findings)
    if any(math.isinf(finding.reach) for finding in found.findings):
        beyond = sum(finding.beyond for finding in found.findings)
        return f"{beyond} of {count} beyond their bounds; one seed gives no interval: run 3."
    agree = f"{sum(finding.verdict == AGREES for finding in found.findings)} of {count} claims agree."
    return " ".join(filter(None, [agree, *(_named(found, verdict) for verdict in OTHERS)]))


def _named(found: Reproduction, verdict: str) -> str:
    """Return a sentence that names the claims with a verdict, or ""."""
    names = list(dict.fromkeys(f.claim.published.rstrip(".") for f in found.findings if f.verdict == verdict))
    more = f"; and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{verdict[0].upper()}{verdict[1:]}: {'; '.join(names[:NAMED])}{more}." if names else ""


def _more_tables(found: Reproduction) -> dict[str, pa.Table]:
    make = found.experiment.tables
    return make(found.runs) if make else {}


def _facts(found: Reproduction) -> Facts:
    claims = findings_table(found).to_pylist()
    name = found.experiment.name
    return {"experiment": name, "scale": found.scale, "seeds": found.seeds, "claims": claims}


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
    text = f"{found.experiment.source}. {found.experiment.setting} {_how_read(found)}"
    make = found.experiment.sections
    more = make(found.runs) if make else _overlays(found)
    return [Section("Published and here", text, table, marked=REFUTED), *more]


def _how_read(found: Reproduction) -> str:
    """Return how the numbers came about, and how a verdict is to be read."""
    words = []
    if found.seeds:
        words.append(
            f"Scale {found.scale}, seeds {', '.join(map(str, found.seeds))}: means with Student's intervals "
            "over the seeds. A claim agrees if its whole interval lies beyond the bound."
        )
    if any(finding.interval is not None for finding in found.findings):
        words.append(
            "95 % intervals are from the data; a claim agrees if its whole interval is beyond the bound."
        )
    elif found.laws:
        words.append(
            "Claims without an interval are about exact laws, in the limit of infinite data: one number, and "
            "no seeds."
        )
    return " ".join(words)


def interval(finding: Finding) -> str:
    """Return a mean with its interval; without one for one seed and for an exact claim."""
    if math.isnan(finding.mean):
        return "not measured"
    if finding.interval is not None:
        low, high = finding.interval
        return f"{finding.mean:.3g} ({low:.3g} to {high:.3g})"
    without = finding.claim.exact or math.isinf(finding.reach)
    return f"{finding.mean:.3g}" + ("" if without else f" ± {finding.reach:.2g}")


def _overlays(found: Reproduction) -> list[Section]:
    """Return every arm over rounds: what trained arms measured, and exact laws as lines."""
    trained = {name: over_seeds(runs) for name, runs in found.runs.items()}
    shown = [arm.where(MEASURED) for arm in trained.values()] + list(found.laws.values())
    keys = [key for arm in shown for key in arm.about() if key[0] in SHOWN]
    rows = [row for arm in shown for row in arm.where(quantity="share").rows]
    keys += [("share", None, group) for group in charts.largest_groups(rows)] if rows else []
    arms = {**trained, **found.laws}
    cards = tuple(Section(charts.title(key), chart=overlay_chart(arms, key)) for key in dict.fromkeys(keys))
    text = "Means over the seeds; exact laws as lines." if found.laws else "Means over the seeds."
    return [Section("All rounds", text, cards=cards, printed=False)] if cards else []


def findings_table(found: Reproduction) -> pa.Table:
    """Return the claims with the values of every seed: a row per claim and seed, one row if exact."""
    rows = [
        {
            "published": f.claim.published,
            "measured": f.claim.measured,
            "relation": ">" if f.claim.above else "<",
            "bound": f.claim.bound,
            "seed": seed,
            "value": value,
            "mean": f.mean,
            "reach": None if f.claim.exact or math.isinf(f.reach) else f.reach,
            "lower": None if f.interval is None else f.interval[0],
            "upper": None if f.interval is None else f.interval[1],
            "verdict": f.verdict,
        }
        for f in found.findings
        for seed, value in zip((None,) if f.claim.exact else found.seeds, f.values, strict=True)
    ]
    return pa.Table.from_pylist(rows)
