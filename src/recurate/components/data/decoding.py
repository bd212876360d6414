"""Reading of images: the interface of their sources, and decoding, cropping and scaling of single images."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.arrays import IntArray
from recurate.core.errors import InputError, nearest
from recurate.core.limits import check_pixels
from recurate.log.samples import Samples

Picture = NDArray[Any]  # (h, w) or (h, w, 3): whole numbers or Booleans as stored, or floats in [0, 1]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
UNREADABLE: tuple[type[Exception], ...] = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, IndexError, KeyError,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """The images of one part of a source (training or held out), any of which can be read.

    Attributes:
        name: Name of the part in messages.
        count: Number of images.
        labels: Labels of the images as text, shape (count,), or None.
        read: Function that yields the images of the given rows, which must be in ascending order.
        title: Function that returns the name of the image in a row, for messages.
    """

    name: str
    count: int
    labels: NDArray[Any] | None
    read: Callable[[IntArray], Iterator[Picture]]
    title: Callable[[int], str]


def numbered(name: str) -> Callable[[int], str]:
    """Return a function that titles images without names by their numbers, from 1."""
    return lambda row: f"{name}: image {row + 1}"


def find_names(
    asked: tuple[str | None, str | None],
    usual: tuple[Sequence[str], Sequence[str]],
    names: Collection[str],
    what: str,
    place: str,
) -> tuple[str, str | None]:
    """Return the names of the images and of their labels (or None) among the arrays or columns of a file.

    Args:
        asked: Names of the images and of the labels that the settings give; None: the first usual name.
        usual: Usual names of images and of labels.
        names: Names that the file has.
        what: ``array`` or ``column``, for messages.
        place: Name of the file in messages.

    Raises:
        InputError: If the file lacks a name that was asked for, or has no usual name for images.
    """
    for name in asked:
        if name is not None and name not in names:
            raise InputError(
                f"{place} has no {what} {name!r}",
                got=f"{what}s {', '.join(sorted(names))}",
                remedy=nearest(name, names),
            )
    image, label = (
        name or next((u for u in often if u in names), None) for name, often in zip(asked, usual, strict=True)
    )
    if image is None:
        raise InputError(
            f"{place} has no {what} with a usual name for images",
            got=f"{what}s {', '.join(sorted(names))}",
            remedy=f"name the {what} with data.image, and the labels with data.label",
        )
    return image, label


def as_labels(codes: IntArray, names: Sequence[str] | NDArray[np.str_] | None) -> NDArray[Any]:
    """Return whole numbers (n,) as labels: the classes' names if every number has one, else digits."""
    if names is not None and codes.min() >= 0 and codes.max() < len(names):
        return np.asarray(np.array(names)[codes])
    return np.asarray(codes.astype(str))


def decode(content: bytes | Path, title: str) -> Picture:
    """Decode an image with Pillow.

    Args:
        content: Bytes of the encoded image, or its path.
        title: Name of the image in messages.

    Returns:
        Grey values (h, w) with 8 or 16 bits, or RGB values (h, w, 3) with 8 bits; transparency is discarded.

    Raises:
        InputError: If Pillow is not installed or cannot decode the whole image, or it has too many pixels.
    """
    try:
        from PIL import Image
    except ImportError:
        raise InputError(
            "images need Pillow, which is not installed",
            got="no module named PIL",
            remedy="pip install 'recurate[run]'",
        ) from None
    try:
        with (
            _own_limit(Image),
            Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image,
        ):
            check_pixels(title, *image.size)
            mode = image.mode
            if mode in ("I", "F"):
                raise ValueError(f"pixels of mode {mode}, whose range is unknown")
            if mode.startswith("I;16"):
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("L" if mode in ("1", "L", "LA", "La") else "RGB"))
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "an image cannot be read",
            got=f"{title}: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            remedy="repair or remove it",
        ) from None


@contextmanager
def _own_limit(image: Any) -> Iterator[None]:
    """Leave the limit on pixels to :func:`recurate.core.limits.check_pixels`, which names what raises it."""
    usual, image.MAX_IMAGE_PIXELS = image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        image.MAX_IMAGE_PIXELS = usual


