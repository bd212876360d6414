"""Kernel density estimates: a Gaussian at every training sample, with a bandwidth by held-out likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from recurate.components.generators.scaling import ArrayModel, Scaler, check_training_data, trained
from recurate.components.protocols import GeneratorSettings
from recurate.core.seeds import Stream
from recurate.log.samples import Samples

CHUNK = 4096  # samples drawn together
HELD_OUT = 300  # largest number of held-out rows whose likelihood selects the bandwidth
CENTRES = 20_000  # largest number of rows whose kernels give that likelihood
WIDTHS = (1e-3, 2.0)  # range of bandwidths, in units of the data's standard deviation
FAR = 60.0  # kernels smaller than the nearest one's by exp(-FAR) do not change a double
TRIED = 16  # bandwidths on each of two grids, coarse and fine
FLOAT = NDArray[np.float32]


class KernelSettings(GeneratorSettings):
    """Settings of a kernel density."""

    kind: Literal["kde"] = "kde"
    bandwidth: float | Literal["likelihood", "scott", "silverman"] = Field(
        "likelihood",
        description="standard deviation of the kernels: the likeliest for a held-out twentieth of the "
        "samples, a rule that suits a single Gaussian, or a number in units of the data's standard deviation",
    )

    @field_validator("bandwidth")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if not isinstance(value, str) and not value > 0:
            raise ValueError(f"bandwidth must be positive, not {value}")
        return value

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> KernelDensity:
        """Return the untrained model."""
        return KernelDensity(self)


@dataclass(frozen=True)
class KernelDensity(ArrayModel):
    """A kernel density on arrays of one shape, p(x) = 1/n sum_i N(x; x_i, h^2 I).

    The x_i are the training samples, flattened. The bandwidth h maximises held-out likelihood, or is the
    standard deviation times n^(-1/(d+4)) (Scott 1992, Multivariate Density Estimation, section 6.3), or times
    (4 / (n (d+2)))^(1/(d+4)) (Silverman 1986, Density Estimation, section 4.3).

    Attributes:
        settings: Settings of the kernel density.
        arrays: ``rows`` (n, d), the standardised training samples; ``bandwidth`` (), the standard deviation
            of the kernels for these rows.
    """

    Settings: ClassVar[type[GeneratorSettings]] = KernelSettings
    settings: KernelSettings

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return the density estimate of data (n, ...); only the scaler of the first training data is kept.

        Raises:
            InputError: If the data are texts, empty, not finite or of another shape than before.
        """
        check_training_data(data, self.shape)
        scaler = self.scaler or Scaler.of_points(data)
        rows = scaler.rows(data)
        arrays = {"rows": rows, "bandwidth": np.array(self._width(rows, rng))}
        return type(self)(self.settings, data.shape[1:], scaler, arrays)

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
        """Return n samples, shape (n, *shape).

        Raises:
            InputError: If the generator has not been trained.
        """
        scaler = trained(self.scaler)
        rows, bandwidth = self.arrays["rows"], self.arrays["bandwidth"]
        draw = rng.generator()
        chosen = draw.integers(len(rows), size=n)
        out = np.empty((n, rows.shape[1]), np.float32)
        for start in range(0, n, CHUNK):
            centres = rows[chosen[start : start + CHUNK]]
            out[start : start + CHUNK] = centres + bandwidth * draw.standard_normal(centres.shape)
        return scaler.samples(out, self.shape)


def likeliest(rows: FLOAT, rng: Stream) -> float:
    """Return the bandwidth that maximises the likelihood of a held-out twentieth of the rows (n, d), n >= 2.

    The kernels are centred at the other rows. Copies of a held-out row are excluded, because they would make
    the likelihood diverge as the bandwidth tends to zero.
    """
    order = rng.generator().permutation(len(rows))
    held_out = rows[order[: min(max(len(rows) // 20, 1), HELD_OUT)]].astype(np.float64)
    centres = rows[order[len(held_out) : len(held_out) + CENTRES]].astype(np.float64)
    squares = [np.square(centres - row).sum(axis=1) for row in held_out]
    squares = [np.sort(s[s > 0]) for s in squares if s.any()]
    if not squares:
        return WIDTHS[0]

    def best(widths: NDArray[np.float64]) -> int:
        totals = np.zeros(len(widths))
        scales = -0.5 / np.square(widths)
        for its in squares:
            excess = its - its[0]
            ends = np.searchsorted(excess, -FAR / scales)
            for i, (width, scale, end) in enumerate(zip(widths, scales, ends, strict=True)):
                mass = float(np.log(np.exp(excess[:end] * scale).sum()))
                totals[i] += its[0] * scale + mass - rows.shape[1] * math.log(width)
        return int(totals.argmax())

    coarse = np.geomspace(*WIDTHS, TRIED)
    i = best(coarse)
    fine = np.geomspace(coarse[max(i - 1, 0)], coarse[min(i + 1, TRIED - 1)], TRIED)
    return float(fine[best(fine)])
