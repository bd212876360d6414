r"""P-E4 of Falahati et al. 2026 (arXiv 2605.07724): texts rewarded for their length, one target or two.

The rewards are r_i = -|words - L_i| / tau, tau = 0.5, and with two targets each judges half of the slates.
The publication retrains a GPT-2-style model on 200 curated texts a round, and claims that two targets keep
the entropy of the length distribution and one loses it. Which real texts, which targets, and how the first
model is trained are this package's choice: queries of CLINC150, and lengths that many of them have.

With perfect models and infinite data, texts of other lengths die out: the entropy of lengths tends to 0 for
one target, and to ln 2 for two (K q = 2.5 > 1: both survive). What is above that is sampling and
transmission, which the report states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report.overlays import overlay_chart
from recurate.report.sections import Section
from recurate.verbs.reproduce.attributed import PARTS, share_parts, total
from recurate.verbs.reproduce.claims import Claim, Runs, Statistic, apart, first, last, less, ratio, smallest
from recurate.verbs.reproduce.experiment import Arms, Experiment
from recurate.verbs.reproduce.over_seeds import over_seeds, shown
from recurate.verbs.reproduce.pluralistic import PAPER

if TYPE_CHECKING:
    from recurate.loop.run_folder import RunFolder

SHORT, LONG = 6, 12  # words
TAU, K, PICKS, ROUNDS = 0.5, 5, 200, 20  # 200 are kept of 1,000 texts
NEAR = 1  # words off a target that still count as near it
ONE, TWO = "one target", "two targets"
TARGETS = {ONE: (SHORT,), TWO: (SHORT, LONG)}
START = "first model"
MOST = 30  # words of the longest group
PART_KEPT = 0.5  # part of the first entropy that separates "kept" from "lost"

SMALL: dict[str, Any] = {
    "scratch": {"layers": 2, "width": 64, "heads": 2, "vocabulary": 600, "window": 48},
    "training": {"first_epochs": 10, "epochs": 2, "batch": 8, "learning_rate": 2e-3},
}
LARGE: dict[str, Any] = {
    "scratch": {"layers": 6, "width": 384, "heads": 6, "vocabulary": 1024, "window": 64},
    "training": {"first_epochs": 100, "epochs": 2, "batch": 8, "learning_rate": 5e-5},
    "device": "cuda",
}


def _label(words: int) -> str:
    """Return the name of the group of texts of so many words."""
    from recurate.components.rewards.groups import LengthGroupSettings

    return LengthGroupSettings(kind="length", most=MOST).label(words)


def length_texts(scale: str, data: str) -> Experiment:
    """Return P-E4: texts with one target length, and with two."""
    model = "2 layers, 64 wide" if scale == "small" else "6 layers x 6 heads x 384"
    return Experiment(
        "P-E4",
        f"1,000 queries of CLINC150; a causal model ({model}) from scratch; rewards -|words - target| / "
        f"{TAU:g}, target {SHORT}, or {SHORT} and {LONG} for half of the slates each; one of {K} is picked, "
        f"{PICKS} picks per round, {ROUNDS} rounds, sampled at temperature 0.8.",
        {arm: _config(scale, targets) for arm, targets in TARGETS.items()},
        _claims(),
        f"{PAPER}, experiment on texts",
        starts={START: _base(scale, (SHORT,)) | {"rounds": 1, "selection": {"k": 2, "picks": 20}}},
        sections=_sections,
        tables=_tables,
        derived=_derived,
    )


def _base(scale: str, targets: Sequence[int]) -> dict[str, Any]:
    generator = SMALL if scale == "small" else LARGE
    return {
        "data": {"kind": "queries", "source": "clinc150", "size": 1111, "held_out": 0.1},
        "generator": {
            "kind": "language",
            "sample": {"temperature": 0.8, "longest": 40, "batch": 250},
            **generator,
        },
        "rewards": [
            {"kind": "length", "name": f"words_{words}", "target": words, "tau": TAU} for words in targets
        ],
        "groups": {"kind": "length", "most": MOST},
    }


def _config(scale: str, targets: Sequence[int]) -> dict[str, Any]:
    chosen = {"rounds": ROUNDS, "selection": {"k": K, "picks": PICKS}, "keep": 1, "start": START}
    return _base(scale, targets) | chosen


def _derived(arm: str, run: RunFolder) -> Trajectory:
    return share_parts(run)


# --- claims ---------------------------------------------------------------------------------------


def near(arm: str, target: int, source: str = MEASURED) -> Statistic:
    """Return the statistic: the share of texts within a word of a target, in the last round."""
    labels = {_label(target + off) for off in range(-NEAR, NEAR + 1)}

    def statistic(runs: Runs) -> float:
        found = runs[arm].where(source, "share").rows
        end = max(row.round for row in found)
        return math.fsum(row.value for row in found if row.round == end and row.group in labels)

    return statistic


def _claims() -> tuple[Claim, ...]:
    of_first = "entropy of the lengths, last round / round 0"
    return (
        Claim(
            "with one target the entropy of the lengths is lost (read as: more than half of it)",
            f"{of_first}, {ONE}",
            ratio(ONE, "entropy"),
            False,
            PART_KEPT,
        ),
        Claim(
            "with two targets it is kept (read as: at least half of it)",
            f"{of_first}, {TWO}",
            ratio(TWO, "entropy"),
            True,
            PART_KEPT,
        ),
        Claim(
            "two targets keep more than one",
            f"entropy of the lengths in the last round, {TWO} minus {ONE}",
            less(last(TWO, "entropy"), last(ONE, "entropy")),
            True,
            0.0,
        ),
        Claim(
            "both targets keep a share (derived here: K q = 2.5 > 1)",
            f"smaller share of texts within a word of a target, last round, {TWO}",
            smallest(near(TWO, SHORT), near(TWO, LONG)),
            True,
            0.1,
        ),
        Claim(
            "with two targets the exact law keeps ln 2 alone (derived here)",
            f"distance of the forecast entropy from ln 2, last round, {TWO}",
            apart(last(TWO, "entropy", source=FORECAST), math.log(2)),
            False,
            0.1,
        ),
        Claim(
            "sampling and transmission keep the lengths wider than the exact law (derived here)",
            f"entropy minus its forecast, last round, {TWO}",
            less(last(TWO, "entropy"), last(TWO, "entropy", source=FORECAST)),
            True,
            0.0,
        ),
    )


# --- table and figures ----------------------------------------------------------------------------


def _columns(arm: str) -> dict[str, Statistic]:
    """Return the statistics of one arm, by column."""
    found = {
        "first": first(arm, "entropy"),
        "entropy": last(arm, "entropy"),
        "forecast": last(arm, "entropy", source=FORECAST),
        f"near_{SHORT}": near(arm, SHORT),
        f"near_{LONG}": near(arm, LONG),
    }
    return found | {part: total(arm, f"entropy_{part}") for part in PARTS}


def _rows(runs: Arms) -> list[dict[str, Any]]:
    """Return one row per arm and seed."""
    return [
        {"arm": arm, "run": seed} | {name: of({arm: run}) for name, of in _columns(arm).items()}
        for arm, found in runs.items()
        for seed, run in enumerate(found)
    ]


def _tables(runs: Arms) -> dict[str, pa.Table]:
    return {"lengths.csv": pa.Table.from_pylist(_rows(runs))}


def _sections(runs: Arms) -> list[Section]:
    rows = _rows(runs)
    heading = [
        "", "entropy, round 0", "last round", "exact law", f"within {NEAR} of {SHORT} words",
        f"of {LONG}", "change: selection", "sampling", "transmission",
    ]  # fmt: skip
    body = [
        [arm, *(shown([row[name] for row in rows if row["arm"] == arm]) for name in _columns(arm))]
        for arm in runs
    ]
    text = (
        "Entropy of the lengths in nats, means over the seeds. The exact law is forecast from round 0, in "
        "the limit of infinite data. The change from round 0 to the last is the sum of its three parts: what "
        "selection asks for, what finitely many picks add, and what retraining adds, sampling at temperature "
        "0.8 included."
    )
    means = {arm: over_seeds(found) for arm, found in runs.items()}
    keys = [("entropy", None, None), *(("share", None, _label(n)) for n in (SHORT, LONG))]
    titles = ["Entropy of the lengths", *(f"Share of texts of {n} words" for n in (SHORT, LONG))]
    cards = tuple(
        Section(title, chart=overlay_chart(means, key)) for title, key in zip(titles, keys, strict=True)
    )
    lines = "Means over the seeds; lines are exact laws, forecast from round 0."
    return [
        Section("Entropy of the lengths", text, [heading, *body]),
        Section("All rounds", lines, cards=cards, printed=False),
    ]
