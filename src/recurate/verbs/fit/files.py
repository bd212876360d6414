"""Files of a fit: its numbers, and a log of the candidates with fitted rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recurate.choices.from_slates import Reading
from recurate.choices.models.items import ItemFit
from recurate.choices.models.latent_classes import ClassFit
from recurate.choices.models.logit import LogitFit
from recurate.core.arrays import FloatArray
from recurate.log.schema import MODEL, as_log
from recurate.verbs.fit.fit import Fit

FORMAT = 1  # version of fit.json
EVIDENCE = ("log_likelihood", "null_log_likelihood", "gradient_norm", "passes", "clusters")


def fitted_log(found: Fit) -> pa.Table:
    """Return the candidates with fitted rewards as a validated log, from which one can forecast."""
    return as_log(scored_table(found), rewards=reward_names(found)).table


def reward_names(found: Fit) -> list[str]:
    """Return the names of the fitted rewards' columns."""
    count = found.rewards.shape[1]
    return ["reward"] if count == 1 else [f"reward_{i + 1}" for i in range(count)]


def scored_table(found: Fit) -> pa.Table:
    """Return the included candidates as a log, with the fitted rewards."""
    columns = log_columns(found.reading)
    own = set(columns)
    columns |= {n: found.rewards[:, i] for i, n in enumerate(reward_names(found))}
    table, rows = found.reading.table, found.reading.slates.rows
    for name, values in table.items():
        if name not in own and name not in ("result", "source_row", "time", "propensity"):
            kept = name if not name.startswith("reward") else f"given_{name}"
            columns[kept] = values if values.dtype != object else _texts(values, rows)
    return pa.table({n: pa.array(v) for n, v in columns.items()})


def log_columns(reading: Reading) -> dict[str, Any]:
    """Return the log's own columns of the included candidates."""
    table, slates = reading.table, reading.slates
    columns: dict[str, Any] = {
        "round": _whole(table.get("round"), slates.rows),
        "context": _texts(table.get("context"), slates.rows),
        "slate": slates.index(),
        "slot": slates.slots().astype(np.int32),
        "source": np.full(slates.rows, MODEL),
        "picked": _picked(reading),
    }
    for name in ("item", "chooser"):
        if name in table:
            columns[name] = _texts(table[name], slates.rows)
    items = columns.get("item")
    if items is not None and all(t.isascii() and t.isdigit() and len(t) < 19 for t in items):
        columns["item"] = items.astype(np.int64)  # as in a log, numbers only count
    return columns


def _picked(reading: Reading) -> NDArray[np.bool_]:
    """Return whether each candidate is the single best of its slate, (rows,)."""
    better = reading.better
    top = better == reading.slates.spread(reading.slates.maxima(better))
    single = reading.slates.sums(top.astype(float)) == 1
    return np.asarray(top & reading.slates.spread(single))


def _whole(values: NDArray[Any] | None, rows: int) -> NDArray[np.int32]:
    if values is None or values.dtype.kind not in "iuf" or not (np.abs(values.astype(float)) < 2**31).all():
        return np.zeros(rows, np.int32)
    return values.astype(np.int32)


def _texts(values: NDArray[Any] | None, rows: int) -> NDArray[Any]:
    if values is None:
        return np.full(rows, "")
    return np.array(["" if v is None else str(v) for v in values])


def facts_of(found: Fit) -> dict[str, Any]:
    """Return all numbers of a fit."""
    reading = found.reading
    facts: dict[str, Any] = {
        "format": FORMAT,
        "mapping": dict(reading.mapping.lines()),
        "excluded": reading.exclusions,
        "settings": found.settings(),
    }
    facts |= _named(reading, "model", "facts", "left_out", "notes")
    facts |= _named(found, "verdict", "checks", "rules", "within", "class_scores")
    if found.logit is not None:
        facts["coefficients"] = logit_rows(found.logit)
        facts["evidence"] = _named(found.logit, *EVIDENCE)
    if found.temperature is not None:
        facts["temperature"] = dict(zip(("value", "lower", "upper"), found.temperature, strict=True))
    if found.items is not None:
        facts["items"] = item_rows(found.items)
        facts["tie_log_odds"] = found.items.tie_log_odds
    if found.positions is not None:
        facts["positions"] = position_rows(found.positions)
    for name, fitted in (("lapse", found.lapse), ("thurstone", found.thurstone), ("best_of_k", found.best)):
        if fitted is not None:
            facts[name] = _named(fitted, "coefficients", "lapse", "lapse_interval", "log_likelihood")
    if found.groups is not None:
        facts["groups"] = group_rows(found.groups)
    return facts


def _named(source: object, *names: str) -> dict[str, Any]:
    """Return some attributes by name."""
    return {name: getattr(source, name) for name in names}


def logit_rows(fitted: LogitFit) -> list[dict[str, Any]]:
    """Return one row per coefficient: name, value, standard errors, z."""
    rows = _rows(fitted, "coefficient", fitted.coefficients)
    for row, value, error in zip(rows, fitted.coefficients, fitted.errors, strict=True):
        row["z"] = float(value / error) if error > 0 else None
    return rows


def position_rows(fitted: LogitFit) -> list[dict[str, Any]]:
    """Return the rows of the coefficients of places."""
    return [row for row in logit_rows(fitted) if row["name"].startswith("place ")]


def item_rows(fitted: ItemFit, most: int | None = None) -> list[dict[str, Any]]:
    """Return one row per item, by decreasing reward: name, reward, standard errors."""
    rows = _rows(fitted, "reward", fitted.rewards)
    return [rows[i] for i in np.argsort(-fitted.rewards, kind="stable")[:most]]


def _rows(fitted: LogitFit | ItemFit, what: str, values: FloatArray) -> list[dict[str, Any]]:
    clustered = fitted.clustered_errors
    return [
        {
            "name": name,
            what: float(values[j]),
            "se": float(fitted.standard_errors[j]),
            "se_clustered": None if clustered is None else float(clustered[j]),
        }
        for j, name in enumerate(fitted.names)
    ]


def group_rows(groups: ClassFit) -> list[dict[str, Any]]:
    """Return one row per group: weight and coefficients with standard errors."""
    errors, weight_errors, ranges = groups.standard_errors, groups.weight_errors, groups.weight_intervals
    return [
        {
            "weight": float(groups.weights[z]),
            "weight_se": None if weight_errors is None else float(weight_errors[z]),
            "weight_interval": None if ranges is None else ranges[z].tolist(),
            "coefficients": dict(zip(groups.names, groups.coefficients[z].tolist(), strict=True)),
            "se": None if errors is None else dict(zip(groups.names, errors[z].tolist(), strict=True)),
        }
        for z in range(groups.classes)
    ]
