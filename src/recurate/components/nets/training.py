"""Training of networks: the training loop, and the settings, networks and precision of generators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from recurate.components.nets.devices import choose_device, import_torch
from recurate.components.nets.saved import Arrays
from recurate.components.protocols import GeneratorSettings
from recurate.core.errors import Diverged, InputError
from recurate.core.fingerprints import Fingerprint, of_folder
from recurate.core.limits import check_memory

if TYPE_CHECKING:
    from torch import Generator as TorchGenerator
    from torch import Tensor
    from torch.nn import Module

Network = Callable[["Tensor", "Tensor"], "Tensor"]  # network(x, t): velocities or noise
Loss = Callable[[Network, "Tensor", "TorchGenerator"], "Tensor"]

Batch = TypeVar("Batch")

CHECKED = 100  # training steps between two checks of the loss
SIDE = 16  # pixels per side from which 'auto' chooses the U-Net


@dataclass(frozen=True)
class Recipe:
    """Kind, size and training of a generator's network, for samples of one shape."""

    network: Literal["mlp", "unet"]
    width: int
    depth: int
    batch: int
    learning_rate: float
    steps: int


USUAL = {"mlp": Recipe("mlp", 128, 3, 512, 2e-3, 1000), "unet": Recipe("unet", 32, 1, 128, 1e-3, 1000)}
SMALL, WIDER = (
    64,
    256,
)  # numbers per sample up to which the usual MLP passes on 85 % of a selection; width beyond


