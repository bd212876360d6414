"""Rewards and groups."""

from __future__ import annotations

import json
import os
import shutil
import time
import tomllib

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from helpers.tiny import DIGITS, GAUSSIANS, merged
from recurate.components.data import Dataset, Digits, ImageData, Moons
from recurate.components.nets import classifiers
from recurate.components.rewards.classifier import (
    BINS,
    Classifier,
    ClassifierReward,
    ClassifierRewardSettings,
    ClassifierSettings,
    margins,
    scores,
)
from recurate.components.rewards.colour import ColourSettings
from recurate.components.rewards.distance import DistanceSettings, NearestCentre
from recurate.core.errors import Diverged, InputError
from recurate.core.seeds import Stream
from recurate.loop.config import parse_config, write_config
from recurate.loop.driver import resume, run
from recurate.loop.run_folder import RunFolder
from recurate.loop.sample_metrics import MeasureSettings, watch

REAL = os.environ.get("RECURATE_DATA")


def test_distance_reward():
    settings = DistanceSettings(kind="distance", centre=(1.0, 0.0), radius=0.5, gamma=2.0)
    points = np.array([[1.0, 0.0], [1.5, 0.0], [4.0, 4.0]], np.float32)
    np.testing.assert_allclose(settings(points), [0.0, 0.0, -9.0])
    with pytest.raises(InputError, match="the same dimension"):
        settings(np.zeros((3, 8, 8), np.float32))


def test_distance_on_moons():
    """The reward of Ferbach et al. 2024: 0 within the radius of a centre, falling linearly beyond."""
    points = Moons(kind="moons", size=500, scale=3, shift=(-1, -1)).load(Stream(0)).train
    settings = DistanceSettings(kind="distance", centre=(-4.0, -1.0), radius=1.0, gamma=10.0)
    found = settings(points)
    far = np.sqrt(((points.astype(float) - [-4, -1]) ** 2).sum(axis=1))
    np.testing.assert_allclose(found, [-10 * max(0.0, f - 1) for f in far])
    assert (found == 0).any()
    assert (found < -30).any()


def test_nearest_centre():
    groups = NearestCentre(np.array([[0.0, 0.0], [2.0, 0.0]]))(np.array([[0.1, 5.0], [1.9, 0.0]], np.float32))
    assert groups.tolist() == ["0", "1"]


@pytest.fixture(scope="module")
def classifier():
    return Classifier.train(Digits().load(Stream(0)), ClassifierSettings(), rng=Stream(1))


def test_the_classifier_is_good_on_images_it_has_not_seen(classifier):
    data = Digits().load(Stream(0))
    assert classifier.scores.accuracy > 0.95
    assert (classifier(data.held_out) == data.held_out_labels).mean() == classifier.scores.accuracy
    probabilities = classifier.probabilities(data.held_out)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_it_comes_back_from_disk(classifier, tmp_path):
    images = Digits().load(Stream(0)).held_out
    classifier.save(tmp_path)
    again = Classifier.load(tmp_path)
    np.testing.assert_array_equal(again.probabilities(images), classifier.probabilities(images))
    assert again.scores.accuracy == classifier.scores.accuracy


def test_classifier_rewards(classifier):
    images = Digits().load(Stream(0)).held_out
    probabilities = classifier.probabilities(images)
    by_class = ClassifierRewardSettings(kind="classifier", label="3", gamma=2.0)
    np.testing.assert_allclose(ClassifierReward(by_class, classifier)(images), 2 * probabilities[:, 3])
    confident = ClassifierRewardSettings(kind="classifier", score="confidence", gamma=5.0)
    np.testing.assert_allclose(ClassifierReward(confident, classifier)(images), 5 * probabilities.max(axis=1))
    with pytest.raises(InputError, match="that the data lack"):
        ClassifierReward(by_class.model_copy(update={"label": "33"}), classifier)
    for wrong in ({"score": "confidence", "label": "3"}, {"score": "probability"}):
        with pytest.raises(ValidationError, match="give label"):
            ClassifierRewardSettings(kind="classifier", **wrong)


