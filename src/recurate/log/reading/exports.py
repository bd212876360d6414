"""Exports whose rows are no slates, as tables with one row per slate.

Argilla lists all people's answers to a question in one cell. Qualtrics and other survey tools put all tasks
of a respondent side by side, in numbered columns, below up to three lines of headings.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError, counted
from recurate.log.reading.columns import is_text
from recurate.log.reading.names import key, listed, named, reward_names
from recurate.log.reading.values import array_of, blank, numbers_of, objects

ANSWERS = ".responses"
RESPONDENT, TASK = "respondent", "task_number"
IMPORT_ID = re.compile(r'^\s*\{\s*"ImportId"')
NUMBER = re.compile(r"\d+")
LETTER = re.compile(r"(?<![A-Za-z])[A-H](?![A-Za-z])|(?<=[_\-. ])[a-h](?=$|[_\-. ])")
NUMERIC = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d+)?")  # 007 is a name
NUMBERS = re.compile(r"-?\d+\.?\d*|-?\.\d+")
PROFILE = re.compile(r"^(?P<stem>.*?)(?P<task>\d+)-(?P<place>\d+)-(?P<attribute>\d+)$")
LABEL = re.compile(r"^(?P<stem>.*?)(?P<task>\d+)-(?P<attribute>\d+)$")
TASKS = ("t", "task", "q", "question", "choice", "set", "choiceset", "scenario", "situation", "trial", "cs")
PLACES = ("a", "alt", "alternative", "option", "opt", "profile", "concept", "card", "candidate", "product")
ASKED = (
    "c",
    "choice",
    "choose",
    "pick",
    "chosen",
    "answer",
    "choicetask",
    "q",
    "selected",
    "task",
    "cbc",
    "wahl",
)


def reshaped(table: pa.Table) -> tuple[pa.Table, tuple[str, ...]] | None:
    """Return a table with one row per slate and what was done, or None for a table that needs no change."""
    answers = _answers(table)
    if answers:
        return _one_row_per_answer(table, answers)
    several = _ratings(table)
    if several and not _told_lists(several):
        return _one_column_per_rating(table, several)
    lists = _lists_in_texts(table)
    if lists:
        return _with_lists(table, lists)
    table, lines = _without_headings(table)
    design = _design(table)
    if design is not None:
        found, notes = _one_row_per_task(table, design)
        return found, (*lines, *notes)
    return (table, lines) if lines else None


# --- answers in lists -----------------------------------------------------------------------------


def _answers(table: pa.Table) -> list[str]:
    """Return the columns of answers that are lists, one answer a person."""
    return [
        f.name for f in table.schema
        if f.name.endswith(ANSWERS) and pa.types.is_list(f.type) and f"{f.name}.users" in table.column_names
    ]  # fmt: skip


def _one_row_per_answer(table: pa.Table, answers: Sequence[str]) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the table with one row per person and record; drafts and discarded answers are left out."""
    people = [_lists(table, f"{a}.users") for a in answers]
    together = [a for a, users in zip(answers, people, strict=True) if users == people[0]]
    status = _lists(table, f"{answers[0]}.status") if f"{answers[0]}.status" in table.column_names else None
    rows, places, dropped = [], [], 0
    for row, users in enumerate(people[0]):
        for place in range(len(users)):
            if status and place < len(status[row]) and status[row][place] not in ("submitted", None):
                dropped += 1
            else:
                rows.append(row)
                places.append(place)
    inside = {n for a in answers for n in (a, f"{a}.users", f"{a}.status")}
    columns: dict[str, Any] = {
        n: table.column(n).take(pa.array(rows, pa.int64())) for n in table.column_names if n not in inside
    }
    for name in together:
        values = _lists(table, name)
        own = [values[r][p] if p < len(values[r]) else None for r, p in zip(rows, places, strict=True)]
        columns |= _ranked(own) if _is_ranking(own) else {name: pa.array(own)}
    columns[f"{together[0]}.users"] = pa.array(
        [people[0][r][p] for r, p in zip(rows, places, strict=True)], pa.string()
    )
    notes = [f"each of the {len(rows)} answers in {together[0]!r} is a row"]
    notes += (
        [counted(dropped, "{answer|answers} that {was|were} not submitted {is|are} left out")]
        if dropped
        else []
    )
    return pa.table(columns), tuple(notes)


def _lists(table: pa.Table, name: str) -> list[list[Any]]:
    return [value or [] for value in table.column(name).to_pylist()]


def _is_ranking(values: Sequence[Any]) -> bool:
    first = next((v for v in values if v), None)
    return isinstance(first, list) and isinstance(first[0], dict) and {"value", "rank"} <= first[0].keys()


