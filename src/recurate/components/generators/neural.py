"""What flow matching and diffusion share: a network that is trained, averaged, sampled in chunks and kept."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recurate.components.generators.scaling import Standard, check_numbers, untrained
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.nets.training import Network, NetworkSettings, build, prepare, repeatable, train
from recurate.components.protocols import Samples
from recurate.core.seeds import Stream

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor

CHUNK = 4096  # samples at a time: activations stay in the cache
PIXELS = {
    "cpu": 100_000,
    "cuda": 2_000_000,
    "mps": 500_000,
}  # of images at a time: activations stay in memory


@dataclass(frozen=True)
class Neural:
    """A generator that is a network: arrays of any one shape.

    Attributes:
        settings: see :class:`NetworkSettings`.
        shape: shape of one sample; empty before the first fit.
        standard: the scale of the data; None before the first fit.
        weights: the network's weights, by name (float32).
    """

    Settings: ClassVar[type[NetworkSettings]]
    GAIN: ClassVar[float] = 1.0  # of an MLP's first weights
    settings: NetworkSettings
    shape: tuple[int, ...] = ()
    standard: Standard | None = None
    weights: dict[str, Any] = field(default_factory=dict)

    def loss(self, network: Network, target: Tensor, rng: TorchGenerator) -> Tensor:
        """Return the training loss on rows of data (batch, d)."""
        raise NotImplementedError

    def walk(
        self, network: Network, noise: Tensor, bounds: tuple[Tensor, Tensor], rng: TorchGenerator
    ) -> Tensor:
        """Return samples (n, d) made from standard normal noise (n, d).

        Args:
            network: velocities or noise.
            noise: where to start.
            bounds: lowest and highest values of data, (d,) each.
            rng: for randomness on the way.
        """
        raise NotImplementedError

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a generator trained on data (n, ...): from these weights, unless from scratch.

        Raises:
            InputError: data are texts, not finite, or of another shape than before.
            Diverged: the weights are no longer numbers.
        """
        torch = import_torch()
        check_numbers(data, self.shape)
        settings, shape = self.settings, data.shape[1:]
        recipe, device = settings.recipe(shape), choose_device(settings.device)
        standard, weights, steps = self.standard, self.weights, settings.steps
        if standard is None or not settings.warm_start:
            standard = Standard.of_images(data) if recipe.network == "unet" else Standard.of_points(data)
            weights, steps = {}, settings.first_steps
        seed, loss = rng.integer(), replace(self, shape=shape).loss
        with threads(settings.threads), repeatable(device):
            network = build(recipe, shape, seed, weights, device, self.GAIN)
            rows = torch.from_numpy(standard.rows(data)).to(device)
            torch_rng = torch.Generator(device).manual_seed(seed)
            weights = train(network, rows, steps, recipe, settings, loss, torch_rng)
        return type(self)(settings, shape, standard, weights)

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, *shape); those of a U-Net stay within the data's bounds."""
        torch = import_torch()
        if self.standard is None:
            raise untrained()
        settings, dimension = self.settings, math.prod(self.shape)
        recipe, device = settings.recipe(self.shape), choose_device(settings.device)
        seed, image = rng.integer(), recipe.network == "unet"
        chunk = CHUNK
        if image:
            chunk = max(PIXELS[device.split(":")[0]] // math.prod(self.shape[:2]), 1)
        out = np.empty((n, dimension), np.float32)
        with threads(settings.threads), repeatable(device), torch.inference_mode():
            network = build(recipe, self.shape, seed, self.weights, device)
            called = prepare(network.eval(), recipe, settings)
            torch_rng = torch.Generator(device).manual_seed(seed)
            low, high = (torch.from_numpy(b).to(device) for b in (self.standard.low, self.standard.high))
            for start in range(0, n, chunk):
                size = min(chunk, n - start)
                noise = torch.randn(size, dimension, generator=torch_rng, device=device)
                found = self.walk(called, noise, (low, high), torch_rng)
                out[start : start + size] = (found.clamp(low, high) if image else found).cpu().numpy()
        return self.standard.samples(out, self.shape)

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``generator.json``."""
        from safetensors.torch import save_file

        torch = import_torch()
        if self.standard is None:
            raise untrained()
        extra = {f"standard.{name}": torch.from_numpy(v) for name, v in self.standard.arrays().items()}
        save_file(self.weights | extra, folder / "model.safetensors")
        facts = {"settings": self.settings.model_dump(), "shape": list(self.shape)}
        (folder / "generator.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from safetensors.torch import load_file

        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        arrays = {n: weights.pop(f"standard.{n}").numpy() for n in ("mean", "scale", "low", "high")}
        return cls(cls.Settings(**facts["settings"]), tuple(facts["shape"]), Standard(**arrays), weights)
