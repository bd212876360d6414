"""The lead of a report: at most three sentences, and a verdict.

The sentences say what happened, whether it went as forecast (and since when not, and why), and what to do.
Values beyond the forecast's effective support are never in a lead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory, agreement
from recurate.theory.forecast import SUPPORT

MOST = 3  # sentences of a lead
LISTED = 3  # rewards that a lead names
NOISE = 1e-12  # of a series' largest value: less is the rounding error of a sum
PARTS = ("selection", "sampling", "transmission")
AS_FORECAST, NOT_AS_FORECAST, UNDECIDED = "as forecast", "not as forecast", "undecided"
NO_SUPPORT = "beyond support"
TO_DO = {
    "selection": "check the rule of the picks with `recurate audit`, and forecast again from the latest "
    "round (`--renew`)",
    "sampling": "forecast again from the latest round (`--renew`), and pick more per round",
    "transmission": "forecast with what retraining passes on (`--renew --efficacy fit`), or train longer",
}
END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])")


@dataclass(frozen=True)
class Lead:
    """The first words of a report.

    Attributes:
        text: At most three sentences.
        verdict: ``as forecast``, ``not as forecast``, ``undecided``, ``beyond support``, or "" where nothing
            was measured.
    """

    text: str
    verdict: str


@dataclass(frozen=True)
class Departure:
    """Where measured values left the forecast.

    Attributes:
        since: First round from which on all measured values are outside the forecast's band.
        last: Last judged round: the last that was measured and has a band within support.
        gap: Measured minus forecast value in that round.
        parts: What selection, sampling and transmission add to that gap, in the units of the mean reward;
            empty where the rounds were not taken apart.
    """

    since: int
    last: int
    gap: float
    parts: dict[str, float]

    @property
    def cause(self) -> str:
        """The part that adds most in the direction of the gap, or ""."""
        toward = {name: value * self.gap for name, value in self.parts.items()}
        found = max(toward, key=lambda name: toward[name], default="")
        return found if found and toward[found] > 0 else ""


def sentences(text: str) -> list[str]:
    """Return the sentences of a text.

    >>> sentences("One rose from 1.5 to 2. Nothing else did.")
    ['One rose from 1.5 to 2.', 'Nothing else did.']
    """
    return [part for part in END.split(text.strip()) if part]


def cut(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the first three sentences of a text, and the others.

    >>> cut("A. B. C. D.")
    ('A. B. C.', ('D.',))
    """
    found = sentences(text)
    return " ".join(found[:MOST]), tuple(found[MOST:])


def lead_of(trajectory: Trajectory, facts: dict[str, Any]) -> Lead:
    """Return the lead of a run or of a forecast.

    Args:
        trajectory: Measured values and the forecast, or a forecast alone.
        facts: Settings of the loop by name, such as ``k`` and ``real_fraction``.
    """
    series = _series(trajectory)
    if trajectory.where(MEASURED).rows:
        happened = _happened(trajectory, series, MEASURED, facts, None)
        judged, verdict, cause = _judged(trajectory, series)
        return Lead(" ".join(s for s in (happened, judged, _to_do(verdict, cause)) if s), verdict)
    until = supported(trajectory)
    if until is not None and until < 1:
        return _without_support(trajectory)
    happened = _happened(trajectory, series, FORECAST, facts, until)
    certain = _band(trajectory, series, until)
    last = max((r.round for r in trajectory.rows), default=0)
    ends = until is not None and until < last
    todo = (
        f"Beyond round {until} too few candidates carry the forecast: log more, or forecast again then."
        if ends
        else "Choose K and the real share with `recurate plan`, and check the loop with `recurate audit`."
    )
    return Lead(" ".join(s for s in (happened, certain, todo) if s), NO_SUPPORT if ends else "")


def supported(trajectory: Trajectory, group: str | None = None) -> int | None:
    """Return the last round before the forecast's effective support falls below 100 candidates.

    None means that the support is not known or lasts for all rounds; -1, that not even round 0 has it.

    Args:
        trajectory: Trajectory with the effective support.
        group: Name of a model whose support is meant, where each has its own; else the smallest is.
    """
    rows = trajectory.where(FORECAST, "effective_support").rows
    own = [r for r in rows if r.group == group] or list(rows)
    low = [r.round for r in own if r.value < SUPPORT]
    return min(low) - 1 if low else None


def departure(trajectory: Trajectory, reward: str | None) -> Departure | None:
    """Return where the measured mean of a reward left its forecast for good, and why; None if it did not.

    The measured mean M_t and the forecast F_t start from the same candidates. With the parts of each change,

        M_t - F_t = M_0 - F_0 + sum_{s <= t} [(selection_s - (F_s - F_{s-1})) + sampling_s + transmission_s],

    so the three sums say how much of the gap each part makes. Selection differs from the forecast's step
    where the candidates of a round are not those that the law expects.
    """
    key = next((k for k in _series(trajectory) if k[1] == reward), ("mean_reward", reward, None))
    seen, bands = banded(trajectory, key)
    since = left_since(seen, bands)
    if since is None:
        return None
    last = max(seen)
    parts = _parts(trajectory, reward, last) if key[0] == "mean_reward" else {}
    return Departure(since, last, seen[last].value - bands[last].value, parts)


