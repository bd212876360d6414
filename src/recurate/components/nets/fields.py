"""Networks of generators: fields f(x, t) on vectors and images.

Import this module lazily, because it loads PyTorch.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 8
LOWEST = 8  # pixels: the U-Net halves images until a side is at most that long


class VelocityMLP(nn.Module):
    """A velocity field v(x, t) for vectors: an MLP on x and Fourier features of t.

    Args:
        dimension: Length of x.
        width: Hidden units per layer.
        depth: Number of hidden layers.
        gain: Factor on PyTorch's initial weights. If the best linear field is zero (diffusion's velocity),
            training with gain 1 stays there for thousands of steps; with gain 2 it does not.
    """

    def __init__(self, dimension: int, width: int, depth: int, gain: float = 1.0) -> None:
        super().__init__()
        sizes = [dimension + 1 + 2 * FREQUENCIES] + [width] * depth
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layer = nn.Linear(fan_in, fan_out)
            with torch.no_grad():
                layer.weight *= gain
            layers += [layer, nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(sizes[-1], dimension))
        self.frequencies: Tensor
        steps = torch.arange(1, FREQUENCIES + 1, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi * steps, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return v for x (n, dimension) at times t (n, 1) in [0, 1]."""
        phases = t * self.frequencies
        inputs = torch.cat([x, t, torch.sin(phases), torch.cos(phases)], dim=1)
        out: Tensor = self.body(inputs)
        return out


class UNet(nn.Module):
    """A velocity or noise field for images: a U-Net, whose two halves are linked by skip connections.

    Resolutions are halved until a side has 8 pixels or fewer, channels double once, and the lowest resolution
    has one layer of attention: a small version of the network of Ho et al. (2020, arXiv 2006.11239, appendix
    B). Rows are images flattened as (height, width, channels), PyTorch's ``channels_last`` layout, so that no
    values are copied on input or output.

    Args:
        shape: Height, width and channels of an image.
        width: Channels at full resolution, a multiple of 8.
        depth: Residual blocks per resolution, on each side.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, depth: int) -> None:
        super().__init__()
        self.shape, self.halvings = shape, 0
        while min(shape[:2]) > LOWEST << self.halvings:
            self.halvings += 1
        times = 4 * width
        self.time = nn.Sequential(nn.Linear(1 + 2 * FREQUENCIES, times), nn.SiLU(), nn.Linear(times, times))
        self.enter = nn.Conv2d(shape[2], width, 3, padding=1)
        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [width]
        for level in range(self.halvings + 1):
            channels = width * min(level + 1, 2)
            for _ in range(depth):
                self.down.append(Block(skips[-1], channels, times))
                skips.append(channels)
            if level < self.halvings:
                self.down.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                skips.append(channels)
        now = skips[-1]
        self.middle = nn.ModuleList([Block(now, now, times), Attention(now), Block(now, now, times)])
        for level in reversed(range(self.halvings + 1)):
            channels = width * min(level + 1, 2)
            for _ in range(depth + 1):
                self.up.append(Block(now + skips.pop(), channels, times))
                now = channels
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(now, now, 3, padding=1)))
        self.leave = nn.Sequential(norm(now), nn.SiLU(), zero(nn.Conv2d(now, shape[2], 3, padding=1)))
        self.frequencies: Tensor
        steps = torch.arange(1, FREQUENCIES + 1, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi * steps, persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the field for x (n, height * width * channels) at times t (n, 1) in [0, 1]."""
        height, width, channels = self.shape
        phases = t * self.frequencies
        times = self.time(torch.cat([t, torch.sin(phases), torch.cos(phases)], dim=1))
        h = x.view(-1, height, width, channels).permute(0, 3, 1, 2)
        unit = 1 << self.halvings
        h = self.enter(functional.pad(h, (0, -width % unit, 0, -height % unit)) if unit > 1 else h)
        skips = [h]
        for part in self.down:
            h = part(h, times) if isinstance(part, Block) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, times) if isinstance(part, Block) else part(h)
        for part in self.up:
            h = part(torch.cat([h, skips.pop()], dim=1), times) if isinstance(part, Block) else part(h)
        out: Tensor = self.leave(h)[:, :, :height, :width]
        return out.permute(0, 2, 3, 1).reshape(len(x), -1)


class Block(nn.Module):
    """A residual block of two convolutions; between them, values are scaled and shifted depending on time."""

    def __init__(self, channels: int, out: int, times: int) -> None:
        super().__init__()
        self.first = nn.Sequential(norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(times, 2 * out))
        self.norm = norm(out)
        self.second = nn.Sequential(nn.SiLU(), zero(nn.Conv2d(out, out, 3, padding=1)))
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        """Return (n, out, height, width) for x (n, channels, height, width) and times (n, times)."""
        scale, shift = self.time(times)[:, :, None, None].chunk(2, dim=1)
        out: Tensor = self.skip(x) + self.second(self.norm(self.first(x)) * (1 + scale) + shift)
        return out


class Attention(nn.Module):
    """Self-attention over all pixels, with one head per 64 channels and a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(channels // 64, 1) if channels % max(channels // 64, 1) == 0 else 1
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.project = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return an array of the same shape (n, channels, height, width)."""
        n, channels, height, width = x.shape
        parts = self.qkv(self.norm(x)).permute(0, 2, 3, 1).reshape(n, height * width, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(n, height, width, channels).permute(0, 3, 1, 2)
        out: Tensor = x + self.project(mixed)
        return out


def norm(channels: int) -> nn.GroupNorm:
    """Return a group normalisation with about eight channels per group."""
    return nn.GroupNorm(math.gcd(channels, max(channels // 8, 1)), channels)


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Set a layer's weights to zero, so that its residual block is initially the identity, and return it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
