"""Alembic's environment: the connection is given by ``recurate.people.tables.migrate``."""

from alembic import context

from recurate.people.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
