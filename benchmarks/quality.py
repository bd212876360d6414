"""How good each generator's samples are, beside held-out real data and a peer: see benchmarks/README.md.

python benchmarks/quality.py                       # about half an hour on one core
python benchmarks/quality.py --jobs points,digits  # some of points, digits, fashion, report
python benchmarks/quality.py --only flow           # some of the generators

Every job leaves its rows and samples in --work; the job `report` makes the tables and grids of all of them.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import gzip
import json
import lzma
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recurate.components.data import Digits, Gaussians
from recurate.components.generators.diffusion import DiffusionSettings
from recurate.components.generators.flow import FlowSettings
from recurate.components.generators.kde import KernelSettings
from recurate.components.generators.mixture import MixtureSettings
from recurate.core.seeds import Stream
from recurate.metrics.quality import frechet, precision_recall

HERE = Path(__file__).parent
POINTS, PERMUTATIONS = 2000, 1000  # of the MMD test: points a sample, permutations
WIDE, NARROW = (0.01, 0.1, 1.0), (0.001,)  # scales of kernels, in median squared distances
FASHION, STEPS, BATCH = 5000, 600, 64  # images, training steps, images a step
SAMPLES = 1000  # images that are judged
FEATURES = 32  # principal components of the training images' pixels


# --- the tests ------------------------------------------------------------------------------------


def mmd(x: np.ndarray, y: np.ndarray, seed: int = 0, scales: tuple[float, ...] = WIDE) -> tuple[float, float]:
    """Return the squared MMD (unbiased) and its permutation p-value.

    The kernel is the sum of exp(-|x - y|^2 / (scale m)), m the median squared distance.
    """
    z = np.concatenate([x, y]).astype(np.float64)
    norms = np.square(z).sum(axis=1)
    squares = np.maximum(norms[:, None] + norms - 2 * z @ z.T, 0.0)
    median = np.median(squares)
    kernel = sum(np.exp(-squares / (median * f)) for f in scales)
    np.fill_diagonal(kernel, 0.0)
    sign = np.repeat([1.0, -1.0], [len(x), len(y)])
    draw = np.random.default_rng(seed)
    signs = np.stack([sign, *(draw.permutation(sign) for _ in range(PERMUTATIONS))])
    found = np.einsum("pi,pi->p", signs @ kernel, signs)
    n = len(x)
    own = kernel[:n, :n].sum() + kernel[n:, n:].sum()
    value = own / (n * (n - 1)) - 2 * kernel[:n, n:].mean()
    return float(value), float((found >= found[0]).mean())


def features(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map of images to the first principal components of the training images."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    centre = flat.mean(0)
    axes = np.linalg.svd(flat - centre, full_matrices=False)[2][:FEATURES].T
    return lambda images: (images.reshape(len(images), -1) - centre) @ axes


def classified(train: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the map of images to the 64 hidden units of a classifier of the training images."""
    from sklearn.neural_network import MLPClassifier

    flat = train.reshape(len(train), -1)
    network = MLPClassifier((64,), max_iter=60, random_state=0, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 60 passes are meant
        network.fit(flat, labels)
    weights, bias = network.coefs_[0], network.intercepts_[0]
    return lambda images: np.maximum(images.reshape(len(images), -1) @ weights + bias, 0.0)


def judged(made: np.ndarray, held_out: np.ndarray, see: Callable[[np.ndarray], np.ndarray]) -> dict:
    """Return the Frechet distance, precision and recall of samples, each with a standard error."""
    x, y = see(made), see(held_out)
    distance = frechet(x, y)
    precision, recall = precision_recall(x, y)
    named = {"frechet": distance, "precision": precision, "recall": recall}
    return {k: (v.value, v.se) for k, v in named.items()}


# --- the data -------------------------------------------------------------------------------------


def moons(seed: int, count: int) -> np.ndarray:
    from sklearn.datasets import make_moons

    return make_moons(count, noise=0.05, random_state=seed)[0].astype(np.float32)


def fashion(folder: Path, part: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    raw = lzma.decompress((folder / f"{part}-images-idx3-ubyte.xz").read_bytes())
    images = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes()), np.uint8)
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return images[chosen].astype(np.float32) / 255, labels[8:][chosen]


