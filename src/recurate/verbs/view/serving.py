"""The index on this machine's own address, read anew whenever it is asked for.

Only reports that the index has listed are served, and only to pages of this address: the host of a request
must be the loopback's, so that no other site can reach it by a name of its own. A report's scripts run in a
sandbox without this origin. Reports hold Vega, 800 kB of script: here it gets an address of its own, named by
its content, which browsers fetch once for all reports.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from recurate.core.errors import InputError
from recurate.verbs.view.entries import REPORT, Entry, Listing, check_folder, listing
from recurate.verbs.view.page import index_page

HOST = "127.0.0.1"
PREFIX, SCRIPTS = "/report/", "/script/"
LONG = 30_000  # bytes of a script from which on reports share it
SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
SANDBOX = "sandbox allow-scripts allow-downloads allow-popups"
OWN_SCRIPT = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def server_of(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of a folder's index, not yet started.

    Args:
        folder: The folder.
        port: Port; 0: any that is free.

    Raises:
        InputError: If the folder does not exist, or the port is taken.
    """
    check_folder(folder)
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, folder, {}, {}))
    except OSError as error:
        raise InputError(
            "the port cannot be used",
            got=f"{port}: {error.strerror}",
            remedy="leave --port out, or name another",
        ) from None


def _link(folder: Path, entry: Entry) -> str:
    """Return a report's address, which has its path in the folder, so that links among reports hold."""
    place = entry.path.relative_to(folder)
    return PREFIX + quote(os.fsencode(place / REPORT))


def _reports(found: Listing) -> dict[str, Path]:
    return {_link(found.folder, entry): entry.report for entry in found.entries if entry.report is not None}


class _Handler(BaseHTTPRequestHandler):
    server_version = "recurate"
    sys_version = ""

    def __init__(
        self, folder: Path, reports: dict[str, Path], scripts: dict[str, bytes], *arguments: object
    ) -> None:
        self.folder = folder
        self.reports = reports  # of the last listing, which all requests share: a listing reads every run
        self.scripts = scripts  # that reports share, by address
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN, "ask by the address that recurate view printed")
            return
        wanted = quote(unquote_to_bytes(self.path.partition("?")[0]))
        if wanted in self.scripts:
            self._answer(
                self.scripts[wanted], SANDBOX, "text/javascript", "private, max-age=86400, immutable"
            )
            return
        try:
            if self.path == "/":
                self._answer(index_page(self._listed(), partial(_link, self.folder)).encode(), OWN_SCRIPT)
                return
            if wanted not in self.reports:
                self._listed()
            content = self.reports[wanted].read_bytes()
        except InputError as error:
            self.send_error(HTTPStatus.NOT_FOUND, error.what)
        except (KeyError, FileNotFoundError, PermissionError):
            self.send_error(HTTPStatus.NOT_FOUND, "the index has no such report")
        else:
            self._answer(self._sharing(content), SANDBOX)

    def _listed(self) -> Listing:
        """Read the folder anew, and remember where its reports are."""
        found = listing(self.folder)
        self.reports.update(_reports(found))
        return found

    def _sharing(self, content: bytes) -> bytes:
        """Return a report that fetches its long scripts, and keep these for when they are asked for."""

        def shared(found: re.Match[bytes]) -> bytes:
            if len(found[1]) < LONG:
                return found[0]
            address = f"{SCRIPTS}{hashlib.sha256(found[1]).hexdigest()}.js"
            self.scripts[address] = found[1]
            return f'<script src="{address}"></script>'.encode()

        return SCRIPT.sub(shared, content)

    def _answer(self, content: bytes, policy: str, kind: str = "text/html", keep: str = "no-store") -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(content))),
            ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"), ("Cache-Control", keep),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Keep quiet: the terminal shows the address."""