def test_margins(classifier):
    images = Digits().load(Stream(0)).held_out
    logs = np.log(classifier.probabilities(images))
    other = np.where(np.arange(10) == 3, -np.inf, logs).max(axis=1)
    of_class = ClassifierRewardSettings(kind="classifier", score="margin", label="3", gamma=2.0)
    np.testing.assert_allclose(
        ClassifierReward(of_class, classifier)(images), 2 * (logs[:, 3] - other), rtol=1e-9
    )
    ordered = np.sort(logs, axis=1)
    of_any = ClassifierRewardSettings(kind="classifier", score="margin")
    found = ClassifierReward(of_any, classifier)(images)
    np.testing.assert_allclose(found, ordered[:, -1] - ordered[:, -2], rtol=1e-9)


@given(arrays(float, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(-1e4, 1e4)))
def test_a_class_has_a_positive_margin_where_it_is_the_most_probable(logits):
    of_any = margins(logits, None)
    assert (of_any >= 0).all()
    by_class = np.stack([margins(logits, c) for c in range(logits.shape[1])], axis=1)
    np.testing.assert_array_equal(by_class.max(axis=1), of_any)
    np.testing.assert_array_equal(margins(logits + 7.0, 0).round(6), by_class[:, 0].round(6))


# --- how good it is ---


def test_scores_by_hand():
    q = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    found = scores(q, np.array([0, 1, 1, -1]))
    assert found.accuracy == 0.5
    # Bins: 0.9 twice (half right), 0.8 (right), 0.5 (a class that it does not know: wrong).
    assert found.calibration_error == pytest.approx((2 * abs(0.5 - 0.9) + abs(1 - 0.8) + 0.5) / 4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.08 + 1.5) / 4)
    assert (found.count, found.bins) == (4, 15)


@given(st.data())
def test_scores_are_within_their_limits(data):
    n, classes = data.draw(st.integers(1, 20)), data.draw(st.integers(2, 5))
    raw = data.draw(arrays(float, (n, classes), elements=st.floats(0.01, 1)))
    right = data.draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    q = raw / raw.sum(axis=1, keepdims=True)
    found = scores(q, right)
    assert 0 <= found.brier <= 2
    top = q.max(axis=1)
    assert abs(found.accuracy - top.mean()) - 1e-9 <= found.calibration_error <= 1


def test_a_calibrated_classifier_has_a_small_calibration_error():
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(5), 4000)
    right = (rng.random((4000, 1)) > q.cumsum(axis=1)).sum(axis=1)
    assert scores(q, right).calibration_error < 2 * 0.4 * np.sqrt(BINS / 4000)
    assert scores(q**4 / (q**4).sum(axis=1, keepdims=True), right).calibration_error > 0.1


def test_scores_are_told(classifier, tmp_path):
    data = Digits().load(Stream(0))
    assert classifier.scores.count == len(data.held_out)
    facts = classifier.facts()
    assert facts["classifier_held_out_accuracy"] == classifier.scores.accuracy
    assert 0 < facts["classifier_calibration_error_15_bins"] < 0.3
    assert 0 < facts["classifier_brier_score"] < 0.2
    run(parse_config(DIGITS), tmp_path / "out")
    told = RunFolder.open(tmp_path / "out").facts()
    assert set(facts) <= set(told)


# --- convolutions ---


