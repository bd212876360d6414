"""The tables of a study, in SQLite or PostgreSQL, and how a database is opened.

A *slate* has one row, and one row per candidate. A *lease* gives a slate to a person for some time, in an
order drawn for that person. A *ballot* is what the person said of it. A slate has ``wanted`` seats; leases
that are open and ballots that stand take one each (``taken``), planned repeats and checks none. A slate is
``closed`` once a run has taken its answers: it is given to nobody, and its answers stand.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, MetaData, Table, UniqueConstraint, event, text

from recurate.core.errors import InputError

BUSY = 30.0  # seconds that a writer waits for another
TURN = 7_265_637  # number of the lock under which tables are made
THREADS = 40  # of a server, each with a connection that is kept
OPEN, DONE, RETURNED = 0, 1, 2  # states of leases

metadata = MetaData()
_OPEN_SLATE = text("taken < wanted AND NOT closed")
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
    Column("kin", sa.String(64), nullable=False, server_default=""),  # equal for equal prompts and candidates
    Column("answer", sa.Integer),  # the slot that a check expects
    Column("wanted", sa.Integer, nullable=False),
    Column("taken", sa.Integer, nullable=False),
    Column("closed", sa.Boolean, nullable=False, server_default=sa.false()),  # the run has taken the answers
    UniqueConstraint("round", "attempt", "number"),
    Index("kin_of_slates", "kin"),
    Index("open_slates", "id", sqlite_where=_OPEN_SLATE, postgresql_where=_OPEN_SLATE),
)
candidates = Table(
    "candidates",
    metadata,
    Column("slate", _id, _to("slates"), primary_key=True),
    Column("slot", sa.Integer, primary_key=True),
    Column("item", _id, nullable=False),
    Column("form", sa.String(8), nullable=False),  # text, image or points
    Column("content", sa.Text, nullable=False),  # the text, the image's digest, or coordinates
    Column("own", sa.Text, nullable=False),  # rewards and other columns, JSON
)
media = Table(
    "media",
    metadata,
    Column("digest", sa.String(64), primary_key=True),
    Column("content", sa.LargeBinary, nullable=False),  # PNG
)
invitations = Table(
    "invitations",
    metadata,
    _key(),
    Column("hash", sa.String(64), nullable=False, unique=True),
    Column("label", sa.Text, nullable=False),
    Column("made", sa.Float, nullable=False),
    Column("until", sa.Float),
    Column("places", sa.Integer),  # people who may join by it; null: any number
    Column("used", sa.Integer, nullable=False),
    Column("revoked", sa.Boolean, nullable=False),
)
people = Table(
    "people",
    metadata,
    _key(),
    Column("label", sa.Text, nullable=False, unique=True),
    Column("worker", sa.Text),  # the name that a platform gave, as given
    Column("invitation", _id, _to("invitations", null=True)),
    Column("joined", sa.Float, nullable=False),
    Column("simulated", sa.Boolean, nullable=False),
    Column("blocked", sa.Boolean, nullable=False),
    Index("one_worker", "worker", unique=True),
)
sessions = Table(
    "sessions",
    metadata,
    Column("hash", sa.String(64), primary_key=True),  # of the session's token
    Column("person", _id, _to("people"), nullable=False, index=False),
    Column("made", sa.Float, nullable=False),
    Index("sessions_of_people", "person"),
)
leases = Table(
    "leases",
    metadata,
    _key(),
    Column("slate", _id, _to("slates"), nullable=False),
    Column("person", _id, _to("people"), nullable=False),
    Column("repeat", sa.Integer, nullable=False),  # 0, or the number of the planned repeat
    Column("places", sa.Text, nullable=False),  # slots in the order shown, JSON
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
    Column("key", sa.String(64), nullable=False),  # the click's name: a click sent twice is one ballot
    Column("outcome", sa.String(8), nullable=False),  # pick, tie, bad, skip, ranking or extremes
    Column("slots", sa.Text, nullable=False),  # picked, tied, or ranked from the best, JSON
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
    Index("ballots_of_leases", "lease"),  # the one above cannot be used where leases are deleted
)


def url_of(place: Path | str) -> str:
    """Return the address of a database: of a file, or as it is given."""
    text_of = str(place)
    if "://" not in text_of:
        return f"sqlite:///{Path(text_of).resolve()}"
    return text_of.replace("postgresql://", "postgresql+psycopg://").replace(
        "postgres://", "postgresql+psycopg://"
    )


def opened(place: Path | str) -> sa.Engine:
    """Open a database of ballots, which is made or brought to this version if it must be.

    Args:
        place: File of an SQLite database, or an address such as ``postgresql://user@host/name``.

    Raises:
        InputError: If it cannot be opened, or was made by a newer version.
    """
    try:
        address = sa.make_url(url_of(place))
        found = _engine(address)
        migrate(found)
    except (sa.exc.OperationalError, sa.exc.DatabaseError, sa.exc.ArgumentError) as error:
        why = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise InputError(
            "the database of ballots cannot be opened",
            got=f"{_shown(place)}: {why}",
            remedy="check the file or the server; --db FILE or --db postgresql://USER@HOST/NAME",
        ) from None
    return found


def _engine(address: sa.URL) -> sa.Engine:
    if address.get_backend_name() not in ("sqlite", "postgresql"):
        raise InputError(
            "ballots are kept in SQLite or PostgreSQL",
            got=address.get_backend_name(),
            remedy="--db FILE or --db postgresql://USER@HOST/NAME",
        )
    if address.get_backend_name() == "postgresql":
        return sa.create_engine(address, pool_size=THREADS)
    found = sa.create_engine(
        address, connect_args={"timeout": BUSY, "check_same_thread": False}, pool_size=THREADS
    )
    turn = threading.Lock()  # SQLite's own waiting sleeps, and lets whoever wakes first go first

    @event.listens_for(found, "connect")
    def _set(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun here, not by the driver
        _to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")  # a ballot that was accepted survives a power failure
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(found, "begin")
    def _begin(connection: sa.Connection) -> None:
        reads = connection.get_execution_options().get("reads", False)
        if not reads and not connection.info.get("turn"):
            connection.info["turn"] = turn.acquire(timeout=BUSY)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    @event.listens_for(found, "checkin")
    def _end(_: Any, record: Any) -> None:
        if record.info.pop("turn", False):
            turn.release()

    return found


def _to_wal(connection: Any) -> None:
    """Let readers and a writer work at once; others wait while one process changes the file."""
    end = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def migrate(engine: sa.Engine) -> None:
    """Bring a database to this version.

    Raises:
        InputError: If a newer version made it.
    """
    import logging

    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(reads=True).connect() as connection:
        now = MigrationContext.configure(connection).get_current_revision()
    if now == script.get_current_head():
        return
    if now is not None and now not in {s.revision for s in script.walk_revisions()}:
        raise InputError(
            "a newer version of recurate made this database",
            got=f"its revision {now}; this version knows up to {script.get_current_head()}",
            remedy="update recurate: pip install --upgrade recurate",
        )
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # SQLite has one writer anyway
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({TURN})")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _shown(place: Path | str) -> str:
    """Return a place without its password."""
    if "://" not in str(place):
        return str(place)
    try:
        return sa.make_url(str(place)).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "an address that cannot be read"
