"""From what people have to what verbs need: a log, or slates with picks, with an account of the reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from recurate.core.errors import InputError
from recurate.log.folders import is_fit, read_folder
from recurate.log.inputs import folder_of, name_of, source_of
from recurate.log.reading.answers import Answers, standing
from recurate.log.reading.exports import reshaped
from recurate.log.reading.logs import Opened, log_from, needed_columns
from recurate.log.reading.long import keyed_again
from recurate.log.reading.mapping import Given, Mapping
from recurate.log.reading.slates import PlainSlates, Wanted, read_slates
from recurate.log.reading.sources import Source
from recurate.log.reading.understand import Understood, accounted, understand
from recurate.log.schema import METADATA_KEY, Log, as_log

HEAD = 20_000  # rows from which the roles of columns are guessed
OWN = ("round", "context", "slate", "slot", "item", "source", "picked", "chooser", "propensity")


def open_log(source: Any, given: Given) -> Opened:
    """Return a source as a log with rewards, and picks where it has any.

    Args:
        source: Any source that :func:`recurate.log.inputs.table_of` accepts.
        given: What the user said about its columns.

    Returns:
        The log, the account of its reading, and what may change the result.

    Raises:
        InputError: If the source cannot be read, has no rewards, or can be read in several ways that differ.
    """
    name, own = name_of(source), _own_table(source)
    answers = _answers(source if own is None else own, given, decided=_fitted(source), loop=True)
    if own is not None and _as_it_is(given):
        return _own(answers.source.read() if answers.left_out else own, given, name, answers)
    file = answers.source
    if METADATA_KEY in (file.schema.metadata or {}) and _as_it_is(given):
        return _own(file.read(), given, name, answers)
    given = replace(given, picks=False)
    head = _head(file)
    if head.num_rows < HEAD:  # it is all there is: read as a whole, its values are accounted for
        head = file.read()
    more: tuple[str, ...] = ()
    changed = reshaped(head)
    if changed is not None:
        if head.num_rows == HEAD:
            changed = reshaped(file.read())
        if changed is None:
            raise InputError(
                "the first rows are tasks of a survey, and later rows are not",
                got=f"{name}, whose first {HEAD:,} rows have one pick per task",
                remedy="correct the later rows, such as a pick that is no alternative, or split the file",
            )
        table, more = changed
        head = table.slice(0, HEAD)
    found = understand(head, given)
    if changed is None:
        table = head if head.num_rows < HEAD else file.read(needed_columns(head, found, given))
    opened = log_from(head, table, replace(found, notes=(*file.notes, *answers.notes, *more)), given, name)
    return replace(opened, left_out=opened.left_out + answers.left_out)


def open_slates(source: Any, given: Given, wanted: Wanted | None = None) -> PlainSlates:
    """Return the usable slates of a source, with the account of how it was read.

    Args:
        source: Any source that :func:`recurate.log.inputs.table_of` accepts.
        given: What the user said about its columns.
        wanted: Columns that describe the candidates.

    Raises:
        InputError: If the source cannot be read, or no slate can be used.
    """
    features = wanted.features if wanted else ()
    table, found = read_picks(source, replace(given, others=(*given.others, *features)))
    with accounted(found):
        return replace(read_slates(table, found.mapping, wanted), understood=found)


def read_picks(source: Any, given: Given) -> tuple[pa.Table, Understood]:
    """Return the table of a source of picks, and how it is read."""
    answers = _answers(source, given, decided=_fitted(source))
    file = answers.source
    table = file.read()
    more: tuple[str, ...] = ()
    changed = reshaped(table)
    if changed is not None:
        table, more = changed
    found = understand(table.slice(0, HEAD), replace(given, picks=True))
    found = replace(found, mapping=keyed_again(table, found.mapping))
    return table, replace(found, notes=(*file.notes, *answers.notes, *more))


def _answers(source: Any, given: Given, *, decided: bool, loop: bool = False) -> Answers:
    """Return a source without the answers that do not count; what a fit's folder holds was ``decided``."""
    file = source_of(source, text=_text(given))
    return Answers(file) if decided else standing(file, given, loop=loop)


def _fitted(source: Any) -> bool:
    folder = folder_of(source)
    return folder is not None and is_fit(folder)


def _head(file: Source) -> pa.Table:
    """Return the first rows of a source, of which there is at least one."""
    head = file.head(HEAD)
    return head if head.num_rows else file.read()


def _text(given: Given) -> list[str]:
    """Return the columns that hold text even if they look like numbers."""
    named = [c for r, c in given.roles.items() if r in ("item", "chooser", "context") and c != "none"]
    return [*named, *given.text]


def _own_table(source: Any) -> pa.Table | None:
    """Return the table of a log, or of a run's or fit's folder; None for other sources."""
    folder = folder_of(source)
    return source.table if isinstance(source, Log) else None if folder is None else read_folder(folder)


def _as_it_is(given: Given) -> bool:
    """Return whether a log that recurate wrote is taken by its own columns: the user named no other."""
    plain = given.form is None and not given.alternatives and given.places_from is None
    return plain and set(given.roles) <= {"context"}


def _own(table: pa.Table, given: Given, name: str, answers: Answers) -> Opened:
    """Return a log that recurate wrote, or a log's table."""
    context = given.roles.get("context", "context")
    log = as_log(table, rewards=given.rewards or None, name=name, several=True)
    if context not in ("context", "none"):
        log = _with_context(log, log.column(context).tolist())
    elif context == "none":
        log = _with_context(log, [""] * log.table.num_rows)
    roles = {n: n for n in OWN if n in table.column_names}
    found = Understood(
        Mapping("long", roles, rewards=log.rewards, reasons=dict.fromkeys(roles, "a log's own name")),
        notes=answers.notes,
    )
    return Opened(log, found, left_out=answers.left_out)


def _with_context(log: Log, values: Sequence[Any]) -> Log:
    texts = pa.array(["" if v is None else str(v) for v in values])
    index = log.table.column_names.index("context")
    return Log(log.table.set_column(index, "context", texts), log.rewards)
