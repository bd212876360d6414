"""`recurate serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recurate.verbs.options import option
from recurate.verbs.serve.serving import Wanted, serve_source


def serve(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="Folder of a run that waits for people, its configuration, or candidates."
        ),
    ],
    db: Annotated[
        str | None,
        option("FILE|URL", "Where picks are kept: an SQLite file, or postgresql://USER@HOST/NAME."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0: any that is free.")] = 8765,
    open_to_all: Annotated[
        bool, typer.Option("--open", help="Let anybody take part who knows the address; else by invitation.")
    ] = False,
    seats: Annotated[
        int | None,
        typer.Option(min=1, help="People who are asked about each slate. Default: as before; at first 1."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Largest number of slates per person.")] = None,
    lease: Annotated[
        float, typer.Option(min=1, help="Minutes after which an unanswered slate goes to others.")
    ] = 15.0,
    repeats: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of slates shown to a person a second time.")
    ] = 0.0,
    checks: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of slates whose answer is known (--check COLUMN).")
    ] = 0.0,
    answers: Annotated[
        str, typer.Option(help="Answers that are offered, of pick, tie, bad, skip, ranking, best-worst.")
    ] = "pick,tie,bad,skip",
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Which one do you prefer?",
    question: Annotated[str, typer.Option(help="Question above the candidates.")] = "Which one is best?",
    instructions: Annotated[Path | None, typer.Option(help="Markdown file of instructions.")] = None,
    consent: Annotated[Path | None, typer.Option(help="Markdown file that people must agree to.")] = None,
    completion: Annotated[
        str, typer.Option(help="Completion code on the last page. Default: one of each person's own.")
    ] = "",
    show: Annotated[
        str, typer.Option(help="Column of what is shown (texts, images, or lists of them), or x,y.")
    ] = "",
    context: Annotated[str, typer.Option(help="Column of prompts.")] = "",
    slate: Annotated[str, typer.Option(help="Column that says which rows are shown together.")] = "",
    k: Annotated[int, typer.Option(min=0, help="Rows shown together, where no column says it.")] = 0,
    check: Annotated[
        str,
        typer.Option(
            help="Column of known answers: true in the right row, or the right text or column per slate."
        ),
    ] = "",
    export: Annotated[
        Path | None, option("FILE", "Write all picks (.parquet, .jsonl, .csv) and end.")
    ] = None,
    take: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Add picks of an export and end.")
    ] = None,
    simulate: Annotated[
        int, typer.Option(min=0, help="Let this many slates be judged by a simulated person, and end.")
    ] = 0,
    rule: Annotated[
        str, typer.Option(help="Rule of simulated people: luce, best, thurstone or random.")
    ] = "luce",
    reward: Annotated[str, typer.Option(help="Column by which simulated people judge.")] = "",
    temperature: Annotated[
        float, typer.Option(min=1e-6, help="What simulated people divide rewards by.")
    ] = 1.0,
    lapses: Annotated[
        float, typer.Option(min=0, max=1, help="Share of simulated picks that are made at random.")
    ] = 0.0,
    password: Annotated[
        Path | None, option("FILE", "File with the owner's password. Default: a new one is printed.")
    ] = None,
    https: Annotated[
        bool, typer.Option("--https", help="Behind a proxy with HTTPS: cookies need it.")
    ] = False,
) -> None:
    """Let people pick in a browser: one of K candidates side by side, blind, in an order drawn for each.

    The source is a run whose configuration has selection.by = "people": each round's slates go to the page,
    and `recurate run --resume` goes on when the picks are in (with a configuration, this command does it by
    itself). Or it is a file of candidates: a column of texts or images with a prompt per row, lists, numbered
    columns, or x and y. Picks are kept in an SQLite file beside it, or in PostgreSQL.

    The address of the owner's page, with progress, agreement, the fit and exports, is printed with its
    password. People join by invitation, or by anybody's link with --open.

    For example:

      recurate run loop.toml --out runs/a

      recurate serve runs/a --open

      recurate serve candidates.jsonl --seats 3 --repeats 0.1 --limit 40

      recurate serve candidates.jsonl --export picks.parquet

      recurate fit picks.parquet
    """
    serve_source(
        Wanted(
            source, db, host, port, open_to_all, seats, limit, 60 * lease, repeats, checks,
            tuple(a.strip() for a in answers.split(",") if a.strip()), title, question, instructions, consent,
            completion, show, context, slate, k, check, export, take, simulate, rule, reward, temperature,
            lapses, password, https,
        )
    )  # fmt: skip
