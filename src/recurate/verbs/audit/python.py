"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurate.core.citations import cite
from recurate.log.folders import StoredRun, is_fit
from recurate.log.inputs import folder_of, name_of
from recurate.verbs.audit.audit import Audit, audit_log
from recurate.verbs.audit.declared import Declared, parse_declared, read_declared
from recurate.verbs.audit.report import audit_result
from recurate.verbs.fit.fit import FitOptions, Progress
from recurate.verbs.options import given, listed, wanted
from recurate.verbs.result import Result


def audit(
    log: Any,
    *,
    declared: Mapping[str, Any] | Declared | str | Path | None = None,
    reward: str | Sequence[str] | None = None,
    slate: str | None = None,
    pick: str | None = None,
    rank: str | None = None,
    rating: str | None = None,
    chooser: str | None = None,
    item: str | None = None,
    position: str | None = None,
    context: str | None = None,
    round: str | None = None,  # noqa: A002
    form: str | None = None,
    alternatives: Sequence[str] = (),
    places_from: int | None = None,
    include: str | Sequence[str] | None = None,
    feature: str | Sequence[str] | None = None,
    ties: str = "davidson",
    progress: Progress | None = None,
) -> Result[Audit]:
    r"""Compare a loop's declaration with its log.

    Recovers from the log the numbers of candidates shown and kept, the rule of the picks (Luce, Thurstone,
    best of K, a fraction of the pool, one softmax over the pool, uniform) with its temperature and lapses,
    position effects, and reuse of candidates or seeds across rounds. Each round's change of the mean reward
    is decomposed,

    .. math:: \bar r_{t+1} - \bar r_t = \text{selection} + \text{sampling} + \text{transmission},

    into the exact effect of the recovered rule, the error of finitely many picks, and the effect of
    retraining. The level of each test is 2e-4, so that all tests together accuse fewer than one honest log in
    a hundred.

    Args:
        log: Log, or any table of choices that ``fit`` reads: a path or several, a run's or fit's folder, an
            Arrow table, a pandas or polars frame, a Hugging Face dataset or a ``Log``.
        declared: Declaration: ``{"k": 4, "temperature": 1.0}``, a ``Declared``, the same as text, or a TOML
            file. Keys: k, temperature, noise, lapse, keep, top, threshold, picks, slates, real_fraction,
            weights. Default: a run's own configuration, else nothing.
        reward: Reward columns. Default: ``reward`` and ``reward_...``; without any, rewards are fitted to the
            picks.
        slate: Column of slates, if rows are candidates.
        pick: Column of picks: yes or no, or the picked alternative.
        rank: Column of ranks, where 1 is the best and equal ranks are ties.
        rating: Column of ratings, where higher is better and equal ratings are ties.
        chooser: Column of choosers.
        item: Column of items or kinds of candidates.
        position: Column of the places in which candidates were shown.
        context: Column of contexts (prompts); ``none`` for none.
        round: Column of rounds.
        form: ``long``, ``wide``, ``pairs`` or ``lists``. Default: guessed.
        alternatives: Alternatives of a wide table, in the order of the codes in its picks.
        places_from: Number of the first place, 0 or 1, where picks are places. Default: from the values.
        include: Kinds of answers in an export of ``recurate serve`` that count as well: ``repeats``,
            ``checks``, ``simulated``. None: none of them.
        feature: Columns that describe the candidates of a log without rewards.
        ties: ``davidson``, ``half`` or ``drop``, as in ``fit``.
        progress: Function called with a line of text at the start of each part.

    Returns:
        A result with ``findings``, ``mismatches``, ``recovered`` and ``changes``.

    Raises:
        InputError: If the log or the declaration cannot be read or used.

    The decomposition is G. R. Price's equation (*Selection and Covariance*, Nature 227, 1970) with a separate
    sampling term; ``recurate docs picks`` describes the tests.

    >>> import numpy as np
    >>> import recurate
    >>> rng = np.random.default_rng(0)
    >>> reward = rng.normal(size=(500, 4))
    >>> picked = (reward / 0.1 + rng.gumbel(size=reward.shape)).argmax(axis=1)
    >>> table = {
    ...     "slate": np.repeat(np.arange(500), 4), "reward": reward.ravel(),
    ...     "picked": (np.arange(4) == picked[:, None]).ravel(),
    ... }
    >>> found = recurate.audit(table, declared={"k": 4, "temperature": 1.0})
    >>> [finding.aspect for finding in found.mismatches]
    ['temperature']
    """
    cite("luce1959", "price1970")
    options = FitOptions(
        given=given(
            slate=slate, pick=pick, rank=rank, rating=rating, chooser=chooser, item=item, position=position,
            context=context, round=round, form=form, alternatives=alternatives, places_from=places_from,
            include=include, rewards=listed(reward),
        ),
        wanted=wanted(feature, None, None, ties),
    )  # fmt: skip
    return audit_result(audit_log(log, _claim(declared, log), options, progress), name_of(log))


def _claim(declared: Mapping[str, Any] | Declared | str | Path | None, log: Any) -> Declared | None:
    if isinstance(declared, Mapping):
        return parse_declared(declared)
    if declared is None:
        folder = folder_of(log)
        if folder is None or is_fit(folder):
            return None
        return parse_declared(StoredRun.open(folder).settings(), str(folder / "config.toml"))
    return declared if isinstance(declared, Declared) else read_declared(declared)