class NetworkSettings(GeneratorSettings):
    """Settings that are common to all generators with a network."""

    network: Literal["auto", "mlp", "unet"] = Field(
        "auto",
        description="'mlp' for vectors, 'unet' for images (n, h, w) or (n, h, w, channels); 'auto': 'unet' "
        "for images of at least 16 x 16",
    )
    width: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="hidden units per layer (mlp; 128, and 256 for samples of over 64 numbers), or channels "
        "at full resolution (unet; 32)",
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="hidden layers (mlp; 3), or residual blocks per resolution (unet; 1)",
    )
    model: str | None = Field(
        None,
        description="folder of a trained model of this kind and size, such as RUN/rounds/000/model, which is "
        "then the model of round 0; if absent, one is trained on the real data",
    )
    first_steps: int = Field(
        4000, ge=1, le=10**9, description="training steps of a model that starts from scratch"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=10**9,
        description="training steps of every retraining (mlp: 1000, and more for samples of over 64 numbers, "
        "growing with the root of their number; unet: 1000)",
    )
    batch: int | None = Field(None, ge=1, le=10**9, description="training batch size (mlp; 512, unet; 128)")
    learning_rate: float | None = Field(
        None, gt=0, description="Adam's step size, cosine-annealed to zero (mlp; 0.002, unet; 0.001)"
    )
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the moving average of the weights")
    warm_start: bool = Field(
        True, description="whether retraining starts from the previous round's weights; false: from scratch"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="precision on CUDA; 'auto': bfloat16 for the U-Net; float32 on other devices"
    )
    compile: bool = Field(False, description="whether to use torch.compile, which starts slowly")
    parallel: bool = Field(
        False, description="whether to split each batch among all CUDA devices (torch.nn.DataParallel)"
    )
    device: str = Field("auto", description="device of the network: 'auto', 'cpu', 'cuda', ...")
    threads: int = Field(1, ge=1, le=10**9, description="CPU threads; one is fastest for small networks")

    @model_validator(mode="after")
    def _one_wrapper(self) -> Self:
        if self.compile and self.parallel:
            raise ValueError("compile and parallel cannot be combined: choose one")
        if self.network == "unet" and self.width is not None and self.width % 8:
            raise ValueError(f"the U-Net's width must be a multiple of 8, not {self.width}")
        return self

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return self.model is None

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the first model's files; rounds keep models of their own."""
        return [] if self.model is None else of_folder(f"{serves}.model", Path(self.model), kept=True)

    def check(self) -> None:
        """Check that this machine has the device, and memory for the network and its training.

        Raises:
            InputError: If it does not.
        """
        choose_device(self.device)
        width, depth, batch = self.width or 1, self.depth or 1, self.batch or 1
        # Weights, their gradients, moments and average; activations and their gradients.
        floats = 5 * width * width * depth + 2 * width * depth * batch
        remedy = f"lower generator.width ({width}), depth ({depth}) or batch ({batch})"
        check_memory("the network of these settings", 4 * floats, remedy)

    def recipe(self, shape: tuple[int, ...]) -> Recipe:
        """Return kind, size and training of the network for samples of one shape.

        The usual steps and widths were measured by ``benchmarks/transmission.py``.

        Raises:
            InputError: If the settings require a U-Net and samples are not images, or if ``auto`` cannot
                decide because channels seem to come first.
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
        if network == "mlp":
            size = math.prod(shape)
            steps = round(usual.steps * max(math.sqrt(size / SMALL), 1.0))
            usual = replace(usual, steps=steps, width=usual.width if size <= SMALL else WIDER)
        given = {n: getattr(self, n) for n in ("width", "depth", "batch", "learning_rate", "steps")}
        return replace(usual, **{n: value for n, value in given.items() if value is not None})


def build(
    recipe: Recipe, shape: tuple[int, ...], seed: int, weights: Arrays, device: str, gain: float = 1.0
) -> Module:
    """Return a generator's network on a device.

    Args:
        recipe: Kind and size of the network.
        shape: Shape of one sample.
        seed: Seed of the initial weights.
        weights: Weights that replace the initial ones, unless empty.
        device: Device of the network.
        gain: Factor on the initial weights of an MLP.
    """
    import torch

    from recurate.components.nets.fields import UNet, VelocityMLP

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # of the CPU: networks are made there
        network: Module
        if recipe.network == "unet":
            height, width, channels = (*shape, 1)[:3]
            network = UNet((height, width, channels), recipe.width, recipe.depth)
        else:
            network = VelocityMLP(math.prod(shape), recipe.width, recipe.depth, gain)
    if weights:
        set_weights(network, weights)
    layout = torch.channels_last if recipe.network == "unet" else torch.preserve_format
    placed: Module = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return placed


def prepare(network: Module, recipe: Recipe, settings: NetworkSettings) -> Network:
    """Return the network as a function: compiled, on several GPUs or in low precision if settings say so."""
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


@dataclass(frozen=True)
class Descent:
    """Settings of the optimiser: AdamW, whose step size is annealed to zero along a cosine.

    Sources: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; Loshchilov & Hutter 2019 (arXiv 1711.05101),
    algorithm 2 for the weight decay; 2017 (arXiv 1608.03983), eq. 5 for the cosine.

    Attributes:
        name: Name of the trained model in messages.
        steps: Largest number of training steps.
        learning_rate: Initial step size.
        weight_decay: Weight decay, decoupled from the gradient; with 0 the optimiser is Adam.
        clip: Largest norm of the gradient, which is scaled down to it; None: any.
    """

    name: str
    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    clip: float | None = None


def optimise(
    network: Module,
    batches: Iterator[Batch],
    loss: Callable[[Batch], Tensor | Iterator[Tensor]],
    settings: Descent,
    after: Callable[[int], bool | None] = lambda done: None,
    add: Callable[[Sequence[Tensor]], None] | None = None,
) -> None:
    """Train a network in place: all training uses this loop.

    Args:
        network: Network whose parameters are changed.
        batches: One batch per step, drawn just before its loss is computed: both may share a generator of
            random numbers.
        loss: Function that returns the loss of a batch, a scalar, or yields its summands: the gradient of
            each is computed before the next, which saves memory.
        settings: Settings of the optimiser.
        after: Function that is called with the number of completed steps, first with 0; true stops training.
        add: Function that replaces tensors, a loss and the gradients, by their sums over several processes.

    Raises:
        Diverged: If the loss or the weights are not finite.
    """
    import torch

    diverged = Diverged(settings.name, settings.learning_rate)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = _AdamW(parameters, settings.weight_decay)
    if after(0):
        return
    for step, batch in zip(range(settings.steps), batches, strict=False):
        found = loss(batch)
        value = torch.zeros(())
        for part in (found,) if isinstance(found, torch.Tensor) else found:
            torch.autograd.backward(part)
            value = value.to(part.device) + part.detach()
        if add is not None:
            value = _added(value.to(parameters[0].device), parameters, add)
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimiser.step(settings.learning_rate * (1 + math.cos(math.pi * step / settings.steps)) / 2)
        if step % CHECKED == 0 and not math.isfinite(value.item()):
            raise diverged
        if after(step + 1):
            break
    if not all(bool(p.isfinite().all()) for p in (value, *parameters)):
        raise diverged


def _added(value: Tensor, parameters: Sequence[Tensor], add: Callable[[Sequence[Tensor]], None]) -> Tensor:
    """Add up the loss and the gradients of all processes; one without a pass in this step has zeros."""
    import torch

    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    value = value.reshape(1)
    add([value, *(p.grad for p in parameters if p.grad is not None)])
    return value[0]


class _AdamW:
    """The optimiser AdamW: ``torch.optim``, which imports torch.compile's machinery, takes two seconds."""

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        import torch

        self._weight_decay = weight_decay
        self._state = [
            (p, torch.zeros_like(p), torch.zeros_like(p), torch.zeros((), device=p.device))
            for p in parameters
        ]

    def step(self, learning_rate: float) -> None:
        """Move every parameter that has a gradient, and remove the gradients."""
        import torch

        moved = [state for state in self._state if state[0].grad is not None]
        weights, means, squares, counts = map(list, zip(*moved, strict=True))
        with torch.no_grad():
            torch._foreach_add_(counts, 1)
            torch._fused_adamw_(
                weights, [w.grad for w in weights], means, squares, [], counts, lr=learning_rate, beta1=0.9,
                beta2=0.999, weight_decay=self._weight_decay, eps=1e-8, amsgrad=False, maximize=False,
            )  # fmt: skip
        for weight in weights:
            weight.grad = None


