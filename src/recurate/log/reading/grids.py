"""Which columns belong together: ``TRAIN_TT, CAR_TT`` are one attribute of two alternatives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from recurate.log.reading import names as usual

VOTES = re.compile(r"^(annotator|rater|vote|judge|judgement|label|preference)[_ ]?\d+$", re.I)
SUFFIX = re.compile(
    r"^(?P<stem>.*?[^\d_\-. ])[_\-. ]?"
    r"(?P<alt>\d+|(?<=[_\-. ])[a-hA-H]|(?<=[_\-. ])(?:left|right|first|second))$"
)
MOST = 50  # alternatives that have names
SPLIT = re.compile(r"(?<=[^_.])[_.](?=[^_.])")
NUMBER_FIRST = re.compile(r"^(?P<alt>\d+)[_\-. ]?(?P<stem>[A-Za-z].*)$")


def groupings(
    table: pa.Table, names: Sequence[str], alternatives: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]]]:
    """Yield the alternatives and, for each attribute, the column of every alternative; the fullest first."""
    found = []
    others = [n for n in names if not VOTES.match(n)]
    names = others if any(SUFFIX.match(n) for n in others) else names
    for pattern in (SUFFIX, NUMBER_FIRST):
        matches = [(m["stem"], m["alt"], n) for n in names if (m := pattern.match(n))]
        found += _grids(matches, names, alternatives, every=True)
    splits = [(n[: m.start()], n[m.end() :], n) for n in names for m in SPLIT.finditer(n)]
    for parts in ([(b, a, n) for a, b, n in splits], splits):  # the alternative first, or last
        for sign in (1, -1):  # in price_red_bus it may be the bus or the red bus
            cells = sorted(parts, key=lambda p: sign * len(p[1]))
            found += [g for g in _grids(cells, names, alternatives) if len(g[0]) <= MOST]
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


def _grids(
    cells: Sequence[tuple[str, str, str]],
    names: Sequence[str],
    alternatives: Sequence[str],
    *,
    every: bool = False,
) -> list[tuple[tuple[str, ...], dict[str, tuple[str | None, ...]]]]:
    """Return the alternatives and stems of columns, given as (stem, alternative, column).

    Args:
        cells: What each column is of, by a pattern of names; the likelier first.
        names: The columns, in order.
        alternatives: Those that the user named; none: those that most stems have.
        every: Whether each set of alternatives that some stem has is returned too: a person's answers
            ``trust_1`` to ``trust_5`` may stand beside ``price_1`` to ``price_3``.
    """
    by_stem: dict[str, dict[str, str]] = {}
    for stem, alternative, name in cells:
        by_stem.setdefault(stem, {}).setdefault(alternative, name)
    place = {n: i for i, n in enumerate(names)}
    by_stem = {s: dict(sorted(c.items(), key=lambda x: place[x[1]])) for s, c in by_stem.items()}
    if alternatives:
        counted = all(a.isdigit() for a in alternatives)  # then a stem with other numbers is another scale
        by_stem = {
            s: {a: n for a, n in c.items() if a in alternatives}
            for s, c in by_stem.items()
            if not counted or c.keys() <= set(alternatives)
        }
        by_stem = {s: c for s, c in by_stem.items() if c}
    sets = dict.fromkeys(tuple(c) for c in by_stem.values() if len(c) >= 2)
    wanted = [alternatives, *(sets if every and not alternatives and len(sets) > 1 else ())]
    narrowed = [by_stem, *({s: c for s, c in by_stem.items() if c.keys() <= set(w)} for w in wanted[1:])]
    return [g for stems in narrowed if (g := _dominant(stems, alternatives))]


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
    return (sum(cells) / max(len(cells), 1)) * sum(cells) + 0.5 * are_numbered(grouped[0])


def are_numbered(alternatives: Sequence[str]) -> bool:
    """Return whether alternatives have no names: they are numbers, single letters, or left and right."""
    return all(re.fullmatch(r"\d+|[A-Ha-h]|left|right", a) for a in alternatives)
