"""Class imbalance of retrained language models, over K, the share of real data and the number of parameters.

For infinite data and perfect models, Ferbach et al. 2024 (arXiv 2407.09499) prove that E exp(reward)
rises per round by ((K - 1) / K) Var exp(reward) / sup exp(reward) or more (Lemma 2.2), and that real data
bound the divergence (Theorem 2.4). They experiment with points and images. Here the generators are
transformers that were trained from scratch on short queries, and a classifier rewards one topic. The cells of
the grid start from one model per size, so that they differ in the loop alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report.overlays import grid_chart
from recurate.report.sections import Section
from recurate.verbs.reproduce.claims import Claim, Runs, Statistic, largest_share, last, less
from recurate.verbs.reproduce.experiment import Experiment

SOURCE = "Ferbach et al. 2024, arXiv 2407.09499, on text; the bounds are this package's"
SLATES, REAL = (2, 4, 8, 16), (0.0, 0.25, 0.5)
NEAR = 0.05  # largest mean deviation of a share from its forecast


@dataclass(frozen=True)
class Size:
    """A transformer: its blocks, their width and attention heads, and AdamW's step size."""

    layers: int
    width: int
    heads: int
    learning_rate: float


@dataclass(frozen=True)
class Scale:
    """What a scale of the experiment has.

    Attributes:
        sizes: The transformers.
        generator: Further settings of all of them.
        rounds: Rounds of retraining.
        queries: Number of queries in the real data.
        picks: Picks per round.
        vocabulary: Largest number of tokens.
    """

    sizes: tuple[Size, ...]
    generator: dict[str, Any]
    rounds: int
    queries: int
    picks: int
    vocabulary: int = 600

    def parameters(self, size: Size) -> int:
        """Return the number of weights of a transformer, norms apart."""
        return 12 * size.layers * size.width**2 + self.vocabulary * size.width


SMALL = Scale(
    (Size(2, 64, 2, 3e-3), Size(4, 144, 4, 3e-3), Size(6, 368, 4, 1e-3)),
    {},
    rounds=3,
    queries=2000,
    picks=240,
)
PAPER = Scale(
    (*SMALL.sizes, Size(12, 832, 8, 4e-4), Size(24, 1024, 16, 3e-4)),
    {"device": "cuda", "sample": {"batch": 2048}, "training": {"batch": 256}},
    rounds=4,
    queries=20_000,
    picks=2000,
)


@dataclass(frozen=True)
class Cell:
    """A cell of the grid: the number of parameters, K, and the share of real data."""

    parameters: int
    k: int
    real: float

    def __str__(self) -> str:
        return f"{self.size}, K = {self.k}, real {self.real:g}"

    @property
    def size(self) -> str:
        """The number of parameters in words."""
        return in_millions(self.parameters)


def in_millions(parameters: int) -> str:
    """Return a number of parameters in words, such as ``1.1M``."""
    millions = parameters / 1e6
    return f"{millions:.2g}M" if millions < 99 else f"{millions:.0f}M"


