"""Every generator, through its protocol; and whether it learns."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recurate.components.data import Digits, Gaussians
from recurate.components.generators.diffusion import DiffusionSettings, signal
from recurate.components.generators.flow import FlowMatching, FlowSettings
from recurate.components.generators.kde import KernelDensity, KernelSettings
from recurate.components.generators.mixture import Mixture, MixtureSettings
from recurate.components.generators.neural import Neural
from recurate.components.nets import training
from recurate.components.nets.devices import choose_device
from recurate.components.nets.fields import UNet
from recurate.components.registry import GENERATORS, settings_of
from recurate.core.errors import Diverged, InputError
from recurate.core.seeds import Stream
from recurate.log.samples import as_texts

MLP: dict[str, Any] = {"width": 16, "depth": 2, "first_steps": 30, "steps": 10, "batch": 64, "device": "cpu"}
UNET: dict[str, Any] = {"width": 8, "first_steps": 3, "steps": 2, "batch": 4, "device": "cpu"}
KINDS = {  # name: settings, and whether they are for images
    "flow-ot": (FlowSettings(**MLP, ode_steps=3), False),
    "flow-independent": (FlowSettings(**MLP, coupling="independent", ode_steps=3), False),
    "flow-scratch": (FlowSettings(**MLP, warm_start=False, ode_steps=3), False),
    "flow-unet": (FlowSettings(**UNET, ode_steps=1), True),
    "diffusion": (DiffusionSettings(**MLP, sampling_steps=5), False),
    "diffusion-noise": (DiffusionSettings(**MLP, sampling_steps=5, prediction="noise"), False),
    "diffusion-scratch": (DiffusionSettings(**MLP, sampling_steps=5, warm_start=False), False),
    "diffusion-ddpm": (DiffusionSettings(**MLP, schedule="linear", sampling_steps=5, eta=1.0), False),
    "diffusion-unet": (DiffusionSettings(**UNET, sampling_steps=2), True),
    "mixture": (MixtureSettings(components=4), False),
    "mixture-tied": (MixtureSettings(components=3, covariance="tied", n_init=2), False),
    "mixture-diag": (MixtureSettings(components=3, covariance="diag", warm_start=False), False),
    "mixture-spherical": (MixtureSettings(components=3, covariance="spherical"), False),
    "kde": (KernelSettings(), False),
    "kde-scott": (KernelSettings(bandwidth="scott"), False),
    "kde-silverman": (KernelSettings(bandwidth="silverman"), False),
    "kde-given": (KernelSettings(bandwidth=0.1), False),
}


def cases():
    """Yield each kind with the data it is for."""
    points = Gaussians(size=300).load(Stream(0)).train
    digits = Digits().load(Stream(0)).train[:60]
    grey = np.repeat(np.repeat(digits[:20], 3, axis=1), 3, axis=2)[:, :20, :18]
    colour = np.random.default_rng(0).random((12, 16, 17, 3), np.float32)
    for name, (settings, images) in KINDS.items():
        for data in (grey, colour) if images else (points, digits):
            yield pytest.param(settings, data, id=f"{name}-{'x'.join(map(str, data.shape[1:]))}")


def same_draws(one, two, n: int = 17) -> None:
    np.testing.assert_array_equal(one.sample(n, rng=Stream(2)), two.sample(n, rng=Stream(2)))


@pytest.mark.parametrize(("settings", "data"), list(cases()))
def test_protocol(settings, data, tmp_path):
    untrained = settings.build()
    with pytest.raises(InputError, match="not been trained"):
        untrained.sample(1, rng=Stream(0))
    kept = data.copy()
    first = untrained.fit(data, rng=Stream(1), contexts=None, real=len(data))
    np.testing.assert_array_equal(data, kept, "data are left alone")
    samples = first.sample(17, rng=Stream(2))
    assert samples.shape == (17, *data.shape[1:])
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    same_draws(untrained.fit(data, rng=Stream(1)), first)
    assert not np.array_equal(first.sample(17, rng=Stream(3)), samples)
    assert first.sample(0, rng=Stream(2)).shape == (0, *data.shape[1:])
    assert first.sample(1, rng=Stream(2)).shape == (1, *data.shape[1:])

    first.save(tmp_path)
    loaded = settings.load(tmp_path)
    same_draws(loaded, first)
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert json.loads((tmp_path / "generator.json").read_text())["settings"]["kind"] == settings.kind

    # A retrained model from memory and from disk are the same, and the old one has not changed.
    retrained = first.fit(data[:10], rng=Stream(4))
    same_draws(loaded.fit(data[:10], rng=Stream(4)), retrained)
    np.testing.assert_array_equal(first.sample(17, rng=Stream(2)), samples)

    alone = untrained.fit(data[:1], rng=Stream(1)).sample(3, rng=Stream(2))
    assert alone.shape == (3, *data.shape[1:])
    assert np.isfinite(alone).all()
    for bad, message in (
        (as_texts(["a", "b"]), "cannot be trained on texts"),
        (data[:0], "needs training data"),
        (np.where(np.arange(len(data)) == 3, np.nan, data.T).T.astype(np.float32), "1 of .* not finite"),
    ):
        with pytest.raises(InputError, match=message):
            untrained.fit(bad, rng=Stream(1))
    with pytest.raises(InputError, match="another shape"):
        first.fit(data.reshape(len(data), -1)[:, :1], rng=Stream(1))


def test_every_kind_goes_through_the_protocol():
    elsewhere = {"external", "language"}  # test_external.py, test_language.py
    assert {settings.kind for settings, _ in KINDS.values()} | elsewhere == set(GENERATORS.built_in)
    for settings, _ in KINDS.values():
        assert settings_of(GENERATORS, settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize("kind", [FlowSettings, DiffusionSettings])
def test_warm_starts_and_starts_from_scratch(kind):
    data = Gaussians(size=300).load(Stream(0)).train
    for warm in (True, False):
        untrained = kind(**MLP, warm_start=warm).build()
        again = untrained.fit(data, rng=Stream(1)).fit(data[:200], rng=Stream(2))
        fresh = untrained.fit(data[:200], rng=Stream(2))
        assert np.array_equal(again.sample(9, rng=Stream(3)), fresh.sample(9, rng=Stream(3))) != warm


@pytest.mark.parametrize("kind", ["flow-ot", "diffusion"])
def test_a_model_begins_as_a_saved_one(kind, tmp_path):
    """It samples as that one, with the new settings, and is retrained from it."""
    settings, data = KINDS[kind][0], Gaussians(size=300).load(Stream(0)).train
    first = settings.build().fit(data, rng=Stream(1))
    first.save(tmp_path / "model")
    later = settings.model_copy(update={"model": str(tmp_path / "model"), "steps": 7})
    assert (settings.trains_first, later.trains_first) == (True, False)
    begun = later.build()
    assert begun.settings == later
    same_draws(begun, first)
    same_draws(
        begun.fit(data, rng=Stream(3)), dataclasses.replace(first, settings=later).fit(data, rng=Stream(3))
    )
    assert {(part.serves, part.kept) for part in later.rests_on("generator")} == {("generator.model", True)}
    with pytest.raises(InputError, match="another network than the settings") as said:
        later.model_copy(update={"width": 32}).build()
    assert "mlp of width 16 and depth 2" in str(said.value)
    gone = later.model_copy(update={"model": str(tmp_path)})
    with pytest.raises(InputError, match="no saved generator"):
        gone.build()
    same_draws(gone.load(tmp_path / "model"), first)  # what a round has kept does not need the original
    other = KINDS["diffusion" if kind == "flow-ot" else "flow-ot"][0]
    with pytest.raises(InputError):
        other.model_copy(update={"model": str(tmp_path / "model")}).build()


def test_a_mixture_starts_from_the_one_before():
    data = Gaussians(size=2000).load(Stream(0)).train
    first = Mixture(MixtureSettings(components=8)).fit(data, rng=Stream(1))
    again = first.fit(data, rng=Stream(2))
    np.testing.assert_allclose(again.arrays["means"], first.arrays["means"], atol=1e-3)
    assert len(first.fit(data[:3], rng=Stream(2)).arrays["weights"]) == 3
    assert len(first.fit(data[:3], rng=Stream(2)).fit(data, rng=Stream(3)).arrays["weights"]) == 8


def test_a_mixture_starts_from_a_saved_one(tmp_path):
    """The loop's settings replace those it was saved with, and nothing is trained first."""
    data = Gaussians(size=500).load(Stream(0)).train
    first = Mixture(MixtureSettings(components=8)).fit(data, rng=Stream(1))
    first.save(tmp_path)
    settings = MixtureSettings(components=8, max_iter=3, model=str(tmp_path))
    found = settings.build()
    assert not settings.trains_first
    assert found.settings == settings
    assert np.array_equal(found.sample(9, rng=Stream(3)), first.sample(9, rng=Stream(3)))
    assert {part.name.rpartition("/")[2] for part in settings.rests_on("generator")} == {
        "generator.json", "generator.safetensors",
    }  # fmt: skip
    with pytest.raises(InputError, match="no saved generator"):
        MixtureSettings(model=str(tmp_path / "elsewhere")).build()
    KernelSettings().build().fit(data, rng=Stream(1)).save(tmp_path)
    with pytest.raises(InputError):
        settings.build()


