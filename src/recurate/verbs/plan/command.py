"""`recurate plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import Json, Log, Out, Reference, Reward, beside, numbers


def plan(
    log: Log,
    reward: Reward = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Column of groups. Default: the reward that a candidate is best for."
        ),
    ] = None,
    maximise: Annotated[
        str, typer.Option(metavar="WHAT", help="reward, nash (welfare) or worst (the worst group's reward).")
    ] = "reward",
    importance: Annotated[
        str | None,
        typer.Option(metavar="W,W", help="Weight of each reward in what is maximised. Default: equal."),
    ] = None,
    rounds: Annotated[str, typer.Option(metavar="N|limit", help="Rounds to plan for, or limit.")] = "10",
    floor: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Every group's share in the end, at least.")
    ] = None,
    kl: Annotated[
        float | None, typer.Option(metavar="NATS", help="Divergence from the reference in the end, at most.")
    ] = None,
    entropy: Annotated[
        float | None, typer.Option(metavar="NATS", help="Entropy of the groups' shares in the end, at least.")
    ] = None,
    variance: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of every reward's variance that is kept, at least."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(metavar="N", help="Candidates in all: K times picks times rounds, at most."),
    ] = None,
    picks: Annotated[
        int | None, typer.Option(metavar="N", help="Picks a round. Default: the log's, or 1000.")
    ] = None,
    k: Annotated[
        str | None, typer.Option(metavar="K,K", help="Slate sizes to choose from. Default: 2 to 32.")
    ] = None,
    real_fraction: Annotated[
        str | None, typer.Option(metavar="R,R", help="Real fractions to choose from. Default: 0 to 0.7.")
    ] = None,
    temperature: Annotated[
        str | None, typer.Option(metavar="T,T", help="Temperatures to choose from. Default: 1.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="W,W", help="Preference weights to choose from, repeatable. Default: a grid."),
    ] = None,
    reference: Reference = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Choose K, real fraction, preference weights and temperature: the best setting that keeps the
    constraints.

    Forecasts every setting of a grid from the candidates of LOG's first round, refines around the best, and
    forecasts that exactly. Prints the plan, which constraints bind, the frontiers against diversity and
    compute, and how the answer moves if rewards are off by 10 %; or that nothing keeps them all, and what
    comes closest. Writes plan.json and report.html, with limits, survivors and phase diagrams where there
    are several rewards.

    For example:

      recurate plan scores.csv --kl 1 --rounds 8

      recurate plan two.parquet --reward a --reward b --maximise nash --floor 0.2 --budget 200000

      recurate plan picks-fit --rounds limit --floor 0.1
    """
    from recurate.verbs.plan.python import plan as plan_log
    from recurate.verbs.result import publish

    ks = numbers("--k", k)
    found = plan_log(
        log, reward=reward, group=group, maximise=maximise, importance=numbers("--importance", importance),
        rounds=_rounds(rounds), floor=floor, kl=kl, entropy=entropy, variance=variance, budget=budget,
        picks=picks, k=None if ks is None else [int(v) if v.is_integer() else v for v in ks],
        real_fraction=numbers("--real-fraction", real_fraction),
        temperature=numbers("--temperature", temperature),
        weights=[numbers("--weights", w) or [] for w in weights] if weights else None, reference=reference,
    )  # fmt: skip
    publish(found, out or beside(log, "plan"), as_json=as_json)


def _rounds(text: str) -> int | None:
    if text.strip().lower() == "limit":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError("--rounds is a whole number >= 1, or limit", got=text, remedy="--rounds 10")
    return int(text)
