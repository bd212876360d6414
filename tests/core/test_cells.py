"""Cells on a line and in a tree: every value in exactly one, and sums and means kept."""

from __future__ import annotations

import numpy as np
import pytest

from recurate.core.cells import Grid, Merging, Tree, assign


@pytest.mark.parametrize("span", [1.0, 1e9])
def test_values_are_found_again_from_cells_and_offsets(span):
    values = np.random.default_rng(0).normal(size=500) * span
    low, width = float(values.min()) - 0.3, 0.25
    grid = Grid.of(values, low, width)
    assert np.all(np.diff(grid.occupied) > 0)
    assert set(grid.places.tolist()) == set(range(grid.occupied.size))
    assert np.abs(grid.offsets).max() <= 1
    middles = low + (grid.occupied[grid.places] + 0.5) * width
    np.testing.assert_allclose(middles + 0.5 * width * grid.offsets, values, atol=1e-7 * span)


def halves(points: np.ndarray):
    """Cut at the middle of the wider column, worth its width."""

    def cut(rows, depth):
        if rows.size == 1:
            return 0.0, 0, 0.0
        own = points[rows]
        widths = own.max(axis=0) - own.min(axis=0)
        column = int(widths.argmax())
        middle = (own[:, column].max() + own[:, column].min()) / 2
        return float(widths[column]), column, float(min(middle, np.sort(own[:, column])[-2]))

    return cut


def test_the_widest_cell_is_cut_first():
    points = np.random.default_rng(1).normal(size=(400, 2))
    tree = Tree.grow(points, halves(points), most=37)
    assert sorted(np.concatenate(tree.cells)) == list(range(400))
    widths = [np.ptp(points[rows], axis=0).max() for rows in tree.cells]
    parents = {path[:-1] for path in tree.paths}
    for path in parents:
        inside = np.concatenate(
            [rows for own, rows in zip(tree.paths, tree.cells, strict=True) if own.startswith(path)]
        )
        assert np.ptp(points[inside], axis=0).max() >= max(widths) - 1e-12


def test_points_are_assigned_to_the_cell_that_they_grew_in():
    points = np.random.default_rng(2).normal(size=(300, 3))
    tree = Tree.grow(points, halves(points), most=20)
    found = assign(tree.splits, points)
    for rows in tree.cells:
        assert len(set(found[rows].tolist())) == 1
    assert len(set(found.tolist())) == 20
    order = np.argsort(tree.paths)  # preorder is the order of the ways from the root
    np.testing.assert_array_equal([found[tree.cells[i][0]] for i in order], np.arange(20))


def test_roots_are_never_merged_and_worthless_cuts_are_not_made():
    points = np.zeros((10, 1))
    roots = [np.arange(5), np.arange(5, 10)]
    tree = Tree.grow(points, lambda rows, depth: (0.0, 0, 0.0), roots=roots, most=7)
    np.testing.assert_array_equal(np.sort(tree.labels), np.repeat([0, 1], 5))


@pytest.mark.parametrize("sampled", [False, True])
def test_merging_keeps_masses_and_means(sampled):
    rng = np.random.default_rng(3)
    masses, columns = rng.random(60), rng.normal(size=(60, 2))
    rows = rng.permutation(60)[:40] if sampled else None
    times = rng.integers(1, 4, 40).astype(float) if sampled else None
    labels = np.r_[np.arange(7), rng.integers(0, 7, (40 if sampled else 60) - 7)]
    cells = Merging(labels, rows, times)
    chosen = np.arange(60) if rows is None else rows
    weights = masses[chosen] * (1.0 if times is None else times)
    for label in range(7):
        own = labels == label
        assert cells.sums(masses)[label] == pytest.approx(weights[own].sum())
        expected = weights[own] @ columns[chosen[own]] / weights[own].sum()
        np.testing.assert_allclose(cells.means(columns, masses)[label], expected)
        assert cells.first[label] == chosen[own][0]


def test_a_cell_without_mass_takes_its_first_row():
    cells = Merging(np.array([1, 0, 1]))
    means = cells.means(np.array([[1.0], [2.0], [3.0]]), np.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(means, [[2.0], [1.0]])
