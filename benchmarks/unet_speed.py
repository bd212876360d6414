"""Training throughput of the U-Net against its bare forward and backward passes: see benchmarks/README.md.

python benchmarks/unet_speed.py --device cpu     # a minute
python benchmarks/unet_speed.py --device cuda    # a GPU: larger network and batch
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recurate.components.generators.diffusion import Diffusion, DiffusionSettings
from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.components.nets.training import NetworkSettings, build, prepare, repeatable, train

MUST = 0.9
SIZES = {"cpu": (16, 64, 6), "cuda": (64, 512, 100)}  # width, batch, steps


def timed(work: Callable[[], None], device: str) -> float:
    """Return seconds: of the processor, or on the wall until the GPU is done."""
    if device == "cpu":
        clock = time.process_time()
        work()
        return time.process_time() - clock
    torch.cuda.synchronize()
    clock = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    device = given.device
    torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
    width, batch, steps = SIZES[device.split(":")[0]]
    name = platform.machine() if device == "cpu" else torch.cuda.get_device_name()
    lines = [
        f"# Training of the U-Net on {device}",
        "",
        f"`python benchmarks/unet_speed.py`: {name}, PyTorch {torch.__version__}, width {width}, batches of "
        f"{batch}, {steps} steps. Bare: the same network (layout, precision) forwards and backwards on one "
        f"batch that never changes, squared error as loss, no optimiser. "
        f"Shares are medians of {given.repeats} pairs in turn.",
        "",
        "| images | loss | bare ms a step | training ms a step | share (must be >= 0.9) |",
        "|---|---|---|---|---|",
    ]
    for shape in ((28, 28), (32, 32, 3)):
        for title, model in models(device, width, batch, given.compile).items():
            settings: NetworkSettings = model.settings
            loss = replace(model, shape=shape).loss
            recipe = settings.recipe(shape)
            data = torch.rand(4 * batch, int(np.prod(shape)), device=device) * 2 - 1
            rng = torch.Generator(device).manual_seed(0)
            with repeatable(device):
                network = build(recipe, shape, 0, {}, device)
                field = prepare(network, recipe, settings)
                x, t = data[:batch].clone(), torch.rand(batch, 1, device=device)

                def bare(network=network, field=field, x=x, t=t) -> None:
                    for _ in range(steps):
                        network.zero_grad()
                        torch.autograd.backward((field(x, t) - x).square().mean())

                def whole(
                    network=network, data=data, recipe=recipe, settings=settings, loss=loss, rng=rng
                ) -> None:
                    train(network, data, steps, recipe, settings, loss, rng)

                bare()
                whole()
                pairs = [(timed(bare, device), timed(whole, device)) for _ in range(given.repeats)]
            one, all_ = np.median(pairs, axis=0) / steps * 1e3
            share = float(np.median([a / b for a, b in pairs]))
            met = "" if share >= MUST else " NO"
            image = " x ".join(map(str, shape))
            lines.append(f"| {image} | {title} | {one:.1f} | {all_:.1f} | {share:.3f}{met} |")
            print(lines[-1], flush=True)
    out = given.out or Path(__file__).parent / "results" / f"unet_speed_{device.split(':')[0]}.md"
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("written:", out)


def models(device: str, width: int, batch: int, compiled: bool) -> dict[str, FlowMatching | Diffusion]:
    shared = {"width": width, "batch": batch, "device": device, "compile": compiled, "network": "unet"}
    return {
        "flow, independent": FlowMatching(FlowSettings(**shared, coupling="independent")),
        "flow, ot": FlowMatching(FlowSettings(**shared)),
        "diffusion": Diffusion(DiffusionSettings(**shared)),
    }


if __name__ == "__main__":
    main()