def _ranked(values: Sequence[Any]) -> dict[str, pa.Array]:
    """Return one column of ranks per option of answers such as ``[{"value": "response1", "rank": 2}]``."""
    options = dict.fromkeys(str(part["value"]) for v in values for part in v or ())
    ranks = [{str(part["value"]): part["rank"] for part in v or ()} for v in values]
    short = {o: NUMBER.findall(o) for o in options}
    names = {o: f"rank_{short[o][-1]}" if short[o] else f"rank_{o}" for o in options}
    return {names[o]: pa.array([r.get(o) for r in ranks], pa.float64()) for o in options}


# --- several ratings in a cell --------------------------------------------------------------------

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
CELL = re.compile(r"^\s*[\[(]\s*-?[\d.]+(\s*[,;]\s*-?[\d.]+)+\s*[\])]\s*$")


def _ratings(table: pa.Table) -> dict[str, int]:
    """Return the columns of texts such as ``[0.5, 1]``, if several have as many numbers, and how many."""
    found: dict[str, int] = {}
    for field in table.schema:
        if not pa.types.is_string(field.type):
            continue
        values = [v for v in table.column(field.name).slice(0, 200).to_pylist() if v]
        sizes = {len(re.split("[,;]", v)) for v in values if CELL.match(v)}
        if values and len(sizes) == 1 and np.mean([bool(CELL.match(v)) for v in values]) > 0.9:
            found[field.name] = sizes.pop()
    found = {n: size for n, size in found.items() if size <= len(WORDS)}
    return found if len(found) >= 2 and len(set(found.values())) == 1 else {}


def _one_column_per_rating(table: pa.Table, several: dict[str, int]) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the table with a column ``NAME_rating_one``, ``NAME_rating_two`` for each number of a cell."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name not in several:
            columns[name] = table.column(name)
            continue
        cells = [NUMBERS.findall(v) if v and CELL.match(v) else [] for v in table.column(name).to_pylist()]
        for i in range(several[name]):
            own = [float(c[i]) if i < len(c) else None for c in cells]
            columns[f"{name}_rating_{WORDS[i]}"] = pa.array(own, pa.float64())
    count = next(iter(several.values()))
    first = next(iter(several))
    named_so = f"{first}_rating_one to {first}_rating_{WORDS[count - 1]}"
    note = f"each cell of {listed(list(several), 80)} holds {count} ratings: {named_so}"
    return pa.table(columns), (note,)


# --- lists written as texts -----------------------------------------------------------------------


def _told_lists(names: Iterable[str]) -> bool:
    """Return whether a column is called like rewards, ranks, ratings or flags of several candidates."""
    names = list(names)
    return bool(reward_names(names)) or any(named(names, role) for role in ("rank", "rating", "pick"))


def _lists_in_texts(table: pa.Table) -> list[str]:
    """Return the columns of texts such as ``["yes", "no"]``, if one holds numbers and is called so."""
    found = []
    for field in table.schema:
        if not is_text(field.type):
            continue
        values = [v for v in table.column(field.name).slice(0, 200).to_pylist() if v]
        parts = [_list_in(v) for v in values if v.lstrip()[:1] == "["]
        if values and sum(p is not None for p in parts) > 0.9 * len(values):
            found.append(field.name)
    numeric = [n for n in found if all(isinstance(v, int | float) for v in _first(table, n))]
    return found if _told_lists(numeric) else []


def _first(table: pa.Table, name: str) -> list[Any]:
    return next((p for v in table.column(name).to_pylist() if v and (p := _list_in(v))), [])


