"""Every generator, through its protocol; and whether it learns."""

from __future__ import annotations

import numpy as np
import pytest

from recurate.data import Digits, Gaussians
from recurate.errors import InputError
from recurate.generators.flow import FlowMatching, FlowSettings
from recurate.generators.torches import choose_device
from recurate.seeds import Stream

QUICK = FlowSettings(width=16, depth=2, first_steps=30, steps=10, batch=64, ode_steps=3, device="cpu")
GENERATORS = [
    pytest.param(FlowMatching(QUICK), id="flow-ot"),
    pytest.param(FlowMatching(QUICK.model_copy(update={"coupling": "independent"})), id="flow-independent"),
]
DATASETS = [pytest.param(Gaussians(size=300), id="points"), pytest.param(Digits(), id="images")]


@pytest.mark.parametrize("untrained", GENERATORS)
@pytest.mark.parametrize("source", DATASETS)
def test_protocol(untrained, source, tmp_path):
    data = source.load(Stream(0)).train[:300]
    first = untrained.fit(data, rng=Stream(1))
    again = untrained.fit(data, rng=Stream(1))
    samples = first.sample(17, rng=Stream(2))
    assert samples.shape == (17, *data.shape[1:])
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    np.testing.assert_array_equal(again.sample(17, rng=Stream(2)), samples, "fit and sample are reproducible")
    assert not np.array_equal(first.sample(17, rng=Stream(3)), samples)

    first.save(tmp_path)
    loaded = type(untrained).load(tmp_path)
    np.testing.assert_array_equal(loaded.sample(17, rng=Stream(2)), samples)
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".json"}

    # A retrained model from memory and from disk are the same, and the old one has not changed.
    retrained = first.fit(data[:50], rng=Stream(4)).sample(5, rng=Stream(5))
    np.testing.assert_array_equal(loaded.fit(data[:50], rng=Stream(4)).sample(5, rng=Stream(5)), retrained)
    np.testing.assert_array_equal(first.sample(17, rng=Stream(2)), samples)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["ot", "independent"])
def test_flow_learns_eight_gaussians(coupling):
    source = Gaussians(size=10_000)
    data = source.load(Stream(0)).train
    settings = FlowSettings(coupling=coupling, first_steps=4000, batch=256, device="cpu")
    samples = FlowMatching(settings).fit(data, rng=Stream(1)).sample(20_000, rng=Stream(2))
    distances = np.linalg.norm(samples[:, None] - source.centres(), axis=2)
    shares = np.bincount(distances.argmin(axis=1), minlength=8) / len(samples)
    assert np.abs(shares - 1 / 8).max() < 0.02
    # Median distance from a centre is 1.177 sd for a Gaussian in the plane.
    assert np.median(distances.min(axis=1)) == pytest.approx(0.1177, rel=0.15)
    assert (distances.min(axis=1) > 0.5).mean() < 0.05


def test_missing_devices_are_named():
    with pytest.raises(InputError, match="no such device"):
        choose_device("tpu")
    assert choose_device("cpu") == "cpu"
