"""Options of the commands, their parsing, and the folders of results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recurate.core import progress
from recurate.core.errors import InputError, need
from recurate.log.reading.examples import PREFIX, is_example
from recurate.log.reading.examples import names as example_names

if TYPE_CHECKING:
    from recurate.log.reading.mapping import Given
    from recurate.log.reading.slates import Wanted

# --- options of the command line ------------------------------------------------------------------


TIES = ("davidson", "half", "drop")


def option(metavar: str, help_: str, words: Sequence[str] = ()) -> typer.models.OptionInfo:
    """Return an option with a value, ``metavar`` in the command's help; shells complete ``words``."""
    complete = (lambda: list(words)) if words else None
    made: typer.models.OptionInfo = typer.Option(metavar=metavar, help=help_, autocompletion=complete)
    return made


def example_tables(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the words that complete LOG: examples once one is begun; else none, so that the shell has files.

    Bash takes a colon for a word, so that ``example:b`` arrives as three.
    """
    if list(ctx.params.get("log") or ())[-2:] == ["example", ":"]:
        return example_names()
    return [PREFIX + name for name in example_names()] if incomplete else []


def _column(help_: str) -> typer.models.OptionInfo:
    return option("COLUMN", help_)


Log = Annotated[
    list[str],
    typer.Argument(
        metavar="LOG...",
        help="A log or table in any format (several files are one table), a folder of files, an address, "
        "- for standard input, a run's or fit's folder, or example:NAME (example: lists them).",
        autocompletion=example_tables,
    ),
]
Reward = Annotated[list[str] | None, _column("Reward column, repeatable. Default: 'reward', 'reward_...'.")]
Reference = Annotated[Path | None, option("FILE", "Real data with the same columns: the law p_ref.")]
Slate = Annotated[str | None, _column("Column of slates (one row per candidate).")]
Pick = Annotated[str | None, _column("Column of picks: yes/no, or the picked alternative; none for none.")]
Rank = Annotated[str | None, _column("Column of ranks, 1 the best; equal ones are ties.")]
Rating = Annotated[str | None, _column("Column of ratings, higher is better; equal ones are ties.")]
Chooser = Annotated[str | None, _column("Column of choosers, who picked.")]
Item = Annotated[str | None, _column("Column of items or kinds of candidates.")]
Position = Annotated[str | None, _column("Column of positions in the slate.")]
Context = Annotated[
    str | None, _column("Column of contexts (prompts), or none; selection happens within a context.")
]
Round = Annotated[
    str | None, typer.Option("--round", metavar="COLUMN", help="Column of retraining rounds (steps).")
]
PlacesFrom = Annotated[
    int | None,
    typer.Option(metavar="0|1", min=0, max=1, help="Number of the first place, where picks are places."),
]
Form = Annotated[
    str | None,
    option(
        "FORM",
        "long, wide, pairs, lists or rankings. Default: guessed and shown.",
        ("long", "wide", "pairs", "lists", "rankings"),
    ),
]
Alternatives = Annotated[
    str | None, option("A,B,C", "Alternatives of a wide file, in the order of the codes that its picks use.")
]
Include = Annotated[
    str | None,
    option(
        "KIND,KIND",
        "Also count answers of these kinds in an export of 'recurate serve': repeats, checks, simulated.",
    ),
]
Feature = Annotated[
    list[str] | None,
    _column("Column that describes candidates, repeatable; characters:COLUMN counts a text's characters."),
]
Ties = Annotated[str, option("HOW", "Tied pairs: davidson (a separate outcome), half, or drop.", TIES)]
Rule = Annotated[
    str | None,
    option(
        "NAME",
        "luce, best (of K), thurstone or random. Default: the rule that the log's picks follow; without "
        "picks best, if the log has several candidates per slate or context, else luce.",
        ("luce", "best", "thurstone", "random"),
    ),
]
Noise = Annotated[
    str | None,
    option(
        "NAME",
        "In place of --rule: gumbel (luce), gaussian (thurstone), none (best), or yours.",
        ("gumbel", "gaussian", "none"),
    ),
]
Keep = Annotated[int | None, option("M", "Number kept of each slate. Default: the log's, or 1.")]
Lapse = Annotated[
    float | None,
    option("SHARE", "Share of slates in which the pick is random. Default: the log's."),
]
FalseRejection = Annotated[
    float | None,
    option("ALPHA", "With --threshold: share of what reaches it that the verifier rejects. Default: 0."),
]
FalseAcceptance = Annotated[
    float | None,
    option("BETA", "With --threshold: share of all else that the verifier accepts. Default: 0."),
]
Then = Annotated[
    list[str] | None,
    option("K[:W,W]", "A further stage that picks 1 of K with weights W; repeatable."),
]
Accumulate = Annotated[
    bool, typer.Option("--accumulate", help="Training sets keep the data of all earlier rounds.")
]
Track = Annotated[list[str] | None, _column("Also forecast the expectation of this column; repeatable.")]
Tail = Annotated[
    bool, typer.Option("--tail", help="Extrapolate beyond the effective support with a fitted tail.")
]
Seed = Annotated[int, option("N", "Seed of all random numbers.")]
Out = Annotated[Path | None, option("FOLDER", "Folder to write to. Default: named after input and command.")]
Force = Annotated[bool, typer.Option("--force", help="Write into a folder that holds other files.")]
Open = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]
Json = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of tables.")]
Figures = Annotated[
    bool, typer.Option("--figures", help="Also write every chart as SVG and PNG to FOLDER/figures.")
]


MOST_SIZES = 1000  # of a range of slate sizes


# --- parsing -------------------------------------------------------------------------------


def numbers(option: str, text: str | None) -> list[float] | None:
    """Read numbers separated by commas; None if the option is absent."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} must be numbers separated by commas", got=text, remedy=f"for example {option} 0.4,0.6"
        ) from None


