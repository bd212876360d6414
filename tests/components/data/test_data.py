"""Real data: every format is written here by other means than it is read with, and comes back exactly."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import math
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import ValidationError

from recurate.components.data import Digits, Gaussians, ImageData, Moons, Queries, TableData, Uniform
from recurate.components.data.images import _quotas
from recurate.core.errors import InputError
from recurate.core.seeds import Stream

REAL = os.environ.get("RECURATE_DATA")
needs_real_data = pytest.mark.skipif(REAL is None, reason="RECURATE_DATA names no folder of real data")

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (12, 6, 5, 3), np.uint8)
LABELS = np.arange(12) % 3
TEST_GREY, TEST_LABELS = GREY[::-1][:4].copy(), LABELS[:4]
NAMES = ("cat", "dog", "owl")


def load(path, **options):
    return ImageData(kind="images", path=str(path), **options).load(Stream(1))


def hashes(path, **options):
    return ImageData(kind="images", path=str(path), **options).files()


def refused(path, **options):
    """Return the complaint about bad data: always with a remedy."""
    with pytest.raises(InputError) as caught:
        load(path, **options)
    assert caught.value.remedy
    return str(caught.value)


def as_floats(images):
    return (images / 255.0).astype(np.float32)


def together(data):
    """Return all images and labels, in no order: sorted by content."""
    images = np.concatenate([data.train, data.held_out])
    labels = np.concatenate([data.labels, data.held_out_labels])
    order = np.lexsort(images.reshape(len(images), -1).T)
    return images[order], labels[order]


def assert_holds(data, images, labels):
    """The data are these images with these labels, whatever was held out."""
    found, texts = together(data)
    order = np.lexsort(as_floats(images).reshape(len(images), -1).T)
    np.testing.assert_array_equal(found, as_floats(images)[order])
    assert texts.tolist() == np.asarray(labels).astype(str)[order].tolist()
    assert found.dtype == np.float32


# --- writers ---


def idx(values):
    return (
        b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


def write_idx(folder, ending="", compress=bytes):
    folder.mkdir(exist_ok=True)
    for part, images, labels in (("train", GREY, LABELS), ("t10k", TEST_GREY, TEST_LABELS)):
        (folder / f"{part}-images-idx3-ubyte{ending}").write_bytes(compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte{ending}").write_bytes(compress(idx(labels.astype(np.uint8))))
    return folder


def encoded(image, form="png"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, form)
    return buffer.getvalue()


def write_folder(folder, images=COLOUR, form="png"):
    for i, image in enumerate(images):
        path = folder / NAMES[LABELS[i]] / f"{i:03}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **({"lossless": True} if form == "webp" else {}))
    return folder


def hub_schema(image_type):
    features = {"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}}
    noted = json.dumps({"info": {"features": features}})
    return pa.schema([("image", image_type), ("label", pa.int64())], {"huggingface": noted})


def hub_table(images=COLOUR, labels=LABELS, struct_of_bytes=True):
    contents = [encoded(image) for image in images]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct_of_bytes else pa.binary()
    rows = [{"bytes": c, "path": None} for c in contents] if struct_of_bytes else contents
    return pa.table([pa.array(rows, kind), pa.array(labels.tolist(), pa.int64())], hub_schema(kind))


def write_saved(folder, table, shards=2):
    """Write what ``save_to_disk`` of the ``datasets`` library leaves."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{shards:05}.arrow" for i in range(shards)]
    for i, name in enumerate(names):
        part = table.slice(i * len(table) // shards, len(table) // shards)
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(part, max_chunksize=3)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    info = {"features": {"label": {"names": list(NAMES), "_type": "ClassLabel"}}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def write_cifar(folder):
    folder.mkdir()
    images = RNG.integers(0, 256, (30, 3, 32, 32), np.uint8)
    labels = np.arange(30) % 10
    records = [bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)]
    (folder / "data_batch_1.bin").write_bytes(b"".join(records[:12]))
    (folder / "data_batch_2.bin").write_bytes(b"".join(records[12:20]))
    (folder / "test_batch.bin").write_bytes(b"".join(records[20:]))
    (folder / "batches.meta.txt").write_text("".join(f"name{i}\n" for i in range(10)) + "\n")
    return images.transpose(0, 2, 3, 1), labels


# --- formats ---


@pytest.mark.parametrize(
    ("ending", "compress"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
)
def test_idx(tmp_path, ending, compress):
    data = load(write_idx(tmp_path, ending, compress))
    np.testing.assert_array_equal(data.train, as_floats(GREY))
    np.testing.assert_array_equal(data.held_out, as_floats(TEST_GREY))
    assert data.labels.tolist() == LABELS.astype(str).tolist()
    assert data.held_out_labels.tolist() == TEST_LABELS.astype(str).tolist()
    assert set(hashes(tmp_path)) == {
        f"{tmp_path}/{part}-{what}-ubyte{ending}"
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    }


@settings(max_examples=20, deadline=None)
@given(images=arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(1, 5), st.integers(1, 5))))
def test_any_idx_images_come_back(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("idx")
    (folder / "train-images-idx3-ubyte").write_bytes(idx(images))
    data = load(folder, held_out=0.4)
    assert not data.labelled
    assert_holds(data, images, [""] * len(images))


@pytest.mark.parametrize(
    ("images", "form"), [(GREY, "png"), (COLOUR, "png"), (COLOUR, "webp"), (GREY, "bmp"), (COLOUR, "bmp")]
)
def test_a_folder_of_images(tmp_path, images, form):
    write_folder(tmp_path, images, form)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "thumb.png").write_bytes(b"no image")
    (tmp_path / "README.txt").write_text("hello")
    assert_holds(load(tmp_path), images, [NAMES[i] for i in LABELS])


