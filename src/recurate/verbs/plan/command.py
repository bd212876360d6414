"""`recurate plan`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import beside, numbers


def plan(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG", help="A log or table of candidates with rewards, or a run's or fit's folder."
        ),
    ],
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Reward column, repeatable. Default: 'reward', 'reward_...'."),
    ] = None,
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
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Real data with the same columns: the law p_ref.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write. Default: LOG-plan.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all numbers as JSON instead of tables.")
    ] = False,
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
    from recurate.report.console import print_sections
    from recurate.verbs.plan.evaluation import Constraints
    from recurate.verbs.plan.from_log import PlanOptions, facts_of, plan_log, write_plan
    from recurate.verbs.plan.report import plan_sections, summary_of, write_plan_report

    options = PlanOptions(
        rewards=reward,
        group=group,
        objective=maximise,
        importance=None if importance is None else numbers("--importance", importance),
        rounds=_rounds(rounds),
        constraints=Constraints(floor, kl, entropy, variance, budget),
        picks=picks,
        ks=None if k is None else [int(v) if v == int(v) else v for v in numbers("--k", k)],
        real_fractions=None if real_fraction is None else numbers("--real-fraction", real_fraction),
        temperatures=None if temperature is None else numbers("--temperature", temperature),
        weights=None if not weights else [numbers("--weights", w) for w in weights],
        reference=reference,
    )
    found = plan_log(log, options)
    folder = out or beside(log, "plan")
    write_plan(found, folder, log.name)
    write_plan_report(found, folder / "report.html", log.resolve().name)
    if as_json:
        print(json.dumps(facts_of(found, log.name)))
        return
    print_sections(plan_sections(found))
    for warning in found.plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\n{summary_of(found)}")
    print(f"written: {folder / 'plan.json'}, {folder / 'report.html'}")


def _rounds(text: str) -> int | None:
    if text.strip().lower() == "limit":
        return None
    if not text.isdigit() or int(text) < 1:
        raise InputError("--rounds is a whole number >= 1, or limit", got=text, remedy="--rounds 10")
    return int(text)
