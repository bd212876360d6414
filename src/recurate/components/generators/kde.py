"""Kernel density: a Gaussian around every training sample, as wide as held-out likelihood wants it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from recurate.components.generators.scaling import Standard, check_numbers, untrained
from recurate.components.protocols import Samples
from recurate.core.seeds import Stream
from recurate.core.settings import Settings

CHUNK = 4096  # samples at a time
ASKED = 300  # samples at most whose likelihood chooses the bandwidth
TOLD = 20_000  # samples at most that tell it
WIDTHS = (1e-3, 2.0)  # bandwidths that are tried lie between these, in units of the data's standard deviation
TRIED = 16  # bandwidths tried at a time, twice
FLOAT = NDArray[np.float32]


class KernelSettings(Settings):
    """Settings of a kernel density."""

    kind: Literal["kde"] = "kde"
    bandwidth: float | Literal["likelihood", "scott", "silverman"] = Field(
        "likelihood",
        description="standard deviation of the kernels: the likeliest for training samples left out of 20, "
        "a rule for one bell shape, or a number in units of the data's standard deviation",
    )

    @field_validator("bandwidth")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not value > 0:
            raise ValueError(f"bandwidth must be positive, and is {value}")
        return value


@dataclass(frozen=True)
class KernelDensity:
    """A kernel density on arrays of any one shape, flattened: its training samples, blurred.

    Attributes:
        settings: see :class:`KernelSettings`.
        shape: shape of one sample; empty before the first fit.
        standard: the scale of the data; None before the first fit.
        rows: the training samples on that scale, (n, d).
        bandwidth: standard deviation of the kernels on that scale.
    """

    settings: KernelSettings
    shape: tuple[int, ...] = ()
    standard: Standard | None = None
    rows: FLOAT = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    bandwidth: float = math.nan

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return the density of data (n, ...) alone: nothing of an earlier one is kept but its scale."""
        check_numbers(data, self.shape)
        standard = self.standard or Standard.of_points(data)
        rows = standard.rows(data)
        return type(self)(self.settings, data.shape[1:], standard, rows, self._width(rows, rng))

    def _width(self, rows: FLOAT, rng: Stream) -> float:
        wanted = self.settings.bandwidth
        if not isinstance(wanted, str):
            return float(wanted)
        n, d = rows.shape
        spread = math.sqrt(float(rows.astype(np.float64).var(axis=0).mean()))
        if n == 1 or spread == 0.0:
            return WIDTHS[0]
        if wanted == "likelihood":
            return likeliest(rows, rng)
        factor: float = float(n) ** (-1 / (d + 4))
        if wanted == "silverman":
            factor *= (4 / (d + 2)) ** (1 / (d + 4))
        return factor * spread

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, *shape)."""
        if self.standard is None:
            raise untrained()
        draw = rng.generator()
        chosen = draw.integers(len(self.rows), size=n)
        out = np.empty((n, self.rows.shape[1]), np.float32)
        for start in range(0, n, CHUNK):
            centres = self.rows[chosen[start : start + CHUNK]]
            out[start : start + CHUNK] = centres + self.bandwidth * draw.standard_normal(centres.shape)
        return self.standard.samples(out, self.shape)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``generator.json``."""
        from safetensors.numpy import save_file

        if self.standard is None:
            raise untrained()
        extra = {f"standard.{name}": value for name, value in self.standard.arrays().items()}
        save_file({"rows": self.rows} | extra, folder / "model.safetensors")
        facts = {
            "settings": self.settings.model_dump(),
            "shape": list(self.shape),
            "bandwidth": self.bandwidth,
        }
        (folder / "generator.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.numpy import load_file

        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        arrays = load_file(folder / "model.safetensors")
        rows = arrays.pop("rows")
        standard = Standard(**{name.removeprefix("standard."): value for name, value in arrays.items()})
        settings = KernelSettings(**facts["settings"])
        return cls(settings, tuple(facts["shape"]), standard, rows, facts["bandwidth"])


def likeliest(rows: FLOAT, rng: Stream) -> float:
    """Return the bandwidth under which a twentieth of the rows (n, d), n >= 2, is likeliest, given the rest.

    Copies of a row would ask for kernels of no width: an asked row is not told by its copies.
    """
    order = rng.generator().permutation(len(rows))
    asked = rows[order[: min(max(len(rows) // 20, 1), ASKED)]].astype(np.float64)
    told = rows[order[len(asked) : len(asked) + TOLD]].astype(np.float64)
    squares = [np.square(told - row).sum(axis=1) for row in asked]
    squares = [s[s > 0] for s in squares if s.any()]
    if not squares:
        return WIDTHS[0]

    def best(widths: NDArray[np.float64]) -> int:
        totals = np.zeros(len(widths))
        for its in squares:
            excess = its - its.min()
            for i, width in enumerate(widths):
                scale = -0.5 / width**2
                mass = float(np.log(np.exp(excess * scale).sum()))
                totals[i] += its.min() * scale + mass - rows.shape[1] * math.log(width)
        return int(totals.argmax())

    coarse = np.geomspace(*WIDTHS, TRIED)
    i = best(coarse)
    fine = np.geomspace(coarse[max(i - 1, 0)], coarse[min(i + 1, TRIED - 1)], TRIED)
    return float(fine[best(fine)])
