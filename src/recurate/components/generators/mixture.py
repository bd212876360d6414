"""Gaussian mixtures, fitted by expectation maximisation (scikit-learn) and sampled with NumPy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.components.generators.scaling import ArrayModel, Scaler, check_training_data, trained
from recurate.components.protocols import GeneratorSettings
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.core.seeds import Stream
from recurate.log.samples import Samples

CHUNK = 4096  # samples drawn together
SEEDS = 2**32  # scikit-learn requires smaller seeds

Covariance = Literal["full", "tied", "diag", "spherical"]


class MixtureSettings(GeneratorSettings):
    """Settings of a Gaussian mixture."""

    kind: Literal["mixture"] = "mixture"
    components: int = Field(
        8, ge=1, le=10_000, description="number of Gaussians; at most one per training sample"
    )
    covariance: Covariance = Field(
        "full", description="shape of the Gaussians: any, any but common to all, along the axes, or spheres"
    )
    n_init: int = Field(
        1, ge=1, le=10**9, description="number of starts from k-means; the likeliest result is kept"
    )
    max_iter: int = Field(200, ge=1, le=10**9, description="EM steps at most")
    reg: float = Field(1e-6, gt=0, description="added to variances, in units of the data's mean variance")
    warm_start: bool = Field(
        True, description="whether retraining starts from the previous round's Gaussians; false: from k-means"
    )

    model: str | None = Field(
        None,
        description="folder of a saved mixture that the loop starts from, such as RUN/rounds/000/model; if "
        "absent, the first model is trained on the real data",
    )

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the first model's files."""
        return [] if self.model is None else of_folder(f"{serves}.model", Path(self.model), kept=True)

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Mixture:
        """Return the untrained model, or the one that the settings name.

        Raises:
            InputError: If there is no such model, or it is damaged or of another kind.
        """
        if self.model is None:
            return Mixture(self)
        return replace(Mixture.load(Path(self.model)), settings=self)

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Mixture:
        """Return the mixture that was saved in a folder."""
        return Mixture.load(folder)

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return self.model is None


@dataclass(frozen=True)
class Mixture(ArrayModel):
    """A Gaussian mixture on arrays of one shape: p(x) = sum_j w_j N(x; m_j, C_j) on flattened samples.

    It is fitted by expectation maximisation (Dempster et al. 1977, J. R. Stat. Soc. B 39(1), section 4.3).

    Attributes:
        settings: Settings of the mixture.
        arrays: ``weights`` (m,), ``means`` (m, d) and ``roots`` of the covariances C = root @ root.T, (m, d,
            d) for ``full`` and (d, d) for ``tied``; standard deviations, (m, d) for ``diag`` and (m,) for
            ``spherical``.
    """

    Settings: ClassVar[type[GeneratorSettings]] = MixtureSettings
    settings: MixtureSettings

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return the mixture fitted to data (n, ...), starting from this one if ``warm_start`` is true.

        Raises:
            InputError: If the data are texts, empty, not finite or of another shape than before.
        """
        check_training_data(data, self.shape)
        scaler = self.scaler or Scaler.of_points(data)
        rows = scaler.rows(data).astype(np.float64)
        if len(rows) == 1:  # scikit-learn needs two
            rows = np.repeat(rows, 2, axis=0)
        arrays = self._em(rows, min(self.settings.components, len(data)), rng)
        return type(self)(self.settings, data.shape[1:], scaler, arrays)

    def _em(self, rows: NDArray[np.float64], count: int, rng: Stream) -> dict[str, NDArray[Any]]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        s = self.settings
        known: dict[str, Any] = {}
        if s.warm_start and self.arrays and len(self.arrays["weights"]) == count:
            weights = self.arrays["weights"] + 1e-3 / count  # EM cannot increase a weight of zero
            known = {"weights_init": weights / weights.sum(), "means_init": self.arrays["means"]}
            known["precisions_init"] = _precisions(self.arrays["roots"], s.covariance)
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
        """Return n samples, shape (n, *shape).

        Raises:
            InputError: If the generator has not been trained.
        """
        scaler = trained(self.scaler)
        weights, means, roots = (self.arrays[name] for name in ("weights", "means", "roots"))
        draw = rng.generator()
        chosen = draw.choice(len(weights), size=n, p=weights / weights.sum())
        out = np.empty((n, means.shape[1]), np.float32)
        for start in range(0, n, CHUNK):
            own = chosen[start : start + CHUNK]
            noise = draw.standard_normal((len(own), means.shape[1]))
            for j in np.unique(own):
                its = own == j
                out[start : start + CHUNK][its] = means[j] + self._shaped(noise[its], roots, j)
        return scaler.samples(out, self.shape)

    def _shaped(self, noise: NDArray[Any], roots: NDArray[Any], j: int) -> NDArray[Any]:
        kind = self.settings.covariance
        if kind == "tied":
            return np.asarray(noise @ roots.T)
        return np.asarray(noise @ roots[j].T if kind == "full" else noise * roots[j])


def _precisions(roots: NDArray[Any], kind: Covariance) -> NDArray[Any]:
    """Return the inverse covariances in scikit-learn's layout."""
    if kind in ("full", "tied"):
        inverse = np.linalg.inv(roots)
        return np.asarray(np.swapaxes(inverse, -1, -2) @ inverse)
    return np.asarray(1.0 / np.square(roots))
