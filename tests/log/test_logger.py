"""The logger for other people's scripts."""

from __future__ import annotations

import numpy as np
import pytest

from recurate.core.errors import InputError
from recurate.log.logger import PickLogger
from recurate.log.schema import read_log


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_slates_arrive_whole(tmp_path, ending):
    path = tmp_path / f"picks.{ending}"
    with PickLogger(path) as log:
        for t in range(2):
            log.slate(
                {"reward": np.array([0.5, 1.5]), "reward_gold": [1, 2]},
                picked=1,
                round=t,
                context="prompt",
                items=["a", "b"],
                chooser="ann",
                propensities=[0.25, 0.75],
                columns={"length": [3, 4]},
            )
        log.slate({"reward": [0.0, 0.0], "reward_gold": [0, 0]}, picked=None, round=1)
    found = read_log(path)
    assert found.rewards == ("reward", "reward_gold")
    assert found.table.num_rows == 6
    assert found.column("slate").tolist() == [0, 0, 0, 0, 1, 1]
    assert found.column("picked").tolist() == [False, True, False, True, False, False]
    assert found.column("length")[:4].tolist() == [3, 4, 3, 4]


def test_json_lines_are_on_disk_at_once_and_can_be_continued(tmp_path):
    path = tmp_path / "picks.jsonl"
    first = PickLogger(path)
    first.slate([1.0, 2.0], picked=0)
    assert read_log(path).table.num_rows == 2, "a killed script loses nothing that was logged"
    first.close()
    with PickLogger(path) as again:
        again.slate([3.0, 4.0], picked=1)
    assert read_log(path).column("slate").tolist() == [0, 0, 1, 1]


def test_a_log_with_rewards_of_any_name_can_be_continued(tmp_path):
    path = tmp_path / "picks.jsonl"
    for _ in range(2):
        with PickLogger(path) as log:
            log.slate({"gold": [1.0, 2.0]}, picked=0)
    assert read_log(path, ["gold"]).column("slate").tolist() == [0, 0, 1, 1]


def test_an_existing_table_is_not_overwritten(tmp_path):
    path = tmp_path / "picks.parquet"
    with PickLogger(path) as log:
        log.slate([1.0, 2.0], picked=0)
    with pytest.raises(InputError, match="already exists"):
        PickLogger(path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rewards": [1.0, float("nan")], "picked": 0},
        {"rewards": [1.0, "high"], "picked": 0},
        {"rewards": [1.0, 2.0], "picked": 2},
        {"rewards": [1.0, 2.0], "picked": -1},
        {"rewards": [1.0, 2.0], "picked": 0, "items": ["a"]},
        {"rewards": [], "picked": None},
        {"rewards": {}, "picked": None},
        {"rewards": [1.0, 2.0], "picked": 0.5},
        {"rewards": [1.0, 2.0], "picked": 0, "round": "one"},
        {"rewards": [1.0, 2.0], "picked": 0, "columns": {"slate": [1, 2]}},
        {"rewards": {"gold": [1.0, 2.0]}, "picked": 0},
    ],
)
def test_wrong_slates_are_refused_and_the_log_stays_good(tmp_path, arguments):
    path = tmp_path / "picks.jsonl"
    with PickLogger(path) as log:
        log.slate([1.0, 2.0], picked=1)
        with pytest.raises(InputError):
            log.slate(**arguments)
        log.slate([3.0, 4.0], picked=0)
    assert read_log(path).column("reward").tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_restarted_script_drops_the_torn_end(tmp_path):
    path = tmp_path / "picks.jsonl"
    with PickLogger(path) as log:
        log.slate([1.0, 2.0, 3.0], picked=0)
        log.slate([4.0, 5.0, 6.0], picked=1)
    whole = path.read_text()
    path.write_text(whole[: whole.index("6.0") + 2])  # the last line has no end
    with PickLogger(path) as again:
        again.slate([7.0, 8.0, 9.0], picked=np.argmax([0, 1]), round=np.int64(0))
    found = read_log(path)
    assert found.column("reward").tolist() == [1.0, 2.0, 3.0, 7.0, 8.0, 9.0]
    assert found.slate_sizes().tolist() == [3, 3]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_closed_log_stays_as_it_is(tmp_path, ending):
    path = tmp_path / f"picks.{ending}"
    log = PickLogger(path)
    log.slate([1.0, 2.0], picked=0)
    log.close()
    log.close()
    with pytest.raises(InputError, match="closed"):
        log.slate([3.0, 4.0], picked=0)
    assert read_log(path).table.num_rows == 2


def test_texts_that_look_like_dates_or_numbers_stay_texts(tmp_path):
    path = tmp_path / "picks.jsonl"
    with PickLogger(path) as log:
        log.slate([1.0, 2.0], picked=0, context="2024-01-01", items=["2024-01-02", "7"], chooser="007")
    found = read_log(path)
    assert found.column("context").tolist() == ["2024-01-01"] * 2
    assert found.column("item").tolist() == ["2024-01-02", "7"]
    assert found.column("chooser").tolist() == ["007"] * 2
