"""The first tables, as they were.

Revision: 0001.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, UniqueConstraint, text

revision = "0001"
down_revision = None

metadata = MetaData()
_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _key() -> Column[Any]:
    return Column("id", _id, primary_key=True, autoincrement=True)


def _to(table: str, *, null: bool = False) -> ForeignKey:
    return ForeignKey(f"{table}.id", ondelete="SET NULL" if null else "CASCADE")


facts = Table(
    "facts",
    metadata,
    Column("key", sa.String(64), primary_key=True),
    Column("value", sa.Text, nullable=False),
)
slates = Table(
    "slates",
    metadata,
    _key(),
    Column("round", sa.Integer, nullable=False),
    Column("attempt", sa.Integer, nullable=False),
    Column("number", _id, nullable=False),
    Column("context", sa.Text, nullable=False),
    Column("answer", sa.Integer),
    Column("wanted", sa.Integer, nullable=False),
    Column("taken", sa.Integer, nullable=False),
    UniqueConstraint("round", "attempt", "number"),
    Index("open_slates", "id", sqlite_where=text("taken < wanted"), postgresql_where=text("taken < wanted")),
)
candidates = Table(
    "candidates",
    metadata,
    Column("slate", _id, _to("slates"), primary_key=True),
    Column("slot", sa.Integer, primary_key=True),
    Column("item", _id, nullable=False),
    Column("form", sa.String(8), nullable=False),
    Column("content", sa.Text, nullable=False),
    Column("own", sa.Text, nullable=False),
)
media = Table(
    "media",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    Column("content", sa.LargeBinary, nullable=False),
)
invitations = Table(
    "invitations",
    metadata,
    _key(),
    Column("hash", sa.String(64), nullable=False, unique=True),
    Column("label", sa.Text, nullable=False),
    Column("made", sa.Float, nullable=False),
    Column("until", sa.Float),
    Column("places", sa.Integer),
    Column("used", sa.Integer, nullable=False),
    Column("revoked", sa.Boolean, nullable=False),
)
people = Table(
    "people",
    metadata,
    _key(),
    Column("label", sa.Text, nullable=False, unique=True),
    Column("worker", sa.Text),
    Column("hash", sa.String(64), unique=True),
    Column("invitation", _id, _to("invitations", null=True)),
    Column("joined", sa.Float, nullable=False),
    Column("simulated", sa.Boolean, nullable=False),
    Column("blocked", sa.Boolean, nullable=False),
)
leases = Table(
    "leases",
    metadata,
    _key(),
    Column("slate", _id, _to("slates"), nullable=False),
    Column("person", _id, _to("people"), nullable=False),
    Column("repeat", sa.Integer, nullable=False),
    Column("places", sa.Text, nullable=False),
    Column("given", sa.Float, nullable=False),
    Column("until", sa.Float, nullable=False),
    Column("state", sa.Integer, nullable=False),
    UniqueConstraint("slate", "person", "repeat"),
    Index("leases_of_people", "person", "state"),
    Index("open_leases", "until", sqlite_where=text("state = 0"), postgresql_where=text("state = 0")),
)
ballots = Table(
    "ballots",
    metadata,
    _key(),
    Column("lease", _id, _to("leases"), nullable=False),
    Column("slate", _id, _to("slates"), nullable=False),
    Column("person", _id, _to("people"), nullable=False),
    Column("key", sa.String(64), nullable=False),
    Column("outcome", sa.String(8), nullable=False),
    Column("slots", sa.Text, nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("comment", sa.Text, nullable=False),
    Column("seconds", sa.Float, nullable=False),
    Column("made", sa.Float, nullable=False),
    Column("withdrawn", sa.Boolean, nullable=False),
    UniqueConstraint("person", "key"),
    Index(
        "one_ballot",
        "lease",
        unique=True,
        sqlite_where=text("NOT withdrawn"),
        postgresql_where=text("NOT withdrawn"),
    ),
    Index("ballots_of_slates", "slate"),
    Index("ballots_of_leases", "lease"),
)


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind())
