"""The first tables.

Revision: 0001. It makes the tables as they are in ``recurate.people.tables`` today; the first change of
those tables must replace this by what they were.
"""

from alembic import op

from recurate.people.tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    metadata.create_all(op.get_bind())
