"""Files that were once read otherwise than meant, without a word: planted truths, through the commands."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import recurate
from recurate.core.errors import InputError


def rewards_of(found) -> dict[str, float]:
    return {item["name"]: item["reward"] for item in found.facts["items"]}


@pytest.mark.parametrize("name", ["match", "case", "task"])
@pytest.mark.parametrize("values", ["flags", "booleans", "shares"])
def test_a_column_of_exact_matches_is_no_slate(name, values):
    draw = np.random.default_rng(0)
    match = draw.random(480) < 0.4
    log = {"prompt": np.repeat([f"p{i}" for i in range(60)], 8), "completion": [f"c{i}" for i in range(480)]}
    log["reward"] = draw.normal(size=480)
    plain = recurate.forecast(pa.table(log), rounds=1)
    log[name] = {"flags": match.astype(int), "booleans": match, "shares": draw.random(480).round(2)}[values]
    found = recurate.forecast(pa.table(log), rounds=1)
    means = [[r.value for r in f.trajectory.rows if r.quantity == "mean_reward"] for f in (plain, found)]
    assert means[0] == means[1]


def test_matches_with_numbers_are_slates():
    draw = np.random.default_rng(0)
    log = {"match": np.repeat(np.arange(50), 4), "reward": draw.normal(size=200)}
    log["picked"] = (np.arange(200) % 4 == 0).astype(int)
    facts = recurate.audit(pa.table(log)).facts
    assert "slates" in str(facts)
    assert {f.aspect: f.recovered for f in recurate.audit(pa.table(log)).findings}["slate size K"] == "4"


@pytest.mark.parametrize("column", ["ranking", "preference", "winner"])
def test_one_two_and_two_one_are_asked_about(column):
    draw = np.random.default_rng(1)
    log = {"option_1": draw.choice(["x", "y"], 60), "option_2": draw.choice(["v", "w"], 60)}
    log[column] = draw.choice(["1-2", "2-1"], 60)
    with pytest.raises(InputError, match="two ways") as error:
        recurate.fit(pa.table(log))
    assert "orders with the best first" in error.value.got
    log[column] = draw.choice(["1-0", "0-1", "2-1"], 60)  # scores
    recurate.fit(pa.table(log))


@pytest.mark.parametrize(
    ("flag", "tie"),
    [
        ("a_wins", "tie"),
        ("a_wins", "is_tie"),
        ("prefers_a", "draw"),
        ("a_wins", "both_bad"),
        ("a_wins", "winner_tie"),
    ],
)
def test_ties_beside_a_flag_are_ties(flag, tie):
    """A third of 300 comparisons between equals: counted as wins of b they would be an effect of places."""
    draw = np.random.default_rng(2)
    outcome = draw.integers(0, 3, 300)
    log = {"response_a": draw.choice(list("uvw"), 300), "response_b": draw.choice(list("xyz"), 300)}
    log |= {flag: (outcome == 0).astype(int), tie: (outcome == 2).astype(int)}
    assert recurate.fit(pa.table(log)).reading.facts["ties"] == (outcome == 2).sum()


@pytest.mark.parametrize("hole", [False, True])
def test_numbered_ranks_are_asked_about(hole):
    draw = np.random.default_rng(3)
    order = np.argsort(-(np.array([0.0, 0.5, 3.0, -2.0]) + draw.gumbel(size=(300, 4))), axis=1) + 1
    cells = order.astype(object)
    if hole:  # the columns are then read as floats
        cells[7, 3] = None
    log = pa.table({f"rank_{j + 1}": pa.array(cells[:, j], pa.float64() if hole else None) for j in range(4)})
    with pytest.raises(InputError, match="may hold the rank of item 1, or the item of rank 1"):
        recurate.fit(log)
    listed = rewards_of(recurate.fit(log, form="rankings"))
    assert max(listed, key=lambda item: listed[item]) == "3"
    places = recurate.fit(log, form="wide")  # alternatives 1 to 4, of which nothing else is known
    assert places.reading.facts["slates"] == 300 - hole
    assert places.items is None


def test_picks_of_one_and_two_as_floats_are_those_of_whole_numbers():
    draw = np.random.default_rng(4)
    picked = draw.integers(0, 4, 50)
    marks = (np.arange(4) == picked[:, None]).ravel() + 1.0  # 2 for the pick of each slate
    log = {"slate": np.repeat(np.arange(50), 4), "item": np.tile(list("abcd"), 50), "chosen": marks}
    whole = recurate.fit(pa.table(log | {"chosen": marks.astype(int)}))
    marks[5] = np.nan
    found = recurate.fit(pa.table(log | {"chosen": pa.array(marks, from_pandas=True)}))
    assert rewards_of(found).keys() == rewards_of(whole).keys()
    assert found.reading.facts["slates"] == 49
