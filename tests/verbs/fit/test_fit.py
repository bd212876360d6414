"""Whole fits of simulated picks: what was planted is recovered, what is written can be forecast from."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from helpers.picking import bounds, draw
from recurate.choices import NoEstimate, conditional_logit
from recurate.choices.checks.held_out import LEAST_GAIN, SURE_GAIN, ClassScore, RuleScore
from recurate.choices.checks.score_tests import Check
from recurate.choices.checks.verdict import IMPLIES, TESTS_LEVEL, judge
from recurate.choices.from_slates import read_choices
from recurate.core.errors import InputError
from recurate.core.plain import plain
from recurate.core.tables import write_table
from recurate.log.reading.slates import Wanted
from recurate.log.reading.understand import guess
from recurate.log.schema import as_log, read_log
from recurate.rules.families import Family
from recurate.verbs.fit.files import facts_of, log_columns, scored_table
from recurate.verbs.fit.fit import FitOptions, _doubts, fit_log
from recurate.verbs.fit.report import fit_result
from recurate.verbs.forecast.python import forecast

pytestmark = pytest.mark.usefixtures("few_replicates")

PLAIN = FitOptions(classes=0)


def long_table(picked, k, **columns):
    """Return one row a candidate; columns of (slates, k) or of one value a slate."""
    n = len(picked)
    flat = {name: np.asarray(v) for name, v in columns.items()}
    return pa.table(
        {
            "slate": np.repeat(np.arange(n), k),
            "picked": (np.arange(k) == picked[:, None]).ravel(),
            **{name: v.ravel() if v.shape == (n, k) else np.repeat(v, k) for name, v in flat.items()},
        }
    )


def score_table(rng, *, slates=400, k=4, temperature=1.0, people=None, **rule):
    """Return picks by scores at a temperature."""
    scores = rng.normal(size=(slates, k))
    picked = draw(scores / temperature, rng, **rule)
    who = {} if people is None else {"chooser": [f"u{i % people}" for i in range(slates)]}
    return long_table(picked, k, score=scores, **who)


def fit_table(tmp_path, table, options=None, name="picks.parquet"):
    write_table(table, tmp_path / name)
    return fit_log(tmp_path / name, options)


def two_camps(rng, *, people=60, each=30, k=3):
    """Return picks of people of whom 60 % want the feature a and the others b."""
    x = rng.normal(size=(people * each, k, 2))
    who = np.arange(people * each) % people
    tastes = np.where((who < 0.6 * people)[:, None], [2.0, 0.0], [0.0, 2.0])
    picked = draw((x * tastes[:, None]).sum(axis=2), rng)
    return long_table(picked, k, a=x[..., 0], b=x[..., 1], user=[f"u{w}" for w in who])


def round_trip(found, folder):
    """Write a fit, read its log and facts, and check what must hold of any."""
    fit_result(found, "picks").save(folder)
    log = read_log(folder)
    rewards = log.reward_matrix()
    np.testing.assert_array_equal(rewards, found.rewards)
    np.testing.assert_allclose(rewards.mean(axis=0), 0, atol=1e-9)
    assert len(log.rewards) == len(found.weights)
    assert math.fsum(found.weights) == pytest.approx(1, abs=1e-12)
    text = (folder / "fit.json").read_text()
    facts = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert facts["settings"] == found.settings()
    assert facts.items() >= json.loads(json.dumps(plain(facts_of(found)), allow_nan=False)).items()
    return log, facts


# --- what was planted is recovered ----------------------------------------------------------------

SEEDS = 24


@pytest.mark.slow
def test_intervals_of_a_temperature_cover_it(tmp_path):
    covered = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(1000 + seed)
        found = fit_table(tmp_path, score_table(rng, slates=250, temperature=2.0), PLAIN)
        value, low, high = found.temperature
        assert low < value < high
        covered += low <= 2.0 <= high
        assert (
            abs(found.logit.coefficients[0] - 0.5) < 5 * found.logit.errors[0]
        )  # false alarm 2e-5 over all seeds
    low, high = bounds(SEEDS, 0.95, 1e-3)  # a right program fails once in a thousand choices of seeds
    assert low <= covered <= high


def test_a_score_that_is_not_used_has_no_temperature(tmp_path):
    rng = np.random.default_rng(3)
    table = long_table(rng.integers(0, 3, 300), 3, score=rng.normal(size=(300, 3)))
    found = fit_table(tmp_path, table, PLAIN)
    if found.logit.coefficients[0] > 0:
        value, low, high = found.temperature
        assert 0 < low <= value < high == math.inf
    else:
        assert found.temperature is None
        assert any("it has no temperature" in w for w in found.warnings)


def test_features(tmp_path):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(1500, 4, 2))
    beta = np.array([1.0, -0.7])
    found = fit_table(tmp_path, long_table(draw(x @ beta, rng), 4, price=x[..., 0], size=x[..., 1]), PLAIN)
    assert found.reading.model == "features"
    assert found.temperature is None
    assert found.logit.names == ("price", "size")
    assert np.all(np.abs(found.logit.coefficients - beta) < 5 * found.logit.errors)  # false alarm 1e-6
    assert found.verdict.holds
    assert found.verdict.rule == Family.LUCE
    assert found.settings() == {"temperature": 1.0}
    utilities = x.reshape(-1, 2) @ found.logit.coefficients
    np.testing.assert_allclose(found.rewards[:, 0], utilities - utilities.mean(), atol=1e-12)
    assert [r.name for r in found.rules] == [
        Family.LUCE,
        Family.LAPSE,
        Family.THURSTONE,
        Family.BEST,
        Family.UNIFORM,
    ]


@pytest.mark.parametrize("count", [8, 60])
def test_items(tmp_path, count):
    rng = np.random.default_rng(count)
    worth = np.linspace(-1.5, 1.5, count)
    shown = np.array([rng.permutation(count)[:3] for _ in range(3000)])
    names = np.array([f"m{i:02d}" for i in range(count)])
    table = long_table(draw(worth[shown], rng), 3, item=names[shown])
    found = fit_table(tmp_path, table, FitOptions(classes=0, wanted=Wanted(model="items")))
    assert found.reading.model == "items"
    errors = found.items.rewards - found.items.rewards.mean() - worth
    assert np.abs(errors / found.items.standard_errors).max() < 5  # false alarm below 1e-4 over 68 items
    by_item = dict(zip(found.items.names, found.items.rewards, strict=True))
    rewards = np.array([by_item[n] for n in names[shown].ravel()])
    np.testing.assert_allclose(found.rewards[:, 0], rewards - rewards.mean(), atol=1e-9)
    assert (found.logit is None) == (count > 40)
    if found.logit is not None:  # the same as indicators of items
        np.testing.assert_allclose(
            found.logit.coefficients, found.items.rewards[1:] - found.items.rewards[0], atol=1e-5
        )
    round_trip(found, tmp_path / "fit")


def davidson(rng, gaps, log_odds):
    """Return 0, 1 or 2 (a tie) for gaps of utility: a tie has odds exp(log_odds + (u + v) / 2)."""
    logs = np.column_stack([gaps, np.zeros(gaps.size), log_odds + gaps / 2])
    return np.argmax(logs + rng.gumbel(size=logs.shape), axis=1)


@pytest.mark.parametrize("ties", ["davidson", "half", "drop"])
def test_pairs_with_ties(tmp_path, ties):
    rng = np.random.default_rng(6)
    worth = np.array([-1.0, -0.3, 0.3, 1.0])
    shown = np.array([rng.permutation(4)[:2] for _ in range(3000)])
    outcome = davidson(rng, worth[shown[:, 0]] - worth[shown[:, 1]], -0.4)
    words = np.array(["model_a", "model_b", "tie"])[outcome]
    names = np.array(list("wxyz"))
    table = pa.table({"model_a": names[shown[:, 0]], "model_b": names[shown[:, 1]], "winner": words})
    found = fit_table(tmp_path, table, FitOptions(classes=0, wanted=Wanted(ties=ties)), "arena.jsonl")
    assert found.reading.facts["ties"] == int((outcome == 2).sum())
    rewards = found.items.rewards - found.items.rewards.mean()
    if ties == "half":  # which pulls rewards together
        assert np.all(np.diff(rewards) > 0)
        assert np.ptp(rewards) < 2.0
    else:  # a win given that it is no tie has Luce's odds
        assert np.abs((rewards - worth) / found.items.standard_errors).max() < 5  # false alarm 3e-6
    if ties == "davidson":
        assert found.items.tie_log_odds == pytest.approx(-0.4, abs=0.25)  # its standard error is about 0.05
    log, _ = round_trip(found, tmp_path / "fit")
    sides = np.asarray(log.column("picked")).reshape(-1, 2)
    assert sides.tolist() == [[o == 0, o == 1] for o in outcome]  # none where they are tied


def test_pairs_with_ties_and_features(tmp_path):
    rng = np.random.default_rng(16)
    x = rng.normal(size=(2000, 2))
    outcome = davidson(rng, x[:, 0] - x[:, 1], -0.4)
    table = pa.table({"x1": x[:, 0], "x2": x[:, 1], "winner": np.array(["1", "2", "tie"])[outcome]})
    found = fit_table(tmp_path, table, PLAIN)
    assert found.logit.names == ("x", "tie")
    assert np.abs((found.logit.coefficients - [1.0, -0.4]) / found.logit.errors).max() < 5  # false alarm 1e-6
    assert found.rewards.shape == (4000, 1)
    round_trip(found, tmp_path / "fit")


def test_positions_alone(tmp_path):
    rng = np.random.default_rng(7)
    n = 1500
    picked = draw(np.tile([0.8, 0.0, 0.0], (n, 1)), rng)
    items = np.array([f"i{i}" for i in range(3 * n)]).reshape(n, 3)
    found = fit_table(tmp_path, long_table(picked, 3, item=items, slot=np.tile(np.arange(3), (n, 1))))
    assert found.reading.model == "positions"
    assert found.logit is None
    assert found.groups is None
    assert found.rules == ()
    assert not found.rewards.any()
    np.testing.assert_allclose(found.positions.coefficients, [-0.8, -0.8], atol=5 * 0.075)  # 5 errors
    assert found.verdict.holds is None
    assert found.verdict.sentence.startswith("No rewards were fitted")
    assert any("only the places of candidates are known" in w for w in found.warnings)
    _, facts = round_trip(found, tmp_path / "fit")
    assert [row["name"] for row in facts["positions"]] == ["place 2", "place 3"]


def test_a_fit_s_folder_is_read_again(tmp_path):
    found = fit_table(tmp_path, score_table(np.random.default_rng(8), slates=300, temperature=2.0), PLAIN)
    fit_result(found, "picks").save(tmp_path / "fit")
    again = fit_log(tmp_path / "fit", FitOptions(classes=0, wanted=Wanted(scores=("reward",))))
    assert again.reading.choices.names == ("reward",)
    value, low, high = again.temperature
    assert value == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose([low, high], np.array(found.temperature[1:]) / found.temperature[0], rtol=1e-5)


def test_few_slates_and_steps_are_told(tmp_path):
    said = []
    write_table(score_table(np.random.default_rng(9), slates=80), tmp_path / "a.csv")
    found = fit_log(tmp_path / "a.csv", None, said.append)
    assert said[:2] == ["reading", "fitting 80 picks"]
    assert any(w.startswith("with 80 slates") for w in found.warnings)
    assert found.rules == ()
    assert found.class_scores == ()
    plain(facts_of(found))


def test_items_that_never_recur_are_refused(tmp_path):
    table = long_table(np.array([0, 1, 0, 1]), 2, item=np.array(list("abcdefgh")).reshape(4, 2))
    with pytest.raises(InputError, match="no item occurs twice"):
        fit_table(tmp_path, table, FitOptions(wanted=Wanted(model="items")))


def test_picks_without_an_estimate_are_refused_and_shrinkage_makes_one_exist(tmp_path):
    x = np.random.default_rng(15).normal(size=(150, 3))
    table = long_table(x.argmax(axis=1), 3, x=x)  # always the largest: any larger coefficient fits better
    assert fit_table(tmp_path, table, PLAIN).verdict.rule == Family.BEST
    other = np.random.default_rng(16).normal(size=(150, 3))
    with pytest.raises(NoEstimate, match="--score x; or set a shrinkage"):
        fit_table(tmp_path, long_table(x.argmax(axis=1), 3, x=x, y=other), PLAIN)
    found = fit_table(tmp_path, table, FitOptions(classes=0, shrinkage=1.0))
    assert found.logit.coefficients[0] > 0
    assert any("rival rules were not compared" in w for w in found.warnings)
    round_trip(found, tmp_path / "fit")


def test_a_fit_is_the_same_twice(tmp_path):
    table = two_camps(np.random.default_rng(17), people=30, each=10)
    first, second = (fit_table(tmp_path, table, FitOptions(starts=2)) for _ in range(2))
    assert plain(facts_of(first)) == plain(facts_of(second))
    np.testing.assert_array_equal(first.rewards, second.rewards)


# --- groups ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def camps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camps")
    table = two_camps(np.random.default_rng(10))
    return {n: fit_table(folder, table, FitOptions(classes=n, starts=4)) for n in (None, 0, 3)} | {
        "folder": folder
    }


def test_two_planted_groups_are_found(camps):
    found = camps[None]
    assert found.groups.classes == 2
    assert len(found.class_scores) == 3  # the third does not help
    order = np.argsort(-found.groups.coefficients[:, 0])
    np.testing.assert_allclose(found.groups.coefficients[order], [[2, 0], [0, 2]], atol=0.4)  # 5 errors
    np.testing.assert_allclose(found.groups.weights[order], [0.6, 0.4], atol=0.02)  # 36 and 24 of 60
    settings = found.settings()
    assert math.fsum(settings["weights"]) == pytest.approx(1, abs=1e-12)
    assert settings["temperature"] == 1
    assert found.rewards.shape[1] == 2
    # One set of rewards fails; within the groups, which are forecast, Luce's model holds.
    assert next(c for c in found.checks if c.name == "choosers").corrected < 1e-6
    assert found.within.share > 0.95
    assert found.verdict.holds
    assert found.verdict.sentence.startswith("Choosers differ: within the 2 groups these picks do not reject")
    assert found.verdict.implies == ("forecast with the fitted groups and their weights at temperature 1",)


@pytest.mark.parametrize("classes", [0, 3])
def test_as_many_groups_as_asked_for(camps, classes):
    found = camps[classes]
    assert (0 if found.groups is None else found.groups.classes) == classes
    assert found.class_scores == ()
    assert found.rewards.shape[1] == max(classes, 1)
    assert ("weights" in found.settings()) == (classes == 3)
    assert math.fsum(found.weights) == pytest.approx(1, abs=1e-12)


def test_groups_are_forecast_from_the_fit_s_folder(camps):
    found, folder = camps[None], camps["folder"] / "fit"
    log, facts = round_trip(found, folder)
    assert log.rewards == ("reward_1", "reward_2")
    assert [g["weight"] for g in facts["groups"]] == list(found.weights)
    result = forecast(folder, rounds=3)
    np.testing.assert_allclose(result.setting.weights, found.weights)
    assert result.setting.temperature == 1
    even = forecast(folder, weights=[0.5, 0.5], rounds=3)
    assert even.setting.weights == pytest.approx((0.5, 0.5))

    def rise(forecast, reward):
        rows = [r for r in forecast.trajectory.rows if r.quantity == "mean_reward" and r.reward == reward]
        by_round = {r.round: r.value for r in rows}
        return by_round[3] - by_round[0]

    larger = int(np.argmax(found.weights))
    name = f"reward_{larger + 1}"
    assert rise(result, name) > rise(even, name) > 0  # the fitted weights favour the larger camp


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("slates", [300, 1200])
def test_fitted_rewards_have_temperature_one(tmp_path, slates):
    found = fit_table(
        tmp_path, score_table(np.random.default_rng(slates), slates=slates, temperature=0.6), PLAIN
    )
    assert found.verdict.rule == Family.LUCE
    log, _ = round_trip(found, tmp_path / "fit")
    assert log.rewards == ("reward",)
    assert "score" in log.table.column_names  # what was given stays
    again = read_choices(log.table, guess(log.table, {}), Wanted(scores=("reward",)))
    refit = conditional_logit(again.choices)
    assert refit.coefficients[0] == pytest.approx(1, abs=1e-6)
    assert refit.log_likelihood == pytest.approx(found.logit.log_likelihood, abs=1e-8)
    np.testing.assert_array_equal(again.choices.picked, found.reading.choices.picked)


def test_a_scored_table_keeps_what_was_given_under_other_names(tmp_path):
    rng = np.random.default_rng(12)
    table = score_table(rng, slates=200).rename_columns({"score": "reward"})
    extra = {
        "context": [f"p{i // 8}" for i in range(800)], "round": [i // 400 for i in range(800)],
        "time": np.arange(800), "propensity": np.full(800, 0.25), "note": [None, "n"] * 400,
    }  # fmt: skip
    for name, values in extra.items():
        table = table.append_column(name, pa.array(values))
    found = fit_table(tmp_path, table, PLAIN)
    scored = scored_table(found)
    assert {"reward", "given_reward", "note", "context", "round"} <= set(scored.column_names)
    assert not {"time", "propensity", "result", "source_row"} & set(scored.column_names)
    assert scored["round"].to_pylist() == extra["round"]
    assert scored["context"].to_pylist() == extra["context"]
    assert scored["picked"].to_pylist() == table["picked"].to_pylist()
    np.testing.assert_array_equal(scored["given_reward"], table["reward"])
    log = as_log(scored, rewards=["reward"])
    assert log.rewards == ("reward",)
    with pytest.raises(InputError, match="--out names a file"):
        fit_result(found, "picks").save(tmp_path / "picks.parquet")


def test_rankings_are_written_with_their_best(tmp_path):
    rng = np.random.default_rng(13)
    x = rng.normal(size=(300, 4))
    noisy = x + rng.gumbel(size=x.shape)
    ranks = (-noisy).argsort(axis=1).argsort(axis=1) + 1
    ranks[:50][ranks[:50] == 2] = 1  # two best
    table = pa.table({"slate": np.repeat(np.arange(300), 4), "rank": ranks.ravel(), "x": x.ravel()})
    found = fit_table(tmp_path, table, PLAIN)
    assert len(found.reading.choices) == 900
    assert found.logit.coefficients[0] == pytest.approx(1, abs=0.25)
    log, _ = round_trip(found, tmp_path / "fit")
    picked = np.asarray(log.column("picked")).reshape(300, 4)
    np.testing.assert_array_equal(picked[50:], ranks[50:] == 1)
    assert not picked[:50].any()


@pytest.mark.parametrize(
    ("rule", "arguments", "settings"),
    [
        (Family.LAPSE, {"temperature": 0.15, "lapse": 0.3}, {"lapse"}),
        (Family.BEST, {"temperature": 1.0, "noise": "none", "lapse": 0.3}, {"noise", "lapse"}),
    ],
)
def test_a_rule_that_predicts_better_is_handed_on(tmp_path, rule, arguments, settings):
    found = fit_table(tmp_path, score_table(np.random.default_rng(14), slates=2500, **arguments), PLAIN)
    assert not found.verdict.holds
    assert found.verdict.rule == rule
    given = found.settings()
    assert given.keys() == {"temperature"} | settings
    assert given["lapse"] == pytest.approx(0.3, abs=0.07)  # the standard error is about 0.013
    round_trip(found, tmp_path / "fit")
    setting = forecast(tmp_path / "fit", rounds=2).setting
    assert setting.rule.lapse == given["lapse"]
    assert setting.rule.noise.name == given.get("noise", "gumbel")


# --- verdicts -------------------------------------------------------------------------------------


def check(name, corrected, *, main=True):
    return Check(name, name.title(), corrected, corrected, main=main)


def rule(name, gain, reach=0.01):
    return RuleScore(name, -1 + gain, gain, (gain - reach, gain + reach), 1000 * gain)


GOOD = [
    rule(Family.LUCE, 0.0, 0.0),
    rule(Family.LAPSE, 0.0),
    rule(Family.THURSTONE, -0.02),
    rule(Family.BEST, -0.3),
    rule(Family.UNIFORM, -0.4),
]


def test_a_verdict_that_luce_holds():
    found = judge([check("iia", 0.3), check("drift", 0.06)], GOOD)
    assert (found.holds, found.rule) == (True, Family.LUCE)
    assert "tested: iia, drift" in found.sentence
    assert found.implies == ("forecast with the fitted rewards at temperature 1",)


def test_a_verdict_without_tests_says_so():
    for checks in ([], [check("iia", None)], [check("hausman", 0.001, main=False)]):
        found = judge(checks, [])
        assert found.holds
        assert "could not be tested" in found.sentence
        assert found.implies == ()


def test_a_failed_test_refuses_and_says_what_follows():
    found = judge([check("iia", 0.044), check("drift", 1e-9), check("position", 0.9)], GOOD)
    assert (found.holds, found.rule) == (False, Family.LUCE)
    assert "iia (p = 0.044)" in found.sentence
    assert "drift (p < 1e-6)" in found.sentence
    assert "position" not in found.sentence
    assert found.implies == (IMPLIES["iia"], IMPLIES["drift"])
    assert judge([check("iia", TESTS_LEVEL)], GOOD).holds  # the level itself is none
    assert judge([check("hausman", 1e-9, main=False), check("iia", 0.5)], GOOD).holds


@pytest.mark.parametrize(
    ("name", "word"),
    [(Family.LAPSE, "lapse share"), (Family.THURSTONE, "--noise gaussian"), (Family.BEST, "--noise none")],
)
def test_a_better_rule_refuses_and_is_named(name, word):
    rules = [r for r in GOOD if r.name != name] + [rule(name, 0.05)]
    found = judge([check("iia", 0.5)], rules)
    assert (found.holds, found.rule) == (False, name)
    assert f"{name} predicts held-out picks better" in found.sentence
    assert len(found.implies) == 1
    assert word in found.implies[0]


def test_a_rule_at_its_border_or_hardly_better_is_not_better():
    """Luce's rule with a lapse share of zero is Luce's, however surely it gains 2e-17 nats."""
    luce = rule(Family.LUCE, 0.0)
    for rival in (
        RuleScore(Family.LAPSE, -1.0, 2e-17, (1e-17, 3e-17), 100.0),
        RuleScore(Family.LAPSE, -1.0, 0.01, (0.005, 0.015), 100.0, border=True),
        RuleScore(Family.THURSTONE, -1.0, 0.5 * LEAST_GAIN, (0.4 * LEAST_GAIN, 0.6 * LEAST_GAIN), 100.0),
        RuleScore(Family.LAPSE, -1.0, 0.01, (0.005, 0.015), 0.99 * SURE_GAIN),
    ):
        assert judge([check("iia", 0.5)], [luce, rival, rule(Family.UNIFORM, -0.2)]).holds
    better = RuleScore(Family.LAPSE, -1.0, 0.01, (0.005, 0.015), 1.01 * SURE_GAIN)
    assert judge([check("iia", 0.5)], [luce, better, rule(Family.UNIFORM, -1)]).rule == Family.LAPSE
    # Where a test refuses Luce's rule, it is enough to be better.
    named = judge([check("iia", 1e-6)], [luce, replace(better, total=2.0), rule(Family.UNIFORM, -1)])
    assert (named.holds, named.rule) == (False, Family.LAPSE)


@pytest.mark.parametrize(
    ("times", "ranks"),
    [
        ([3, 1, 2], [2, 0, 1]),
        (["10", "9", "9"], [1, 0, 0]),
        (["2026-10-01", "2026-09-30", "2026-10-01"], [1, 0, 1]),
        ([1.0, None, 2.0], None),
        (["3/10/2024", "3/2/2024", "3/2/2024"], None),
    ],
)
def test_times_have_an_order_or_none(times, ranks):
    """Texts sort as texts, 3/10 before 3/2; and a slate without a time is not the earliest."""
    table = {
        "slate": np.repeat(np.arange(3), 2), "time": [t for t in times for _ in range(2)],
        "x": [0.0, 9.0, 1.0, 9.0, 2.0, 9.0], "picked": [True, False] * 3,
    }  # fmt: skip
    made = pa.table(table)
    found = read_choices(made, guess(made, {})).choices
    first = found.features[found.slates.offsets[:-1], 0].astype(int)  # the number of each slate in the file
    assert (found.times is None) == (ranks is None)
    if ranks is not None:
        assert found.times.tolist() == [ranks[s] for s in first]


def test_lapses_within_groups_are_named_there(tmp_path):
    """Two camps, each with lapses: the verdict is about the rule within the groups."""
    rng = np.random.default_rng(31)
    who = np.repeat(np.arange(60), 40)
    x = rng.normal(size=(2400, 4, 2))
    taste = np.where((who < 36)[:, None], [4.0, 0.0], [0.0, 4.0])
    picked = draw(np.einsum("skd,sd->sk", x, taste), rng, lapse=0.15)
    table = {
        "slate": np.repeat(np.arange(2400), 4), "user": np.repeat(who, 4), "a": x[..., 0].ravel(),
        "b": x[..., 1].ravel(), "picked": (np.arange(4) == picked[:, None]).ravel(),
    }  # fmt: skip
    found = fit_log(pa.table(table), FitOptions(classes=2, starts=2))
    assert not found.verdict.holds
    assert found.verdict.sentence.startswith("Choosers differ, and within the 2 groups Luce's model does not")
    assert found.verdict.rule == Family.LAPSE
    assert "lapses predicts held-out picks better" in found.verdict.sentence


@pytest.mark.parametrize(
    ("bics", "most", "said"),
    [
        ([30, 20, 25], 4, []),
        ([20, 30, 40], 4, ["held-out choosers support 2 preference groups, BIC supports 1"]),
        ([30, 20], 2, ["more than 2 preference groups may exist, but no more were tried (--most-groups 4)"]),
    ],
)
def test_doubts_about_the_number_of_groups(bics, most, said):
    scores = [ClassScore(n, -10.0, float(bic), -1.0, 0.1, 0.01) for n, bic in enumerate(bics, 1)]
    assert _doubts(scores, 2, most) == said


def test_the_best_of_several_better_rules_is_named():
    rules = [
        rule(Family.LUCE, 0, 0),
        rule(Family.LAPSE, 0.03),
        rule(Family.THURSTONE, 0.05),
        rule(Family.BEST, 0.2, 0.3),
        rule(Family.UNIFORM, -1),
    ]
    assert judge([], rules).rule == Family.THURSTONE  # best of K gains more, but not beyond chance


@pytest.mark.parametrize(
    "rules",
    [
        [rule(Family.LUCE, 0, 0), rule(Family.UNIFORM, -0.001)],
        [rule(Family.LUCE, 0, 0), rule(Family.UNIFORM, 0.1)],
        [rule(Family.LUCE, 0, 0), rule(Family.LAPSE, 0.5), rule(Family.UNIFORM, 0.1)],
    ],
)
def test_chance_that_predicts_as_well_or_better(rules):
    found = judge([check("iia", 0.5)], rules)
    assert (found.holds, found.rule) == (True, Family.LUCE)
    assert "cannot be distinguished from random" in found.sentence
    assert found.implies == ("there is hardly any selection: a forecast shows little change",)
    failed = judge([check("drift", 1e-9)], rules)  # no chance, but not Luce's rule either
    assert not failed.holds
    assert failed.rule == (Family.UNIFORM if rules[-1].better else Family.LUCE)
    assert failed.implies[0] == IMPLIES["drift"]
    assert ("do not forecast" in failed.implies[-1]) == rules[-1].better


# --- what once went wrong -------------------------------------------------------------------------


def test_two_items_are_tested_at_their_own_rewards(tmp_path):
    """A wins nine of ten: one indicator, whose coefficient is the log odds, not one."""
    picked = (np.random.default_rng(20).random(600) > 0.9).astype(int)
    table = long_table(picked, 2, item=np.tile(["A", "B"], (600, 1)))
    found = fit_table(tmp_path, table, PLAIN)
    odds = float(np.log((picked == 1).sum() / (picked == 0).sum()))
    assert found.logit.coefficients[0] == pytest.approx(odds, abs=1e-4)
    for predicted, observed, *_ in found.calibration:
        assert predicted == pytest.approx(observed, abs=1e-6)


def test_rewards_handed_on_are_those_of_the_rule_that_is_handed_on(tmp_path):
    """With lapses the rewards are those fitted with lapses: Luce's own are flatter, and would lapse twice."""
    table = score_table(np.random.default_rng(21), slates=2500, temperature=0.4, lapse=0.3)
    found = fit_table(tmp_path, table, PLAIN)
    assert found.verdict.rule == Family.LAPSE
    scores = np.asarray(table["score"])
    slope = np.polyfit(scores, found.rewards[:, 0], 1)[0]
    assert slope == pytest.approx(found.lapse.coefficients[0], rel=1e-9)
    assert abs(slope - 2.5) < 5 * found.lapse.standard_errors[0]
    assert found.logit.coefficients[0] < 0.8 * slope