def squares(count=300, side=16, colour=False):
    """Images whose class is the quarter in which a bright square lies."""
    rng = np.random.default_rng(1)
    images = rng.random((count, side, side), np.float32) * 0.5
    labels = rng.integers(0, 4, count)
    for image, label in zip(images, labels, strict=True):
        top, left = np.array(divmod(int(label), 2)) * (side // 2) + rng.integers(0, side // 2 - 4, 2)
        image[top : top + 4, left : left + 4] += 0.5
    if colour:
        images = np.repeat(images[..., None], 3, axis=3)
    names, cut = labels.astype(str), count * 3 // 4
    return Dataset(images[:cut], names[:cut], images[cut:], names[cut:])


@pytest.mark.parametrize("colour", [False, True])
def test_a_convolutional_classifier(colour, tmp_path):
    data = squares(colour=colour)
    settings = ClassifierSettings(steps=100, batch=24, width=24, shift=1)
    found = Classifier.train(data, settings, rng=Stream(0))
    assert found.network == "conv"
    assert found.scores.accuracy > 0.8
    features = found.features(data.held_out)
    assert features.shape == (75, 24)
    found.save(tmp_path)
    again = Classifier.load(tmp_path / "classifier.safetensors")
    np.testing.assert_array_equal(again.probabilities(data.held_out), found.probabilities(data.held_out))
    np.testing.assert_array_equal(again.features(data.held_out), features)
    twice = Classifier.train(data, settings, rng=Stream(0))
    np.testing.assert_array_equal(twice.logits(data.held_out), found.logits(data.held_out))


def test_features_of_convolutions_in_chunks(monkeypatch):
    data = squares(200)
    found = Classifier.train(data, ClassifierSettings(steps=3, batch=16, width=8), rng=Stream(0))
    whole = found.features(data.train)
    monkeypatch.setattr(classifiers, "PIXELS", 16 * 16 * 9)
    np.testing.assert_allclose(found.features(data.train), whole, atol=1e-5)
    monkeypatch.undo()
    seen = watch(MeasureSettings(), data, found, None)
    assert [space.name for space in seen.spaces] == ["values", "classifier"]
    assert seen.spaces[1].train.shape[1] == 8
    measured = seen.baseline(data.train, np.zeros((150, 1)), Stream(0))
    assert np.isfinite(measured["frechet:classifier"])


def test_the_network_is_chosen_by_shape():
    assert [classifiers.usual(s) for s in ((8, 8), (16, 16), (32, 32, 3), (2,), (16, 16, 4), (15, 40))] == [
        "mlp", "conv", "conv", "mlp", "mlp", "mlp",
    ]  # fmt: skip
    for shape in ((4, 4), (5, 9, 3), (63, 63), (200, 70, 3)):
        rng = np.random.default_rng(0)
        images = rng.random((6, *shape), np.float32)
        data = Dataset(images, np.array(list("ababab")), images, np.array(list("ababab")))
        settings = ClassifierSettings(network="conv", steps=2, batch=4, width=4)
        assert Classifier.train(data, settings, rng=Stream(0)).features(images).shape == (6, 4)


def test_what_cannot_be_classified():
    points = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    names = np.array(["a", "b"] * 20)
    data = Dataset(points, names, points, names)
    with pytest.raises(InputError, match="needs images"):
        Classifier.train(data, ClassifierSettings(network="conv"), rng=Stream(0))
    with pytest.raises(InputError, match="two classes"):
        Classifier.train(
            Dataset(points, names[:1].repeat(40), points, names), ClassifierSettings(), rng=Stream(0)
        )
    with pytest.raises(Diverged):
        Classifier.train(data, ClassifierSettings(learning_rate=1e30, steps=20), rng=Stream(0))
    good = Classifier.train(data, ClassifierSettings(steps=5), rng=Stream(0))
    with pytest.raises(InputError, match="another shape"):
        good.probabilities(np.zeros((3, 3), np.float32))


# --- trained before ---


def test_damaged_classifiers_are_named(classifier, tmp_path):
    with pytest.raises(InputError, match="no saved classifier"):
        Classifier.load(tmp_path / "nothing")
    classifier.save(tmp_path)
    card, path = tmp_path / "classifier.json", tmp_path / "classifier.safetensors"
    text, content = card.read_text(), path.read_bytes()
    for wrong in ("{", "[]", text.replace('"scale"', '"scales"')):
        card.write_text(wrong)
        with pytest.raises(InputError) as caught:
            Classifier.load(tmp_path)
        assert "classifier.json" in str(caught.value)
    for version, what in ((99, "newer"), (1, "older")):
        card.write_text(json.dumps(json.loads(text) | {"format": version}))
        with pytest.raises(InputError, match=what):
            Classifier.load(tmp_path)
    card.write_text(text)
    path.write_bytes(content[:-1])
    with pytest.raises(InputError, match="SHA-256"):
        Classifier.load(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        Classifier.load(tmp_path)


def test_a_run_with_a_classifier_that_was_trained_before(classifier, tmp_path):
    classifier.save(tmp_path / "known")
    config = merged(DIGITS, seed=5)
    config["classifier"] = {"folder": str(tmp_path / "known")}
    parsed = parse_config(config)
    assert parse_config(tomllib.loads(write_config(parsed))) == parsed
    run(parsed, tmp_path / "out")
    for path in (tmp_path / "known").iterdir():
        path.unlink()
    store = RunFolder.open(tmp_path / "out")
    kept = Classifier.load(store.path / "setup")
    images = Digits().load(Stream(5).at("data")).held_out
    np.testing.assert_array_equal(kept.logits(images), classifier.logits(images))
    assert store.facts()["classifier_held_out_accuracy"] > 0.95, "on this run's held-out data"
    shutil.rmtree(store.round_path(1))
    resume(tmp_path / "out")
    assert store.complete() == 2


def test_settings_of_a_classifier_that_is_not_trained(tmp_path):
    with pytest.raises(InputError, match="nothing is trained: omit width"):
        parse_config(merged(DIGITS, classifier={"folder": "x"}))
    config = GAUSSIANS | {"classifier": {"folder": str(tmp_path / "nowhere")}}
    with pytest.raises(InputError, match="no saved classifier"):
        run(parse_config(config), tmp_path / "out")
    assert parse_config(GAUSSIANS | {"classifier": {"folder": "x"}}).needs_classifier


# --- colour ---


def colour_reward(**settings):
    return ColourSettings(kind="colour", **settings)


def test_colour_rewards():
    red, white, half = np.zeros((4, 6, 3)), np.ones((4, 6, 3)), np.zeros((4, 6, 3))
    red[..., 0] = 1.0
    half[:, :3, 0] = 1.0
    images = np.stack([red, white, half]).astype(np.float32)
    found = colour_reward(rgb=(1, 0, 0), gamma=2.0)(images)
    np.testing.assert_allclose(found, [2, 2, 1])
    found = colour_reward(rgb=(1, -0.5, -0.5))(images)
    np.testing.assert_allclose(found, np.array([1, 0, 0.5]) / np.sqrt(1.5), atol=1e-12)
    found = colour_reward(rgb=(1, 0, 0), score="closeness")(images)
    np.testing.assert_allclose(found, [0, -np.sqrt(2), -0.5])
    found = colour_reward(rgb=(0.9, 0.1, 0), score="share", radius=0.2)(images)
    np.testing.assert_allclose(found, [1, 0, 0.5])
    np.testing.assert_allclose(colour_reward(rgb=(1, 0, 0))(3 * images - 1), [1, 1, 0.5], err_msg="clipped")
    assert colour_reward(rgb=(1, 0, 0))(images[:0]).shape == (0,)


def test_colour_rewards_in_blocks(monkeypatch):
    images = np.random.default_rng(0).random((20, 5, 5, 3), np.float32)
    reward = colour_reward(rgb=(0.2, 0.4, 0.6), score="closeness")
    whole = reward(images)
    monkeypatch.setattr("recurate.components.rewards.colour.BLOCK", 200)
    np.testing.assert_allclose(reward(images), whole)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rgb": (0, 0, 0)},
        {"rgb": (2, 0, 0), "score": "closeness"},
        {"rgb": (1, 0, 0), "score": "share"},
        {"rgb": (1, 0, 0), "radius": 0.5},
        {"rgb": (1, 0)},
    ],
)
def test_wrong_colours(wrong):
    with pytest.raises(ValidationError):
        ColourSettings(kind="colour", **wrong)


