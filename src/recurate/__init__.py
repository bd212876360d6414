"""recurate: run, forecast, plan and audit self-consuming training loops with curated data.

>>> import recurate
>>> recurate.forecast([0.0, 1.0, 2.0], k=4, rounds=3).trajectory.values("mean_reward").round(3)
array([1.   , 1.438, 1.736, 1.884])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recurate.auditing import Audit, audit_log
    from recurate.audits.declared import Declared, read_declared
    from recurate.candidates import Candidates, as_candidates
    from recurate.choices import Choices, NoEstimate, conditional_logit, item_rewards, latent_classes
    from recurate.errors import InputError, RecurateError
    from recurate.fitting import Fit, FitOptions, fit_log
    from recurate.forecasting import Forecast, forecast
    from recurate.loop.config import read_config
    from recurate.loop.run import resume, run
    from recurate.picklog import PickLogger
    from recurate.plandesk import Constraints
    from recurate.planning import Plan, plan
    from recurate.records import Log, read_log, write_log
    from recurate.rules.acceptance import Threshold, TopFraction
    from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
    from recurate.rules.rule import Rule
    from recurate.theory.bounds import check_bounds
    from recurate.theory.limits import Limit, attractors, limit
    from recurate.theory.population import Population
    from recurate.theory.setting import Setting, Stage
    from recurate.theory.survival import survival
    from recurate.theory.welfare import welfare
    from recurate.trajectory import Trajectory

# Loaded on first use, so that `import recurate` is instant.
_HOMES = {
    "Audit": "recurate.auditing",
    "audit_log": "recurate.auditing",
    "Declared": "recurate.audits.declared",
    "read_declared": "recurate.audits.declared",
    "Choices": "recurate.choices",
    "NoEstimate": "recurate.choices",
    "conditional_logit": "recurate.choices",
    "item_rewards": "recurate.choices",
    "latent_classes": "recurate.choices",
    "Fit": "recurate.fitting",
    "FitOptions": "recurate.fitting",
    "fit_log": "recurate.fitting",
    "Candidates": "recurate.candidates",
    "as_candidates": "recurate.candidates",
    "InputError": "recurate.errors",
    "RecurateError": "recurate.errors",
    "Forecast": "recurate.forecasting",
    "forecast": "recurate.forecasting",
    "read_config": "recurate.loop.config",
    "run": "recurate.loop.run",
    "resume": "recurate.loop.run",
    "PickLogger": "recurate.picklog",
    "Log": "recurate.records",
    "read_log": "recurate.records",
    "write_log": "recurate.records",
    "GAUSSIAN": "recurate.rules.noise",
    "GUMBEL": "recurate.rules.noise",
    "NO_NOISE": "recurate.rules.noise",
    "Noise": "recurate.rules.noise",
    "Rule": "recurate.rules.rule",
    "Threshold": "recurate.rules.acceptance",
    "TopFraction": "recurate.rules.acceptance",
    "check_bounds": "recurate.theory.bounds",
    "Constraints": "recurate.plandesk",
    "Plan": "recurate.planning",
    "plan": "recurate.planning",
    "Limit": "recurate.theory.limits",
    "attractors": "recurate.theory.limits",
    "limit": "recurate.theory.limits",
    "survival": "recurate.theory.survival",
    "welfare": "recurate.theory.welfare",
    "Setting": "recurate.theory.setting",
    "Stage": "recurate.theory.setting",
    "Population": "recurate.theory.population",
    "Trajectory": "recurate.trajectory",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recurate' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
