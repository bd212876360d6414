"""What is measured of generated texts: length, distinct n-grams, self-BLEU, each with a standard error.

A text's words are what whitespace separates, in lower case. Texts are i.i.d. and in no order; every standard
error takes all of them as random. An empty text has no words, and counts as a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.metrics.estimates import Estimate

Grams = tuple[IntArray, IntArray]  # of n-grams: the text of each, shape (g,), and which n-gram it is

MISSED = 0.1  # what an order without any match counts as, in matches
CERTAIN = 12  # n-grams in this many texts are there in any sample, nearly


def lengths(texts: Sequence[str]) -> Estimate:
    """Return the mean number of words; the error is that of a mean.

    Raises:
        InputError: if ``texts`` is not a sequence of two or more strings.
    """
    counts = np.array([len(words) for words in _words(texts, 2)], float)
    return Estimate(float(counts.mean()), float(counts.std(ddof=1)) / math.sqrt(counts.size))


# --- distinct n-grams -----------------------------------------------------------------------------


def distinct(texts: Sequence[str], n: int = 2, cap: int = 500) -> Estimate:
    """Return distinct-n of the first ``cap`` texts: different n-grams over all n-grams (0 if there are none).

    (Li et al. 2016, arXiv 1510.03055.) It **falls with the number of texts**, as common n-grams come
    again: values compare only at one number of texts, hence the cap. The error is that of the ratio D / N for
    this number of texts. Taking one text off changes D by its own n-grams only; the jackknife from that
    counts twice what depends on pairs of texts, so a Good-Toulmin series takes the excess off (see
    :func:`_excess`).

    Args:
        texts: two or more.
        n: words in a row.
        cap: how many texts are used, the first ones.

    Raises:
        InputError: if ``texts`` are not strings or fewer than two, or n or cap is not a count.
    """
    _count(n, "n", 1)
    words = _words(texts, 2)[: _count(cap, "cap", 2)]
    text, gram = _grams(words, n)
    if gram.size == 0:
        return Estimate(0.0)
    pairs = np.unique(np.stack([gram, text]), axis=1)  # sorted by n-gram, then text
    starts = np.flatnonzero(np.diff(pairs[0], prepend=-1))
    ratio = starts.size / gram.size
    spread = np.diff(starts, append=pairs.shape[1])
    unique = np.bincount(pairs[1, starts[spread == 1]], minlength=len(words))
    influence = unique - ratio * np.bincount(text, minlength=len(words))
    jackknife = float(np.square(influence - influence.mean()).sum())
    corrected = jackknife - _excess(pairs[1], starts, spread)
    return Estimate(ratio, math.sqrt(max(corrected, 0.0)) / gram.size)


def _excess(text: IntArray, starts: IntArray, spread: IntArray) -> float:
    r"""Return by how much the jackknife exceeds the variance of the number of distinct n-grams.

    With a Poisson number of texts, the covariance of two n-grams' being there is that of their being absent,
    P(neither) - P(one absent) P(other absent). Summed over pairs, sum_S (-1)^{|S| + 1} u_S^2 estimates it
    without bias, u_S the number of n-grams whose set of texts is exactly S. Sets of one text make the
    jackknife, the others its excess, with signs turned. Their weights fall to zero beyond sets of ``CERTAIN``
    texts, as a binomial tail (Efron & Thisted 1976, Biometrika 63), which bounds the alternating series'
    noise.
    """
    total, tail = 0.0, 1.0 - 0.5**CERTAIN
    for size in range(2, CERTAIN + 1):
        tail -= math.comb(CERTAIN, size - 1) * 0.5**CERTAIN
        rows = starts[spread == size]
        if rows.size:
            sets = text[rows[:, None] + np.arange(size)]
            alike = np.unique(sets, axis=0, return_counts=True)[1]
            total += (-1) ** size * tail * float(np.square(alike).sum())
    return total


# --- self-BLEU ------------------------------------------------------------------------------------


def self_bleu(
    texts: Sequence[str], rng: np.random.Generator, *, references: int = 49, blocks: int = 20, n: int = 4
) -> Estimate:
    r"""Return self-BLEU, the mean BLEU-n of each text with others as references: 1 where all are alike.

    (Zhu et al. 2018, arXiv 1802.01886.) It rises with the number of references, so that is fixed:
    texts are drawn without replacement into blocks of ``references`` + 1, and each text of a block has the
    others of its block as references. Blocks share no texts, so the error is that of the mean over blocks.

    BLEU (Papineni et al. 2002, ACL) has equal weights of the orders 1 to n, clipped counts, and the brevity
    penalty with the reference length closest to the text's, the shorter of two. Smoothing is the first of
    Chen & Cherry (2014, WMT): an order without a match counts ``MISSED`` matches; an order that the text is
    too short for counts as one n-gram, missed. Texts without a word in common with others score 0; an empty
    text scores 1 if its block has another, else 0.

    Args:
        texts: at least 2 (references + 1).
        rng: draws the blocks.
        references: per text.
        blocks: at most so many are made.
        n: the highest order.

    Raises:
        InputError: if ``texts`` are not strings or too few, or a number is not a count.
    """
    size = _count(references, "references", 1) + 1
    _count(n, "n", 1)
    words = _words(texts, 2 * size)
    wanted = min(_count(blocks, "blocks", 2), len(words) // size)
    drawn = rng.permutation(len(words))[: wanted * size]
    scores = _bleu([words[i] for i in drawn], size, n)
    means = scores.reshape(wanted, size).mean(axis=1)
    return Estimate(float(means.mean()), float(means.std(ddof=1)) / math.sqrt(wanted))


def _bleu(words: list[list[str]], size: int, n: int) -> FloatArray:
    """Return the BLEU of every text with the others of its block of ``size`` texts in a row."""
    length = np.array([len(w) for w in words])
    logs, common = np.zeros(len(words)), np.zeros(len(words), bool)
    for order in range(1, n + 1):
        matches = _clipped(*_grams(words, order), len(words), size)
        common |= matches > 0
        logs += np.log(np.where(matches > 0, matches, MISSED) / np.maximum(length - order + 1, 1)) / n
    grouped = length.reshape(-1, size)
    own, other = grouped[:, :, None], grouped[:, None, :]
    gap = 2.0 * np.abs(own - other) + (other > own)
    gap[:, np.arange(size), np.arange(size)] = np.inf
    closest = np.take_along_axis(grouped, gap.argmin(axis=2), axis=1).ravel()
    penalty = np.minimum(1.0 - closest / np.maximum(length, 1), 0.0)
    empties = np.repeat((grouped == 0).sum(axis=1), size)
    return np.where(length == 0, empties > 1, np.where(common, np.exp(logs + penalty), 0.0))


def _clipped(text: IntArray, gram: IntArray, texts: int, size: int) -> FloatArray:
    """Return per text the sum over its n-grams of min(count, largest count in another text of its block)."""
    rows, counts = np.unique(np.stack([text // size, gram, text]), axis=1, return_counts=True)
    order = np.lexsort([counts, rows[1], rows[0]])  # the largest count of an n-gram in a block comes last
    (block, kind, owner), counts = rows[:, order], counts[order]
    starts = np.flatnonzero((np.diff(block, prepend=-1) != 0) | (np.diff(kind, prepend=-1) != 0))
    widths = np.diff(starts, append=counts.size)
    last = starts + widths - 1
    elsewhere = np.repeat(counts[last], widths)
    elsewhere[last] = np.where(widths > 1, counts[last - 1], 0)
    return np.bincount(owner, np.minimum(counts, elsewhere), texts).astype(np.float64)


# --- words and n-grams ----------------------------------------------------------------------------


def _words(texts: Sequence[str], least: int) -> list[list[str]]:
    """Return the words of every text, or raise InputError."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        got, remedy = type(texts).__name__, "give a list of strings"
        raise InputError("texts are not a sequence of texts", got=got, remedy=remedy)
    listed = list(texts)
    wrong = next((i for i, text in enumerate(listed) if not isinstance(text, str)), None)
    if wrong is not None:
        got, remedy = f"{type(listed[wrong]).__name__} at {wrong}", "use an empty string for no text"
        raise InputError("a text is not a string", got=got, remedy=remedy)
    if len(listed) < least:
        raise InputError("too few texts", got=len(listed), remedy=f"give {least} or more")
    return [text.lower().split() for text in listed]


def _grams(words: list[list[str]], n: int) -> Grams:
    """Return all n-grams of all texts, as the text of each and an integer that names the n-gram."""
    length = np.array([len(w) for w in words])
    index: dict[str, int] = {}
    codes = np.array([index.setdefault(w, len(index)) for w in chain.from_iterable(words)], np.int64)
    owner = np.repeat(np.arange(length.size), length)
    gram = codes
    for reach in range(1, n):
        if gram.size <= reach:
            return owner[:0], codes[:0]
        gram = np.unique(gram[:-1] * len(index) + codes[reach:], return_inverse=True)[1].ravel()
    whole = owner[: gram.size] == owner[n - 1 :]
    return owner[: gram.size][whole], gram[whole]


def _count(value: int, name: str, least: int) -> int:
    """Return a count, or raise InputError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is not a count", got=value, remedy=f"use a whole number, {least} or more")
    return int(value)
