"""The candidates of a run: slates of images or texts, or points in the plane."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.log.samples import Samples, is_text
from recurate.log.schema import Log
from recurate.report import charts
from recurate.report.sections import SlatesOfRound, Tile

IMAGES, TEXTS = 160, 40  # candidates shown per round
WIDEST = 24  # candidates shown of a slate
COLUMNS = 20  # images per row of the sheet
LETTERS = 600  # of a text
POINTS = 700  # points per round in the scatter plot
BINS = 40  # cells per side of the density plot
ROUNDS = 12  # maximal number of rounds shown


def chosen_rounds(count: int) -> list[int]:
    """Return at most ROUNDS rounds of 0, ..., count - 1, evenly spread, first and last included."""
    return sorted({round(t) for t in np.linspace(0, count - 1, min(count, ROUNDS))})


def slates_of(t: int, samples: Samples, log: Log) -> SlatesOfRound:
    """Return the first slates of a round, as images or texts.

    Args:
        t: Number of the round.
        samples: Candidates: images with values in [0, 1], (n, h, w) or (n, h, w, channels), or texts (n,).
        log: Rows of these candidates; without slates, as after a verifier, each candidate stands alone.
    """
    texts = is_text(samples)
    rewards, picked = log.reward_matrix(), np.asarray(log.column("picked"), bool)
    chosen = _first_slates(log, picked, TEXTS if texts else IMAGES)
    contexts = log.table.column("context").to_pylist() if "context" in log.table.column_names else []
    items = np.asarray(log.table.column("item").to_numpy())
    shown: list[tuple[str, tuple[Tile, ...]]] = []
    sheet: list[int] = []
    for heading, rows in chosen:
        prompt = f", {_clip(contexts[rows[0]], 200)}" if heading and contexts and contexts[rows[0]] else ""
        tiles = []
        for row in rows:
            place = (len(sheet) % COLUMNS, len(sheet) // COLUMNS)
            words = _in_words(log.rewards, rewards[row])
            tiles.append(
                Tile(words, bool(picked[row]), _clip(samples[items[row]], LETTERS) if texts else "", place)
            )
            sheet.append(int(items[row]))
        shown.append((heading + prompt, tuple(tiles)))
    means = [
        f"{rewards[which, 0].mean():.3g} of all that were {kind}"
        for kind, which in (("picked", picked), ("not picked", ~picked))
        if which.any()
    ]
    caption = f"Mean {log.rewards[0]} in round {t}: {', '.join(means)}."
    if texts:
        return SlatesOfRound(t, caption, tuple(shown))
    uri, grid, ratio = _sheet(samples[sheet])
    return SlatesOfRound(t, caption, tuple(shown), uri, grid, ratio)


def _first_slates(log: Log, picked: NDArray[np.bool_], most: int) -> list[tuple[str, list[int]]]:
    """Return heading and rows of the first slates; of single candidates, half picked where there are."""
    slates = np.asarray(log.table.column("slate").fill_null(-1).to_numpy())
    if (slates < 0).all():
        halves = (np.flatnonzero(picked)[: most // 2], np.flatnonzero(~picked)[: most // 2])
        return [("", [int(row)]) for rows in halves for row in rows]
    slots = np.asarray(log.table.column("slot").fill_null(-1).to_numpy())
    order = np.lexsort((slots, slates))
    order = order[slates[order] >= 0]
    found: list[tuple[str, list[int]]] = []
    count = 0
    for rows in np.split(order, np.flatnonzero(np.diff(slates[order])) + 1):
        kept = (
            rows if len(rows) <= WIDEST else np.sort(rows[np.argsort(~picked[rows], kind="stable")][:WIDEST])
        )
        count += len(kept)
        if found and count > most:
            break
        of = f" ({len(kept)} of {len(rows)} candidates)" if len(kept) < len(rows) else ""
        found.append((f"Slate {slates[rows[0]]}{of}", kept.tolist()))
    return found


def _in_words(names: Sequence[str], values: NDArray[Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, values, strict=True))


def _clip(text: Any, letters: int) -> str:
    whole = str(text)
    return whole if len(whole) <= letters else whole[: letters - 1] + "…"


def _sheet(images: NDArray[Any]) -> tuple[str, tuple[int, int], float]:
    """Return images as one PNG data URI, its columns and rows, and the height of an image over its width."""
    from PIL import Image

    height, width = images.shape[1:3]
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    canvas = np.ones((rows * height, columns * width, *images.shape[3:]))
    for index, image in enumerate(images):
        top, left = index // columns * height, index % columns * width
        canvas[top : top + height, left : left + width] = np.clip(image, 0, 1)
    buffer = io.BytesIO()
    pixels = np.round(canvas * 255).astype(np.uint8)
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(buffer, "PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return uri, (columns, rows), round(height / width, 4)


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
