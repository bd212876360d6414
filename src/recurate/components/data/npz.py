"""NPZ files: arrays of images, read in blocks; or JPEG scans that share one header.

The second layout stores the JPEG header once (``header``), the scans of all images one after another
(``scans``), their numbers of bytes (``lengths``) and ``labels``. CIFAR-10 in its original JPEG bytes is
distributed in this layout, a third as large as with one header per image.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from recurate.components.data import decoding
from recurate.components.data.decoding import Part, Picture, damage_explained, numbered
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError
from recurate.core.limits import check_unpacked

IMAGES = ("images", "image", "x", "X", "data", "arr_0")
LABELS = ("labels", "label", "y", "Y", "targets", "target", "arr_1")
NAMES = ("label_names", "class_names", "classes", "names")
TRAIN, TEST = ("train",), ("test", "val", "valid", "validation")
SCANS = {"header", "scans", "lengths"}
BLOCK = 2**20  # bytes per block


def parts(path: Path, image: str | None, label: str | None) -> tuple[Part, Part | None]:
    """Return the images of an NPZ file, and its test set or None.

    Args:
        path: NPZ file.
        image: Key of the images; None: a usual name.
        label: Key of the labels; None: a usual name.

    Raises:
        InputError: If no array of images is found, shapes do not match, an array holds Python objects, or the
            file is damaged.
    """
    keys = _keys(path)
    if image is None and keys >= SCANS:
        return _scans(
            path, decoding.find_names(("scans", label), ((), LABELS), keys, "array", str(path))[1]
        ), None
    train, test = (None if image else _named(keys, prefixes) for prefixes in (TRAIN, TEST))
    if train is not None:
        return _part(path, train[0], label or train[1]), None if test is None else _part(path, *test)
    usual = (IMAGES, () if image else LABELS)
    return _part(path, *decoding.find_names((image, label), usual, keys, "array", str(path))), None


def _named(keys: set[str], prefixes: Sequence[str]) -> tuple[str, str | None] | None:
    """Return the keys of a part's images and labels, such as ``x_train`` or ``train_images``, or None."""
    for prefix in prefixes:
        images = [k for name in IMAGES for k in (f"{prefix}_{name}", f"{name}_{prefix}") if k in keys]
        labels = [k for name in LABELS for k in (f"{prefix}_{name}", f"{name}_{prefix}") if k in keys]
        if images:
            return images[0], labels[0] if labels else None
    return None


def _part(path: Path, image: str, label: str | None) -> Part:
    with _member(path, image) as (_, stored, kind):
        shape = stored
    if kind.kind not in "buif":
        raise InputError(
            f"{path}: array {image!r} must hold numbers",
            got=f"type {kind}",
            remedy="name another array with data.image",
        )
    arrange = _arrangement(shape, f"{path}: array {image!r}")
    labels = None if label is None else _labels(path, label, shape[0])

    def read(rows: IntArray) -> Iterator[Picture]:
        with _member(path, image) as (file, _, dtype):
            size = dtype.itemsize * math.prod(shape[1:])
            block, wanted = max(BLOCK // max(size, 1), 1), set(rows.tolist())
            for start in range(0, shape[0], block):
                number = min(block, shape[0] - start)
                content = file.read(number * size)
                found = np.frombuffer(content, dtype).reshape(number, *shape[1:])
                for row in range(start, start + number):
                    if row in wanted:
                        yield arrange(found[row - start])
            file.read(1)  # reads past the end, which makes zipfile compare the checksum

    return Part(f"{path}: {image}", shape[0], labels, read, numbered(f"{path}: {image}"))


def _arrangement(shape: tuple[int, ...], name: str) -> Any:
    """Return the function that converts a stored image to shape (h, w) or (h, w, 3)."""
    if len(shape) == 3 or (len(shape) == 4 and shape[3] == 3):
        return lambda image: image
    if len(shape) == 4 and shape[3] == 1:
        return lambda image: image[..., 0]
    if len(shape) == 4 and shape[1] == 3:
        return lambda image: image.transpose(1, 2, 0)
    if len(shape) == 4 and shape[1] == 1:
        return lambda image: image[0]
    raise InputError(
        f"{name} must have the shape (n, h, w), (n, h, w, 3) or (n, 3, h, w)",
        got=f"shape {shape}",
        remedy="reshape it, or name another array with data.image",
    )


def _labels(path: Path, key: str, count: int) -> NDArray[Any]:
    found = _load(path, key)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.shape != (count,) or found.dtype.kind not in "iubUS":
        raise InputError(
            f"{path}: array {key!r} must hold one label per image, as whole numbers or text",
            got=f"shape {found.shape} of {found.dtype} for {count} images",
            remedy="name the array of labels with data.label",
        )
    named = [name for name in NAMES if name in _keys(path)]
    if found.dtype.kind in "iu" and named:
        return decoding.as_labels(found, _load(path, named[0]).astype(str).ravel())
    return found.astype(str)


def _scans(path: Path, label: str | None) -> Part:
    """Return JPEG images that share a header, from the arrays ``header``, ``scans`` and ``lengths``."""
    header, scans = _load(path, "header").tobytes(), _load(path, "scans")
    ends = np.concatenate([[0], np.cumsum(_load(path, "lengths").astype(np.int64))])
    if scans.dtype != np.uint8 or ends[-1] != scans.size or (np.diff(ends) < 0).any():
        raise InputError(
            f"{path}: the scans must be bytes, as many as the sum of their lengths",
            got=f"{scans.size} of {scans.dtype}, lengths that sum to {ends[-1]}",
            remedy="download it again",
        )
    labels = None if label is None else _labels(path, label, len(ends) - 1)

    def read(rows: IntArray) -> Iterator[Picture]:
        for row in rows:
            scan = scans[ends[row] : ends[row + 1]].tobytes()
            yield decoding.decode(header + scan, numbered(str(path))(row))

    return Part(str(path), len(ends) - 1, labels, read, numbered(str(path)))


def _keys(path: Path) -> set[str]:
    with damage_explained(path, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}


def _load(path: Path, key: str) -> NDArray[Any]:
    with _member(path, key):
        pass  # _member rejects Python objects
    with damage_explained(path, zipfile.BadZipFile, zlib.error), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[key])


@contextmanager
def _member(path: Path, key: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """Open an array of the file; yield it, positioned after its header, with its shape and type.

    Raises:
        InputError: If the array holds Python objects or is in column-major order, or the file is damaged.
    """
    with (
        damage_explained(path, zipfile.BadZipFile, zlib.error),
        zipfile.ZipFile(path) as archive,
        archive.open(f"{key}.npy") as file,
    ):
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(file)
        if dtype.hasobject:
            raise InputError(
                f"{path}: array {key!r} holds Python objects, which can run any program and are never read",
                got=f"type {dtype}",
                remedy="save it as an array of numbers or strings, such as array.astype(str)",
            )
        if fortran and len(shape) > 1:
            raise InputError(
                f"{path}: array {key!r} is stored in column-major order",
                got="Fortran order",
                remedy="save numpy.ascontiguousarray(array) instead",
            )
        check_unpacked(path, path.stat().st_size, math.prod(shape) * dtype.itemsize)
        yield file, shape, dtype
