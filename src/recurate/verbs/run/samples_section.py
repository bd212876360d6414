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

IMAGES, TEXTS = 160, 40  # maximal numbers of candidates shown per round
NUMBERS = 200_000  # maximal number of values in the images of a round: the larger they are, the fewer
FEWEST = 8  # images per round, however large
WIDEST = 24  # candidates shown of a slate
COLUMNS = 20  # images per row of the sheet
TILE, SIDE = 40, 96  # pixels across a tile, and an image in an opened slate, to which larger ones are reduced
MARGIN, MANY = 0.1, 0.1  # how far a value may lie outside [0, 1], and the share of others that is told
LETTERS, PROMPT, LINES = 600, 200, 20  # characters of a text and of a prompt, and lines of either
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
    slates = np.asarray(log.table.column("slate").fill_null(-1).to_numpy())
    chosen = _first_slates(log, slates, picked, TEXTS if texts else images_shown(samples.shape[1:]))
    items = np.asarray(log.table.column("item").to_numpy())
    count = 0
    shown: list[tuple[str, tuple[Tile, ...]]] = []
    for heading, rows in chosen:
        tiles = []
        for row in rows:
            text = _clip(samples[items[row]], LETTERS) if texts else ""
            place = (count % COLUMNS, count // COLUMNS)
            tiles.append(Tile(_in_words(log.rewards, rewards[row]), bool(picked[row]), text, place))
            count += 1
        shown.append((heading, tuple(tiles)))
    caption = _caption(t, log.rewards[0], rewards[:, 0], picked, slates)
    if texts:
        return SlatesOfRound(t, caption, tuple(shown))
    images = samples[[items[row] for _, rows in chosen for row in rows]]
    uri, grid, ratio = _sheet(images)
    fine = max(images.shape[1:3]) > TILE
    return SlatesOfRound(t, caption + _outside(images), tuple(shown), uri, grid, ratio, fine)


def images_shown(shape: tuple[int, ...]) -> int:
    """Return how many images of a shape (h, w) or (h, w, channels) are shown per round."""
    return int(np.clip(NUMBERS // (np.prod(_reduced(shape)) * np.prod(shape[2:])), FEWEST, IMAGES))


def _caption(
    t: int, name: str, rewards: NDArray[Any], picked: NDArray[np.bool_], slates: NDArray[Any]
) -> str:
    """Return the mean rewards of what was picked and of what was not, and how many nobody was asked about."""
    judged = slates >= 0 if (slates >= 0).any() else np.ones(len(slates), bool)
    means = [
        f"{rewards[which].mean():.3g} of all that were {kind}"
        for kind, which in (("picked", picked), ("not picked", judged & ~picked))
        if which.any()
    ]
    unseen = int((~judged).sum())
    left = (
        f" {unseen:,} {'candidate was' if unseen == 1 else 'candidates were'} in no slate." if unseen else ""
    )
    return f"Mean {name} in round {t}: {', '.join(means)}.{left}"


def _outside(images: NDArray[Any]) -> str:
    """Return a warning if many values are not those of images, such as of images with values up to 255."""
    share = float(((images < -MARGIN) | (images > 1 + MARGIN)).mean())
    if share < MANY:
        return ""
    return f" {share:.0%} of the values shown lie outside [0, 1], and are drawn as 0 or 1."


def _first_slates(
    log: Log, slates: NDArray[Any], picked: NDArray[np.bool_], most: int
) -> list[tuple[str, list[int]]]:
    """Return heading and rows of the first slates; of single candidates, half picked where there are."""
    if (slates < 0).all():
        halves = (np.flatnonzero(picked)[: most // 2], np.flatnonzero(~picked)[: most // 2])
        return [("", [int(row)]) for rows in halves for row in rows]
    slots = np.asarray(log.table.column("slot").fill_null(-1).to_numpy())
    prompts = log.table.column("context").to_pylist()
    order = np.lexsort((slots, slates))
    order = order[slates[order] >= 0]
    widest = min(WIDEST, most)
    found: list[tuple[str, list[int]]] = []
    count = 0
    for rows in np.split(order, np.flatnonzero(np.diff(slates[order])) + 1):
        first = rows[np.argsort(~picked[rows], kind="stable")][:widest]
        kept = rows if len(rows) <= widest else np.sort(first)
        count += len(kept)
        if found and count > most:
            break
        heading = f"Slate {slates[rows[0]]}"
        heading += f" ({len(kept)} of {len(rows)} candidates)" if len(kept) < len(rows) else ""
        heading += "" if picked[rows].any() else ", no pick"
        heading += f", {_clip(prompts[rows[0]], PROMPT)}" if prompts[rows[0]] else ""
        found.append((heading, kept.tolist()))
    return found


def _in_words(names: Sequence[str], values: NDArray[Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in zip(names, values, strict=True))


def _clip(text: Any, letters: int) -> str:
    """Return the beginning of a text."""
    whole = str(text) if str(text).strip() else "(empty)"
    begin = whole[: letters + 1].splitlines()
    short = "\n".join(begin[:LINES])
    return f"{short[: letters - 1]}…" if len(whole) > letters or len(begin) > LINES else short


def _reduced(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the height and width in which images are shown."""
    part = min(1.0, SIDE / max(shape[:2]))
    return max(1, round(shape[0] * part)), max(1, round(shape[1] * part))


def _sheet(images: NDArray[Any]) -> tuple[str, tuple[int, int], float]:
    """Return images as one PNG data URI, its columns and rows, and the height of an image over its width."""
    from PIL import Image

    pixels = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    pixels = pixels[..., 0] if pixels.shape[3:] == (1,) else pixels
    height, width = _reduced(images.shape[1:])
    if (height, width) != images.shape[1:3]:
        small = [Image.fromarray(one).resize((width, height), Image.Resampling.BOX) for one in pixels]
        pixels = np.stack([np.asarray(one) for one in small])
    columns = min(COLUMNS, len(pixels))
    rows = -(-len(pixels) // columns)
    canvas = np.full((rows * height, columns * width, *pixels.shape[3:]), 255, np.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * height, index % columns * width
        canvas[top : top + height, left : left + width] = image
    buffer = io.BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG", optimize=True)
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
