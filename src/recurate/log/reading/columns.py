"""What the columns of any table may be, by their types, values and usual names."""

from __future__ import annotations

from collections.abc import Container, Sequence
from collections.abc import Mapping as MappingType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.log.reading.mapping import Mapping
from recurate.log.reading.names import FLAGS_TOO, key, named
from recurate.log.reading.values import are_flags, array_of, measures_of, objects, steps_of


def usual_roles(
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
        if role == "round":  # a column that never changes tells no rounds
            found.sort(key=lambda n: len(pc.unique(table.column(n))) < 2)
        if found:
            roles[role], reasons[role] = found[0], "its name"
            guessed.add(role)
            if len(found) > 1:
                rivals[role] = tuple(found[1:])
    ordered = {r: roles[r] for r in (*wanted, *roles) if r in roles}
    return Mapping("", ordered, guessed=frozenset(guessed), reasons=reasons, rivals=rivals)


def slate_columns(table: pa.Table) -> list[str]:
    """Return the flat columns that may be slates by their names and values, the likeliest first."""
    return [n for n in named(flat_columns(table), "slate") if _may_be_slate(table, n)]


def count_role(table: pa.Table, taken: Container[str]) -> dict[str, str]:
    """Return the role of the column that tells how often a row counts; none without one."""
    found = named(flat_columns(table), "count", taken)
    return {"count": found[0]} if found and whole_numbers(table, found[0]) else {}


def _fits(table: pa.Table, name: str, role: str) -> bool:
    """Return whether a column's type and values can have a role that its name suggests."""
    kind = table.schema.field(name).type
    nested = pa.types.is_nested(kind)
    if role == "context":
        return not pa.types.is_floating(kind) and table.column(name).null_count < table.num_rows
    if nested or table.column(name).null_count == table.num_rows:
        return False
    if role == "round":
        return _tells_steps(table, name)
    if role == "slate":
        return _may_be_slate(table, name)
    if role == "chooser":
        return not (pa.types.is_floating(kind) and not whole_numbers(table, name))
    return True


def _may_be_slate(table: pa.Table, name: str) -> bool:
    """Return whether a column's values can be slates: not yes and no, or fractions, as of an exact match."""
    if pa.types.is_boolean(table.schema.field(name).type):
        return False
    if key(name) not in FLAGS_TOO or table.column(name).null_count == table.num_rows:
        return True
    fractions = pa.types.is_floating(table.schema.field(name).type) and not whole_numbers(table, name)
    return not (fractions or are_flags(array_of(table, name)))


def _tells_steps(table: pa.Table, name: str) -> bool:
    """Return whether a column holds steps: whole or recurring numbers, or texts such as ``epoch 3``."""
    kind = table.schema.field(name).type
    if whole_numbers(table, name):
        return True
    distinct = pc.unique(table.column(name)).drop_null()
    if not (pa.types.is_floating(kind) or is_text(kind)) or len(distinct) > max(table.num_rows / 2, 1):
        return False
    steps = steps_of(objects(distinct.to_pylist()))
    return bool(np.isfinite(steps).all() and np.unique(steps).size == len(distinct))


def whole_numbers(table: pa.Table, name: str) -> bool:
    """Return whether a column holds whole numbers, as integers or as floats."""
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
    return bool(there) and bool(np.isfinite(measures_of(objects(there))).mean() > 0.5)


def may_label(table: pa.Table, name: str) -> bool:
    """Return whether a column's values may be labels: texts or whole numbers."""
    kind = table.schema.field(name).type
    return is_text(kind) or bool(pa.types.is_integer(kind))


def comparable(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return some columns, those of lists and structs as text: Arrow groups no rows by these."""
    columns = {name: table.column(name) for name in names}
    return pa.table(
        {
            name: pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
            if pa.types.is_nested(column.type)
            else column
            for name, column in columns.items()
        }
    )


def flat_columns(table: pa.Table) -> list[str]:
    """Return the columns that are neither lists nor structs."""
    return [f.name for f in table.schema if not pa.types.is_nested(f.type)]