@pytest.mark.slow
def test_rewards_of_items_are_handed_on_in_the_units_of_gaussian_noise(tmp_path):
    rng = np.random.default_rng(22)
    theta = np.linspace(0.0, 4.0, 12)
    items = np.argsort(rng.random((9000, 12)), axis=1)[:, :8]
    picked = draw(theta[items], rng, noise="gaussian")
    names = np.array([f"i{i:02}" for i in range(12)])
    found = fit_table(tmp_path, long_table(picked, 8, item=names[items]), PLAIN)
    assert found.settings() == {"temperature": 1.0, "noise": "gaussian"}
    assert 0.9 < np.polyfit(theta[items].ravel(), found.rewards[:, 0], 1)[0] < 1.1
    assert np.polyfit(theta, found.items.rewards, 1)[0] > 1.2  # Luce's are in other units


def test_shrinkage_makes_a_fit_exist_where_people_are_known(tmp_path):
    table = score_table(np.random.default_rng(23), slates=300, noise="none", people=30)
    assert fit_table(tmp_path, table).verdict.rule == Family.BEST
    found = fit_table(tmp_path, table, FitOptions(shrinkage=1.0))
    assert found.groups is None
    assert any("groups were not fitted" in w for w in found.warnings)
    assert found.logit.coefficients[0] > 1


