r"""Flow matching: a velocity field that carries Gaussian noise to the data along straight lines.

The field v minimises E |v(x_t, t) - (x_1 - x_0)|^2 with x_t = (1 - t) x_0 + t x_1, x_0 standard normal,
x_1 data (Lipman et al. 2023, arXiv 2210.02747). Pairs (x_0, x_1) are independent, or coupled by
optimal transport within minibatches, which straightens the paths (Tong et al. 2024, arXiv 2302.00482).
Samples follow dx/dt = v(x, t) from t = 0 to 1 by the midpoint rule.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recurate.errors import Diverged
from recurate.generators.protocol import Samples
from recurate.generators.torches import choose_device, import_torch, threads
from recurate.seeds import Stream
from recurate.settings import Settings

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor

    from recurate.generators.networks import VelocityMLP

CHECKED = 100  # training steps between two looks at the loss
CHUNK = 4096  # samples at a time: activations stay in the cache


class FlowSettings(Settings):
    """Settings of a flow-matching generator."""

    kind: Literal["flow"] = "flow"
    width: int = Field(128, ge=1, description="hidden units a layer")
    depth: int = Field(3, ge=1, description="hidden layers")
    first_steps: int = Field(4000, ge=1, description="training steps of the first model")
    steps: int = Field(1000, ge=1, description="training steps of every retraining")
    batch: int = Field(512, ge=1, description="training batch")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's step size, cosine-annealed to zero")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of the weights")
    coupling: Literal["ot", "independent"] = Field(
        "ot", description="pairing of noise and data: minibatch optimal transport, or none"
    )
    coupling_batch: int = Field(128, ge=1, description="pairs solved together by optimal transport")
    ode_steps: int = Field(12, ge=1, description="midpoint steps when sampling (two evaluations each)")
    device: str = Field("auto", description="'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, description="CPU threads; one is fastest for small networks")


@dataclass(frozen=True)
class FlowMatching:
    """A flow-matching generator of arrays of any one shape.

    Attributes:
        settings: see :class:`FlowSettings`.
        shape: shape of one sample; empty before the first fit.
        mean, scale: data are standardised with these two numbers a coordinate, fixed by the first fit.
        weights: the network's weights, by name (float32).
    """

    settings: FlowSettings
    shape: tuple[int, ...] = ()
    mean: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    scale: Samples = field(default_factory=lambda: np.ones(0, np.float32))
    weights: dict[str, Any] = field(default_factory=dict)

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a generator trained on data (n, ...), from these weights if there are any.

        Raises:
            Diverged: the weights are no longer numbers.
        """
        torch = import_torch()
        flat = data.reshape(len(data), -1)
        mean, scale, steps = self.mean, self.scale, self.settings.steps
        if not self.weights:
            mean, scale = flat.mean(0), np.full(flat.shape[1], flat.std(), np.float32)
            steps = self.settings.first_steps
        torch_rng = torch.Generator().manual_seed(rng.integer())
        with threads(self.settings.threads):
            network = self._network(flat.shape[1], torch_rng)
            standard = torch.from_numpy(np.ascontiguousarray((flat - mean) / scale))
            weights = _train(network, standard, steps, self.settings, torch_rng)
        return type(self)(self.settings, data.shape[1:], mean, scale, weights)

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, *shape)."""
        torch = import_torch()
        torch_rng = torch.Generator().manual_seed(rng.integer())
        dimension = math.prod(self.shape)
        out = np.empty((n, dimension), np.float32)
        with threads(self.settings.threads), torch.inference_mode():
            network = self._network(dimension, torch_rng)
            for start in range(0, n, CHUNK):
                size = min(CHUNK, n - start)
                noise = torch.randn(size, dimension, generator=torch_rng)
                out[start : start + size] = _integrate(network, noise, self.settings).cpu().numpy()
        return np.asarray(out * self.scale + self.mean, np.float32).reshape(n, *self.shape)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``generator.json``."""
        from safetensors.torch import save_file

        torch = import_torch()
        extra = {"mean": torch.from_numpy(self.mean), "scale": torch.from_numpy(self.scale)}
        save_file(self.weights | extra, folder / "model.safetensors")
        facts = {"settings": self.settings.model_dump(), "shape": list(self.shape)}
        (folder / "generator.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        mean, scale = weights.pop("mean").numpy(), weights.pop("scale").numpy()
        return cls(FlowSettings(**facts["settings"]), tuple(facts["shape"]), mean, scale, weights)

    def _network(self, dimension: int, torch_rng: TorchGenerator) -> VelocityMLP:
        """Return the network with this generator's weights, or fresh ones, on its device."""
        import torch

        from recurate.generators.networks import VelocityMLP

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_rng.initial_seed())
            network = VelocityMLP(dimension, self.settings.width, self.settings.depth)
        if self.weights:
            network.load_state_dict(self.weights)
        return network.to(choose_device(self.settings.device))


def _train(
    network: VelocityMLP, data: Tensor, steps: int, settings: FlowSettings, rng: TorchGenerator
) -> dict[str, Tensor]:
    """Train in place; return the moving average of the weights, on the CPU."""
    import torch

    device = next(network.parameters()).device
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    for step in range(steps):
        rows = torch.randint(len(data), (settings.batch,), generator=rng)
        target = data[rows]
        noise = torch.randn(target.shape, generator=rng)
        if settings.coupling == "ot":
            noise = _couple(noise, target, settings.coupling_batch)
        t = torch.rand(len(target), 1, generator=rng)
        noise, target, t = noise.to(device), target.to(device), t.to(device)
        velocity = target - noise
        loss = (network(noise + t * velocity, t) - velocity).square().mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % CHECKED == 0 and not math.isfinite(loss.item()):
            raise Diverged("generator", settings.learning_rate)
        # Early steps count less: an average that starts at the old weights would lag behind.
        weight = 1 - min(settings.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], weight)
    if not all(bool(value.isfinite().all()) for value in average):
        raise Diverged("generator", settings.learning_rate)
    names = [name for name, _ in network.named_parameters()]
    return {name: value.cpu() for name, value in zip(names, average, strict=True)}


def _couple(noise: Tensor, data: Tensor, block: int) -> Tensor:
    """Reorder the noise so that, block by block, sum |noise - data|^2 is least."""
    import torch
    from scipy.optimize import linear_sum_assignment

    paired = torch.empty_like(noise)
    for start in range(0, len(noise), block):
        rows = slice(start, start + block)
        cost = -(data[rows] @ noise[rows].T).numpy()
        paired[rows] = noise[rows][linear_sum_assignment(cost)[1]]
    return paired


def _integrate(network: VelocityMLP, x: Tensor, settings: FlowSettings) -> Tensor:
    """Follow the field from t = 0 to 1 by the midpoint rule (second order)."""
    import torch

    device = next(network.parameters()).device
    x = x.to(device)
    h = 1.0 / settings.ode_steps
    for step in range(settings.ode_steps):
        now = torch.full((len(x), 1), step * h, device=device)
        middle = x + 0.5 * h * network(x, now)
        x = x + h * network(middle, now + 0.5 * h)
    return x
