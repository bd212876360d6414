"""`recurate audit`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from recurate.verbs.options import (
    Alternatives,
    Chooser,
    Context,
    Feature,
    Form,
    Item,
    Json,
    Log,
    Out,
    Pick,
    Position,
    Rank,
    Slate,
    Ties,
    beside,
    roles,
    say,
    wanted,
    words,
)

if TYPE_CHECKING:
    pass


MISMATCH_EXIT = 1  # of an audit whose log is not what was declared


def audit(
    log: Log,
    declared: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG",
            help="What the loop claims: a TOML file, a run's configuration, or 'k = 4, temperature "
            "= 1, picks = 500'. "
            "Default: a run's own configuration.",
        ),
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Reward column, repeatable. Default: 'reward', 'reward_...'."),
    ] = None,
    slate: Slate = None,
    pick: Pick = None,
    rank: Rank = None,
    chooser: Chooser = None,
    item: Item = None,
    position: Position = None,
    context: Context = None,
    form: Form = None,
    alternatives: Alternatives = None,
    feature: Feature = None,
    ties: Ties = "davidson",
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Tell whether a loop did what it claims: declared, recovered, evidence. Exit code 1 on a mismatch.

    Recovers from the log how many were shown and kept, the rule that really picked (Luce, Thurstone, best of
    K, a fraction of the pool, one softmax over the pool, at random) with its temperature and lapses, position
    effects, and whether rounds share candidates or seeds. Each round's change is taken apart into selection,
    sampling and transmission; a jump that retraining cannot explain is a mismatch. Changes of what a run
    rests on are listed. A log without rewards has them fitted from its picks. Can be declared: k,
    temperature, noise, lapse, keep, top, threshold, picks, slates, real_fraction, weights.

    For example:

      recurate audit picks.jsonl --declared loop.toml

      recurate audit picks.jsonl --declared "k = 4, temperature = 1, noise = gumbel, picks = 500"

      recurate audit my-run
    """
    from recurate.report.console import print_sections
    from recurate.verbs.audit.audit import AuditOptions, audit_log, facts_of, write_audit
    from recurate.verbs.audit.declared import read_declared
    from recurate.verbs.audit.report import audit_sections, summary_of, write_audit_report

    own = log / "config.toml"
    claim = read_declared(declared) if declared else read_declared(own) if own.is_file() else None
    options = AuditOptions(
        rewards=reward,
        roles=roles(slate, pick, rank, chooser, item, position, context),
        form=form,
        alternatives=words(alternatives),
        wanted=wanted(feature, None, None, ties),
    )
    found = audit_log(log, claim, options, say)
    folder = out or beside(log, "audit")
    write_audit(found, folder, log.name)
    write_audit_report(found, folder / "report.html", log.resolve().name)
    if as_json:
        print(json.dumps(facts_of(found, log.name), default=float))
    else:
        print_sections(audit_sections(found))
        for warning in found.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(f"\n{summary_of(found)}")
        print(f"written: {folder / 'audit.json'}, {folder / 'report.html'}")
    if found.mismatches:
        raise SystemExit(MISMATCH_EXIT)
