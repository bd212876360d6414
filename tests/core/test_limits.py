"""Limits on what small files unpack to, on pixels and on memory: each names what lifts it."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recurate.components.data.decoding import decode
from recurate.core import limits
from recurate.core.errors import InputError
from recurate.log.inputs import table_of

LINES = b'{"reward": 0.5}\n' * 200_000  # 3.2 MB


@pytest.fixture
def low(monkeypatch):
    monkeypatch.setitem(limits.USUAL, limits.BYTES, 2**20)
    monkeypatch.setitem(limits.USUAL, limits.PIXELS, 1000)


def packed(ending, path):
    if ending == ".gz":
        path.write_bytes(gzip.compress(LINES))
    elif ending == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(LINES)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("log.jsonl", LINES)
    return path


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zip"])
@pytest.mark.parametrize("form", [".jsonl", ".csv", ".json"])
def test_a_bomb_is_refused_and_the_message_lifts_the_limit(low, tmp_path, monkeypatch, ending, form):
    path = packed(ending, tmp_path / f"log{'.jsonl' if ending == '.zip' else form}{ending}")
    with pytest.raises(InputError, match="unpacks to more than 100 times its size") as caught:
        table_of(path)
    name, _, value = caught.value.remedy.split(": ")[1].split()[0].partition("=")
    monkeypatch.setenv(name, value)
    assert table_of(packed(".gz", tmp_path / "log.jsonl.gz")).num_rows == 200_000


def test_one_endless_line_is_not_read_to_its_end(low, tmp_path):
    path = tmp_path / "line.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": "' + b"x" * 2**26))
    with pytest.raises(InputError, match="unpacks to more than"):
        table_of(path)


def test_a_parquet_file_of_a_constant_is_refused(low, tmp_path):
    path = tmp_path / "constant.parquet"
    pq.write_table(pa.table({"reward": np.zeros(2_000_000)}), path, compression="zstd")
    with pytest.raises(InputError, match=limits.BYTES):
        table_of(path)


def test_what_is_packed_no_more_than_logs_are_is_read(low, tmp_path):
    rewards = np.random.default_rng(0).normal(size=100_000)
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(("reward\n" + "\n".join(map(repr, rewards.tolist()))).encode()))
    assert table_of(path).num_rows == 100_000


def test_pixels_are_counted_before_they_are_decoded(low, monkeypatch):
    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (40, 30)).save(out, "PNG")
    with pytest.raises(InputError, match="an image is too large") as caught:
        decode(out.getvalue(), "big.png")
    assert "big.png: 40 x 30 pixels" in caught.value.got
    assert f"{limits.PIXELS}=1200" in caught.value.remedy
    monkeypatch.setenv(limits.PIXELS, "1200")
    assert decode(out.getvalue(), "big.png").shape == (30, 40)


@pytest.mark.parametrize("value", ["0", "-1", "x", "1e9", "9" * 30])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv(limits.BYTES, value)
    with pytest.raises(InputError, match=limits.BYTES):
        limits.limit(limits.BYTES)


def test_memory():
    limits.check_memory("this", 1000, "")
    with pytest.raises(InputError, match="this does not fit into memory"):
        limits.check_memory("this", 1e18, "lower it")
