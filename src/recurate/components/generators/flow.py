r"""Flow matching: a velocity field that carries Gaussian noise to the data along straight lines.

The field v minimises E |v(x_t, t) - (x_1 - x_0)|^2 with x_t = (1 - t) x_0 + t x_1, x_0 standard normal,
x_1 data (Lipman et al. 2023, arXiv 2210.02747). Pairs (x_0, x_1) are independent, or coupled by
optimal transport within minibatches, which straightens the paths (Tong et al. 2024, arXiv 2302.00482).
Samples solve dx/dt = v(x, t) from t = 0 to 1 by the midpoint rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from recurate.components.generators.neural import Neural
from recurate.components.nets.training import Network, NetworkSettings
from recurate.components.protocols import GeneratorSettings

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor


class FlowSettings(NetworkSettings):
    """Settings of a flow-matching generator."""

    kind: Literal["flow"] = "flow"
    coupling: Literal["auto", "ot", "independent"] = Field(
        "auto",
        description="pairing of noise and data in a batch, by optimal transport or at random; 'auto': 'ot' "
        "for the mlp, 'independent' for the unet, which would wait for it",
    )
    coupling_batch: int = Field(32, ge=1, le=10**9, description="pairs in each optimal transport problem")
    ode_steps: int = Field(
        12, ge=1, le=10**9, description="midpoint steps when sampling, two evaluations each"
    )

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> FlowMatching:
        """Return the model before round 0; see :meth:`Neural.begin`."""
        return FlowMatching.begin(self)

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> FlowMatching:
        """Return the model that was saved in a folder."""
        return FlowMatching.load(folder)


@dataclass(frozen=True)
class FlowMatching(Neural):
    """A flow-matching generator of arrays of one shape.

    Training minimises E |v(x_t, t) - (x_1 - x_0)|^2 with x_t = (1 - t) x_0 + t x_1, x_0 standard normal, x_1
    data (Lipman et al. 2023, arXiv 2210.02747); pairs (x_0, x_1) are independent, or coupled by optimal
    transport within minibatches (Tong et al. 2024, arXiv 2302.00482). Sampling solves dx/dt = v(x, t) from
    t = 0 to 1.

    Raises:
        InputError: see :meth:`Neural.fit` and :meth:`Neural.sample`.
    """

    Settings: ClassVar[type[GeneratorSettings]] = FlowSettings
    settings: FlowSettings

    def loss(self, network: Network, target: Tensor, rng: TorchGenerator) -> Tensor:
        """Return the mean squared error of the velocities, the mean of |v(x_t, t) - (x_1 - x_0)|^2 / d."""
        import torch

        noise = torch.randn(target.shape, generator=rng, device=target.device)
        coupling = self.settings.coupling
        if coupling == "ot" or (coupling == "auto" and self.settings.recipe(self.shape).network == "mlp"):
            noise = _couple(noise, target, self.settings.coupling_batch)
        t = torch.rand(len(target), 1, generator=rng, device=target.device)
        velocity = target - noise
        return (network(noise + t * velocity, t) - velocity).square().mean()

    def walk(
        self, network: Network, noise: Tensor, bounds: tuple[Tensor, Tensor], rng: TorchGenerator
    ) -> Tensor:
        """Solve dx/dt = v(x, t) from t = 0 to 1 by the midpoint rule (second order)."""
        import torch

        x, h = noise, 1.0 / self.settings.ode_steps
        for step in range(self.settings.ode_steps):
            now = torch.full((len(x), 1), step * h, device=x.device)
            middle = x + 0.5 * h * network(x, now)
            x = x + h * network(middle, now + 0.5 * h)
        return x


def _couple(noise: Tensor, data: Tensor, block: int) -> Tensor:
    """Return the noise (b, d), reordered to minimise sum |noise - data|^2 within each block of rows."""
    import torch
    from scipy.optimize import linear_sum_assignment

    paired = torch.empty_like(noise)
    for start in range(0, len(noise), block):
        rows = slice(start, start + block)
        cost = -(data[rows] @ noise[rows].T).cpu().numpy()
        order = torch.from_numpy(linear_sum_assignment(cost)[1]).to(noise.device)
        paired[rows] = noise[rows][order]
    return paired
