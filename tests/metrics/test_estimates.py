"""Measures: values by hand, standard errors by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurate.metrics import estimates as measures
from recurate.metrics.partition import MIN_PER_CELL, Cells, partition

SAMPLES = 600  # simulated samples behind each coverage test
# 95 % intervals should cover 570 of 600; below 538 or from 592 on has probability under 1e-6 for the normal
# approximation's own coverage of 94 to 96 %.
COVERED = range(538, 593)


def coverage(estimates, truth):
    return sum(e.interval()[0] <= truth <= e.interval()[1] for e in estimates)


def test_intervals_cover():
    rng = np.random.default_rng(0)
    draws = rng.gamma(4.0, size=(SAMPLES, 400))
    assert coverage([measures.mean(d) for d in draws], 4.0) in COVERED
    wide = rng.normal(size=(SAMPLES, 2000))
    assert coverage([measures.variance(d) for d in wide], 1.0) in COVERED
    probabilities = np.array([0.5, 0.3, 0.2])
    codes = rng.choice(3, p=probabilities, size=(SAMPLES, 1000))
    assert coverage([measures.shares(c, 3)[1] for c in codes], 0.3) in COVERED
    truth = -(probabilities @ np.log(probabilities))
    assert coverage([measures.entropy(c, 3) for c in codes], truth) in COVERED


def test_clusters_widen_the_error():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(100), 8)
    draws = [np.repeat(rng.normal(size=100), 8) + 0.1 * rng.normal(size=800) for _ in range(SAMPLES)]
    assert coverage([measures.mean(d, clusters=clusters) for d in draws], 0.0) in range(530, 593)
    assert coverage([measures.mean(d) for d in draws], 0.0) < 400, "ignoring clusters is overconfident"


def test_laws_are_exact():
    values, law = np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 0.25])
    assert measures.mean(values, law) == measures.Estimate(1.0)
    assert measures.variance(values, law) == measures.Estimate(0.5)
    codes = np.array([0, 1, 1])
    assert [s.value for s in measures.shares(codes, 3, law)] == [0.25, 0.75, 0.0]
    assert measures.entropy(codes, 3, law).value == pytest.approx(
        -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    )
    assert measures.effective_support(np.full(7, 1 / 7)) == pytest.approx(7)


def test_kl_on_atoms():
    assert measures.kl_atoms(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))
    assert measures.kl_atoms(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == math.inf


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([60, 500, 3000]))
def test_cells_partition_everything_evenly(seed, rewards, size):
    rng = np.random.default_rng(seed)
    reference = rng.normal(size=(size, rewards))
    reference[rng.random(size) < 0.2, 0] = 1.5  # a point mass
    cells = partition(reference)
    codes = cells.assign(reference)
    counts = np.bincount(codes, minlength=cells.reference.size)
    np.testing.assert_allclose(counts / size, cells.reference)
    assert counts.min() >= min(MIN_PER_CELL, size)
    assert set(cells.assign(10 * rng.normal(size=(200, rewards)))) <= set(range(cells.reference.size))


def test_a_point_mass_has_its_own_cell():
    rng = np.random.default_rng(2)
    reference = np.r_[rng.uniform(-1, -0.01, 900), np.zeros(100)][:, None]
    cells = partition(reference)
    codes = cells.assign(reference)
    assert set(codes[reference[:, 0] == 0]).isdisjoint(codes[reference[:, 0] < -0.02])


def test_kl_of_samples_tends_to_the_truth():
    """Two normals one unit apart have KL = 1/2; cells lose a little of it."""
    rng = np.random.default_rng(3)
    cells = partition(rng.normal(size=(200_000, 1)))
    found = cells.kl(cells.assign(rng.normal(loc=1.0, size=(200_000, 1))))
    assert 0.49 < found.value < 0.5 + 4 * found.se
    same = cells.kl(cells.assign(rng.normal(size=(200_000, 1))))
    assert same.value < 4 * same.se + 1e-3


def test_kl_errors_cover():
    rng = np.random.default_rng(4)
    edges = partition(rng.normal(size=(5000, 1)))
    big = edges.assign(rng.normal(size=(2_000_000, 1)))
    q = np.bincount(big, minlength=edges.reference.size) / big.size
    p = (
        np.bincount(edges.assign(rng.normal(0.7, 1, size=(2_000_000, 1))), minlength=edges.reference.size)
        / 2_000_000
    )
    truth = float(p @ np.log(p / q))
    estimates = []
    for _ in range(SAMPLES):
        reference = rng.multinomial(20_000, q) / 20_000
        cells = Cells(edges.splits, reference, 20_000)
        estimates.append(cells.kl(rng.choice(q.size, p=p, size=4000)))
    # The reference's own second-order bias is not removed: a little more room.
    assert coverage(estimates, truth) in range(525, 596)


TEXTS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3))
LABELS = st.one_of(
    TEXTS.map(lambda v: np.array(v, object)),
    TEXTS.map(lambda v: np.array(v, str)),
    st.lists(st.integers(-12, 120)).map(lambda v: np.array(v, int)),
    st.lists(st.one_of(st.none(), st.booleans(), st.sampled_from(["None", "a", 1]))).map(
        lambda v: np.array(v, object)
    ),
    st.lists(st.floats(0, 9)).map(lambda v: np.array(v, float)),
)


@given(LABELS)
def test_codes_of_labels_are_those_of_their_sorted_texts(labels):
    codes, names = measures.encode(labels)
    assert names == sorted({str(v) for v in labels})
    assert [names[code] for code in codes] == [str(v) for v in labels]