def slate_sizes(option: str, text: str | None) -> list[float] | None:
    """Read slate sizes separated by commas, ``4-8`` being all from 4 to 8; None if the option is absent."""
    if text is None:
        return None
    found: list[float] = []
    for part in text.split(","):
        first, dash, last = (end.strip() for end in part.partition("-"))
        if dash and first.isdecimal() and last.isdecimal() and 0 <= int(last) - int(first) < MOST_SIZES:
            found += range(int(first), int(last) + 1)
        elif dash:
            raise InputError(
                f"{option} has a part that is no range of slate sizes",
                got=part.strip(),
                remedy=f"for example {option} 2,4-8, at most {MOST_SIZES:,} sizes in a range",
            )
        else:
            found += [int(k) if k.is_integer() else k for k in numbers(option, part) or ()]
    return list(dict.fromkeys(found))


def size(option: str, text: str) -> float:
    """Read a slate size, a whole number or ``inf``."""
    try:
        return math.inf if text.strip().lower() in ("inf", "infinity") else float(int(text))
    except (ValueError, OverflowError):
        raise InputError(
            f"{option} must be a whole number or inf, or sizes with their shares",
            got=text,
            remedy=f"{option} 4, or {option} 2:0.5,4:0.5",
        ) from None


def stage(text: str) -> tuple[float, list[float] | None]:
    """Read a further stage: K, or K:W,W."""
    k, _, weights = text.partition(":")
    return size("--then", k), numbers("--then", weights or None)


def efficacy_of(text: str | None) -> float | str | None:
    """Read an efficacy, a number or ``fit``."""
    if text in (None, "fit"):
        return text
    values = numbers("--efficacy", text) or []
    if len(values) > 1:
        raise InputError("--efficacy is one number", got=text, remedy="--efficacy 0.8, or fit")
    return values[0]


def words(text: str | None) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def listed(value: str | Sequence[str] | None) -> list[str] | None:
    """Return one name as a list, several as they are."""
    return None if value is None else [value] if isinstance(value, str) else list(value)


def check_columns(columns: Mapping[str, Any]) -> None:
    """Raise InputError unless each value names columns of a log: one, or several for ``track``."""
    for name, value in columns.items():
        parts = value if name == "track" else [] if value is None else [value]
        if isinstance(value, Mapping) or not all(isinstance(part, str) for part in parts):
            raise InputError(
                f"{name} must name columns of the log", got=type(value).__name__, remedy=f"{name}='COLUMN'"
            )


def column_or_none(value: Any) -> str | None:
    """Return the name of a column; None for an array of values."""
    return value if isinstance(value, str) else None


