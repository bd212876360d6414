"""Networks of classifiers: sequences of layers, whose last is linear with ``width`` inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from recurate.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Sequential

Kind = Literal["mlp", "conv", "words"]

CHANNELS = (16, 32, 64)
FROM = 16  # pixels per side from which images get convolutions by default
SEEN = 32  # pixels per side: images of at least twice that size are first averaged down towards it
SMALLEST = 4  # pixels per side that convolutions require
CHUNK = 8192  # samples evaluated together by an MLP
PIXELS = 2**19  # evaluated together by convolutions


def usual(shape: tuple[int, ...]) -> Kind:
    """Return the default kind of network: ``conv`` for images from 16 x 16 pixels, else ``mlp``."""
    return "conv" if is_image(shape) and min(shape[:2]) >= FROM else "mlp"


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether a shape is (h, w) or (h, w, 3)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def build(kind: Kind, shape: tuple[int, ...], width: int, classes: int, seed: int) -> Sequential:
    """Return a network with random weights.

    ``mlp`` and ``words``, whose inputs are vectors of texts, have two hidden layers. ``conv`` has up to three
    stages (convolution 3 x 3, batch normalisation, halving), then one hidden layer.

    Args:
        kind: Kind of the network.
        shape: Shape of one sample.
        width: Hidden units per layer.
        classes: Number of classes, each of which has one output, its logit.
        seed: Seed of the weights.

    Raises:
        InputError: If the kind is ``conv`` and samples are not images, or are too small.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers: list[Module]
        if kind != "conv":
            layers, size = [nn.Linear(math.prod(shape), width), nn.SiLU()], width
        else:
            layers, size = _convolutions(shape)
        layers += [nn.Linear(size, width), nn.SiLU(), nn.Linear(width, classes)]
        network = nn.Sequential(*layers)
    if kind == "conv":  # channels_last is a third faster on CPUs than PyTorch's usual layout
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _convolutions(shape: tuple[int, ...]) -> tuple[list[Module], int]:
    """Return the convolutional layers for images of a shape, and the number of their outputs."""
    from torch import nn

    if not is_image(shape) or min(shape[:2]) < SMALLEST:
        raise InputError(
            f"a convolutional classifier needs images of {SMALLEST} x {SMALLEST} pixels or more",
            got=f"samples of shape {shape}",
            remedy="set classifier.network = 'mlp', or omit it",
        )
    factor = max(min(shape[:2]) // SEEN, 1)
    height, wide = (side // factor for side in shape[:2])
    layers: list[Module] = [nn.AvgPool2d(factor)] if factor > 1 else []
    before = shape[2] if len(shape) == 3 else 1
    stages = min(int(math.log2(min(height, wide))) - 1, len(CHANNELS))
    for channels in CHANNELS[:stages]:
        convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
        before, height, wide = channels, height // 2, wide // 2
    return [*layers, nn.Flatten()], before * height * wide


def chunk(kind: Kind, shape: tuple[int, ...]) -> int:
    """Return the number of samples that are evaluated together, which limits the memory."""
    return CHUNK if kind != "conv" else max(PIXELS // math.prod(shape[:2]), 8)


def arrange(kind: Kind, shape: tuple[int, ...], flat: Tensor) -> Tensor:
    """Return flat samples (n, d) in the network's layout: (n, c, h, w) for ``conv``, else (n, d)."""
    if kind != "conv":
        return flat
    images = flat.reshape(len(flat), *shape[:2], -1)
    return images.permute(0, 3, 1, 2)


def moved(images: Tensor, most: int, rng: object) -> Tensor:
    """Return images (n, c, h, w) shifted by one random vector of up to ``most`` pixels, edges repeated."""
    import torch
    from torch.nn.functional import pad

    down, right = torch.randint(2 * most + 1, (2,), generator=rng).tolist()  # type: ignore[call-overload]
    padded = pad(images, (most,) * 4, mode="replicate")
    found = padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
    return found.contiguous(memory_format=torch.channels_last)