def test_places_that_decide_are_blamed_although_features_do_not_matter(tmp_path):
    """Nothing that describes candidates predicts picks, which are anything but random."""
    rng = np.random.default_rng(24)
    picked = draw(np.tile([1.5, 0.0, 0.0], (500, 1)), rng)
    table = long_table(picked, 3, x=rng.normal(size=(500, 3)), slot=np.tile(np.arange(3), (500, 1)))
    found = fit_table(tmp_path, table, PLAIN)
    assert not found.verdict.holds
    assert "position bias (p < 1e-6)" in found.verdict.sentence
    assert IMPLIES["position"] in found.verdict.implies


def test_random_picks_are_luces_with_no_rewards(tmp_path):
    """Chance predicts them best, which refuses nothing: the tests alone may, in 5 % of the sets."""
    refused = 0
    for r in range(SEEDS):
        rng = np.random.default_rng([25, r])
        table = long_table(
            rng.integers(0, 3, 150), 3, x=rng.normal(size=(150, 3)), y=rng.normal(size=(150, 3))
        )
        refused += not fit_table(tmp_path, table, PLAIN).verdict.holds
    assert refused <= bounds(SEEDS, 0.07, 1e-4)[1]  # and a rival, which is preferred in 2 % of sets


# --- the log of a fit -------------------------------------------------------------------------------