@pytest.mark.parametrize("settings", [FlowSettings, DiffusionSettings])
def test_divergence_is_told(settings):
    data = Gaussians(size=300).load(Stream(0)).train
    with pytest.raises(Diverged, match="learning_rate"):
        settings(**{**MLP, "learning_rate": 1e30}).build().fit(data, rng=Stream(1))


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "network"),
    [((2,), "mlp"), ((8, 8), "mlp"), ((28, 28), "unet"), ((32, 32, 3), "unet"), ((16, 15), "mlp")],
)
def test_the_network_follows_the_shape(shape, network):
    recipe, usual = FlowSettings().recipe(shape), training.USUAL[network]
    if shape == (16, 15):  # of more than 64 numbers: wider, and trained for longer
        usual = dataclasses.replace(usual, width=256, steps=1936)
    assert recipe == usual
    assert FlowSettings(steps=5).recipe(shape) == dataclasses.replace(usual, steps=5)
    assert FlowSettings(network="mlp", width=7).recipe(shape).width == 7


def test_what_settings_refuse():
    for shape in ((3, 32, 32), (2,), (3, 3), (32, 32, 5)):
        with pytest.raises(InputError, match="images must be"):
            FlowSettings(network="unet").recipe(shape)
    with pytest.raises(InputError, match="channels last"):
        FlowSettings().recipe((3, 32, 32))
    for wrong in (
        lambda: FlowSettings(compile=True, parallel=True),
        lambda: FlowSettings(network="unet", width=12),
        lambda: DiffusionSettings(levels=10, sampling_steps=11),
        lambda: KernelSettings(bandwidth=0.0),
        lambda: KernelSettings(bandwidth="wide"),
    ):
        with pytest.raises(ValidationError):
            wrong()


