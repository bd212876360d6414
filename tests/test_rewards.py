"""Rewards and groups."""

from __future__ import annotations

import numpy as np
import pytest

from recurate.data import Digits
from recurate.errors import InputError
from recurate.rewards.classifier import (
    Classifier,
    ClassifierReward,
    ClassifierRewardSettings,
    ClassifierSettings,
)
from recurate.rewards.geometry import DistanceReward, DistanceSettings, NearestCentre
from recurate.seeds import Stream


def test_distance_reward():
    settings = DistanceSettings(kind="distance", centre=(1.0, 0.0), radius=0.5, gamma=2.0)
    points = np.array([[1.0, 0.0], [1.5, 0.0], [4.0, 4.0]], np.float32)
    np.testing.assert_allclose(DistanceReward(settings)(points), [0.0, 0.0, -9.0])
    with pytest.raises(InputError, match="one dimension"):
        DistanceReward(settings)(np.zeros((3, 8, 8), np.float32))


def test_nearest_centre():
    groups = NearestCentre(np.array([[0.0, 0.0], [2.0, 0.0]]))(np.array([[0.1, 5.0], [1.9, 0.0]], np.float32))
    assert groups.tolist() == ["0", "1"]


@pytest.fixture(scope="module")
def classifier():
    return Classifier.train(Digits().load(Stream(0)), ClassifierSettings(), rng=Stream(1))


def test_the_classifier_is_good_on_images_it_has_not_seen(classifier):
    data = Digits().load(Stream(0))
    assert classifier.held_out_accuracy > 0.95
    assert (classifier.predict(data.held_out) == data.held_out_labels).mean() == classifier.held_out_accuracy
    probabilities = classifier.probabilities(data.held_out)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_it_comes_back_from_disk(classifier, tmp_path):
    images = Digits().load(Stream(0)).held_out
    classifier.save(tmp_path)
    again = Classifier.load(tmp_path)
    np.testing.assert_array_equal(again.probabilities(images), classifier.probabilities(images))
    assert again.held_out_accuracy == classifier.held_out_accuracy


def test_classifier_rewards(classifier):
    images = Digits().load(Stream(0)).held_out
    probabilities = classifier.probabilities(images)
    by_class = ClassifierRewardSettings(kind="classifier", label="3", gamma=2.0)
    np.testing.assert_allclose(ClassifierReward(by_class, classifier)(images), 2 * probabilities[:, 3])
    confident = ClassifierRewardSettings(kind="classifier", score="confidence", gamma=5.0)
    np.testing.assert_allclose(ClassifierReward(confident, classifier)(images), 5 * probabilities.max(axis=1))
    with pytest.raises(InputError, match="do not have"):
        ClassifierReward(by_class.model_copy(update={"label": "33"}), classifier)
