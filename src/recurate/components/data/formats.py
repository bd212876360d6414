"""Detection of the format of images at a path, and of their training files and held-out files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recurate.components.data import cifar, folders, idx, npz, parquet
from recurate.components.data.decoding import Part, damage_explained
from recurate.core.data_files import sha256_of_all
from recurate.core.errors import InputError
from recurate.core.sealed import sha256

TEST = ("test", "validation", "valid", "val")
IDX = re.compile(r"(?P<prefix>.*?)(?P<part>train|t10k|test)[-_.]images[-_.]idx3[-_.]ubyte(\.gz|\.xz)?")
OBJECTS = re.compile(r"\.(pkl|pick\w+|pt|pth|joblib)")  # extensions of files of pickled Python objects
INFO = "dataset_info.json"  # written by the datasets library, with the names of the classes
REMEDY = "docs/running.md lists the formats that can be read"


@dataclass(frozen=True)
class Layout:
    """The files of one set of images.

    Attributes:
        kind: Format of the files.
        place: Path that the settings name.
        train: Training files, or one folder for ``folder``, or the one file with all images for ``npz``.
        test: Held-out files, or one folder for ``folder``; empty if there are none.
        beside: Other files that are read, such as those with the names of the classes.
    """

    kind: Literal["idx", "folder", "npz", "table", "cifar"]
    place: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    beside: tuple[Path, ...] = ()

    def parts(self, image: str | None, label: str | None) -> tuple[Part, Part | None]:
        """Return the training images and the source's own held-out images, or None.

        Args:
            image: Key or column of the images (NPZ, tables); None: a usual name.
            label: Key or column of the labels (NPZ, tables); None: a usual name.

        Raises:
            InputError: If a file is damaged, or the images or labels are not found.
        """
        if self.kind == "npz":
            return npz.parts(self.train[0], image, label)
        train = self._part(self.train, image, label)
        return train, self._part(self.test, image, label) if self.test else None

    def _part(self, paths: tuple[Path, ...], image: str | None, label: str | None) -> Part:
        name = str(self.place) if paths == self.train else f"{self.place} (held out)"
        beside = self.beside[0] if self.beside else None
        if self.kind == "idx":
            return idx.part(paths[0], paths[1] if len(paths) > 1 else None, name)
        if self.kind == "folder":
            return folders.part(paths[0])
        if self.kind == "cifar":
            return cifar.part(paths, beside, name)
        return parquet.part(paths, beside, image, label, name)

    def hashes(self, name: str) -> dict[str, str]:
        """Return the SHA-256 of every file that is read, by names that begin with ``name``.

        A folder of images has one hash for all of them.
        """
        if self.kind == "folder":
            return {name: sha256_of_all(self.place, folders.pictures_in(self.place))}
        files = (*self.train, *self.test, *self.beside)
        if files == (self.place,):
            return {name: sha256(self.place)}
        return {f"{name}/{path.relative_to(self.place).as_posix()}": sha256(path) for path in files}


def layout(place: Path) -> Layout:
    """Detect the format of the images at a path.

    Raises:
        InputError: If there are no images in a format that can be read.
    """
    if place.is_file():
        return _file(place)
    for find in (_saved, _idx, _cifar, _parquet):
        found = find(place)
        if found is not None:
            return found
    archives = sorted(place.glob("*.npz"))
    if len(archives) == 1:
        return Layout("npz", place, (archives[0],))
    if archives:
        raise InputError(
            "there are several NPZ files",
            got=", ".join(path.name for path in archives),
            remedy="set data.path to one of them, and data.test to the one with held-out images, if any",
        )
    return _folder(place)


def _file(path: Path) -> Layout:
    if path.suffix == ".npz":
        return Layout("npz", path, (path,))
    if path.suffix == ".parquet":
        return Layout("table", path, (path,))
    if OBJECTS.fullmatch(path.suffix) or re.fullmatch(r"data_batch_\d|test_batch|batches\.meta", path.name):
        raise _objects(path)
    raise InputError(
        f"{path} is not a file of images in a format that can be read",
        got=f"the extension {path.suffix!r}",
        remedy=f"give an .npz or .parquet file or, for other formats, the folder that holds them; {REMEDY}",
    )


def _idx(place: Path) -> Layout | None:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(place.iterdir(), reverse=True):  # a plain file replaces a compressed one
        match = IDX.fullmatch(path.name)
        if match:
            found.setdefault(match["prefix"], {})[match["part"]] = path
    if not found:
        return None
    if len(found) > 1 or "train" not in next(iter(found.values())):
        raise InputError(
            f"{place} must hold exactly one set of IDX files, with training images",
            got=", ".join(sorted(p.name for parts in found.values() for p in parts.values())),
            remedy="put each set into its own folder, as train-images-idx3-ubyte, train-labels-idx1-ubyte, "
            "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte",
        )
    parts = next(iter(found.values()))
    test = parts.get("t10k", parts.get("test"))
    return Layout("idx", place, _with_labels(parts["train"]), () if test is None else _with_labels(test))


def _with_labels(images: Path) -> tuple[Path, ...]:
    """Return a file of images and, if it exists, the file of its labels, compressed or not."""
    stem = re.sub(r"(\.gz|\.xz)$", "", images.name).replace("images", "labels").replace("idx3", "idx1")
    return images, *_present(images.parent, stem, f"{stem}.gz", f"{stem}.xz")[:1]


def _cifar(place: Path) -> Layout | None:
    train = tuple(sorted(place.glob("data_batch_*.bin")))
    if train:
        test, names = _present(place, "test_batch.bin"), _present(place, "batches.meta.txt")
        return Layout("cifar", place, train, test, names)
    stored = _present(place, "data_batch_1", "batches.meta", "test_batch", "meta")
    if stored:
        raise _objects(stored[0])
    return None


def _parquet(place: Path) -> Layout | None:
    paths = sorted(place.rglob("*.parquet"))
    if not paths:
        return None
    by_part: dict[str, list[Path]] = {}
    for path in paths:
        by_part.setdefault(_split_of(path.relative_to(place)), []).append(path)
    names = [name for name in TEST if name in by_part]
    train = by_part.get("train") or by_part.get("")
    if train is None:
        raise _no_training(place, by_part)
    return Layout("table", place, tuple(train), tuple(by_part[names[0]]) if names else ())


def _split_of(path: Path) -> str:
    """Return the split that a file belongs to, by its name or its folders', or an empty string."""
    words = [re.split(r"[-_.]", path.name)[0], *path.parts[:-1]]
    return next((word for word in words if word in ("train", *TEST)), "")


