"""The classifiers' networks: sequences whose last layer is linear, after one of ``width`` hidden units."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from recurate.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Sequential

Kind = Literal["mlp", "conv"]

CHANNELS = (16, 32, 64)
FROM = 16  # pixels a side, from which images are looked at by convolutions
SEEN = 32  # pixels a side: images of twice that or more are averaged down, to less than twice that
SMALLEST = 4
CHUNK = 8192  # samples at a time
PIXELS = 2**19  # at a time, where there are convolutions


def usual(shape: tuple[int, ...]) -> Kind:
    """Return the network for samples of a shape: convolutions for images of 16 pixels a side or more."""
    return "conv" if is_image(shape) and min(shape[:2]) >= FROM else "mlp"


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a shape is (h, w) or (h, w, 3)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)


def build(kind: Kind, shape: tuple[int, ...], width: int, classes: int, seed: int) -> Sequential:
    """Return a new network for samples of a shape.

    Raises:
        InputError: convolutions are asked for, and the samples are no images.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "mlp":
            return nn.Sequential(
                nn.Linear(math.prod(shape), width),
                nn.SiLU(),
                nn.Linear(width, width),
                nn.SiLU(),
                nn.Linear(width, classes),
            )
        if not is_image(shape) or min(shape[:2]) < SMALLEST:
            raise InputError(
                f"a convolutional classifier needs images of {SMALLEST} pixels a side or more",
                got=f"samples of shape {shape}",
                remedy="set classifier.network = 'mlp', or leave it out",
            )
        factor = max(min(shape[:2]) // SEEN, 1)
        height, wide = (side // factor for side in shape[:2])
        layers: list[nn.Module] = [nn.AvgPool2d(factor)] if factor > 1 else []
        before = shape[2] if len(shape) == 3 else 1
        stages = min(int(math.log2(min(height, wide))) - 1, len(CHANNELS))
        for channels in CHANNELS[:stages]:
            layers += [
                nn.Conv2d(before, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            before, height, wide = channels, height // 2, wide // 2
        layers += [
            nn.Flatten(),
            nn.Linear(before * height * wide, width),
            nn.SiLU(),
            nn.Linear(width, classes),
        ]
        # Pixel by pixel with all channels together: a third faster on CPUs than channel by channel.
        network = nn.Sequential(*layers)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network


def chunk(kind: Kind, shape: tuple[int, ...]) -> int:
    """Return how many samples are looked at together, so that memory stays small."""
    return CHUNK if kind == "mlp" else max(PIXELS // math.prod(shape[:2]), 8)


def arrange(kind: Kind, shape: tuple[int, ...], flat: Tensor) -> Tensor:
    """Return flat samples (n, d) as the network takes them: channels first for convolutions."""
    if kind == "mlp":
        return flat
    images = flat.reshape(len(flat), *shape[:2], -1)
    return images.permute(0, 3, 1, 2)


def moved(images: Tensor, most: int, rng: object) -> Tensor:
    """Return images (n, c, h, w) moved by up to so many pixels each way, all alike, their edges repeated."""
    import torch
    from torch.nn.functional import pad

    down, right = torch.randint(2 * most + 1, (2,), generator=rng).tolist()  # type: ignore[call-overload]
    padded = pad(images, (most,) * 4, mode="replicate")
    found = padded[:, :, down : down + images.shape[2], right : right + images.shape[3]]
    return found.contiguous(memory_format=torch.channels_last)
