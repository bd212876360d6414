"""Folders of images, in which the name of a subfolder is the class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recurate.components.data.decoding import Part, Picture, decode
from recurate.core.arrays import IntArray
from recurate.core.errors import InputError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}


def pictures_in(folder: Path) -> list[Path]:
    """Return the paths of all images below a folder, sorted; hidden files and folders are skipped."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)
    return sorted(
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )


def part(folder: Path) -> Part:
    """Return the images below a folder; the label is the subfolder's name, or None without subfolders.

    Raises:
        InputError: If some images are in subfolders and others are not.
    """
    paths = pictures_in(folder)
    classes = [path.relative_to(folder).parts[:-1] for path in paths]
    loose = [path for path, below in zip(paths, classes, strict=True) if not below]
    if loose and len(loose) < len(paths):
        raise InputError(
            f"some images in {folder} are in subfolders, which name their classes, and others are not",
            got=loose[0].name,
            remedy="move it to the subfolder of its class, or remove it",
        )
    labels = None if loose else np.array([below[0] for below in classes])

    def read(rows: IntArray) -> Iterator[Picture]:
        for row in rows:
            yield decode(paths[row], str(paths[row]))

    return Part(str(folder), len(paths), labels, read, lambda row: str(paths[row]))
