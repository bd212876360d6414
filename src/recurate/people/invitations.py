"""Invitations: links that let people into a study, of which the database has hashes."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from sqlalchemy import insert, select, update

from recurate.people.ballots import Study
from recurate.people.tables import invitations


def make(study: Study, label: str = "", places: int | None = None, hours: float | None = None) -> str:
    """Return a new invitation's token.

    Args:
        study: The study.
        label: What the owner calls it.
        places: People who may join by it; None: any number.
        hours: Hours after which it expires; None: never.
    """
    token, now = secrets.token_urlsafe(24), study.now()
    until = None if hours is None else now + 3600 * hours
    with study.engine.begin() as c:
        c.execute(
            insert(invitations).values(
                hash=_hashed(token), label=label, made=now, until=until,
                places=places, used=0, revoked=False,
            )
        )  # fmt: skip
    return token


def valid(study: Study, token: str) -> int | None:
    """Return the number of an invitation that holds; None if there is none, it expired or was revoked."""
    with study.engine.execution_options(reads=True).connect() as c:
        found = c.execute(select(invitations).where(invitations.c.hash == _hashed(token))).first()
    if found is None or found.revoked or (found.until is not None and found.until < study.now()):
        return None
    return int(found.id)


def revoke(study: Study, number: int) -> bool:
    """Revoke an invitation; people who joined by it stay."""
    with study.engine.begin() as c:
        own = invitations.c.id == number
        return bool(c.execute(update(invitations).where(own).values(revoked=True)).rowcount)


def listed(study: Study) -> list[dict[str, Any]]:
    """Return all invitations, without their links."""
    with study.engine.execution_options(reads=True).connect() as c:
        rows = c.execute(select(invitations).order_by(invitations.c.id)).mappings()
        return [{k: row[k] for k in ("id", "label", "until", "places", "used", "revoked")} for row in rows]


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
