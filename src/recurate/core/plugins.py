"""What strangers add, found by name: built in, installed as an entry point, or ``module:name``.

A :class:`Seam` is one thing that can be added to (rewards, noises, ...). ``docs/extending.md`` has a page on
each; :mod:`recurate.components.registry` makes settings of what is found.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError, nearest

NAME = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


@dataclass(frozen=True)
class Seam:
    """One thing that strangers may add.

    Attributes:
        name: of the entry points' group, ``recurate.NAME``.
        what: one of them, in messages.
        built_in: what this package brings, by name.
        base: the settings that a plain function or class becomes; None where it has no settings.
        usual: the kind of a table without one; empty where tables must name theirs.
    """

    name: str
    what: str
    built_in: Mapping[str, Any] = field(repr=False)
    base: Any = None
    usual: str = ""

    @property
    def group(self) -> str:
        """The group of entry points."""
        return f"recurate.{self.name}"

    def find(self, title: str) -> Any:
        """Return what is called ``title``: built in, an entry point, or ``module:name``.

        Raises:
            InputError: there is nothing of that name, or importing it failed.
        """
        if title in self.built_in:
            return self.built_in[title]
        if re.match(NAME, title):
            return from_module(title)
        installed = self.installed()
        if title in installed:
            return from_module(installed[title])
        raise InputError(
            f"there is no {self.what} called {title!r}",
            got=repr(title),
            remedy=f"{nearest(title, [*self.built_in, *installed])}; one of your own is called "
            f"'module:name', or by an entry point of the group {self.group!r} (docs/extending.md)",
        )

    def installed(self) -> dict[str, str]:
        """Return the entry points of other packages: ``module:name`` by name."""
        return {point.name: point.value for point in metadata.entry_points(group=self.group)}

    def origin(self, title: str) -> str | None:
        """Return the ``module:name`` of a plug-in; None for what is built in."""
        return None if title in self.built_in else self.installed().get(title, title)


def from_module(title: str) -> Any:
    """Import ``module:name``: modules on Python's path are found, and those in the current folder.

    Raises:
        InputError: there is no such module or name, or the module fails.
    """
    module, _, name = title.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last: a file here must not hide a library
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise InputError(
            f"{title} cannot be imported",
            got=f"{type(error).__name__}: {error}",
            remedy="check module:name; the current folder is searched too",
        ) from error
    if not hasattr(found, name):
        known = [known for known in vars(found) if not known.startswith("_")]
        raise InputError(f"{title} cannot be imported", got=f"no {name!r} there", remedy=nearest(name, known))
    return getattr(found, name)


def call(title: str, function: Callable[..., Any], *given: Any, **offered: Any) -> Any:
    """Call somebody's function; what it raises becomes an error that names it.

    Args:
        title: what it is called in errors.
        function: the function.
        given: its first arguments.
        offered: further ones by name, each passed if the function takes it.

    Raises:
        InputError: the function raised something.
    """
    taken = {name: value for name, value in offered.items() if takes(function, name)}
    try:
        return function(*given, **taken)
    except InputError as error:
        if title in error.what:
            raise
        raise InputError(f"{title}: {error.what}", got=error.got, remedy=error.remedy) from error
    except Exception as error:
        raise InputError(
            f"{title} failed",
            got=f"{type(error).__name__}: {error}",
            remedy="mend it and try it on a few samples; complete rounds are kept, and --resume continues",
        ) from error


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has an argument of that name, or takes any."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C do not say
        return False
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
