r"""Several models on logged candidates: who trains on whom, their exact laws, and what is measured of them.

The atoms are the first round's candidates of all models, with all rewards; model i has mass on its own
candidates alone. The law of :class:`recurate.theory.several_models.SeveralModels` is played on them. In its
trajectory the group of a row is the name of a model; ``own_reward`` is a model's mean reward by its own
curator, sum_j w_ij E_{p_i} r_j, in the unit of the rewards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError, is_number, nearest
from recurate.log.candidates import Candidates
from recurate.log.trajectory import FORECAST, MEASURED, Row
from recurate.metrics import estimates
from recurate.metrics.estimates import NORMAL_975, standard_error
from recurate.theory.setting import Setting
from recurate.theory.several_models import SeveralModels, reversal_weight

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


def as_models(tables: Sequence[Any], where: str) -> tuple[Model, ...]:
    """Return checked models, whose names differ and who train on one another alone.

    Args:
        tables: tables with the keys ``name``, ``rewards`` (names of columns) and ``trains_on`` (shares by the
            models' names; without it, the model trains on its own picks).
        where: what the tables belong to, for messages.

    Raises:
        InputError: a key is unknown or missing, or a value is invalid.
    """
    found = tuple(check_model(table, f"{where}, model {i}") for i, table in enumerate(tables))
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


def check_model(table: Any, where: str) -> Model:
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
    # What is made exact once is not changed by reading it again.
    exact = total if abs(total - 1) > 1e-12 else 1.0
    return {str(name): float(share) / exact for name, share in given.items()}


def columns_of(models: Sequence[Model]) -> tuple[str, ...]:
    """Return the names of all models' rewards, each once."""
    return tuple(dict.fromkeys(column for model in models for column in model.rewards))


# --- the law ---


def played_on(
    first: Candidates, real: Candidates | None, models: Sequence[Model], setting: Setting
) -> SeveralModels:
    """Return the models on all candidates of the first round, then the real data if they are mixed in.

    Args:
        first: the first round's candidates, whose groups are the models.
        real: real data; None: the reference of each model is its own first law.
        models: the models.
        setting: the selection and retraining of every round.
    """
    names = [model.name for model in models]
    laws = np.column_stack([members_of(first, name) for name in names]).astype(float)
    atoms, reference = first, None
    if real is not None and (setting.real_fraction > 0 or setting.accumulate):
        atoms = replace(first, groups=None, labels=()).join(real)
        laws = np.vstack([laws, np.zeros((len(real), len(names)))])
        reference = np.concatenate([np.zeros(len(first)), np.ones(len(real))])
    mixing = [[model.trains_on.get(name, 0.0) for name in names] for model in models]
    return SeveralModels.of(
        atoms.rewards,
        laws=laws,
        curators=curators_of(models, first.names),
        mixing=mixing,
        reference=reference,
    )


def members_of(candidates: Candidates, name: str) -> BoolArray:
    """Return a mask of the candidates of a model, shape (candidates,)."""
    return np.asarray(candidates.groups == name)


def curators_of(models: Sequence[Model], columns: Sequence[str]) -> FloatArray:
    """Return the share of each model's slates judged by each column, shape (models, columns)."""
    return np.array([[(c in m.rewards) / len(m.rewards) for c in columns] for m in models])


def reversals_of(
    played: SeveralModels, setting: Setting, models: Sequence[Model]
) -> tuple[tuple[str, str, float], ...]:
    """Return, for every pair of up to PAIRS models, the share of the other's picks that reverses curation."""
    if len(models) > PAIRS or setting.rounds == 0:
        return ()
    return tuple(
        (one.name, other.name, reversal_weight(played, setting, i, j))
        for i, one in enumerate(models)
        for j, other in enumerate(models)
        if i != j
    )


def forecast_rows(
    laws: Sequence[FloatArray], played: SeveralModels, models: Sequence[Model], names: Sequence[str]
) -> list[Row]:
    """Return the rows of all rounds.

    Args:
        laws: the laws of rounds 0, 1, ..., each of shape (atoms, models).
        played: the models that were played.
        models: the models.
        names: the names of the population's rewards.
    """
    rows = []
    for t, law in enumerate(laws):
        means, own = law.T @ played.population.rewards, played.own_rewards(law)
        for i, model in enumerate(models):
            rows.append(Row(t, FORECAST, OWN, float(own[i]), None, model.name))
            rows += [
                Row(t, FORECAST, "mean_reward", float(value), column, model.name)
                for column, value in zip(names, means[i], strict=True)
            ]
            support = estimates.effective_support(law[:, i])
            rows.append(Row(t, FORECAST, "effective_support", support, None, model.name))
    return rows


def measured_rows(t: int, candidates: Candidates, models: Sequence[Model]) -> list[Row]:
    """Return the measured means of a round, with 95 % intervals, of the models with candidates in it.

    Args:
        t: number of the round.
        candidates: the round's candidates, whose groups are the models.
        models: the models.
    """
    rows: list[Row] = []
    for model, judged in zip(models, curators_of(models, candidates.names), strict=True):
        values = candidates.rewards[members_of(candidates, model.name)]
        if len(values):
            rows.append(_mean_row(t, OWN, values @ judged, None, model.name))
            rows += [
                _mean_row(t, "mean_reward", values[:, j], column, model.name)
                for j, column in enumerate(candidates.names)
            ]
    return rows


def _mean_row(t: int, quantity: str, values: FloatArray, reward: str | None, name: str) -> Row:
    mean = float(values.mean())
    if values.size < 2:
        return Row(t, MEASURED, quantity, mean, reward, name)
    reach = NORMAL_975 * standard_error(values - mean)
    return Row(t, MEASURED, quantity, mean, reward, name, mean - reach, mean + reach)
