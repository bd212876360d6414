"""recurate: run, forecast, plan and audit self-consuming training loops with curated data.

>>> import recurate
>>> recurate.forecast([0.0, 1.0, 2.0], k=4, rounds=3).trajectory.values("mean_reward").round(3)
array([1.   , 1.438, 1.736, 1.884])
"""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from typing import Any


def _homes() -> dict[str, tuple[str, str]]:
    """Return where each public name is defined, module and name there, as ``__init__.pyi`` lists them."""
    text = pkgutil.get_data(__name__, "__init__.pyi") or b""
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    return {a.asname or a.name: (node.module or "", a.name) for node in imports for a in node.names}


_HOMES = _homes()  # loaded on first use, so that `import recurate` is instant
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("recurate.core.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'recurate' has no attribute {name!r}")
    module, original = _HOMES[name]
    try:
        value = getattr(import_module(module), original)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("recurate"):
            raise
        errors = import_module("recurate.core.errors")
        raise errors.InputError(
            f"recurate.{name} needs more than the plain installation",
            got=f"no {error.name}",
            remedy="pip install 'recurate[run]'",
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
