"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurate.core.citations import cite
from recurate.log.inputs import name_of
from recurate.verbs.fit.fit import Fit, FitOptions, Progress, fit_log
from recurate.verbs.fit.report import fit_result
from recurate.verbs.options import roles, wanted
from recurate.verbs.result import Result


def fit(
    log: Any,
    *,
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
    score: str | Sequence[str] | None = None,
    model: str | None = None,
    ties: str = "davidson",
    groups: int | None = None,
    starts: int | None = None,
    shrinkage: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result[Fit]:
    r"""Learn rewards, temperature, lapses, positions and preference groups from picks; test Luce's model.

    In a slate of candidates with features x_1, ..., x_K (or a score, or items) the pick is taken to be
    drawn with

    .. math:: P(i) = e^{u_i} / \sum_j e^{u_j}, \qquad u_i = \beta^\top x_i,

    whose likelihood is maximised; with G preference groups every chooser has one of G vectors beta_g, with
    weights w_g. Rival rules (lapses, Thurstone, best of K) are compared on held-out slates, and six tests ask
    whether Luce's model holds.

    Args:
        log: a table of choices, one row per candidate or per slate, with picks, ties or rankings: a path or
            several, a run's folder, an Arrow table, a pandas or polars frame, a Hugging Face dataset or a
            ``Log``.
        slate: column of slates, where rows are candidates; columns that are not named are guessed.
        pick: column of picks: yes or no, or the picked alternative.
        rank: column of ranks, 1 the best; equal ones are ties.
        chooser: column of who picked.
        item: column of items or kinds of candidates.
        position: column of where a candidate was shown.
        context: column of contexts (prompts).
        form: ``long``, ``wide``, ``pairs`` or ``lists``; None: guessed.
        alternatives: of a wide table, in the order of the codes in its picks.
        feature: columns that describe candidates; ``characters:COLUMN`` counts a text's.
        score: columns of a score that the picker may have used; its temperature is fitted.
        model: ``score``, ``features`` or ``items``; None: by the columns that exist.
        ties: ``davidson`` (ties are an outcome of their own), ``half`` or ``drop``.
        groups: how many preference groups; 0 for none, None to choose.
        starts: starts for each number of groups; None: 5, or 15 where choosers picked rarely.
        shrinkage: penalty that makes an estimate exist; 0 is none.
        seed: of the starts and of what is held out.
        progress: called with a line whenever a part begins.

    Returns:
        A result whose ``logit`` has coefficients and standard errors; ``items``, ``groups``, ``positions``,
        ``temperature``, ``checks``, ``rules`` and ``verdict`` likewise; ``rewards`` of the included
        candidates, (rows, groups or 1), at temperature 1 with mean zero. Saved, it can be forecast from.

    Raises:
        InputError: the table cannot be read or used.
        NoEstimate: no estimate exists, and why.

    R. D. Luce, *Individual Choice Behavior*, 1959; D. McFadden, *Conditional Logit Analysis of Qualitative
    Choice Behavior*, 1974; for ties R. R. Davidson, JASA 65, 1970. docs/picks.md has the tests.

    >>> import numpy as np
    >>> import recurate
    >>> rng = np.random.default_rng(0)
    >>> length = rng.normal(size=(2000, 3))
    >>> picked = (length + rng.gumbel(size=length.shape)).argmax(axis=1)
    >>> table = {
    ...     "slate": np.repeat(np.arange(2000), 3), "length": length.ravel(),
    ...     "picked": (np.arange(3) == picked[:, None]).ravel(),
    ... }
    >>> found = recurate.fit(table)
    >>> found.logit.names, found.logit.coefficients.round(1)
    (('length',), array([1.]))
    """
    cite("luce1959", "mcfadden1974", *(["davidson1970"] if ties == "davidson" else []))
    options = FitOptions(
        roles=roles(
            slate=slate, pick=pick, rank=rank, chooser=chooser, item=item, position=position, context=context
        ),
        form=form, alternatives=tuple(alternatives), wanted=wanted(feature, score, model, ties),
        classes=groups, starts=starts, shrinkage=shrinkage, seed=seed,
    )  # fmt: skip
    return fit_result(fit_log(log, options, progress), name_of(log))