def test_colours_of_grey_images():
    with pytest.raises(InputError, match="three channels"):
        colour_reward(rgb=(1, 0, 0))(np.zeros((2, 4, 4), np.float32))


def test_a_run_on_coloured_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (80, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(80) % 2)
    config = DIGITS | {
        "data": {"kind": "images", "path": str(tmp_path / "a.npz"), "held_out": 0.3},
        "rewards": [
            {"kind": "colour", "name": "red", "rgb": [1.0, -0.5, -0.5], "weight": 0.5},
            {"kind": "classifier", "name": "one", "score": "margin", "label": "1", "weight": 0.5},
        ],
        "groups": {"kind": "classifier"},
    }
    run(parse_config(tomllib.loads(tomli_w.dumps(config))), tmp_path / "out")
    store = RunFolder.open(tmp_path / "out")
    assert store.samples(1).shape == (120, 4, 4, 3)
    assert store.log(1).rewards == ("red", "one")


# --- real images ---


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="RECURATE_DATA names no folder of real data")
def test_fashion_is_told_apart():
    data = ImageData(kind="images", path=f"{REAL}/fashion_mnist", size=10_000).load(Stream(0))
    before = time.process_time()
    found = Classifier.train(data, ClassifierSettings(), rng=Stream(1))
    seconds = time.process_time() - before
    assert found.scores.accuracy > 0.88
    assert found.scores.calibration_error < 0.08
    assert seconds < 120  # a minute on a core of its own
