"""A temporary PostgreSQL server, from the programs of a Debian package or of the path."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

USER = "recurate"  # of the database, who owns it
PATIENCE = 60.0  # seconds until the server must answer


@dataclass
class Postgres:
    """A server that runs."""

    port: int
    pid: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def url(self) -> str:
        """The address of the database that is always there."""
        return self._url("postgres")

    def fresh(self) -> str:
        """Return the address of a new empty database."""
        import psycopg

        name = f"study_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name)

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"


def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, of the newest version; None if there is none."""
    found = [
        (int(version[1]), path)
        for path in Path("/usr/lib/postgresql").glob("*/bin")
        if (version := re.fullmatch(r"(\d+)", path.parent.name)) and (path / "initdb").is_file()
    ]
    if found:
        return max(found)[1]
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


@contextmanager
def served(bin_: Path) -> Iterator[Postgres]:
    """Serve databases on a free port of this machine alone; everything is deleted at the end.

    PostgreSQL refuses to run as root, so root lets an unprivileged user run it.
    """
    import psycopg

    who = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="recurate-postgres-", dir="/tmp"))
    if who:
        os.chown(folder, who["user"], who["group"])
    data = folder / "data"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"HOME": str(folder)}
    initialise = [
        bin_ / "initdb", "-D", data, "-U", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"
    ]  # fmt: skip
    log = folder / "log"
    try:
        subprocess.run(
            list(map(str, initialise)), check=True, cwd=folder, env=environment, capture_output=True, **who
        )
        port = _free_port()
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with log.open("wb") as file:
            server = subprocess.Popen(
                [str(bin_ / "postgres"), "-D", str(data), "-p", str(port), *options],
                cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **who,
            )  # fmt: skip
        try:
            found = Postgres(port, server.pid)
            until = time.monotonic() + PATIENCE
            while True:
                try:
                    psycopg.connect(found.url, connect_timeout=5).close()
                    break
                except psycopg.OperationalError:
                    if server.poll() is not None or time.monotonic() > until:
                        raise RuntimeError(log.read_text(errors="replace")) from None
                    time.sleep(0.05)
            yield found
        finally:
            server.send_signal(signal.SIGQUIT)  # at once: everything is deleted
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> dict[str, Any]:
    """Return whom a program of root is run as: ``subprocess``'s user and groups."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("there is no unprivileged user")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Return a server of this test process, made when first asked for; import it to use it."""
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with served(found) as server:
        yield server
