"""The statements of every pick, made once: to make and name them anew takes longer than the database does."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import and_, bindparam, exists, func, insert, or_, select, update

from recurate.people.tables import DONE, OPEN, RETURNED, ballots, candidates, leases, people, sessions, slates

AHEAD = 16  # open slates among which a person's next one is drawn, so that people do not queue for one

PERSON: Any = bindparam("a_person")
SLATE: Any = bindparam("a_slate")
LEASE: Any = bindparam("a_lease")
KNOWN = (
    select(sessions.c.person, sessions.c.made)
    .join(people, sessions.c.person == people.c.id)
    .where(sessions.c.hash == bindparam("a_hash"), sessions.c.made >= bindparam("after"), ~people.c.blocked)
)
HELD = (
    select(leases, slates.c.closed)
    .join(slates, leases.c.slate == slates.c.id)
    .where(leases.c.person == PERSON, leases.c.state == OPEN, leases.c.until >= bindparam("now"))
)
DROP = update(leases).where(leases.c.id == LEASE).values(state=RETURNED)
EXPIRED = (
    update(leases)
    .where(leases.c.state == OPEN, leases.c.until < bindparam("now"))
    .values(state=RETURNED)
    .returning(leases.c.slate, leases.c.repeat)
)
ANSWERED = select(func.count()).select_from(leases).where(leases.c.person == PERSON, leases.c.state == DONE)
HAD = exists().where(leases.c.slate == slates.c.id, leases.c.person == PERSON, leases.c.state != RETURNED)
KIN = slates.alias("kin")
# One within the other: as a join, SQLite would look through all of the person's leases for each slate.
HAD_KIN = exists().where(
    KIN.c.kin == slates.c.kin,
    exists()
    .where(leases.c.slate == KIN.c.id, leases.c.person == PERSON, leases.c.state != RETURNED)
    .correlate(KIN),
)
# As the index of open slates says it: SQLite does not take `closed = 0` for that, and would look at all.
FREE = and_(slates.c.taken < slates.c.wanted, sa.text("NOT slates.closed"))
FRESH, TWINS, CHECKS = (
    select(slates.c.id).where(FREE, which, ~had).order_by(slates.c.id).limit(AHEAD)
    for which, had in (
        (slates.c.answer.is_(None), HAD_KIN),
        (slates.c.answer.is_(None), HAD),
        (slates.c.answer.is_not(None), HAD),
    )
)
TAKE = update(slates).where(slates.c.id == SLATE, FREE).values(taken=slates.c.taken + 1)
CANDIDATES = (
    select(candidates.c.slot, candidates.c.item, candidates.c.form, candidates.c.content, slates.c.context)
    .join(slates, candidates.c.slate == slates.c.id)
    .where(candidates.c.slate == SLATE)
    .order_by(candidates.c.slot)
)
GIVE = sa.text(
    "INSERT INTO leases (slate, person, repeat, places, given, until, state) "
    "VALUES (:slate, :person, :repeat, :places, :given, :until, 0) "
    "ON CONFLICT (slate, person, repeat) DO UPDATE SET places = excluded.places, given = excluded.given, "
    "until = excluded.until, state = excluded.state RETURNING id"
)
LEFT, LEFT_TWINS = (
    select(func.count(found.c.what.distinct())).select_from(found)
    for found in (
        select(what.label("what"))
        .where(FREE, slates.c.answer.is_(None), ~had)
        .order_by(slates.c.id)
        .limit(1000)
        .subquery()
        for what, had in ((slates.c.kin, HAD_KIN), (slates.c.id, HAD))
    )
)
HOLDS = (
    select(func.count())
    .select_from(leases.join(slates, leases.c.slate == slates.c.id))
    .where(leases.c.person == PERSON, leases.c.state == OPEN, or_(~slates.c.closed, leases.c.repeat > 0))
)
# Whoever closes the slate waits until the answer is kept, and the other way round.
OWN = (
    select(leases, slates.c.closed)
    .join(slates, leases.c.slate == slates.c.id)
    .where(leases.c.id == LEASE, leases.c.person == PERSON)
    .with_for_update(key_share=True)
)
CLOSED = select(slates.c.closed).where(slates.c.id == SLATE).with_for_update(key_share=True)
SET = sa.text(
    "INSERT INTO facts (key, value) VALUES (:key, :value) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
LOCK = 7_265_638  # number of the lock under which slates are added in PostgreSQL
ONE_AT_A_TIME = select(people.c.id).where(people.c.id == PERSON).with_for_update()
EARLIER = select(ballots.c.lease, ballots.c.outcome, ballots.c.slots, ballots.c.withdrawn).where(
    or_(
        and_(ballots.c.lease == LEASE, ~ballots.c.withdrawn),
        and_(ballots.c.person == PERSON, ballots.c.key == bindparam("a_key")),
    )
)
KEEP = insert(ballots)
ANSWER = update(leases).where(leases.c.id == LEASE).values(state=DONE)
