"""Forecasts of several models that train on each other's picks, from a log with a column of models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.citations import cite
from recurate.core.errors import InputError, is_number, nearest
from recurate.core.files import read_toml
from recurate.log.candidates import Candidates, from_log
from recurate.log.inputs import folder_of, name_of
from recurate.log.large import open_large
from recurate.log.opening import open_log
from recurate.log.reading.understand import accounted
from recurate.log.schema import MODEL, REAL, Log
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.metrics import estimates
from recurate.metrics.estimates import NORMAL_975, standard_error
from recurate.theory.forecast import SUPPORT
from recurate.theory.setting import Setting
from recurate.theory.several_models import SeveralModels, reversal_weight
from recurate.verbs.forecast.from_log import (
    LogForecast,
    LogOptions,
    arguments_of,
    columns_given,
    reference_of,
    run_settings,
)

COLUMN = "model"  # usual name of the column of models
OWN = "own_reward"  # mean reward of a model by its own curator
KEYS = ("name", "rewards", "trains_on")
PAIRS = 4  # largest number of models of which every pair's reversal is stated


@dataclass(frozen=True)
class Model:
    """One of several models.

    Attributes:
        name: its name in the column of models.
        rewards: the columns that judge its slates, each the same share of them.
        trains_on: the share of each model's picks in its training set, by name; the shares sum to one.
    """

    name: str
    rewards: tuple[str, ...]
    trains_on: Mapping[str, float]


@dataclass(frozen=True)
class ModelsForecast(LogForecast):
    """A forecast of several models; ``law`` has the shape (atoms, models).

    In its ``trajectory`` the group of a row is the name of a model; ``own_reward`` is a model's mean reward
    by its own curator.

    Attributes:
        models: the models, in the order of the columns of ``law``.
        reversals: for pairs of a model and another one, the share of the other's picks above which the
            model's own reward falls in the first round.
    """

    models: tuple[Model, ...] = ()
    reversals: tuple[tuple[str, str, float], ...] = ()


def read_models(source: Path | str | Sequence[Mapping[str, Any]]) -> tuple[Model, ...]:
    """Return models from a TOML file with tables ``[[models]]``, or from such tables.

    Args:
        source: path of the file, or tables with the keys ``name``, ``rewards`` (names of columns) and
            ``trains_on`` (shares by the models' names; without it, the model trains on its own picks).

    Raises:
        InputError: the file cannot be read, a key is unknown or missing, or a value is invalid.
    """
    where = str(source) if isinstance(source, str | Path) else "models"
    tables = _tables(Path(source)) if isinstance(source, str | Path) else list(source)
    found = tuple(_model(table, f"{where}, model {i}") for i, table in enumerate(tables))
    names = [model.name for model in found]
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(
            f"{where}: several models need two names or more, each once",
            got=", ".join(names) or "none",
            remedy="one [[models]] table per model",
        )
    for model in found:
        unknown = [name for name in model.trains_on if name not in names]
        if unknown:
            raise InputError(
                f"{where}: model {model.name!r} trains on a model that there is not",
                got=unknown[0],
                remedy=nearest(unknown[0], names),
            )
    return found


def forecast_models(
    source: Any, options: LogOptions, models: Sequence[Model], reference: Any = None
) -> ModelsForecast:
    """Forecast several models from the first round of a log; see :func:`recurate.forecast`.

    Args:
        source: a log, as :func:`recurate.log.inputs.log_of` takes it.
        options: the request; its ``group`` is the column of models.
        models: the models.
        reference: real data; None: the log's own rows of source ``real``, else each model's own first law.

    Raises:
        InputError: a file, column or value is wrong, models in the log and those given differ, the log has
            contexts, or a slate has candidates of several models.
    """
    cite("zhang2026")
    column = options.group or COLUMN
    options = replace(options, group=column, rewards=_columns(models))
    given = columns_given(options.rewards, options)
    if open_large(source, replace(given, picks=False), pooled=True) is not None:
        raise InputError(
            "several models are forecast from logs that fit into memory",
            got=name_of(source),
            remedy="name a part of its files",
        )
    opened = open_log(source, given)
    with accounted(opened.understood):
        log = opened.log
        rounds = _rounds(log, column, models)
        settings = {k: v for k, v in run_settings(folder_of(source)).items() if k != "weights"}
        ruling = options.ruling(log, settings)
        arguments = arguments_of(settings, options, replace(ruling, weights=None))
        setting = Setting.of(**arguments | {"picks": None, "weights": None})
        real = _real(log, reference, next(iter(rounds.values())), options)
    first = next(iter(rounds.values()))
    played = _played(first, real, models, setting)
    laws = list(played.play(setting))
    support = np.array([[estimates.effective_support(p) for p in law.T] for law in laws])
    ends = next((t for t, row in enumerate(support) if row.min() < SUPPORT), None)
    measured = _measured(rounds, models) if len(rounds) > 1 else Trajectory()
    return ModelsForecast(
        Trajectory(tuple(_forecast_rows(laws, played, support, models))) + measured,
        setting,
        first.size,
        laws[-1],
        support_ends=ends,
        warnings=(*ruling.warnings, *_reservations(support, ends, models)),
        measured=measured,
        opened=opened,
        ruling=ruling,
        models=tuple(models),
        reversals=_reversals(played, setting, models),
    )


# --- what is given -------------------------------------------------------------------------------------


def _tables(path: Path) -> list[Any]:
    if not path.is_file():
        raise InputError("there is no such file of models", got=path, remedy="check the path")
    try:
        raw = read_toml(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not valid TOML", got=error, remedy="repair the line") from None
    wrong = [name for name in raw if name != "models"]
    tables = raw.get("models")
    if wrong or not isinstance(tables, list):
        raise InputError(
            f"{path} must hold tables [[models]] alone",
            got=", ".join(wrong) or "no [[models]]",
            remedy="write [[models]], name, rewards and trains_on for each model",
        )
    return tables


def _model(table: Any, where: str) -> Model:
    """Return one checked model."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} must be a table", got=table, remedy="name, rewards and trains_on")
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise InputError(f"{where}: unknown key", got=unknown[0], remedy=nearest(str(unknown[0]), KEYS))
    name, rewards = table.get("name"), table.get("rewards")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where} needs a name", got=name, remedy="its value in the column of models")
    columns = [rewards] if isinstance(rewards, str) else rewards
    if not _are_names(columns):
        raise InputError(
            f"{where}: rewards must name the columns that judge its slates, each once",
            got=rewards,
            remedy='rewards = ["helpful"]',
        )
    return Model(name, tuple(columns or ()), _shares(table.get("trains_on", {name: 1.0}), where))


