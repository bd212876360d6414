"""Random streams that are identified by coordinates, never by the order of calls.

The stream at ``(root seed, "round", 7, "sample")`` does not depend on whether rounds 0 to 6 ran in this
process, so a resumed run draws the same numbers as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import operator
from dataclasses import dataclass

import numpy as np

Coordinate = int | str


@dataclass(frozen=True)
class Stream:
    """A source of randomness identified by a root seed and a path of coordinates.

    Two streams are equal iff their roots and paths are equal. Unequal streams are independent for every
    practical purpose: their 256-bit seeds are SHA-256 digests of the coordinates.

    Attributes:
        root: Root seed, a whole number.
        path: Coordinates, each a whole number or a string.

    >>> Stream(0).at("round", 7).generator().random() == Stream(0).at("round", 7).generator().random()
    True
    """

    root: int
    path: tuple[Coordinate, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", operator.index(self.root))  # NumPy's integers are not JSON

    def at(self, *coordinates: Coordinate) -> Stream:
        """Return the stream whose path is this one's followed by ``coordinates``."""
        return Stream(self.root, self.path + coordinates)

    def _digest(self) -> bytes:
        # JSON distinguishes 1 from "1" and is the same on every platform.
        return hashlib.sha256(json.dumps([self.root, *self.path]).encode()).digest()

    def generator(self) -> np.random.Generator:
        """Return a new NumPy generator (PCG64) at the start of this stream."""
        words = np.frombuffer(self._digest(), dtype="<u4")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))

    def integer(self) -> int:
        """Return the stream's seed in [0, 2^63), for libraries with their own generators, such as PyTorch."""
        return int.from_bytes(self._digest()[:8], "little") >> 1
