"""Slates can be closed and have kin, a person can have several sessions, and a worker is one person.

Revision: 0002. ``people.hash`` stays and is no longer used: SQLite would have to copy the table to drop it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
OPEN = text("taken < wanted AND NOT closed")


def upgrade() -> None:
    """Change the tables."""
    op.add_column("slates", sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("slates", sa.Column("kin", sa.String(64), nullable=False, server_default=""))
    op.execute("UPDATE slates SET kin = 'slate ' || id")  # what was alike before is not known
    op.create_index("kin_of_slates", "slates", ["kin"])
    op.drop_index("open_slates", "slates")
    op.create_index("open_slates", "slates", ["id"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("person", _id, sa.ForeignKey("people.id", ondelete="CASCADE"), nullable=False),
        sa.Column("made", sa.Float, nullable=False),
    )
    op.create_index("sessions_of_people", "sessions", ["person"])
    op.execute(
        "INSERT INTO sessions (hash, person, made) SELECT hash, id, joined FROM people WHERE hash IS NOT NULL"
    )
    op.execute("UPDATE people SET hash = NULL")
    op.execute(
        "UPDATE people SET worker = worker || ' (again, ' || label || ')' "
        "WHERE id NOT IN (SELECT MIN(id) FROM people GROUP BY worker) AND worker IS NOT NULL"
    )
    op.create_index("one_worker", "people", ["worker"], unique=True)
