"""`recurate view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recurate.core.errors import InputError
from recurate.verbs.options import option


def view(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of results, at any depth.")],
    out: Annotated[
        Path | None, option("FILE", "Write the index as one page, such as index.html, and end.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port on this machine. Default, and 0: any that is free."),
    ] = None,
) -> None:
    """List what lies in a folder: runs, forecasts, plans, fits, audits, comparisons, reproductions, studies.

    Each has its name, kind, date, verdict, K, rounds, lead and a link to its report; the page sorts and
    filters them. What cannot be read is listed with the reason. The index is served on this machine alone
    and read anew when the page is loaded again, so runs can be watched; or it is written as one page.

    For example:

      recurate view runs

      recurate view . --out index.html
    """
    from recurate.core.files import write_text
    from recurate.verbs.view.entries import listing
    from recurate.verbs.view.page import index_page, is_index, relative_link
    from recurate.verbs.view.serving import server_of

    if out is not None:
        if port is not None:
            raise InputError(
                "--out writes a page and serves nothing", got=f"--port {port}", remedy="leave one of them out"
            )
        if out.is_dir():
            raise InputError("--out names a folder", got=out, remedy=f"name a file: {out / 'index.html'}")
        if out.exists() and not is_index(out):
            raise InputError(
                "--out names a file that is no index of recurate view", got=out, remedy="name another file"
            )
        found = listing(folder)
        write_text(out, index_page(found, relative_link(out)))
        print(f"written: {out} ({len(found.entries)} entries)")
        return
    with server_of(folder, port or 0) as server:
        print(f"http://{server.server_address[0]!s}:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")
