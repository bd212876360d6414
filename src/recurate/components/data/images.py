"""Real images from files of several formats."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.data.dataset import Dataset, Source, split
from recurate.components.data.decoding import Part, assemble
from recurate.components.data.formats import layout
from recurate.core.arrays import IntArray
from recurate.core.data_files import locate
from recurate.core.errors import InputError, nearest
from recurate.core.seeds import Stream

SHARE = 0.1  # share held out if neither the source nor the settings define one


class ImageData(Source):
    """Images in the format found at the path: IDX, folders of images, NPZ, Parquet, Arrow or binary CIFAR-10.

    They become float32 in [0, 1], shape (n, h, w) in grey and (n, h, w, 3) in colour.
    """

    kind: Literal["images"]
    path: str = Field(
        description="file or folder, relative to the current folder or, failing that, to RECURATE_DATA"
    )
    test: str | None = Field(None, description="file or folder of the held-out images, if it is another one")
    image: str | None = Field(
        None, description="NPZ, tables: key or column of the images, if its name is unusual"
    )
    label: str | None = Field(
        None, description="NPZ, tables: key or column of the labels, if its name is unusual"
    )
    size: int | None = Field(None, ge=1, le=10**9, description="number of training images; all if absent")
    take: Literal["evenly", "random"] = Field(
        "evenly",
        description="with size: images are drawn at random, equally many per class or regardless of class",
    )
    classes: tuple[str, ...] = Field((), description="classes that are used; all if empty")
    held_out: float | None = Field(
        None,
        ge=0.001,
        le=0.9,
        description="share of the training images held out; if absent, the source's own test images are "
        "held out, or a tenth of the training images if it has none",
    )
    grey: bool | None = Field(
        None, description="whether images become grey (one channel) or colour; if absent, as the first image"
    )
    resize: int | None = Field(
        None, ge=1, le=4096, description="side in pixels: images are cropped to a square and scaled to it"
    )

    @model_validator(mode="after")
    def _one_way_to_hold_out(self) -> Self:
        if self.test is not None and self.held_out is not None:
            raise ValueError("set test or held_out, not both")
        return self

    def load(self, rng: Stream) -> Dataset:
        """Read the images, select classes and number, and split them.

        Raises:
            InputError: If nothing at the path can be read, a file is damaged, the images differ in size or
                colour, or a class or the number of images is not available.
        """
        train, test = layout(locate(self.path)).parts(self.image, self.label)
        if self.test is not None:
            test = layout(locate(self.test)).parts(self.image, self.label)[0]
        rows = self._of_classes(train)
        if test is None or self.held_out is not None:
            share = SHARE if self.held_out is None else self.held_out
            kept, rest = split(len(rows), share, rng.at("split"), self.path)
            rows, held_out, source = rows[np.sort(kept)], rows[np.sort(rest)], train
        else:
            held_out, source = self._of_classes(test), test
        rows = self._sized(train, rows, rng.at("size"))
        images = assemble(train, rows, grey=self.grey, side=self.resize)
        others = assemble(source, held_out, grey=self.grey, side=self.resize, like=images.shape[1:])
        if (train.labels is None) != (source.labels is None):
            raise InputError(
                "some images have labels and others do not",
                got=f"no labels in {(train if train.labels is None else source).name}",
                remedy="label these images, or hold out a share of the training images: data.held_out = 0.1",
            )
        return Dataset(images, _texts(train, rows), others, _texts(source, held_out))

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of every file that is read; a folder of images has one for all of them."""
        found = layout(locate(self.path)).hashes(self.path)
        if self.test is not None:
            found |= layout(locate(self.test)).hashes(self.test)
        return found

    def _of_classes(self, part: Part) -> IntArray:
        """Return the rows of the classes that the settings name."""
        if not self.classes:
            return np.arange(part.count)
        if part.labels is None:
            raise InputError(
                "images without labels cannot be selected by class",
                got=f"classes = {list(self.classes)}, and no labels in {part.name}",
                remedy="omit data.classes, or label the images",
            )
        known = set(part.labels.tolist())
        for name in self.classes:
            if name not in known:
                raise InputError(
                    f"{part.name} has no images of a class that data.classes names",
                    got=name,
                    remedy=nearest(name, known),
                )
        return np.flatnonzero(np.isin(part.labels, self.classes))

    def _sized(self, part: Part, rows: IntArray, rng: Stream) -> IntArray:
        """Return ``size`` of the rows, in ascending order."""
        if self.size is None:
            return rows
        if self.size > len(rows):
            raise InputError(
                "there are fewer training images than data.size requests",
                got=f"size = {self.size}, and {len(rows)} images",
                remedy="lower data.size, or omit it to use all images",
            )
        draw = rng.generator()
        order = draw.permutation(rows)
        if self.take == "random" or part.labels is None:
            return np.sort(order[: self.size])
        _, codes, counts = np.unique(part.labels[order], return_inverse=True, return_counts=True)
        chosen = [order[codes == c][:quota] for c, quota in enumerate(_quotas(counts, self.size))]
        return np.sort(np.concatenate(chosen))


def _quotas(counts: IntArray, size: int) -> IntArray:
    """Divide ``size`` among classes as evenly as their counts allow; the first classes get the remainder."""
    quotas = np.zeros(len(counts), np.int64)
    while (left := size - int(quotas.sum())) > 0:
        room = np.flatnonzero(quotas < counts)
        each = left // len(room)
        if each == 0:
            quotas[room[:left]] += 1
            break
        quotas[room] = np.minimum(quotas[room] + each, counts[room])
    return quotas


def _texts(part: Part, rows: IntArray) -> NDArray[Any]:
    return np.full(len(rows), "") if part.labels is None else part.labels[rows]
