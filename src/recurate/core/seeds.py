"""Random streams named by coordinates, never by the order of calls.

The stream for ``(root seed, "round", 7, "sample")`` is the same whether or not rounds 0 to 6 ran in
this process, so a resumed run draws what an uninterrupted one draws.
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
    """A named source of randomness: a root seed and a path of coordinates.

    Two streams are equal iff root and path are equal; unequal streams are independent for every
    practical purpose (their 256-bit seeds are SHA-256 digests of the coordinates).

    >>> Stream(0).at("round", 7).generator().random() == Stream(0).at("round", 7).generator().random()
    True
    """

    root: int
    path: tuple[Coordinate, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", operator.index(self.root))  # NumPy's integers are not JSON

    def at(self, *coordinates: Coordinate) -> Stream:
        """Return the stream further down the path."""
        return Stream(self.root, self.path + coordinates)

    def _digest(self) -> bytes:
        # JSON keeps 1 and "1" apart and is the same on every platform.
        return hashlib.sha256(json.dumps([self.root, *self.path]).encode()).digest()

    def generator(self) -> np.random.Generator:
        """Return a fresh NumPy generator at the start of this stream."""
        words = np.frombuffer(self._digest(), dtype="<u4")
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words.tolist())))

    def integer(self) -> int:
        """Return a seed in [0, 2^63) for a library with its own generator (PyTorch)."""
        return int.from_bytes(self._digest()[:8], "little") >> 1
