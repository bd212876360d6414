"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurate.core.citations import cite
from recurate.core.errors import InputError
from recurate.log.inputs import name_of
from recurate.verbs.fit.fit import Fit, FitOptions, Progress, fit_log
from recurate.verbs.fit.report import fit_result
from recurate.verbs.options import given, wanted
from recurate.verbs.result import Result


def fit(
    log: Any,
    *,
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
    score: str | Sequence[str] | None = None,
    model: str | None = None,
    ties: str = "davidson",
    groups: int | None = None,
    most_groups: int | None = None,
    starts: int | None = None,
    shrinkage: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result[Fit]:
    r"""Learn rewards, temperature, lapses, positions and preference groups from picks; test Luce's model.

    In a slate of candidates with features x_1, ..., x_K (or a score, or items) the pick has the distribution

    .. math:: P(i) = e^{u_i} / \sum_j e^{u_j}, \qquad u_i = \beta^\top x_i,

    whose likelihood is maximised. With G preference groups each chooser has one of G vectors beta_g, with
    weights w_g. Rival rules (lapses, Thurstone, best of K) are compared on held-out slates, and six tests
    check the assumptions of Luce's model.

    Args:
        log: Table of choices with one row per candidate or per slate, with picks, ties or rankings: a path or
            several, a run's folder, an Arrow table, a pandas or polars frame, a Hugging Face dataset or a
            ``Log``.
        slate: Column of slates, if rows are candidates. Columns that are not named are guessed.
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
        feature: Columns that describe candidates; ``characters:COLUMN`` is the length of a text.
        score: Columns of a score that the picker may have used; its temperature is fitted.
        model: ``score``, ``features`` or ``items``. Default: chosen by the columns that exist.
        ties: ``davidson`` (a tie is a separate outcome), ``half`` or ``drop``.
        groups: Number of preference groups; 0 for none. Default: chosen on held-out choosers.
        most_groups: Maximum number of groups to choose from. Default: 4.
        starts: Starts per number of groups. Default: 5, or 15 if choosers picked rarely.
        shrinkage: Penalty with which an estimate exists; 0 for none.
        seed: Seed of the starts and of held-out data.
        progress: Function called with a line of text at the start of each part.

    Returns:
        A result with ``logit`` (coefficients and standard errors), ``items``, ``groups``, ``positions``,
        ``temperature``, ``checks``, ``gaps``, ``repeats``, ``rules``, ``verdict``, and the ``rewards`` of the
        included candidates at temperature 1 with mean zero, (rows, groups), or (rows, 1) without groups. A
        saved result can be passed to ``forecast``.

    Raises:
        InputError: If the table cannot be read or used.
        NoEstimate: If no estimate exists; the message states why.

    R. D. Luce, *Individual Choice Behavior*, 1959; D. McFadden, *Conditional Logit Analysis of Qualitative
    Choice Behavior*, 1974; for ties R. R. Davidson, JASA 65, 1970. ``recurate docs picks`` has
    the tests.

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
    if most_groups is not None and groups is not None:
        raise InputError(
            "most_groups has no effect where the number of groups is given",
            got=f"groups = {groups}, most_groups = {most_groups}",
            remedy="leave one of them out",
        )
    if most_groups is not None and (not isinstance(most_groups, int) or most_groups < 1):
        raise InputError(
            "most_groups must be a whole number, at least 1", got=repr(most_groups), remedy="most_groups=8"
        )
    cite("luce1959", "mcfadden1974", *(["davidson1970"] if ties == "davidson" else []))
    options = FitOptions(
        given=given(
            slate=slate, pick=pick, rank=rank, rating=rating, chooser=chooser, item=item, position=position,
            context=context, round=round, form=form, alternatives=alternatives, places_from=places_from,
            include=include,
        ),
        wanted=wanted(feature, score, model, ties),
        classes=groups, most_classes=most_groups or 4, starts=starts, shrinkage=shrinkage, seed=seed,
    )  # fmt: skip
    return fit_result(fit_log(log, options, progress), name_of(log))
