"""Plug-ins, found by name: built in, an entry point of an installed package, or ``module:name``.

A :class:`Seam` is one kind of component that can be added, such as rewards or noises; ``docs/extending.md``
describes each. :mod:`recurate.components.registry` turns plug-ins into settings.
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

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")  # module:name; whatever is imported matches it whole


@dataclass(frozen=True)
class Seam:
    """A kind of component that users can add.

    Attributes:
        name: Name of the kind; the group of its entry points is ``recurate.NAME``.
        what: Singular noun for one component in messages.
        built_in: Built-in components by name.
        base: Base class of the settings made from a plain function or class; None without settings.
        usual: Component of a configuration table that does not name one; empty if tables must name it.
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
        """Return the component of a name: built in, an entry point, or ``module:name``.

        Raises:
            InputError: If there is no such component, or its import failed.
        """
        if title in self.built_in:
            return self.built_in[title]
        if NAME.fullmatch(title):
            return from_module(title)
        installed = self.installed()
        if title in installed:
            return from_module(installed[title])
        raise InputError(
            f"there is no {self.what} called {title!r}",
            got=repr(title),
            remedy=f"{nearest(title, [*self.built_in, *installed])}; name your own by 'module:name', or by "
            f"an entry point of the group {self.group!r} (recurate docs extending)",
        )

    def installed(self) -> dict[str, str]:
        """Return the ``module:name`` of the entry points of other packages, by name."""
        return {point.name: point.value for point in metadata.entry_points(group=self.group)}

    def origin(self, title: str) -> str | None:
        """Return the ``module:name`` of a plug-in; None for a built-in component."""
        return None if title in self.built_in else self.installed().get(title, title)


def from_module(title: str) -> Any:
    """Import ``module:name`` from Python's path or, last, the current folder.

    Raises:
        InputError: If there is no such module or name, or the module raises an error.
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
    """Call a user's function and convert any exception to an error that names the function.

    Args:
        title: Name of the function in errors.
        function: Function to call.
        given: Positional arguments.
        offered: Further arguments by name; each is passed only if the function accepts it.

    Raises:
        InputError: If the function raises any exception.
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
            remedy="fix it and try it on a few samples; complete rounds are kept, and --resume continues",
        ) from error


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has a parameter of that name, or accepts any keyword."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions in C have no signature
        return False
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
