"""Runs with the external generator tests/helpers/programs/resampler.py, which repeats what it was trained on.

A loop of such a model follows the exact law but for chance: nothing is lost in transmission.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = Path(__file__).parent / "programs" / "resampler.py"
WORDS = ("sun", "rain", "wind", "snow")
TOWNS = ("Bergen", "Cork", "Davos")


def command(*words: str, extra: Sequence[str] = ()) -> list[str]:
    return ["{python}", str(PROGRAM), *words, *extra]


def external(
    sample_extra: Sequence[str] = (), fit_extra: Sequence[str] = (), **changes: Any
) -> dict[str, Any]:
    """Return generator settings."""
    return {
        "kind": "external",
        "fit": command("fit", "--training", "{training}", "--out", "{new_checkpoint}", extra=fit_extra),
        "sample": command(
            "sample", "--contexts", "{contexts}", "--checkpoint", "{checkpoint}", "--out", "{candidates}",
            "--seed", "{seed}", extra=sample_extra,
        ),
        "retries": 0,
        **changes,
    }  # fmt: skip


def write_points(path: Path, count: int = 400, seed: int = 0) -> Path:
    """Write points in the plane: two clusters, a label each."""
    rng = np.random.default_rng(seed)
    label = rng.integers(2, size=count)
    points = np.column_stack([4.0 * label - 2, np.zeros(count)]) + 0.5 * rng.normal(size=(count, 2))
    rows = [
        {"sample": p.tolist(), "label": "right" if g else "left"} for p, g in zip(points, label, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_reports(path: Path, count: int = 600, seed: int = 0) -> Path:
    """Write texts in answer to prompts."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "town": str(rng.choice(TOWNS)),
            "text": f"{rng.choice(WORDS)} {rng.choice(['today', 'tonight', 'all week'])}",
        }
        for _ in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def points_config(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration of a loop on points."""
    return {
        "seed": 1,
        "rounds": 2,
        "data": {"kind": "table", "path": str(write_points(folder / "points.jsonl")), "held_out": 0.2},
        "generator": external(),
        "rewards": [{"kind": "distance", "centre": [2.0, 0.0], "gamma": 0.5}],
        "selection": {"k": 3, "picks": 200},
        **changes,
    }


def reports_config(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration of a loop on texts that answer prompts."""
    path = write_reports(folder / "reports.jsonl")
    (folder / "towns.txt").write_text("\n".join(TOWNS) + "\n", encoding="utf-8")
    return {
        "seed": 1,
        "rounds": 2,
        "data": {"kind": "table", "path": str(path), "sample": "text", "context": "town"},
        "contexts": {"path": str(folder / "towns.txt")},
        "generator": external(),
        "rewards": [{"kind": "helpers.external:sunny", "name": "sunny"}],
        "tracked": [{"kind": "helpers.external:short", "name": "short"}],
        "groups": {"kind": "helpers.external:first_word"},
        "selection": {"k": 3, "picks": 300},
        **changes,
    }


# What the configurations above import, from the folder of the tests.


def sunny(samples):
    return [float(text.startswith("sun")) for text in samples]


def short(samples, contexts):
    assert len(contexts) == len(samples)
    return [-float(len(text)) for text in samples]


def first_word(samples):
    return [text.split()[0] for text in samples]


def wrong_shape(samples):
    return [1.0]


def raises(samples):
    raise ZeroDivisionError("nothing to divide by")


def not_numbers(samples):
    return ["much"] * len(samples)


def sometimes_nan(samples):
    return [float("nan")] + [0.0] * (len(samples) - 1)
