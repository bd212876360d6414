"""Files, globs, folders, data sets, standard input and addresses become one table."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recurate.core import errors
from recurate.core.errors import InputError
from recurate.log.inputs import log_of, name_of, source_of, table_of
from recurate.log.reading.sources import numbers_of, open_source
from recurate.log.schema import read_log


def shards(folder, names, **columns):
    """Write Parquet files of two rows each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        table = {"prompt": ["a", "b"], "reward": [float(number), 0.5], **columns}
        pq.write_table(pa.table(table), folder / name)
    return folder


def refused(source):
    with pytest.raises(InputError) as caught:
        open_source(source).read()
    return str(caught.value)


STEPS = [f"completions_{n:05d}.parquet" for n in (2, 5, 10)]


def test_one_file_per_step(tmp_path):
    """Case 10 without its column."""
    shards(tmp_path / "run" / "completions", STEPS)
    for source in (tmp_path / "run" / "completions", tmp_path / "run",
                   str(tmp_path / "run/completions/*_*.parquet"),
                   sorted((tmp_path / "run" / "completions").iterdir(), reverse=True)):  # fmt: skip
        found = open_source(source)
        assert found.schema.names == ["prompt", "reward", "round"]
        assert found.read().column("round").to_pylist() == [2, 2, 5, 5, 10, 10]
        assert found.read(["reward"]).column_names == ["reward"]
        assert found.read(["round", "reward"]).to_pylist()[4] == {"round": 10, "reward": 2.0}
        assert found.read(["round"]).num_rows == 6
        assert found.head(3).num_rows >= 3
        assert found.notes == ("3 files; the round is the number in the file's name",)
    assert read_log(tmp_path / "run").rounds() == [2, 5, 10]
    assert log_of(tmp_path / "run" / "completions").rounds() == [2, 5, 10]


def test_a_column_of_steps_goes_before_the_number(tmp_path):
    """Case 10."""
    found = open_source(shards(tmp_path / "completions", STEPS, Step=[7, 7]))
    assert found.schema.names == ["prompt", "reward", "Step", "file"]
    assert found.notes == ("3 files",)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["1.jsonl", "2.jsonl", "10.jsonl"], [1, 2, 10]),
        (["train_data_step3.jsonl.gz", "train_data_step12.jsonl.gz"], [3, 12]),
        (["v2_iter_007.csv", "v2_iter_008.csv"], [7, 8]),
        (["samples.epoch=1.csv", "samples.epoch=2.csv"], [1, 2]),
        (["run-checkpoint-500-eval.jsonl", "run-checkpoint-1000-eval.jsonl"], [500, 1000]),
        (["round1.csv", "round2.csv"], [1, 2]),
        (["v2_007.csv", "v2_008.csv"], None),
        (["best_of_4.csv", "best_of_8.csv"], None),
        (["llama-7b.csv", "llama-70b.csv"], None),
        (["subject_3.csv", "subject_11.csv"], None),
        (["t0.7.csv", "t0.9.csv"], None),
        (["0.7.csv", "0.9.csv"], None),
        (["step7b.csv", "step70b.csv"], None),
        (["ground1.csv", "ground2.csv"], None),
        (["2024_a.csv", "2025_a.csv"], None),
        (["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"], None),
        (["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"], None),
        (["part-00000.parquet", "part-00001.parquet"], None),
        (["0000.parquet", "0001.parquet"], None),
        (["a1_1.csv", "a2_2.csv"], None),
        (["one.csv", "two.csv"], None),
        (["a1.csv", "b2.csv"], None),
    ],
)
def test_which_number_is_the_round(names, numbers):
    assert numbers_of(names) == numbers


def test_numbers_that_are_no_rounds_are_said(tmp_path):
    found = open_source(shards(tmp_path, ["best_of_4.parquet", "best_of_16.parquet"]))
    assert found.schema.names == ["prompt", "reward", "file"]
    assert found.notes == ("2 files (numbers in their names are not taken for rounds)",)


def test_shards_come_in_the_order_of_their_numbers(tmp_path):
    names = [f"part-{n}.parquet" for n in range(12)]
    found = open_source(shards(tmp_path, names))
    assert found.read().column("reward").to_pylist()[::2] == list(range(12))
    assert found.schema.names == ["prompt", "reward", "file"]


def test_files_with_other_columns(tmp_path):
    shards(tmp_path, ["a.parquet"])
    shards(tmp_path, ["b.parquet"], extra=["x", "y"])
    found = open_source(tmp_path)
    assert found.read().column("extra").to_pylist() == [None, None, "x", "y"]
    assert found.read(["extra"]).column("extra").to_pylist() == [None, None, "x", "y"]
    assert found.notes == ("2 files", "not all files have 'extra'; it is empty in the others")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "c.parquet")
    assert "c.parquet has other columns" in refused(tmp_path)


def test_types_that_differ_between_files(tmp_path):
    (tmp_path / "1.csv").write_text("x,y,l\n1,1,a\n")
    (tmp_path / "2.csv").write_text("x,y,l\n1.5,b,a\n")
    found = open_source(tmp_path)
    assert found.read().to_pylist() == [
        {"x": 1.0, "y": "1", "l": "a", "round": 1},
        {"x": 1.5, "y": "b", "l": "a", "round": 2},
    ]
    assert found.schema.types == found.read().schema.types


