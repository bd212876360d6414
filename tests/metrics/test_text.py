"""Measures of texts: definitions in plain loops, and standard errors by simulation."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.metrics import text as textmeasures

TEXTS = st.lists(st.text("ab c", max_size=14), min_size=4, max_size=9)


def plain_grams(text, n):
    words = text.lower().split()
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def plain_distinct(texts, n):
    grams = [gram for text in texts for gram in plain_grams(text, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def plain_bleu(text, references, n=4):
    length = len(text.split())
    if length == 0:
        return float(any(not reference.split() for reference in references))
    logs = 0.0
    for order in range(1, n + 1):
        own = Counter(plain_grams(text, order))
        others = [Counter(plain_grams(reference, order)) for reference in references]
        matches = sum(min(count, max(other[gram] for other in others)) for gram, count in own.items())
        if order == 1 and matches == 0:
            return 0.0
        logs += math.log((matches or 0.1) / max(sum(own.values()), 1)) / n
    closest = min((abs(len(r.split()) - length), len(r.split())) for r in references)[1]
    return math.exp(logs + min(1 - closest / length, 0.0))


def plain_self_bleu(texts, n=4):
    """Of all texts, each with all others."""
    scores = [plain_bleu(text, texts[:i] + texts[i + 1 :], n) for i, text in enumerate(texts)]
    return sum(scores) / len(scores)


def sentences(rng, count, vocabulary=300, mean=12, topics=1, power=1.0, fixed=False):
    """Texts of words with Zipf's law (a uniform one at power 0), each text in one topic's words."""
    law = np.cumsum(np.arange(1.0, vocabulary + 1) ** -power)
    length = np.full(count, mean) if fixed else 1 + rng.poisson(mean, count)
    words = np.searchsorted(law / law[-1], rng.random(length.sum()), "right")
    words += vocabulary * np.repeat(rng.integers(topics, size=count), length)
    return [" ".join(map(str, part.tolist())) for part in np.split(words, np.cumsum(length)[:-1])]


# --- definitions ----------------------------------------------------------------------------------


@given(TEXTS, st.integers(1, 5))
def test_distinct_is_its_definition(texts, n):
    assert textmeasures.distinct(texts, n).value == pytest.approx(plain_distinct(texts, n))
    capped = textmeasures.distinct(texts, n, cap=3)
    assert capped == textmeasures.distinct(texts[:3], n)


@given(TEXTS, st.integers(1, 4))
def test_self_bleu_is_its_definition(texts, n):
    """In two blocks that hold the same texts, whatever is drawn first."""
    size = len(texts)
    scores = textmeasures._bleu([t.split() for t in texts * 2], size, n)
    plain = [plain_bleu(t, texts[:i] + texts[i + 1 :], n) for i, t in enumerate(texts)]
    np.testing.assert_allclose(scores, plain * 2, rtol=1e-12)
    assert scores.mean() == pytest.approx(plain_self_bleu(texts, n))


def test_self_bleu_draws_blocks():
    texts = sentences(np.random.default_rng(0), 60)
    found = textmeasures.self_bleu(texts, np.random.default_rng(1), references=9, blocks=4)
    drawn = [texts[i] for i in np.random.default_rng(1).permutation(60)[:40]]
    blocks = [plain_self_bleu(drawn[i : i + 10]) for i in range(0, 40, 10)]
    assert found.value == pytest.approx(np.mean(blocks))
    assert found.se == pytest.approx(np.std(blocks, ddof=1) / 2)


def test_bleu_by_hand():
    """Papineni's clipping: "the" seven times against references with it twice has a precision of 2 / 7."""
    texts = ["the the the the the the the", "the cat is on the mat", "there is a cat on the mat"]
    first = textmeasures._bleu([t.split() for t in texts], 3, 1)[0]
    assert first == pytest.approx(2 / 7)
    short = textmeasures._bleu([["a"], ["a", "b", "c"], ["x", "y", "z"]], 3, 1)[0]
    assert short == pytest.approx(math.exp(1 - 3)), "brevity"


def test_lengths():
    found = textmeasures.lengths(["", "One two", "  three\tfour\nfive six "])
    assert found.value == 2
    assert found.se == pytest.approx(2 / math.sqrt(3))


def test_equal_and_unequal_texts():
    rng = np.random.default_rng(2)
    alike = textmeasures.self_bleu(["a b c d e"] * 20, rng, references=4)
    assert (alike.value, alike.se) == (pytest.approx(1), pytest.approx(0, abs=1e-12))
    apart = [" ".join(f"{i}-{j}" for j in range(6)) for i in range(20)]
    assert textmeasures.self_bleu(apart, rng, references=4) == textmeasures.Estimate(0.0)
    assert textmeasures.distinct(apart, 2) == textmeasures.Estimate(1.0)
    assert textmeasures.distinct(["a b c d e"] * 20, 2).value == pytest.approx(1 / 20)
    assert textmeasures.distinct(["A b", "a B"], 2).value == 0.5, "case"


