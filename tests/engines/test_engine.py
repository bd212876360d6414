"""Engines: results in the order of their shards, the first error ends it."""

from __future__ import annotations

import pytest

from recurate.core.errors import InputError
from recurate.engines.engine import engine_named


def double(number: int) -> int:
    if number < 0:
        raise InputError("a negative number", got=number, remedy="none")
    return 2 * number


@pytest.mark.parametrize("name", ["local", "processes"])
def test_results_come_in_order_until_the_first_error(name):
    assert list(engine_named(name, 2).map(double, range(7))) == [2 * n for n in range(7)]
    found = iter(engine_named(name, 2).map(double, [1, 2, -1, 4]))
    assert [next(found), next(found)] == [2, 4]
    with pytest.raises(InputError, match="a negative number"):
        next(found)


def test_names_that_are_no_engine():
    with pytest.raises(InputError, match="did you mean 'processes'"):
        engine_named("process")
    with pytest.raises(InputError, match="is not an engine"):
        engine_named("fractions:Fraction")
