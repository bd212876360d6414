"""What the owner sees: progress, people, agreement, and what the picks say of the rewards."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import binom
from sqlalchemy import select

from recurate.choices.checks.held_out import compare_rules, select_classes
from recurate.choices.checks.luce_checks import run_checks
from recurate.choices.checks.verdict import judge
from recurate.choices.models.logit import conditional_logit
from recurate.choices.table import Choices
from recurate.core.errors import RecurateError, counted
from recurate.people.ballots import PICKS, Study
from recurate.people.invitations import listed
from recurate.people.tables import ballots, candidates, leases, people, slates

FEWEST = 20  # picks below which nothing is fitted, and nobody is suspicious
NEWEST = 20_000  # answers that the overview looks at
ENOUGH = 0.9  # share of candidates with a number, of a column that is a reward
QUICK = 1.0  # seconds: a median below this is too fast to have looked
RARE = 1e-4  # chance below which always one place is suspicious
REST = 20  # times as long as a fit took passes before the next one
GROUPED, OWN_PICKS = 10, 10  # people with so many picks each from whom two groups are told apart
MOST_GROUPED = 5_000  # picks in which groups are looked for while they come in


def hash_of(password: str) -> str:
    """Return a password's salted hash."""
    salt = secrets.token_bytes(16)
    return f"{salt.hex()}:{_stretched(password, salt)}"


def right_password(password: str, kept: str) -> bool:
    """Whether a password is the one whose salted hash is kept; it never is where that is ""."""
    salt, _, wanted = kept.partition(":")
    return bool(kept) and secrets.compare_digest(_stretched(password, bytes.fromhex(salt)), wanted)


def _stretched(password: str, salt: bytes) -> str:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1).hex()


def overview(study: Study, live: LiveFit | None = None, *, codes: bool = True) -> dict[str, Any]:
    """Return progress by round, people, agreement, the fit, and invitations.

    Args:
        study: The study.
        live: What keeps its fit from one look to the next.
        codes: Whether people have completion codes of their own.
    """
    rows = _answers(study)
    return {
        "rounds": _rounds(study),
        "people": _people(study, rows, codes),
        "agreement": agreement(rows),
        "fit": (live or LiveFit(study)).of(rows),
        "invitations": listed(study),
        "looked_at": len(rows),
    }


def _answers(study: Study) -> list[Any]:
    """Return the newest answers that stand."""
    joined = ballots.join(leases, ballots.c.lease == leases.c.id).join(slates, ballots.c.slate == slates.c.id)
    wanted = (
        select(
            ballots.c.id, ballots.c.slate, ballots.c.person, ballots.c.outcome, ballots.c.slots,
            ballots.c.seconds, leases.c.places, leases.c.repeat, slates.c.answer, slates.c.kin,
            people.c.simulated,
        )
        .select_from(joined.join(people, ballots.c.person == people.c.id))
        .where(~ballots.c.withdrawn)
        .order_by(ballots.c.id.desc())
        .limit(NEWEST)
    )  # fmt: skip
    with study.engine.execution_options(reads=True).connect() as c:
        return list(c.execute(wanted))


def _rounds(study: Study) -> list[dict[str, Any]]:
    with study.engine.execution_options(reads=True).connect() as c:
        of = select(slates.c.round, slates.c.attempt).where(slates.c.answer.is_(None)).distinct()
        rounds = sorted(c.execute(of).all())
        return [
            {"round": t, "attempt": attempt, **asdict(study.tally(c, t, attempt))} for t, attempt in rounds
        ]


def _people(study: Study, rows: list[Any], codes: bool) -> list[dict[str, Any]]:
    with study.engine.execution_options(reads=True).connect() as c:
        known = c.execute(select(people).order_by(people.c.id)).all()
    own: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        own[row.person].append(row)
    return [
        {
            "id": p.id,
            "name": p.label,
            "worker": p.worker or "",
            "code": study.code(p.id) if codes and not p.simulated else "",
            "simulated": p.simulated,
            "answers": len(own[p.id]),
            "seconds": round(float(np.median([r.seconds for r in own[p.id]])), 1) if own[p.id] else None,
            "checks": _checks(own[p.id]),
            "doubts": [] if p.simulated else doubts(own[p.id]),
        }
        for p in known
    ]


def _checks(rows: list[Any]) -> str:
    asked = [r for r in rows if r.answer is not None]
    right = sum(_right(r) for r in asked)
    return f"{right} of {len(asked)}" if asked else ""


