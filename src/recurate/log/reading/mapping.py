"""One reading of a table, what the user said about it, and the columns that these name."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass, field

from recurate.core.errors import InputError, nearest
from recurate.log.reading.names import listed

FORMS = ("long", "wide", "pairs", "lists", "rankings")
# How picks are written down.
FLAGS, NAMED, RANK, RATING, PLACE, MARKS, COUNTS, CHOSEN, TEXT, BEST_WORST, NOTHING = (
    "flags", "named", "rank", "rating", "place", "marks", "counts", "chosen", "text", "best_worst", "",
)  # fmt: skip


@dataclass(frozen=True)
class Mapping:
    """One reading of a table.

    Attributes:
        form: Form of the file, one of ``FORMS``.
        roles: Column of each role; roles are keys of ``SYNONYMS``.
        votes: Columns of picks, one per chooser if there are several.
        alternatives: Names of a wide file's alternatives, in the order of their codes.
        stems: For each attribute of wide files and pairs, the column of every alternative, or None; for
            lists, the columns of lists.
        ordered: Whether the user gave the alternatives in the order of their codes.
        joined: Column that names all alternatives at once, and its separator; None without one.
        guessed: Roles that were guessed rather than given.
        how: How picks are written down; ``NOTHING`` if none are.
        marks: One column per alternative, of flags, ranks, ratings or counts; a last one may mark ties.
        keys: Columns that identify a slate of a long file, together.
        blocks: Size of the slates of a long file that numbers the alternatives of each slate; 0 otherwise.
        rewards: Columns or attributes that hold the candidates' rewards.
        yes: Value that marks the picked candidate in a column of flags, where it is no usual word for yes; or
            the alternative, one of two, that a single column of flags is about.
        places_from: Number of the first place where picks are places, if the user said it.
        reasons: Why each role was given to its column.
        rivals: Other columns that each role might have had.
    """

    form: str
    roles: dict[str, str] = field(default_factory=dict)
    votes: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    stems: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    ordered: bool = False
    joined: tuple[str, str] | None = None
    guessed: frozenset[str] = frozenset()
    how: str = NOTHING
    marks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    blocks: int = 0
    rewards: tuple[str, ...] = ()
    yes: str = ""
    places_from: int | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    rivals: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def lines(self) -> list[tuple[str, str]]:
        """Return (role, column) pairs to show; guesses are marked."""
        rows = [("form", self.form)]
        rows += [(r, column + " (guessed)" * (r in self.guessed)) for r, column in self.roles.items()]
        if self.votes and "pick" not in self.roles:
            rows.append(("picks", ", ".join(self.votes)))
        if self.marks:
            rows.append((marked(self), ", ".join(self.marks)))
        if self.alternatives:
            rows.append(("alternatives", ", ".join(self.alternatives)))
        rows += [
            (stem or "item", ", ".join(c or "-" for c in columns)) for stem, columns in self.stems.items()
        ]
        if self.joined:
            rows.append(("item", f"{self.joined[0]}, separated by {self.joined[1]!r} (guessed)"))
        return rows


def marked(mapping: Mapping) -> str:
    """Return what the columns of marks hold, in a word."""
    return "rank" if mapping.how == TEXT else mapping.how


def columns_of(mapping: Mapping) -> set[str]:
    """Return the columns that a reading uses."""
    found = {*mapping.roles.values(), *mapping.votes, *mapping.marks, *mapping.keys}
    found |= {c for columns in mapping.stems.values() for c in columns if c is not None}
    if mapping.form != "lists":
        found |= set(mapping.rewards) - set(mapping.stems)
    return found | ({mapping.joined[0]} if mapping.joined else set())


def outcome_columns(mapping: Mapping) -> Sequence[str]:
    """Return the columns that hold the picks."""
    roles = (mapping.roles[r] for r in ("pick", "rank", "rating") if r in mapping.roles)
    return tuple(dict.fromkeys((*mapping.votes, *mapping.marks, *roles)))


class TwoReadings(InputError):
    """A reading is plausible in two ways that differ; nothing less plausible is tried in its place."""


def two_ways(unclear: str) -> InputError:
    """Return the error about picks that can be read in two ways; see ``values.Decoded.unclear``."""
    got, _, rewrite = unclear.partition("\n")
    remedy = rewrite or "name the right one: --pick, --rating, --rank, or --places-from 0 or 1"
    return InputError("the picks can be read in two ways", got=got, remedy=remedy)


@dataclass(frozen=True)
class Given:
    """What the user said about a table.

    Attributes:
        roles: Column of each role that was named.
        form: Form of the file, or None.
        alternatives: Alternatives of a wide file, in the order of the codes in its picks.
        rewards: Columns of rewards; ``a+b`` is a sum.
        picks: Whether picks are needed.
        places_from: Number of the first place where picks are places, 0 or 1; None: from the values.
        others: Further columns that the request names, such as features and groups.
        text: Those of them that hold text even if they look like numbers.
        readable: Whether slates whose pick cannot be read are left out of a log, as audits need, instead of
            kept without a pick, as forecasts need.
        include: Kinds of answers of an export of ``recurate serve`` that count: ``repeats``, ``checks``,
            ``simulated``.
    """

    roles: MappingType[str, str] = field(default_factory=dict)
    form: str | None = None
    alternatives: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    picks: bool = True
    others: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    places_from: int | None = None
    readable: bool = False
    include: tuple[str, ...] = ()


def check_given(given: Given, names: Sequence[str]) -> None:
    """Raise InputError if a column or form that the user named does not exist."""
    for role, column in given.roles.items():
        if column not in names and not (role in ("context", "pick") and column == "none"):
            raise InputError(
                f"there is no column {column!r} for --{role}",
                got=f"columns {listed(names)}",
                remedy=nearest(column, names),
            )
    if len(set(given.rewards)) < len(given.rewards):
        raise InputError(
            "columns of rewards must differ from each other",
            got=listed(given.rewards),
            remedy="name each once",
        )
    if len(given.alternatives) == 1:
        raise InputError(
            "there are two or more alternatives",
            got=f"--alternatives {given.alternatives[0]}",
            remedy="list them all, as columns name them: --alternatives A,B",
        )
    for alternative in given.alternatives:
        edge = r"(^|$|[_\-. ])" if not alternative.isdigit() else r"(^|$|\D)"
        if not any(re.search(f"{edge}{re.escape(alternative)}{edge}", n, re.I) for n in names):
            raise InputError(
                f"there is no column of alternative {alternative!r}",
                got=f"columns {listed(names)}",
                remedy="name alternatives as columns do, such as A and B of x_A and x_B: --alternatives A,B",
            )
    if given.form is not None and given.form not in FORMS:
        raise InputError("the form is unknown", got=given.form, remedy=nearest(given.form, FORMS))
