"""Exact arms of experiments: golden values, claims without seeds, summaries, the command."""

import dataclasses
import itertools
import json
import math
import re

import numpy as np
import pyarrow.csv as pv
import pytest

from helpers.commands import call
from helpers.paths import ROOT
from recurate.log.trajectory import FORECAST, Row, Trajectory
from recurate.verbs.reproduce import mutual, others, pluralistic
from recurate.verbs.reproduce.catalogue import CATALOGUE, experiment, one_size
from recurate.verbs.reproduce.claims import (
    NOT_HERE,
    Claim,
    apart,
    ends,
    gains,
    judge,
    largest,
    outside,
    smallest,
)
from recurate.verbs.reproduce.experiment import Experiment
from recurate.verbs.reproduce.laws import bisect
from recurate.verbs.reproduce.recorded import listing, recorded, verdict
from recurate.verbs.reproduce.report import findings_table, interval, summary, verdict_of
from recurate.verbs.reproduce.reproduce import Reproduction

KERNEL = json.loads((ROOT / "tests" / "goldens" / "kernel.json").read_text())


def law(*values, quantity="share", group="x"):
    return Trajectory(tuple(Row(t, FORECAST, quantity, v, group=group) for t, v in enumerate(values)))


def claimed(bound, above=True, exact=True):
    return Claim("so", "a number", ends("a", "share", group="x"), above, bound, exact=exact)


@pytest.mark.parametrize(
    ("bound", "above", "expected"),
    [(0.5, True, "agrees"), (0.5, False, "refuted"), (0.9, True, "refuted"), (0.7, True, "refuted")],
)
def test_an_exact_claim_is_one_number(bound, above, expected):
    """A value on the bound does not lie beyond it."""
    found = judge(claimed(bound, above), [], {"a": law(0.1, 0.7)})
    assert (found.values, found.reach, found.verdict) == ((0.7,), 0.0, expected)
    assert interval(found) == "0.7"


@pytest.mark.parametrize("above", [True, False])
def test_what_is_not_measured_does_not_agree(above):
    found = judge(claimed(0.5, above), [], {"a": law(math.nan)})
    assert (found.verdict, found.beyond, interval(found)) == ("undecided", False, "not measured")


def test_statistics_of_laws():
    laws = {"a": law(0.1, 0.7), "b": law(1.0, 4.0, quantity="mean_exp_reward", group=None)}
    one, other = ends("a", "share", group="x"), gains("b", "mean_exp_reward")
    assert (one(laws), other(laws)) == (0.7, 3.0)
    assert apart(one, other)(laws) == apart(one, 3.0)(laws) == pytest.approx(2.3)
    assert (smallest(one, other)(laws), largest(one, other)(laws)) == (0.7, 3.0)
    assert outside(one, 0.5, 0.8)(laws) == 0.0
    assert outside(one, 0.8, 0.9)(laws) == pytest.approx(0.1)


def reproduced(seeds, *claims):
    laws, runs = {"a": law(0.7)}, [{}] * len(seeds)
    findings = tuple(judge(claim, runs, laws) for claim in claims)
    return Reproduction(Experiment("E", "", {}, claims, "arXiv"), "small", seeds, {}, laws, findings)


def test_the_summary_says_what_one_seed_can():
    both = claimed(0.5, exact=False), claimed(0.9, exact=False)
    assert summary(reproduced((0,), *both)) == (
        "1 of 2 beyond their bounds; one seed gives no interval: run 3."
    )
    assert summary(reproduced((0, 1, 2), *both)) == "1 of 2 claims agree. Refuted: so."
    assert summary(reproduced((), claimed(0.5))) == "1 of 1 claims agree."


def test_not_at_this_scale_is_no_agreement():
    elsewhere = dataclasses.replace(claimed(0.9, exact=False), elsewhere=True)
    found = reproduced((0, 1, 2), elsewhere, claimed(0.5))
    assert verdict_of(found) == "not at this scale"
    assert summary(found) == "1 of 2 claims agree. Not at this scale: so."
    assert verdict_of(reproduced((0, 1, 2), elsewhere, claimed(0.9))) == "refuted"