def _are_names(columns: Any) -> bool:
    if not isinstance(columns, list | tuple) or not columns:
        return False
    return all(isinstance(c, str) and c for c in columns) and len(set(columns)) == len(columns)


def _shares(given: Any, where: str) -> dict[str, float]:
    """Return shares by name, which sum to one."""
    remedy = "trains_on = {this = 0.7, other = 0.3}"
    if not isinstance(given, Mapping) or not all(is_number(v) and 0 <= v <= 1 for v in given.values()):
        raise InputError(f"{where}: trains_on must map names to shares", got=given, remedy=remedy)
    total = math.fsum(given.values())
    if abs(total - 1) > 2e-6:
        raise InputError(f"{where}: the shares of trains_on must sum to one", got=f"{total:g}", remedy=remedy)
    return {str(name): float(share) / total for name, share in given.items()}


def _columns(models: Sequence[Model]) -> tuple[str, ...]:
    """Return the columns of all models' rewards, each once."""
    return tuple(dict.fromkeys(column for model in models for column in model.rewards))


# --- the log -------------------------------------------------------------------------------------------


def _rounds(log: Log, column: str, models: Sequence[Model]) -> dict[int, Candidates]:
    """Return the candidates of every round, counted from the first, with their models as groups."""
    generated = log.select(source=MODEL)
    if generated.table.num_rows == 0:
        raise InputError("the log has no generated candidates", got="none", remedy="log the candidates")
    _check_slates(generated, column)
    numbers = generated.rounds()
    found = {t - numbers[0]: from_log(generated.select(round=t), group=column) for t in numbers}
    names = [model.name for model in models]
    for t, candidates in found.items():
        if candidates.contexts is not None:
            raise InputError(
                "several models are forecast without contexts",
                got=f"{np.unique(candidates.contexts).size} contexts",
                remedy="forecast one context at a time, or pool them with --context none",
            )
        assert candidates.groups is not None
        present = set(np.unique(candidates.groups).tolist())
        if present - set(names):
            unknown = sorted(present - set(names))[0]
            raise InputError(
                f"column {column!r} names a model that is not given",
                got=unknown,
                remedy=nearest(unknown, names),
            )
        missing = [name for name in names if name not in present]
        if missing and t == 0:
            raise InputError(
                "a model has no candidates in the log's first round", got=missing[0], remedy="log them, too"
            )
    return found


