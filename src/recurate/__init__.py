"""recurate: run, forecast, plan and audit self-consuming training loops with curated data.

>>> import recurate
>>> recurate.forecast([0.0, 1.0, 2.0], k=4, rounds=3).trajectory.values("mean_reward").round(3)
array([1.   , 1.438, 1.736, 1.884])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recurate.choices import Choices, NoEstimate, conditional_logit, item_rewards, latent_classes
    from recurate.core.errors import InputError, RecurateError
    from recurate.log.candidates import Candidates, as_candidates
    from recurate.log.logger import PickLogger
    from recurate.log.schema import Log, read_log, write_log
    from recurate.log.trajectory import Trajectory
    from recurate.loop.config import read_config
    from recurate.loop.driver import resume, run
    from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
    from recurate.rules.pools import Threshold, TopFraction
    from recurate.rules.rule import Rule
    from recurate.theory.bounds import check_bounds
    from recurate.theory.forecast import Forecast
    from recurate.theory.limits import Limit, attractors, limit
    from recurate.theory.population import Population
    from recurate.theory.setting import Setting, Stage
    from recurate.theory.survival import survival
    from recurate.theory.welfare import welfare
    from recurate.verbs.audit.audit import Audit, audit_log
    from recurate.verbs.audit.declared import Declared, read_declared
    from recurate.verbs.fit.fit import Fit, FitOptions, fit_log
    from recurate.verbs.forecast.forecast import forecast
    from recurate.verbs.plan.evaluation import Constraints
    from recurate.verbs.plan.plan import Plan, plan

# Loaded on first use, so that `import recurate` is instant.
_HOMES = {
    "Audit": "recurate.verbs.audit.audit",
    "audit_log": "recurate.verbs.audit.audit",
    "Declared": "recurate.verbs.audit.declared",
    "read_declared": "recurate.verbs.audit.declared",
    "Choices": "recurate.choices",
    "NoEstimate": "recurate.choices",
    "conditional_logit": "recurate.choices",
    "item_rewards": "recurate.choices",
    "latent_classes": "recurate.choices",
    "Fit": "recurate.verbs.fit.fit",
    "FitOptions": "recurate.verbs.fit.fit",
    "fit_log": "recurate.verbs.fit.fit",
    "Candidates": "recurate.log.candidates",
    "as_candidates": "recurate.log.candidates",
    "InputError": "recurate.core.errors",
    "RecurateError": "recurate.core.errors",
    "Forecast": "recurate.theory.forecast",
    "forecast": "recurate.verbs.forecast.forecast",
    "read_config": "recurate.loop.config",
    "run": "recurate.loop.driver",
    "resume": "recurate.loop.driver",
    "PickLogger": "recurate.log.logger",
    "Log": "recurate.log.schema",
    "read_log": "recurate.log.schema",
    "write_log": "recurate.log.schema",
    "GAUSSIAN": "recurate.rules.noise",
    "GUMBEL": "recurate.rules.noise",
    "NO_NOISE": "recurate.rules.noise",
    "Noise": "recurate.rules.noise",
    "Rule": "recurate.rules.rule",
    "Threshold": "recurate.rules.pools",
    "TopFraction": "recurate.rules.pools",
    "check_bounds": "recurate.theory.bounds",
    "Constraints": "recurate.verbs.plan.evaluation",
    "Plan": "recurate.verbs.plan.plan",
    "plan": "recurate.verbs.plan.plan",
    "Limit": "recurate.theory.limits",
    "attractors": "recurate.theory.limits",
    "limit": "recurate.theory.limits",
    "survival": "recurate.theory.survival",
    "welfare": "recurate.theory.welfare",
    "Setting": "recurate.theory.setting",
    "Stage": "recurate.theory.setting",
    "Population": "recurate.theory.population",
    "Trajectory": "recurate.log.trajectory",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("recurate.core.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'recurate' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