def test_missing_devices_are_named():
    with pytest.raises(InputError, match="no such device"):
        choose_device("tpu")
    assert choose_device("cpu") == "cpu"


def test_parallel_and_precision_change_nothing_without_gpus():
    data = np.random.default_rng(0).random((8, 16, 16), np.float32)
    plain = FlowMatching(FlowSettings(**UNET, ode_steps=1)).fit(data, rng=Stream(1))
    if torch.cuda.is_available():
        pytest.skip("there are GPUs")
    for change in ({"parallel": True}, {"precision": "bfloat16"}):
        other = FlowMatching(FlowSettings(**UNET, ode_steps=1, **change)).fit(data, rng=Stream(1))
        same_draws(other, plain, 3)


def test_compiled_networks_are_called(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network: asked.append(network) or network)
    data = Gaussians(size=50).load(Stream(0)).train
    compiled = FlowMatching(FlowSettings(**MLP, ode_steps=1, compile=True)).fit(data, rng=Stream(1))
    assert len(asked) == 1
    same_draws(compiled, FlowMatching(FlowSettings(**MLP, ode_steps=1)).fit(data, rng=Stream(1)))
    assert len(asked) == 2


@pytest.mark.parametrize("kind", [FlowSettings, DiffusionSettings])
def test_chunks_bound_memory(kind, monkeypatch):
    from recurate.components.generators import neural

    monkeypatch.setitem(neural.PIXELS, "cpu", 2 * 16 * 16)
    sizes: list[int] = []
    model = kind(**UNET).build().fit(np.random.default_rng(0).random((5, 16, 16), np.float32), rng=Stream(1))
    walk = type(model).walk

    def watched(self, network, noise, *rest):
        sizes.append(len(noise))
        return walk(self, network, noise, *rest)

    monkeypatch.setattr(type(model), "walk", watched)
    assert model.sample(5, rng=Stream(2)).shape == (5, 16, 16)
    assert sizes == [2, 2, 1]


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (17, 30, 3), (4, 5, 1), (64, 48, 3)])
def test_the_unet_keeps_any_shape(shape):
    torch.manual_seed(0)
    network = UNet(shape, 8, 1).to(memory_format=torch.channels_last)
    x = torch.randn(2, math.prod(shape))
    out = network(x, torch.rand(2, 1))
    assert out.shape == x.shape
    assert not out.any(), "the last layer begins as zero"
    out.sum().backward()


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize("levels", [10, 1000])
def test_schedules_go_from_data_to_noise(schedule, levels):
    a = signal(schedule, levels)
    assert (np.diff(a) < 0).all()
    assert a[0] > 0.8
    assert 0 < a[-1] < 1e-2


