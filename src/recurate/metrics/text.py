"""Statistics of generated texts with standard errors: length, distinct n-grams and self-BLEU.

Words are separated by whitespace and converted to lower case. Texts are i.i.d. and in no particular order;
every standard error treats all of them as random. An empty text has no words, and counts as a text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from recurate.core.arrays import FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.metrics.checks import whole
from recurate.metrics.estimates import Estimate

Grams = tuple[IntArray, IntArray]  # for each of g n-grams, shapes (g,): index of its text, code of the n-gram

MISSED = 0.1  # number of matches assigned to an order without a match
CERTAIN = 12  # number of texts from which an n-gram occurs in almost any sample


def lengths(texts: Sequence[str]) -> Estimate:
    """Return the mean number of words per text, with the standard error of a mean.

    Raises:
        InputError: If ``texts`` is not a sequence of two or more strings.
    """
    counts = np.array([len(words) for words in _words(texts, 2)], float)
    return Estimate(float(counts.mean()), float(counts.std(ddof=1)) / math.sqrt(counts.size))


# --- distinct n-grams -----------------------------------------------------------------------------


def distinct(texts: Sequence[str], n: int = 2, cap: int = 500) -> Estimate:
    """Return distinct-n of the first ``cap`` texts: the ratio of distinct n-grams to all n-grams.

    (Li et al. 2016, arXiv 1510.03055.) It is 0 if there are no n-grams. It **falls with the number of
    texts**, because common n-grams recur: values are comparable only for the same number of texts, hence the
    cap. The standard error is that of the ratio D / N for this number of texts. Omitting one text changes the
    number D of distinct n-grams only by those that occur in no other text; the jackknife based on these
    changes counts contributions of pairs of texts twice, so a Good-Toulmin series subtracts the excess.

    Args:
        texts: Two or more texts.
        n: Number of words per n-gram.
        cap: Maximal number of texts that are used, from the first.

    Raises:
        InputError: If ``texts`` are not strings or fewer than two, n is not a whole number >= 1, or cap is
            not a whole number >= 2.
    """
    whole(n, "n", 1)
    words = _words(texts, 2)[: whole(cap, "cap", 2)]
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
    r"""Return the excess of the jackknife over the variance of the number of distinct n-grams.

    With a Poisson number of texts, the covariance between the presence of two n-grams is that between their
    absence, P(both absent) - P(one absent) P(other absent). Summed over pairs, sum_S (-1)^{|S| + 1} u_S^2
    estimates it without bias, where u_S is the number of n-grams whose set of texts is exactly S. Sets of one
    text give the jackknife; the other sets, with opposite signs, give its excess. Their weights are a
    binomial tail, which falls to zero beyond sets of ``CERTAIN`` texts (Efron & Thisted 1976, Biometrika 63)
    and bounds the noise of the alternating series.
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
    r"""Return self-BLEU, the mean BLEU-n of each text with other texts as references; 1 if all are equal.

    (Zhu et al. 2018, arXiv 1802.01886.) It rises with the number of references, which is therefore fixed:
    texts are drawn without replacement into blocks of ``references`` + 1, and the references of a text are
    the others of its block. Blocks share no texts, so the standard error is that of the mean over blocks.

    BLEU (Papineni et al. 2002, ACL) has equal weights for the orders 1 to n, clipped counts, and the brevity
    penalty with the reference length closest to the text's, the shorter one in a tie. Smoothing is method 1
    of Chen & Cherry (2014, WMT): an order without a match counts as 0.1 matches, and an order longer than the
    text counts as one n-gram without a match. A text that shares no word with the others of its block scores
    0; an empty text scores 1 if its block has another empty text, else 0.

    Args:
        texts: At least 2 (references + 1) texts.
        rng: Generator that draws the blocks.
        references: Number of references per text.
        blocks: Maximal number of blocks.
        n: Highest order of n-grams.

    Raises:
        InputError: If ``texts`` are not strings or too few, or references, blocks or n is not a whole number
            of at least 1, 2 and 1.
    """
    size = whole(references, "references", 1) + 1
    whole(n, "n", 1)
    words = _words(texts, 2 * size)
    wanted = min(whole(blocks, "blocks", 2), len(words) // size)
    drawn = rng.permutation(len(words))[: wanted * size]
    scores = _bleu([words[i] for i in drawn], size, n)
    means = scores.reshape(wanted, size).mean(axis=1)
    return Estimate(float(means.mean()), float(means.std(ddof=1)) / math.sqrt(wanted))


def _bleu(words: list[list[str]], size: int, n: int) -> FloatArray:
    """Return each text's BLEU (texts,); its references are the others of its ``size`` consecutive texts."""
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
    """Return each text's clipped matches (texts,).

    They are the sum over its n-grams of min(count, largest count in another text of its block).
    """
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
    """Return the words of every text, or raise InputError if fewer than ``least`` strings are given."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        got, remedy = type(texts).__name__, "give a list of strings"
        raise InputError("texts must be a sequence of strings", got=got, remedy=remedy)
    listed = list(texts)
    wrong = next((i for i, text in enumerate(listed) if not isinstance(text, str)), None)
    if wrong is not None:
        got, remedy = f"{type(listed[wrong]).__name__} at {wrong}", "use an empty string for a missing text"
        raise InputError("a text is not a string", got=got, remedy=remedy)
    if len(listed) < least:
        raise InputError("too few texts", got=len(listed), remedy=f"give {least} or more")
    return [text.lower().split() for text in listed]


def _grams(words: list[list[str]], n: int) -> Grams:
    """Return all n-grams of all texts: the index of each one's text and an integer code of the n-gram."""
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