def given(
    *,
    form: str | None = None,
    alternatives: Sequence[str] = (),
    places_from: int | None = None,
    rewards: Sequence[str] | None = None,
    include: str | Sequence[str] | None = None,
    **roles: str | None,
) -> Given:
    """Return what the user said about a table: the column of each role, and further options of reading."""
    from recurate.log.reading.mapping import Given

    named = {role: column for role, column in roles.items() if column is not None}
    kinds = words(include) if isinstance(include, str) else tuple(include or ())
    return Given(
        named, form, tuple(alternatives), tuple(rewards or ()), places_from=places_from, include=kinds
    )


def wanted(
    feature: str | Sequence[str] | None, score: str | Sequence[str] | None, model: str | None, ties: str
) -> Wanted:
    """Return the columns to read from a table of choices, and the treatment of ties."""
    from recurate.log.reading.slates import Wanted, check_wanted

    found = Wanted(tuple(listed(feature) or ()), tuple(listed(score) or ()), model, ties)
    check_wanted(found)
    return found


# --- folders of results -----------------------------------------------------------------------------


def source(log: Sequence[str]) -> Any:
    """Return the arguments LOG as one source: a path, several, or standard input, which is read once."""
    if "-" in log:
        from recurate.log.reading.sources import open_source

        return open_source(list(log))
    return log[0] if len(log) == 1 else list(log)


def beside(log: Sequence[str] | Path, what: str) -> Path:
    """Return LOG-what beside the log, without its endings; in the working folder if it is no single file."""
    names = [str(log)] if isinstance(log, Path) else list(log)
    if is_example(names[0]):
        return Path.cwd() / f"{names[0].removeprefix(PREFIX)}-{what}"
    if len(names) > 1 or re.search(r"[*?\[]|://|^-$", names[0]):
        common = _common_start([re.split(r"[*?\[]", name.rstrip("/"))[0] for name in names])
        parts = [part for part in re.split(r"[/\\]", common) if part.strip("-_.0123456789")]
        name = parts[-1].partition(".")[0].rstrip("-_.0123456789") if parts else ""
        return Path.cwd() / f"{name or 'log'}-{what}"
    whole = Path(names[0]).resolve()
    stem = whole.name if whole.is_dir() else re.sub(r"\.(gz|zst|zip)$", "", whole.name).rpartition(".")[0]
    return whole.with_name(f"{stem or whole.name}-{what}")


def _common_start(names: Sequence[str]) -> str:
    """Return the characters with which all names begin."""
    first, last = min(names), max(names)
    return first[: next((i for i, c in enumerate(first) if last[i : i + 1] != c), len(first))]


def fresh_folder(base: Path) -> Path:
    """Return ``base-N`` with the smallest N >= 1 that does not exist."""
    number = 1
    while (folder := base.with_name(f"{base.name}-{number}")).exists():
        number += 1
    return folder


def target(folder: Path, verb: str, *, force: bool = False) -> Path:
    """Return the folder that a verb writes to, which may hold an older result of the verb.

    Files of others are never removed, and nothing is written beside them without ``force``.

    Raises:
        InputError: If it is a file, a run's folder, or holds anything but an older result of the verb and
            ``force`` is False.
    """
    progress.kept("nothing was written")
    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a new folder")
    if (folder / "manifest.json").exists():
        raise InputError("--out names a run", got=folder, remedy="name a new folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder
    if not force and not is_result(folder, verb):
        raise InputError(
            f"the folder to write to holds files that are no result of recurate {verb}",
            got=folder,
            remedy="name a new folder with --out, or write among them with --force",
        )
    return folder


def is_result(folder: Path, verb: str) -> bool:
    """Return whether a folder holds a result of a verb."""
    try:
        facts = json.loads((folder / f"{verb}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(facts, dict) and "recurate" in facts


def need_run_extra(*, trains: bool = True) -> None:
    """Raise InputError if packages of the extra ``run`` are missing; PyTorch only if the verb trains."""
    packages = ("pydantic", "safetensors", "sklearn", "tomli_w", "PIL")
    need([*(["torch"] if trains else []), *packages], "this verb", "pip install 'recurate[run]'")
