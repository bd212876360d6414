"""Plans: exact outcomes, constraints kept, frontiers, what binds, sensitivity; and by the command line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.commands import call
from helpers.paths import refused
from helpers.tiny import GAUSSIANS
from recurate import forecast, plan
from recurate.core.errors import InputError
from recurate.log.schema import as_log, write_log
from recurate.loop.config import parse_config
from recurate.loop.driver import run
from recurate.theory.limits import limit
from recurate.theory.population import favourites
from recurate.verbs.plan import ends
from recurate.verbs.plan.evaluation import Atoms

pytestmark = pytest.mark.usefixtures("few_replicates")

SMALL = {"k": (2, 4, 8), "real_fraction": (0.0, 0.2, 0.5), "weights": [(0.3, 0.7), (0.5, 0.5), (0.7, 0.3)]}


def opposed(n: int = 3000, seed: int = 0):
    """Two rewards that are at odds."""
    rewards = np.random.default_rng([51, seed]).normal(size=(n, 2))
    rewards[:, 1] -= 0.5 * rewards[:, 0]
    return rewards


@pytest.fixture(scope="module")
def planned():
    return plan(opposed(), maximise="nash", floor=0.2, kl=1.5, budget=60_000, rounds=6, **SMALL)


def test_outcomes_are_the_exact_forecast(planned):
    best = planned.best
    rewards = opposed()
    c = best.choice
    groups = favourites(rewards, rewards.max(axis=0)).astype(str)
    found = forecast(
        rewards, k=c.k, rounds=6, weights=c.weights, real_fraction=c.real_fraction, group=groups
    ).trajectory
    last = {row.key: row.value for row in found.where(round=6).rows}
    np.testing.assert_allclose(
        best.rewards, [last["mean_reward", f"reward_{i}", None] for i in (0, 1)], rtol=1e-9
    )
    np.testing.assert_allclose(best.shares, [last["share", None, str(i)] for i in (0, 1)], rtol=1e-9)
    assert best.kl == pytest.approx(last["kl_to_reference", None, None], rel=1e-9)
    assert best.entropy == pytest.approx(last["entropy", None, None], rel=1e-9)
    assert best.cost == c.k * 1000 * 6


def test_the_plan_keeps_its_constraints_and_nothing_tried_is_better(planned):
    best = planned.best
    assert best.exact
    assert best.feasible
    assert min(best.shares) >= 0.2
    assert best.kl <= 1.5
    assert best.cost <= 60_000
    rivals = [o for o in planned.outcomes if o.feasible and o.objective > best.objective * (1 + 1e-3)]
    assert not rivals


def test_what_binds_really_does(planned):
    names = [name for name, _ in planned.binding]
    assert "kl" in names
    free = plan(opposed(), maximise="nash", floor=0.2, budget=60_000, rounds=6, **SMALL)
    assert free.best.objective > planned.best.objective
    slack = plan(opposed(), maximise="nash", floor=0.01, kl=1e6, rounds=6, **SMALL)
    assert slack.binding == ()


def test_frontiers_hold_nothing_dominated(planned):
    for outcomes, key in ((planned.diversity, lambda o: o.entropy), (planned.compute, lambda o: -o.cost)):
        assert all(o.exact for o in outcomes)
        for a in outcomes:
            for b in outcomes:
                assert not (b.objective > a.objective + 1e-6 and key(b) > key(a) + 1e-6)


def test_sensitivity_is_a_plan_for_scaled_rewards(planned):
    for s in planned.sensitivity:
        again = plan(
            s.factor * opposed(), maximise="nash", floor=0.2, kl=1.5, budget=60_000,
            rounds=6, **SMALL,
        )  # fmt: skip
        same = [o for o in again.outcomes if o.choice == planned.best.choice]
        assert same
        assert s.outcome.objective == pytest.approx(same[0].objective, rel=1e-2)


def test_impossible_constraints_get_the_closest():
    found = plan(opposed(), kl=1e-6, variance=5.0, rounds=3, **SMALL)
    assert found.best is None
    assert found.closest.missed
    assert found.closest.exact
    assert found.sensitivity == ()


def test_plans_for_the_limit_use_limits():
    few = SMALL | {"k": (2, 8), "real_fraction": (0.0, 0.2)}
    found = plan(opposed(400), floor=0.1, rounds=None, refine=False, **few)
    best = found.best
    c = best.choice
    rewards = opposed(400)
    end = limit(rewards, c.weights, k=c.k, real_fraction=c.real_fraction)
    np.testing.assert_allclose(best.rewards, end.law @ rewards, atol=1e-6)
    assert best.settles


def test_objectives_differ():
    rewards = opposed() + np.array([0.0, -1.0])
    by = {
        o: plan(rewards, maximise=o, rounds=4, refine=False, **SMALL).best
        for o in ("reward", "nash", "worst")
    }
    assert by["worst"].objective == pytest.approx(min(by["worst"].rewards))
    assert by["reward"].objective == pytest.approx(np.mean(by["reward"].rewards))
    assert by["worst"].objective >= min(by["reward"].rewards) - 1e-9
    weighted = plan(rewards, importance=[1.0, 0.0], rounds=4, refine=False, **SMALL).best
    assert weighted.choice.weights == (0.7, 0.3)


def test_one_reward_and_real_data_of_its_own():
    rng = np.random.default_rng(3)
    rewards, real = rng.normal(size=2000), rng.normal(-0.5, 1, size=1000)
    free = plan(rewards, rounds=5, reference=real)
    assert free.best.choice.weights == (1.0,)
    assert free.best.choice.k == 32
    assert free.best.choice.real_fraction == 0.0
    # Between the laws of rewards, in regions of the real data's, as forecasts tell it.
    held = plan(rewards, rounds=5, reference=real, kl=0.5)
    c = held.best.choice
    found = forecast(rewards, k=c.k, rounds=5, real_fraction=c.real_fraction, reference=real).trajectory
    last = found.values("kl_to_reference")[-1]
    assert held.best.kl <= 0.5
    assert held.best.kl == pytest.approx(last, abs=0.1)  # the forecast takes off its sampling bias
    assert held.best.objective < free.best.objective


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"floor": 0.6}, "sum to more than one"),
        ({"entropy": 2.0}, "entropy"),
        ({"kl": -1.0}, "number >= 0"),
        ({"maximise": "profit"}, "objective"),
        ({"rounds": 0}, "rounds"),
        ({"k": (2.5,)}, "whole numbers"),
        ({"real_fraction": (1.0,)}, "real fractions"),
        ({"weights": [(0.5, 0.6)]}, "sum"),
        ({"temperature": (0.0,)}, "positive"),
        ({"k": ()}, "nothing to choose"),
        ({"group": ["a"] * 2999}, "label"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(InputError, match=words):
        plan(opposed(), **{**SMALL, **options})


def test_constant_rewards_and_empty_groups():
    with pytest.raises(InputError, match="constant"):
        plan(np.ones((100, 2)))
    with pytest.raises(InputError, match="no members"):
        plan(np.column_stack([np.arange(100.0), np.arange(100.0)]))


def test_compression_is_close_and_says_how_close():
    rewards = opposed(30_000)
    groups = favourites(rewards, rewards.max(axis=0))
    whole = Atoms.of(rewards, groups, 2)
    small = whole.coarsened()
    before, after = whole.population.law, small.population.law
    assert after.size < 5000
    assert after.sum() == pytest.approx(1)
    np.testing.assert_allclose(after @ small.population.rewards, before @ rewards, atol=1e-12)
    np.testing.assert_allclose(after @ small.squares, before @ whole.squares, atol=1e-12)
    np.testing.assert_allclose(after @ small.members, before @ whole.members, atol=1e-12)
    found = plan(rewards, rounds=5, refine=False, **SMALL)
    assert 0 < found.error < 0.005


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two rewards of 2,000 candidates; the grids of the phase diagrams have few points: each is a limit."""
    monkeypatch.setattr(ends, "MOST_FRONT", 8)
    monkeypatch.setattr(ends, "PHASE_KS", (2, 8))
    monkeypatch.setattr(ends, "PHASE_WEIGHTS", (0.3, 0.5))
    monkeypatch.setattr(ends, "PHASE_REAL", (0.0, 0.2))
    monkeypatch.setattr(ends, "SPREAD", 20)
    rewards = opposed(2000)
    pq.write_table(pa.table({"a": rewards[:, 0], "b": rewards[:, 1]}), tmp_path / "two.parquet")


