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
LAST = re.compile(r"^(?P<stem>.+)[._](?P<alt>[A-Za-z0-9\-]+)$")
PREFIX = re.compile(r"^(?P<alt>[A-Za-z0-9\-]+)[_.](?P<stem>.+)$")
NUMBER_FIRST = re.compile(r"^(?P<alt>\d+)[_\-. ]?(?P<stem>[A-Za-z].*)$")


def groupings(
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
    return (sum(cells) / max(len(cells), 1)) * sum(cells) + 0.5 * are_numbered(grouped[0])


def are_numbered(alternatives: Sequence[str]) -> bool:
    """Return whether alternatives have no names: they are numbers, single letters, or left and right."""
    return all(re.fullmatch(r"\d+|[A-Ha-h]|left|right", a) for a in alternatives)
