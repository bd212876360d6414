"""What has no estimate is left out and named, and the estimates of the rest stay as they are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.picking import draw
from recurate.choices import Choices, NoEstimate, item_rewards
from recurate.choices.models.identifiability import regular_features
from recurate.choices.usable import item_slates, usable
from recurate.core.errors import InputError
from recurate.log.reading.slates import Wanted, read_slates
from recurate.log.reading.understand import guess

ITEMS = {"ash": 0.8, "elm": 0.0, "fir": -0.3, "oak": 0.4}


def plain_of(table, **wanted):
    frame = pa.table(table)
    return read_slates(frame, guess(frame, {}), Wanted(**wanted))


def ready(table, ties="davidson", shrinkage=0.0, **wanted):
    return usable(plain_of(table, **wanted), ties, shrinkage)


def battles(rng, count=60):
    """Return (winner, loser) of pairs of items, by Luce's rule."""
    names = list(ITEMS)
    found = []
    for _ in range(count):
        a, b = rng.permutation(names)[:2]
        first = rng.random() < 1 / (1 + np.exp(ITEMS[b] - ITEMS[a]))
        found.append((a, b) if first else (b, a))
    return found


def pairs(won):
    """Return one row per candidate; a tie is a pair (a, b, True), in which both are picked."""
    return {
        "slate": np.repeat(np.arange(len(won)), 2),
        "item": [name for battle in won for name in battle[:2]],
        "picked": [v for battle in won for v in (True, len(battle) > 2)],
    }


def rewards_of(table, **options):
    """Return the fitted rewards of the kept items, by name."""
    found = ready(table, model="items", **options)
    codes, slates, picked, tied = item_slates(found.reading)
    fit = item_rewards(
        codes, picked, offsets=slates.offsets, names=found.reading.strict.item_names, ties=tied,
        weights=found.reading.choices.weights, shrinkage=options.get("shrinkage", 0.0),
    )  # fmt: skip
    return dict(zip(fit.names, fit.rewards, strict=True)), found


def same(a, b):
    assert a.keys() == b.keys()
    np.testing.assert_allclose([a[n] for n in a], [b[n] for n in a], rtol=0, atol=1e-8)


# --- items ----------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_others_change_nothing(seed, count):
    """Self-battles, newcomers that only won or lost, and a part of their own leave the others as they are."""
    rng = np.random.default_rng(seed)
    won = battles(rng)
    alone, _ = rewards_of(pairs(won))
    extra = [("oak", "oak", True)[: int(rng.integers(2, 4))] for _ in range(count)]
    extra += [("pine", name) for name in rng.permutation(list(ITEMS))[:count]]
    extra += [(name, "yew") for name in rng.permutation(list(ITEMS))[:count]]
    extra += [("box", "may"), ("may", "box")]
    mixed = [won[i] if i < len(won) else extra[i - len(won)] for i in rng.permutation(len(won) + len(extra))]
    found, used = rewards_of(pairs(mixed))
    if used.reading.tied.any():  # only self-battles are tied
        pytest.fail("self-battles were kept")
    same(alone, found)


def test_newcomers_are_named_and_counted():
    won = battles(np.random.default_rng(0))
    table = pairs([*won, ("pine", "ash"), ("pine", "elm"), ("pine", "ash"), ("fir", "yew"), ("oak", "oak")])
    found, used = rewards_of(table)
    assert set(found) == set(ITEMS)
    assert used.warnings == (
        "pine won all its 3 comparisons: no finite reward; left out (--shrinkage 1 gives it one)",
        "yew lost its only comparison: no finite reward; left out (--shrinkage 1 gives it one)",
    )
    counts = {e.reason.split(",")[0].split(":")[0]: e.slates for e in used.reading.exclusions}
    assert counts == {"whose pick": 4, "of one item against itself": 1}
    kept, _ = rewards_of(table, shrinkage=1.0)  # the remedy
    assert set(kept) == {*ITEMS, "pine", "yew"}
    assert np.isfinite(list(kept.values())).all()


def test_many_newcomers_take_one_line():
    won = battles(np.random.default_rng(0))
    _, used = rewards_of(pairs([*won, *((f"new{i}", "ash") for i in range(9))]))
    (line,) = used.warnings
    assert line.startswith("new0, new1, new2, new3, new4, new5 and 3 more won all their 9 comparisons")
    _, used = rewards_of(pairs([*won, ("box", "may"), ("may", "box")]))
    (line,) = used.warnings
    assert line.startswith("box, may are not connected with the others in both directions")


