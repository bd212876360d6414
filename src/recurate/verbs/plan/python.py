"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, as_candidates
from recurate.log.inputs import folder_of, is_array, log_of, name_of
from recurate.theory.forecast import split_log
from recurate.theory.setting import check_weights
from recurate.verbs.forecast.from_log import LogOptions, picks_of, reference_of, run_settings
from recurate.verbs.options import listed
from recurate.verbs.plan.evaluation import Constraints, Goal
from recurate.verbs.plan.plan import Plan, plan_settings, settings
from recurate.verbs.plan.report import plan_result
from recurate.verbs.result import Result


def plan(
    log: Any,
    *,
    reward: str | Sequence[str] | None = None,
    group: str | ArrayLike | None = None,
    maximise: str = "reward",
    importance: Sequence[float] | None = None,
    rounds: int | None = 10,
    floor: float | None = None,
    kl: float | None = None,
    entropy: float | None = None,
    variance: float | None = None,
    budget: float | None = None,
    picks: int | None = None,
    k: Sequence[int | float] | None = None,
    real_fraction: Sequence[float] | None = None,
    temperature: Sequence[float] | None = None,
    weights: Sequence[Sequence[float]] | None = None,
    reference: Any = None,
    refine: bool = True,
) -> Result[Plan]:
    r"""Return the best K, real fraction, weights and temperature under constraints.

    Solves, over a grid of settings s = (K, rho, w, tau) that is refined around the best,

    .. math:: \max_s J(p_T^s) \quad \text{subject to} \quad \text{share}_g \ge \text{floor},\;
        \mathrm{KL}(p_T^s \| p_\mathrm{ref}) \le \text{kl},\; \dots

    where p_T is the forecast law after T rounds, or its limit. The grid is forecast on a compressed
    population; the chosen setting and the frontiers are forecast again on all candidates.

    Args:
        log: rewards of one round's candidates, an array (candidates,) or (candidates, rewards), or
            ``Candidates``; or a log: a path or several, a run's or fit's folder, an Arrow table, a pandas
            or polars frame, a Hugging Face dataset or a ``Log``, whose first round is used.
        reward: the reward columns; with arrays, the names of the rewards.
        group: the column of groups; with arrays, the group of each candidate. None: the reward whose maximum
            a candidate is closest to.
        maximise: J: ``reward`` (sum of importance x E r), ``nash`` (sum of importance x log E exp r) or
            ``worst`` (the smallest E r_i).
        importance: the weight of each reward in J, shape (rewards,); equal if None.
        rounds: the number T of rounds; None: the limit.
        floor: the smallest share of every group under the last law, in [0, 1 / groups].
        kl: the largest divergence of the last law from the reference, in nats.
        entropy: the smallest entropy of the groups' shares under the last law, in nats.
        variance: the smallest share of every reward's first variance that is kept.
        budget: the largest number of candidates in all, K times picks times rounds.
        picks: the number of picks per round, for the cost; None: the log's, or 1000.
        k: slate sizes to choose from; None: 2 to 32.
        real_fraction: real fractions to choose from; None: 0 to 0.7.
        temperature: temperatures to choose from; None: the one that a run or fit records, else 1.
        weights: preference weights to choose from; None: with several rewards a grid.
        reference: real data: anything that ``log`` may be; None: the log's, else the candidates themselves.
        refine: whether to refine the grid around the best setting.

    Returns:
        A result with ``best`` (None if no setting keeps every constraint), ``closest``, ``binding``, the
        frontiers ``diversity`` and ``compute``, ``sensitivity`` to rewards that are off by 10 %, and with
        several rewards ``ends``: limits, survivors and phase diagrams.

    Raises:
        InputError: a value is out of range, floors sum to more than one, rewards are constant, or a group
            is empty.

    The loop: D. Ferbach et al., NeurIPS 2024 (arXiv 2407.09499), section 2.2. Limits and survival of groups:
    Falahati et al., *Curated Synthetic Data Doesn't Have to Collapse*, ICML 2026 (arXiv 2605.07724).
    ``docs/plans.md`` has the mathematics.

    >>> import numpy as np
    >>> import recurate
    >>> rewards = np.random.default_rng(0).normal(size=(500, 2))
    >>> found = recurate.plan(rewards, kl=1.0, floor=0.2, rounds=4, k=[2, 4], real_fraction=[0.0, 0.3])
    >>> found.best.feasible, found.best.kl <= 1.0, min(found.best.shares) >= 0.2
    (True, True, True)
    """
    cite("ferbach2024", "falahati2026")
    own = {} if is_array(log) else run_settings(folder_of(log))
    candidates, real, own_picks = _data(log, listed(reward), group, reference)
    count = len(candidates.names)
    goal = Goal(
        maximise,
        check_weights(importance, count),
        rounds,
        own_picks or 1000 if picks is None else picks,
        Constraints(floor, kl, entropy, variance, budget),
    )
    if temperature is None and "temperature" in own:
        temperature = [own["temperature"]]
    space = settings(count, k, real_fraction, weights, temperature)
    found = plan_settings(candidates, real, goal, space, refine=refine)
    return plan_result(replace(found, warnings=(*found.warnings, *_other_rule(own))), name_of(log))


def _other_rule(own: Mapping[str, Any]) -> list[str]:
    """Warn if the run or fit picks by another rule than the plan's."""
    parts = [f"noise = {own['noise']}"] if own.get("noise", "gumbel") != "gumbel" else []
    parts += [f"lapse = {own['lapse']:g}"] if own.get("lapse") else []
    return [f"the plan assumes Luce's model, but the folder records {', '.join(parts)}"] if parts else []


def _data(
    log: Any, rewards: Sequence[str] | None, group: str | ArrayLike | None, reference: Any
) -> tuple[Candidates, Candidates | None, int | None]:
    """Return one round's candidates, the real data, and the log's number of picks per round."""
    real, picks, column = None, None, None
    if is_array(log):
        candidates = as_candidates(log, names=rewards, groups=group)
    elif group is None or isinstance(group, str):
        column = group
        table = log_of(log, rewards, text=[] if column is None else [column])
        candidates, real = split_log(table, group=column)
        picks = picks_of(table)
    else:
        raise InputError(
            "group must name a column of the log", got=type(group).__name__, remedy="group='COLUMN'"
        )
    if reference is not None:
        real = reference_of(reference, candidates, LogOptions(group=column))
    return candidates, real, picks