def _right(row: Any) -> bool:
    """Whether the known answer is picked, the first of a ranking, or the best."""
    return row.outcome in PICKS and json.loads(row.slots)[0] == row.answer


def doubts(rows: list[Any]) -> list[str]:
    """Return what is suspicious of a person's answers: haste, always one place, or failed checks."""
    if len(rows) < FEWEST:
        return []
    found = []
    median = float(np.median([r.seconds for r in rows]))
    if median < QUICK:
        found.append(f"half of the answers took less than {max(median, 0.1):.1f} seconds")
    picked = [(json.loads(r.places), json.loads(r.slots)) for r in rows if r.outcome in PICKS]
    places = Counter(order.index(slots[0]) for order, slots in picked)
    if places:
        place, count = places.most_common(1)[0]
        chance = float(np.mean([1 / len(order) for order, _ in picked]))
        width = max(len(order) for order, _ in picked)
        if width * binom.sf(count - 1, len(picked), chance) < RARE:
            found.append(f"place {place + 1} in {count} of {len(picked)} picks")
    asked = [r for r in rows if r.answer is not None]
    wrong = sum(not _right(r) for r in asked)
    if len(asked) >= 3 and wrong > len(asked) / 2:
        found.append(f"{wrong} of {len(asked)} checks failed")
    return found


def agreement(rows: list[Any]) -> dict[str, Any]:
    """Return how often two people, and a person twice, pick the same, with 95 % intervals by Wilson.

    Simulated people and checks, whose answer is known, do not count.
    """
    slots: dict[int, dict[tuple[int, int], int]] = defaultdict(dict)
    for row in rows:
        if row.outcome in PICKS and row.answer is None and not row.simulated:
            slots[row.slate][row.person, row.repeat] = json.loads(row.slots)[0]
    between, again = [0, 0], [0, 0]
    for own in slots.values():
        first = [(person, slot) for (person, repeat), slot in own.items() if repeat == 0]
        for i, (_, a) in enumerate(first):
            for _, b in first[:i]:
                between[0] += a == b
                between[1] += 1
        for (person, repeat), slot in own.items():
            if repeat and (person, 0) in own:
                again[0] += slot == own[person, 0]
                again[1] += 1
    return {"between": _share(*between), "repeats": _share(*again)}


def _share(hits: int, count: int) -> dict[str, Any] | None:
    if not count:
        return None
    z, p = 1.959964, hits / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
    return {"share": p, "low": max(middle - reach, 0.0), "high": min(middle + reach, 1.0), "pairs": count}


