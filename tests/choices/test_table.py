"""Choice tables and slates laid end to end: every sum is that of a plain loop, and bad input is refused."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers.picking import luce, ragged
from recurate.choices import Choices
from recurate.choices.table import FEW_CHOOSERS, codes_of
from recurate.core.errors import InputError
from recurate.rules import slates as slates_module
from recurate.rules.slates import Slates

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=12)


def pieces(offsets, values):
    return [values[a:b] for a, b in itertools.pairwise(offsets.tolist())]


@given(SIZES, st.data())
def test_sums_and_maxima_are_those_of_a_loop(sizes, data):
    offsets = np.r_[0, np.cumsum(sizes)]
    slates = Slates(offsets)
    shape = data.draw(st.sampled_from([(slates.rows,), (slates.rows, 2), (slates.rows, 2, 3)]))
    values = data.draw(arrays(float, shape, elements=st.floats(-1e6, 1e6)))
    parts = pieces(offsets, values)
    np.testing.assert_allclose(slates.sums(values), [p.sum(axis=0) for p in parts], atol=1e-8)
    np.testing.assert_array_equal(slates.maxima(values), [p.max(axis=0) for p in parts])
    assert slates.index().tolist() == [s for s, p in enumerate(parts) for _ in p]
    assert slates.slots().tolist() == [j for p in parts for j in range(len(p))]
    np.testing.assert_array_equal(slates.spread(np.arange(len(slates))), slates.index())
    assert slates.width == (sizes[0] if len(set(sizes)) == 1 else 0)


@given(SIZES, st.data())
def test_the_softmax_is_that_of_a_loop_however_far_apart_utilities_are(sizes, data):
    offsets = np.r_[0, np.cumsum(sizes)]
    slates = Slates(offsets)
    reach = data.draw(st.sampled_from([1.0, 300.0, 1e5, 1e300]))
    values = data.draw(arrays(float, (slates.rows, 2), elements=st.floats(-reach, reach)))
    chances, logs = slates.softmax(values)
    for column in range(2):
        alone = slates.softmax(values[:, column].copy())
        np.testing.assert_allclose(alone[0], chances[:, column], rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(alone[1], logs[:, column], rtol=1e-12, atol=1e-12)
        for part, found, log in zip(
            pieces(offsets, values[:, column]),
            pieces(offsets, chances[:, column]),
            logs[:, column],
            strict=True,
        ):
            top = max(part)
            odds = [math.exp(u - top) for u in part]
            np.testing.assert_allclose(found, np.array(odds) / math.fsum(odds), rtol=1e-12, atol=1e-300)
            assert math.isclose(log, top + math.log(math.fsum(odds)), rel_tol=1e-12, abs_tol=1e-12)


@given(SIZES, st.integers(1, 400), st.integers(1, 30))
def test_blocks_are_all_slates_once_and_in_order(sizes, budget, columns):
    slates = Slates(np.r_[0, np.cumsum(sizes)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slates_module, "BLOCK_DOUBLES", budget)
        blocks = list(slates.blocks(columns))
    assert [s for some, _, _ in blocks for s in range(some.start, some.stop)] == list(range(len(slates)))
    assert [r for _, rows, _ in blocks for r in range(rows.start, rows.stop)] == list(range(slates.rows))
    for some, rows, own in blocks:
        assert own.rows == rows.stop - rows.start
        assert own.sizes.tolist() == sizes[some]
        assert own.width in (0, slates.width)


def test_no_slates_are_no_trouble():
    none = Slates(np.array([0]))
    assert (len(none), none.rows, none.width) == (0, 0, 0)
    assert list(none.blocks(3)) == []


@given(SIZES, st.data())
def test_some_slates_in_any_order(sizes, data):
    slates = Slates(np.r_[0, np.cumsum(sizes)])
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=20))
    own, rows = slates.take(np.array(chosen, np.int64))
    parts = pieces(slates.offsets, np.arange(slates.rows))
    assert rows.tolist() == [r for s in chosen for r in parts[s]]
    assert own.sizes.tolist() == [sizes[s] for s in chosen]


def test_features_in_double_precision_are_not_copied():
    features = np.random.default_rng(0).normal(size=(8, 2))
    assert np.shares_memory(Choices.of(features, k=4, picked=[0, 1]).features, features)
    assert Choices.of(features.astype(np.float32), k=4, picked=[0, 1]).features.dtype == np.float64


def test_the_largest_doubles_are_finite():
    features = np.full((4, 1), 1.7e308)  # their sum is not
    assert Choices.of(features, k=2, picked=[0, 1]).features.max() == 1.7e308


def test_equal_offsets_are_the_same_slates_as_k():
    features = np.random.default_rng(0).normal(size=(12, 2))
    by_k = Choices.of(features, k=3, picked=[0, 1, 2, 0])
    for kind in (np.int64, np.int32, np.uint64):
        by_offsets = Choices.of(features, offsets=np.array([0, 3, 6, 9, 12], kind), picked=[0, 1, 2, 0])
        np.testing.assert_array_equal(by_offsets.slates.offsets, by_k.slates.offsets)
        assert by_offsets.slates.offsets.dtype == np.int64
    assert by_k.picked_rows.tolist() == [0, 4, 8, 9]
    assert by_k.names == ("x1", "x2")
    assert by_k.positions.tolist() == [0, 1, 2] * 4
    assert by_k.total_weight == 4.0
    assert Choices.of(features, k=3, picked=[0] * 4, weights=[1, 2, 3, 0.5]).total_weight == 6.5


def test_one_feature_needs_no_second_axis():
    assert Choices.of([1.0, 2.0, 3.0, 4.0], k=2, picked=[0, 1]).features.shape == (4, 1)


def test_taking_slates_takes_everything_that_belongs_to_them():
    rng = np.random.default_rng(1)
    whole = ragged(rng, slates=40, choosers=7, weighted=True)
    whole = replace(
        whole,
        sources=rng.integers(0, 9, 40),
        contexts=rng.integers(0, 3, 40),
        items=rng.integers(0, 5, whole.slates.rows),
        tie_rows=rng.random(whole.slates.rows) < 0.5,
    )
    chosen = np.array([5, 3, 3, 39, 0])
    part = whole.take(chosen)
    for here, s in enumerate(chosen):
        a, b = whole.slates.offsets[s], whole.slates.offsets[s + 1]
        c, d = part.slates.offsets[here], part.slates.offsets[here + 1]
        for name in ("features", "positions", "items", "tie_rows"):
            np.testing.assert_array_equal(getattr(part, name)[c:d], getattr(whole, name)[a:b])
        for name in ("picked", "weights", "choosers", "sources", "contexts"):
            assert getattr(part, name)[here] == getattr(whole, name)[s]
    mask = np.zeros(40, bool)
    mask[[3, 7]] = True
    np.testing.assert_array_equal(whole.take(mask).features, whole.take(np.array([3, 7])).features)


def test_choosers_may_be_any_labels():
    assert codes_of(["b", "a", "b"], 3, "choosers").tolist() == [1, 0, 1]
    assert codes_of([10, 2, 10], 3, "choosers").tolist() == [1, 0, 1]
    mixed = codes_of(np.array(["b", None, 3, "b"], object), 4, "choosers")
    assert mixed[0] == mixed[3]
    assert len(set(mixed.tolist())) == 3


def test_what_standard_errors_are_clustered_by():
    """Choosers; but where they are few, what several of them judged."""
    rng = np.random.default_rng(0)
    many = luce(rng, slates=200, choosers=FEW_CHOOSERS)
    few = luce(rng, slates=200, choosers=FEW_CHOOSERS - 1)
    sources = np.arange(200) // 2
    assert many.clusters is many.choosers
    assert few.clusters is few.choosers
    assert replace(many, sources=sources).clusters is many.choosers
    assert replace(few, sources=sources).clusters is sources
    assert replace(few, sources=sources, choosers=None).clusters is sources
    assert replace(few, choosers=None).clusters is None


GOOD = np.zeros((4, 2))


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (GOOD, {"k": 2, "picked": [0]}, "one slot per slate"),
        (GOOD, {"k": 2, "picked": [0.0, 1.0]}, "one slot per slate"),
        (GOOD, {"k": 2, "picked": [0, 2]}, "pick of slate 1 lies outside"),
        (GOOD, {"k": 2, "picked": [-1, 0]}, "pick of slate 0 lies outside"),
        (GOOD, {"offsets": [0, 2, 4], "k": 2, "picked": [0, 0]}, "k or offsets"),
        (GOOD, {"picked": [0, 0]}, "k or offsets"),
        (GOOD, {"k": 3, "picked": [0]}, "k >= 2 rows"),
        (GOOD, {"k": 1, "picked": [0] * 4}, "k >= 2 rows"),
        (GOOD, {"k": 2.5, "picked": [0]}, "k >= 2 rows"),
        (GOOD, {"offsets": [0, 3, 4], "picked": [0, 0]}, "at least two candidates"),
        (GOOD, {"offsets": [0, 2, 2, 4], "picked": [0, 0, 0]}, "at least two candidates"),
        (GOOD, {"offsets": np.array([0, 3, 2, 4], np.uint8), "picked": [0, 0, 0]}, "at least two candidates"),
        (GOOD, {"offsets": [0, 2], "picked": [0]}, "offsets must be"),
        (GOOD, {"offsets": [1, 4], "picked": [0]}, "offsets must be"),
        (GOOD, {"offsets": [0.0, 2.0, 4.0], "picked": [0, 0]}, "offsets must be"),
        (GOOD, {"k": 2, "picked": [0, 0], "names": ["a"]}, "one name for each"),
        (GOOD, {"k": 2, "picked": [0, 0], "names": ["a", "a"]}, "all different"),
        (GOOD, {"k": 2, "picked": [0, 0], "weights": [1.0]}, "weights must be"),
        (GOOD, {"k": 2, "picked": [0, 0], "weights": [1.0, 0.0]}, "weights must be"),
        (GOOD, {"k": 2, "picked": [0, 0], "weights": [1.0, math.nan]}, "weights must be"),
        (GOOD, {"k": 2, "picked": [0, 0], "choosers": [1]}, "one label per slate"),
        (np.zeros((0, 2)), {"k": 2, "picked": []}, "at least one row"),
        (np.zeros((4, 2, 1)), {"k": 2, "picked": [0, 0]}, "shape"),
        ([["a", "b"]] * 4, {"k": 2, "picked": [0, 0]}, "array of numbers"),
        ([1.0, math.nan, 0.0, 0.0], {"k": 2, "picked": [0, 0]}, "feature 0 of row 1"),
        ([[0.0, 1.0]] * 2 + [[0.0, -math.inf]] * 2, {"k": 2, "picked": [0, 0]}, "feature 1 of row 2"),
        ([math.inf, -math.inf, 0.0, 0.0], {"k": 2, "picked": [0, 0]}, "feature 0 of row 0"),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused(features, arguments, message):
    with pytest.raises(InputError, match=message) as refused:
        Choices.of(features, **arguments)
    assert refused.value.remedy