class Average:
    """The moving average m of a network's weights w, a callback of :func:`optimise`.

    After step n, m becomes m + (1 - b) (w - m) with b = min(decay, n / (n + 9)): b is smaller in early steps,
    because the average of few steps would otherwise stay near the initial weights.
    """

    def __init__(self, network: Module, decay: float) -> None:
        self.names = [name for name, _ in network.named_parameters()]
        self.parameters = [p.detach() for p in network.parameters()]
        self.average = [p.clone() for p in self.parameters]
        self.decay = decay

    def __call__(self, done: int) -> None:
        """Update the average after ``done`` steps."""
        import torch

        weight = 1 - min(self.decay, done / (done + 9))
        torch._foreach_lerp_(self.average, self.parameters, weight)

    def weights(self) -> Arrays:
        """Return the average, by names of parameters."""
        return {n: a.cpu().contiguous().numpy() for n, a in zip(self.names, self.average, strict=True)}


def weights_of(network: Module) -> Arrays:
    """Return a copy of a network's weights and buffers, by name."""
    return {name: value.cpu().numpy().copy() for name, value in network.state_dict().items()}


def set_weights(network: Module, weights: Arrays) -> None:
    """Load weights from :func:`weights_of` or :class:`Average` into a network.

    Raises:
        RuntimeError: If they belong to another network.
    """
    import torch

    network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})


def train(
    network: Module,
    data: Tensor,
    steps: int,
    recipe: Recipe,
    settings: NetworkSettings,
    loss_of: Loss,
    rng: TorchGenerator,
) -> Arrays:
    """Train a generator's network in place; return the moving average of its weights.

    The data and the random numbers are on the network's device, so that no step waits for a copy.

    Raises:
        Diverged: If the loss or the weights are not finite.
    """
    import torch

    field, average = prepare(network, recipe, settings), Average(network, settings.ema)

    def batches() -> Iterator[Tensor]:
        while True:
            yield data[torch.randint(len(data), (recipe.batch,), generator=rng, device=data.device)]

    descent = Descent("generator", steps, recipe.learning_rate)
    optimise(network, batches(), lambda rows: loss_of(field, rows, rng), descent, average)
    return average.weights()


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Make cuDNN use deterministic algorithms within the block; other devices are unaffected."""
    torch = import_torch()
    if not device.startswith("cuda"):
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield
