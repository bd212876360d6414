"""Training of networks, whatever they learn: settings, optimiser, moving average, precision, devices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from recurate.components.nets.devices import import_torch
from recurate.core.errors import Diverged, InputError
from recurate.core.settings import Settings

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor
    from torch.nn import Module

Network = Callable[["Tensor", "Tensor"], "Tensor"]  # network(x, t): velocities or noise
Loss = Callable[[Network, "Tensor", "TorchGenerator"], "Tensor"]

CHECKED = 100  # training steps between two looks at the loss
SIDE = 16  # images at least so high and wide are for the U-Net, unless said


@dataclass(frozen=True)
class Recipe:
    """A network's kind, size and training, resolved for samples of one shape."""

    network: Literal["mlp", "unet"]
    width: int
    depth: int
    batch: int
    learning_rate: float


USUAL = {"mlp": Recipe("mlp", 128, 3, 512, 2e-3), "unet": Recipe("unet", 32, 1, 128, 1e-3)}


class NetworkSettings(Settings):
    """Settings of a generator that is a network."""

    network: Literal["auto", "mlp", "unet"] = Field(
        "auto",
        description="'mlp' for vectors, 'unet' for images (n, h, w) or (n, h, w, channels); "
        "'auto': 'unet' from 16 x 16",
    )
    width: int | None = Field(
        None, ge=1, description="hidden units a layer (mlp; 128), or channels at full resolution (unet; 32)"
    )
    depth: int | None = Field(
        None, ge=1, description="hidden layers (mlp; 3), or residual blocks a resolution (unet; 1)"
    )
    first_steps: int = Field(4000, ge=1, description="training steps of a model that starts from scratch")
    steps: int = Field(1000, ge=1, description="training steps of every retraining")
    batch: int | None = Field(None, ge=1, description="training batch (mlp; 512, unet; 128)")
    learning_rate: float | None = Field(
        None, gt=0, description="Adam's step size, cosine-annealed to zero (mlp; 0.002, unet; 0.001)"
    )
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of the weights")
    warm_start: bool = Field(
        True, description="retraining starts from the weights of the round before; false: from scratch"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the network on CUDA; 'auto': bfloat16 for the U-Net. Elsewhere float32"
    )
    compile: bool = Field(False, description="compile the network with torch.compile: slow to start")
    parallel: bool = Field(
        False, description="share each batch among all CUDA devices (torch.nn.DataParallel)"
    )
    device: str = Field("auto", description="'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, description="CPU threads; one is fastest for small networks")

    @model_validator(mode="after")
    def _one_wrapper(self) -> Self:
        if self.compile and self.parallel:
            raise ValueError("compile and parallel do not work together: choose one")
        if self.network == "unet" and self.width is not None and self.width % 8:
            raise ValueError(f"the U-Net's width must be a multiple of 8, and is {self.width}")
        return self

    def recipe(self, shape: tuple[int, ...]) -> Recipe:
        """Return what these settings mean for samples of a shape.

        Raises:
            InputError: a U-Net is wanted, and the samples are no images.
        """
        network = self.network
        image = len(shape) in (2, 3) and (len(shape) == 2 or shape[2] <= 4) and min(shape[:2]) >= 4
        turned = len(shape) == 3 and not image and shape[0] <= 4 and min(shape[1:]) >= SIDE
        if network == "auto" and not turned:
            network = "unet" if image and min(shape[:2]) >= SIDE else "mlp"
        if network == "auto" or (network == "unet" and not image):
            raise InputError(
                "images must be (n, height, width) or (n, height, width, channels), from 4 x 4",
                got=f"samples of shape {shape}",
                remedy="put the channels last, or set generator.network = 'mlp'",
            )
        usual = USUAL[network]
        return Recipe(
            usual.network,
            self.width or usual.width,
            self.depth or usual.depth,
            self.batch or usual.batch,
            self.learning_rate or usual.learning_rate,
        )


def build(
    recipe: Recipe, shape: tuple[int, ...], seed: int, weights: dict[str, Any], device: str, gain: float = 1.0
) -> Module:
    """Return a network on a device, with the given weights, or fresh ones times a gain if there are none."""
    import torch

    from recurate.components.nets.fields import UNet, VelocityMLP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Module
        if recipe.network == "unet":
            height, width, channels = (*shape, 1)[:3]
            network = UNet((height, width, channels), recipe.width, recipe.depth)
        else:
            network = VelocityMLP(math.prod(shape), recipe.width, recipe.depth, gain)
    if weights:
        network.load_state_dict(weights)
    layout = torch.channels_last if recipe.network == "unet" else torch.preserve_format
    placed: Module = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return placed


def prepare(network: Module, recipe: Recipe, settings: NetworkSettings) -> Network:
    """Return the function to call: the network, compiled, spread over GPUs and in low precision if wanted."""
    import torch

    device = next(network.parameters()).device
    called: Any = network
    if settings.compile:
        called = torch.compile(network)
    if settings.parallel and (device.type == "cuda" or not torch.cuda.is_available()):
        called = torch.nn.DataParallel(network)  # without GPUs it calls the network
    low = settings.precision == "bfloat16" or (settings.precision == "auto" and recipe.network == "unet")
    if not (low and device.type == "cuda" and torch.cuda.is_bf16_supported()):
        return called  # type: ignore[no-any-return]

    def lowered(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            out: Tensor = called(x, t)
        return out.float()

    return lowered


def train(
    network: Module,
    data: Tensor,
    steps: int,
    recipe: Recipe,
    settings: NetworkSettings,
    loss_of: Loss,
    rng: TorchGenerator,
) -> dict[str, Tensor]:
    """Train in place; return the moving average of the weights, on the CPU.

    The data and the random numbers live on the network's device, so that no step waits for a copy.

    Raises:
        Diverged: the loss or the weights are no longer numbers.
    """
    import torch

    field = prepare(network, recipe, settings)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    parameters = list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    for step in range(steps):
        rows = torch.randint(len(data), (recipe.batch,), generator=rng, device=data.device)
        loss = loss_of(field, data[rows], rng)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        if step % CHECKED == 0 and not math.isfinite(loss.item()):
            raise Diverged("generator", recipe.learning_rate)
        # Early steps count less: an average that starts at the old weights would lag behind.
        weight = 1 - min(settings.ema, (step + 1) / (step + 10))
        torch._foreach_lerp_(average, [p.detach() for p in parameters], weight)
    if not all(bool(value.isfinite().all()) for value in average):
        raise Diverged("generator", recipe.learning_rate)
    names = [name for name, _ in network.named_parameters()]
    return {name: value.cpu().contiguous() for name, value in zip(names, average, strict=True)}


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Have cuDNN use the same algorithms every time inside; elsewhere than on CUDA nothing."""
    torch = import_torch()
    if not device.startswith("cuda"):
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
