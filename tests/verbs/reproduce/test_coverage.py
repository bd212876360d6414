"""Limited coverage: the law's numbers, claims on trained arms, the figure beside the laws."""

import itertools
import math
from dataclasses import replace

import altair as alt
import pytest

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.verbs.reproduce import coverage
from recurate.verbs.reproduce.catalogue import experiment
from recurate.verbs.reproduce.claims import judge


def like_the_laws(scale=1.0):
    """Return trained arms whose measured values are the laws', E exp(reward) and KL times ``scale``."""
    arms = {}
    for name, law in experiment("limited-coverage", "small").laws.items():
        rows = [r for r in law().where(FORECAST).rows if r.round <= coverage.PLAYED]
        rows = [
            replace(
                row, source=MEASURED, reward="reward" if row.reward else None,
                value=row.value * (scale if row.quantity in (coverage.EXP, coverage.KL) else 1.0),
            )
            for row in rows
        ]  # fmt: skip
        arms[f"trained {name}"] = Trajectory(tuple(rows))
    return arms


def verdicts(scale):
    found = experiment("limited-coverage", "small")
    laws = {name: law() for name, law in found.laws.items()}
    runs = [like_the_laws(scale * (1 + 1e-9 * seed)) for seed in range(3)]
    return [judge(claim, runs, laws).verdict for claim in found.claims if not claim.exact]


def test_claims_on_trained_arms():
    assert verdicts(1.0) == ["agrees"] * 5
    assert verdicts(1.2)[-1] == "refuted", "20 % beside the laws is not following them"
    assert verdicts(100.0)[0] == "refuted", "a divergence above the bound"


def test_what_real_data_lack_is_forgotten_at_the_stated_rate():
    """Below lambda = 1/(K-1) the uncovered share falls by a K = .8 a round at least; above it stays."""
    law = coverage.covered(0.2, coverage.STRICT, everywhere=True)
    shares = law.values("share", group="uncovered")
    assert all(later <= 0.8 * earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(shares))
    kept = coverage.covered(0.2, coverage.LOOSE, everywhere=True).values("share", group="uncovered")
    assert min(kept) > 0.3


def test_the_figure_has_laws_points_and_the_bound():
    runs = {name: [found] * 3 for name, found in like_the_laws().items()}
    (section,) = coverage.coverage_sections(runs)
    assert "Advice: " in section.text
    assert len(section.lines) == 1
    exps, kls = (card.chart for card in section.cards)
    for chart in (exps, kls):
        alt.Chart.from_dict(chart)  # checks it against Vega-Lite's schema
    rows = [row for rows in exps["datasets"].values() for row in rows]
    assert sum(row["source"] == "exact" for row in rows) == 6 + 6 + 5
    assert sum(row["source"] == "trained" for row in rows) == 6 + 6 + 5
    bounds = [row["value"] for rows in kls["datasets"].values() for row in rows if row["source"] == "bound"]
    assert bounds == [pytest.approx(-math.log(0.25), rel=1e-6)] * 6
    assert coverage.coverage_sections({})[0].lines == ()
