"""Plausible readings of a table with one row per candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as MappingType
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError
from recurate.log.reading import names as usual
from recurate.log.reading.columns import (
    comparable,
    flat_columns,
    holds_numbers,
    is_numeric,
    may_label,
    slate_columns,
    usual_roles,
)
from recurate.log.reading.grids import are_numbered, groupings
from recurate.log.reading.mapping import (
    BEST_WORST,
    FLAGS,
    NAMED,
    NOTHING,
    PLACE,
    RANK,
    RATING,
    Given,
    Mapping,
)
from recurate.log.reading.names import key, named
from recurate.log.reading.values import (
    PICKED,
    UNPICKED,
    are_flags,
    array_of,
    codes_of,
    flags_of,
    numbers_of,
    objects,
    picked_of,
    plain_text,
    prompt_of,
)

NOT = ("not", "un", "non", "no")
FEW_EMPTY = 0.02  # share of rows that may lack a prompt


def long_readings(table: pa.Table, given: Given) -> Iterator[Mapping]:
    """Yield the readings with one row per candidate; ``slate``, and picks, ranks, ratings or none of them."""
    slates = [given.roles["slate"]] if "slate" in given.roles else slate_columns(table)
    base = usual_roles(table, given.roles, ("round", "chooser", "context", "time"), taken=slates[:1])
    outcomes = list(_outcomes(table, given))
    if not given.picks and not _numbered_rewards(table, given, base):
        outcomes.append((NOTHING, ""))
    yield from _best_and_worst(table, given, base, slates)
    refused: InputError | None = None
    picks = False
    for how, column in outcomes:
        if how == NOTHING and refused is not None and not picks:
            break
        here = slates
        if how == NOTHING and "slate" not in given.roles:  # without picks a question is a prompt
            here = [s for s in slates if not named([s], "context")]
            base = usual_roles(table, given.roles, ("round", "chooser", "context", "time"), taken=here[:1])
        for slate in here or [""]:
            if slate and slate == column:
                continue
            try:
                found = _with_outcome(table, given, base, how, column, slate)
            except InputError as error:
                refused = refused or error
                continue
            if found is not None:
                picks |= how != NOTHING
                yield found
    if refused is not None and not picks:
        raise refused


def _best_and_worst(table: pa.Table, given: Given, base: Mapping, slates: Sequence[str]) -> Iterator[Mapping]:
    """Yield the readings in which one column flags the best of each slate, and another the worst."""
    if {"pick", "rank", "rating"} & given.roles.keys():
        return
    flags = [
        n
        for n in (*named(flat_columns(table), "pick"), *named(flat_columns(table), "worst"))
        if are_flags(array_of(table, n))
    ]
    best = [n for n in flags if key(n) in ("best", "isbest", "most")]
    worst = named(flags, "worst")
    for slate in slates or [""]:
        found = _with_outcome(table, given, base, FLAGS, best[0], slate) if best and worst else None
        if found is not None:
            roles = {r: c for r, c in found.roles.items() if c not in (best[0], worst[0])}
            yield replace(found, how=BEST_WORST, roles=roles, votes=(best[0], worst[0]))


def _numbered_rewards(table: pa.Table, given: Given, base: Mapping) -> bool:
    """Return whether rewards are numbered as candidates are.

    They are where other columns are so (``completion_0, reward_0, completion_1, ...``), or where each row has
    a prompt and round of its own: what K candidates of one prompt share would come again.
    """
    if given.rewards:
        return False
    rewards = usual.reward_names(flat_columns(table))
    by = [base.roles[r] for r in ("round", "context") if r in base.roles]
    alone = "context" in base.roles and table.num_rows >= 4
    alone = alone and all(n in flat_columns(table) for n in by) and _recur(table, by) == 1
    for alternatives, stems in groupings(table, table.column_names, ()):
        inside = {c for columns in stems.values() for c in columns}
        counted = are_numbered(alternatives)
        if len(rewards) > 1 and set(rewards) <= inside and counted and (len(stems) > 1 or alone):
            return True
    return False


def _recur(table: pa.Table, names: Sequence[str]) -> int:
    """Return how many rows agree in these columns, at most."""
    return int(pc.max(table.group_by(list(names)).aggregate([([], "count_all")]).column("count_all")).as_py())


def _outcomes(table: pa.Table, given: Given) -> Iterator[tuple[str, str]]:
    """Yield (how, column) of the picks of a long file: those named, else those with usual names."""
    names = flat_columns(table)
    for role, how in (("pick", ""), ("rank", RANK), ("rating", RATING)):
        if role in given.roles:
            yield from ((h, given.roles[role]) for h in ([how] if how else [FLAGS, NAMED]))
    if {"pick", "rank", "rating"} & given.roles.keys():
        return
    slated = "slate" in given.roles or bool(slate_columns(table))
    for name in named(names, "pick"):
        if not (given.picks or slated or key(name) in usual.SURE_PICKS):
            continue  # in a log of rewards without slates, an answer or a label is part of the task
        yield FLAGS, name
        yield NAMED, name
    for name in named(names, "rank") if given.picks or slated else ():  # else it may be a process's
        yield RANK, name
    if given.picks:
        for name in named(names, "rating"):
            yield RATING, name


def _with_outcome(
    table: pa.Table, given: Given, base: Mapping, how: str, column: str, slate: str
) -> Mapping | None:
    role = how if how in (RANK, RATING) else "pick"
    taken = {*base.roles.values(), column, slate}
    more = usual_roles(table, given.roles, ("item", "position"), taken=tuple(taken))
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
        if np.isnan(values).mean() > 0.9 and not _two_marks(table, column):
            return None
    if not given.picks:
        roles = _of_samples(table, given, roles, base.rivals)
    order = ("round", "slate", "pick", "rank", "rating", "chooser", "item", "position", "context", "time")
    rewards = tuple(given.rewards) or tuple(
        n
        for n in usual.reward_names(flat_columns(table))
        if n not in roles.values() and holds_numbers(table, n)
    )
    rivals = base.rivals | more.rivals
    if "context" in rivals:
        rivals["context"] = tuple(n for n in _contexts(base) if n != roles.get("context"))
    others = tuple(
        n
        for n in flat_columns(table)
        if n not in rewards and usual.reward_names([n]) and holds_numbers(table, n)
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
    found = _marked_by(table, found) if how == FLAGS else found
    keyed = _keyed(table, found, pool=not given.picks)
    return keyed if keyed is None or how != FLAGS else _flagged(table, keyed)


def _two_marks(table: pa.Table, column: str) -> list[str]:
    """Return the two values of a column that has no others and is no flag, such as 1 and 2; else none."""
    values = pc.unique(table.column(column)).drop_null()
    if len(values) != 2 or are_flags(array_of(table, column)):
        return []
    return [plain_text(v) for v in objects(values.to_pylist())]


def _marked_by(table: pa.Table, found: Mapping) -> Mapping:
    """Return the reading of flags with the value that means yes, where values such as 1 and 2 leave it open.

    It is the value that says so (``chosen`` beside ``not chosen``), or that one row of each slate has.

    Raises:
        InputError: If 1 and 2 are both found once in each slate.
    """
    column = found.roles["pick"]
    values = _two_marks(table, column)
    words = [v for v in values if key(v) in PICKED]
    others = [key(v) for v in values if v not in words]
    if len(words) == 1 and (others[0] in UNPICKED or others[0] in [f"{p}{key(words[0])}" for p in NOT]):
        return replace(found, yes=words[0], reasons=found.reasons | {"pick": f"{words[0]!r} marks the pick"})
    if not set(values) <= {"1", "2"} and key(column) not in usual.SURE_PICKS:
        return found  # a treatment, say
    by = [found.roles[r] for r in ("round", "chooser", "slate") if r in found.roles]
    if not values or "slate" not in found.roles or column in by:
        return found
    texts = pa.array([plain_text(v) or None for v in array_of(table, column)], pa.string())
    part = comparable(table, by).append_column("mark", texts)
    counts = [
        np.asarray(
            part.append_column("own", pc.equal(texts, v).cast(pa.int64()))
            .group_by(by).aggregate([("own", "sum")]).column("own_sum").to_numpy(zero_copy_only=False)
        )
        for v in values
    ]  # fmt: skip
    once = [bool((c == 1).mean() > 0.95) for c in counts]
    if once[0] != once[1]:
        yes = values[once.index(True)]
        reason = f"{yes} marks the pick: one row of each slate has it"
        return replace(found, yes=yes, reasons=found.reasons | {"pick": reason})
    if all(once) and set(values) == {"1", "2"}:
        raise InputError(
            f"{column!r} holds 1 and 2, each once in every slate: which of them marks the pick is unknown",
            got=f"{counts[0].size} slates",
            remedy="write yes for picked and no for the others",
        )
    return found


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
    """Return whether the values of a column are several, and most recur within their round.

    A column that is partly empty counts: what its empty cells mean is asked of the user.
    """
    values = pa.array([prompt_of(v) for v in table.column(name).to_pylist()], pa.string())
    empty = np.asarray(pc.equal(values, "").to_numpy(zero_copy_only=False)).mean()
    if FEW_EMPTY < empty < 1:
        return True
    rounds = table.column(by) if by else pa.array([0] * table.num_rows)
    sizes = pa.table({"r": rounds, "v": values}).group_by(["r", "v"]).aggregate([([], "count_all")])
    counts = np.asarray(sizes.column("count_all").to_numpy())
    return len(pc.unique(values)) > 1 and bool((counts > 1).mean() > 0.5)


def _flagged(table: pa.Table, found: Mapping) -> Mapping | None:
    """Return the reading of flags, or of what they are instead: 1, 0, -1, or the number of the picked row."""
    column = found.roles["pick"]
    if not is_numeric(table.schema.field(column).type):
        return found
    values = numbers_of(array_of(table, column))
    distinct = set(np.unique(values[~np.isnan(values)]).tolist())
    if distinct == {-1.0, 0.0, 1.0}:
        roles = {r: c for r, c in found.roles.items() if r != "pick"}
        return replace(found, how=BEST_WORST, roles=roles, votes=(column,))
    if found.blocks or not found.keys or len(distinct) < 2 or column in found.keys:
        return found
    groups = comparable(table, [*found.keys, column]).group_by(list(found.keys))
    groups = groups.aggregate([(column, "count_distinct"), ([], "count_all")])
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
    widest = comparable(table, keys).group_by(keys).aggregate([([], "count_all")]).column("count_all")
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
        found = _separated(table, found, keys)
        guessed = "time" in roles and "time" in found.guessed
        if guessed and _varies(table, found.keys, roles["time"]):  # a travel time, say
            found = replace(found, roles={r: c for r, c in found.roles.items() if r != "time"})
        return found
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


def keyed_again(table: pa.Table, found: Mapping) -> Mapping:
    """Return the mapping with the keys of slates as the whole table has them, not only its first rows."""
    if found.form != "long" or "slate" not in found.roles:
        return found
    return _keyed(table, found, pool=False) or found


def _separated(table: pa.Table, found: Mapping, keys: list[str]) -> Mapping:
    """Return the mapping with its keys, and the column that separates merged slates into slates of one pick.

    Slates are merged where their numbers start anew for each value of a column that has no known name: then
    rows of one number lie apart in the file, and several of them are picked.
    """
    if found.how != FLAGS or not _merged(table, found, keys):
        return replace(found, keys=tuple(keys))
    for name in flat_columns(table):
        if name in keys or name in found.roles.values() or not may_label(table, name):
            continue
        codes = codes_of({n: array_of(table, n) for n in (*keys, name)}, (*keys, name))
        picks = np.bincount(codes, np.nan_to_num(picked_of(array_of(table, found.roles["pick"]), found.yes)))
        if (np.bincount(codes) >= 2).mean() > 0.95 and (picks == 1).mean() > 0.95:
            reasons = found.reasons | {"slate key": f"{name!r} separates slates with one pick each"}
            return replace(found, keys=(*keys, name), reasons=reasons)
    raise InputError(
        "slates have several picks and lie apart in the file: their numbers may start anew for each person",
        got=f"slates by {', '.join(keys)}",
        remedy="name the column within which slates are numbered: --chooser COLUMN (or --round, --context)",
    )


def _merged(table: pa.Table, found: Mapping, keys: Sequence[str]) -> bool:
    """Return whether most slates have several picks, and rows of each lie in several places of the file."""
    flags = pa.array(np.nan_to_num(picked_of(array_of(table, found.roles["pick"]), found.yes)))
    marked = (
        comparable(table, keys)
        .append_column("picks", flags)
        .group_by(list(keys))
        .aggregate([("picks", "sum")])
    )
    if table.num_rows < 4 or (np.asarray(marked.column("picks_sum").to_numpy()) > 1).mean() <= 0.5:
        return False
    codes = codes_of({n: array_of(table, n) for n in keys}, keys)
    runs = np.bincount(codes[np.r_[True, np.diff(codes) != 0]])
    sizes = np.bincount(codes)
    return bool(((runs > 1) & (runs < sizes)).mean() > 0.5)


def _varies(table: pa.Table, keys: Sequence[str], column: str) -> bool:
    """Return whether a column differs within most slates."""
    found = comparable(table, [*keys, column]).group_by(list(keys)).aggregate([(column, "count_distinct")])
    counts = np.asarray(found.column(f"{column}_count_distinct").to_numpy())
    return bool((counts > 1).mean() > 0.5)


def _splits(table: pa.Table, keys: Sequence[str], column: str, role: str) -> bool:
    """Return whether a column separates the rows of what would be one slate.

    Rounds always do, since slates are numbered within rounds. A chooser does where several, each with two
    rows or more, share a slate; a log may name the chooser in the picked row alone.
    """
    if role == "round":
        return True
    there = comparable(table, [*keys, column]).filter(pc.is_valid(table.column(column)))
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