def _parts(trajectory: Trajectory, reward: str | None, last: int) -> dict[str, float]:
    rows = {(r.quantity, r.round): r.value for r in trajectory.where(MEASURED).rows if r.reward == reward}
    law = {r.round: r.value for r in _rows(trajectory, FORECAST, ("mean_reward", reward, None))}
    rounds = range(1, last + 1)
    if not all((name, t) in rows for name in PARTS for t in rounds) or not all(
        t in law for t in (0, *rounds)
    ):
        return {}
    found = {name: sum(rows[name, t] for t in rounds) for name in PARTS}
    return found | {"selection": found["selection"] - (law[last] - law[0])}


def _series(trajectory: Trajectory) -> list[tuple[str, str | None, str | None]]:
    """Return one series per reward: its mean, or without that the mean of its exponential."""
    found: dict[str | None, tuple[str, str | None, str | None]] = {}
    for quantity in ("mean_reward", "mean_exp_reward"):
        for key in trajectory.about():
            if key[0] == quantity and key[2] is None:
                found.setdefault(key[1], key)
    return list(found.values())


def _rows(trajectory: Trajectory, source: str, key: tuple[str, str | None, str | None]) -> list[Row]:
    rows = [r for r in trajectory.rows if r.key == key and r.source == source]
    return sorted(rows, key=lambda r: r.round)


def _name(key: tuple[str, str | None, str | None]) -> str:
    of = key[1] or "reward"
    return f"the mean {of}" if key[0] == "mean_reward" else f"E exp({of})"


def _happened(
    trajectory: Trajectory,
    series: list[tuple[str, str | None, str | None]],
    source: str,
    facts: dict[str, Any],
    until: int | None,
) -> str:
    """Return how the rewards went, with K and the real share of the loop."""
    parts = []
    for key in series[:LISTED]:
        rows = _rows(trajectory, source, key)
        rows = [r for r in rows if until is None or r.round <= until]
        if rows:
            first, last = rows[0], rows[-1]
            ends = [number(r.value, rows, 3) for r in (first, last)]
            numbers = f"from {ends[0]} in round {first.round} to {ends[1]} in round {last.round}"
            parts.append(f"{_name(key)} {verb(first, last, source)} {numbers}")
    if not parts:
        return ""
    more = len(series) - LISTED
    parts += [f"{more} more rewards are below"] if more > 0 else []
    said = "; ".join(parts)
    how = _loop(facts)
    return f"{said[:1].upper()}{said[1:]}{how}."


def _loop(facts: dict[str, Any]) -> str:
    parts = [f"K = {'infinity' if facts['k'] == 'inf' else facts['k']}"] if _plain_k(facts) else []
    share = facts.get("real_fraction")
    if share is not None:
        parts.append(f"{share:.0%} real data" if share else "no real data")
    return f" ({', '.join(parts)})" if parts else ""


def _plain_k(facts: dict[str, Any]) -> bool:
    return isinstance(facts.get("k"), int | float | str)


def number(value: float, beside: Iterable[Row], figures: int = 4) -> str:
    """Return a value as text; a mean reward that is the rounding error of a centred sum, as 1e-17, is 0.

    Other quantities are kept as they are: a share of 1e-17 says more than 0.

    Args:
        value: Value of a series.
        beside: All values of the series.
        figures: Significant figures.
    """
    means = [abs(r.value) for r in beside if r.quantity == "mean_reward" and math.isfinite(r.value)]
    noise = NOISE * min(max(means, default=0.0), 1.0)
    return "0" if abs(value) < noise else f"{value:.{figures}g}"


def verb(first: Row, last: Row, source: str) -> str:
    """Return the verb of a change; values "stay about the same" within their intervals or 1 %."""
    apart = abs(last.value - first.value)
    unsure = sum(r.upper - r.value for r in (first, last) if r.upper is not None)
    measured = source == MEASURED
    if apart <= unsure or apart <= 0.01 * abs(first.value):
        return "stayed about the same," if measured else "is forecast to stay about the same,"
    way = ("rose", "rise") if last.value > first.value else ("fell", "fall")
    return way[0] if measured else f"is forecast to {way[1]}"


def banded(
    trajectory: Trajectory, key: tuple[str, str | None, str | None]
) -> tuple[dict[int, Row], dict[int, Row]]:
    """Return by round a series' measured rows that can be judged, and its banded forecasts within support."""
    until = supported(trajectory)
    bands = {
        r.round: r
        for r in _rows(trajectory, FORECAST, key)
        if r.round and r.lower is not None and (until is None or r.round <= until)
    }
    seen = {r.round: r for r in _rows(trajectory, MEASURED, key) if r.round in bands}
    return seen, bands