def test_the_scale_of_the_paper_where_there_is_one_size():
    for name, same in (("P-disjoint", True), ("human-check", True), ("P-E3", False), ("P-E4", False)):
        assert one_size(name) == same


def test_the_table_has_one_row_per_exact_claim():
    table = findings_table(reproduced((4, 5), claimed(0.5), claimed(0.5, exact=False)))
    assert table["seed"].to_pylist() == [None, 4, 5]
    assert table["reach"].to_pylist() == [None, 0.0, 0.0]


# --- golden values --------------------------------------------------------------------------------


def test_the_compromise_takes_all():
    golden = next(case for case in KERNEL["nash"] if case["name"] == "compromise-wins")
    found = pluralistic.compromise()
    names = ("first", "second", "outside")
    for name, mass in zip(names, map(float, golden["p"]), strict=True):
        assert found.values("share", group=name)[-1] == pytest.approx(mass, abs=1e-8)


def test_shares_of_the_survival_law():
    """Golden limits of s' = q (1 - (1-s)^K) + (1-q) s^K."""
    for case in KERNEL["survival"]:
        found = pluralistic.survival_share(float(case["q"]), case["K"])
        assert found == pytest.approx(float(case["share"]), abs=1e-7)


@pytest.mark.parametrize(
    ("k", "owner_first", "value"),
    [(2, True, (3 - math.sqrt(5)) / 2), (2, False, (math.sqrt(5) - 1) / 2)],
)
def test_the_threshold_of_two_turns(k, owner_first, value):
    """1 - 1/phi and 1/phi: the roots of s = (1 - (1-s)^2)^2 and s = 1 - (1-s^2)^2 inside (0, 1)."""
    found = others.threshold(k, owner_first=owner_first).values(others.LAST)[0]
    assert found == pytest.approx(value, abs=1e-7)


def test_the_law_of_two_turns():
    shares = others.opposed(0.4, 2).values("share", group="owner")
    s = 0.4
    for found in shares[:20]:
        assert found == pytest.approx(s, abs=1e-9)
        s = (1 - (1 - s) ** 2) ** 2


def test_the_share_that_flips_the_limit():
    """At K = 2 it is a half; at K = infinity it is 1 / (1 + e^g)."""
    assert others.two_items(2.0) == pytest.approx(0.5)
    assert others.two_items(math.inf) == pytest.approx(1 / (1 + math.exp(others.SPREAD)))
    assert others.flip(4.0) == pytest.approx(0.30956, abs=1e-4)


def test_shares_that_reverse_curation():
    """Two atoms: w > 1 - s_0 / g(s_0), with g over all slates of four; in the plane about a half."""
    favourite = math.exp(mutual.GAP)
    g = sum(math.comb(4, j) / 16 * j * favourite / (j * favourite + 4 - j) for j in range(5))
    found = mutual.for_good()
    assert found.values(mutual.REVERSED)[0] == pytest.approx(1 - 0.5 / g, abs=1e-6)
    assert mutual.first_round().values(mutual.REVERSED)[0] == pytest.approx(0.5, abs=0.01)


def test_late_reversal_is_between_both_shares():
    """Alone the own reward rises in every round; late mixing raises it first, and then lowers it."""
    alone, late = (mutual.law(w).values("own_reward", group="ours") for w in (0.0, mutual.SHARES["late"]))
    assert all(after > before for before, after in itertools.pairwise(alone))
    assert late[1] > late[0] > late[-1]


def test_bisection():
    assert bisect(lambda x: x > 0.3, 0.0, 1.0) == pytest.approx(0.3)


# --- recorded results ---------------------------------------------------------------------------


def test_every_record_is_of_an_experiment_and_its_claims():
    for name, found in recorded().items():
        claims = experiment(name, "small").claims
        known = [(c.published, c.measured, ">" if c.above else "<", c.bound) for c in claims]
        told = [(c["published"], c["measured"], c["relation"], c["bound"]) for c in found["claims"]]
        assert told == known


def recorded_verdict(claim, told):
    """Return the verdict that a record's interval has by the claim's present bound."""
    low, high = told.get("interval") or (
        told["mean"] - (told["reach"] or 0),
        told["mean"] + (told["reach"] or 0),
    )
    if not claim.exact and told["reach"] is None:
        return "undecided"  # one seed
    beyond, short = (low > claim.bound, high < claim.bound)[:: 1 if claim.above else -1]
    against = NOT_HERE if claim.elsewhere else "refuted"
    return "agrees" if beyond else against if short else "undecided"