# --- the jobs -------------------------------------------------------------------------------------


def trained(settings, data: np.ndarray, count: int) -> tuple[np.ndarray, float, float]:
    """Return samples, and processor seconds of training and of sampling."""
    clock = time.process_time()
    model = settings.build().fit(data, rng=Stream(1))
    middle = time.process_time()
    made = model.sample(count, rng=Stream(2))
    return made, middle - clock, time.process_time() - middle


def points(work: Path, only: set[str]) -> None:
    gaussians = Gaussians(size=20_000).load(Stream(0))
    sets = {
        "8 Gaussians": (gaussians.train, gaussians.held_out[:POINTS], Gaussians().load(Stream(9)).train),
        "two moons": (moons(0, 20_000), moons(1, POINTS), moons(2, POINTS)),
    }
    kinds = {
        "flow (ot)": FlowSettings(device="cpu"),
        "flow (independent)": FlowSettings(device="cpu", coupling="independent"),
        "diffusion": DiffusionSettings(device="cpu"),
        "diffusion (eta 1)": DiffusionSettings(device="cpu", eta=1.0),
        "diffusion (noise)": DiffusionSettings(device="cpu", prediction="noise"),
        "mixture": MixtureSettings(components=16, n_init=3),
        "kde": KernelSettings(),
    }
    for name, (train, held_out, other) in sets.items():
        for kind, settings in {"real data": None, **kinds}.items():
            if only and not any(o in kind for o in only):
                continue
            made, fit_s, sample_s = (
                (other, 0.0, 0.0) if settings is None else trained(settings, train, POINTS)
            )
            value, p = mmd(made[:POINTS], held_out)
            keep(work, "points", name, kind, made, {"mmd2": value, "p": p, "fit": fit_s, "sample": sample_s})


def digits(work: Path, only: set[str]) -> None:
    found = Digits().load(Stream(0))
    network = {"width": 320, "learning_rate": 4e-3, "batch": 128, "first_steps": 5000, "device": "cpu"}
    kinds = {
        "flow": FlowSettings(**network),
        "diffusion": DiffusionSettings(**network, sampling_steps=50),
        "mixture": MixtureSettings(components=20, reg=1e-2),
        "kde": KernelSettings(),
    }
    images(work, "digits", kinds, found.train, found.held_out, found.train[: len(found.held_out)], only)


def fashion_mnist(work: Path, only: set[str], folder: Path) -> None:
    train, held_out = fashion(folder, "train", FASHION)[0], fashion(folder, "t10k", SAMPLES)[0]
    network = {"width": 16, "batch": BATCH, "first_steps": STEPS, "device": "cpu"}
    kinds = {
        "flow": FlowSettings(**network, coupling="ot", coupling_batch=BATCH),
        "diffusion": DiffusionSettings(**network, sampling_steps=50),
        "mixture": MixtureSettings(components=20, reg=1e-2),
        "kde": KernelSettings(),
    }
    images(
        work, "Fashion-MNIST", kinds, train, held_out, fashion(folder, "t10k", 2 * SAMPLES)[0][SAMPLES:], only
    )
    if not only or "peer" in only:
        made, fit_s, sample_s = diffusers_peer(train)
        found = judged(made, held_out, features(train)) | {"fit": fit_s, "sample": sample_s}
        keep(work, "images", "Fashion-MNIST", "peer: diffusers", made, found)