def test_ddim_is_exact_for_one_gaussian():
    """With the true noise or velocity of N(m, s^2) data, walking down gives N(m, s^2), for any eta."""
    m, s, n = 0.7, 0.5, 40_000
    for schedule, prediction in product(("cosine", "linear"), ("noise", "velocity")):
        signals = torch.from_numpy(signal(schedule, 1000)).float()

        def truth(x, t, signals=signals, prediction=prediction):
            a = signals[(t * 1000).round().long() - 1]
            noise = (1 - a).sqrt() * (x - a.sqrt() * m) / (a * s**2 + 1 - a)
            clean = m + a.sqrt() * s**2 * (x - a.sqrt() * m) / (a * s**2 + 1 - a)
            return noise if prediction == "noise" else a.sqrt() * noise - (1 - a).sqrt() * clean

        for eta in (0.0, 1.0):
            settings = DiffusionSettings(
                schedule=schedule, prediction=prediction, sampling_steps=200, eta=eta
            )
            rng = torch.Generator().manual_seed(0)
            wide = (torch.full((1,), -9.0), torch.full((1,), 9.0))
            x = settings.build().walk(truth, torch.randn(n, 1, generator=rng), wide, rng)
            assert x.mean().item() == pytest.approx(m, abs=0.02)
            assert x.std().item() == pytest.approx(s, abs=0.03 if eta else 0.01)  # narrow by 1 / steps


def test_bandwidths():
    data = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)
    widths = {
        wanted: KernelDensity(KernelSettings(bandwidth=wanted)).fit(data, rng=Stream(1)).arrays["bandwidth"]
        for wanted in ("scott", "silverman", "likelihood", 0.3)
    }
    assert widths["scott"] == pytest.approx(2000**-0.2, rel=1e-3)
    assert widths["silverman"] == pytest.approx(2000**-0.2 * (4 / 3) ** 0.2, rel=1e-3)
    assert 0.1 < widths["likelihood"] < 0.5
    assert widths[0.3] == 0.3
    copies = np.repeat(data[:20], 50, axis=0)
    assert KernelDensity(KernelSettings()).fit(copies, rng=Stream(1)).arrays["bandwidth"] > 0.02


