"""What stands behind a forecast: proved statements checked on it, a fitted tail beyond its support."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, Describer
from recurate.log.trajectory import TAIL, Row
from recurate.rules.rule import Rule
from recurate.theory.bounds import Bound, check_bounds
from recurate.theory.loop_model import LoopModel
from recurate.theory.population import Population
from recurate.theory.tail import FittedTail, fit_tail


def check_model(model: LoopModel) -> tuple[Bound, ...]:
    """Return every proved statement of :mod:`recurate.theory.bounds`, checked on the model's laws.

    None where selection happens within contexts or by a rule that is not of the random-utility kind: the
    statements are about one population and slates.
    """
    setting, population = model.setting, model.population
    rules = [stage.rule for stage in setting.stages]
    if model.mode != "one" or not all(isinstance(rule, Rule) for rule in rules):
        return ()
    slates = [rule for rule in rules if isinstance(rule, Rule)]
    noises = {rule.noise.name for rule in slates}
    return check_bounds(
        population.rewards,
        list(population.play(setting)),
        weights=population.weights,
        k=slates[0].largest,
        temperature=setting.temperature,
        real_fraction=setting.real_fraction,
        reference=population.reference,
        noise=noises.pop() if len(noises) == 1 else "mixed",
        stages=[rule.largest for rule in slates],
        accumulate=setting.accumulate,
        efficacy=setting.efficacy,
        lapse=max(rule.lapse for rule in slates),
        keep=slates[0].keep,
        varied=any(len(rule.sizes) > 1 for rule in slates),
    )


def plain_bounds(bounds: tuple[Bound, ...]) -> list[dict[str, Any]]:
    """Return bounds as plain values, for files and reports."""
    names = ("name", "statement", "source", "verdict", "why", "round", "value", "measured", "slack")
    return [{name: _finite(getattr(bound, name)) for name in names} for bound in bounds]


def _finite(value: Any) -> Any:
    """JSON knows no infinities."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def continue_tail(model: LoopModel, ends: int | None) -> tuple[list[Row], list[str]]:
    """Return the rounds from ``ends`` on as forecast with a fitted tail, and what to know of it.

    Nothing is returned while the effective support lasts (``ends`` is None).
    """
    atoms = model.describer.candidates
    if ends is None:
        return [], []
    if model.mode != "one" or len(atoms.names) > 1:
        return [], ["a fitted tail needs one reward and one context: none is shown"]
    if model.population.reference is not model.population.law:
        return [], ["a fitted tail needs the model's own law as the reference: none is shown"]
    try:
        fitted = fit_tail(atoms.rewards[:, 0], model.population.law)
        rewards, law = fitted.extended(atoms.rewards[:, 0], model.population.law)
    except InputError as error:
        return [], [f"no tail could be fitted: {error.what} (got: {error.got})"]
    population = Population(rewards, law=law, weights=np.array(model.setting.weights))
    describer = Describer(Candidates(population.rewards, atoms.names), model.setting.temperature)
    rows = []
    for t, law_t in enumerate(population.play(model.setting)):
        if t >= ends:
            rows += [
                row
                for row in describer.rows(t, TAIL, describer.values(law_t))
                if row.quantity == "mean_reward" or (fitted.finite_exp and row.quantity == "mean_exp_reward")
            ]
    return rows, [_about(fitted, ends)]


def _about(fitted: FittedTail, ends: int) -> str:
    end = "without end" if math.isinf(fitted.end) else f"up to {fitted.end:.4g}"
    return (
        f"from round {ends} on a fitted tail continues the forecast: a generalized Pareto law above "
        f"{fitted.threshold:.4g} (shape {fitted.shape:.2f}, standard error {fitted.shape_error:.2f}, from "
        f"{fitted.count:.0f} candidates), {end}; it is a guess beyond the data"
    )