SHOWN = np.array([np.random.default_rng([8, i]).permutation(4) for i in range(120)])  # trees, best first
TREES = np.array(["ash", "elm", "fir", "oak"])
ORDERS = np.array([row[np.argsort(-(0.4 * row + np.random.default_rng([9, i]).gumbel(size=4)))]
                   for i, row in enumerate(SHOWN)])  # fmt: skip
RANKS = np.array([[o.tolist().index(j) + 1 for j in s] for s, o in zip(SHOWN, ORDERS, strict=True)])
BEST, WORST = (RANKS == 1).argmax(axis=1), (RANKS == 4).argmax(axis=1)
WIDE = {f"item{j + 1}": TREES[SHOWN[:, j]] for j in range(4)}
LONG = {"slate": np.repeat(np.arange(120), 4), "item": TREES[SHOWN.ravel()]}
FORMS = {
    "rank": LONG | {"rank": RANKS.ravel()},
    "rating": LONG | {"rating": 5 - RANKS.ravel()},
    "flags": LONG | {"picked": (RANKS == 1).ravel()},
    "wide ranks": WIDE | {f"rank{j + 1}": RANKS[:, j] for j in range(4)},
    "wide ratings": WIDE | {f"rating{j + 1}": 5 - RANKS[:, j] for j in range(4)},
    "best and worst": WIDE | {"best": BEST + 1, "worst": WORST + 1},
    "text": {"ranking": [" > ".join(TREES[o]) for o in ORDERS]},
    "columns": {f"rank_{j + 1}": TREES[ORDERS[:, j]] for j in range(4)},
    "lists": {"items": TREES[SHOWN].tolist(), "ranks": RANKS.tolist()},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_the_best_of_each_slate_is_picked_in_the_log_of_a_fit(form):
    """Audits, and forecasts from a fit's folder, take the picks from there."""
    table = pa.table(FORMS[form])
    columns = log_columns(read_choices(table, guess(table, {})))
    picked = columns["picked"].reshape(-1, 4)
    assert (picked.sum(axis=1) == 1).all()
    assert columns["item"].reshape(-1, 4)[picked].tolist() == TREES[ORDERS[:, 0]].tolist()
