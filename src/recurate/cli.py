"""The command line: the commands put together, and what users see when something is wrong."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, NoReturn

import typer

from recurate.core.errors import RecurateError
from recurate.core.files import is_full
from recurate.core.version import VERSION
from recurate.verbs.audit.command import audit
from recurate.verbs.compare.command import compare
from recurate.verbs.fit.command import fit
from recurate.verbs.forecast.command import forecast
from recurate.verbs.plan.command import plan
from recurate.verbs.reproduce.command import reproduce
from recurate.verbs.run.command import report, run, shard
from recurate.verbs.serve.command import serve
from recurate.verbs.view.command import view

app = typer.Typer(
    name="recurate",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Run, forecast and audit self-consuming training loops with curated data.\n\n"
    "A model proposes K candidates, one is picked, the model is retrained on the picks (and real data), "
    "and so on. 'run' does this with a real model; 'forecast' predicts the loop exactly from the rewards of "
    "one round; 'plan' chooses K, real data and preference weights; 'fit' learns rewards and preference "
    "groups from logged picks; 'audit' checks whether a loop did what was declared; 'compare' overlays "
    "runs; 'report' rebuilds a run's report; 'reproduce' runs published experiments; 'shard' does a part of "
    "a round on another machine; 'serve' lets people pick in a browser; 'view' lists what lies in a folder.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


for command in (
    run, forecast, plan, fit, audit, compare, report, reproduce, shard, serve, view,
):  # fmt: skip
    app.command()(command)


def _report(error: RecurateError) -> None:
    """Print an error, after what had been understood of the input by then."""
    account = getattr(error, "account", ())
    if account and "--json" in sys.argv:
        print(json.dumps({"error": str(error), "read": list(account)}, ensure_ascii=False))
    if account:
        print("What was read:", *(f"  {line}" for line in account), sep="\n", file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)


def main() -> NoReturn:
    """Run the command line; wrong input prints what, got and remedy and exits with code 2."""
    # NumPy's BLAS gains nothing from threads here, and its sums would depend on their number.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Arrow's own allocator keeps what it has freed: 60 MB after a look at long texts.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app()
    except RecurateError as error:
        _report(error)
        raise SystemExit(2) from None
    except OSError as error:
        name = error.filename or "a file"
        what = "the disk is full" if is_full(error) else error.strerror or error
        remedy = "make room, then give the command again" if is_full(error) else "check the path"
        print(f"error: {what}\n  got:    {name}\n  remedy: {remedy}", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError as error:
        got, remedy = (
            str(error) or "the system refused more",
            "use smaller files or settings",
        )
        print(f"error: there is too little memory\n  got:    {got}\n  remedy: {remedy}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