def test_codes_that_are_numbers_in_one_file_stay_as_written(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n7,1\n1.50,1\n")
    (tmp_path / "b.csv").write_text("id,x\n007,1\n")
    found = open_source(tmp_path)
    assert found.read().column("id").to_pylist() == ["7", "1.50", "007"]
    assert found.head().equals(found.read())
    (tmp_path / "b.csv").write_text("id,x\n" + "8,1\n" * 100_000 + "007,1\n")
    assert open_source(tmp_path).read(["id"]).column("id").to_pylist()[1:3] == ["1.50", "8"]


def test_flags_of_one_file_are_numbers_beside_those_of_another(tmp_path):
    pq.write_table(pa.table({"picked": [True, False, None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"picked": [0, 1]}), tmp_path / "b.parquet")
    found = open_source(tmp_path)
    assert found.read().column("picked").to_pylist() == [1, 0, None, 0, 1]
    assert found.head().equals(found.read())
    assert found.schema.field("picked").type == pa.int64()


def test_long_numbers_of_one_file_stay_exact_beside_fractions(tmp_path):
    pq.write_table(pa.table({"id": [2**53 + 1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [1.5]}), tmp_path / "b.parquet")
    found = open_source(tmp_path)
    assert found.read().column("id").to_pylist() == ["9007199254740993", "1.5"]
    assert found.head().equals(found.read())


def test_what_lies_beside_shards(tmp_path):
    shards(tmp_path, STEPS)
    for name in ("README.md", ".hidden.parquet", "_SUCCESS", "settings.json"):
        (tmp_path / name).write_text("{}")
    assert open_source(tmp_path).read().num_rows == 6
    (tmp_path / "b.csv").write_text("x\n1\n")
    assert "1 .csv, 3 .parquet" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "neither a run" in refused(tmp_path / "empty")
    assert "no file matches" in refused(str(tmp_path / "*.feather"))
    assert "no such file" in refused(tmp_path / "none.csv")
    with pytest.raises(InputError, match="no column 'rewrd'"):
        open_source(tmp_path / STEPS[0]).read(["rewrd"])


def save_to_disk(folder, *tables):
    """Write a dataset as ``datasets.Dataset.save_to_disk`` does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{len(tables):05d}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def test_a_saved_dataset(tmp_path):
    table = pa.table({"prompt": pa.array(["a", "b"], pa.large_string()), "reward": [0.5, 1.5]})
    save_to_disk(tmp_path / "one", table, table)
    found = open_source(tmp_path / "one")
    assert found.read().num_rows == 4
    assert found.read(["reward"]).column("reward").to_pylist() == [0.5, 1.5] * 2
    assert found.schema.field("prompt").type == found.head().schema.field("prompt").type == pa.string()
    assert found.notes == ("a saved Hugging Face dataset", "2 files")
    for split in ("train", "test"):
        save_to_disk(tmp_path / "dict" / split, table)
    (tmp_path / "dict" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    found = open_source(tmp_path / "dict")
    assert found.read().num_rows == 4
    assert found.notes[0] == "a saved Hugging Face dataset, splits train, test"
    (tmp_path / "one" / "data-00001-of-00002.arrow").unlink()
    assert "missing" in refused(tmp_path / "one")
    save_to_disk(tmp_path / "dict" / "extra", pa.table({"x": [1]}))
    (tmp_path / "dict" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "extra"]}))
    assert "train, extra" in refused(tmp_path / "dict")


@pytest.mark.parametrize("data", [b"prompt;reward\na;0,5\n", b'{"prompt": "a", "reward": 0.5}\n'])
def test_standard_input(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    found = open_source("-")
    assert found.read().to_pylist() == [{"prompt": "a", "reward": 0.5}]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    assert "standard input" in refused("-")


def test_addresses(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    for name in STEPS:
        shards(tmp_path, [name])
        system.pipe_file(f"/runs/{name}", (tmp_path / name).read_bytes())
    try:
        assert open_source(f"memory://runs/{STEPS[0]}").read().num_rows == 2
        for address in ("memory://runs", "memory://runs/*.parquet"):
            assert open_source(address).read().column("round").to_pylist() == [2, 2, 5, 5, 10, 10]
        assert "cannot fetch memory://nothing.csv" in refused("memory://nothing.csv")
    finally:
        system.rm("/runs", recursive=True)


@pytest.mark.parametrize(
    "address", ["https://example.org/a.csv", "s3://bucket/a.csv", "hf://datasets/a/b/c.csv"]
)
def test_addresses_name_their_extra(monkeypatch, address):
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    assert "pip install 'recurate[remote]'" in refused(address)


def test_tables_in_memory_are_sources_too():
    table = pa.table({"reward": [0.5, 1.5], "item": ["a", "b"]})
    found = source_of({"reward": [0.5, 1.5], "item": ["a", "b"]})
    assert found.read().equals(table)
    assert found.head(1).equals(table.slice(0, 1))
    assert found.read(["item"]).column_names == ["item"]
    assert found.notes == ()
    assert table_of(table).equals(table)
    assert name_of(table) == "the table"
