"""`recurate plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import (
    Accumulate,
    Context,
    Json,
    Keep,
    Lapse,
    Log,
    Noise,
    Out,
    Reference,
    Reward,
    Rule,
    Then,
    beside,
    efficacy_of,
    numbers,
    stage,
)  # fmt: skip


def plan(
    log: Log,
    reward: Reward = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of groups. Default: the reward whose maximum is nearest."
        ),
    ] = None,
    context: Context = None,
    maximise: Annotated[
        str, typer.Option(metavar="WHAT", help="reward, nash (welfare) or worst (the worst group's reward).")
    ] = "reward",
    importance: Annotated[
        str | None,
        typer.Option(metavar="W,W", help="Weight of each reward in the objective. Default: equal."),
    ] = None,
    rounds: Annotated[str, typer.Option(metavar="N|limit", help="Rounds to plan for, or limit.")] = "10",
    floor: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Smallest final share of every group.")
    ] = None,
    kl: Annotated[
        float | None, typer.Option(metavar="NATS", help="Largest final divergence from the reference.")
    ] = None,
    entropy: Annotated[
        float | None, typer.Option(metavar="NATS", help="Smallest final entropy of the groups' shares.")
    ] = None,
    variance: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Smallest share of every reward's variance to keep."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="N", help="Largest number of candidates in all: K times picks times rounds."),
    ] = None,
    picks: Annotated[
        int | None, typer.Option(metavar="N", help="Picks per round. Default: the log's, or 1000.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option(metavar="K,K", help="Slate sizes to try, besides the log's. Default: 2 to 32."),
    ] = None,
    real_fraction: Annotated[
        str | None, typer.Option(metavar="R,R", help="Real fractions to try. Default: 0 to 0.7.")
    ] = None,
    temperature: Annotated[
        str | None,
        typer.Option(metavar="T,T", help="Temperatures to try. Default: that of the rule."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="W,W", help="Preference weights to try, repeatable. Default: a grid."),
    ] = None,
    rule: Rule = None,
    noise: Noise = None,
    keep: Keep = None,
    lapse: Lapse = None,
    then: Then = None,
    accumulate: Accumulate = False,
    efficacy: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Fraction of the way to its training law that retraining moves the model. Default: 1.",
        ),
    ] = None,
    reference: Reference = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Choose K, real fraction, preference weights and temperature: the best setting within constraints.

    Forecasts every setting of a grid from the candidates of LOG's first round, refines around the best
    setting, and forecasts that setting exactly. The rule is the one that the log's picks follow, as in
    'recurate forecast'; the first line states it. The log's own K is among those tried. Prints the plan, the
    constraints that bind, the frontiers against diversity and compute, and how the plan changes if rewards
    are off by 10 %. If no setting satisfies all constraints, prints the closest one. Writes plan.json and
    report.html, with limits, survivors and phase diagrams if there are several rewards.

    For example:

      recurate plan scores.csv --kl 1 --rounds 8

      recurate plan two.parquet --reward a --reward b --maximise nash --floor 0.2 --budget 200000

      recurate plan completions.jsonl --context prompt --rule luce --temperature 0.5,1

      recurate plan picks-fit --rounds limit --floor 0.1
    """
    from recurate.verbs.plan.python import plan as plan_log
    from recurate.verbs.result import publish

    ks = numbers("--k", k)
    found = plan_log(
        log, reward=reward, group=group, context=context, maximise=maximise,
        importance=numbers("--importance", importance),
        rounds=_rounds(rounds), floor=floor, kl=kl, entropy=entropy, variance=variance, budget=budget,
        picks=picks, k=None if ks is None else [int(v) if v.is_integer() else v for v in ks],
        real_fraction=numbers("--real-fraction", real_fraction),
        temperature=numbers("--temperature", temperature),
        weights=[numbers("--weights", w) or [] for w in weights] if weights else None,
        rule=rule, noise=noise, keep=keep, lapse=lapse, then=[stage(text) for text in then or ()],
        accumulate=accumulate or None, efficacy=efficacy_of(efficacy),  # type: ignore[arg-type]
        reference=reference,
    )  # fmt: skip
    publish(found, out or beside(log, "plan"), as_json=as_json)


def _rounds(text: str) -> int | None:
    if text.strip().lower() == "limit":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError("--rounds is a whole number >= 1, or limit", got=text, remedy="--rounds 10")
    return int(text)