def _check_slates(generated: Log, column: str) -> None:
    """Refuse slates with candidates of several models: their size would be wrong."""
    table = generated.table
    if column not in table.column_names or table.column("slate").null_count == table.num_rows:
        return  # a missing column is refused where it is read
    shown = table.filter(table.column("slate").is_valid())
    each = shown.group_by(["round", "slate"]).aggregate([(column, "count_distinct")])
    mixed = each.filter(np.asarray(each.column(f"{column}_count_distinct")) > 1)
    if mixed.num_rows:
        row = mixed.slice(0, 1).to_pylist()[0]
        raise InputError(
            "a slate has candidates of several models",
            got=f"slate {row['slate']} of round {row['round']} ({mixed.num_rows} such slates)",
            remedy="number the slates of a round through all models",
        )


def _real(log: Log, reference: Any, candidates: Candidates, options: LogOptions) -> Candidates | None:
    """Return the real data, or None."""
    if reference is not None:
        real = reference_of(reference, replace(candidates, groups=None), replace(options, group=None))
    else:
        rows = log.select(source=REAL)
        if rows.table.num_rows == 0:
            return None
        real = from_log(rows)
    return replace(real, contexts=None)


# --- the law -------------------------------------------------------------------------------------------


def _played(
    first: Candidates, real: Candidates | None, models: Sequence[Model], setting: Setting
) -> SeveralModels:
    """Return the models on all candidates of the first round, then the real data if they are mixed in."""
    names = [model.name for model in models]
    laws = np.column_stack([_members(first, name) for name in names]).astype(float)
    atoms, reference = first, None
    if real is not None and (setting.real_fraction > 0 or setting.accumulate):
        atoms = replace(first, groups=None, labels=()).join(real)
        laws = np.vstack([laws, np.zeros((len(real), len(names)))])
        reference = np.concatenate([np.zeros(len(first)), np.ones(len(real))])
    mixing = [[model.trains_on.get(name, 0.0) for name in names] for model in models]
    return SeveralModels.of(
        atoms.rewards,
        laws=laws,
        curators=_curators(models, first.names),
        mixing=mixing,
        reference=reference,
    )


def _members(candidates: Candidates, name: str) -> BoolArray:
    return np.asarray(candidates.groups == name)


def _curators(models: Sequence[Model], columns: Sequence[str]) -> FloatArray:
    """Return the share of each model's slates judged by each column, shape (models, columns)."""
    return np.array([[(c in m.rewards) / len(m.rewards) for c in columns] for m in models])


def _reversals(
    played: SeveralModels, setting: Setting, models: Sequence[Model]
) -> tuple[tuple[str, str, float], ...]:
    if len(models) > PAIRS or setting.rounds == 0:
        return ()
    return tuple(
        (one.name, other.name, reversal_weight(played, setting, i, j))
        for i, one in enumerate(models)
        for j, other in enumerate(models)
        if i != j
    )


def _forecast_rows(
    laws: Sequence[FloatArray], played: SeveralModels, support: FloatArray, models: Sequence[Model]
) -> list[Row]:
    rows = []
    for t, law in enumerate(laws):
        means, own = law.T @ played.population.rewards, played.own_rewards(law)
        for i, model in enumerate(models):
            rows.append(Row(t, FORECAST, OWN, float(own[i]), None, model.name))
            rows += [
                Row(t, FORECAST, "mean_reward", float(value), column, model.name)
                for column, value in zip(_columns(models), means[i], strict=True)
            ]
            rows.append(Row(t, FORECAST, "effective_support", float(support[t, i]), None, model.name))
    return rows


def _measured(rounds: Mapping[int, Candidates], models: Sequence[Model]) -> Trajectory:
    """Return the measured means of every round, with 95 % intervals, of models with candidates in it."""
    rows = []
    for t, candidates in rounds.items():
        curators = _curators(models, candidates.names)
        for model, judged in zip(models, curators, strict=True):
            values = candidates.rewards[_members(candidates, model.name)]
            if len(values):
                rows.append(_mean_row(t, OWN, values @ judged, None, model.name))
                rows += [
                    _mean_row(t, "mean_reward", values[:, j], column, model.name)
                    for j, column in enumerate(candidates.names)
                ]
    return Trajectory(tuple(rows))


def _mean_row(t: int, quantity: str, values: FloatArray, reward: str | None, name: str) -> Row:
    mean = float(values.mean())
    if values.size < 2:
        return Row(t, MEASURED, quantity, mean, reward, name)
    reach = NORMAL_975 * standard_error(values - mean)
    return Row(t, MEASURED, quantity, mean, reward, name, mean - reach, mean + reach)


def _reservations(support: FloatArray, ends: int | None, models: Sequence[Model]) -> tuple[str, ...]:
    found: tuple[str, ...] = ("no bands: those of several models are not computed",)
    if ends is None:
        return found
    least = int(support[ends].argmin())
    return (
        *found,
        f"the effective support of model {models[least].name} falls below {SUPPORT:g} candidates in round "
        f"{ends} ({support[ends, least]:.0f}): values from there on are beyond this pool's support",
    )
