"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recurate.core.citations import cite
from recurate.log.inputs import folder_of, name_of
from recurate.verbs.audit.audit import Audit, audit_log
from recurate.verbs.audit.declared import Declared, parse_declared, read_declared
from recurate.verbs.audit.report import audit_result
from recurate.verbs.fit.fit import FitOptions, Progress
from recurate.verbs.options import roles, wanted
from recurate.verbs.result import Result


def audit(
    log: Any,
    *,
    declared: Mapping[str, Any] | Declared | str | Path | None = None,
    reward: str | Sequence[str] | None = None,
    slate: str | None = None,
    pick: str | None = None,
    rank: str | None = None,
    chooser: str | None = None,
    item: str | None = None,
    position: str | None = None,
    context: str | None = None,
    form: str | None = None,
    alternatives: Sequence[str] = (),
    feature: str | Sequence[str] | None = None,
    ties: str = "davidson",
    progress: Progress | None = None,
) -> Result[Audit]:
    r"""Say whether a loop did what it claims: declared, recovered, evidence.

    Recovers from the log how many candidates were shown and kept, the rule that really picked (Luce,
    Thurstone, best of K, a fraction of the pool, one softmax over the pool, at random) with its temperature
    and lapses, position effects, and whether rounds share candidates or seeds. Each round's change of the
    mean reward is taken apart,

    .. math:: \bar r_{t+1} - \bar r_t = \text{selection} + \text{sampling} + \text{transmission}:

    what the recovered rule implies exactly, the chance of finitely many picks, and what retraining added or
    lost. Every test accuses at the level 2e-4, so that all together accuse fewer than one honest log in a
    hundred.

    Args:
        log: a log, or any table of choices that ``fit`` reads: a path or several, a run's or fit's folder, an
            Arrow table, a pandas or polars frame, a Hugging Face dataset or a ``Log``.
        declared: what the loop claims: ``{"k": 4, "temperature": 1.0}``, a ``Declared``, the same as text,
            or a TOML file. None: a run's own configuration, else nothing. Keys: k, temperature, noise,
            lapse, keep, top, threshold, picks, slates, real_fraction, weights.
        reward: reward columns; None: those called ``reward`` or ``reward_...``; without any they are fitted
            from the picks.
        slate: column of slates, where rows are candidates.
        pick: column of picks: yes or no, or the picked alternative.
        rank: column of ranks, 1 the best; equal ones are ties.
        chooser: column of who picked.
        item: column of items or kinds of candidates.
        position: column of where a candidate was shown.
        context: column of contexts (prompts).
        form: ``long``, ``wide``, ``pairs`` or ``lists``; None: guessed.
        alternatives: of a wide table, in the order of the codes in its picks.
        feature: columns that describe the candidates of a log without rewards.
        ties: ``davidson``, ``half`` or ``drop``, as in ``fit``.
        progress: called with a line whenever a part begins.

    Returns:
        A result with ``findings``, ``mismatches``, ``recovered`` and ``changes``.

    Raises:
        InputError: the log or the declaration cannot be read or used.

    The decomposition is G. R. Price's equation (*Selection and Covariance*, Nature 227, 1970) with sampling
    apart; docs/picks.md has the tests.

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
        roles=roles(
            slate=slate, pick=pick, rank=rank, chooser=chooser, item=item, position=position, context=context
        ),
        form=form, alternatives=tuple(alternatives), wanted=wanted(feature, reward, None, ties),
    )  # fmt: skip
    return audit_result(audit_log(log, _claim(declared, log), options, progress), name_of(log))


def _claim(declared: Mapping[str, Any] | Declared | str | Path | None, log: Any) -> Declared | None:
    if isinstance(declared, Mapping):
        return parse_declared(declared)
    if declared is None:
        folder = folder_of(log)
        own = None if folder is None else folder / "config.toml"
        return read_declared(own) if own is not None and own.is_file() else None
    return declared if isinstance(declared, Declared) else read_declared(declared)
