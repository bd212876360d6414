"""People's picks against Bradley-Terry: departures and their intervals, known truth, data absent."""

import csv
import math

import numpy as np
import pytest

from helpers.commands import call
from recurate.log.trajectory import FORECAST, Row, Trajectory
from recurate.verbs.reproduce import human_check
from recurate.verbs.reproduce.catalogue import experiment
from recurate.verbs.reproduce.claims import Claim, ends, judge
from recurate.verbs.reproduce.report import findings_table, interval
from recurate.verbs.reproduce.reproduce import reproduce


@pytest.mark.parametrize(
    ("low", "high", "above", "verdict"),
    [
        (0.01, 0.04, False, "agrees"), (0.06, 0.09, False, "refuted"), (0.04, 0.06, False, "undecided"),
        (0.06, 0.09, True, "agrees"), (0.01, 0.04, True, "refuted"), (math.nan, math.nan, False, "undecided"),
    ],
)  # fmt: skip
def test_an_estimate_has_its_own_interval(low, high, above, verdict):
    laws = {"a": Trajectory((Row(0, FORECAST, "x", 0.05),))}
    claim = Claim("so", "a number", ends("a", "x"), above, 0.05, exact=True, interval=lambda _: (low, high))
    found = judge(claim, [], laws)
    assert found.verdict == verdict
    if not math.isnan(low):
        assert interval(found) == f"0.05 ({low:g} to {high:g})"


def test_the_noncentrality_covers():
    """95 % intervals of nc = 0 and 30 at 4 degrees of freedom, 2,000 statistics each; false alarms 1e-6."""
    rng = np.random.default_rng(0)
    for true in (0.0, 30.0):
        statistics = rng.noncentral_chisquare(4, true, 2000) if true else rng.chisquare(4, 2000)
        inside = [
            human_check.noncentrality(s, 4, 0.975) <= true <= human_check.noncentrality(s, 4, 0.025)
            for s in statistics
        ]
        # At nc = 0 the lower end is 0 for all but 2.5 %.
        wanted = 0.95 if true else 0.975
        assert np.mean(inside) == pytest.approx(wanted, abs=4.9 * math.sqrt(0.05 * 0.95 / 2000))


def picks_of(path, *, groups):
    """Write 1,500 choices of one in three by 150 people, of one group or of two opposed ones."""
    rng = np.random.default_rng(3)
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["slate", "chooser", "quality", "price", "picked"])
        for s in range(1500):
            chooser = s % 150
            quality, price = rng.normal(size=(2, 3))
            sign = -1.0 if groups == 2 and chooser % 2 else 1.0
            picked = int((sign * quality - 0.5 * price + rng.gumbel(size=3)).argmax())
            for i in range(3):
                out.writerow([s, f"p{chooser}", quality[i], price[i], int(i == picked)])


@pytest.mark.parametrize(("groups", "alike"), [(1, "agrees"), (2, "refuted")])
def test_picks_of_known_rules(tmp_path, groups, alike):
    path = tmp_path / f"picks{groups}.csv"
    picks_of(path, groups=groups)
    found = reproduce("human-check", tmp_path / "out", data=str(path))
    verdicts = [finding.verdict for finding in found.findings]
    assert len(verdicts) == 4
    assert verdicts[3] == alike
    if groups == 1:
        assert verdicts[1:3] == ["agrees", "agrees"]
        assert verdicts[0] != "refuted"
    table = findings_table(found)
    assert all(
        low < high for low, high in zip(*(table[n].to_pylist() for n in ("lower", "upper")), strict=True)
    )


def test_absent_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("RECURATE_DATA", str(tmp_path))
    done = call("reproduce", "human-check", cwd=tmp_path)
    assert done.returncode == 2
    assert "yogurt/yogurt.csv.gz" in done.stderr
    assert "RECURATE_DATA" in done.stderr
    assert not (tmp_path / "reproduced").exists()


def test_claims_need_no_data():
    claims = experiment("human-check", "small").claims
    assert len(claims) == 24
    assert len({(claim.published, claim.measured) for claim in claims}) == 24