def test_slates_of_three_lose_only_the_candidate():
    rng = np.random.default_rng(1)
    names = np.array([*ITEMS, "pine"])
    worth = np.array([*ITEMS.values(), -40.0])
    shown = np.array([rng.permutation(5)[:3] for _ in range(150)])
    picked = draw(worth[shown], rng)
    table = {
        "slate": np.repeat(np.arange(150), 3),
        "slot": np.tile(np.arange(3), 150),
        "item": names[shown].ravel(),
        "picked": (np.arange(3) == picked[:, None]).ravel(),
    }
    found, used = rewards_of(table)
    assert set(found) == set(ITEMS)
    assert len(used.reading.slates) == 150  # none is lost, but some have two candidates
    assert set(used.reading.slates.sizes.tolist()) == {2, 3}
    own = used.reading.strict
    assert own.positions.max() == 2  # places are those in which candidates were shown
    line = used.warnings[0]
    assert line.startswith("pine was not picked in any of its ")
    assert "slates: no finite reward" in line
    # Its reward at minus infinity: the others are those of the whole fit with a reward of -40.
    full = item_rewards(shown, picked, shrinkage=1e-7)
    others = full.rewards[:4] - full.rewards[:4].mean()
    np.testing.assert_allclose([found[n] for n in ITEMS], others, atol=1e-4)


def test_rankings_lose_only_the_candidate():
    rng = np.random.default_rng(2)
    names = np.array([*ITEMS, "pine"])
    utility = np.array([*ITEMS.values(), 60.0])[None, :] + rng.gumbel(size=(40, 5))
    ranks = np.argsort(np.argsort(-utility, axis=1), axis=1) + 1
    table = {"slate": np.repeat(np.arange(40), 5), "item": np.tile(names, 40), "rank": ranks.ravel()}
    found, used = rewards_of(table)
    assert set(found) == set(ITEMS)
    assert used.warnings[0].startswith("pine came first in all its 40 slates")


def test_ties_whose_odds_diverge_count_half():
    won = [("ash", "elm")] * 5 + [("ash", "elm", True)] * 2
    found, used = rewards_of(pairs(won))
    assert "--ties half" in used.warnings[0]
    assert found["ash"] - found["elm"] == pytest.approx(np.log(6))
    same(found, rewards_of(pairs(won), ties="half")[0])


def test_only_self_battles_hold_nothing():
    with pytest.raises(InputError, match="against itself"):
        ready(pairs([("oak", "oak")] * 4), model="items")


def test_a_pecking_order_has_no_part_but_a_remedy():
    won = [("ash", "elm"), ("elm", "fir"), ("ash", "fir")] * 4
    with pytest.raises(NoEstimate, match="--shrinkage 1"):
        rewards_of(pairs(won))
    found, _ = rewards_of(pairs(won), shrinkage=1.0)
    assert found["ash"] > found["elm"] > found["fir"]


# --- features -------------------------------------------------------------------------------------


def features(rng, slates=150, k=3, **more):
    """Return picks by price and size, and further columns of (slates, k)."""
    x = rng.normal(size=(slates, k, 2))
    picked = draw(x @ [1.0, -0.5], rng)
    columns = {"price": x[..., 0], "size": x[..., 1], **more}
    return {
        "slate": np.repeat(np.arange(slates), k),
        "picked": (np.arange(k) == picked[:, None]).ravel(),
        **{name: np.asarray(v).ravel() for name, v in columns.items()},
    }


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_redundant_columns_change_nothing(seed):
    rng = np.random.default_rng(seed)
    table = features(rng)
    alone = ready(table)
    a, b = rng.normal(size=2)
    level = np.repeat(rng.normal(size=150), 3)  # constant within slates
    more = {
        "copy": table["price"],
        "sum": a * table["price"] + b * table["size"] + level,
        "level": level,
    }
    found = ready(table | more)
    assert found.logit.names == ("price", "size")
    np.testing.assert_allclose(found.logit.coefficients, alone.logit.coefficients, rtol=0, atol=1e-8)
    left = found.reading.left_out
    assert left["copy"] == "within slates it repeats price (--shrinkage 1 keeps it)"
    assert left["sum"] == "within slates it is a linear combination of price, size (--shrinkage 1 keeps it)"
    assert left["level"] == "the same for all candidates of a slate"
    kept = ready(table | more, shrinkage=1.0).logit.names
    assert {"price", "size", "copy", "sum"} == set(kept)


def test_the_last_dummy_is_left_out():
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 3, size=(150, 3))
    table = features(rng, gas=1.0 * (kind == 0), hybrid=1.0 * (kind == 1), electric=1.0 * (kind == 2))
    found = ready(table)
    assert found.logit.names == ("price", "size", "gas", "hybrid")
    assert "gas, hybrid" in found.reading.left_out["electric"]


