"""The role of each column, guessed from names and contents; the guess is shown, and the user can overrule it.

Forms of files:

=======  ==============================================================================================
long     one row per candidate: a column of slates, and one of picks (yes/no) or of ranks (1 is best)
wide     one row per slate: columns ``TRAIN_TT, CAR_TT`` or ``response1, response2``, and the picks
pairs    one row per pair: ``chosen`` and ``rejected``
lists    one row per slate: lists of candidates, and a list of ranks or the position of the pick
=======  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Container
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError, nearest

FORMS = ("long", "wide", "pairs", "lists")

# Usual names of columns, the most specific first.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "slate": (
        "slate", "slate_id", "situation", "choice_id", "choiceid", "chid", "obs_id", "obsid", "obs",
        "choice_situation", "comparison", "question_id", "question", "task", "case", "set",
    ),
    "pick": (
        "picked", "chosen", "pick", "choice", "selected", "winner", "preference", "preferred", "is_chosen",
        "label",
    ),
    "rank": ("rank", "ranking", "ranks"),
    "chooser": (
        "chooser", "user_id", "user", "person", "person_id", "respondent", "respondent_id", "annotator",
        "annotator_id", "rater", "worker", "worker_id", "household", "judge", "pid", "participant",
    ),
    "item": ("item", "item_id", "alt", "alternative", "candidate", "option", "model", "name"),
    "position": ("slot", "position", "pos", "place"),
    "context": ("context", "prompt", "query", "instruction"),
    "round": ("round", "iteration"),
    "time": ("time", "timestamp", "date", "created_at"),
}  # fmt: skip
VOTES = re.compile(r"^(annotator|rater|vote|judge|judgement|label|preference)[_ ]?\d+$", re.I)
SUFFIX = re.compile(
    r"^(?P<stem>.*?[^\d_\-. ])[_\-. ]?(?P<alt>\d+|(?<=[_\-. ])[a-hA-H]|(?<=[_\-. ])(?:left|right))$"
)
PREFIX = re.compile(r"^(?P<alt>[A-Za-z0-9\-]+)_(?P<stem>.+)$")
AVAILABLE = ("av", "avail", "available", "availability")


@dataclass(frozen=True)
class Mapping:
    """The role of each column.

    Attributes:
        form: Form of the file, one of ``FORMS``.
        roles: Column of each role; roles are keys of ``SYNONYMS``.
        votes: Columns of picks, one per chooser if there are several.
        alternatives: Names of a wide file's alternatives, in the order of their codes.
        stems: For each attribute of wide files and pairs, the column of every alternative, or None.
        ordered: Whether the user gave the alternatives in the order of their codes.
        joined: Column that names all alternatives at once, and its separator; None without one.
        guessed: Roles that were guessed rather than given.
    """

    form: str
    roles: dict[str, str] = field(default_factory=dict)
    votes: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    stems: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    ordered: bool = False
    joined: tuple[str, str] | None = None
    guessed: frozenset[str] = frozenset()

    def lines(self) -> list[tuple[str, str]]:
        """Return (role, column) pairs to show; guesses are marked."""
        rows = [("form", self.form)]
        rows += [(r, column + " (guessed)" * (r in self.guessed)) for r, column in self.roles.items()]
        if self.votes and "pick" not in self.roles:
            rows.append(("picks", ", ".join(self.votes)))
        if self.alternatives:
            rows.append(("alternatives", ", ".join(self.alternatives)))
        rows += [(stem, ", ".join(c or "-" for c in columns)) for stem, columns in self.stems.items()]
        if self.joined:
            rows.append(("item", f"{self.joined[0]}, separated by {self.joined[1]!r} (guessed)"))
        return rows


def guess(
    table: pa.Table,
    given: MappingType[str, str],
    *,
    form: str | None = None,
    alternatives: tuple[str, ...] = (),
) -> Mapping:
    """Return the mapping of a table; what the user gave is used unchanged, and the rest is guessed.

    Args:
        table: Table as it was read.
        given: Columns that the user named, by role.
        form: Form of the file; None: guess it.
        alternatives: Alternatives of a wide file, in the order of the codes in its picks.

    Raises:
        InputError: If a given column does not exist, or slates and picks cannot be identified.
    """
    names = table.column_names
    for role, column in given.items():
        if column not in names:
            raise InputError(
                f"there is no column {column!r} for --{role}",
                got=f"columns {', '.join(names)}",
                remedy=nearest(column, names),
            )
    if form is not None and form not in FORMS:
        raise InputError("the form is unknown", got=form, remedy=nearest(form, FORMS))
    found = form or _form(table, given, alternatives)
    if found == "long":
        return _long(table, given)
    if found == "lists":
        return _lists(table, given)
    return _wide(table, given, found, alternatives)


def _list_columns(table: pa.Table) -> list[str]:
    return [f.name for f in table.schema if pa.types.is_list(f.type) or pa.types.is_large_list(f.type)]


def _named(names: list[str], role: str, taken: Container[str] = ()) -> str | None:
    lower = {name.lower(): name for name in reversed(names) if name not in taken}
    return next((lower[word] for word in SYNONYMS[role] if word in lower), None)


def _roles(
    table: pa.Table, given: MappingType[str, str], wanted: tuple[str, ...]
) -> tuple[dict[str, str], frozenset[str]]:
    roles = dict(given)
    guessed = set()
    for role in wanted:
        if role not in roles:
            column = _named(table.column_names, role, roles.values())
            if column is not None:
                roles[role] = column
                guessed.add(role)
    return {r: roles[r] for r in (*wanted, *roles) if r in roles}, frozenset(guessed)


def _form(table: pa.Table, given: MappingType[str, str], alternatives: tuple[str, ...]) -> str:
    names = table.column_names
    lower = {name.lower() for name in names}
    if alternatives:
        return "wide"
    if {"chosen", "rejected"} <= lower and "pick" not in given:
        return "pairs"
    slate = given.get("slate") or _named(names, "slate")
    outcome = given.get("pick") or given.get("rank") or _named(names, "pick") or _named(names, "rank")
    lists = _list_columns(table)
    if slate and outcome and outcome not in lists:
        return "long"
    if lists:
        return "lists"
    if _stems(names, ())[1]:
        return "wide"
    raise InputError(
        "the slates and picks of this file cannot be identified",
        got=f"columns {', '.join(names)}",
        remedy="name the columns: --slate COLUMN --pick COLUMN (one row per candidate), or --alternatives "
        "A,B,C --pick COLUMN (one row per slate)",
    )


def _long(table: pa.Table, given: MappingType[str, str]) -> Mapping:
    wanted = ("round", "slate", "pick", "rank", "chooser", "item", "position", "context", "time")
    roles, guessed = _roles(table, given, wanted)
    if "pick" in roles and "rank" in roles and "rank" in guessed:
        del roles["rank"]  # picks are preferred to ranks that were guessed
    if "slate" not in roles or not {"pick", "rank"} & roles.keys():
        raise InputError(
            "a file with one row per candidate needs a column of slates and one of picks or ranks",
            got=f"columns {', '.join(table.column_names)}",
            remedy="name the columns: --slate COLUMN --pick COLUMN",
        )
    if "position" not in roles and "item" in roles and "item" in guessed and _counts_slots(table, roles):
        roles["position"] = roles.pop("item")
        guessed |= {"position"}
    return Mapping("long", roles, guessed=guessed)


def _counts_slots(table: pa.Table, roles: MappingType[str, str]) -> bool:
    """Return whether the item column only numbers the rows of each slate, so that it holds positions."""
    column = table.column(roles["item"])
    if not pa.types.is_integer(column.type):
        return False
    widest = table.group_by(roles["slate"]).aggregate([([], "count_all")]).column("count_all")
    values = pc.unique(column)
    return len(values) <= (pc.max(widest).as_py() or 0) and set(values.to_pylist()) <= set(
        range(len(values) + 1)
    )


def _lists(table: pa.Table, given: MappingType[str, str]) -> Mapping:
    lists = _list_columns(table)
    roles, guessed = _roles(table, given, ("rank", "pick", "chooser", "context", "round", "time"))
    if "rank" in roles and roles["rank"] not in lists:
        del roles["rank"]
    if "rank" in roles and "pick" in roles and "pick" in guessed:
        del roles["pick"]
    if not {"rank", "pick"} & roles.keys():
        raise InputError(
            "a file of lists needs a list of ranks, or a column with the position of the pick",
            got=f"columns {', '.join(table.column_names)}",
            remedy="name the column: --rank COLUMN or --pick COLUMN",
        )
    free = [n for n in lists if n not in roles.values()]
    words = [n for n in free if pa.types.is_string(table.schema.field(n).type.value_type)]
    if "item" not in roles and words:
        roles["item"], guessed = words[0], guessed | {"item"}
    stems: dict[str, tuple[str | None, ...]] = {n: (n,) for n in free if n not in roles.values()}
    return Mapping("lists", roles, stems=stems, guessed=guessed)


def _wide(table: pa.Table, given: MappingType[str, str], form: str, alternatives: tuple[str, ...]) -> Mapping:
    names = table.column_names
    wanted = ("chooser", "context", "round", "time")
    if form == "pairs":
        roles, guessed = _roles(table, given, wanted)
        return Mapping("pairs", roles, (), ("chosen", "rejected"), _pair_stems(names), guessed=guessed)
    votes = tuple(n for n in names if VOTES.match(n)) if "pick" not in given else ()
    roles, guessed = _roles(table, given, wanted if len(votes) > 1 else ("pick", *wanted))
    if len(votes) == 1 and "pick" not in roles:
        roles["pick"], guessed = votes[0], guessed | {"pick"}
    votes = votes if len(votes) > 1 else (roles["pick"],) if "pick" in roles else ()
    if not votes:
        raise InputError(
            "a file with one row per slate needs a column of picks",
            got=f"columns {', '.join(names)}",
            remedy="name the column: --pick COLUMN",
        )
    taken = {*roles.values(), *votes}
    found, stems = _stems([n for n in names if n not in taken], alternatives)
    found = alternatives or found
    named = any(stem.lower() in SYNONYMS["item"] for stem in stems)
    joined = None if named else _joined(table, len(found), taken)
    return Mapping("wide", roles, votes, tuple(found), stems, bool(alternatives), joined, guessed)


def _pair_stems(names: list[str]) -> dict[str, tuple[str | None, ...]]:
    """Return the columns of the chosen and the rejected candidate, by attribute (text, score and so on)."""
    stems: dict[str, tuple[str | None, ...]] = {}
    for name in names:
        lower = name.lower()
        if "chosen" not in lower:
            continue
        other = next((n for n in names if n.lower() == lower.replace("chosen", "rejected")), None)
        if other is not None:
            stem = re.sub(r"[_\-. ]?chosen[_\-. ]?", "", lower) or "text"
            stems[stem] = (name, other)
    return stems


def _stems(
    names: list[str], alternatives: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]]:
    """Return the alternatives and, for each attribute, the column of every alternative.

    A column's name is ``stem`` + alternative (``price1``, ``text_a``) or alternative + ``_stem``; the pattern
    that matches more columns is used.
    """
    best: tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]] = ((), {})
    for pattern in (SUFFIX, PREFIX):
        by_stem: dict[str, dict[str, str]] = {}
        for name in names:
            match = pattern.match(name)
            if match and (not alternatives or match["alt"] in alternatives) and not VOTES.match(name):
                by_stem.setdefault(match["stem"], {})[match["alt"]] = name
        shared = {stem: columns for stem, columns in by_stem.items() if len(columns) >= 2}
        found = alternatives or tuple(dict.fromkeys(a for columns in shared.values() for a in columns))
        # An attribute that only one alternative has, such as seats in a train, is included.
        known = {s: c for s, c in by_stem.items() if s in shared or (c.keys() <= set(found) and shared)}
        stems = {s: tuple(c.get(a) for a in found) for s, c in known.items()}
        if sum(len(c) for c in known.values()) > sum(sum(x is not None for x in c) for c in best[1].values()):
            best = found, stems
    return best


def _joined(table: pa.Table, count: int, taken: set[str]) -> tuple[str, str] | None:
    """Return a column of texts that name all alternatives, as in ``model-x_model-y``, and its separator."""
    for name in table.column_names:
        if name in taken or not pa.types.is_string(table.schema.field(name).type) or count < 2:
            continue
        values = [v for v in pc.unique(table.column(name)).to_pylist() if v is not None]
        if not values or len(values) > max(20, table.num_rows // 10):
            continue
        for separator in (" vs ", "||", "|", "_", ",", "/"):
            parts = [v.split(separator) for v in values]
            if all(len(p) == count and all(p) and len(set(p)) == count for p in parts):
                return name, separator
    return None