def test_a_folder_with_its_own_test_images(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", COLOUR[:5])
    data = load(tmp_path)
    assert data.train.shape == (12, 6, 5, 3)
    assert data.held_out.shape == (5, 6, 5, 3)
    assert load(tmp_path, held_out=0.25).held_out.shape == (3, 6, 5, 3), "a share, where one is asked for"


def test_deep_grey_images(tmp_path):
    for i, image in enumerate(GREY):
        Image.fromarray(image.astype(np.uint16) * 257).save(tmp_path / f"{i:03}.png")
    data = load(tmp_path)
    assert_holds(data, GREY, [""] * 12)


def test_jpeg(tmp_path):
    write_folder(tmp_path, COLOUR, "jpg")
    found, _ = together(load(tmp_path))
    stored = np.stack([np.asarray(Image.open(p)) for p in sorted(tmp_path.rglob("*.jpg"))])
    np.testing.assert_array_equal(
        np.sort(found.ravel()), np.sort(as_floats(stored).ravel()), "as Pillow decodes them"
    )


@pytest.mark.parametrize(
    ("images", "stored"),
    [
        (GREY, GREY),
        (GREY, GREY[..., None]),
        (GREY, GREY[:, None]),
        (COLOUR, COLOUR),
        (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
        (GREY, as_floats(GREY)),
        (GREY, GREY.astype(np.int64)),
        (GREY, GREY.astype(np.uint16) * 257),
    ],
)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, images, stored, save):
    path = tmp_path / "data.npz"
    save(path, images=np.ascontiguousarray(stored), labels=LABELS[:, None])
    assert_holds(load(path), images, LABELS)
    assert list(hashes(path)) == [str(path)]


def test_npz_of_parts_names_and_other_keys(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x_train=GREY, y_train=LABELS, x_test=TEST_GREY, y_test=TEST_LABELS, label_names=NAMES)
    data = load(path)
    np.testing.assert_array_equal(data.held_out, as_floats(TEST_GREY))
    assert data.labels.tolist() == [NAMES[i] for i in LABELS]
    np.savez(path, pictures=GREY, kinds=np.array(NAMES)[LABELS])
    assert "pictures" in refused(path)
    assert "did you mean 'pictures'" in refused(path, image="picture")
    assert_holds(load(path, image="pictures", label="kinds"), GREY, [NAMES[i] for i in LABELS])


@pytest.mark.parametrize("struct_of_bytes", [True, False])
def test_parquet(tmp_path, struct_of_bytes):
    pq.write_table(hub_table(struct_of_bytes=struct_of_bytes), tmp_path / "one.parquet", row_group_size=5)
    assert_holds(load(tmp_path / "one.parquet"), COLOUR, [NAMES[i] for i in LABELS])


def test_parquet_in_parts(tmp_path):
    (tmp_path / "data").mkdir()
    table = hub_table()
    pq.write_table(table.slice(0, 7), tmp_path / "data" / "train-00000-of-00002.parquet", row_group_size=2)
    pq.write_table(table.slice(7), tmp_path / "data" / "train-00001-of-00002.parquet")
    pq.write_table(table.slice(0, 3), tmp_path / "data" / "test-00000-of-00001.parquet")
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train, as_floats(COLOUR))
    np.testing.assert_array_equal(data.held_out, as_floats(COLOUR[:3]))
    assert data.labels.tolist() == [NAMES[i] for i in LABELS]
    assert len(hashes(tmp_path)) == 3