def images(work, name, kinds, train, held_out, other, only) -> None:
    see = features(train)
    for kind, settings in {"real data": None, **kinds}.items():
        if only and not any(o in kind for o in only):
            continue
        made, fit_s, sample_s = (other, 0.0, 0.0) if settings is None else trained(settings, train, SAMPLES)
        keep(
            work, "images", name, kind, made, judged(made, held_out, see) | {"fit": fit_s, "sample": sample_s}
        )


def diffusers_peer(train: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Train diffusers' own U-Net and schedulers as its tutorial does, but as fast as ours learns.

    UNet2DModel with 16, 32, 32 channels, one layer a block, attention at the lowest resolution; DDPMScheduler
    (cosine), batches, Adam's step size and its cosine decay, and the moving average as ours; DDIMScheduler
    with 50 steps.
    """
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    clock = time.process_time()
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32, 32),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )
    noisy = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    average = EMAModel(network.parameters(), decay=0.99)
    data = torch.from_numpy(2 * train[:, None] - 1)
    for _ in range(STEPS):
        clean = data[torch.randint(len(data), (BATCH,))]
        noise, level = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        told = network(noisy.add_noise(clean, noise, level), level).sample
        optimiser.zero_grad()
        torch.autograd.backward((told - noise).square().mean())
        optimiser.step()
        schedule.step()
        average.step(network.parameters())
    average.copy_to(network.parameters())
    middle = time.process_time()
    sampler = DDIMScheduler(1000, beta_schedule="squaredcos_cap_v2")
    sampler.set_timesteps(50)
    made = []
    with torch.inference_mode():
        for start in range(0, SAMPLES, 125):
            x = torch.randn(min(125, SAMPLES - start), 1, 28, 28)
            for level in sampler.timesteps:
                x = sampler.step(network(x, level).sample, level, x).prev_sample
            made.append(x.clamp(-1, 1)[:, 0].numpy() / 2 + 0.5)
    parameters = sum(p.numel() for p in network.parameters())
    print("the peer's parameters:", parameters)
    return np.concatenate(made), middle - clock, time.process_time() - middle


# --- what is kept ---------------------------------------------------------------------------------


def keep(work: Path, job: str, data: str, kind: str, made: np.ndarray, found: dict) -> None:
    name = f"{job}-{data}-{kind}".replace(" ", "_").replace(":", "")
    np.savez_compressed(work / f"{name}.npz", samples=made[:2000])
    (work / f"{name}.json").write_text(json.dumps({"job": job, "data": data, "kind": kind, **found}))
    print(data, "|", kind, "|", found, flush=True)
    grid(made, work / f"{name}.png")


def grid(made: np.ndarray, path: Path) -> None:
    """Write a picture of samples: 12 x 6 images, or points as dots."""
    from PIL import Image

    if made.ndim == 2:
        low, high = made[:2000].min(0), made[:2000].max(0)
        cells = ((made[:2000] - low) / (high - low).max() * 399).astype(int)
        picture = np.full((400, 400), 255, np.uint8)
        picture[399 - cells[:, 1], cells[:, 0]] = 0
    else:
        size = made.shape[1]
        rows = np.clip(made[:72] * 255, 0, 255).astype(np.uint8).reshape(6, 12, size, size)
        picture = rows.transpose(0, 2, 1, 3).reshape(6 * size, 12 * size)
    image = Image.fromarray(picture)
    factor = max(800 // image.width, 1)
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(path)


def sets(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return training images, their classes and held-out images by name."""
    found = Digits().load(Stream(0))
    own = fashion(folder, "train", FASHION)
    return {
        "digits": (found.train, found.labels, found.held_out),
        "Fashion-MNIST": (*own, fashion(folder, "t10k", SAMPLES)[0]),
    }


def report(work: Path, out: Path, folder: Path) -> None:
    import platform

    import sklearn
    import torch

    rows = [
        {**json.loads(path.read_text()), "file": path.with_suffix(".npz").name}
        for path in sorted(work.glob("*.json"))
    ]
    lines = [
        "# How good samples are",
        "",
        f"`python benchmarks/quality.py`: one thread of {platform.machine()}, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, scikit-learn {sklearn.__version__}. "
        "Seconds are of processor time, on a machine with other work.",
        "",
        f"**Points.** MMD² (unbiased) of {POINTS} samples and {POINTS} held-out points, {PERMUTATIONS} "
        "permutations; 20,000 training points. Wide: the sum of three Gaussian kernels exp(-d² / (f m)), m "
        "the median squared distance, f = 0.01, 0.1, 1. Narrow: f = 0.001, half the width of a mode, "
        "which sees a mode's standard deviation wrong by a fifth. p below 0.01 says that samples are not the "
        "data's. 'Real data' are a fresh sample of the same law.",
        "",
        "| data | generator | MMD², wide | p, wide | p, narrow | training s | sampling s |",
        "|---|---|---|---|---|---|---|",
    ]
    real = {
        "8 Gaussians": Gaussians(size=20_000).load(Stream(0)).held_out[:POINTS],
        "two moons": moons(1, POINTS),
    }
    for r in rows:
        if r["job"] == "points":
            made = np.load(work / r["file"])["samples"]
            ps = [mmd(made, real[r["data"]], scales=scales) for scales in (WIDE, NARROW)]
            cells = f"{ps[0][0]:.5f} | {ps[0][1]:.3f} | {ps[1][1]:.3f}"
            lines.append(f"| {r['data']} | {r['kind']} | {cells} | {r['fit']:.1f} | {r['sample']:.2f} |")
    lines += [
        "",
        f"**Images.** Fréchet distance, precision and recall (k = 3) in two feature spaces: the first "
        f"{FEATURES} principal components of the training images' pixels, and the 64 hidden units of "
        "scikit-learn's MLPClassifier, trained on the same images with their classes (60 passes). "
        f"{SAMPLES} samples against held-out images (digits: 360 of 1,797; Fashion-MNIST: {SAMPLES} of its "
        "test images); ± standard error. 'Real data' are other real images, the best that can be "
        "expected (of the digits as many training images). Digits: networks of width 320, "
        "5,000 steps of 128. Fashion-MNIST: "
        f"{FASHION} training images, U-Nets of 16 channels, {STEPS} steps of {BATCH}, the peer's too.",
        "",
        "| data | features | generator | Fréchet | precision | recall | training s | sampling s |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def told(pair) -> str:
        return f"{pair[0]:.3g} ± {pair[1]:.2g}"

    for name, (train, labels, held_out) in sets(folder).items():
        spaces = {f"{FEATURES} components": features(train), "classifier": classified(train, labels)}
        for space, see in spaces.items():
            for r in rows:
                if r["job"] == "images" and r["data"] == name:
                    found = judged(np.load(work / r["file"])["samples"], held_out, see)
                    cells = [name, space, r["kind"], *(told(v) for v in found.values())]
                    lines.append(f"| {' | '.join(cells)} | {r['fit']:.0f} | {r['sample']:.1f} |")
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("written:", out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", default="points,digits,fashion,report")
    parser.add_argument("--only", default="", help="generators whose names contain one of these, by commas")
    parser.add_argument("--work", type=Path, default=Path("/tmp/recurate-quality"))
    parser.add_argument("--fashion", type=Path, default=Path("/work/shared/data/fashion_mnist"))
    parser.add_argument("--peers", type=Path, help="a folder that diffusers is installed in, with --target")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "quality.md")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.peers:
        sys.path.append(str(given.peers))
    import torch

    torch.set_num_threads(1)
    only = {name for name in given.only.split(",") if name}
    for job in given.jobs.split(","):
        if job == "points":
            points(given.work, only)
        elif job == "digits":
            digits(given.work, only)
        elif job == "fashion":
            fashion_mnist(given.work, only, given.fashion)
        else:
            report(given.work, given.out, given.fashion)


if __name__ == "__main__":
    main()