def first_models(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return the configurations of the runs whose models of round 0 the cells start from, by size."""
    return {_size_name(scale, size): _first(scale, size) for size in scale.sizes}


def grid(scale: Scale) -> dict[Cell, dict[str, Any]]:
    """Return the configuration of every cell, in which ``start`` names the first model."""
    return {
        Cell(scale.parameters(size), k, real): _cell(scale, size, k, real)
        for size, k, real in itertools.product(scale.sizes, SLATES, REAL)
    }


def _size_name(scale: Scale, size: Size) -> str:
    return f"first model, {in_millions(scale.parameters(size))}"


def _first(scale: Scale, size: Size) -> dict[str, Any]:
    generator = _generator(scale, size)
    scratch = {"layers": size.layers, "width": size.width, "heads": size.heads}
    generator["scratch"] = scratch | {"vocabulary": scale.vocabulary, "window": 48}
    # One round of few candidates: only the model of round 0 is used.
    return _base(scale, generator) | {"rounds": 1, "selection": {"k": 2, "picks": 20}}


def _cell(scale: Scale, size: Size, k: int, real: float) -> dict[str, Any]:
    return _base(scale, _generator(scale, size)) | {
        "rounds": scale.rounds,
        "selection": {"k": k, "picks": scale.picks},
        "retraining": {"real_fraction": real},
        "keep": 1,
        "start": _size_name(scale, size),
    }


def _generator(scale: Scale, size: Size) -> dict[str, Any]:
    own = scale.generator
    training = {"first_epochs": 8, "epochs": 4, "batch": 32, "learning_rate": size.learning_rate}
    changed = {
        "sample": {"longest": 24} | own.get("sample", {}),
        "training": training | own.get("training", {}),
    }
    return {"kind": "language", **own, **changed}


def _base(scale: Scale, generator: dict[str, Any]) -> dict[str, Any]:
    reward = {"kind": "classifier", "name": "travel", "score": "probability", "label": "travel", "gamma": 2.0}
    return {
        "data": {"kind": "queries", "size": scale.queries},
        "generator": generator,
        "rewards": [reward],
        "groups": {"kind": "classifier"},
    }


# --- claims ---------------------------------------------------------------------------------------


def claims(cells: Collection[Cell]) -> tuple[Claim, ...]:
    """Return the claims about the grid."""
    sizes = sorted({cell.parameters for cell in cells})
    found = []
    for parameters in sizes:
        few, many, mixed = (
            str(Cell(parameters, k, real))
            for k, real in ((SLATES[0], 0.0), (SLATES[-1], 0.0), (SLATES[-1], REAL[-1]))
        )
        size = in_millions(parameters)
        found += [
            Claim(
                "picks concentrate faster from larger slates",
                f"largest share, K = {SLATES[-1]} minus K = {SLATES[0]}, without real data, {size}",
                less(largest_share(many), largest_share(few)),
                True,
                0.0,
            ),
            Claim(
                "real data hold the classes",
                f"entropy of the classes, real share {REAL[-1]:g} minus none, K = {SLATES[-1]}, {size}",
                less(last(mixed, "entropy"), last(many, "entropy")),
                True,
                0.0,
            ),
            Claim(
                "the loop follows the limit of infinite data",
                f"mean distance of the largest share from its forecast over all cells, {size}",
                _distance([str(cell) for cell in cells if cell.parameters == parameters]),
                False,
                NEAR,
            ),
        ]
    return tuple(found)


def _distance(arms: list[str]) -> Statistic:
    def statistic(runs: Runs) -> float:
        gaps = [largest_share(a)(runs) - largest_share(a, FORECAST)(runs) for a in arms]
        return float(np.mean(np.abs(gaps)))

    return statistic


# --- table and figure -----------------------------------------------------------------------------


def grid_table(cells: Collection[Cell], runs: Mapping[str, list[Trajectory]]) -> pa.Table:
    """Return one row per cell and seed: imbalance in the last round, measured and forecast."""
    rows = []
    for cell in cells:
        arm = str(cell)
        for seed, found in enumerate(runs[arm]):
            row = {"parameters": cell.parameters, "k": cell.k, "real_fraction": cell.real, "run": seed}
            for source in (MEASURED, FORECAST):
                row[f"entropy_{source}"] = last(arm, "entropy", source=source)({arm: found})
                row[f"largest_share_{source}"] = largest_share(arm, source)({arm: found})
            rows.append(row)
    return pa.Table.from_pylist(rows)


def grid_sections(cells: Collection[Cell], runs: Mapping[str, list[Trajectory]]) -> list[Section]:
    """Return the table of the grid, means over the seeds, and its figure."""
    table = grid_table(cells, runs)
    rows = table.group_by(["parameters", "real_fraction", "k"]).aggregate(
        [(name, "mean") for name in table.column_names if "_" in name and name != "real_fraction"]
    )
    found = rows.sort_by([(n, "ascending") for n in ("parameters", "real_fraction", "k")]).to_pylist()
    heading = ["parameters", "real", *(f"K = {k}" for k in SLATES)]
    sections = []
    for quantity, title in (("entropy", "Entropy of the classes"), ("largest_share", "Largest share")):
        body = [
            [
                in_millions(size),
                f"{real:g}",
                *(
                    f"{r[f'{quantity}_measured_mean']:.3f} ({r[f'{quantity}_forecast_mean']:.3f})"
                    for r in own
                ),
            ]
            for (size, real), own in itertools.groupby(found, lambda r: (r["parameters"], r["real_fraction"]))
        ]
        text = "In the last round, in nats" if quantity == "entropy" else "In the last round"
        sections.append(Section(title, f"{text}; in brackets its forecast from round 0.", [heading, *body]))
    cards = tuple(
        Section(f"{in_millions(size)} parameters", chart=grid_chart(_points(own), str(size)))
        for size, own in itertools.groupby(found, lambda r: r["parameters"])
    )
    text = "The largest class's share in the last round: points measured, lines forecast from round 0."
    return [*sections, Section("Imbalance over K", text, cards=cards, printed=False)]


def _points(rows: Any) -> list[dict[str, Any]]:
    return [
        {
            "k": row["k"],
            "real": f"{row['real_fraction']:g}",
            "measured": row["largest_share_measured_mean"],
            "forecast": row["largest_share_forecast_mean"],
        }
        for row in rows
    ]


def _tables(cells: Collection[Cell], runs: Mapping[str, list[Trajectory]]) -> dict[str, pa.Table]:
    return {"grid.csv": grid_table(cells, runs)}


def text_scale(scale: str, data: str) -> Experiment:
    """Return text-scale: a grid of models, slate sizes and shares of real data."""
    chosen = SMALL if scale == "small" else PAPER
    cells = grid(chosen)
    return Experiment(
        "text-scale",
        f"Short queries ({chosen.queries:,}); transformers from scratch; reward 2 q(x), q a classifier's "
        f"probability of 'travel'; {chosen.picks:,} picks per round, {chosen.rounds} rounds.",
        {str(cell): config for cell, config in cells.items()},
        claims(cells),
        SOURCE,
        starts=first_models(chosen),
        seeds=1,
        sections=partial(grid_sections, tuple(cells)),
        tables=partial(_tables, tuple(cells)),
    )