def test_parquet_without_labels(tmp_path):
    pq.write_table(hub_table().select(["image"]), tmp_path / "one.parquet")
    data = load(tmp_path / "one.parquet")
    assert not data.labelled
    assert len(data.train) + len(data.held_out) == 12


def test_saved_to_disk(tmp_path):
    write_saved(tmp_path / "one", hub_table())
    assert_holds(load(tmp_path / "one"), COLOUR, [NAMES[i] for i in LABELS])
    assert len(hashes(tmp_path / "one")) == 3
    write_saved(tmp_path / "both" / "train", hub_table())
    write_saved(tmp_path / "both" / "test", hub_table(COLOUR[:4], LABELS[:4]))
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    data = load(tmp_path / "both")
    np.testing.assert_array_equal(data.train, as_floats(COLOUR))
    np.testing.assert_array_equal(data.held_out, as_floats(COLOUR[:4]))


def test_binary_cifar(tmp_path):
    images, labels = write_cifar(tmp_path / "cifar")
    data = load(tmp_path / "cifar")
    np.testing.assert_array_equal(data.train, as_floats(images[:20]))
    np.testing.assert_array_equal(data.held_out, as_floats(images[20:]))
    assert data.labels.tolist() == [f"name{i}" for i in labels[:20]]


def test_jpeg_scans_with_one_header(tmp_path):
    contents = [encoded(np.repeat(image, 4, axis=0), "jpeg") for image in COLOUR]
    start = contents[0].index(b"\xff\xda")  # start of scan: tables and sizes before it are the same for all
    header = contents[0][:start]
    assert all(content.startswith(header) for content in contents)
    scans = [content[start:] for content in contents]
    path = tmp_path / "scans.npz"
    np.savez(
        path,
        header=np.frombuffer(header, np.uint8),
        scans=np.frombuffer(b"".join(scans), np.uint8),
        lengths=np.array([len(s) for s in scans], np.uint16),
        labels=LABELS,
    )
    expected = np.stack([np.asarray(Image.open(io.BytesIO(c))) for c in contents])
    assert_holds(load(path), expected, LABELS)
    with np.load(path) as stored:
        np.savez(path, **{**stored, "lengths": stored["lengths"][:-1]})
    assert "lengths" in refused(path)


# --- choosing ---


def test_size_classes_and_shares(tmp_path):
    path = tmp_path / "data.npz"
    images, labels = RNG.integers(0, 256, (100, 4, 4), np.uint8), np.repeat([0, 1, 2], [50, 40, 10])
    np.savez(path, images=images, labels=labels)

    def counts(**options):
        data = load(path, **options)
        return {k: int(v) for k, v in zip(*np.unique(data.labels, return_counts=True), strict=True)}

    assert sum(counts().values()) == 90
    assert sum(counts(held_out=0.5).values()) == 50
    found = counts(size=30, held_out=0.1)
    assert sum(found.values()) == 30
    assert max(found.values()) - min(found.values()) <= 30 - 3 * found["2"]
    assert counts(size=2, classes=("0", "1")) == {"0": 1, "1": 1}
    assert sum(counts(size=30, take="random").values()) == 30
    assert set(counts(classes=("2",))) == {"2"}
    assert "size = 91" in refused(path, size=91)
    assert "got:    9" in refused(path, classes=("9",))
    first, again = load(path, size=20), load(path, size=20)
    np.testing.assert_array_equal(first.train, again.train)
    assert not np.array_equal(
        first.train, ImageData(kind="images", path=str(path), size=20).load(Stream(2)).train
    )
    whole = {image.tobytes() for image in as_floats(images)}
    data = load(path, size=20)
    assert {i.tobytes() for i in data.train} <= whole
    assert not {i.tobytes() for i in data.train} & {i.tobytes() for i in data.held_out}


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=8), data=st.data())
def test_quotas_are_as_even_as_can_be(counts, data):
    size = data.draw(st.integers(1, sum(counts)))
    quotas = _quotas(np.array(counts), size)
    assert quotas.sum() == size
    assert (quotas <= counts).all()
    with_room = [q for q, c in zip(quotas, counts, strict=True) if q < c]
    assert not with_room or max(quotas) - min(with_room) <= 1


