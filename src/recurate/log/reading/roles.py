"""Every plausible reading of a table: its form, and the role of each column.

Forms of files:

========  =============================================================================================
long      one row per candidate: a column of slates, and one of picks (yes/no, or the name of the picked
          alternative), of ranks (1 is best) or of ratings; or prompts with one row per sample
wide      one row per slate: columns ``TRAIN_TT, CAR_TT`` or ``response1, response2``, and the picks, which
          name an alternative or a candidate, mark it (``label_0, label_1``), rank, rate or count
pairs     one row per pair: ``chosen`` and ``rejected``, or ``winner`` and ``loser``
lists     one row per slate: lists of candidates, and a list of ranks, ratings, flags or rewards, or the
          position of the pick
rankings  one row per ranking: ``b > a > d``
========  =============================================================================================

:func:`readings` proposes; :mod:`recurate.log.reading.understand` tries each one and chooses.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError, nearest
from recurate.log.reading import names as usual
from recurate.log.reading.names import key, listed, named
from recurate.log.reading.values import (
    TIES,
    Names,
    are_flags,
    array_of,
    blank,
    decode_words,
    flags_of,
    numbers_of,
    objects,
    prompt_of,
)

FORMS = ("long", "wide", "pairs", "lists", "rankings")
# How picks are written down.
FLAGS, NAMED, RANK, RATING, PLACE, MARKS, COUNTS, CHOSEN, TEXT, BEST_WORST, NOTHING = (
    "flags", "named", "rank", "rating", "place", "marks", "counts", "chosen", "text", "best_worst", "",
)  # fmt: skip
VOTES = re.compile(r"^(annotator|rater|vote|judge|judgement|label|preference)[_ ]?\d+$", re.I)
SUFFIX = re.compile(
    r"^(?P<stem>.*?[^\d_\-. ])[_\-. ]?"
    r"(?P<alt>\d+|(?<=[_\-. ])[a-hA-H]|(?<=[_\-. ])(?:left|right|first|second))$"
)
LAST = re.compile(r"^(?P<stem>.+)[._](?P<alt>[A-Za-z0-9\-]+)$")
PREFIX = re.compile(r"^(?P<alt>[A-Za-z0-9\-]+)[_.](?P<stem>.+)$")
NUMBER_FIRST = re.compile(r"^(?P<alt>\d+)[_\-. ]?(?P<stem>[A-Za-z].*)$")
RANK_OF = re.compile(r"^(rank(ing)?|r)[_\-. ]|[_\-. ]rank$", re.I)
AVAILABLE = ("av", "avail", "available", "availability")
MARK_WORDS = (
    "label", "winner", "won", "win", "chosen", "choice", "picked", "pick", "selected", "preferred",
    "is_chosen",
    "best",
)  # fmt: skip
ITEM_STEMS = (
    "item", "model", "alternative", "name", "option", "candidate", "generator", "system", "brand", "product",
    "player", "team", "",
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
            rows.append((self.how, ", ".join(self.marks)))
        if self.alternatives:
            rows.append(("alternatives", ", ".join(self.alternatives)))
        rows += [
            (stem or "item", ", ".join(c or "-" for c in columns)) for stem, columns in self.stems.items()
        ]
        if self.joined:
            rows.append(("item", f"{self.joined[0]}, separated by {self.joined[1]!r} (guessed)"))
        return rows


def columns_of(mapping: Mapping) -> set[str]:
    """Return the columns that a reading uses."""
    found = {*mapping.roles.values(), *mapping.votes, *mapping.marks, *mapping.keys}
    found |= {c for columns in mapping.stems.values() for c in columns if c is not None}
    if mapping.form != "lists":
        found |= set(mapping.rewards) - set(mapping.stems)
    return found | ({mapping.joined[0]} if mapping.joined else set())


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
    """

    roles: MappingType[str, str] = field(default_factory=dict)
    form: str | None = None
    alternatives: tuple[str, ...] = ()
    rewards: tuple[str, ...] = ()
    picks: bool = True
    others: tuple[str, ...] = ()
    places_from: int | None = None


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
    if given.form is not None and given.form not in FORMS:
        raise InputError("the form is unknown", got=given.form, remedy=nearest(given.form, FORMS))


def readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield every plausible reading of a table, the likelier first.

    Args:
        table: The table, or its first rows.
        given: What the user said.
    """
    forms = {"long": _long, "pairs": _pairs, "wide": _wide, "rankings": _rankings, "lists": _lists}
    if given.form is not None:
        forms = {given.form: forms[given.form]}
    elif given.alternatives:
        forms = {"wide": _wide}
    elif "slate" in given.roles:
        forms = {"long": _long}
    unpicked = given.roles.get("pick") == "none"
    if unpicked:
        given = replace(given, roles={r: c for r, c in given.roles.items() if r != "pick"})
    for make in forms.values():
        for found in make(table, given):
            if _honours(found, given) and not (unpicked and found.how != NOTHING):
                yield replace(found, places_from=given.places_from)


def _honours(found: Mapping, given: Given) -> bool:
    """Return whether a reading uses what the user named."""
    used = columns_of(found)
    return all(
        c in used or c == "none" for r, c in given.roles.items() if r in ("slate", "pick", "rank", "rating")
    )


# --- roles that every form has --------------------------------------------------------------------


def _roles(
    table: pa.Table, given: MappingType[str, str], wanted: Sequence[str], taken: Sequence[str] = ()
) -> Mapping:
    """Return a mapping with the roles that are given or have a usual name; the form is filled in later."""
    roles = {role: column for role, column in given.items() if not (role == "context" and column == "none")}
    reasons = dict.fromkeys(roles, "given")
    rivals: dict[str, tuple[str, ...]] = {}
    guessed = set()
    for role in wanted:
        if role in given:
            continue
        found = [
            n for n in named(table.column_names, role, (*roles.values(), *taken)) if _fits(table, n, role)
        ]
        if found:
            roles[role], reasons[role] = found[0], "its name"
            guessed.add(role)
            if len(found) > 1:
                rivals[role] = tuple(found[1:])
    ordered = {r: roles[r] for r in (*wanted, *roles) if r in roles}
    return Mapping("", ordered, guessed=frozenset(guessed), reasons=reasons, rivals=rivals)


def _fits(table: pa.Table, name: str, role: str) -> bool:
    """Return whether a column's type and values can have a role that its name suggests."""
    kind = table.schema.field(name).type
    nested = pa.types.is_nested(kind)
    if role == "context":
        return not pa.types.is_floating(kind) and table.column(name).null_count < table.num_rows
    if nested or table.column(name).null_count == table.num_rows:
        return False
    if role == "round":
        return _whole(table, name)
    if role == "chooser":
        return not (pa.types.is_floating(kind) and not _whole(table, name))
    return True


