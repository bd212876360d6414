"""`recurate fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from recurate.core import progress
from recurate.core.errors import InputError
from recurate.verbs import options
from recurate.verbs.options import option


def fit(
    log: options.Log,
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
    score: Annotated[
        list[str] | None, option("COLUMN", "Score that the picker may have used; its temperature is fitted.")
    ] = None,
    model: Annotated[
        str | None, option("WHAT", "score, features or items. Default: from the columns.")
    ] = None,
    ties: options.Ties = "davidson",
    groups: Annotated[str, option("N|auto|none", "Number of preference groups of choosers.")] = "auto",
    most_groups: Annotated[
        int | None, option("N", "Maximum number of groups to choose from. Default: 4.")
    ] = None,
    starts: Annotated[int | None, option("N", "Starts per number of groups. Default: 5, or 15.")] = None,
    shrinkage: Annotated[float, option("LAMBDA", "Penalty that makes an estimate exist; 0 for none.")] = 0.0,
    neural: Annotated[
        bool, typer.Option("--neural", help="Also fit a neural reward to a run's samples (FOLDER/reward).")
    ] = False,
    seed: options.Seed = 0,
    out: options.Out = None,
    force: options.Force = False,
    open_report: options.Open = False,
    as_json: options.Json = False,
) -> None:
    """Learn rewards, temperature, lapses, positions and preference groups from picks; test Luce's model.

    LOG is a log, or any table of choices with one row per candidate or per slate, with picks, ties or
    rankings. The roles of the columns are guessed and shown. Slates that cannot be used are counted by
    reason. Writes fit.json, report.html and log.parquet, the candidates with fitted rewards, to FOLDER
    (default: LOG-fit); 'recurate forecast FOLDER' forecasts from the fit.

    For example:

      recurate fit picks.jsonl

      recurate fit choices.csv --slate question --pick chosen --chooser user --feature price --feature size

      recurate fit ratings.csv --alternatives A,B --pick winner --ties half

      recurate forecast picks-fit --k 8
    """
    from recurate.verbs.fit.python import fit as fit_picks
    from recurate.verbs.result import publish

    if neural:
        _check_neural(log)
    folder = options.target(out or options.beside(log, "fit"), "fit", force=force)
    found = fit_picks(
        options.source(log),
        slate=slate, pick=pick, rank=rank, rating=rating, chooser=chooser, item=item, position=position,
        context=context, round=round, form=form, alternatives=options.words(alternatives),
        places_from=places_from, include=include, feature=feature, score=score,
        model=model, ties=ties, groups=_groups(groups), most_groups=most_groups, starts=starts,
        shrinkage=shrinkage, seed=seed, progress=progress.stage,
    )  # fmt: skip
    learned = [_learn(log[0], folder, seed)] if neural else []
    next_steps = [f"to forecast from the fit: recurate forecast {folder}"] if found.has_rewards else []
    publish(found, folder, as_json=as_json, also=[*learned, *next_steps], open_report=open_report)


def _groups(text: str) -> int | None:
    if text in ("auto", "none"):
        return None if text == "auto" else 0
    if text.isdigit() and int(text) >= 1:
        return int(text)
    raise InputError("--groups must be a number, auto or none", got=text, remedy="--groups 3")


def _check_neural(log: Sequence[str]) -> None:
    if len(log) > 1 or not Path(log[0]).is_dir():
        raise InputError(
            "--neural learns from samples, which only runs have",
            got=" ".join(log),
            remedy="pass the folder of a run",
        )
    options.need_run_extra()


def _learn(log: str, folder: Path, seed: int) -> str:
    from recurate.verbs.fit.neural import learn_reward

    progress.stage("learning a neural reward")
    learned = learn_reward(Path(log), seed=seed)
    target = folder / "reward"
    target.mkdir(parents=True, exist_ok=True)
    learned.save(target)
    return f"neural reward: {target}, {learned.facts.summary()}"
