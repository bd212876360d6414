"""Gaussian mixtures: fitted by scikit-learn's EM, sampled by a few lines of NumPy."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.generators.scaling import Standard, check_numbers, untrained
from recurate.components.protocols import Samples
from recurate.core.seeds import Stream
from recurate.core.settings import Settings

CHUNK = 4096  # samples at a time
SEEDS = 2**32  # scikit-learn takes no larger seeds

Covariance = Literal["full", "tied", "diag", "spherical"]


class MixtureSettings(Settings):
    """Settings of a Gaussian mixture."""

    kind: Literal["mixture"] = "mixture"
    components: int = Field(
        8, ge=1, le=10_000, description="Gaussians; fewer where there are fewer training samples"
    )
    covariance: Covariance = Field(
        "full", description="shape of each Gaussian: any, one for all, along the axes, or a ball"
    )
    n_init: int = Field(1, ge=1, description="starts from k-means, of which the likeliest is kept")
    max_iter: int = Field(200, ge=1, description="steps of EM at most")
    reg: float = Field(1e-6, gt=0, description="added to variances, in units of the data's mean variance")
    warm_start: bool = Field(
        True, description="retraining starts from the Gaussians of the round before; false: from k-means"
    )


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture on arrays of any one shape, flattened.

    Attributes:
        settings: see :class:`MixtureSettings`.
        shape: shape of one sample; empty before the first fit.
        standard: the scale of the data; None before the first fit.
        parts: ``weights`` (m,), ``means`` (m, d) and ``roots``: covariances are root @ root.T for ``full``
            (m, d, d) and ``tied`` (d, d); standard deviations (m, d) for ``diag``, (m,) for ``spherical``.
    """

    settings: MixtureSettings
    shape: tuple[int, ...] = ()
    standard: Standard | None = None
    parts: dict[str, NDArray[Any]] = field(default_factory=dict)

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return the mixture fitted to data (n, ...); see :class:`Generator`."""
        check_numbers(data, self.shape)
        standard = self.standard or Standard.of_points(data)
        rows = standard.rows(data).astype(np.float64)
        if len(rows) == 1:  # scikit-learn wants two
            rows = np.repeat(rows, 2, axis=0)
        parts = self._em(rows, min(self.settings.components, len(data)), rng)
        return type(self)(self.settings, data.shape[1:], standard, parts)

    def _em(self, rows: NDArray[np.float64], count: int, rng: Stream) -> dict[str, NDArray[Any]]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        s = self.settings
        known: dict[str, Any] = {}
        if s.warm_start and self.parts and len(self.parts["weights"]) == count:
            weights = self.parts["weights"] + 1e-3 / count  # EM cannot revive what has weight zero
            known = {"weights_init": weights / weights.sum(), "means_init": self.parts["means"]}
            known["precisions_init"] = _precisions(self.parts["roots"], s.covariance)
        model = GaussianMixture(
            count,
            covariance_type=s.covariance,
            n_init=1 if known else s.n_init,
            max_iter=s.max_iter,
            reg_covar=s.reg,
            random_state=rng.integer() % SEEDS,
            **known,
        )
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # more components than distinct rows, or slow
            warnings.simplefilter("ignore", RuntimeWarning)
            model.fit(rows)
        covariances = model.covariances_
        roots = np.linalg.cholesky(covariances) if s.covariance in ("full", "tied") else np.sqrt(covariances)
        return {"weights": model.weights_, "means": model.means_, "roots": roots}

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, *shape)."""
        if self.standard is None:
            raise untrained()
        weights, means, roots = (self.parts[name] for name in ("weights", "means", "roots"))
        draw = rng.generator()
        chosen = draw.choice(len(weights), size=n, p=weights / weights.sum())
        out = np.empty((n, means.shape[1]), np.float32)
        for start in range(0, n, CHUNK):
            own = chosen[start : start + CHUNK]
            noise = draw.standard_normal((len(own), means.shape[1]))
            for j in np.unique(own):
                its = own == j
                out[start : start + CHUNK][its] = means[j] + self._shaped(noise[its], roots, j)
        return self.standard.samples(out, self.shape)

    def _shaped(self, noise: NDArray[Any], roots: NDArray[Any], j: int) -> NDArray[Any]:
        kind = self.settings.covariance
        if kind == "tied":
            return np.asarray(noise @ roots.T)
        return np.asarray(noise @ roots[j].T if kind == "full" else noise * roots[j])

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``generator.json``."""
        from safetensors.numpy import save_file

        if self.standard is None:
            raise untrained()
        extra = {f"standard.{name}": value for name, value in self.standard.arrays().items()}
        save_file(
            {k: np.ascontiguousarray(v) for k, v in (self.parts | extra).items()},
            folder / "model.safetensors",
        )
        facts = {"settings": self.settings.model_dump(), "shape": list(self.shape)}
        (folder / "generator.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.numpy import load_file

        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        parts = load_file(folder / "model.safetensors")
        arrays = {n: parts.pop(f"standard.{n}") for n in ("mean", "scale", "low", "high")}
        return cls(MixtureSettings(**facts["settings"]), tuple(facts["shape"]), Standard(**arrays), parts)


def _precisions(roots: NDArray[Any], kind: Covariance) -> NDArray[Any]:
    """Return inverse covariances as scikit-learn wants them."""
    if kind in ("full", "tied"):
        inverse = np.linalg.inv(roots)
        return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)
    return np.asarray(1.0 / np.square(roots))