def test_plan_command(two, tmp_path):
    done = call(
        "plan", "two.parquet", "--reward", "a", "--reward", "b", "--maximise", "nash", "--floor", 0.2,
        "--budget", 60_000, "--kl", 1.5, "--rounds", 6, "--k", "2,4,8", "--real-fraction", "0,0.2,0.5",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in (
        "The plan",
        "What binds",
        "Objective against diversity",
        "Who survives",
        "phase",
        "off by 10 %",
    ):
        assert words.lower() in done.stdout.lower() or words == "phase"
    facts = json.loads((tmp_path / "two-plan" / "plan.json").read_text())
    assert facts["feasible"]
    assert min(facts["best"]["shares"]) >= 0.2
    assert len(facts["survivors"]) == 2
    page = (tmp_path / "two-plan" / "report.html").read_text()
    assert "limit, by K and weight" in page
    assert "limit, by K and real fraction" in page


def test_impossible_on_the_command_line(two, tmp_path):
    done = call(
        "plan", "two.parquet", "--reward", "a", "--reward", "b", "--kl", "1e-9", "--variance", 9,
        "--rounds", 2, "--k", "2", "--real-fraction", "0,0.1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "impossible" in done.stdout.lower()
    assert "closest" in done.stdout.lower()


@pytest.mark.parametrize(
    "options",
    [
        ("--floor", "0.7"),
        ("--rounds", "soon"),
        ("--maximise", "profit"),
        ("--k", "many"),
        ("--weights", "0.5,0.6"),
        ("--reward", "c"),
        ("--group", "nowhere"),
    ],
)
def test_bad_options(two, tmp_path, options):
    refused(call("plan", "two.parquet", "--reward", "a", "--reward", "b", *options, cwd=tmp_path))


# --- a folder's own rule --------------------------------------------------------------------------

TINY = ("--k", 2, "--real-fraction", 0, "--rounds", 1)


def planned_temperature(folder):
    """Return the temperature of the best setting of a plan."""
    return json.loads((folder / "plan.json").read_text())["best"]["choice"]["temperature"]


@pytest.fixture
def folder_of_fit(tmp_path):
    """Return a function that writes the folder of a fit with given settings."""

    def write(**settings):
        folder = tmp_path / "x-fit"
        folder.mkdir()
        (folder / "fit.json").write_text(json.dumps({"settings": settings}))
        rewards = np.random.default_rng(53).normal(size=100)
        write_log(as_log(pa.table({"reward": rewards})), folder / "log.parquet")
        return folder.name

    return write


def test_a_run_s_rule_and_temperature_are_taken(tmp_path):
    changes = {
        "rounds": 1,
        "generator": {"kind": "kde"},
        "rewards": [{"kind": "distance", "centre": [2.0, 0.0]}],
        "selection": {"k": 2, "picks": 50, "temperature": 0.5, "noise": "gaussian", "lapse": 0.1},
        "measures": {"features": []},
    }
    run(parse_config({**GAUSSIANS, **changes}), tmp_path / "run")
    done = call("plan", "run", *TINY, "--out", "own", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lead = "Thurstone's rule at temperature 0.5, one of 2, with 10.0 % of slates judged at random"
    assert " ".join(done.stdout.split()).startswith(f"rule: {lead}, by the folder's settings")
    assert lead in json.loads((tmp_path / "own" / "plan.json").read_text())["rule"]["statement"]
    assert planned_temperature(tmp_path / "own") == 0.5


def test_a_fit_s_temperature_is_taken_unless_another_is_given(folder_of_fit, tmp_path):
    folder = folder_of_fit(temperature=0.25, noise="gumbel", lapse=0.0)
    for options, temperature in (((), 0.25), (("--temperature", 2), 2.0)):
        done = call("plan", folder, *TINY, *options, "--out", "own", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "rule: Luce's rule at temperature" in done.stdout
        assert planned_temperature(tmp_path / "own") == temperature


@pytest.mark.parametrize(
    ("settings", "lead"),
    [
        ({"noise": "none"}, "best of 4"),
        ({"noise": "gumbel", "lapse": 0.05}, "one of 4, with 5.0 % of slates judged at random"),
    ],
)
def test_a_fit_s_rule_is_taken(settings, lead, folder_of_fit, tmp_path):
    done = call("plan", folder_of_fit(**settings), *TINY, "--out", "own", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{lead}, by the folder's settings" in " ".join(done.stdout.split())
    assert planned_temperature(tmp_path / "own") == 1.0


def test_both_spellings_of_the_objective():
    few = {"rounds": 1, "k": (2,), "real_fraction": (0.0,), "weights": [(0.5, 0.5)], "refine": False}
    rewards = opposed(200)
    found = {s: plan(rewards, **{s: "worst"}, **few).best.objective for s in ("maximise", "maximize")}
    assert found["maximise"] == found["maximize"] != plan(rewards, **few).best.objective
    with pytest.raises(InputError, match="maximise and maximize are one option"):
        plan(rewards, maximise="worst", maximize="nash", **few)
