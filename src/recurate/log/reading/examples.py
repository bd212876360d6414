"""Tables that come with the package, so that every command can be tried without data: ``example:NAME``.

``tools/examples.py`` draws them: they are simulated, from fixed seeds, and docs/examples.md says from what.
"""

from __future__ import annotations

from pathlib import Path

from recurate.core.errors import InputError, nearest

PREFIX = "example:"
FOLDER = Path(__file__).parents[1] / "examples"


def is_example(name: str) -> bool:
    """Return whether a source's name means a table of the package; a file so called is ``./example:NAME``."""
    return name.startswith(PREFIX)


def names() -> list[str]:
    """Return the names of the examples.

    >>> names()
    ['best-of-4', 'divided-rewards', 'two-groups']
    """
    return sorted(path.stem for path in FOLDER.glob("*.csv"))


def example(name: str) -> Path:
    """Return the file of an example.

    >>> example("example:best-of-4").name
    'best-of-4.csv'

    Raises:
        InputError: If there is none of this name; the message has the nearest one and all.
    """
    own = name.removeprefix(PREFIX)
    if own not in names():
        raise InputError(
            f"no example is called {own!r}" if own else "this names no example",
            got=name,
            remedy=nearest(name, [PREFIX + one for one in names()]),
        )
    return FOLDER / f"{own}.csv"
