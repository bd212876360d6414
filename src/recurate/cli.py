"""The command line: the commands put together, and what users see when something is wrong."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from recurate.core.errors import InputError, RecurateError, nearest
from recurate.core.files import is_full
from recurate.core.progress import listening
from recurate.core.version import VERSION
from recurate.report.colour import painted
from recurate.report.progress import Meter
from recurate.verbs.audit.command import audit
from recurate.verbs.compare.command import compare
from recurate.verbs.docs.command import docs
from recurate.verbs.fit.command import fit
from recurate.verbs.forecast.command import forecast
from recurate.verbs.init.command import init
from recurate.verbs.plan.command import plan
from recurate.verbs.reproduce.command import reproduce
from recurate.verbs.run.command import report, run, shard
from recurate.verbs.serve.command import serve
from recurate.verbs.view.command import view

COMMANDS = (
    init, run, shard, forecast, plan, fit, audit, compare, report, reproduce, serve, view, docs,
)  # fmt: skip
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it

app = typer.Typer(
    name="recurate",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Run, forecast and audit self-consuming training loops with curated data.\n\n"
    "A model proposes K candidates, one is picked, the model is retrained on the picks (and real data), "
    "and so on. 'init' writes a configuration, and 'run' does this with a real model; 'forecast' predicts "
    "the loop exactly from the rewards of one round; 'plan' chooses K, real data and preference weights; "
    "'fit' learns rewards and preference groups from logged picks; 'audit' checks whether a loop did what "
    "was declared; 'compare' overlays runs; 'report' rebuilds a run's report; 'reproduce' runs published "
    "experiments; 'shard' does a part of a round on another machine; 'serve' lets people pick in a "
    "browser; 'view' lists what lies in a folder; 'docs' prints the documentation.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(VERSION)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _watched(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that shows what it is doing on a terminal, and ends in one line on Ctrl-C."""

    @functools.wraps(command)
    def watched(*arguments: Any, **options: Any) -> None:
        meter = Meter()
        try:
            with listening(meter):
                command(*arguments, **options)
        except KeyboardInterrupt:
            meter.hide()
            after = "\n" if sys.stderr.isatty() else ""  # the terminal's ^C
            print(f"{after}{meter.stopped()}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        finally:
            meter.hide()

    return watched


def _names() -> list[str]:
    return [command.__name__ for command in COMMANDS]


for command in COMMANDS:
    app.command()(_watched(command))


@app.command(name="help")
def help_(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(metavar="[COMMAND]", help="Name of a command.", autocompletion=_names)
    ] = None,
) -> None:
    """Show the help of a command, or all commands."""
    if command is not None and command not in _names():
        raise InputError("there is no such command", got=command, remedy=nearest(command, _names()))
    app(["--help"] if command is None else [command, "--help"], prog_name=context.find_root().info_name)


def _print_error(text: str) -> None:
    print(f"{painted('error:', 'bad', sys.stderr)} {text}", file=sys.stderr)


def _report(error: RecurateError) -> None:
    """Print an error, after what had been understood of the input by then."""
    account = getattr(error, "account", ())
    if account and "--json" in sys.argv:
        print(json.dumps({"error": str(error), "read": list(account)}, ensure_ascii=False))
    if account:
        print("What was read:", *(f"  {line}" for line in account), sep="\n", file=sys.stderr)
    _print_error(str(error))


def main() -> NoReturn:
    """Run the command line; wrong input prints what, got and remedy and exits with code 2."""
    # NumPy's BLAS gains nothing from threads here, and its sums would depend on their number.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # Arrow's own allocator keeps what it has freed: 60 MB after a look at long texts.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app(prog_name="recurate")  # as `python -m recurate`, too: completion rests on the name
    except RecurateError as error:
        _report(error)
        raise SystemExit(2) from None
    except OSError as error:
        name = error.filename or "a file"
        what = "the disk is full" if is_full(error) else error.strerror or error
        remedy = "make room, then give the command again" if is_full(error) else "check the path"
        _print_error(f"{what}\n  got:    {name}\n  remedy: {remedy}")
        raise SystemExit(2) from None
    except MemoryError as error:
        got, remedy = (
            str(error) or "the system refused more",
            "use smaller files or settings",
        )
        _print_error(f"there is too little memory\n  got:    {got}\n  remedy: {remedy}")
        raise SystemExit(2) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