def left_since(seen: dict[int, Row], bands: dict[int, Row]) -> int | None:
    """Return the first round from which on all measured rows are outside their bands, or None."""
    since = None
    for t in sorted(seen, reverse=True):
        if overlap(seen[t], bands[t]):
            break
        since = t
    return since


def _judged(trajectory: Trajectory, series: list[tuple[str, str | None, str | None]]) -> tuple[str, str, str]:
    """Return a sentence on whether it went as forecast, the verdict, and the cause of a departure."""
    left = [(key, departure(trajectory, key[1])) for key in series]
    gone = [(key, found) for key, found in left if found is not None]
    if gone:
        key, found = min(gone, key=lambda one: one[1].since)
        of = "" if len(series) == 1 else f" of {_name(key)}"
        return _since(found, of), NOT_AS_FORECAST, found.cause
    compared = [banded(trajectory, key) for key in series]
    judged = {t for seen, _ in compared for t in seen}
    if judged:
        outside = sorted({t for seen, bands in compared for t in seen if not overlap(seen[t], bands[t])})
        but = f", though not in round {', '.join(map(str, outside))}" if outside else ""
        said = f"It went as forecast from round 0: measured values are inside the 95 % bands{but}"
        return f"{said}{_unjudged(trajectory, judged)}.", AS_FORECAST, ""
    errors = [a.relative for a in (agreement(trajectory, key) for key in series) if a is not None]
    if not errors:
        return "", UNDECIDED if trajectory.where(FORECAST).rows else "", ""
    until = supported(trajectory)
    known = {t for e in errors for t, v in e.items() if math.isfinite(v)}
    within = {t for t in known if until is None or t <= until}
    if not within:
        return "The candidates of round 0 do not support a forecast to judge it by.", UNDECIDED, ""
    worst = max(abs(e[t]) for e in errors for t in within if math.isfinite(e.get(t, math.nan)))
    upto = "" if within == known else f" up to round {max(within)}, the last that its candidates support"
    off = f"The forecast from round 0 was off by at most {worst:.1%}{upto}"
    return f"{off}; without a band nothing says whether that is chance.", UNDECIDED, ""


def _unjudged(trajectory: Trajectory, judged: set[int]) -> str:
    last = max(r.round for r in trajectory.where(MEASURED).rows)
    return "" if last in judged else f" up to round {max(judged)}, the last that has one within support"


def _since(found: Departure, of: str) -> str:
    text = f"It has not gone as forecast since round {found.since}: measured values{of} lie "
    text += f"{'above' if found.gap > 0 else 'below'} the 95 % band"
    if not found.cause:
        return text + "."
    part = found.parts[found.cause]
    others = ", ".join(
        f"{name} {_beside(found.parts[name], found.gap)}" for name in PARTS if name != found.cause
    )
    gap = f"the gap {found.gap:+.2g} in round {found.last}"
    return f"{text}, mainly by {found.cause} ({part:+.2g} of {gap}; {others})."


def _beside(part: float, gap: float) -> str:
    """Return a part as text; rounding errors of sums are no numbers to report."""
    return f"{part:+.2g}" if abs(part) >= 1e-3 * abs(gap) else "about 0"


def _to_do(verdict: str, cause: str) -> str:
    if verdict == AS_FORECAST:
        return "What to do: plan further rounds from this forecast with `recurate plan`."
    if verdict == NOT_AS_FORECAST:
        return f"What to do: {TO_DO.get(cause, 'look for the cause with `recurate audit`')}."
    return "What to do: log more candidates per round, then forecast again." if verdict else ""


def _band(trajectory: Trajectory, series: list[tuple[str, str | None, str | None]], until: int | None) -> str:
    """Return how far a forecast is certain."""
    for key in series:
        rows = [r for r in _rows(trajectory, FORECAST, key) if r.round and r.lower is not None]
        rows = [r for r in rows if until is None or r.round <= until]
        if rows:
            low, high, t = rows[-1].lower, rows[-1].upper, rows[-1].round
            it = "it" if len(series) == 1 else _name(key)
            return f"With 95 % probability {it} is between {low:.3g} and {high:.3g} in round {t}."
    return ""


def _without_support(trajectory: Trajectory) -> Lead:
    rows = sorted(trajectory.where(FORECAST, "effective_support").rows, key=lambda r: r.round)
    first = next(r for r in rows if r.value < SUPPORT)
    text = (
        f"These candidates do not support a forecast: in round {first.round} only {first.value:.3g} "
        f"effective ones carry it, of {SUPPORT:g} that it takes. What to do: log more candidates of one "
        "round; the numbers below are of these candidates alone."
    )
    return Lead(text, NO_SUPPORT)


def overlap(row: Row, band: Row) -> bool:
    """Return whether a measured value, with its interval if it has one, reaches into a band."""
    low = row.value if row.lower is None else row.lower
    high = row.value if row.upper is None else row.upper
    assert band.lower is not None
    assert band.upper is not None
    return low <= band.upper and high >= band.lower
