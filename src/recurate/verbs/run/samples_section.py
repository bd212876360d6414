"""Samples of the candidates: grids of images, or points in the plane."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.report import charts

GRID = 10  # images per side of the grid
POINTS = 700  # points per round in the scatter plot
BINS = 40  # cells per side of the density plot
ROUNDS = 12  # maximal number of rounds shown


def chosen_rounds(count: int) -> list[int]:
    """Return at most ROUNDS rounds of 0, ..., count - 1, evenly spread, first and last included."""
    return sorted({round(t) for t in np.linspace(0, count - 1, min(count, ROUNDS))})


def image_grid(images: NDArray[Any]) -> str:
    """Return up to GRID x GRID images with values in [0, 1] as one PNG data URI."""
    from PIL import Image

    images = images[: GRID * GRID]
    height, width = images.shape[1:3]
    rows = -(-len(images) // GRID)
    canvas = np.ones((rows * (height + 1) + 1, GRID * (width + 1) + 1, *images.shape[3:]))
    for index, image in enumerate(images):
        top, left = index // GRID * (height + 1) + 1, index % GRID * (width + 1) + 1
        canvas[top : top + height, left : left + width] = np.clip(image, 0, 1)
    buffer = io.BytesIO()
    Image.fromarray(np.round(canvas * 255).astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def plane_charts(
    samples: dict[int, NDArray[Any]], rewards: dict[int, NDArray[Any]], picked: dict[int, NDArray[Any]]
) -> list[tuple[str, dict[str, Any]]]:
    """Return a density and a scatter chart of samples (n, 2), by round."""
    everything = np.concatenate(list(samples.values()))
    low, high = np.quantile(everything, [0.001, 0.999], axis=0)
    margin = 0.08 * (high - low)
    extent = np.round(np.column_stack([low - margin, high + margin]), 3).tolist()
    rounds = sorted(samples)
    cells: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    for t in rounds:
        cells += _cells(samples[t], extent, t)
        for (x, y), reward, one in zip(samples[t][:POINTS], rewards[t], picked[t], strict=False):
            numbers = {"x": x, "y": y, "reward": reward}
            point = {name: round(float(value), 3) for name, value in numbers.items()}
            points.append(point | {"picked": "picked" if one else "not picked", "round": t})
    return [
        ("Density of all candidates", charts.density_chart(cells, rounds, extent)),
        (f"The first {POINTS} candidates, picked or not", charts.scatter_chart(points, rounds, extent)),
    ]


def _cells(points: NDArray[Any], extent: list[list[float]], t: int) -> list[dict[str, Any]]:
    counts, x, y = np.histogram2d(points[:, 0], points[:, 1], bins=BINS, range=extent)
    return [
        {
            "x": round(float(x[i]), 3),
            "x2": round(float(x[i + 1]), 3),
            "y": round(float(y[j]), 3),
            "y2": round(float(y[j + 1]), 3),
            "share": float(f"{counts[i, j] / len(points):.3g}"),
            "round": t,
        }
        for i, j in np.argwhere(counts > 0)
    ]
