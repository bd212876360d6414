"""One odd item, column or score does not stop a fit, verdicts agree with their tables, and remedies work."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from helpers.picking import draw
from recurate.choices.checks.held_out import RuleScore
from recurate.choices.checks.score_tests import Check
from recurate.choices.checks.verdict import Fitted, judge
from recurate.choices.models.latent_classes import ClassFit
from recurate.cli import app
from recurate.core.errors import InputError
from recurate.rules.families import Family
from recurate.verbs.fit.python import fit
from recurate.verbs.forecast.python import forecast

pytestmark = pytest.mark.usefixtures("few_replicates")


def table_of(picked, k, **columns):
    """Return one row a candidate; columns of (slates, k) or of one value a slate."""
    n = len(picked)
    flat = {name: np.asarray(v) for name, v in columns.items()}
    return {
        "slate": np.repeat(np.arange(n), k),
        "slot": np.tile(np.arange(k), n),
        "picked": (np.arange(k) == np.asarray(picked)[:, None]).ravel(),
        **{name: v.ravel() if v.ndim == 2 else np.repeat(v, k) for name, v in flat.items()},
    }


def best_table(seed, slates=60, k=4, lapses=0, name="reward"):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(slates, k))
    picked = scores.argmax(axis=1)
    picked[:lapses] = scores[:lapses].argmin(axis=1)
    return table_of(picked, k, **{name: scores})


def run(folder, command):
    """Run a command line of recurate in a folder and return what it printed."""
    words = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, done.output
    return done.output


# --- best of K ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lapses", "name"), [(0, "reward"), (0, "score"), (1, "score")])
def test_best_of_k_is_a_verdict_whose_commands_work(tmp_path, lapses, name):
    pq.write_table(pa.table(best_table(1, lapses=lapses, name=name)), tmp_path / "log.parquet")
    said = " ".join(run(tmp_path, "recurate fit log.parquet").split())
    assert "best of 4" in said
    assert ("nothing to fit" in said) == (lapses == 0)
    command = re.search(
        r"To forecast: (recurate forecast log.parquet .*--noise none(?: --lapse [\d.]+)?)", said
    )
    assert command is not None
    run(tmp_path, command[1] + " --rounds 1 --out a")
    run(tmp_path, "recurate forecast log-fit --rounds 1 --out b")
    ends = [pq.read_table(tmp_path / n / "trajectory.parquet").to_pylist() for n in "ab"]
    gains = []
    for rows in ends:
        means = [r["value"] for r in rows if r["quantity"] == "mean_reward" and r["source"] == "forecast"]
        gains.append(means[1] - means[0])
    assert gains[0] > 0.5
    if not lapses:  # else the fit's rewards are in units of their own
        assert gains[0] == pytest.approx(gains[1], abs=1e-12)


def test_best_of_k_carries_the_score():
    table = best_table(2)
    found = fit(table)
    assert found.verdict.sentence == (
        "Every pick is the best of its slate by reward, in all 60 slates: best of 4; nothing to fit."
    )
    assert found.settings() == {"temperature": 1.0, "noise": "none", "lapse": 0.0}
    np.testing.assert_array_equal(found.rewards[:, 0], table["reward"])
    assert "To forecast: recurate forecast LOG --noise none" in found.summary
    assert not [w for w in found.warnings if "random picks" in w]
    assert [w for w in fit(best_table(2, slates=4)).warnings if "random picks would all be the best" in w]


def test_picks_of_the_lowest_feature_are_best_of_k_by_its_negative():
    table = best_table(3, name="price")
    table["price"] = -table["price"]
    found = fit(table)
    assert "by minus price" in found.verdict.sentence
    np.testing.assert_array_equal(found.rewards[:, 0], -table["price"])


def test_a_score_that_is_avoided_is_a_warning():
    rng = np.random.default_rng(4)
    ranks = rng.permuted(np.tile(np.arange(1.0, 4), (150, 1)), axis=1)
    found = fit(table_of(draw(-ranks, rng), 3, score=ranks))
    assert found.temperature is None
    (line,) = [w for w in found.warnings if w.startswith("lower values of score are picked (z = -")]
    assert line.endswith("say so with --rank COLUMN if 1 is the best")
    text = str([s.text for s in found.sections])
    assert "inf" not in text.replace("information", "")


# --- verdicts -------------------------------------------------------------------------------------


def score(name, gain, reach=0.01):
    return RuleScore(name, -1 + gain, gain, (gain - reach, gain + reach))


def test_chance_needs_a_likelihood_ratio_that_agrees():
    checks = [Check("iia", "IIA", p=0.5, corrected=0.5)]
    rules = [score(Family.LUCE, 0, 0), score(Family.UNIFORM, -0.001)]
    found = judge(checks, rules, Fitted(240, 5, 1.5e-11))
    assert found.sentence == (
        "Too few slates to tell the rules apart; but the rewards matter (likelihood ratio p = 1.5e-11)."
    )
    assert judge(checks, rules, Fitted(240, 5, 1e-300)).sentence.endswith("(likelihood ratio p < 1e-12).")
    assert "cannot be distinguished" in judge(checks, rules, Fitted(240, 5, 0.2)).sentence
    worse = judge(checks, [score(Family.LUCE, 0, 0), score(Family.UNIFORM, 0.1)], Fitted(60, 25, 0.001))
    assert worse.sentence.startswith("Too few slates for so many coefficients (60 and 25)")
    assert "--shrinkage 1" in worse.implies[0]


def test_advice_names_only_what_was_fitted():
    checks = [Check("choosers", "Choosers", p=1e-9, corrected=1e-9)]
    rules = [score(Family.LUCE, 0, 0), score(Family.LAPSE, 0.1), score(Family.UNIFORM, -1)]
    alone, lapse = judge(checks, rules, Fitted(groups=1)).implies
    assert "fit preference groups (--groups 2)" in alone
    assert "fitted lapse share" in lapse
    grouped, lapse = judge(checks, rules, Fitted(groups=2)).implies
    assert "the fitted groups" in grouped
    assert "--groups none" in lapse


def test_nothing_fitted_is_said_and_not_forecast_from(tmp_path):
    rng = np.random.default_rng(5)
    texts = np.array(
        [[f"text {i} {j} " + "x" * int(rng.integers(0, 9)) for j in range(2)] for i in range(70)]
    )
    pq.write_table(pa.table(table_of(rng.integers(0, 2, 70), 2, output=texts)), tmp_path / "log.parquet")
    said = " ".join(run(tmp_path, "recurate fit log.parquet").split())
    assert "No rewards were fitted: nothing describes the candidates but their place." in said
    assert "Luce's model holds" not in said
    assert "recurate forecast" not in said
    with pytest.raises(InputError, match="this fit has no rewards"):
        forecast(tmp_path / "log-fit")
    run(tmp_path, "recurate fit log.parquet --feature characters:output --out again")  # the remedy
    forecast(tmp_path / "again", rounds=1)


def test_most_slates_left_out_is_said_first():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(150, 3))
    table = table_of(draw(x, rng), 3, price=x)
    table["price"] = [None if i < 300 else v for i, v in enumerate(table["price"])]
    found = fit(table)
    assert found.summary.startswith("Only 50 of 150 slates could be used")


def test_intervals_of_weights_are_shares():
    one = np.array([[1.0, 0.0], [0.0, 1.0]])
    groups = ClassFit(
        ("a", "b"), np.array([0.97, 0.03]), one, np.eye(5) * 0.9, None, -1.0, -2.0, one, 0.0, 1, (), 1, 2, 2,
        True,
    )  # fmt: skip
    low, high = groups.weight_intervals.T
    assert ((low > 0) & (low < groups.weights)).all()
    assert ((high < 1) & (high > groups.weights)).all()
    np.testing.assert_allclose(low, 1 - high[::-1], atol=1e-12)
    assert np.any(groups.weights + 1.96 * groups.weight_errors > 1)  # a symmetric one leaves [0, 1]


# --- whole commands -------------------------------------------------------------------------------


def test_a_newcomer_a_tie_that_never_won_and_a_self_battle(tmp_path):
    """Without ties, yew never won: Luce's tests use the rewards that were fitted with ties."""
    rng = np.random.default_rng(7)
    worth = {"ash": 0.5, "elm": 0.0, "fir": -0.4}
    rows = []
    for _ in range(90):
        a, b = rng.permutation(list(worth))[:2]
        rows.append((a, b, a if rng.random() < 1 / (1 + np.exp(worth[b] - worth[a])) else b))
    rows += [("pine", "ash", "pine"), ("elm", "elm", "tie")]
    rows += [("yew", "ash", "ash"), ("yew", "elm", "tie"), ("yew", "fir", "tie")]
    a, b, _ = (list(c) for c in zip(*rows, strict=True))
    picked = [[w in (x, "tie"), w in (y, "tie")] for x, y, w in rows]
    table = {
        "slate": np.repeat(np.arange(len(rows)), 2),
        "item": np.column_stack([a, b]).ravel(),
        "picked": np.array(picked).ravel(),
    }
    found = fit(table)
    assert set(found.items.names) == {*worth, "yew"}
    assert found.items.tie_log_odds is not None
    assert found.reading.tied.sum() == 2  # self-battles are no ties
    assert "pine won its only comparison" in found.warnings[0]
    assert found.checks
    assert {e.slates for e in found.reading.exclusions} == {1}
    kept = fit(table, shrinkage=1.0)
    assert "pine" in kept.items.names


def test_shrinkage_and_groups_have_a_remedy_that_works():
    table = best_table(8, slates=80, name="price")
    table["person"] = np.repeat(np.arange(80) % 20, 4)
    table["size"] = np.random.default_rng(9).normal(size=320)
    with pytest.raises(InputError, match="--groups none"):
        fit(table, groups=2, shrinkage=1.0, chooser="person")
    fit(table, groups=0, shrinkage=1.0, chooser="person")