def test_combinations_of_many_features():
    """A base of 12 columns and 8 combinations in any order: those that add nothing to the ones before."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(600, 12))
    columns = np.column_stack([x, x[:, :5] @ rng.normal(size=(5, 8))])
    order = rng.permutation(20)
    choices = Choices.of(columns[:, order], k=3, picked=rng.integers(0, 3, 200))
    kept, gone = regular_features(choices)
    assert kept.size == 12
    ranks = [np.linalg.matrix_rank(columns[:, order[: j + 1]]) for j in range(20)]
    added = np.diff([0, *ranks]) > 0
    np.testing.assert_array_equal(kept, np.flatnonzero(added))
    for j, others in gone.items():
        assert max(others) < j


def test_a_feature_that_never_lost_is_left_out_with_what_it_decides():
    rng = np.random.default_rng(5)
    table = features(rng)
    alone = ready(table)
    rare = {"slate": np.repeat([900, 901, 902], 3), "picked": np.tile([True, False, False], 3)}
    rare |= {name: rng.normal(size=9) for name in ("price", "size")}
    code = {"code": np.r_[np.zeros(450), np.tile([1.0, 0, 0], 3)]}
    both = {name: np.r_[table[name], rare[name]] for name in table} | code
    found = ready(both)
    np.testing.assert_allclose(found.logit.coefficients, alone.logit.coefficients, rtol=0, atol=1e-8)
    assert found.warnings == (
        "code has no finite coefficient: it is never lower (or never higher) for the pick; left out with the "
        "3 slates that it decides (--shrinkage 1 keeps it)",
    )
    assert found.reading.exclusions[0].slates == 3
    assert found.reading.left_out["code"].startswith("it has no finite coefficient")
    assert "code" in ready(both, shrinkage=1.0).logit.names


def test_features_that_decide_all_are_named_with_options_that_work():
    rng = np.random.default_rng(6)
    table = features(rng)
    worth = table["price"].reshape(-1, 3)
    table["picked"] = (np.arange(3) == worth.argmax(axis=1)[:, None]).ravel()
    with pytest.raises(NoEstimate) as error:
        ready(table)
    assert error.value.got == "separated by price"
    assert error.value.remedy == (
        "take it that picks follow best of K by it: --score price; or set a shrinkage (--shrinkage 1); "
        "or fit without price: --feature size"
    )
    assert ready(table, scores=("price",)).best is not None
    assert ready(table, shrinkage=1.0).logit is not None
    assert ready(table, features=("size",)).logit.names == ("size",)


def test_a_combination_that_decides_all_is_named():
    rng = np.random.default_rng(7)
    table = features(rng, other=rng.normal(size=(150, 3)))
    worth = (table["price"] - table["size"]).reshape(-1, 3)
    table["picked"] = (np.arange(3) == worth.argmax(axis=1)[:, None]).ravel()
    with pytest.raises(NoEstimate) as error:
        ready(table)
    assert set(error.value.got.removeprefix("separated by ").split(", ")) == {"price", "size"}
    assert error.value.remedy.endswith(": --feature other")
    assert "--score" not in error.value.remedy


def test_one_null_costs_one_slate():
    rng = np.random.default_rng(8)
    table = features(rng)
    table["price"] = [None if i == 7 else v for i, v in enumerate(table["price"])]
    found = ready(table)
    assert len(found.reading.slates) == 149
    assert found.reading.exclusions[0].slates == 1


def test_only_constant_features_are_refused():
    rng = np.random.default_rng(9)
    table = features(rng) | {"level": np.repeat(rng.normal(size=150), 3)}
    with pytest.raises(InputError, match="no feature varies"):
        ready(table, features=("level",))


# --- best of K ------------------------------------------------------------------------------------


def scored(rng, picked, scores):
    slates, k = scores.shape
    return {
        "slate": np.repeat(np.arange(slates), k),
        "reward": scores.ravel(),
        "picked": (np.arange(k) == picked[:, None]).ravel(),
    }


def test_best_and_worst_by_the_only_score():
    rng = np.random.default_rng(10)
    scores = rng.integers(0, 4, size=(80, 3)).astype(float)  # with ties
    best = scored(rng, scores.argmax(axis=1), scores)
    np.testing.assert_array_equal(ready(best).best, scores.ravel())
    worst = scored(rng, scores.argmin(axis=1), scores)
    with pytest.raises(NoEstimate, match="every pick is the worst of its slate by 'reward'") as error:
        ready(worst)
    assert "--rank COLUMN if 1 is the best" in error.value.remedy
    np.testing.assert_array_equal(ready(worst, features=("reward",)).best, -scores.ravel())  # the remedy


def test_one_lapse_is_no_best_of_k():
    rng = np.random.default_rng(11)
    scores = rng.normal(size=(80, 3))
    picked = scores.argmax(axis=1)
    picked[0] = scores[0].argmin()
    found = ready(scored(rng, picked, scores))
    assert found.best is None
    assert found.logit.coefficients[0] > 0