def test_grey_colour_and_size_of_images(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, images=COLOUR)
    grey = np.concatenate([*together(load(path, grey=True))[:1]])
    expected = as_floats(COLOUR) @ np.array([0.299, 0.587, 0.114], np.float32)
    np.testing.assert_allclose(np.sort(grey.ravel()), np.sort(expected.ravel()), atol=1e-6)
    assert load(path, resize=4).train.shape[1:] == (4, 4, 3)
    np.savez(path, images=np.full((5, 10, 30), 51, np.uint8))
    np.testing.assert_allclose(load(path, resize=7, grey=False).train, np.full((4, 7, 7, 3), 0.2), atol=1e-6)
    half = np.zeros((5, 4, 8), np.uint8)
    half[:, :, 2:6] = 255  # the square in the middle
    np.savez(path, images=half)
    np.testing.assert_array_equal(load(path, resize=4).train, np.ones((4, 4, 4)))


def test_grey_among_coloured_images(tmp_path):
    write_folder(tmp_path)
    Image.fromarray(GREY[0]).save(tmp_path / "owl" / "zzz.png")
    images, _ = together(load(tmp_path))
    assert images.shape == (13, 6, 5, 3)
    for path in (tmp_path / "cat").iterdir():
        Image.fromarray(GREY[0]).save(path)
    assert "grey = true" in refused(tmp_path, held_out=0.001)


