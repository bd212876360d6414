"""`recurate audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurate.core import progress
from recurate.verbs import options
from recurate.verbs.options import option


def audit(
    log: options.Log,
    declared: Annotated[
        str | None,
        option(
            "CONFIG",
            "Declaration: a TOML file, a run's configuration, or 'k = 4, temperature = 1, picks = 500'. "
            "Default: a run's own configuration.",
        ),
    ] = None,
    reward: options.Reward = None,
    slate: options.Slate = None,
    pick: options.Pick = None,
    rank: options.Rank = None,
    rating: options.Rating = None,
    chooser: options.Chooser = None,
    item: options.Item = None,
    position: options.Position = None,
    context: options.Context = None,
    round: options.Round = None,  # noqa: A002
    form: options.Form = None,
    alternatives: options.Alternatives = None,
    places_from: options.PlacesFrom = None,
    include: options.Include = None,
    feature: options.Feature = None,
    ties: options.Ties = "davidson",
    allow_unverified: Annotated[
        bool,
        typer.Option("--allow-unverified", help="Exit with code 0 if a declared fact could not be verified."),
    ] = False,
    out: options.Out = None,
    force: options.Force = False,
    open_report: options.Open = False,
    as_json: options.Json = False,
) -> None:
    """Compare a loop's declaration with its log.

    The exit code is 0 if all declared facts were verified, 1 on a mismatch, 2 on bad input, and 4 if
    something declared could not be verified (--allow-unverified makes it 0).

    Recovers from the log the numbers of candidates shown and kept, the rule of the picks (Luce, Thurstone,
    best of K, a fraction of the pool, one softmax over the pool, uniform) with its temperature and lapses,
    position effects, and reuse of candidates or seeds across rounds. Each round's change is decomposed into
    selection, sampling and transmission; a jump that retraining cannot explain is a mismatch. Accepted
    changes of a run's files and packages are listed. If a log has no rewards, they are fitted to its picks. A
    declaration may have k, temperature, noise, lapse, keep, top, threshold, picks, slates, real_fraction and
    weights.

    For example:

      recurate audit picks.jsonl --declared loop.toml

      recurate audit picks.jsonl --declared "k = 4, temperature = 1, noise = gumbel, picks = 500"

      recurate audit my-run
    """
    from recurate.verbs.audit.python import audit as audit_picks
    from recurate.verbs.audit.report import exit_code
    from recurate.verbs.result import publish

    folder = options.target(out or options.beside(log, "audit"), "audit", force=force)
    found = audit_picks(
        options.source(log),
        declared=declared, reward=reward, slate=slate, pick=pick, rank=rank, rating=rating,
        chooser=chooser, item=item, position=position, context=context, round=round, form=form,
        alternatives=options.words(alternatives), places_from=places_from, include=include,
        feature=feature, ties=ties, progress=progress.stage,
    )  # fmt: skip
    publish(found, folder, as_json=as_json, open_report=open_report)
    code = exit_code(found.found, allow_unverified=allow_unverified)
    if code:
        raise SystemExit(code)
