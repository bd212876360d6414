"""Answers in an export of ``recurate serve`` that are no picks of their own: repeats, checks, simulated ones.

The log of a run that people judge marks the slates whose pick is no person's, but a simulated one's or the
rule's after the deadline. The model was trained on those too: they count in forecasts and audits of the loop,
and do not in estimates of what people prefer.

A question that a person is asked again, a question whose answer is known and a question that a simulated
person answers each add rows to the export, and would count as picks of people. They are left out unless the
user includes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.arrays import BoolArray, IntArray
from recurate.core.errors import InputError, counted, nearest
from recurate.core.limits import ROWS
from recurate.log.reading.mapping import Given
from recurate.log.reading.sources import FILE, Source, open_source
from recurate.log.reading.values import array_of, blank, codes_of, flags_of

OF_STUDY = " of study "  # between a person's name and the study, where both are needed
KINDS = {"repeats": "repeated", "checks": "check", "simulated": "simulated"}  # and their columns
WORDS = {"repeats": "{repeat|repeats}", "checks": "{check|checks}", "simulated": "simulated {pick|picks}"}
SLATE = ("round", "slate")
QUESTION = ("study", "round", "asked", "chooser")  # a question, and whom it was put to
ROW = (*QUESTION, "time", "slot")  # a candidate of an answer
EXPORT = frozenset({"asked", "shown", "outcome", "chooser"})  # columns that every export has
JUDGED = frozenset(
    {"source", "item", "outcome", "chooser", "simulated"}
)  # of the log of a run that people judge
NO_ANSWER = -1  # rows of no slate: real data, and candidates that were not shown


@dataclass(frozen=True)
class Answers:
    """A source without the answers that are left out.

    Attributes:
        source: The source; the one that was passed if nothing is left out.
        notes: What was left out, or why nothing was.
        left_out: Number of answers that are left out.
    """

    source: Source
    notes: tuple[str, ...] = ()
    left_out: int = 0


def standing(file: Source, given: Given, *, loop: bool = False) -> Answers:
    """Return an export of ``recurate serve`` without repeats, checks and simulated answers.

    Other sources are returned as they are, but for the log of a run that people judge.

    An answer of several kinds is counted once: as simulated, else as a check.

    Args:
        file: The source.
        given: What the user said; ``include`` names kinds that are kept.
        loop: Whether the loop is asked about, not people: what a run was trained on is kept.

    Raises:
        InputError: If every answer would be left out, or a column does not say yes or no for each answer.
    """
    present = {kind: column for kind, column in KINDS.items() if column in file.schema.names}
    export, judged = is_export(file), is_judged(file)
    if not export and not judged:
        return Answers(file, _unused(file, given, list(present.values())))
    if judged and loop:
        return Answers(file, _trained_on(file, given))
    file, once = _once(file) if export else (file, ())
    file, told = _by_study(file) if export else (file, ())
    told = (*once, *told)
    kinds = _kinds(file, given, {"simulated": "simulated"} if judged else present)
    left = {kind: own for kind, own in kinds.items() if own.any()}
    if not left:
        return Answers(file, told)
    rows = np.logical_or.reduce(list(left.values()))
    table = file.read()
    answer = _answer_of(table)
    counts = {kind: np.unique(answer[own]).size for kind, own in left.items()}
    if rows[answer != NO_ANSWER].all():
        raise InputError(
            f"every answer in {file.name} would be left out",
            got=_listed(counts),
            remedy=f"{_option(given, counts)} counts them",
        )
    note = f"left out: {_listed(counts)}; {_option(given, counts)} counts them"
    kept = open_source(table.filter(pa.array(~rows)))
    return Answers(replace(kept, name=file.name, said=file.notes), (*told, note), sum(counts.values()))


def _once(file: Source) -> tuple[Source, tuple[str, ...]]:
    """Return an export in which every answer is once, though several exports of one study may have it.

    Each export numbers its slates and items anew: an answer is known by who gave it to what, and when.

    Raises:
        InputError: If two exports of one study disagree on an answer.
    """
    if not {*ROW, "slate"} <= set(file.schema.names) or not _twice(file):
        return file, ()
    table = file.read()
    names = (*ROW, *(n for n in ("picked", FILE) if n in table.column_names))
    columns = {n: np.array([str(v) for v in array_of(table, n)]) for n in names}
    rows, answer = codes_of(columns, ROW), codes_of(columns, (*QUESTION, "time"))
    pairs = np.unique(np.stack([rows, codes_of({"row": rows} | columns, ("row", "picked"))]), axis=1)[0]
    torn = _changed(columns) | (np.bincount(pairs) > 1)[rows]
    if torn.any():
        raise InputError(
            f"{file.name}: exports of one study disagree",
            got=counted(
                np.unique(codes_of(columns, QUESTION)[torn]).size, "{answer|answers} that {differs|differ}"
            ),
            remedy="give the newest export of each study alone",
        )
    first = np.zeros(len(rows), bool)
    first[np.unique(rows, return_index=True)[1]] = True
    item = codes_of({"shown": array_of(table, "shown")}, ("shown",))
    kept = _renumbered(table, {"slate": pa.array(answer), "item": pa.array(item)}).filter(pa.array(first))
    again = counted(np.unique(answer[~first]).size, "{answer is|answers are}")
    note = f"{again} there several times, and counted once"
    return replace(open_source(kept), name=file.name, said=file.notes), (note,)


def _twice(file: Source) -> bool:
    """Return whether a source is of several exports that share answers; comparing all rows takes long.

    Of one export a slate has each place once, also where answers have one time, as imported ones may.
    """
    key = list(ROW) if FILE in file.schema.names else ["study", *SLATE, "slot"]
    counts = file.read(key).group_by(key).aggregate([([], "count_all")]).column("count_all")
    return bool(counts.length() and pc.max(counts).as_py() > 1)


def _changed(columns: Mapping[str, np.ndarray]) -> BoolArray:
    """Return the rows of questions that somebody answered at one time in one file, at another in another."""
    question = codes_of(columns, QUESTION)
    if FILE not in columns:
        return np.zeros(len(question), bool)
    own = {"question": question, "time": columns["time"], FILE: columns[FILE]}
    here = codes_of(own, ("question", FILE))
    of_file = np.unique(np.stack([here, question, codes_of(own, ("question", FILE, "time"))]), axis=1)
    most = np.zeros(question.max() + 1, int)
    np.maximum.at(most, of_file[1], np.bincount(of_file[0])[of_file[0]])
    of_all = np.unique(np.stack([question, codes_of(own, ("question", "time"))]), axis=1)[0]
    return (np.bincount(of_all, minlength=len(most)) > most)[question]


def _renumbered(table: pa.Table, new: Mapping[str, pa.Array]) -> pa.Table:
    """Return a table with other values in those of these columns that it has."""
    for name, values in new.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
    return table


def _by_study(file: Source) -> tuple[Source, tuple[str, ...]]:
    """Return an export whose people, slates and items are told apart where it is of several studies.

    Each study numbers its own people, slates and items from the start.
    """
    studies = _studies(file)
    if studies < 2:
        return file, ()
    table = file.read()
    study = [str(s or "") for s in array_of(table, "study")]
    names = array_of(table, "chooser")
    people = [
        n if not n or OF_STUDY in str(n) else f"{n}{OF_STUDY}{s}" for n, s in zip(names, study, strict=True)
    ]
    slate = codes_of({"study": np.array(study), "slate": array_of(table, "slate")}, ("study", "slate"))
    item = codes_of({"shown": array_of(table, "shown")}, ("shown",))
    new = {"chooser": pa.array(people, pa.string()), "slate": pa.array(slate), "item": pa.array(item)}
    table = _renumbered(table, new)
    note = f"{studies} studies: their people and slates are told apart by the column 'study'"
    return replace(open_source(table), name=file.name, said=file.notes), (note,)


def _studies(file: Source) -> int:
    """Return the number of studies that an export is of; rows that do not say it are one more."""
    if "study" not in file.schema.names:
        return 1
    return len({str(s or "") for s in file.read(["study"]).column("study").unique().to_pylist()})


def _answer_of(table: pa.Table) -> IntArray:
    """Return a number for the answer of each row, (rows,), or NO_ANSWER; without slates, each row is one."""
    if "slate" not in table.column_names:
        return np.arange(table.num_rows)
    columns = {n: array_of(table, n) for n in SLATE if n in table.column_names}
    return np.where(blank(columns["slate"]), NO_ANSWER, codes_of(columns, SLATE))


def is_export(file: Source) -> bool:
    """Return whether a source has the columns of an export of ``recurate serve``."""
    return set(file.schema.names) >= EXPORT


def is_judged(file: Source) -> bool:
    """Return whether a source has the columns of the log of a run that people judge."""
    return set(file.schema.names) >= JUDGED and not is_export(file)


def _trained_on(file: Source, given: Given) -> tuple[str, ...]:
    """Return a note on the picks of a run's log that are no person's, and on kinds named in vain."""
    check_include(given.include)
    said = ("--include has no effect: all picks that the run was trained on count",) if given.include else ()
    table = _read(file, "simulated")
    answer = _answer_of(table)
    count = np.unique(answer[_flags(table, "simulated", answer)]).size
    if not count:
        return said
    who = "of simulated people or of the rule after the deadline"
    return (
        f"{counted(count, '{pick|picks}')} {who} {'counts' if count == 1 else 'count'}: the run was trained "
        "on them; a rule is compared with people's picks alone",
        *said,
    )


def check_in_parts(file: Source, given: Given) -> None:
    """Raise InputError if answers of a source that is read in parts would have to be left out."""
    present = {kind: column for kind, column in KINDS.items() if column in file.schema.names}
    if not is_export(file) and not (given.picks and is_judged(file)):
        return
    if is_export(file) and (studies := _studies(file)) > 1:
        raise InputError(
            f"{file.name} is read in parts, where the people of several studies cannot be told apart",
            got=f"{studies} studies",
            remedy=f"fit one study at a time; or, with memory enough, {ROWS}=1000000000 in the environment",
        )
    left = [kind for kind, own in _kinds(file, given, present).items() if own.any()]
    if left:
        raise InputError(
            f"{file.name} is read in parts, where {' and '.join(left)} cannot be left out",
            got=f"answers flagged by {', '.join(KINDS[kind] for kind in left)}",
            remedy=f"{_option(given, left)} counts them; or, with memory enough, {ROWS}=1000000000 in the "
            "environment",
        )


def check_include(include: Sequence[str]) -> None:
    """Raise InputError if a kind of answers is unknown."""
    for kind in include:
        if kind not in KINDS:
            raise InputError(
                "--include names repeats, checks or simulated", got=kind, remedy=nearest(kind, list(KINDS))
            )


def _kinds(file: Source, given: Given, present: dict[str, str]) -> dict[str, BoolArray]:
    """Return which rows belong to each kind that is not included, (rows,) each; no row is of two kinds."""
    check_include(given.include)
    wanted = {kind: column for kind, column in present.items() if kind not in given.include}
    if not wanted:
        return {}
    table = _read(file, *wanted.values())
    answer = _answer_of(table)
    found = {kind: _flags(table, column, answer) for kind, column in wanted.items()}
    taken = np.zeros(table.num_rows, bool)
    for kind in reversed(list(found)):  # simulated first, then checks
        found[kind] &= ~taken
        taken |= found[kind]
    return found


def _read(file: Source, *names: str) -> pa.Table:
    """Return some columns of a source, and those that tell its answers apart."""
    return file.read([*names, *(n for n in SLATE if n in file.schema.names)])


def _flags(table: pa.Table, name: str, answer: IntArray) -> BoolArray:
    """Return the rows of answers that a column flags, (rows,); empty values, as in joined files, are no.

    Rows of no slate are not flagged: they belong to no answer.
    """
    column = table.column(name)
    if pa.types.is_boolean(column.type):
        flags = np.asarray(pc.fill_null(column, False).to_numpy(), bool)
    else:
        values = array_of(table, name)
        numbers = np.where(blank(values), 0.0, flags_of(values))
        if np.isnan(numbers).any():
            raise InputError(
                f"the column {name!r} of this export must say true or false",
                got=repr(values[np.isnan(numbers)][0]),
                remedy="export the picks again: recurate serve STUDY --export FILE",
            )
        flags = numbers == 1
    own: BoolArray = flags & (answer != NO_ANSWER)
    mixed = np.intersect1d(answer[own], answer[~own]).size
    if mixed:
        raise InputError(
            f"the column {name!r} differs between the candidates of one answer",
            got=counted(mixed, "such {answer|answers}"),
            remedy="export the picks again: recurate serve STUDY --export FILE",
        )
    return own


def _unused(file: Source, given: Given, columns: Sequence[str]) -> tuple[str, ...]:
    """Return a note on each column of flags of a table that is no export, and on kinds named in vain."""
    check_include(given.include)
    notes = []
    if given.include:
        notes.append("--include has no effect: this is not an export of recurate serve")
    head = file.head() if columns else None
    for name in columns:
        assert head is not None
        if _are_flags(head, name):
            notes.append(
                f"no slate is left out by the column {name!r}: this is not an export of recurate serve"
            )
    return tuple(notes)


def _are_flags(table: pa.Table, name: str) -> bool:
    """Return whether a column says yes or no, and nothing else, where it is not empty."""
    if pa.types.is_nested(table.column(name).type):
        return False
    values = array_of(table, name)
    there = ~blank(values)
    return bool(there.any() and not np.isnan(flags_of(values[there].astype(object))).any())


def _option(given: Given, left: Collection[str]) -> str:
    """Return the option that includes what is left out, beside what is included already."""
    return f"--include {','.join(kind for kind in KINDS if kind in left or kind in given.include)}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(counted(count, WORDS[kind]) for kind, count in counts.items())
