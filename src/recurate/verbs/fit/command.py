"""`recurate fit` and `recurate audit`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recurate.core.errors import InputError
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
    from recurate.report.console import print_sections
    from recurate.verbs.fit.files import facts_of, write_fit
    from recurate.verbs.fit.fit import FitOptions, fit_log
    from recurate.verbs.fit.report import fit_sections, write_fit_report

    if neural:
        _check_neural(log)
    options = FitOptions(
        roles=roles(slate, pick, rank, chooser, item, position, context),
        form=form,
        alternatives=words(alternatives),
        wanted=wanted(feature, score, model, ties),
        classes=_groups(groups),
        starts=starts,
        shrinkage=shrinkage,
        seed=seed,
    )
    found = fit_log(log, options, say)
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


def _groups(text: str) -> int | None:
    if text == "auto":
        return None
    if text == "none":
        return 0
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise InputError("--groups is a number, auto or none", got=text, remedy="--groups 3")


def _check_neural(log: Path) -> None:
    from recurate.verbs.options import need_run_extra

    if not log.is_dir():
        raise InputError(
            "--neural learns from samples, which a run's folder holds", got=log, remedy="name a run's folder"
        )
    need_run_extra()


def _learn(log: Path, folder: Path, seed: int) -> str:
    from recurate.verbs.fit.neural import learn_reward

    say("learning a neural reward")
    learned = learn_reward(log, seed=seed)
    target = folder / "reward"
    target.mkdir(parents=True, exist_ok=True)
    learned.save(target)
    return f"neural reward: {target}, {learned.facts.summary()}"
