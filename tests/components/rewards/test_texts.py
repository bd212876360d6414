"""Rewards of texts: length, verifiers, and classifiers of the words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recurate.components.data import Queries
from recurate.components.data.dataset import Dataset
from recurate.components.nets.words import Words
from recurate.components.protocols import Prepared
from recurate.components.registry import GROUPS, build_groups, settings_of
from recurate.components.rewards.classifier import Classifier, ClassifierSettings
from recurate.components.rewards.texts import LengthSettings, MatchSettings
from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.log.samples import as_texts


def match(**given) -> MatchSettings:
    return MatchSettings(kind="match", **given)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=6), st.floats(0, 9), st.floats(0.1, 5))
def test_length_is_the_distance_to_the_target(counts, target, tau):
    texts = as_texts([" ".join(["word"] * n) for n in counts])
    reward = LengthSettings(kind="length", target=target, tau=tau, gamma=2.0)
    assert reward(texts) == pytest.approx([-2 * abs(n - target) / tau for n in counts])


def test_groups_by_length():
    groups = settings_of(GROUPS, {"kind": "length", "most": 10})
    texts = as_texts(["", "one", " two  words ", "word " * 10, "word " * 11])
    assert build_groups(groups, Prepared())(texts).tolist() == ["00", "01", "02", "10", "10"]
    assert groups.label(7) == "07"
    with pytest.raises(InputError, match="needs texts"):
        groups(np.zeros((2, 3), np.float32))


def test_patterns_and_answers():
    texts = as_texts(["it is 42.", "42", " 42 ", "7", ""])
    assert match(pattern=r"\b42\b")(texts).tolist() == [1, 1, 1, 0, 0]
    assert match(answer="42", gamma=3.0)(texts).tolist() == [0, 3, 3, 0, 0]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_answers_to_prompts(tmp_path, monkeypatch, ending):
    """Prompts may have several answers; numbers stay as they are written."""
    monkeypatch.chdir(tmp_path)
    rows = [("1 + 6", "07"), ("1 + 6", "7"), ("2 + 2", "4")]
    if ending == "csv":
        text = "context,answer\n" + "".join(f"{a},{b}\n" for a, b in rows)
    else:
        text = "".join(json.dumps({"context": a, "answer": b}) + "\n" for a, b in rows)
    (tmp_path / f"x.{ending}").write_text(text)
    reward = match(answers=f"x.{ending}")
    asked = np.array(["1 + 6", "1 + 6", "2 + 2", "2 + 2"], object)
    assert reward(as_texts(["7", "07", "7", " 4"]), asked).tolist() == [1, 1, 0, 1]
    assert [f.name for f in reward.rests_on("rewards.reward")] == [f"x.{ending}"]
    with pytest.raises(InputError, match="1 of 1 candidates have prompts without an answer"):
        reward(as_texts(["7"]), np.array(["3 + 3"], object))
    with pytest.raises(InputError, match="there are none"):
        reward(as_texts(["7"]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "none of them"),
        ({"pattern": "a", "answer": "b"}, "pattern and answer"),
        ({"pattern": "("}, "not a reg"),
    ],
)
def test_settings_of_verifiers_are_checked(given, message):
    with pytest.raises(ValidationError, match=message):
        match(**given)


def test_numbers_are_refused():
    with pytest.raises(InputError, match="needs texts"):
        match(answer="1")(np.zeros((3, 2), np.float32))


# --- classifiers ---


@pytest.fixture(scope="module")
def queries() -> Dataset:
    return Queries(kind="queries", source="generated", size=1500).load(Stream(0))


@pytest.fixture(scope="module")
def classifier(queries) -> Classifier:
    return Classifier.train(queries, ClassifierSettings(steps=150), rng=Stream(1))


def test_vectors_are_those_of_the_definition():
    texts = as_texts(["Red fox, red hen", "red", "blue?"])
    words = Words.learn(texts)
    assert words.terms == ("blue", "fox", "fox red", "hen", "red", "red fox", "red hen")
    [vector] = words.vectors(as_texts(["red red fox the"])).toarray()
    seen = {"blue": 1, "fox": 1, "fox red": 1, "hen": 1, "red": 2, "red fox": 1, "red hen": 1}
    weight = {term: 1 + np.log(4 / (1 + n)) for term, n in seen.items()}
    wanted = {"red": (1 + np.log(2)) * weight["red"], "fox": weight["fox"], "red fox": weight["red fox"]}
    norm = np.sqrt(sum(v**2 for v in wanted.values()))
    assert vector == pytest.approx([wanted.get(term, 0.0) / norm for term in words.terms], rel=1e-6)
    assert not words.vectors(as_texts(["nothing known"])).toarray().any()


def test_topics_of_queries_are_recognised(classifier, queries):
    assert classifier.scores.accuracy > 0.95
    assert classifier.labels == tuple(sorted(set(queries.labels)))
    found = classifier.probabilities(as_texts(["please book a flight to rome now", "play some jazz", ""]))
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert [classifier.labels[i] for i in found[:2].argmax(axis=1)] == ["travel", "music"]


def test_a_saved_classifier_of_texts_is_the_same(classifier, queries, tmp_path):
    classifier.save(tmp_path)
    again = Classifier.load(tmp_path)
    assert (again.probabilities(queries.held_out) == classifier.probabilities(queries.held_out)).all()
    assert again.words.terms == classifier.words.terms
    assert again.facts() == classifier.facts()


def test_classifiers_of_texts_and_of_numbers_are_told_apart(classifier):
    with pytest.raises(InputError, match="samples of another shape"):
        classifier.probabilities(np.zeros((2, 3), np.float32))
    numbers = Dataset(
        np.array([[0.0], [1.0]] * 20, np.float32), np.array(["a", "b"] * 20), np.zeros((0, 1)), np.array([])
    )
    made = Classifier.train(numbers, ClassifierSettings(steps=2), rng=Stream(0))
    with pytest.raises(InputError, match="samples of another shape"):
        made.probabilities(as_texts(["x"]))


def test_texts_without_words_are_refused():
    with pytest.raises(InputError, match="no words"):
        Words.learn(as_texts(["", "?!"]))
