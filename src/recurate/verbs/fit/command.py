"""`recurate fit` and `recurate audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import beside, words

if TYPE_CHECKING:
    from recurate.log.reading.slates import Wanted

MISMATCH_EXIT = 1  # of an audit whose log is not what was declared

Log = Annotated[
    Path,
    typer.Argument(
        metavar="LOG", help="A log, a table of choices (.csv, .jsonl, .json, .parquet) or a run's folder."
    ),
]
Slate = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of slates (one row a candidate).")]
Pick = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of picks: yes/no, or the picked alternative.")
]
Rank = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of ranks, 1 the best; equal ones are ties.")
]
Chooser = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of who picked.")]
Item = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of items or kinds of candidates.")]
Position = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column of where a candidate was shown.")
]
Context = Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of contexts (prompts).")]
Form = Annotated[
    str | None,
    typer.Option(metavar="FORM", help="long, wide, pairs or lists. Default: a guess, which is shown."),
]
Alternatives = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C", help="Alternatives of a wide file, in the order of the codes in its picks."
    ),
]
Feature = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN", help="What describes candidates, repeatable; characters:COLUMN counts a text's."
    ),
]
Ties = Annotated[
    str, typer.Option(metavar="HOW", help="Tied pairs: davidson (an outcome of their own), half, or drop.")
]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of tables.")]


def fit(
    log: Log,
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
    score: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Score that the picker may have used: its temperature is fitted."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="WHAT", help="score, features or items. Default: by what there is.")
    ] = None,
    ties: Ties = "davidson",
    groups: Annotated[
        str, typer.Option(metavar="N|auto|none", help="Preference groups of choosers.")
    ] = "auto",
    starts: Annotated[
        int | None, typer.Option(metavar="N", help="Starts for each number of groups. Default: 5, or 15.")
    ] = None,
    shrinkage: Annotated[
        float, typer.Option(metavar="LAMBDA", help="Penalty that makes an estimate exist; 0 is none.")
    ] = 0.0,
    neural: Annotated[
        bool, typer.Option("--neural", help="Also learn a neural reward from a run's samples: FOLDER/reward.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of starts and of what is held out.")] = 0,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Learn rewards, temperature, lapses, positions and preference groups from picks; test Luce's model.

    LOG is a log, or any table of choices: one row a candidate, or a slate, with picks, ties or rankings.
    Which column means what is guessed and shown. Slates that cannot be used are counted, with the reason.
    Writes fit.json, report.html and log.parquet, the candidates with fitted rewards, into FOLDER (LOG-fit if
    absent): 'recurate forecast FOLDER' goes on from there.

    For example:

      recurate fit picks.jsonl

      recurate fit choices.csv --slate question --pick chosen --chooser user --feature price --feature size

      recurate fit ratings.csv --alternatives A,B --pick winner --ties half

      recurate forecast picks-fit --k 8
    """
    from recurate.report.sections import print_sections
    from recurate.verbs.fit.files import facts_of, write_fit
    from recurate.verbs.fit.fit import FitOptions, fit_log
    from recurate.verbs.fit.report import fit_sections, write_fit_report

    if neural:
        _check_neural(log)
    options = FitOptions(
        roles=_roles(slate, pick, rank, chooser, item, position, context),
        form=form,
        alternatives=words(alternatives),
        wanted=_wanted(feature, score, model, ties),
        classes=_groups(groups),
        starts=starts,
        shrinkage=shrinkage,
        seed=seed,
    )
    found = fit_log(log, options, _say)
    folder = out or beside(log, "fit")
    write_fit(found, folder, log.name)
    write_fit_report(found, folder / "report.html", log.resolve().name)
    written = ["fit.json", "log.parquet", "report.html"]
    learned = _learn(log, folder, seed) if neural else ""
    if as_json:
        print(json.dumps(facts_of(found, log.name)))
        return
    print_sections(fit_sections(found))
    if learned:
        print(f"\n{learned}")
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\nwritten: {', '.join(str(folder / name) for name in written)}")
    print(f"go on with: recurate forecast {folder}")


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
    sampling and transmission. A log without rewards has them fitted from its picks. Can be declared: k,
    temperature, noise, lapse, keep, top, threshold, picks, slates, real_fraction, weights.

    For example:

      recurate audit picks.jsonl --declared loop.toml

      recurate audit picks.jsonl --declared "k = 4, temperature = 1, noise = gumbel, picks = 500"

      recurate audit my-run
    """
    from recurate.report.sections import print_sections
    from recurate.verbs.audit.audit import AuditOptions, audit_log, facts_of, write_audit
    from recurate.verbs.audit.declared import read_declared
    from recurate.verbs.audit.report import audit_sections, summary_of, write_audit_report

    own = log / "config.toml"
    claim = read_declared(declared) if declared else read_declared(own) if own.is_file() else None
    options = AuditOptions(
        rewards=reward,
        roles=_roles(slate, pick, rank, chooser, item, position, context),
        form=form,
        alternatives=words(alternatives),
        wanted=_wanted(feature, None, None, ties),
    )
    found = audit_log(log, claim, options, _say)
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


def _say(text: str) -> None:
    """Tell a person at a terminal what is being done."""
    if sys.stderr.isatty():
        print(f"{text} ...", file=sys.stderr)


def _roles(*columns: str | None) -> dict[str, str]:
    names = ("slate", "pick", "rank", "chooser", "item", "position", "context")
    return {name: column for name, column in zip(names, columns, strict=True) if column is not None}


def _wanted(feature: list[str] | None, score: list[str] | None, model: str | None, ties: str) -> Wanted:
    from recurate.log.reading.slates import Wanted

    return Wanted(tuple(feature or ()), tuple(score or ()), model, ties)


def _groups(text: str) -> int | None:
    if text == "auto":
        return None
    if text == "none":
        return 0
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise InputError("--groups is a number, auto or none", got=text, remedy="--groups 3")


def _check_neural(log: Path) -> None:
    from recurate.verbs.run.command import need_run_extra

    if not log.is_dir():
        raise InputError(
            "--neural learns from samples, which a run's folder holds", got=log, remedy="name a run's folder"
        )
    need_run_extra()


def _learn(log: Path, folder: Path, seed: int) -> str:
    from recurate.verbs.fit.neural import learn_reward

    _say("learning a neural reward")
    learned = learn_reward(log, seed=seed)
    target = folder / "reward"
    target.mkdir(parents=True, exist_ok=True)
    learned.save(target)
    return f"neural reward: {target}, {learned.facts.summary()}"