def test_paths_are_found_below_the_folder_of_data(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    write_idx(tmp_path / "mnist")
    (tmp_path / "points.csv").write_text("x,y\n" + "1,2\n" * 10)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("RECURATE_DATA", raising=False)
    assert "RECURATE_DATA" in refused("mnist")
    monkeypatch.setenv("RECURATE_DATA", str(tmp_path))
    assert load("mnist").train.shape == (12, 6, 5)
    assert all(name.startswith("mnist/") for name in hashes("mnist")), "wherever the data lie"
    table = TableData(kind="table", path="points.csv", sample=("x", "y"))
    assert table.load(Stream(0)).train.shape == (9, 2)
    assert set(table.files()) == {"points.csv"}


# --- changes and damage ---


def test_changed_files_have_other_hashes(tmp_path):
    write_folder(tmp_path / "folder")
    before = hashes(tmp_path / "folder")
    assert list(before) == [str(tmp_path / "folder")]
    path = tmp_path / "folder" / "cat" / "000.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    changed = hashes(tmp_path / "folder")
    path.write_bytes(content)
    assert hashes(tmp_path / "folder") == before != changed
    path.rename(tmp_path / "folder" / "dog" / "000.png")
    assert hashes(tmp_path / "folder") != before
    write_idx(tmp_path / "idx")
    names = set(hashes(tmp_path / "idx"))
    assert len(names) == 4
    other = hashes(tmp_path / "folder", test=str(tmp_path / "idx"))
    assert set(other) == names | {str(tmp_path / "folder")}


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_damaged_idx(tmp_path, ending):
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[ending]
    write_idx(tmp_path, ending, compress)
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert path.name in refused(tmp_path)
    path.write_bytes(compress(idx(GREY)[:-1]))
    assert "truncated" in refused(tmp_path)
    path.write_bytes(compress(idx(GREY) + b"\0"))
    assert "longer" in refused(tmp_path)
    path.write_bytes(compress(b"\x1f\x8b" + idx(GREY)))
    assert "not an IDX file" in refused(tmp_path)
    path.write_bytes(compress(idx(LABELS.astype(np.uint8))))
    assert "3 dimensions" in refused(tmp_path)
    path.write_bytes(compress(idx(GREY[:-1])))
    assert "11 images" in refused(tmp_path)
    path.write_bytes(b"")
    assert path.name in refused(tmp_path)


def test_images_that_do_not_fit_together(tmp_path):
    write_folder(tmp_path)
    odd = tmp_path / "dog" / "odd.png"
    Image.fromarray(COLOUR[0][:, :4]).save(odd)
    complaint = refused(tmp_path)
    assert "differ in size" in complaint
    assert "resize" in complaint
    assert load(tmp_path, resize=4).train.shape[1:] == (4, 4, 3)
    odd.write_bytes(encoded(COLOUR[0])[:40])
    assert str(odd) in refused(tmp_path)
    odd.write_bytes(b"<html>not found</html>")
    assert str(odd) in refused(tmp_path)
    odd.unlink()
    (tmp_path / "loose.png").write_bytes(encoded(COLOUR[0]))
    assert "loose.png" in refused(tmp_path)


def test_a_held_out_part_unlike_the_training_part(tmp_path):
    np.savez(tmp_path / "a.npz", images=COLOUR, labels=LABELS)
    np.savez(tmp_path / "b.npz", images=COLOUR)
    assert "several NPZ files" in refused(tmp_path)
    assert "labels" in refused(tmp_path / "a.npz", test=str(tmp_path / "b.npz"))
    np.savez(tmp_path / "b.npz", images=COLOUR[:, :4], labels=LABELS)
    assert "differ in size" in refused(tmp_path / "a.npz", test=str(tmp_path / "b.npz"))
    with pytest.raises(ValidationError, match="test or held_out"):
        ImageData(kind="images", path="a", test="b", held_out=0.5)


class Bomb:
    """Whoever unpickles this is told."""

    def __reduce__(self):
        return (pytest.fail, ("an object was unpickled",))


def test_objects_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.array([Bomb(), Bomb()], object), labels=np.arange(2))
    assert "can run any program" in refused(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=GREY, labels=np.array([Bomb()] * 12, object))
    assert "can run any program" in refused(tmp_path / "a.npz")
    python = tmp_path / "cifar-10-batches-py"
    python.mkdir()
    for name in ("data_batch_1", "batches.meta"):
        (python / name).write_bytes(b"\x80\x04N.")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "images.pickle").write_bytes(b"\x80\x04N.")
    for path in (python, python / "data_batch_1", tmp_path / "other", tmp_path / "other" / "images.pickle"):
        complaint = refused(path)
        assert "never read" in complaint
        assert "cifar-10-binary" in complaint