def _saved(place: Path) -> Layout | None:
    """Return the files that ``save_to_disk`` of the ``datasets`` library wrote, for one or several splits."""
    listed = place / "dataset_dict.json"
    if listed.is_file():
        with damage_explained(listed):
            splits = [str(name) for name in json.loads(listed.read_text(encoding="utf-8"))["splits"]]
        if "train" not in splits:
            raise _no_training(place, splits)
        train, test = place / "train", next((place / name for name in TEST if name in splits), None)
        held_out = () if test is None else _streams(test)
        return Layout("table", place, _streams(train), held_out, _present(train, INFO))
    if (place / "state.json").is_file():
        return Layout("table", place, _streams(place), (), _present(place, INFO))
    return None


def _streams(folder: Path) -> tuple[Path, ...]:
    state = folder / "state.json"
    with damage_explained(state, TypeError):
        files = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
        paths = tuple(folder / Path(file["filename"]).name for file in files)
    if not paths or not all(path.is_file() for path in paths):
        missing = [path.name for path in paths if not path.is_file()]
        raise InputError(
            f"{folder} lacks files that its state.json names",
            got=", ".join(missing) or "state.json names no file",
            remedy="save the dataset again",
        )
    return paths


def _present(folder: Path, *names: str) -> tuple[Path, ...]:
    """Return those of the files that the folder contains."""
    return tuple(folder / name for name in names if (folder / name).is_file())


def _folder(place: Path) -> Layout:
    if not folders.pictures_in(place):
        wrong = [p for p in sorted(place.iterdir()) if OBJECTS.fullmatch(p.suffix)]
        if wrong:
            raise _objects(wrong[0])
        raise InputError(f"there are no images in {place}", got=_listing(place), remedy=REMEDY)
    train = place / "train"
    if not train.is_dir():
        return Layout("folder", place, (place,))
    test = [place / name for name in TEST if folders.pictures_in(place / name)]
    if not folders.pictures_in(train):
        raise _no_training(place, [p.name for p in test])
    return Layout("folder", place, (train,), tuple(test[:1]))


def _listing(place: Path) -> str:
    names = sorted(path.name for path in place.iterdir())
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def _no_training(place: Path, splits: Iterable[str]) -> InputError:
    return InputError(
        f"{place} has no training images",
        got=f"splits {', '.join(sorted(splits))}",
        remedy="name one split 'train', or give the file or folder of one split",
    )


def _objects(path: Path) -> InputError:
    return InputError(
        f"{path} holds pickled Python objects, which are never read because they can run any program",
        got=path.name,
        remedy="use the data in another format; for CIFAR-10, the binary version cifar-10-binary.tar.gz",
    )