# --- whether they learn ---------------------------------------------------------------------------


def mmd_rejects(x, y, rng: np.random.Generator, permutations: int = 200) -> bool:
    """Whether a permutation test of the MMD (sum of Gaussian kernels) tells two samples apart at 1 %."""
    z = np.concatenate([x, y]).astype(np.float64)
    squares = np.square(z[:, None] - z).sum(axis=2)
    median = np.median(squares[squares > 0])
    kernel = sum(np.exp(-squares / (median * f)) for f in (0.001, 0.01, 0.1, 1.0))
    np.fill_diagonal(kernel, 0.0)
    sign = np.repeat([1.0, -1.0], [len(x), len(y)])
    null = [v @ kernel @ v for v in (rng.permutation(sign) for _ in range(permutations))]
    return bool(np.mean(np.array(null) >= sign @ kernel @ sign) < 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        FlowSettings(device="cpu"),
        FlowSettings(coupling="independent", device="cpu"),
        DiffusionSettings(device="cpu"),
        MixtureSettings(components=8, n_init=5),
        KernelSettings(),
    ],
    ids=["flow-ot", "flow-independent", "diffusion", "mixture", "kde"],
)
def test_eight_gaussians_are_learnt(settings):
    source = Gaussians(size=10_000)
    found = source.load(Stream(0))
    samples = settings.build().fit(found.train, rng=Stream(1)).sample(20_000, rng=Stream(2))
    distances = np.linalg.norm(samples[:, None] - source.centres(), axis=2)
    shares = np.bincount(distances.argmin(axis=1), minlength=8) / len(samples)
    assert np.abs(shares - 1 / 8).max() < 0.02
    # Median distance from a centre is 1.177 sd for a Gaussian in the plane.
    assert np.median(distances.min(axis=1)) == pytest.approx(0.1177, rel=0.15)
    assert (distances.min(axis=1) > 0.5).mean() < 0.05
    assert not mmd_rejects(samples[:1000], found.held_out, np.random.default_rng(0))
    narrow = source.centres()[np.arange(1000) % 8] + 0.05 * np.random.default_rng(1).normal(size=(1000, 2))
    assert mmd_rejects(narrow, found.held_out, np.random.default_rng(0)), "the test can see errors"


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        FlowSettings(width=16, batch=32, first_steps=200, device="cpu", ode_steps=6),
        DiffusionSettings(width=16, batch=32, first_steps=300, device="cpu", sampling_steps=20),
    ],
    ids=["flow", "diffusion"],
)
def test_the_unet_learns_two_classes_of_images(settings):
    """Half of the images are a bright square on the left, half one on the right; nothing between."""
    draw = np.random.default_rng(0)
    right = draw.random(400) < 0.5
    images = 0.1 * draw.random((400, 28, 28), np.float32)
    for image, side in zip(images, right, strict=True):
        image[8:20, 15 if side else 3 : 25 if side else 13] += 0.8
    model = settings.build()
    assert isinstance(model, Neural)
    made = model.fit(images, rng=Stream(1)).sample(64, rng=Stream(2))
    left, other = made[:, 9:19, 4:12].mean((1, 2)), made[:, 9:19, 16:24].mean((1, 2))
    bright = np.maximum(left, other)
    assert np.median(bright) == pytest.approx(0.85, abs=0.1)
    assert np.median(np.minimum(left, other)) == pytest.approx(0.05, abs=0.1)
    assert 0.2 < (left > other).mean() < 0.8
    assert made[:, :6].mean() == pytest.approx(0.05, abs=0.05), "dark above"
