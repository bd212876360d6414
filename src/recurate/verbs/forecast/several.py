"""Forecasts of several models that train on each other's picks, from a log with a column of models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recurate.core.arrays import FloatArray
from recurate.core.citations import cite
from recurate.core.errors import InputError, nearest
from recurate.core.files import read_toml
from recurate.log.candidates import Candidates, from_log
from recurate.log.folders import is_of_models
from recurate.log.inputs import folder_of, name_of
from recurate.log.large import open_large
from recurate.log.models_folder import MODEL_COLUMN, StoredModels
from recurate.log.opening import open_log
from recurate.log.reading.understand import accounted
from recurate.log.schema import MODEL, REAL, Log
from recurate.log.trajectory import Trajectory
from recurate.metrics import estimates
from recurate.theory.forecast import SUPPORT
from recurate.theory.models_forecast import (
    Model,
    as_models,
    columns_of,
    forecast_rows,
    measured_rows,
    played_on,
    reversals_of,
)
from recurate.theory.setting import Setting
from recurate.verbs.forecast.from_log import (
    LogForecast,
    LogOptions,
    arguments_of,
    columns_given,
    reference_of,
    run_settings,
    settings_in,
)


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
    return as_models(tables, where)


def stored_models(source: Any) -> StoredModels | None:
    """Return the folder of several models that a source names, or None."""
    if not isinstance(source, str | os.PathLike) or not is_of_models(Path(source)):
        return None
    return StoredModels.open(Path(source))


def forecast_models(
    source: Any, options: LogOptions, models: Sequence[Model], reference: Any = None
) -> ModelsForecast:
    """Forecast several models from the first round of a log; see :func:`recurate.forecast`.

    Args:
        source: a log, as :func:`recurate.log.inputs.log_of` takes it, or a folder of several models.
        options: the request; its ``group`` is the column of models.
        models: the models.
        reference: real data; None: the log's own rows of source ``real``, else each model's own first law.

    Raises:
        InputError: a file, column or value is wrong, models in the log and those given differ, the log has
            contexts, or a slate has candidates of several models.
    """
    cite("zhang2026")
    stored = source if isinstance(source, StoredModels) else None
    if stored is not None:
        stored.verify()
        source = stored.table()
    column = options.group or MODEL_COLUMN
    options = replace(options, group=column, rewards=columns_of(models))
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
        known = (
            run_settings(folder_of(source)) if stored is None else settings_in(stored.settings(), stored.path)
        )
        settings = {name: value for name, value in known.items() if name != "weights"}
        ruling = options.ruling(log, settings)
        arguments = arguments_of(settings, options, replace(ruling, weights=None))
        setting = Setting.of(**arguments | {"picks": None, "weights": None})
        real = _real(log, reference, next(iter(rounds.values())), options)
    first = next(iter(rounds.values()))
    played = played_on(first, real, models, setting)
    laws = list(played.play(setting))
    support = np.array([[estimates.effective_support(p) for p in law.T] for law in laws])
    ends = next((t for t, row in enumerate(support) if row.min() < SUPPORT), None)
    later = [row for t, found in rounds.items() for row in measured_rows(t, found, models)]
    measured = Trajectory(tuple(later) if len(rounds) > 1 else ())
    return ModelsForecast(
        Trajectory(tuple(forecast_rows(laws, played, models, first.names))) + measured,
        setting,
        first.size,
        laws[-1],
        support_ends=ends,
        warnings=(*ruling.warnings, *_asked(stored, models), *_reservations(support, ends, models)),
        measured=measured,
        opened=opened,
        ruling=ruling,
        models=tuple(models),
        reversals=reversals_of(played, setting, models),
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


def _asked(stored: StoredModels | None, models: Sequence[Model]) -> tuple[str, ...]:
    """Say of a run's folder that what was measured is not what was asked, if other models are."""
    if stored is None or tuple(models) == as_models(stored.settings()["models"], "models"):
        return ()
    return (
        "the models given are not those of the run: its rounds were measured with its own models' shares",
    )


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
