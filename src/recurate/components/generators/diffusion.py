r"""Diffusion: a network that predicts the noise in noisy data, and samples by removing it step by step.

Data x_0 become x_k = sqrt(a_k) x_0 + sqrt(1 - a_k) e, e standard normal, at noise levels k = 1..T. a_k falls
by the linear schedule of Ho et al. (2020, arXiv 2006.11239) or the cosine of Nichol & Dhariwal (2021, arXiv
2102.09672, eq. 17). The network predicts the noise e (Ho et al., eq. 14), or the velocity
sqrt(a_k) e - sqrt(1 - a_k) x_0, from which both e and x_0 follow without division by a number that may be
nearly zero (Salimans & Ho 2022, arXiv 2202.00512, section 4); the loss is its mean squared error. Samples
are made by DDIM on a subset of the levels (Song et al. 2021, arXiv 2010.02502, eq. 12): eta = 0 adds no
noise on the way, eta = 1 as much as DDPM.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from recurate.components.generators.neural import Neural
from recurate.components.nets.training import Network, NetworkSettings
from recurate.components.protocols import GeneratorSettings

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor


class DiffusionSettings(NetworkSettings):
    """Settings of a diffusion generator."""

    kind: Literal["diffusion"] = "diffusion"
    schedule: Literal["cosine", "linear"] = Field("cosine", description="how the noise grows with its level")
    prediction: Literal["velocity", "noise"] = Field(
        "velocity",
        description="what the network predicts: the noise, or the velocity, which is better at strong noise",
    )
    levels: int = Field(1000, ge=2, le=100_000, description="number of noise levels T")
    sampling_steps: int = Field(
        100,
        ge=1,
        description="levels visited when sampling, one evaluation each; if few, the modes are too narrow",
    )
    eta: float = Field(0.0, ge=0, le=1, description="noise added when sampling: 0 none (DDIM), 1 as in DDPM")

    @model_validator(mode="after")
    def _no_more_steps_than_levels(self) -> Self:
        if self.sampling_steps > self.levels:
            raise ValueError(f"sampling_steps = {self.sampling_steps} is more than levels = {self.levels}")
        return self

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> Diffusion:
        """Return the model before round 0; see :meth:`Neural.begin`."""
        return Diffusion.begin(self)

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> Diffusion:
        """Return the model that was saved in a folder."""
        return Diffusion.load(folder)


@dataclass(frozen=True)
class Diffusion(Neural):
    """A diffusion generator of arrays of one shape.

    The network learns to predict the noise in x_k = sqrt(a_k) x_0 + sqrt(1 - a_k) e (Ho et al. 2020, arXiv
    2006.11239), or the velocity (Salimans & Ho 2022, arXiv 2202.00512); samples are made by DDIM (Song et al.
    2021, arXiv 2010.02502, eq. 12).

    Raises:
        InputError: see :meth:`Neural.fit` and :meth:`Neural.sample`.
    """

    Settings: ClassVar[type[GeneratorSettings]] = DiffusionSettings
    GAIN: ClassVar[float] = 2.0
    settings: DiffusionSettings

    def loss(self, network: Network, target: Tensor, rng: TorchGenerator) -> Tensor:
        """Return the mean squared error of the predicted noise or velocity, per coordinate."""
        import torch

        s, device = self.settings, target.device
        signals = _signals(s.schedule, s.levels, str(device))
        level = torch.randint(s.levels, (len(target), 1), generator=rng, device=device)
        noise = torch.randn(target.shape, generator=rng, device=device)
        a = signals[level]
        noisy = a.sqrt() * target + (1 - a).sqrt() * noise
        wanted = noise if s.prediction == "noise" else a.sqrt() * noise - (1 - a).sqrt() * target
        return (network(noisy, (level + 1) / s.levels) - wanted).square().mean()

    def walk(
        self, network: Network, noise: Tensor, bounds: tuple[Tensor, Tensor], rng: TorchGenerator
    ) -> Tensor:
        """Return samples by DDIM, from the highest noise level down to none.

        At every level the predicted data are clipped to the bounds, beyond which errors would grow.
        """
        import torch

        s, x = self.settings, noise
        visited = (
            np.round(s.levels - np.arange(s.sampling_steps) * s.levels / s.sampling_steps).astype(int) - 1
        )
        signals = signal(s.schedule, s.levels)
        for k, following in zip(visited, [*signals[visited[1:]], 1.0], strict=True):
            a, b = float(signals[k]), float(following)
            t = torch.full((len(x), 1), (k + 1) / s.levels, device=x.device)
            predicted = network(x, t)
            if s.prediction == "noise":
                clean = (x - (1 - a) ** 0.5 * predicted) / a**0.5
            else:
                clean = a**0.5 * x - (1 - a) ** 0.5 * predicted
            clean = clean.clamp(*bounds)
            direction = (x - a**0.5 * clean) / (1 - a) ** 0.5
            added = s.eta * ((1 - b) / (1 - a) * (1 - a / b)) ** 0.5
            x = b**0.5 * clean + max(1 - b - added**2, 0.0) ** 0.5 * direction
            if added:
                x = x + added * torch.randn(x.shape, generator=rng, device=x.device)
        return x


@lru_cache(maxsize=8)
def _signals(schedule: str, levels: int, device: str) -> Tensor:
    import torch

    return torch.from_numpy(signal(schedule, levels).astype(np.float32)).to(device)


def signal(schedule: str, levels: int) -> NDArray[np.float64]:
    """Return a_k, the data's share of the variance at each noise level k = 1..T, shape (T,)."""
    if schedule == "linear":
        betas = np.linspace(1e-4, 0.02, levels) * (1000 / levels)
    else:
        angles = (np.arange(levels + 1) / levels + 0.008) / 1.008 * (np.pi / 2)
        kept = np.square(np.cos(angles))
        betas = 1 - kept[1:] / kept[:-1]
    return np.cumprod(1 - np.minimum(betas, 0.999))