def _list_in(text: str) -> list[Any] | None:
    """Return the list that a text writes in JSON or as Python does, or None."""
    for reader in (json.loads, ast.literal_eval):
        try:
            found = reader(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def _with_lists(table: pa.Table, names: Sequence[str]) -> tuple[pa.Table, tuple[str, ...]] | None:
    """Return the table with texts of lists as lists; None if the elements of one are of several types."""
    columns = {n: table.column(n) for n in table.column_names}
    try:
        for name in names:
            values = table.column(name).to_pylist()
            columns[name] = pa.array([_list_in(v) if isinstance(v, str) else None for v in values])
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None
    return pa.table(columns), (f"the texts of {listed(list(names), 80)} are read as lists",)


# --- a respondent's tasks side by side ------------------------------------------------------------


def _without_headings(table: pa.Table) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the table without Qualtrics' lines of headings, the last of which holds ImportIds."""
    for name in table.column_names[:3]:
        values = table.column(name).slice(0, 5).to_pylist()
        last = next((i for i, v in enumerate(values) if isinstance(v, str) and IMPORT_ID.match(v)), None)
        if last is not None:
            rest = table.slice(last + 1)
            columns = {n: _typed(rest.column(n)) for n in rest.column_names}
            return pa.table(columns), (
                counted(
                    last + 1,
                    "{line|lines} of headings below the first {is|are} left out",
                ),
            )
    return table, ()


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of texts as numbers if all that are there are numbers."""
    values = [v if v not in ("", None) else None for v in column.to_pylist()]
    if not all(v is None or NUMERIC.fullmatch(str(v)) for v in values):
        return column
    if all(v is None or "." not in str(v) for v in values):
        return pa.chunked_array([pa.array([None if v is None else int(v) for v in values], pa.int64())])
    return pa.chunked_array([pa.array([None if v is None else float(v) for v in values], pa.float64())])


@dataclass(frozen=True)
class _Design:
    """The columns of every task.

    Attributes:
        tasks: Numbers of the tasks.
        picks: Column of the pick of each task.
        places: Numbers of the alternatives.
        cells: Column of each task, alternative and attribute.
        labels: Column that holds the name of a task's attribute; empty if attributes have names of their own.
    """

    tasks: tuple[str, ...]
    picks: dict[str, str]
    places: tuple[str, ...]
    cells: dict[tuple[str, str, str], str]
    labels: dict[tuple[str, str], str]


def _design(table: pa.Table) -> _Design | None:
    """Return the design of numbered columns: picks ``C1, C2``, profiles ``F-1-2-3`` or ``t1_a2_price``."""
    names = table.column_names
    numbered = _numbered(names)
    turned = {(p, t, s): n for (t, p, s), n in numbered.items() if p.isdigit()}
    found = [d for c in (numbered, turned) if (d := _design_of(table, c, {})) is not None]
    profiles = _design_of(table, _profiles(names), _labels(names))
    if profiles is not None or len(found) < 2:
        return next((d for d in (profiles, *found) if d is not None), None)
    for hint in (_named_tasks, _all_picks, _beside_picks):
        told = [hint(names, design) for design in found]
        if told[0] != told[1]:
            return found[told.index(True)]
    one = next(iter(numbered.values()))
    raise InputError(
        f"of the two numbers in names such as {one!r}, the first or the second may be the task's, and the "
        "other the alternative's",
        got=listed(list(numbered.values())),
        remedy="write t before the task's number and a before the alternative's, such as price_t1_a2",
    )


def _design_of(
    table: pa.Table, cells: dict[tuple[str, str, str], str], labels: dict[tuple[str, str], str]
) -> _Design | None:
    """Return the design of columns by (task, alternative, attribute) if each task has a pick among them."""
    tasks = tuple(dict.fromkeys(t for t, _, _ in cells))
    places = tuple(dict.fromkeys(p for _, p, _ in cells))
    picks = _picks(table, tasks, set(cells.values()) | set(labels.values()), len(places))
    if len(tasks) < 2 or len(places) < 2 or picks is None:
        return None
    return _Design(tasks, picks, places, cells, labels)


def _named_tasks(names: Sequence[str], design: _Design) -> bool:
    """Return whether words before the numbers name the task or the alternative, as in ``t1_a2_price``."""
    for (task, place, _), name in design.cells.items():
        words = {n: key(w) for w, n in re.findall(r"([A-Za-z]+)[_\-. ]?(\d+)", name)}
        bare = len(re.findall("[A-Za-z]+", name)) == 1  # a word alone is the attribute
        if task != place and not bare and (words.get(task) in TASKS or words.get(place) in PLACES):
            return True
    return False


def _all_picks(names: Sequence[str], design: _Design) -> bool:
    """Return whether there are as many columns of picks as tasks."""
    stems = {NUMBER.sub("#", name) for name in design.picks.values()}
    return sum(NUMBER.sub("#", name) in stems for name in names) == len(design.tasks)


def _beside_picks(names: Sequence[str], design: _Design) -> bool:
    """Return whether the columns of each task and its pick stand together."""
    place = {name: i for i, name in enumerate(names)}
    for task, pick in design.picks.items():
        own = [place[n] for (t, _, _), n in design.cells.items() if t == task] + [place[pick]]
        if max(own) - min(own) >= len(own):
            return False
    return True


def _profiles(names: Sequence[str]) -> dict[tuple[str, str, str], str]:
    matches = [(m, n) for n in names if (m := PROFILE.match(n))]
    stems = {m["stem"] for m, _ in matches}
    return {(m["task"], m["place"], m["attribute"]): n for m, n in matches} if len(stems) == 1 else {}


def _labels(names: Sequence[str]) -> dict[tuple[str, str], str]:
    return {(m["task"], m["attribute"]): n for n in names if not PROFILE.match(n) and (m := LABEL.match(n))}


def _numbered(names: Sequence[str]) -> dict[tuple[str, str, str], str]:
    """Return the columns with two numbers, a task's first, or with a task's number and a letter."""
    found: dict[tuple[str, str, str], str] = {}
    for name in names:
        numbers, letters = NUMBER.findall(name), LETTER.findall(name)
        if len(numbers) == 2 or (len(numbers) == 1 and len(letters) == 1):
            bare = NUMBER.sub("#", name if len(numbers) == 2 else LETTER.sub("#", name))
            stem = re.sub(r"[_\-. #]+", "_", bare).strip("_")
            found[(numbers[0], (*numbers, *letters)[1], stem)] = name
    stems = {s for _, _, s in found}
    full = {s: {(t, p) for t, p, o in found if o == s} for s in stems}
    most = max((len(v) for v in full.values()), default=0)
    return {k: n for k, n in found.items() if len(full[k[2]]) == most}


def _picks(table: pa.Table, tasks: Sequence[str], taken: set[str], count: int) -> dict[str, str] | None:
    """Return the column of the pick of each task, whose name has one number; None if they are not found."""
    by_stem: dict[str, dict[str, str]] = {}
    for name in table.column_names:
        numbers = NUMBER.findall(name)
        if len(numbers) == 1 and name not in taken:
            by_stem.setdefault(key(NUMBER.sub("", name)), {})[numbers[0]] = name
    for stem, columns in sorted(by_stem.items(), key=lambda s: s[0] not in ASKED):
        usual = stem in ASKED or bool(named([stem], "pick"))
        if usual and set(tasks) <= columns.keys():
            return {t: columns[t] for t in tasks}
    exact = [c for c in by_stem.values() if c.keys() == set(tasks) and _are_places(table, c.values(), count)]
    return exact[0] if len(exact) == 1 else None


def _are_places(table: pa.Table, columns: Iterable[str], count: int) -> bool:
    """Return whether all values are whole numbers from 1 to the number of alternatives (one more: none)."""
    for name in columns:
        values = numbers_of(array_of(table, name))
        there = values[~np.isnan(values)]
        if not there.size or not np.isin(there, np.arange(1, count + 2)).all():
            return False
    return True


def _one_row_per_task(table: pa.Table, design: _Design) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the table with one row per respondent and task: ``choice``, ``price_1``, ``price_2``, ..."""
    count, tasks = table.num_rows, design.tasks
    inside = {*design.picks.values(), *design.cells.values(), *design.labels.values()}
    rest = [n for n in table.column_names if n not in inside]
    index = pa.array(np.repeat(np.arange(count), len(tasks)))
    columns: dict[str, Any] = {n: table.column(n).take(index) for n in rest}
    if not named(rest, "chooser"):
        columns[RESPONDENT] = index
    columns[TASK] = pa.array(list(tasks) * count)
    columns["choice"] = _interleaved([table.column(design.picks[t]).to_pylist() for t in tasks])
    for name, values in _attributes(table, design):
        columns[name] = _interleaved(values)
    note = f"{len(tasks)} tasks of {len(design.places)} alternatives in each row: "
    return pa.table(columns), (note + listed(list(design.picks.values()), 80),)


def _attributes(table: pa.Table, design: _Design) -> Iterator[tuple[str, list[list[Any]]]]:
    """Yield the name of an attribute of an alternative, and its values (tasks, rows)."""
    values = {c: table.column(n).to_pylist() for c, n in design.cells.items()}
    named_by = {c: table.column(n).to_pylist() for c, n in design.labels.items()}
    attributes = dict.fromkeys(a for _, _, a in design.cells)
    nothing = [None] * table.num_rows
    titles = dict.fromkeys(str(v) for column in named_by.values() for v in column if v)
    for place in design.places:
        if not titles:
            for a in attributes:
                yield f"{a}_{place}", [values.get((t, place, a), nothing) for t in design.tasks]
            continue
        for title in titles:  # the order of attributes may differ between respondents
            yield f"{title}_{place}", [
                [
                    next((values[t, place, a][row] for a in attributes if (t, place, a) in values
                          and (t, a) in named_by and named_by[t, a][row] == title), None)
                    for row in range(table.num_rows)
                ]
                for t in design.tasks
            ]  # fmt: skip


def _interleaved(values: Sequence[Sequence[Any]]) -> pa.Array:
    """Return values (tasks, rows) row by row."""
    flat = objects([v for row in zip(*values, strict=True) for v in row])
    flat[blank(flat)] = None
    kinds = {type(v) for v in flat if v is not None}
    return pa.array(flat.tolist() if len(kinds) < 2 else [None if v is None else str(v) for v in flat])
