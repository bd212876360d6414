"""The papers behind what was called in this process, as BibTeX."""

from __future__ import annotations

import pkgutil

_used = {"recurate"}


def cite(*keys: str) -> None:
    """Record the use of entries of ``papers.bib``, for :func:`citation`."""
    _used.update(keys)


def citation(*, all: bool = False) -> None:  # noqa: A002
    """Print BibTeX of recurate and of the papers behind the functions that were called in this process.

    Args:
        all: whether to print every entry, used or not.

    >>> import recurate
    >>> recurate.citation()  # doctest: +ELLIPSIS
    @software{recurate,
      title = {recurate: run, forecast, plan and audit self-consuming training loops with curated data},
    ...
    """
    text = (pkgutil.get_data(__name__, "papers.bib") or b"").decode().strip()
    entries = {entry.partition("{")[2].partition(",")[0]: entry for entry in text.split("\n\n")}
    print("\n\n".join(entry for key, entry in entries.items() if all or key in _used))