@contextmanager
def damage_explained(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Convert the errors that libraries raise on damaged files into one error that names the file.

    Args:
        path: File that is read.
        errors: Further exception types that indicate damage.

    Raises:
        InputError: If the block raises one of these errors.
    """
    try:
        yield
    except InputError:
        raise
    except (*UNREADABLE, *errors) as error:
        raise InputError(
            f"cannot read {path}",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            remedy="the file is truncated, damaged or not of the format of its name; download it again",
        ) from None


def assemble(
    part: Part, rows: IntArray, *, grey: bool | None, side: int | None, like: tuple[int, ...] | None = None
) -> Samples:
    """Read images as float32 in [0, 1], shape (n, h, w) or (n, h, w, 3), in the order of ``rows``.

    Args:
        part: Part of a source that holds the images.
        rows: Rows of the images, in ascending order, shape (n,).
        grey: True converts the images to grey, False to colour; None adopts the first image's mode.
        side: Side in pixels of the square that images are cropped to (at the centre) and scaled to; None
            leaves their sizes unchanged.
        like: Shape that every image must have; None adopts that of the first image.

    Raises:
        InputError: If images differ in size, differ in colour while ``grey`` is None, or cannot be read.
    """
    first, colour = "", None if grey is None else not grey
    out: Samples = np.empty(0, np.float32)
    if like is not None:
        colour, first = len(like) == 3, "the first training image"
        out = np.empty((len(rows), *like), np.float32)
    # The iterator must have as many images as rows: a shorter one would leave images undefined.
    for i, (row, picture) in enumerate(zip(rows.tolist(), part.read(rows), strict=True)):
        if colour is None:
            colour = picture.ndim == 3
        if grey is None and not colour and picture.ndim == 3:
            raise InputError(
                "some images are grey and others are in colour",
                got=f"{part.title(row)} in colour, the first one grey",
                remedy="set data.grey = true or data.grey = false",
            )
        image = _scaled(_floats(picture, colour, part, row), side)
        if not first:
            first = part.title(row)
            out = np.empty((len(rows), *image.shape), np.float32)
        if image.shape != out.shape[1:]:
            height, width = image.shape[:2]
            raise InputError(
                "images differ in size",
                got=f"{part.title(row)} is {height} x {width}, {first} {out.shape[1]} x {out.shape[2]}",
                remedy="set data.resize to a number of pixels: images are then cropped to squares and scaled",
            )
        out[i] = image
    return out


def _floats(picture: Picture, colour: bool, part: Part, row: int) -> Samples:
    """Return an image as float32 in [0, 1], in colour or grey."""
    kind = picture.dtype.kind
    if kind == "b":
        image = picture.astype(np.float32)
    elif kind == "u" and picture.dtype.itemsize <= 2:
        image = np.divide(picture, np.float32(np.iinfo(picture.dtype).max), dtype=np.float32)
    else:
        low, high = (0, 255) if kind in "iu" else (0.0, 1.0)
        if not (picture.min(initial=low) >= low and picture.max(initial=low) <= high):
            raise InputError(
                f"pixels of type {picture.dtype} must be from 0 to {high:g}",
                got=f"{part.title(row)}: {picture.min():g} to {picture.max():g}",
                remedy="scale the pixels to that range",
            )
        image = picture.astype(np.float32) / np.float32(high)
    if colour and image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    if not colour and image.ndim == 3:
        return np.asarray(np.minimum(image @ LUMA, 1.0), np.float32)
    return image


def _scaled(image: Samples, side: int | None) -> Samples:
    """Return the central square of an image, scaled to ``side`` x ``side`` pixels."""
    height, width = image.shape[:2]
    if side is None or height == width == side:
        return image
    from PIL import Image

    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = np.atleast_3d(image[top : top + short, left : left + short])
    planes = [Image.fromarray(np.ascontiguousarray(square[..., c])) for c in range(square.shape[2])]
    resized = [np.asarray(plane.resize((side, side), Image.Resampling.BILINEAR)) for plane in planes]
    found = np.stack(resized, axis=-1).reshape(side, side, *image.shape[2:])
    return np.asarray(np.clip(found, 0.0, 1.0))
