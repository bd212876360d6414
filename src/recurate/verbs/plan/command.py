"""`recurate plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs import options
from recurate.verbs.options import efficacy_of, numbers, option, stage


def plan(
    log: options.Log,
    reward: options.Reward = None,
    group: Annotated[
        str | None,
        option("COLUMN", "Column of groups. Default: the reward whose maximum is nearest."),
    ] = None,
    track: options.Track = None,
    context: options.Context = None,
    round: options.Round = None,  # noqa: A002
    slate: options.Slate = None,
    pick: options.Pick = None,
    rank: options.Rank = None,
    rating: options.Rating = None,
    form: options.Form = None,
    alternatives: options.Alternatives = None,
    places_from: options.PlacesFrom = None,
    include: options.Include = None,
    maximise: Annotated[
        str,
        typer.Option(
            "--maximise",
            "--maximize",
            metavar="WHAT",
            help="reward, nash (welfare) or worst (the worst group's reward).",
            autocompletion=lambda: ["reward", "nash", "worst"],
        ),
    ] = "reward",
    importance: Annotated[
        str | None,
        option("W,W", "Weight of each reward in the objective. Default: equal."),
    ] = None,
    rounds: Annotated[str, option("N|limit", "Rounds to plan for, or limit.")] = "10",
    floor: Annotated[float | None, option("SHARE", "Smallest final share of every group.")] = None,
    kl: Annotated[float | None, option("NATS", "Largest final divergence from the reference.")] = None,
    entropy: Annotated[float | None, option("NATS", "Smallest final entropy of the groups' shares.")] = None,
    variance: Annotated[
        float | None,
        option("SHARE", "Smallest share of every reward's variance to keep."),
    ] = None,
    budget: Annotated[
        float | None,
        option("N", "Largest number of candidates in all: K times picks times rounds."),
    ] = None,
    picks: Annotated[int | None, option("N", "Picks per round. Default: the log's, or 1000.")] = None,
    k: Annotated[
        str | None,
        option("K,K", "Slate sizes to try, besides the log's, such as 2,4-8. Default: 2 to 32."),
    ] = None,
    real_fraction: Annotated[str | None, option("R,R", "Real fractions to try. Default: 0 to 0.7.")] = None,
    temperature: Annotated[
        str | None,
        option("T,T", "Temperatures to try. Default: that of the rule."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        option("W,W", "Preference weights to try, repeatable. Default: a grid."),
    ] = None,
    rule: options.Rule = None,
    noise: options.Noise = None,
    keep: options.Keep = None,
    lapse: options.Lapse = None,
    threshold: Annotated[
        str | None,
        option("LEVEL,LEVEL", "No slates: keep candidates with a reward of at least LEVEL; levels to try."),
    ] = None,
    top: Annotated[
        str | None,
        option("SHARE,SHARE", "No slates: keep the best SHARE of the pool; shares to try."),
    ] = None,
    false_rejection: options.FalseRejection = None,
    false_acceptance: options.FalseAcceptance = None,
    then: options.Then = None,
    accumulate: options.Accumulate = False,
    efficacy: Annotated[
        str | None,
        option(
            "SHARE", "Fraction of the way to its training law that retraining moves the model. Default: 1."
        ),
    ] = None,
    reference: options.Reference = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Plan from the log's last round instead of its first.")
    ] = False,
    tail: options.Tail = False,
    seed: options.Seed = 0,
    out: options.Out = None,
    force: options.Force = False,
    open_report: options.Open = False,
    as_json: options.Json = False,
) -> None:
    """Choose K, real fraction, preference weights and temperature: the best setting within constraints.

    Forecasts every setting of a grid from the candidates of LOG's first round, refines around the best
    setting, and forecasts that setting exactly, round by round with bands. The rule is the one that the log's
    picks follow, as in 'recurate forecast'; the first line states it. The log's own K is among those tried.
    Prints the plan, the constraints that bind, the frontiers against diversity and compute, and how the plan
    changes if rewards are off by 10 %. If no setting satisfies all constraints, prints the closest one.
    Writes plan.json, trajectory.parquet and report.html, with limits, survivors and phase diagrams if there
    are several rewards.

    For example:

      recurate plan scores.csv --kl 1 --rounds 8

      recurate plan two.parquet --reward a --reward b --maximise nash --floor 0.2 --budget 200000

      recurate plan completions.jsonl --context prompt --rule luce --temperature 0.5,1

      recurate plan scores.csv --top 0.05,0.1,0.25 --variance 0.3

      recurate plan picks-fit --rounds limit --floor 0.1
    """
    from recurate.verbs.plan.python import plan as plan_log
    from recurate.verbs.result import publish

    folder = options.target(out or options.beside(log, "plan"), "plan", force=force)
    found = plan_log(
        options.source(log),
        reward=reward, group=group, track=track, context=context, round=round, slate=slate, pick=pick,
        rank=rank, rating=rating, form=form, alternatives=options.words(alternatives),
        places_from=places_from, include=include, maximise=maximise,
        importance=numbers("--importance", importance),
        rounds=_rounds(rounds), floor=floor, kl=kl, entropy=entropy, variance=variance, budget=budget,
        picks=picks, k=options.slate_sizes("--k", k),
        real_fraction=numbers("--real-fraction", real_fraction),
        temperature=numbers("--temperature", temperature),
        weights=[numbers("--weights", w) or [] for w in weights] if weights else None,
        rule=rule, noise=noise, keep=keep, lapse=lapse,
        threshold=numbers("--threshold", threshold), top=numbers("--top", top),
        false_rejection=false_rejection, false_acceptance=false_acceptance,
        then=[stage(text) for text in then or ()],
        accumulate=accumulate or None, efficacy=efficacy_of(efficacy),  # type: ignore[arg-type]
        reference=reference, renew=renew, tail=tail, seed=seed,
    )  # fmt: skip
    publish(found, folder, as_json=as_json, open_report=open_report)


def _rounds(text: str) -> int | None:
    if text.strip().lower() == "limit":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError("--rounds is a whole number >= 1, or limit", got=text, remedy="--rounds 10")
    return int(text)