def test_damaged_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=GREY, labels=LABELS)
    good = path.read_bytes()
    for cut in (10, len(good) // 2, len(good) - 10):
        path.write_bytes(good[:cut])
        assert "a.npz" in refused(path)
    np.savez(path, images=GREY, labels=LABELS)
    good = bytearray(path.read_bytes())
    good[good.index(GREY[3].tobytes()) + 2] ^= 1
    path.write_bytes(bytes(good))
    assert "a.npz" in refused(path), "its checksum tells"
    np.savez(path, images=GREY, labels=LABELS[:-1])
    assert "one label per image" in refused(path)
    np.savez(path, images=GREY.astype(np.float32), labels=LABELS)
    assert "from 0 to 1" in refused(path)
    np.savez(path, images=GREY.astype(str), labels=LABELS)
    assert "must hold numbers" in refused(path)
    np.savez(path, images=GREY.reshape(12, 30), labels=LABELS)
    assert "(n, h, w)" in refused(path)
    np.savez(path, images=np.full((3, 4, 4), np.nan))
    assert "from 0 to 1" in refused(path)


def test_damaged_tables(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(hub_table(), path)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert "a.parquet" in refused(path)
    pq.write_table(hub_table().select(["label"]), path)
    assert "no column with a usual name" in refused(path)
    pq.write_table(pa.table({"image": [1, 2, 3]}), path)
    assert "encoded images" in refused(path)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": "cat.png"}] * 3, kind)}), path)
    assert "only the path cat.png" in refused(path)
    saved = write_saved(tmp_path / "saved", hub_table())
    shard = saved / "data-00001-of-00002.arrow"
    good = shard.read_bytes()
    shard.write_bytes(good[: len(good) // 2])
    assert "data-00001" in refused(saved)
    shard.unlink()
    assert "data-00001" in refused(saved)


def test_damaged_cifar_and_nothing(tmp_path):
    write_cifar(tmp_path / "cifar")
    path = tmp_path / "cifar" / "data_batch_1.bin"
    path.write_bytes(path.read_bytes()[:-5])
    assert "3073" in refused(tmp_path / "cifar")
    (tmp_path / "empty").mkdir()
    assert "no images" in refused(tmp_path / "empty")
    (tmp_path / "a.csv").write_text("x")
    assert "'.csv'" in refused(tmp_path / "a.csv")
    write_folder(tmp_path / "unlabelled" / "one")
    assert "several" not in refused(tmp_path / "nowhere")


def test_a_run_is_told_of_changed_images(tmp_path):
    from helpers.tiny import DIGITS
    from recurate.loop.config import parse_config
    from recurate.loop.driver import resume, run

    path = tmp_path / "data.npz"
    images = RNG.integers(0, 256, (60, 4, 4), np.uint8)
    np.savez(path, images=images, labels=np.arange(60) % 2)
    run(
        parse_config(DIGITS | {"data": {"kind": "images", "path": str(path), "held_out": 0.4}}),
        tmp_path / "out",
    )
    np.savez(path, images=images + 1, labels=np.arange(60) % 2)
    with pytest.raises(InputError, match="changed since it began"):
        resume(tmp_path / "out")


# --- memory ---


@pytest.mark.parametrize("form", ["idx", "npz"])
def test_memory_stays_near_the_array_itself(tmp_path, form):
    images = np.zeros((4000, 40, 40), np.uint8)
    if form == "idx":
        (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    else:
        np.savez(tmp_path / "a.npz", images=images)
    tracemalloc.start()
    data = load(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * (data.train.nbytes + data.held_out.nbytes)


# --- synthetic data ---


def test_generated_queries():
    made = Queries(kind="queries", source="generated", size=11_200).load(Stream(0))
    texts = [*made.train, *made.held_out]
    assert len(set(texts)) == len(texts) == 11_200
    names, counts = np.unique([*made.labels, *made.held_out_labels], return_counts=True)
    assert len(names) == 8
    assert set(counts) == {1400}
    few = Queries(kind="queries", source="generated", size=500).load(Stream(0))
    assert few.train.size + few.held_out.size == 500
    assert not set(few.train) & set(few.held_out)
    assert Queries(kind="queries", source="generated").files() == {}


def test_queries_of_clinc150(tmp_path, monkeypatch):
    folder = tmp_path / "clinc150"
    folder.mkdir()
    rows = "".join(f"train,topic {i % 3},x,query {i}\n" for i in range(30)) + "oos_val,oos,oos,what\n"
    with gzip.open(folder / "clinc150.csv.gz", "wt") as file:
        file.write("split,domain,intent,text\n" + rows)
    monkeypatch.setenv("RECURATE_DATA", str(tmp_path))
    monkeypatch.chdir(folder)
    settings = Queries(kind="queries")
    found = settings.load(Stream(0))
    assert settings.title == "queries (CLINC150)"
    assert len(found.train) + len(found.held_out) == 30
    assert set(found.labels) == {"topic 0", "topic 1", "topic 2"}
    assert list(settings.files()) == ["clinc150/clinc150.csv.gz"]
    monkeypatch.delenv("RECURATE_DATA")
    assert settings.title == "queries (generated)"
    with pytest.raises(InputError, match="no such data file"):
        Queries(kind="queries", source="clinc150").load(Stream(0))


def test_moons():
    plain = Moons(kind="moons", noise=0.0, size=1000).load(Stream(0))
    zero, one = plain.train[plain.labels == "0"], plain.train[plain.labels == "1"]
    assert 400 < len(zero) < 600
    np.testing.assert_allclose(np.linalg.norm(zero, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(one - [1, 0.5], axis=1), 1, atol=1e-6)
    assert zero[:, 1].min() >= -1e-6
    assert one[:, 1].max() <= 0.5 + 1e-6
    assert len(plain.held_out) == 100
    scaled = Moons(kind="moons", noise=0.0, size=1000, scale=3, shift=(-1, -1)).load(Stream(0))
    np.testing.assert_allclose(scaled.train, 3 * plain.train - 1, atol=1e-6)
    noisy = Moons(kind="moons", noise=0.1, size=20_000).load(Stream(0))
    radii = np.linalg.norm(noisy.train[noisy.labels == "0"], axis=1)
    assert radii.std() == pytest.approx(0.1, rel=0.1)
    assert not np.array_equal(noisy.train, Moons(kind="moons", noise=0.1, size=20_000).load(Stream(1)).train)


def test_an_even_box():
    from helpers.tiny import DIGITS
    from recurate.loop.config import parse_config

    found = Uniform(kind="uniform", low=(0.0, -1.0), high=(0.2, 1.0), size=5000).load(Stream(0))
    assert (found.train.shape, found.held_out.shape) == ((5000, 2), (500, 2))
    low, high = found.train.min(axis=0), found.train.max(axis=0)
    np.testing.assert_allclose(low, [0.0, -1.0], atol=0.002)
    np.testing.assert_allclose(high, [0.2, 1.0], atol=0.002)
    np.testing.assert_allclose(found.train.std(axis=0), np.array([0.2, 2.0]) / math.sqrt(12), rtol=0.05)
    assert not found.labelled
    for corners in ({"low": (0.0,)}, {"low": (1.0, 0.0)}, {"high": (1e9, 1.0)}, {"high": (math.nan, 1.0)}):
        with pytest.raises(ValueError, match=r"box|finite"):
            Uniform(kind="uniform", **corners)
    with pytest.raises(InputError, match=r"data: a box needs .* low = \[1.0, 0.0\]"):
        parse_config({**DIGITS, "data": {"kind": "uniform", "low": [1.0, 0.0]}})


def test_what_was_there_before_is_as_it_was():
    """Digits and Gaussians are drawn as before data had a room of its own."""
    data = Gaussians(size=10).load(Stream(0))
    assert (len(data.train), len(data.held_out)) == (10, 1)
    order = Stream(0).generator().permutation(1797)
    from sklearn.datasets import load_digits

    images = (load_digits().images / 16).astype(np.float32)
    np.testing.assert_array_equal(Digits().load(Stream(0)).train, images[order[:1438]])


# --- real data ---


@needs_real_data
def test_fashion_mnist_its_smaller_half(tmp_path):
    for what in ("images-idx3-ubyte.xz", "labels-idx1-ubyte.gz"):
        (tmp_path / f"train-{what}").symlink_to(Path(REAL) / "fashion_mnist" / f"t10k-{what}")
    data = load(tmp_path, size=500, classes=("1", "8"))
    assert data.train.shape == (500, 28, 28)
    assert data.held_out.shape == (200, 28, 28)
    bright = [data.train[data.labels == c].mean() for c in ("1", "8")]
    assert bright == pytest.approx([0.22, 0.35], abs=0.03)  # trousers and bags


@pytest.mark.slow
@needs_real_data
def test_fashion_mnist():
    data = load(Path(REAL) / "fashion_mnist", size=500)
    assert data.train.shape == (500, 28, 28)
    assert data.held_out.shape == (10_000, 28, 28)
    assert [int((data.labels == str(i)).sum()) for i in range(10)] == [50] * 10
    path = Path(REAL) / "fashion_mnist" / "t10k-images-idx3-ubyte.xz"
    raw = np.frombuffer(lzma.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    np.testing.assert_array_equal(data.held_out, as_floats(raw))


@needs_real_data
def test_cifar_as_jpeg_scans():
    folder = Path(REAL) / "cifar10_jpeg"
    data = load(folder / "cifar10_jpeg_test10k.npz", size=200, held_out=0.01)
    assert data.train.shape == (200, 32, 32, 3)
    assert len(data.held_out) == 100
    assert [int((data.labels == str(i)).sum()) for i in range(10)] == [20] * 10
    assert 0.4 < data.train.mean() < 0.55
