"""Where will this loop go? The exact law of every later round, from the candidates of one round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from recurate.core.errors import InputError, is_number
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, as_candidates
from recurate.metrics.partition import Cells
from recurate.rules import Noise, Rule, Selection, noise_named
from recurate.theory.forecast import Forecast, predict
from recurate.theory.population import check_law, check_weights
from recurate.theory.setting import Setting, Stage, check_efficacy, check_real_fraction


def forecast(
    rewards: ArrayLike | Candidates,
    *,
    k: float | Mapping[float, float] = 4,
    rounds: int = 10,
    temperature: float = 1.0,
    noise: str | Noise = "gumbel",
    keep: int = 1,
    lapse: float = 0.0,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    weights: Sequence[float] | None = None,
    real_fraction: float = 0.0,
    accumulate: bool = False,
    efficacy: float = 1.0,
    groups: ArrayLike | None = None,
    track: Mapping[str, ArrayLike] | None = None,
    contexts: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    law: ArrayLike | None = None,
    reference: ArrayLike | Candidates | None = None,
    picks: int | None = None,
    cells: Cells | None = None,
    tail: bool = False,
    bounds: bool = False,
    first: int = 0,
    seed: int = 0,
) -> Forecast:
    r"""Forecast a self-consuming loop from one round's candidates and their rewards.

    The exact infinite-data law p_{t+1} = rho p_ref + (1 - rho) p_t W_t is pushed through all rounds
    (:mod:`recurate.theory.setting`); no sampling is involved but in the bands.

    Args:
        rewards: shape (candidates,) or (candidates, rewards); or ``Candidates``.
        k: slate size, a whole number >= 1 or ``math.inf``; or a distribution, ``{2: 0.5, 4: 0.5}``.
        rounds: how many rounds to forecast.
        temperature: divides the rewards in the pick.
        noise: ``gumbel`` (Luce choice), ``gaussian`` (Thurstone), ``none`` (best of K), or a ``Noise``.
        keep: how many of the K are kept.
        lapse: share of slates kept from at random.
        rule: any rule, in place of the five above (``Threshold``, ``TopFraction``).
        then: further stages of a round, each selecting from what the one before kept.
        weights: share of slates picked by each reward; equal if None.
        real_fraction: share rho of real data in each retraining set.
        accumulate: whether training sets keep the data of all rounds before.
        efficacy: how much of the way to its training law retraining moves the model, in (0, 1].
        groups: group of each candidate, shape (candidates,), for ``share`` and ``entropy``.
        track: further columns (candidates,) whose expectation is forecast, as ``mean:NAME``.
        contexts: context of each candidate. Selection happens within contexts: with 500 candidates or
            more in each, every context is its own population; with fewer, residuals from the contexts'
            means are pooled (:mod:`recurate.theory.residuals`). Raw rewards are never pooled.
        names: names of the rewards.
        law: masses of the candidates under the model's law p_0; uniform if None.
        reference: rewards of real data, p_ref; None: the model's own law, p_ref = p_0. With groups or
            tracked columns and real_fraction > 0, pass ``Candidates``.
        picks: picks a round, for the bands; None: infinitely many.
        cells: partition behind ``kl_to_reference``, to match a measurement's; see :func:`predict`.
        tail: whether a fitted tail continues rounds beyond the effective support, as source
            ``fitted tail`` (:mod:`recurate.theory.tail`; one reward, one context).
        bounds: whether to check the proved statements on this population (:mod:`recurate.theory.bounds`).
        first: rounds played before these candidates, whose data an accumulating loop has kept.
        seed: of the simulations behind the bands.

    Returns:
        A :class:`Forecast`. Quantities: ``mean_reward``, ``mean_exp_reward`` = E exp(r / temperature),
        ``var_exp_reward``, ``kl_to_reference`` (between reward laws: a lower bound of the models' KL),
        ``share`` of each group and their ``entropy`` (nats), ``effective_support`` = 1 / sum p^2.

    Raises:
        InputError: a value is out of range or shapes disagree.

    >>> import recurate
    >>> result = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1)
    >>> result.trajectory.values("mean_reward").round(4)
    array([1.    , 1.2719])
    """
    candidates = as_candidates(rewards, names=names, groups=groups, track=track, contexts=contexts)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    setting = setting_of(
        len(candidates.names),
        k=k,
        rounds=rounds,
        temperature=temperature,
        noise=noise,
        keep=keep,
        lapse=lapse,
        rule=rule,
        then=then,
        weights=weights,
        real_fraction=real_fraction,
        accumulate=accumulate,
        efficacy=efficacy,
        picks=picks,
        first=first,
    )
    return predict(
        candidates,
        setting,
        law=None if law is None else check_law("law", law, len(candidates)),
        reference=reference,
        cells=cells,
        stream=Stream(seed),
        tail=tail,
        bounds=bounds,
    )


def setting_of(
    dimension: int,
    *,
    k: float | Mapping[float, float] = 4,
    rounds: int = 10,
    temperature: float = 1.0,
    noise: str | Noise = "gumbel",
    keep: int = 1,
    lapse: float = 0.0,
    rule: Selection | None = None,
    then: Sequence[Stage] = (),
    weights: Sequence[float] | None = None,
    real_fraction: float = 0.0,
    accumulate: bool = False,
    efficacy: float = 1.0,
    picks: int | None = None,
    first: int = 0,
) -> Setting:
    """Check what happens every round, for ``dimension`` rewards; see :func:`forecast`."""
    plain = (k, temperature, noise, keep, lapse)
    if rule is not None and plain != (4, 1.0, "gumbel", 1, 0.0):
        raise InputError(
            "a rule brings its own k, temperature, noise, keep and lapse",
            got=f"rule and {plain}",
            remedy="leave these five out, or leave out the rule",
        )
    if rule is None:
        rule = Rule(k, temperature, noise_named(noise) if isinstance(noise, str) else noise, keep, lapse)
    own = check_weights(weights, dimension)
    stages = [(s.rule, own if s.weights is None else check_weights(s.weights, dimension)) for s in then]
    return Setting(
        rule=rule,
        weights=tuple(own.tolist()),
        real_fraction=check_real_fraction(real_fraction),
        rounds=_check_count("rounds", rounds, 0),
        picks=None if picks is None else _check_count("picks", picks, 1),
        then=tuple(Stage(stage, tuple(shares.tolist())) for stage, shares in stages),
        accumulate=bool(accumulate),
        efficacy=check_efficacy(efficacy),
        first=_check_count("first", first, 0),
    )


def _check_count(name: str, value: int, least: int) -> int:
    if not is_number(value) or not math.isfinite(value) or value != int(value) or not least <= value < 2**62:
        raise InputError(
            f"{name} must be a whole number >= {least}",
            got=value,
            remedy=f"for example {name} = 10",
        )
    return int(value)