def _whole(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    if pa.types.is_integer(kind):
        return True
    if not pa.types.is_floating(kind) or table.column(name).null_count == table.num_rows:
        return False
    values = np.asarray(table.column(name).drop_null().to_numpy(), float)
    return bool((values == np.round(values)).all())


def is_list(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is a list."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_chat(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is a list of messages, structs with a role and a content."""
    if not is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    fields = {f.name for f in kind.value_type}
    return bool({"role", "content"} <= fields or {"from", "value"} <= fields)


def is_text(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is text, dictionary-encoded or not."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_numeric(kind: pa.DataType) -> bool:
    """Return whether an Arrow type is a number or a Boolean."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def holds_numbers(table: pa.Table, name: str) -> bool:
    """Return whether a column holds numbers, or texts most of which are numbers."""
    kind = table.schema.field(name).type
    if is_numeric(kind) or not is_text(kind):
        return is_numeric(kind)
    there = [v for v in table.column(name).slice(0, 1000).to_pylist() if v]
    return bool(there) and bool(np.isfinite(numbers_of(objects(there))).mean() > 0.5)


def _flat(table: pa.Table) -> list[str]:
    return [f.name for f in table.schema if not pa.types.is_nested(f.type)]


# --- long -----------------------------------------------------------------------------------------

LONG = ("round", "pick", "rank", "rating", "chooser", "item", "position", "context", "time")


def _long(table: pa.Table, given: Given) -> Iterator[Mapping]:
    slates = [given.roles["slate"]] if "slate" in given.roles else named(_flat(table), "slate")
    base = _roles(table, given.roles, ("round", "chooser", "context", "time"), taken=slates[:1])
    outcomes = list(_outcomes(table, given))
    if not given.picks and not _numbered_rewards(table, given):
        outcomes.append((NOTHING, ""))
    yield from _best_and_worst(table, given, base, slates)
    for how, column in outcomes:
        here = slates
        if how == NOTHING and "slate" not in given.roles:  # without picks a question is a prompt
            here = [s for s in slates if not named([s], "context")]
            base = _roles(table, given.roles, ("round", "chooser", "context", "time"), taken=here[:1])
        for slate in here or [""]:
            if slate and slate == column:
                continue
            found = _with_outcome(table, given, base, how, column, slate)
            if found is not None:
                yield found


def _best_and_worst(table: pa.Table, given: Given, base: Mapping, slates: Sequence[str]) -> Iterator[Mapping]:
    """Yield the readings in which one column flags the best of each slate, and another the worst."""
    if {"pick", "rank", "rating"} & given.roles.keys():
        return
    flags = [
        n
        for n in (*named(_flat(table), "pick"), *named(_flat(table), "worst"))
        if are_flags(array_of(table, n))
    ]
    best = [n for n in flags if key(n) in ("best", "isbest", "most")]
    worst = named(flags, "worst")
    for slate in slates or [""]:
        found = _with_outcome(table, given, base, FLAGS, best[0], slate) if best and worst else None
        if found is not None:
            roles = {r: c for r, c in found.roles.items() if c not in (best[0], worst[0])}
            yield replace(found, how=BEST_WORST, roles=roles, votes=(best[0], worst[0]))


def _numbered_rewards(table: pa.Table, given: Given) -> bool:
    """Return whether rewards are numbered like other columns: completion_0, reward_0, completion_1, ..."""
    if given.rewards:
        return False
    rewards = usual.reward_names(_flat(table))
    for alternatives, stems in _groupings(table, table.column_names, ()):
        inside = {c for columns in stems.values() for c in columns}
        counted = all(re.fullmatch(r"\d+|[A-Ha-h]|left|right", a) for a in alternatives)
        if len(rewards) > 1 and set(rewards) <= inside and len(stems) > 1 and counted:
            return True
    return False


def _outcomes(table: pa.Table, given: Given) -> Iterator[tuple[str, str]]:
    """Yield (how, column) of the picks of a long file: those named, else those with usual names."""
    names = _flat(table)
    for role, how in (("pick", ""), ("rank", RANK), ("rating", RATING)):
        if role in given.roles:
            yield from ((h, given.roles[role]) for h in ([how] if how else [FLAGS, NAMED]))
    if {"pick", "rank", "rating"} & given.roles.keys():
        return
    for name in named(names, "pick"):
        yield FLAGS, name
        yield NAMED, name
    for name in named(names, "rank"):
        yield RANK, name
    if given.picks:
        for name in named(names, "rating"):
            yield RATING, name


def _with_outcome(
    table: pa.Table, given: Given, base: Mapping, how: str, column: str, slate: str
) -> Mapping | None:
    role = how if how in (RANK, RATING) else "pick"
    taken = {*base.roles.values(), column, slate}
    more = _roles(table, given.roles, ("item", "position"), taken=tuple(taken))
    roles = {**base.roles, **more.roles}
    guessed, reasons = base.guessed | more.guessed, base.reasons | more.reasons
    if how != NOTHING:
        roles = {r: c for r, c in roles.items() if c != column} | {role: column}
        if role not in given.roles:
            guessed, reasons = guessed | {role}, reasons | {role: "its name"}
    if slate:
        roles = {r: c for r, c in roles.items() if c != slate or r == "slate"} | {"slate": slate}
        if "slate" not in given.roles:
            guessed, reasons = guessed | {"slate"}, reasons | {"slate": "its name"}
    if how == NAMED and ("item" not in roles or not _names_items(table, column, roles["item"])):
        return None
    if (
        how == FLAGS
        and not are_flags(array_of(table, column))
        and "pick" not in given.roles
        and column != "picked"
    ):
        values = flags_of(array_of(table, column))
        if np.isnan(values).mean() > 0.9:
            return None
    if not given.picks:
        roles = _of_samples(table, given, roles, base.rivals)
    order = ("round", "slate", "pick", "rank", "rating", "chooser", "item", "position", "context", "time")
    rewards = tuple(given.rewards) or tuple(
        n for n in usual.reward_names(_flat(table)) if n not in roles.values() and holds_numbers(table, n)
    )
    rivals = base.rivals | more.rivals
    if "context" in rivals:
        rivals["context"] = tuple(n for n in _contexts(base) if n != roles.get("context"))
    others = tuple(
        n for n in _flat(table) if n not in rewards and usual.reward_names([n]) and holds_numbers(table, n)
    )
    rivals |= {"reward": others} if rewards and others and not given.rewards else {}
    found = replace(
        base,
        form="long",
        how=how,
        roles={r: roles[r] for r in (*order, *roles) if r in roles},
        guessed=guessed,
        reasons=reasons,
        rivals=rivals,
        rewards=rewards,
    )
    if "position" not in found.roles and "item" in found.roles and "item" in found.guessed and how != NAMED:
        found = _as_position(table, found)
    keyed = _keyed(table, found, pool=not given.picks)
    return keyed if keyed is None or how != FLAGS else _flagged(table, keyed)


def _contexts(base: Mapping) -> tuple[str, ...]:
    return (*([base.roles["context"]] if "context" in base.roles else []), *base.rivals.get("context", ()))


def _of_samples(
    table: pa.Table, given: Given, roles: dict[str, str], rivals: MappingType[str, tuple[str, ...]]
) -> dict[str, str]:
    """Return the roles of a log's rows without rounds or contexts that hold one sample each, or all of them.

    A step that counts samples is no round; a prompt that never recurs, or never changes, separates nothing.
    """
    roles = dict(roles)
    by = None if "round" in given.roles or table.num_rows <= 4 else roles.get("round")
    if by is not None and len(pc.unique(table.column(by))) > 0.5 * table.num_rows:
        del roles["round"]
    if "context" not in roles or "context" in given.roles:
        return roles
    for name in (roles["context"], *rivals.get("context", ())):
        if name in roles.values() and name != roles["context"]:
            continue
        if _separates(table, name, roles.get("round")):
            return roles | {"context": name}
    return {r: c for r, c in roles.items() if r != "context"} if table.num_rows > 4 else roles


def _separates(table: pa.Table, name: str, by: str | None) -> bool:
    """Return whether the values of a column are several, and most recur within their round."""
    values = pa.array([prompt_of(v) for v in table.column(name).to_pylist()], pa.string())
    rounds = table.column(by) if by else pa.array([0] * table.num_rows)
    sizes = pa.table({"r": rounds, "v": values}).group_by(["r", "v"]).aggregate([([], "count_all")])
    counts = np.asarray(sizes.column("count_all").to_numpy())
    return len(pc.unique(values)) > 1 and bool((counts > 1).mean() > 0.5)


def _flagged(table: pa.Table, found: Mapping) -> Mapping | None:
    """Return the reading of flags, or of what they are instead: 1, 0, -1, or the number of the picked row."""
    column = found.roles["pick"]
    if not is_numeric(table.schema.field(column).type):
        return found
    values = as_numbers(table, column)
    distinct = set(np.unique(values[~np.isnan(values)]).tolist())
    if distinct == {-1.0, 0.0, 1.0}:
        roles = {r: c for r, c in found.roles.items() if r != "pick"}
        return replace(found, how=BEST_WORST, roles=roles, votes=(column,))
    if found.blocks or not found.keys or len(distinct) < 2 or column in found.keys:
        return found
    groups = table.group_by(list(found.keys)).aggregate([(column, "count_distinct"), ([], "count_all")])
    several = np.asarray(groups.column("count_all").to_numpy()) > 1
    same = np.asarray(groups.column(f"{column}_count_distinct").to_numpy())[several] == 1
    if several.sum() < 4 or same.mean() < 0.95:
        return found
    if "item" in found.roles and _names_items(table, column, found.roles["item"]):
        return None  # it names the picked item
    reason = "the same in all rows of a slate: the number of the picked one"
    return replace(found, how=PLACE, reasons=found.reasons | {"pick": reason})


def _names_items(table: pa.Table, column: str, item: str) -> bool:
    """Return whether values of a column are among those of the item column, of which they name one."""
    picks = {str(v) for v in pc.unique(table.column(column)).to_pylist() if v is not None}
    items = {str(v) for v in pc.unique(table.column(item)).to_pylist() if v is not None}
    return len(items) >= 2 and bool(picks) and len(picks & items) >= 0.9 * len(picks)


def _as_position(table: pa.Table, found: Mapping) -> Mapping:
    """Return the mapping with the item as a position if it only numbers the rows of each slate."""
    keys = [found.roles[r] for r in ("round", "chooser", "slate") if r in found.roles]
    column = found.roles["item"]
    if not keys or not pa.types.is_integer(table.schema.field(column).type):
        return found
    widest = table.group_by(keys).aggregate([([], "count_all")]).column("count_all")
    values = pc.unique(table.column(column))
    most = pc.max(widest).as_py() or 0
    if len(values) <= most and set(values.to_pylist()) <= set(range(len(values) + 1)):
        roles = {("position" if r == "item" else r): c for r, c in found.roles.items()}
        reasons = {("position" if r == "item" else r): w for r, w in found.reasons.items()}
        reasons["position"] = "it numbers the rows of each slate"
        return replace(found, roles=roles, reasons=reasons, guessed=found.guessed - {"item"} | {"position"})
    return found


def _keyed(table: pa.Table, found: Mapping, *, pool: bool) -> Mapping | None:
    """Return the mapping with the columns that identify a slate together; None if none do."""
    roles = found.roles
    if "slate" in roles:
        keys = [roles["slate"]]
        for role in ("round", "chooser", "context"):
            if role in roles and roles[role] not in keys and _splits(table, keys, roles[role], role):
                keys.append(roles[role])
        return replace(found, keys=tuple(keys))
    if found.how == NOTHING:
        return replace(found, keys=())
    block = _block(table, roles.get("position") or roles.get("item"))
    if block:
        return replace(
            found, blocks=block, reasons=found.reasons | {"slate": f"{block} rows each, in the file's order"}
        )
    keys = [roles[r] for r in ("round", "chooser", "context") if r in roles]
    if pool and found.how == FLAGS:  # picks from the pool of a round
        return found
    return replace(found, keys=tuple(keys)) if "context" in roles else None


def _splits(table: pa.Table, keys: Sequence[str], column: str, role: str) -> bool:
    """Return whether a column separates the rows of what would be one slate.

    Rounds always do, since slates are numbered within rounds. A chooser does where several, each with two
    rows or more, share a slate; a log may name the chooser in the picked row alone.
    """
    if role == "round":
        return True
    there = table.select([*keys, column]).filter(pc.is_valid(table.column(column)))
    if not there.num_rows:
        return False
    found = there.group_by([*keys, column]).aggregate([([], "count_all")])
    sizes = np.asarray(found.column("count_all").to_numpy())
    distinct = found.group_by(list(keys)).aggregate([([], "count_all")])
    several = np.asarray(distinct.column("count_all").to_numpy()) > 1
    return bool(several.any() and (sizes >= 2).mean() > 0.5)


def _block(table: pa.Table, column: str | None) -> int:
    """Return K if a column repeats the same K values in the same order, block after block; else 0."""
    if column is None or table.num_rows < 4:
        return 0
    values = [str(v) for v in table.column(column).to_pylist()]
    k = next((i for i in range(1, len(values)) if values[i] == values[0]), 0)
    whole = len(values) // k * k if k >= 2 else 0
    first = values[:k]
    same = whole and all(values[i] == first[i % k] for i in range(whole)) and len(set(first)) == k
    return k if same else 0


# --- pairs ----------------------------------------------------------------------------------------


def _pairs(table: pa.Table, given: Given) -> Iterator[Mapping]:
    if "pick" in given.roles:
        return
    names = table.column_names
    lower = {n.lower(): n for n in reversed(names)}
    for good, bad in usual.CHOSEN:
        stems = pair_stems(names, good, bad)
        bare = good in lower and bad in lower
        if not stems or (not bare and (good, bad) not in usual.CHOSEN[:3]):
            continue
        base = _roles(
            table,
            given.roles,
            ("chooser", "context", "round", "time"),
            taken=[c for p in stems.values() for c in p if c],
        )
        if (
            (good, bad) != ("chosen", "rejected")
            and bare
            and "text" in stems
            and not is_chat(table.schema.field(lower[good]).type)
        ):
            stems = {("item" if s == "text" else s): c for s, c in stems.items()}
        rewards = tuple(s for s in stems if usual.reward_names([s]))
        count = named([n for n in _flat(table) if n not in {c for p in stems.values() for c in p}], "count")
        roles = base.roles | ({"count": count[0]} if count and _whole(table, count[0]) else {})
        yield replace(
            base,
            form="pairs",
            roles=roles,
            alternatives=(good, bad),
            stems=stems,
            how=CHOSEN,
            rewards=given.rewards or rewards,
        )


def pair_stems(
    names: Sequence[str], good: str = "chosen", bad: str = "rejected"
) -> dict[str, tuple[str | None, ...]]:
    """Return the columns of the chosen and the rejected candidate, by attribute (text, score and so on)."""
    stems: dict[str, tuple[str | None, ...]] = {}
    for name in names:
        lower = name.lower()
        if good not in re.split(r"[_\-. ]", lower):
            continue
        other = next((n for n in names if n.lower() == lower.replace(good, bad)), None)
        if other is not None:
            stem = re.sub(rf"[_\-. ]?{good}[_\-. ]?", "", lower) or "text"
            stems[stem] = (name, other)
    return stems


# --- wide -----------------------------------------------------------------------------------------


def _wide(table: pa.Table, given: Given) -> Iterator[Mapping]:
    names = table.column_names
    yield from _by_value(table, given)
    for alternatives, stems in _groupings(table, names, given.alternatives):
        yield from _outcomes_of(table, given, alternatives, stems)
    if not given.picks and not given.rewards:
        return
    yield from _option_columns(table, given)


def _base_wide(
    table: pa.Table,
    given: Given,
    alternatives: Sequence[str],
    stems: dict[str, tuple[str | None, ...]],
    taken: Sequence[str | None],
) -> Mapping:
    inside = [c for columns in (*stems.values(), taken) for c in columns if c]
    base = _roles(table, given.roles, ("chooser", "context", "round", "time"), taken=inside)
    rewards = given.rewards or tuple(usual.reward_names(stems))
    return replace(
        base,
        form="wide",
        alternatives=tuple(alternatives),
        stems=stems,
        ordered=bool(given.alternatives),
        rewards=rewards,
    )


def _outcomes_of(
    table: pa.Table, given: Given, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> Iterator[Mapping]:
    """Yield the readings of one grouping: picks, votes, marks, ranks, ratings, or rewards alone."""
    k = len(alternatives)
    told = {"pick", "rank", "rating"} & given.roles.keys()
    if "pick" in given.roles:
        yield from _with_picks(table, given, alternatives, stems, (given.roles["pick"],), guessed=False)
    if not told:
        marks, tie = _marks(table, alternatives, stems)
        if marks:
            rest = {s: c for s, c in stems.items() if not set(c) & set(marks)}
            base = _base_wide(table, given, alternatives, rest, (*marks, *tie))
            yield replace(base, how=MARKS, marks=(*marks, *tie))
        votes = tuple(n for n in table.column_names if VOTES.match(n))
        inside = {c for columns in stems.values() for c in columns if c is not None}
        if len(votes) > 1 and not marks:
            rest = {s: c for s, c in stems.items() if not set(c) & set(votes)}
            if rest:
                yield from _with_picks(table, given, alternatives, rest, votes, guessed=True)
        for name in [*named(_flat(table), "pick", inside), *votes[: len(votes) == 1]]:
            yield from _with_picks(table, given, alternatives, stems, (name,), guessed=True)
        for told_by in _telling(table, alternatives, stems):
            yield from _with_picks(
                table, given, alternatives, stems, told_by, reason="its values name the alternatives"
            )
        best = named(_flat(table), "pick", inside)
        worst = named(_flat(table), "worst", inside)
        if best and worst:
            base = _base_wide(table, given, alternatives, stems, (best[0], worst[0]))
            yield replace(base, how=BEST_WORST, votes=(best[0], worst[0]))
        for stem, columns in stems.items():
            if key(stem) in ("wins", "votes", "win", "nwins") and None not in columns:
                rest = {s: c for s, c in stems.items() if s != stem}
                yield replace(
                    _base_wide(table, given, alternatives, rest, columns),
                    how=COUNTS,
                    marks=tuple(c for c in columns if c),
                )
    for how in (RANK, RATING):
        for stem, columns in stems.items():
            asked = given.roles.get(how)
            usual_name = named([stem], how) and not told
            if None not in columns and k >= 2 and (asked in (stem, *columns) if asked else usual_name):
                rest = {s: c for s, c in stems.items() if s != stem}
                base = _base_wide(table, given, alternatives, rest, columns)
                roles = {r: c for r, c in base.roles.items() if r != how}
                yield replace(base, roles=roles, how=how, marks=tuple(c for c in columns if c))
    numbered = all(re.fullmatch(r"\d+|[A-Ha-h]|left|right", a) for a in alternatives)
    if not given.picks and usual.reward_names(stems) and not told and (numbered or given.alternatives):
        yield _base_wide(table, given, alternatives, stems, ())


def _telling(
    table: pa.Table, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield the columns of words that name the alternatives, whatever they are called.

    Columns that differ in a number, such as ``g1_winner`` and ``g2_winner``, are votes on the same slate.
    """
    inside = {c for columns in stems.values() for c in columns}
    words = Names(alternatives, tuple(stems), tuple(stems.values()))
    found: dict[str, list[str]] = {}
    for name in _flat(table):
        if (
            name in inside
            or VOTES.match(name)
            or named([name], "pick")
            or not is_text(table.schema.field(name).type)
        ):
            continue
        values = pc.unique(table.column(name)).drop_null()
        if not 2 <= len(values) <= len(alternatives) + 6:
            continue
        texts = objects([v for v in values.to_pylist() if not v.strip().isdigit()])
        places = decode_words(texts, words).places
        if texts.size and np.isfinite(places).mean() >= 0.7 and np.unique(places[places >= 0]).size >= 2:
            found.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    yield from map(tuple, found.values())


def _with_picks(
    table: pa.Table, given: Given, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]],
    votes: tuple[str, ...], *, guessed: bool = True, reason: str = "its name",
) -> Iterator[Mapping]:  # fmt: skip
    rest = {s: c for s, c in stems.items() if not set(c) & set(votes)}
    if not rest and not given.alternatives:
        return
    base = _base_wide(table, given, alternatives, rest, votes)
    roles = dict(base.roles)
    if len(votes) == 1:
        roles = {"pick": votes[0], **{r: c for r, c in roles.items() if r != "pick"}}
    marked = base.guessed | ({"pick"} if guessed and len(votes) == 1 else set())
    reasons = base.reasons | ({"pick": reason} if guessed else {})
    alone = any(key(s) in map(key, ITEM_STEMS) for s in rest)
    joined = None if alone else _joined(table, len(alternatives), {*roles.values(), *votes})
    yield replace(base, roles=roles, votes=votes, how=PLACE, guessed=marked, reasons=reasons, joined=joined)


def _marks(
    table: pa.Table, alternatives: Sequence[str], stems: dict[str, tuple[str | None, ...]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return one column of flags per alternative whose sum is 1 (or a tie), and a column that marks ties."""
    for stem, columns in stems.items():
        if (
            key(stem) in map(key, MARK_WORDS)
            and None not in columns
            and _one_hot(table, [c for c in columns if c])
        ):
            return tuple(c for c in columns if c), ()
    for word in MARK_WORDS:  # winner_model_a, winner_model_b, winner_tie
        start = [n for n in _flat(table) if n.lower().startswith(word) and key(n) != key(word)]
        own = {key(n.lower().removeprefix(word)): n for n in start}
        words = [{key(a), *(key(f"{s}{a}") for s in (*stems, "model", "response"))} for a in alternatives]
        found = [next((own[w] for w in choices if w in own), None) for choices in words]
        if all(found) and len(set(found)) == len(found):
            tie = tuple(n for w, n in own.items() if w in TIES)
            if _one_hot(table, [*(f for f in found if f), *tie]):
                return tuple(f for f in found if f), tie
    return (), ()


def _one_hot(table: pa.Table, columns: Sequence[str]) -> bool:
    """Return whether columns hold shares of votes that sum to 1 in most rows."""
    if not all(is_numeric(table.schema.field(c).type) for c in columns):
        return False
    values = np.column_stack(
        [np.asarray(table.column(c).cast(pa.float64()).to_numpy(), float) for c in columns]
    )
    inside = (values >= 0) & (values <= 1)
    return bool((np.isclose(values.sum(axis=1), 1) & inside.all(axis=1)).mean() > 0.8)


def _groupings(
    table: pa.Table, names: Sequence[str], alternatives: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]]]:
    """Yield the alternatives and, for each attribute, the column of every alternative; the fullest first."""
    found = []
    others = [n for n in names if not VOTES.match(n)]
    names = others if any(SUFFIX.match(n) for n in others) else names
    for pattern in (SUFFIX, NUMBER_FIRST, PREFIX, LAST):
        by_stem: dict[str, dict[str, str]] = {}
        for name in names:
            match = pattern.match(name)
            if match and (not alternatives or match["alt"] in alternatives):
                by_stem.setdefault(match["stem"], {})[match["alt"]] = name
        grouped = _dominant(by_stem, alternatives)
        if grouped:
            found.append(grouped)
    sides = [(a, b) for a, b in usual.SIDES if {a, b} <= {n.lower() for n in names}]
    lower = {n.lower(): n for n in names}
    found += [((a, b), {"": (lower[a], lower[b])}) for a, b in sides if not alternatives]
    for order, stems in found:  # a, b beside wins_a, wins_b
        bare = [lower.get(a.lower()) for a in order]
        if all(bare) and "" not in stems:
            stems[""] = tuple(bare)
    seen = set()
    for grouped in sorted(found, key=lambda g: -_fullness(g)):
        mark = tuple(sorted(c for columns in grouped[1].values() for c in columns if c)), grouped[0]
        if mark not in seen:
            seen.add(mark)
            yield grouped


def _dominant(
    by_stem: dict[str, dict[str, str]], alternatives: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]] | None:
    """Return the set of alternatives that most attributes share, with these attributes."""
    real = {s: c for s, c in by_stem.items() if not re.fullmatch(r"\d+|[A-Ha-h]", s)}
    if alternatives:
        order = tuple(alternatives)
    else:
        sets = Counter(tuple(c) for c in real.values() if len(c) >= 2)
        if not sets:
            return None
        most = max(sets.values())
        best = [s for s in sets if sets[s] == most] if most > 1 else list(sets)
        order = max(best, key=len)
        union = tuple(dict.fromkeys(a for c in real.values() if len(set(c) & set(order)) >= 2 for a in c))
        order = union if len(union) <= 2 * len(order) else order
    # An attribute that only one alternative has, such as seats in a train, is included.
    inside = {s: c for s, c in real.items() if c.keys() <= set(order)}
    if not any(len(c) >= 2 for c in inside.values()) and not alternatives:
        return None
    return order, {s: tuple(c.get(a) for a in order) for s, c in inside.items()}


def _fullness(grouped: tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]]) -> float:
    cells = [c is not None for columns in grouped[1].values() for c in columns]
    digits = all(re.fullmatch(r"\d+|[a-hA-H]|left|right", a) for a in grouped[0])
    return (sum(cells) / max(len(cells), 1)) * sum(cells) + 0.5 * digits


def _by_value(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the reading in which the pick repeats the name of a candidate, as in a, b, winner.

    The columns of candidates are those texts of a row in which the pick occurs.
    """
    if given.alternatives or {"rank", "rating"} & given.roles.keys():
        return
    picks = [given.roles["pick"]] if "pick" in given.roles else named(_flat(table), "pick")
    for pick in picks:
        values = (
            table.column(pick).cast(pa.string())
            if not pa.types.is_nested(table.schema.field(pick).type)
            else None
        )
        if values is None or (
            pa.types.is_integer(table.schema.field(pick).type) and len(pc.unique(values)) < 4
        ):
            continue  # 0, 1 and 2 are places or flags
        there = ~np.array([v is None or key(v) in TIES or key(v) == "" for v in values.to_pylist()])
        others = [
            n
            for n in _flat(table)
            if n != pick
            and (is_text(table.schema.field(n).type) or pa.types.is_integer(table.schema.field(n).type))
        ]
        same = {
            n: np.asarray(pc.fill_null(pc.equal(table.column(n).cast(pa.string()), values), False).to_numpy())
            & there
            for n in others
        }
        good = [n for n in others if same[n].sum() >= 0.02 * max(there.sum(), 1) and same[n].sum() > 0]
        if len(good) < 2 or not there.any():
            continue
        union = np.logical_or.reduce([same[n] for n in good])
        both = np.sum([same[n] for n in good], axis=0) > 1
        if union[there].mean() < 0.9 or both[there].mean() > 0.5:
            continue
        yield from _named_pair(table, given, pick, good)


def _named_pair(table: pa.Table, given: Given, pick: str, columns: Sequence[str]) -> Iterator[Mapping]:
    """Yield the reading with these columns of candidates, and the attributes grouped like them."""
    stems: dict[str, tuple[str | None, ...]] = {"item": tuple(columns)}
    alternatives = tuple(columns)
    for order, grouped in _groupings(table, table.column_names, ()):
        own = next((s for s, c in grouped.items() if set(c) == set(columns)), None)
        if own is not None:
            alternatives = order
            stems = {("item" if s == own else s): c for s, c in grouped.items() if pick not in c}
            break
    base = _base_wide(table, given, alternatives, stems, (pick,))
    guessed = base.guessed | (set() if "pick" in given.roles else {"pick"})
    reason = {
        "pick": "given" if "pick" in given.roles else f"its values are those of {' and '.join(columns[:3])}"
    }
    count = named([n for n in _flat(table) if n not in (*columns, pick)], "count")
    more = {"count": count[0]} if count and _whole(table, count[0]) else {}
    yield replace(
        base,
        roles={"pick": pick, **base.roles, **more},
        votes=(pick,),
        how=NAMED,
        guessed=guessed,
        reasons=base.reasons | reason,
    )


def _option_columns(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the reading with one column per option that holds its rank (1..K in every row)."""
    told = {"pick", "rating"} & given.roles.keys()
    if told or not given.picks or ("rank" not in given.roles and named(_flat(table), "pick")):
        return
    options = [n for n in given.alternatives if n in table.column_names and holds_numbers(table, n)]
    if options and len(options) == len(given.alternatives):
        base = _base_wide(table, given, options, {}, options)
        yield replace(
            base, how=RATING, marks=tuple(options), reasons=base.reasons | {RATING: "higher is better"}
        )
    numeric = [n for n in _flat(table) if is_numeric(table.schema.field(n).type) and _whole(table, n)]
    if len(numeric) < 2:
        return
    values = {n: np.asarray(table.column(n).cast(pa.float64()).to_numpy(), float) for n in numeric}
    small = [n for n in numeric if np.nanmin(values[n]) >= 1 and np.nanmax(values[n]) <= len(numeric)]
    for size in range(len(small), 1, -1):
        for start in range(len(small) - size + 1):
            columns = small[start : start + size]
            block = np.sort(np.column_stack([values[n] for n in columns]), axis=1)
            if (block == np.arange(1, size + 1)).all(axis=1).mean() > 0.8 and len(block) >= 2:
                names = [RANK_OF.sub("", n) for n in columns]
                base = _base_wide(table, given, names, {}, columns)
                yield replace(base, how=RANK, marks=tuple(columns))
                return


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


# --- lists and rankings ---------------------------------------------------------------------------


def _lists(table: pa.Table, given: Given) -> Iterator[Mapping]:
    lists = [f.name for f in table.schema if is_list(f.type) and not is_chat(f.type)]
    lengths = _lengths(table, lists)
    told = [
        n
        for r in ("rank", "rating", "pick")
        for n in ([given.roles[r]] if r in given.roles else named(lists, r))
    ]
    for group in lengths:
        if group == told[:1] and len(lengths) > 1:
            continue  # ranks without what they rank
        yield from _lists_of(table, given, group + [n for n in told[:1] if n in lists and n not in group])


def _lengths(table: pa.Table, lists: Sequence[str]) -> list[list[str]]:
    """Return the groups of list columns whose lengths agree in most rows, the largest first."""
    groups: list[tuple[np.ndarray, list[str]]] = []
    for name in lists:
        sizes = np.asarray(pc.fill_null(pc.list_value_length(table.column(name)), -1).to_numpy())
        for known, members in groups:
            both = (known >= 0) & (sizes >= 0)
            if both.any() and (known == sizes)[both].mean() > 0.5:
                members.append(name)
                break
        else:
            groups.append((sizes, [name]))
    return [members for _, members in sorted(groups, key=lambda g: -len(g[1]))]


def _lists_of(table: pa.Table, given: Given, lists: Sequence[str]) -> Iterator[Mapping]:
    base = _roles(table, given.roles, ("chooser", "context", "round", "time"), taken=lists)
    kinds = {n: table.schema.field(n).type.value_type for n in lists}
    chats = {f.name for f in table.schema if is_chat(f.type)}
    told = [r for r in ("rank", "rating", "pick") if r in given.roles]
    outcomes: list[tuple[str, str]] = [(r, given.roles[r]) for r in told]
    if not told:
        outcomes += [("rank", n) for n in named(lists, "rank")]
        outcomes += [("pick", n) for n in named(table.column_names, "pick")]
        outcomes += [("rating", n) for n in named(lists, "rating")] if given.picks else []
        outcomes += [] if given.picks else [("", "")]
    for role, column in outcomes:
        free = [n for n in lists if n != column]
        if role in ("rank", "rating") and column not in lists:
            continue
        how = role
        if role == "pick":
            how = FLAGS if column in lists and column not in chats else PLACE
            if column in lists and is_text(kinds[column]):
                continue
        if not free and role not in ("rank", "rating"):
            continue
        words = [n for n in free if is_text(kinds[n])]
        roles = {r: c for r, c in base.roles.items() if r not in ("rank", "rating", "pick")} | (
            {role: column} if role else {}
        )
        guessed = base.guessed | ({role} if role and role not in given.roles else set())
        reasons = base.reasons | ({role: "its name"} if role and role not in given.roles else {})
        if "item" not in roles and words and not any(pa.types.is_struct(k) for k in kinds.values()):
            roles["item"], guessed, reasons = (
                words[0],
                guessed | {"item"},
                reasons | {"item": "a list of texts"},
            )
        stems: dict[str, tuple[str | None, ...]] = {n: (n,) for n in free if n not in roles.values()}
        inner = [*stems, *(f.name for n in free if pa.types.is_struct(kinds[n]) for f in kinds[n])]
        rewards = given.rewards or tuple(usual.reward_names(inner))
        order = ("rank", "pick", "rating", "chooser", "context", "round", "time", "item")
        yield replace(
            base,
            form="lists",
            how=how,
            roles={r: roles[r] for r in (*order, *roles) if r in roles},
            stems=stems,
            guessed=guessed,
            reasons=reasons,
            rewards=rewards,
        )


LONGEST = 500  # characters of a ranking
BETWEEN = re.compile(r"[>=~]")


def is_ranking(value: object) -> bool:
    """Return whether a value is a ranking of two items or more, such as ``b > a ~ d``."""
    text = str(value)
    if len(text) > LONGEST or ">" not in text or "<" in text:
        return False
    return all(part.strip() for part in BETWEEN.split(text))


def _rankings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    names = (
        [given.roles["rank"]]
        if "rank" in given.roles
        else [n for n in _flat(table) if is_text(table.schema.field(n).type)]
    )
    for name in names:
        if not is_text(table.schema.field(name).type):
            continue
        values = [v for v in itertools.islice(table.column(name).to_pylist(), 2000) if v]
        ranked = [v for v in values if is_ranking(v)]
        if not values or len(ranked) < 0.9 * len(values):
            continue
        base = _roles(table, given.roles, ("chooser", "context", "round", "time"), taken=(name,))
        count = named([n for n in _flat(table) if n != name], "count")
        more = {"count": count[0]} if count and _whole(table, count[0]) else {}
        guessed = base.guessed | (set() if "rank" in given.roles else {"rank"})
        reasons = {"rank": "given" if "rank" in given.roles else "its values are rankings such as 'b > a'"}
        yield replace(
            base,
            form="rankings",
            how=TEXT,
            roles={"rank": name, **base.roles, **more},
            guessed=guessed,
            reasons=base.reasons | reasons,
        )


def is_blank_column(table: pa.Table, name: str) -> bool:
    """Return whether all values of a column are missing."""
    return bool(blank(array_of(table, name)).all())


def as_numbers(table: pa.Table, name: str) -> np.ndarray:
    """Return a column as numbers (rows,), NaN where it has none."""
    return numbers_of(array_of(table, name))