def test_empty_texts_are_measured():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for texts in ([""] * 10, ["", "a"] * 5, ["a"] * 10, ["", "a b c d"] + [" "] * 8):
            found = [textmeasures.lengths(texts), textmeasures.distinct(texts, 2)]
            found.append(textmeasures.self_bleu(texts, np.random.default_rng(0), references=4))
            assert np.isfinite([(e.value, e.se) for e in found]).all()
            assert {type(v) for e in found for v in (e.value, e.se)} == {float}
    assert textmeasures.self_bleu([""] * 10, np.random.default_rng(0), references=4).value == 1


@given(TEXTS, st.randoms())
def test_order_and_case_change_nothing(texts, random):
    mixed = random.sample([t.upper() for t in texts], len(texts))
    for n in (1, 2):
        one, two = textmeasures.distinct(texts, n), textmeasures.distinct(mixed, n)
        assert (one.value, one.se) == (pytest.approx(two.value), pytest.approx(two.se, abs=1e-7))
    one, two = textmeasures.lengths(texts), textmeasures.lengths(mixed)
    assert (one.value, one.se) == (pytest.approx(two.value), pytest.approx(two.se))


# --- standard errors ------------------------------------------------------------------------------

# As in test_quality.py: the standard deviation of 300 simulated values is known to 4 %, of 200 to 5 %.
SETS = 200


def calibration(measure, sets=SETS, **law):
    rng = np.random.default_rng(3)
    found = [measure(sentences(rng, **law)) for _ in range(sets)]
    return np.mean([e.se for e in found]) / np.std([e.value for e in found], ddof=1)


def jackknifed(texts):
    """Distinct-2 with the error that leaves out one text at a time."""
    size = len(texts)
    values = np.array([plain_distinct(texts[:i] + texts[i + 1 :], 2) for i in range(size)])
    error = math.sqrt((size - 1) ** 2 / size * values.var(ddof=1))
    return textmeasures.Estimate(plain_distinct(texts, 2), error)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "law", [{"vocabulary": 40}, {"vocabulary": 1000, "topics": 4}, {"power": 0.0, "fixed": True}], ids=str
)
def test_errors_of_distinct_are_right(n, law):
    assert 0.8 < calibration(lambda texts: textmeasures.distinct(texts, n), count=60, **law) < 1.25


def test_the_plain_jackknife_of_distinct_is_wrong(monkeypatch):
    """What the Good-Toulmin series is for; and the calibration can fail."""
    monkeypatch.setattr(textmeasures, "_excess", lambda *_: 0.0)
    texts = sentences(np.random.default_rng(4), 80)
    assert textmeasures.distinct(texts, 2).se == pytest.approx(jackknifed(texts).se, rel=0.02)
    assert calibration(lambda texts: textmeasures.distinct(texts, 1), count=60, power=0.0, fixed=True) > 1.4


def test_errors_of_lengths_and_bleu_are_right():
    assert 0.8 < calibration(textmeasures.lengths, count=60) < 1.25
    rng = np.random.default_rng(5)
    ratio = calibration(lambda t: textmeasures.self_bleu(t, rng, references=9), 100, count=120, topics=2)
    assert 0.7 < ratio < 1.4


@pytest.mark.slow
def test_errors_of_bleu_are_right():
    rng = np.random.default_rng(6)
    for law in ({"topics": 2}, {"vocabulary": 40, "mean": 6}):
        ratio = calibration(lambda t: textmeasures.self_bleu(t, rng, references=9), count=200, **law)
        assert 0.8 < ratio < 1.25


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", ["one text", 5, None, ["a", 5], ["a", None], [], ["a"]])
def test_bad_texts_are_refused(texts):
    for measure in (textmeasures.lengths, textmeasures.distinct):
        with pytest.raises(InputError) as error:
            measure(texts)
        assert error.value.remedy
    with pytest.raises(InputError):
        textmeasures.self_bleu(texts, np.random.default_rng(0), references=1)


def test_bad_counts_are_refused():
    texts, rng = ["a b"] * 20, np.random.default_rng(0)
    for bad in (0, 1.5, True, -1):
        for call in (
            lambda b: textmeasures.distinct(texts, b),
            lambda b: textmeasures.distinct(texts, 1, b),
            lambda b: textmeasures.self_bleu(texts, rng, references=b),
            lambda b: textmeasures.self_bleu(texts, rng, references=2, n=b),
            lambda b: textmeasures.self_bleu(texts, rng, references=2, blocks=b),
        ):
            with pytest.raises(InputError):
                call(bad)
    with pytest.raises(InputError, match="too few"):
        textmeasures.self_bleu(texts, rng, references=10)
