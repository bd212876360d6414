"""Whatever people have becomes one Arrow table, or a word on what it is not."""

from __future__ import annotations

import importlib.util

import numpy as np
import pyarrow as pa
import pytest

from recurate.core.errors import InputError
from recurate.core.tables import write_table
from recurate.log.candidates import as_candidates
from recurate.log.inputs import folder_of, is_array, log_of, name_of, table_of
from recurate.log.schema import as_log

TABLE = pa.table({"reward": [0.5, 1.5, 2.5], "item": ["a", "b", "c"]})


class Dataset:
    """As much of a Hugging Face dataset as is used."""

    column_names = TABLE.column_names

    def __init__(self, form=None):
        self.form = form

    def with_format(self, form):
        return Dataset(form)

    def __getitem__(self, rows):
        assert self.form == "arrow"
        return TABLE[rows]


@pytest.mark.parametrize(
    "source",
    [
        TABLE,
        TABLE.to_reader(),
        TABLE.to_pydict(),
        {"reward": np.array([0.5, 1.5, 2.5]), "item": ["a", "b", "c"]},
        TABLE.to_pylist(),
        TABLE.cast(pa.schema([("reward", pa.float64()), ("item", pa.large_string())])),
        Dataset(),
    ],
    ids=["table", "reader", "dict", "arrays", "records", "large", "dataset"],
)
def test_tables_in_memory(source):
    assert table_of(source).equals(TABLE)
    assert name_of(source) == "the table"
    assert not is_array(source)


def test_lists_are_those_of_files():
    large = pa.table({"ranks": pa.array([[1, 2]], pa.large_list(pa.int64()))})
    assert table_of(large).schema == pa.schema([("ranks", pa.list_(pa.int64()))])


@pytest.mark.skipif(importlib.util.find_spec("pandas") is None, reason="pandas is not installed")
def test_pandas_frames_lose_the_index_of_dropped_rows():
    frame = TABLE.to_pandas()
    assert table_of(frame).equals(TABLE)
    assert table_of(frame[frame["reward"] > 1]).equals(TABLE.slice(1))


@pytest.mark.skipif(importlib.util.find_spec("polars") is None, reason="polars is not installed")
def test_polars_frames_lazy_or_not():
    import polars

    frame = polars.from_arrow(TABLE)
    for source in (frame, frame.lazy()):
        assert table_of(source).to_pydict() == TABLE.to_pydict()
        assert not is_array(source)


def test_a_path_or_several(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.parquet"
    write_table(TABLE, first)
    write_table(TABLE.append_column("more", pa.array([1, 2, 3])), second)
    assert table_of(first).equals(table_of(str(first)))
    both = table_of([first, str(second)])
    assert both.num_rows == 6
    assert both.column("more").to_pylist() == [None] * 3 + [1, 2, 3]
    assert name_of([first, second]) == "a.csv and 1 more"
    assert name_of(first) == "a.csv"
    assert folder_of(tmp_path) is None
    (tmp_path / "fit.json").touch()
    assert folder_of(tmp_path) == tmp_path
    assert folder_of(first) is None


def test_text_columns_of_files_stay_text(tmp_path):
    write_table(pa.table({"reward": [1.0], "kind": ["01"]}), tmp_path / "a.csv")
    assert table_of(tmp_path / "a.csv", text=["kind"]).column("kind").to_pylist() == ["01"]
    assert table_of([tmp_path / "a.csv"], text=["kind"]).column("kind").to_pylist() == ["01"]


def test_logs_are_taken_as_they_are():
    log = as_log(TABLE)
    assert log_of(log) is log
    assert log_of(TABLE).rewards == ("reward",)
    other = as_log(TABLE.append_column("score", pa.array([1.0, 2.0, 3.0])))
    assert log_of(other, ["score"]).rewards == ("score",)
    assert name_of(log) == "the log"


@pytest.mark.parametrize(
    "source",
    [np.zeros(3), [0.0, 1.0], [[0.0, 1.0]], (1, 2), as_candidates([1.0]), pa.array([1.0])],
    ids=["numpy", "list", "nested", "tuple", "candidates", "arrow"],
)
def test_arrays_of_rewards_are_no_tables(source):
    assert is_array(source)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (object(), "object"),
        (3.5, "float"),
        ({"train": Dataset(), "test": Dataset()}, "with train, test"),
        ({"a": [1, 2], "b": [1]}, "with a, b"),
        ({"a": [object()]}, "dict"),
        (TABLE.slice(0, 0), "Table"),
    ],
)
def test_anything_else_is_refused_in_words(source, word):
    with pytest.raises(InputError) as caught:
        table_of(source)
    assert word in caught.value.got
    assert "log has" in caught.value.remedy or "an Arrow table" in caught.value.remedy


def test_a_missing_file_among_several_is_named(tmp_path):
    write_table(TABLE, tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"no such file(.|\n)*b\.csv"):
        table_of([tmp_path / "a.csv", tmp_path / "b.csv"])
