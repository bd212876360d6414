"""The common part of flow matching and diffusion: training and sampling of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recurate.components.generators.scaling import ArrayModel, Scaler, check_training_data, trained
from recurate.components.nets.devices import choose_device, import_torch, threads
from recurate.components.nets.training import Network, NetworkSettings, build, prepare, repeatable, train
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.samples import Samples

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor

CHUNK = 4096  # samples of an MLP drawn together: activations stay in the cache
# Pixels of a U-Net's images drawn together, by device: activations stay in memory.
PIXELS = {"cpu": 100_000, "cuda": 2_000_000, "mps": 500_000}


@dataclass(frozen=True)
class Neural(ArrayModel):
    """A generator of arrays of one shape by a network; kinds add the loss and the sampling.

    Retraining starts from the previous round's weights, on the scale of the first training data, unless
    ``warm_start`` is false. Samples come from a moving average of the weights.

    Attributes:
        settings: Settings of the network and its training.
        arrays: Weights of the network, by name, in float32.
    """

    GAIN: ClassVar[float] = 1.0  # factor on an MLP's initial weights
    settings: NetworkSettings

    @classmethod
    def begin(cls, settings: NetworkSettings) -> Self:
        """Return the model before round 0: untrained, or the one in the folder that the settings name.

        Raises:
            InputError: If the folder has no such model, or its network has another size.
        """
        if settings.model is None:
            return cls(settings)
        found = cls.load(Path(settings.model))
        wanted, got = (_size(s, found.shape) for s in (settings, found.settings))
        if wanted != got:
            raise InputError(
                f"the model in {settings.model} has another network than the settings",
                got=f"{got}, and the settings ask for {wanted}",
                remedy="give generator the network, width and depth of that model",
            )
        return replace(found, settings=settings)

    def loss(self, network: Network, target: Tensor, rng: TorchGenerator) -> Tensor:
        """Return the training loss, a scalar, on a batch of rows (b, d)."""
        raise NotImplementedError

    def walk(
        self, network: Network, noise: Tensor, bounds: tuple[Tensor, Tensor], rng: TorchGenerator
    ) -> Tensor:
        """Return samples (n, d).

        Args:
            network: Field that minimises :meth:`loss`.
            noise: Standard normal starting points, shape (n, d).
            bounds: Lower and upper bounds of the data, shape (d,) each.
            rng: Random numbers that are used on the way.
        """
        raise NotImplementedError

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return a generator trained on data (n, ...); see :class:`Generator`.

        Raises:
            InputError: If the data are texts, empty, not finite or of another shape than before, the network
                cannot be applied to their shape, or there is no such device.
            Diverged: If the loss or the weights are not finite.
        """
        torch = import_torch()
        check_training_data(data, self.shape)
        settings, shape = self.settings, data.shape[1:]
        recipe, device = settings.recipe(shape), choose_device(settings.device)
        scaler, weights, steps = self.scaler, self.arrays, recipe.steps
        if scaler is None or not settings.warm_start:
            scaler = Scaler.of_images(data) if recipe.network == "unet" else Scaler.of_points(data)
            weights, steps = {}, settings.first_steps
        seed, loss = rng.integer(), replace(self, shape=shape).loss
        with threads(settings.threads), repeatable(device):
            network = build(recipe, shape, seed, weights, device, self.GAIN)
            rows = torch.from_numpy(scaler.rows(data)).to(device)
            torch_rng = torch.Generator(device).manual_seed(seed)
            weights = train(network, rows, steps, recipe, settings, loss, torch_rng)
        return type(self)(settings, shape, scaler, weights)

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return n samples, shape (n, *shape); those of a U-Net are clipped to the data's range.

        Raises:
            InputError: If the generator has not been trained, or there is no such device.
        """
        torch, scaler = import_torch(), trained(self.scaler)
        settings, dimension = self.settings, math.prod(self.shape)
        recipe, device = settings.recipe(self.shape), choose_device(settings.device)
        seed, image = rng.integer(), recipe.network == "unet"
        chunk = CHUNK
        if image:
            chunk = max(PIXELS[device.split(":")[0]] // math.prod(self.shape[:2]), 1)
        out = np.empty((n, dimension), np.float32)
        with threads(settings.threads), repeatable(device), torch.inference_mode():
            network = build(recipe, self.shape, seed, self.arrays, device)
            called = prepare(network.eval(), recipe, settings)
            torch_rng = torch.Generator(device).manual_seed(seed)
            low, high = (torch.from_numpy(b).to(device) for b in (scaler.low, scaler.high))
            for start in range(0, n, chunk):
                size = min(chunk, n - start)
                noise = torch.randn(size, dimension, generator=torch_rng, device=device)
                found = self.walk(called, noise, (low, high), torch_rng)
                out[start : start + size] = (found.clamp(low, high) if image else found).cpu().numpy()
        return scaler.samples(out, self.shape)


def _size(settings: NetworkSettings, shape: tuple[int, ...]) -> str:
    """Return kind and size of the network for samples of one shape, in words."""
    recipe = settings.recipe(shape)
    return f"{recipe.network} of width {recipe.width} and depth {recipe.depth}"
