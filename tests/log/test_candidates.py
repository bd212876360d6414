"""Candidates of a log's rounds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from recurate.log.candidates import Candidates, Rounds
from recurate.log.schema import as_log


def test_rounds_know_what_was_picked():
    slots = np.tile([0, 1], 6)
    table = pa.table({
        "round": np.repeat([0, 1], 6), "slate": np.repeat([0, 1, 2, 0, 1, 2], 2), "slot": slots,
        "source": ["model"] * 12, "reward": np.arange(12.0),
        "picked": slots == np.repeat([1, 1, 0, 0, 0, 1], 2),
    })  # fmt: skip
    found = Rounds.of(as_log(table, rewards=("reward",)))
    assert [found.generated[t].picked.tolist() for t in (0, 1)] == [
        [False, True, False, True, True, False], [True, False, True, False, False, True],
    ]  # fmt: skip
    few = Rounds.of(as_log(table, rewards=("reward",)), picks=2)
    assert np.flatnonzero(few.first.picked).tolist() == [1, 3], "the first picks enter the training set"
    assert found.first.take(np.array([1, 0])).picked.tolist() == [True, False]
    assert found.first.join(found.first).picked is None, "real data are not picked"
    assert Candidates(np.zeros((2, 1)), ("reward",)).picked is None
