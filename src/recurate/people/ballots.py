"""Ballots: which slate a person gets next, and what is kept of the answer.

Every change is one transaction, and a seat in a slate is taken by an update that succeeds only while there
is one: no slate is given to more people than it wants, whatever the number of servers. The order of the
candidates and the planned repeats are drawn at the coordinates of the person and the slate.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy import and_, exists, func, insert, or_, select, update

from recurate.core.errors import RecurateError
from recurate.core.seeds import Stream
from recurate.people import statements as sql
from recurate.people import tables
from recurate.people.tables import DONE, OPEN, RETURNED, ballots, candidates, leases, people, sessions, slates

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
Outcome = Literal["pick", "tie", "bad", "skip", "ranking", "extremes"]
PICKS = ("pick", "ranking", "extremes")  # answers whose first candidate is the one that is picked
REPEAT_AFTER = 3  # slates between a slate and its repeat
MOST_WORDS = 2000  # characters of a reason or comment
UNLIMITED = 2**31 - 1  # seats of checks, which everybody gets
SWEEP = 1.0  # seconds between two looks for expired leases, while there are free slates
COUNTED = 5.0  # seconds for which sessions, and the number of a person's slates, are not looked up again
FEW = 50  # slates left, below which they are
MANY = 100_000  # people that are remembered
TURNS = 5  # times that a transaction is begun which PostgreSQL ends, as two waited for each other
UNMET = ("40P01", "40001")  # PostgreSQL: deadlock, serialization failure
GONE = "You cannot take part in this study any more."
SESSION = 30 * 86_400.0  # seconds that a session lasts
LAST = "last removed"  # fact: the highest number that anybody had when somebody was removed


class Refused(RecurateError):
    """A ballot or a request of a person that cannot be accepted.

    Args:
        message: Words for the person.
        code: HTTP status.
    """

    def __init__(self, message: str, code: int = 409) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class Session:
    """A session: whose it is, and when it began, in seconds since 1970."""

    person: int
    since: float


@dataclass(frozen=True)
class Rules:
    """How slates are given to people.

    Attributes:
        seed: Root of all random numbers.
        seats: People who are asked about each slate.
        limit: Largest number of slates per person; None: any.
        lease: Seconds after which a slate that was not answered goes to others.
        repeats: Share of a person's slates that are shown a second time.
        checks: Share of a person's slates whose answer is known.
        outcomes: Answers that are offered.
        twins: Whether a slate with the prompt and the candidates of an earlier one is given to the same
            person, after all others: in a run, every slate needs an answer. It counts as a repeat in exports.
    """

    seed: int = 0
    seats: int = 1
    limit: int | None = None
    lease: float = 900.0
    repeats: float = 0.0
    checks: float = 0.0
    outcomes: tuple[Outcome, ...] = ("pick", "tie", "bad", "skip")
    twins: bool = False


@dataclass(frozen=True)
class Candidate:
    """A candidate as it is shown: a text, the digest of an image, or points as JSON."""

    item: int
    form: Literal["text", "image", "points"]
    content: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Slate:
    """Candidates that are shown together.

    Attributes:
        number: Number within the round.
        candidates: At least two that differ.
        context: The prompt, or "".
        round: Round of the loop.
        attempt: How often the round was rolled back.
        answer: Slot that a check expects; None: no check.
    """

    number: int
    candidates: tuple[Candidate, ...]
    context: str = ""
    round: int = 0
    attempt: int = 0
    answer: int | None = None


@dataclass(frozen=True)
class Lease:
    """A slate that was given to a person: its candidates in the order shown."""

    id: int
    slate: int
    context: str
    candidates: tuple[Candidate, ...]
    until: float


@dataclass(frozen=True)
class Said:
    """What a person says of a slate; see :meth:`Study.submit`."""

    lease: int
    key: str
    outcome: Outcome
    places: Sequence[int] = ()
    reason: str = ""
    comment: str = ""


@dataclass(frozen=True)
class Tally:
    """Answers that a round wants, that it has, and that are missing; and whether it is over."""

    wanted: int
    answered: int
    missing: int
    over: bool


@dataclass(frozen=True)
class Progress:
    """How many slates a person has answered, of how many."""

    done: int
    total: int


class Study:
    """The ballots of one study.

    Args:
        engine: Its database.
        rules: How slates are given to people.
        now: Clock, seconds since 1970.
    """

    def __init__(
        self, engine: sa.Engine, rules: Rules = Rules(), now: Callable[[], float] = time.time
    ) -> None:
        self.engine = engine
        self.rules = rules
        self.now = now
        self._swept = -math.inf
        self._counted: dict[int, tuple[float, int]] = {}  # when a person's slates were counted, and how many
        self._sessions: dict[str, tuple[float, Session]] = {}  # and when they were looked up
        self._reader = engine.execution_options(reads=True)

    # --- facts ------------------------------------------------------------------------------------

    def fact(self, key: str) -> str | None:
        """Return a fact about the study."""
        with self._reader.connect() as c:
            return c.execute(select(tables.facts.c.value).where(tables.facts.c.key == key)).scalar()

    def set_fact(self, key: str, value: str) -> None:
        """Keep a fact about the study."""
        with self.engine.begin() as c:
            c.execute(sql.SET, {"key": key, "value": value})

    # --- slates -----------------------------------------------------------------------------------

    def add(
        self,
        found: Sequence[Slate],
        images: dict[str, bytes] | None = None,
        facts: dict[str, str] | None = None,
        *,
        alone: bool = False,
    ) -> int:
        """Add slates that are not there, and return how many were added.

        Candidates that look alike are shown once; a slate all of whose candidates look alike is not shown.

        Args:
            found: The slates.
            images: Images by digest, PNG.
            facts: Facts to keep in the same transaction.
            alone: Whether these are of one round, and all other rounds are over.
        """
        added = 0
        with self.engine.begin() as c:
            if self.engine.dialect.name == "postgresql":  # SQLite has one writer anyway
                c.exec_driver_sql(f"SELECT pg_advisory_xact_lock({sql.LOCK})")
            for key, value in (facts or {}).items():
                c.execute(sql.SET, {"key": key, "value": value})
            if alone and found:
                now = and_(slates.c.round == found[0].round, slates.c.attempt == found[0].attempt)
                c.execute(update(slates).where(~now, ~slates.c.closed).values(closed=True))
            known = {tuple(r) for r in c.execute(select(slates.c.round, slates.c.attempt, slates.c.number))}
            there = set(c.execute(select(tables.media.c.digest)).scalars())
            fresh = [{"digest": d, "content": data} for d, data in (images or {}).items() if d not in there]
            if fresh:
                c.execute(insert(tables.media), fresh)
            for slate in found:
                if (slate.round, slate.attempt, slate.number) in known:
                    continue
                looks = [look(x.form, x.content) for x in slate.candidates]
                answer = None if slate.answer is None else looks.index(looks[slate.answer])
                seats = self.rules.seats if answer is None else UNLIMITED
                seats = seats if len(set(looks)) > 1 else 0
                row = c.execute(
                    insert(slates).values(
                        round=slate.round, attempt=slate.attempt, number=slate.number, context=slate.context,
                        answer=answer, wanted=seats, taken=0, closed=False,
                        kin=_kin(slate.context, looks),
                    )
                )  # fmt: skip
                own = row.inserted_primary_key[0]  # type: ignore[index]
                c.execute(
                    insert(candidates),
                    [
                        {
                            "slate": own, "slot": slot, "item": x.item, "form": x.form, "content": x.content,
                            "own": json.dumps(x.values),
                        }
                        for slot, x in enumerate(slate.candidates)
                    ],
                )  # fmt: skip
                added += 1
            if added and self.engine.dialect.name == "postgresql":
                # Before it looks by itself it takes nearly all slates for checks, and sorts all open ones.
                c.exec_driver_sql("ANALYZE slates")
        return added

    # --- people -----------------------------------------------------------------------------------

    def join(
        self,
        hashed: str | None,
        worker: str | None = None,
        invitation: int | None = None,
        *,
        simulated: bool = False,
    ) -> int:
        """Add a person, or find the one with this worker's name, and return the number.

        A worker's name is no secret: a session that is begun by it gets new slates, and cannot take back what
        was answered in others.

        Raises:
            Refused: If the person was removed from the study, or the invitation has no place left.
        """
        said = (hashed, worker, invitation, simulated)
        try:
            return self._join(*said)
        except sa.exc.IntegrityError:  # the same worker, twice at the same time
            return self._join(*said)

    def _join(self, hashed: str | None, worker: str | None, invitation: int | None, simulated: bool) -> int:
        with self.engine.begin() as c:
            if worker is not None:
                old = c.execute(select(people).where(people.c.worker == worker)).first()
                if old is not None and old.blocked:
                    raise Refused(GONE, 403)
                if old is not None:
                    self._begin(c, hashed, old.id)
                    return int(old.id)
            if invitation is not None:
                table = tables.invitations
                free = or_(table.c.places.is_(None), table.c.used < table.c.places)
                own = and_(table.c.id == invitation, ~table.c.revoked, free)
                if not c.execute(update(table).where(own).values(used=table.c.used + 1)).rowcount:
                    raise Refused("This invitation has no place left.", 403)
            row = c.execute(
                insert(people).values(
                    **self._number(c), label=secrets.token_hex(16), worker=worker, invitation=invitation,
                    joined=self.now(), simulated=simulated, blocked=False,
                )
            )  # fmt: skip
            number = int(row.inserted_primary_key[0])  # type: ignore[index]
            label = f"simulated {number}" if simulated else f"person {number}"
            c.execute(update(people).where(people.c.id == number).values(label=label))
            self._begin(c, hashed, number)
            return number

    def _number(self, c: sa.Connection) -> dict[str, int]:
        """Return the number of the next person where the database would give a removed one's again."""
        return {"id": self._last(c) + 1} if self.engine.dialect.name == "sqlite" else {}

    def _last(self, c: sa.Connection) -> int:
        """Return the highest number that anybody has or had."""
        removed = c.execute(select(tables.facts.c.value).where(tables.facts.c.key == LAST)).scalar()
        newest = c.execute(select(func.max(people.c.id))).scalar()
        return max(int(removed or 0), newest or 0)

    def _begin(self, c: sa.Connection, hashed: str | None, person: int) -> None:
        if hashed is not None:
            c.execute(insert(sessions).values(hash=hashed, person=person, made=self.now()))

    def session(self, hashed: str) -> Session | None:
        """Return the session with a token's hash; None if there is none, or it is over."""
        now = self.now()
        if (known := self._sessions.get(hashed)) and now - known[0] < COUNTED:
            return known[1]
        with self._reader.connect() as c:
            row = c.execute(sql.KNOWN, {"a_hash": hashed, "after": now - SESSION}).first()
        if row is None:
            return None
        return _remember(self._sessions, hashed, (now, Session(int(row[0]), float(row[1]))))[1]

    def worker(self, person: int) -> str | None:
        """Return the name that a platform gave a person."""
        with self._reader.connect() as c:
            return c.execute(select(people.c.worker).where(people.c.id == person)).scalar()

    def _write(self, do: Callable[[sa.Connection], T]) -> T:
        """Return what ``do`` returns in a transaction, begun again where two waited for each other."""
        for turn in range(TURNS):
            try:
                with self.engine.begin() as c:
                    return do(c)
            except sa.exc.OperationalError as error:
                if getattr(error.orig, "sqlstate", None) not in UNMET or turn == TURNS - 1:
                    raise
        raise AssertionError

    def remove(self, person: int) -> int:
        """Delete all data of a person, free the seats, and return the number of ballots deleted."""

        def do(c: sa.Connection) -> int:
            if c.execute(sql.ONE_AT_A_TIME, {"a_person": person}).first() is None:
                return 0
            held = and_(leases.c.person == person, leases.c.repeat == 0, leases.c.state != RETURNED)
            self._free(c, list(c.execute(select(leases.c.slate).where(held)).scalars()))
            gone = c.execute(ballots.delete().where(ballots.c.person == person)).rowcount
            c.execute(leases.delete().where(leases.c.person == person))
            c.execute(sessions.delete().where(sessions.c.person == person))
            self._sessions.clear()
            # Nobody else gets this number, with the name and the code that go with it.
            c.execute(sql.SET, {"key": LAST, "value": str(self._last(c))})
            c.execute(people.delete().where(people.c.id == person))
            return int(gone)

        return self._write(do)

    # --- the next slate ---------------------------------------------------------------------------

    def next(self, person: int) -> Lease | None:
        """Return the slate that a person holds, or else a new one; None if nothing is left for the person.

        Raises:
            Refused: If the person was removed from the study.
        """

        def do(c: sa.Connection) -> Lease | None:
            self._hold(c, person)
            return self._next(c, person, self.now())

        return self._write(do)

    def _next(self, c: sa.Connection, person: int, now: float) -> Lease | None:
        held = c.execute(sql.HELD, {"a_person": person, "now": now}).first()
        if held is not None and (held.repeat or not held.closed):
            return self._lease(c, held)
        if held is not None:
            self._drop(c, held)
        done = self._answered(c, person)
        if self.rules.limit is not None and done >= self.rules.limit:
            return None
        draw = Stream(self.rules.seed).at("next", person, done).generator()
        kind = draw.random()
        if kind < self.rules.repeats and (found := self._repeat(c, person, now)):
            return found
        if self.rules.repeats <= kind < self.rules.repeats + self.rules.checks:
            found = self._fresh(c, person, now, sql.CHECKS, 1)
            if found is not None:
                return found
        start = 1 + int(draw.integers(sql.AHEAD))
        if now - self._swept < SWEEP and (found := self._fresh(c, person, now, sql.FRESH, start)):
            return found
        self._sweep(c, now)
        fresh = self._fresh(c, person, now, sql.FRESH, start)
        return fresh or (self._fresh(c, person, now, sql.TWINS, 0) if self.rules.twins else None)

    def hand_back(self, person: int) -> None:
        """Return the slate that a person holds, so that others get it."""
        with self.engine.begin() as c:
            for held in c.execute(sql.HELD, {"a_person": person, "now": -math.inf}).all():
                self._drop(c, held)

    def _hold(self, c: sa.Connection, person: int) -> None:
        """Let a person's requests pass one after the other."""
        if c.execute(sql.ONE_AT_A_TIME, {"a_person": person}).first() is None:
            raise Refused(GONE, 403)

    def at_limit(self, person: int) -> bool:
        """Whether a person has answered as many slates as one may."""
        with self._reader.connect() as c:
            return self.rules.limit is not None and self._answered(c, person) >= self.rules.limit

    def _fresh(self, c: sa.Connection, person: int, now: float, which: Any, start: int) -> Lease | None:
        """Lease one of the first slates that have a free seat and that the person has not been given."""
        ids = list(c.execute(which, {"a_person": person}).scalars())
        for at in range(len(ids)):
            slate = ids[(start + at) % len(ids)]
            if c.execute(sql.TAKE, {"a_slate": slate}).rowcount:
                return self._give(c, slate, person, 0, now)
        return None

    def _repeat(self, c: sa.Connection, person: int, now: float) -> Lease | None:
        """Lease a slate again that the person answered some slates ago, and that was not repeated yet."""
        later = leases.alias("later")
        again = exists().where(later.c.slate == leases.c.slate, later.c.person == person, later.c.repeat > 0)
        check = exists().where(slates.c.id == leases.c.slate, slates.c.answer.is_not(None))
        own = and_(leases.c.person == person, leases.c.state == DONE, leases.c.repeat == 0, ~again, ~check)
        old = c.execute(select(leases.c.slate, leases.c.places).where(own).order_by(leases.c.id)).all()
        if len(old) <= REPEAT_AFTER:
            return None
        return self._give(c, old[0].slate, person, 1, now, json.loads(old[0].places))

    def _give(
        self, c: sa.Connection, slate: int, person: int, repeat: int, now: float, before: Sequence[int] = ()
    ) -> Lease:
        """Lease a slate in an order drawn for the person, which is not the one of ``before``."""
        rows = c.execute(sql.CANDIDATES, {"a_slate": slate}).all()
        seen: dict[tuple[str, str], int] = {}
        for row in rows:
            seen.setdefault(look(row.form, row.content), row.slot)
        order = list(seen.values())
        draw = Stream(self.rules.seed).at("order", person, slate, repeat).generator()
        draw.shuffle(order)
        while order == list(before) and len(order) > 1:  # who picks by place would seem consistent
            draw.shuffle(order)
        until = now + self.rules.lease
        values = {
            "slate": slate, "person": person, "repeat": repeat, "given": now, "until": until,
            "places": json.dumps([int(slot) for slot in order]),
        }  # fmt: skip
        number = c.execute(sql.GIVE, values).scalar_one()
        return _shown(number, slate, rows, order, until)

    def _lease(self, c: sa.Connection, held: Any) -> Lease:
        rows = c.execute(sql.CANDIDATES, {"a_slate": held.slate}).all()
        return _shown(held.id, held.slate, rows, json.loads(held.places), held.until)

    def _sweep(self, c: sa.Connection, now: float) -> None:
        """Return leases that have expired."""
        self._swept = now
        gone = c.execute(sql.EXPIRED, {"now": now})
        self._free(c, [row.slate for row in gone.all() if row.repeat == 0])

    def _drop(self, c: sa.Connection, held: Any) -> None:
        """Return a lease."""
        c.execute(sql.DROP, {"a_lease": held.id})
        self._free(c, [] if held.repeat else [held.slate])

    def _free(self, c: sa.Connection, held: list[int]) -> None:
        for slate in sorted(held):  # one order for all, so that no two wait for each other
            c.execute(update(slates).where(slates.c.id == slate).values(taken=slates.c.taken - 1))

    def _answered(self, c: sa.Connection, person: int) -> int:
        return int(c.execute(sql.ANSWERED, {"a_person": person}).scalar_one())

    def progress(self, person: int) -> Progress:
        """Return how far a person is; the total counts what is open to the person now."""
        with self._reader.connect() as c:
            return self._progress(c, person)

    def _progress(self, c: sa.Connection, person: int) -> Progress:
        done, now = self._answered(c, person), self.now()
        counted, total = self._counted.get(person, (-math.inf, 0))
        if now - counted >= COUNTED or total - done < FEW:
            what = sql.LEFT_TWINS if self.rules.twins else sql.LEFT
            left = int(c.execute(what, {"a_person": person}).scalar_one())
            total = done + left + int(c.execute(sql.HOLDS, {"a_person": person}).scalar_one())
            _remember(self._counted, person, (now, total))
        return Progress(done, total if self.rules.limit is None else min(total, max(self.rules.limit, done)))

    # --- answers ----------------------------------------------------------------------------------

    def submit(
        self,
        person: int,
        lease: int,
        key: str,
        outcome: Outcome,
        places: Sequence[int] = (),
        *,
        reason: str = "",
        comment: str = "",
    ) -> None:
        """Keep a person's answer to a slate; the same click sent again changes nothing.

        Args:
            person: Number of the person.
            lease: Number of the lease.
            key: Name of the click.
            outcome: The answer.
            places: Places on the page: the one that is picked, those that are tied, all or the first ones
                from the best to the worst, or the best and the worst alone (``extremes``).
            reason: Why the slate was skipped.
            comment: What the person adds.

        Raises:
            Refused: If the slate was not given to the person, was given to somebody else since, or was
                answered otherwise, or if the answer is not possible.
        """
        self._submit(person, Said(lease, key, outcome, places, reason, comment), lambda c: None)

    def answer(self, person: int, said: Said) -> tuple[Lease | None, Progress]:
        """Keep a person's answer as :meth:`submit` does, and return the next slate and the progress.

        In SQLite it is one transaction: the answer is kept with the lease of the next slate, or not at all.
        In PostgreSQL an answer locks its slate, and whoever took the next one meanwhile would wait for
        somebody who goes the other way: there are two.
        """
        if self.engine.dialect.name != "sqlite":
            self._submit(person, said, lambda c: None)
            return self.next(person), self.progress(person)
        return self._submit(
            person, said, lambda c: (self._next(c, person, self.now()), self._progress(c, person))
        )

    def _submit(self, person: int, said: Said, then: Callable[[sa.Connection], T]) -> T:
        def do(c: sa.Connection) -> T:
            self._hold(c, person)
            self._keep(c, person, said)
            return then(c)

        try:
            return self._write(do)
        except sa.exc.IntegrityError:  # the same click, twice at the same time
            return self._write(do)

    def _keep(self, c: sa.Connection, person: int, said: Said) -> None:
        now = self.now()
        held = c.execute(sql.OWN, {"a_lease": said.lease, "a_person": person}).first()
        if held is None:
            raise Refused("This question was not given to you. Load the page again.", 404)
        order = json.loads(held.places)
        chosen = self._chosen(said.outcome, said.places, order)
        of = {"a_lease": said.lease, "a_person": person, "a_key": said.key}
        old = c.execute(sql.EARLIER, of).all()
        if stands := [o for o in old if o.lease == said.lease and not o.withdrawn]:
            if (stands[0].outcome, json.loads(stands[0].slots)) == (said.outcome, chosen):
                return
            raise Refused("You have already answered this question. Take the answer back first.")
        if any(o.lease != said.lease for o in old):
            raise Refused("This click has the name of another one. Load the page again.", 422)
        if old and (old[-1].outcome, json.loads(old[-1].slots)) == (said.outcome, chosen):
            return  # the click was kept, and taken back since
        if old:
            raise Refused("This click was kept with another answer. Load the page again.", 422)
        if held.closed and not held.repeat:
            raise Refused("This round is over: the answer came too late. Here is another question.", 410)
        self._still(c, held)
        c.execute(
            sql.KEEP,
            {
                "lease": said.lease, "slate": held.slate, "person": person, "key": said.key,
                "outcome": said.outcome, "slots": json.dumps(chosen),
                "reason": said.reason[:MOST_WORDS], "comment": said.comment[:MOST_WORDS],
                "seconds": now - held.given, "made": now, "withdrawn": False,
            },
        )  # fmt: skip
        c.execute(sql.ANSWER, {"a_lease": said.lease})

    def _still(self, c: sa.Connection, held: Any) -> None:
        """Take the seat again if the lease has expired and nobody else has it."""
        if held.state == OPEN:
            return
        if self.rules.limit is not None and self._answered(c, held.person) >= self.rules.limit:
            raise Refused("You have answered as many questions as one may.", 410)
        if held.repeat:  # it has no seat
            return
        own = and_(slates.c.id == held.slate, slates.c.taken < slates.c.wanted)
        taken = c.execute(update(slates).where(own).values(taken=slates.c.taken + 1)).rowcount
        if not taken:
            raise Refused(
                "Your time for this question ran out, and somebody else got it. Here is another one.", 410
            )

    def _chosen(self, outcome: Outcome, places: Sequence[int], order: list[int]) -> list[int]:
        """Return the slots of an answer.

        Raises:
            Refused: If there is no such answer.
        """
        offered = {*self.rules.outcomes}
        if len(order) < 3 and "extremes" in offered:  # of two, the best is all there is to say
            offered = offered - {"extremes"} | {"pick"}
        if outcome not in offered:
            raise Refused(f"This question does not offer the answer {outcome!r}.", 422)
        if len(set(places)) < len(places) or any(not 0 <= p < len(order) for p in places):
            raise Refused(f"There are candidates 1 to {len(order)}.", 422)
        least, most = counts_of(outcome, len(order))
        if not least <= len(places) <= most:
            raise Refused(
                f"The answer {outcome!r} needs {least} to {most} candidates, and got {len(places)}.", 422
            )
        slots = [order[p] for p in places]
        return sorted(slots) if outcome == "tie" else slots

    def undo(self, person: int, since: float = 0.0) -> Lease | None:
        """Take back a person's last answer, and give the slate to the person again; None if there is none.

        Args:
            person: Number of the person.
            since: Seconds since 1970, before which no answer can be taken back.

        Raises:
            Refused: If a run has taken the answer.
        """
        now = self.now()

        def do(c: sa.Connection) -> Lease | None:
            self._hold(c, person)
            own = and_(ballots.c.person == person, ~ballots.c.withdrawn, ballots.c.made >= since)
            last = c.execute(select(ballots).where(own).order_by(ballots.c.id.desc()).limit(1)).first()
            if last is None:
                return None
            repeat = c.execute(select(leases.c.repeat).where(leases.c.id == last.lease)).scalar_one()
            if not repeat and c.execute(sql.CLOSED, {"a_slate": last.slate}).scalar_one():
                raise Refused("This round is over: its answers can no longer be taken back.")
            open_now = and_(leases.c.person == person, leases.c.state == OPEN)
            back = c.execute(
                update(leases)
                .where(open_now)
                .values(state=RETURNED)
                .returning(leases.c.slate, leases.c.repeat)
            )
            self._free(c, [row.slate for row in back.all() if row.repeat == 0])
            c.execute(update(ballots).where(ballots.c.id == last.id).values(withdrawn=True))
            c.execute(
                update(leases).where(leases.c.id == last.lease)
                .values(state=OPEN, given=now, until=now + self.rules.lease)
            )  # fmt: skip
            return self._lease(c, c.execute(select(leases).where(leases.c.id == last.lease)).one())

        return self._write(do)

    def image(self, digest: str) -> bytes | None:
        """Return an image, PNG."""
        with self._reader.connect() as c:
            return c.execute(select(tables.media.c.content).where(tables.media.c.digest == digest)).scalar()

    # --- what is decided --------------------------------------------------------------------------

    def undecided(self, round: int, attempt: int = 0) -> int:  # noqa: A002
        """Return how many answers a round still needs."""
        with self._reader.connect() as c:
            return self.tally(c, round, attempt).missing

    def tally(
        self,
        c: sa.Connection,
        round: int,  # noqa: A002
        attempt: int,
        *,
        closed: bool = False,
    ) -> Tally:
        """Return how many answers a round wants, has and needs; closed slates need some if ``closed``."""
        of = and_(slates.c.round == round, slates.c.attempt == attempt, slates.c.answer.is_(None))
        given = (
            select(ballots.c.slate, func.count())
            .select_from(
                ballots.join(leases, ballots.c.lease == leases.c.id).join(
                    slates, ballots.c.slate == slates.c.id
                )
            )
            .where(of, ~ballots.c.withdrawn, leases.c.repeat == 0)
            .group_by(ballots.c.slate)
        )
        answered = {row[0]: int(row[1]) for row in c.execute(given)}
        rows = c.execute(select(slates.c.id, slates.c.wanted, slates.c.closed).where(of)).all()
        # Slate by slate: more answers than one wants do not stand in for another's.
        found = [(wanted, min(answered.get(slate, 0), wanted), over) for slate, wanted, over in rows]
        missing = sum(wanted - had for wanted, had, over in found if closed or not over)
        over = bool(found) and all(over for *_, over in found)
        return Tally(sum(wanted for wanted, *_ in found), sum(had for _, had, _ in found), missing, over)

    def close(self, c: sa.Connection, round: int, attempt: int) -> bool:  # noqa: A002
        """Close a round: its slates are given to nobody any more, and its answers stand.

        Returns:
            Whether it was open.
        """
        of = and_(slates.c.round == round, slates.c.attempt == attempt, ~slates.c.closed)
        return bool(c.execute(update(slates).where(of).values(closed=True)).rowcount)

    def seat(self, seats: int) -> int:
        """Ask ``seats`` people about each slate from now on, and return the number of slates changed."""
        of = and_(slates.c.wanted.not_in((0, seats, UNLIMITED)), ~slates.c.closed)
        with self.engine.begin() as c:
            return int(c.execute(update(slates).where(of).values(wanted=seats)).rowcount)

    def has_answered(self, person: int, since: float = 0.0) -> bool:
        """Whether an answer of a person stands that was given at ``since`` (seconds since 1970) or later."""
        own = and_(ballots.c.person == person, ~ballots.c.withdrawn, ballots.c.made >= since)
        with self._reader.connect() as c:
            return c.execute(select(ballots.c.id).where(own).limit(1)).first() is not None

    def answers(self) -> int:
        """Return how many answers stand."""
        with self._reader.connect() as c:
            wanted = select(func.count()).select_from(ballots).where(~ballots.c.withdrawn)
            return int(c.execute(wanted).scalar_one())

    def was_given(self, person: int, digest: str) -> bool:
        """Whether an image is in a slate that a person was given."""
        own = (
            select(candidates.c.slate)
            .join(leases, leases.c.slate == candidates.c.slate)
            .where(leases.c.person == person, candidates.c.form == "image", candidates.c.content == digest)
        )
        with self._reader.connect() as c:
            return c.execute(own.limit(1)).first() is not None

    def code(self, person: int) -> str:
        """Return the completion code of a person, which nobody else has."""
        return Stream(self.rules.seed).at("code", self.secret, person)._digest().hex()[:10].upper()

    @cached_property
    def secret(self) -> str:
        """A random text of this study's own."""
        found = self.fact("secret")
        if found is None:
            new = sa.text(
                "INSERT INTO facts (key, value) VALUES ('secret', :value) ON CONFLICT (key) DO NOTHING"
            )
            with self.engine.begin() as c:
                c.execute(new, {"value": secrets.token_hex(16)})
            found = self.fact("secret")
        assert found is not None
        return found


def _kin(context: str, looks: Sequence[tuple[str, str]]) -> str:
    """Return the digest of a prompt and of what is shown with it, in any order."""
    return hashlib.sha256(json.dumps([context, sorted(set(looks))]).encode()).hexdigest()


def _remember(where: dict[K, V], key: K, value: V) -> V:
    if len(where) >= MANY:
        where.clear()
    where[key] = value
    return value


def _shown(lease: int, slate: int, rows: Sequence[Any], order: list[int], until: float) -> Lease:
    found = {row.slot: Candidate(row.item, row.form, row.content) for row in rows}
    return Lease(lease, slate, rows[0].context, tuple(found[slot] for slot in order), until)


def counts_of(outcome: str, k: int) -> tuple[int, int]:
    """Return the least and the largest number of candidates, of k, that an answer names."""
    return {"pick": (1, 1), "tie": (2, k), "ranking": (1, k), "extremes": (2, 2)}.get(outcome, (0, 0))


def look(form: str, content: str) -> tuple[str, str]:
    """Return what tells candidates apart on the page: spaces at the ends of texts and lines do not."""
    if form != "text":
        return form, content
    return form, "\n".join(line.rstrip() for line in content.strip().splitlines())
