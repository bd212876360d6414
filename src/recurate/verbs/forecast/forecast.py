"""Where will this loop go? The exact law of every later round, from the candidates of one round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, as_candidates
from recurate.metrics.partition import Cells
from recurate.rules import Noise, Selection
from recurate.theory.forecast import Forecast, predict
from recurate.theory.population import check_law
from recurate.theory.setting import Setting, Stage


def forecast(
    rewards: ArrayLike | Candidates,
    *,
    k: float | Mapping[float, float] | None = None,
    rounds: int = 10,
    temperature: float | None = None,
    noise: str | Noise | None = None,
    keep: int | None = None,
    lapse: float | None = None,
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

    The law of the model in the infinite-data limit,

    .. math:: p_{t+1} = (1 - \eta) p_t + \eta\, (\rho\, p_{ref} + (1 - \rho)\, p_t W_t), \qquad
        W_t = \sum_i w_i H_i,

    is computed exactly for every round, without sampling (Ferbach et al. 2024, arXiv 2407.09499, Lemma 2.1
    and section 2.2; several rewards: Falahati et al. 2026, arXiv 2605.07724; stages: arXiv 2511.12804). H_i
    is the multiplier of reward i under the rule, rho the real fraction and eta the efficacy.

    Args:
        rewards: shape (candidates,) or (candidates, rewards); or ``Candidates``.
        k: slate size, a whole number >= 1 or ``math.inf``; or a distribution, ``{2: 0.5, 4: 0.5}``; 4 if
            None.
        rounds: the number of rounds to forecast.
        temperature: divides the rewards in the pick, in their unit; 1 if None.
        noise: ``gumbel`` (Luce choice, the default), ``gaussian`` (Thurstone), ``none`` (best of K), or a
            ``Noise``.
        keep: the number kept of each slate; 1 if None.
        lapse: the share of slates picked from at random; 0 if None.
        rule: any rule, in place of the five above (``Threshold``, ``TopFraction``).
        then: further stages of a round, each selecting from what the one before kept.
        weights: w, the share of slates judged by each reward; equal if None.
        real_fraction: rho, the share of real data in each retraining set.
        accumulate: whether training sets keep the data of all earlier rounds.
        efficacy: eta, the part of the way to its training law that retraining moves the model, in (0, 1].
        groups: the group of each candidate, shape (candidates,), for ``share`` and ``entropy``.
        track: further columns (candidates,) whose expectation is forecast, as ``mean:NAME``.
        contexts: the context of each candidate. Selection happens within contexts: with 500 candidates or
            more in each, every context is its own population; with fewer, residuals from the contexts'
            means are pooled (:mod:`recurate.theory.residuals`). Raw rewards are never pooled.
        names: names of the rewards.
        law: p_0, the masses of the candidates under the model, shape (candidates,); uniform if None.
        reference: rewards of real data, p_ref; None: the model's own law, p_ref = p_0. With groups or
            tracked columns and real_fraction > 0, pass ``Candidates``.
        picks: the number of picks per round, for the bands; None: infinitely many.
        cells: the partition behind ``kl_to_reference``, to match a measurement's.
        tail: whether a fitted tail continues rounds beyond the effective support, as source
            ``fitted tail`` (:mod:`recurate.theory.tail`; one reward, one context).
        bounds: whether to check the proved statements on this population (:mod:`recurate.theory.bounds`).
        first: the number of rounds played before, whose data an accumulating loop has kept.
        seed: of the simulations behind the bands.

    Returns:
        A :class:`Forecast`. Its quantities: ``mean_reward``, ``mean_exp_reward`` = E exp(r / temperature),
        ``var_exp_reward``, ``kl_to_reference`` (nats, between reward laws: a lower bound of the models' KL),
        ``share`` of each group and their ``entropy`` (nats), ``effective_support`` = 1 / sum p^2.

    Raises:
        InputError: a value is out of range, shapes disagree, or both a rule and one of its parts are given.

    >>> import recurate
    >>> result = recurate.forecast([0.0, 1.0, 2.0], k=2, rounds=1)
    >>> result.trajectory.values("mean_reward").round(4)
    array([1.    , 1.2719])
    """
    candidates = as_candidates(rewards, names=names, groups=groups, track=track, contexts=contexts)
    if reference is not None and not isinstance(reference, Candidates):
        reference = as_candidates(reference, names=candidates.names)
    setting = Setting.of(
        rule, k=k, temperature=temperature, noise=noise, keep=keep, lapse=lapse,
        weights=weights, real_fraction=real_fraction, rounds=rounds, picks=picks, then=then,
        accumulate=accumulate, efficacy=efficacy, first=first,
    )  # fmt: skip
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