@pytest.mark.parametrize("name", recorded())
def test_recorded_verdicts_follow_from_their_values(name):
    found = recorded()[name]
    for claim, told in zip(experiment(name, "small").claims, found["claims"], strict=True):
        assert told["verdict"] == recorded_verdict(claim, told), told
        assert len(told["values"]) == (1 if claim.exact else len(found["seeds"]))


def test_the_list(tmp_path):
    done = call("reproduce", "--list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in CATALOGUE)
    assert [row[0] for row in listing()] == list(CATALOGUE)
    row = next(row for row in listing() if row[0] == "heterogeneous")
    assert row[3:5] == ["exact", "4 of 4 agree"]
    claims = [
        {"verdict": word, "mean": mean, "bound": 1.0, "relation": "<"}
        for word, mean in (("agrees", 0.5), ("undecided", 0.9), ("undecided", 1.1))
    ]
    assert verdict({"seeds": [0, 1], "claims": claims}) == "1 of 3 agree, 2 undecided"
    assert verdict({"seeds": [0], "claims": claims}) == "2 of 3 beyond their bounds; one seed"


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_experiment_cites_its_paper(name):
    text = (ROOT / "src" / "recurate" / "core" / "papers.bib").read_text(encoding="utf-8")
    entry = text.partition(f"{{{CATALOGUE[name].key},")[2].partition("@")[0]
    number = re.search(r"eprint = {(.*)}", entry)
    assert number is not None
    assert number[1] in CATALOGUE[name].paper


# --- commands -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in CATALOGUE if not experiment(n, "small").trains])
def test_nothing_is_trained(name):
    found = experiment(name, "small")
    assert all(claim.exact for claim in found.claims)


def test_an_exact_experiment_by_command(tmp_path):
    done = call("reproduce", "heterogeneous", "--scale", "paper", "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "heterogeneous has one size" in done.stdout + done.stderr
    assert "4 of 4 claims agree." in done.stdout
    assert "no seeds" in done.stdout
    table = pv.read_csv(tmp_path / "here" / "claims.csv")
    assert table.num_rows == 4
    assert table["verdict"].to_pylist().count("agrees") == 4
    assert not list((tmp_path / "here").glob("*/seed-*"))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((0.1, 0.11, 0.12), "not at this scale"), ((0.9, 0.91, 0.92), "agrees"), ((0.0, 1.0), "undecided")],
)
def test_a_number_of_other_data_is_not_refuted(values, verdict):
    own = Claim("c", "m", lambda runs: runs["a"].rows[-1].value, True, 0.5, elsewhere=True)
    found = judge(own, [{"a": law(value)} for value in values])
    assert found.verdict == verdict


# --- an owner and the public, trained ---------------------------------------------------------------


def test_shares_are_of_what_somebody_likes_best():
    points = np.array([[2.0, 0.0], [2.5, 0.5], [-2.0, 0.9], [0.0, 0.0]])
    found = {row.group: row.value for row in others._shares(3, *others._in_discs(points), 0.0)}
    assert found == {"owner": 0.5, "public": 0.25, "outside": 0.25}
    sides = others._shares(0, *others._judged(points[2:]), others.GAP)
    assert {row.group: row.value for row in sides} == {"owner": 0.0, "public": 1.0, "outside": 0.0}


def test_a_trained_loop_in_turn_follows_the_law(monkeypatch):
    """Five rounds of 4,000 picks: shares have standard errors below .01 a round, which the law amplifies."""
    monkeypatch.setattr(others, "TURNS", 5)
    monkeypatch.setattr(others, "POINTS", 4000)
    law = others.opposed(0.5, 2).values("share", source="forecast", group="owner")[:6]
    found = others.two_sides(0.5, seed=0)
    measured = found.values("share", source="measured", group="owner")
    assert np.abs(measured - law).max() < 0.1
    again = others.two_sides(0.5, seed=0)
    assert again.rows == found.rows, "the seed names all that is drawn"
