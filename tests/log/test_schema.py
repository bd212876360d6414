"""The log: what is written is read, what is wrong is named."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.core.tables import read_table
from recurate.log.schema import METADATA_KEY, as_log, read_log, write_log

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
ENDINGS = ["parquet", "jsonl", "csv"]


@st.composite
def logs(draw):
    slates = draw(st.integers(1, 5))
    k = draw(st.integers(1, 4))
    count = slates * k
    picked = draw(st.lists(st.integers(-1, k - 1), min_size=slates, max_size=slates))
    contexts = draw(st.lists(TEXT, min_size=slates, max_size=slates))
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
    table = pa.table(
        {
            "round": np.repeat(draw(st.integers(0, 3)), count).astype(np.int32),
            "context": np.repeat(np.array(contexts, object), k),
            "slate": np.repeat(np.arange(slates), k),
            "reward": draw(st.lists(numbers, min_size=count, max_size=count)),
            "reward_two": draw(st.lists(numbers, min_size=count, max_size=count)),
            "picked": (np.arange(count) % k) == np.repeat(picked, k),
            # CSV cannot tell an empty word from no word, so groups here are not empty.
            "group": draw(st.lists(TEXT.map(lambda t: "g" + t), min_size=count, max_size=count)),
        }
    )
    return as_log(table)


@pytest.mark.parametrize("ending", ENDINGS)
@given(log=logs())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_what_is_written_is_read(tmp_path, ending, log):
    path = tmp_path / f"log.{ending}"
    write_log(log, path)
    again = read_log(path)
    assert again.rewards == ("reward", "reward_two")
    assert again.table.to_pylist() == log.table.to_pylist()
    assert again.table.schema.field("round").type == pa.int32()
    assert list(tmp_path.iterdir()) == [path], "no partial file is left"


GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=200).map(str.encode),
    st.lists(st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.none()), max_size=4), max_size=4).map(
        lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
    ),
)


@pytest.mark.parametrize("ending", ENDINGS)
@given(data=GARBAGE)
@example(b"null")  # Arrow's JSON reader crashes on it
@example(b"\n null\n{}")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_garbage_is_read_or_refused(tmp_path, ending, data):
    path = tmp_path / f"garbage.{ending}"
    path.write_bytes(data)
    try:
        log = read_log(path)
    except InputError as error:
        assert error.remedy
        assert error.got is not None
    else:
        assert np.isfinite(log.reward_matrix()).all()


@pytest.mark.parametrize("ending", ENDINGS)
@given(fraction=st.floats(0, 0.99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_truncated_files_never_crash(tmp_path, ending, fraction):
    path = tmp_path / f"log.{ending}"
    table = pa.table({"slate": [0, 0, 1, 1], "reward": [0.5, 1.5, 2.5, 3.5], "picked": [True, False] * 2})
    write_log(as_log(table), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * fraction)])
    if ending == "parquet":
        with pytest.raises(InputError):
            read_log(path)
    else:  # a text file cut at a line's end is a shorter log
        try:
            assert read_log(path).table.num_rows <= 4
        except InputError as error:
            assert str(path) in str(error)


def rows(**columns):
    base = {"slate": [0, 0, 1, 1], "reward": [0.0, 1.0, 2.0, 3.0], "picked": [True, False, False, True]}
    return pa.table(base | columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"reward": [0.0, 1.0, float("nan"), 3.0]}, "'reward' is not a finite number in row 3"),
        ({"reward": [0.0, float("inf"), 1.0, 3.0]}, "'reward' is not a finite number in row 2"),
        ({"reward": [None, 1.0, 1.0, 3.0]}, "'reward' is not a finite number in row 1"),
        ({"reward": ["a", "b", "c", "d"]}, "'reward' must hold double, and row 1 does not fit"),
        ({"round": [0, 0, -1, -1]}, "'round' is negative in row 3"),
        ({"round": ["0", "0", "x", "0"]}, "'round' must hold int32, and row 3 does not fit"),
        ({"round": [0, None, 0, 0]}, "'round' is empty in row 2"),
        ({"picked": [True, True, False, False]}, "a slate has more than one pick"),
        ({"slot": [0, 0, 0, 1]}, "a slate has one slot twice"),
        ({"context": ["a", "b", "c", "c"]}, "a slate has more than one context"),
        ({"propensity": [0.5, 0.5, 1.5, 0.5]}, "'propensity' is not a probability"),
        ({"propensity": [0.5, 0.5, 0.0, 0.5]}, "'propensity' is not a probability"),
        ({"slate": [0, 0, 1, None]}, "'picked' is true outside any slate in row 4"),
        ({"picked": [1.0, float("nan"), 0.0, 0.0]}, "'picked' is neither 0 nor 1 in row 2"),
        ({"picked": [0.7, 0.0, 0.0, 0.0]}, "'picked' is neither 0 nor 1 in row 1"),
        ({"source": ["model", "Real", "model", "model"]}, "'source' is neither 'model' nor 'real' in row 2"),
        ({"picked": ["yes", "maybe", "no", "no"]}, "'picked' must hold bool, and row 1 does not fit"),
    ],
)
def test_wrong_rows_are_named(columns, message):
    with pytest.raises(InputError) as caught:
        as_log(rows(**columns))
    assert message in str(caught.value)


def test_a_bare_table_gets_the_defaults():
    log = as_log(pa.table({"reward": [1, 2, 3]}))
    assert log.column("round").tolist() == [0, 0, 0]
    assert log.column("source").tolist() == ["model"] * 3
    assert log.column("context").tolist() == [""] * 3
    assert not log.column("picked").any()
    assert log.slate_sizes().size == 0


def test_slots_are_numbered_within_slates_even_when_rows_are_mixed():
    table = pa.table({"slate": [1, 0, 1, 0, None], "round": [0, 0, 0, 0, 0], "reward": [1.0] * 5})
    assert as_log(table).table.column("slot").to_pylist() == [0, 0, 1, 1, None]


def test_slate_sizes_come_in_order():
    table = pa.table({"slate": [1, 0, 1, 0, 1], "reward": [4.0, 1.0, 3.0, 2.0, 0.0]})
    assert as_log(table).slate_sizes().tolist() == [2, 3]


def test_reward_columns_are_found_or_named(tmp_path):
    table = pa.table({"score": [1.0, 2.0], "reward_a": [0.0, 1.0]})
    assert as_log(table).rewards == ("reward_a",)
    assert as_log(table, rewards=["score"]).rewards == ("score",)
    with pytest.raises(InputError, match="did you mean 'score'"):
        as_log(table, rewards=["scroe"])
    with pytest.raises(InputError, match="no reward column"):
        as_log(pa.table({"value": [1.0]}))


def test_a_newer_format_is_refused(tmp_path):
    table = pa.table({"reward": [1.0]}).replace_schema_metadata(
        {METADATA_KEY: json.dumps({"format": 99, "rewards": ["reward"]}).encode()}
    )
    pq.write_table(table, tmp_path / "new.parquet")
    with pytest.raises(InputError, match="newer recurate"):
        read_log(tmp_path / "new.parquet")


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_and_empty_files(tmp_path, ending):
    with pytest.raises(InputError, match="no such file"):
        read_table(tmp_path / f"none.{ending}")
    (tmp_path / f"empty.{ending}").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        read_table(tmp_path / f"empty.{ending}")


def test_unknown_endings_are_refused(tmp_path):
    (tmp_path / "log.xlsx").write_bytes(b"x")
    with pytest.raises(InputError, match="ending"):
        read_table(tmp_path / "log.xlsx")


def test_a_cut_line_of_json_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"slate": 0, "reward": 1.0}\n{"slate": 0, "rew')
    with pytest.raises(InputError, match="line 2 is not valid JSON"):
        read_log(path)
