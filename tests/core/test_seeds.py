"""Randomness is named by coordinates."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recurate.core.seeds import Stream

PATHS = st.lists(st.one_of(st.integers(0, 99), st.text(max_size=5)), max_size=4).map(tuple)


@given(st.integers(0, 2**63), PATHS, PATHS)
def test_streams_are_equal_iff_their_names_are(root, one, other):
    a, b = Stream(root).at(*one), Stream(root).at(*other)
    same = [type(x) for x in one] == [type(x) for x in other] and one == other
    assert (a.integer() == b.integer()) == same
    assert (a.generator().random() == b.generator().random()) == same


def test_streams_do_not_change_between_versions():
    """A change here makes old runs impossible to resume: raise the run folder's format with it."""
    assert Stream(0).at("round", 7, "sample").integer() == 84330129992114587
    assert Stream(0).at("round", 7).generator().integers(10**9) == 412204462


def test_order_of_calls_does_not_matter():
    first = Stream(5).at("a").generator().normal(size=3)
    Stream(5).at("b").generator().normal(size=100)
    np.testing.assert_array_equal(Stream(5).at("a").generator().normal(size=3), first)