class LiveFit:
    """The fit of a study as it goes on: it is done again once there are other answers.

    Fits of many picks take seconds, and the owner's page asks every few: they take a small share of the time.

    Args:
        study: The study.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._of: tuple[int, int] | None = None
        self._until = 0.0
        self._found: dict[str, Any] = {}

    def of(self, rows: list[Any]) -> dict[str, Any]:
        """Return the fit of these answers, the newest first, or the last one if that was a moment ago."""
        now = (len(rows), rows[0].id if rows else 0)
        with self._lock:
            if now != self._of and time.monotonic() >= self._until:
                start = time.monotonic()
                self._found, self._of = fit(self._study, rows), now
                end = time.monotonic()
                self._until = end + REST * (end - start)
            return self._found


def fit(study: Study, rows: list[Any]) -> dict[str, Any]:
    """Return the rewards' coefficients, whether Luce's choice describes the picks, and groups of people.

    Answers of simulated people, repeats and checks are left out.
    """
    had: set[tuple[int, str]] = set()
    used = []
    for r in reversed(rows):
        first = (r.person, r.kin) not in had
        had.add((r.person, r.kin))
        if first and r.outcome in PICKS and r.repeat == 0 and r.answer is None and not r.simulated:
            used.append(r)
    if len(used) < FEWEST:
        return {"words": f"{counted(len(used), '{pick|picks}')}: the fit begins with {FEWEST}."}
    made = choices_of(used, _values(study, {r.slate for r in used}))
    if made is None:
        return {"words": "The candidates have no rewards: export the picks, and recurate fit estimates them."}
    try:
        found = conditional_logit(made)
        verdict = judge(run_checks(made, found.coefficients, found.covariance), compare_rules(made))
    except RecurateError as error:
        return {"words": str(error).splitlines()[0]}
    errors = np.sqrt(np.diag(found.covariance))
    terms = [
        {"name": n, "value": float(b), "low": float(b - 1.96 * s), "high": float(b + 1.96 * s)}
        for n, b, s in zip(made.names, found.coefficients, errors, strict=True)
    ]
    left = len(used) - len(made)
    words = f" {counted(left, '{pick is|picks are}')} left out: a reward is missing." if left else ""
    return {
        "coefficients": terms,
        "temperature": _temperature(terms),
        "groups": _groups(made),
        "holds": bool(verdict.holds),
        "words": verdict.sentence + words,
    }


def _temperature(terms: list[dict[str, Any]]) -> dict[str, float | None] | None:
    """Return 1 / coefficient of a single reward, with its interval; None if higher values are not picked."""
    if len(terms) != 1 or terms[0]["value"] <= 0:
        return None
    value, low, high = (terms[0][name] for name in ("value", "low", "high"))
    return {"value": 1 / value, "low": 1 / high, "high": 1 / low if low > 0 else None}


def _groups(made: Choices) -> dict[str, Any] | None:
    """Return whether two groups of people predict better than one, chosen as in `recurate fit`.

    None if there are too few people, or too many picks to look while they come in.
    """
    assert made.choosers is not None
    counts = np.unique(made.choosers, return_counts=True)[1]
    if (counts >= OWN_PICKS).sum() < GROUPED or len(made) > MOST_GROUPED:
        return None
    try:
        found, scores = select_classes(made, most=2)
    except RecurateError:
        return None
    if len(scores) < 2:  # two groups have no estimate
        return None
    gain, error = scores[1].gain, scores[1].gain_error
    if found.classes == 1:
        return {"two": False, "gain": gain, "error": error, "shares": [], "names": [], "coefficients": []}
    return {
        "two": True,
        "gain": gain,
        "error": error,
        "shares": found.weights.tolist(),
        "names": list(found.names),
        "coefficients": found.coefficients.tolist(),
    }


Values = dict[int, dict[int, dict[str, Any]]]  # slate, slot, name


def _values(study: Study, wanted: set[int]) -> Values:
    """Return the candidates' own columns."""
    found: Values = defaultdict(dict)
    ids = sorted(wanted)
    with study.engine.execution_options(reads=True).connect() as c:
        for low in range(0, len(ids), 500):
            for row in c.execute(select(candidates).where(candidates.c.slate.in_(ids[low : low + 500]))):
                found[row.slate][row.slot] = json.loads(row.own)
    return found


def _numbers(values: Values) -> list[str]:
    """Return the columns that have a finite number for nine of ten candidates or more."""
    every = [v for own in values.values() for v in own.values()]
    return [
        n for n in dict.fromkeys(n for v in every for n in v)
        if sum(_all_finite(v, [n]) for v in every) >= ENOUGH * len(every)
    ]  # fmt: skip


def _all_finite(own: dict[str, Any], names: Sequence[str]) -> bool:
    found = [own.get(n) for n in names]
    return all(isinstance(x, int | float) and math.isfinite(x) for x in found)


def choices_of(used: list[Any], values: Values) -> Choices | None:
    """Return picks with the candidates' rewards as features; None if no number varies.

    Slates with a candidate that lacks one are left out.
    """
    names = _numbers(values)
    values = {s: own for s, own in values.items() if all(_all_finite(v, names) for v in own.values())}
    used = [r for r in used if r.slate in values]
    if not names or not used:
        return None
    orders = [json.loads(r.places) for r in used]
    rows = [
        [float(values[r.slate][slot][n]) for n in names]
        for r, order in zip(used, orders, strict=True)
        for slot in order
    ]
    matrix = np.array(rows, float).reshape(len(rows), len(names))
    varies = np.ptp(matrix, axis=0) > 0
    if not varies.any():
        return None
    picked = [order.index(json.loads(r.slots)[0]) for r, order in zip(used, orders, strict=True)]
    return Choices.of(
        matrix[:, varies],
        offsets=np.cumsum([0, *map(len, orders)]),
        picked=np.array(picked, np.int64),
        names=[n for n, v in zip(names, varies, strict=True) if v],
        choosers=[r.person for r in used],
        positions=np.array([place for order in orders for place in range(len(order))], np.int64),
        times=np.arange(len(used)),
    )
