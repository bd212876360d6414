"""JSON, with one policy for values that JSON cannot represent.

NumPy scalars and arrays become numbers and lists, paths become strings, dataclasses become objects. NaN and
the infinities become ``null``: the standard has no such numbers, and other readers reject them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return ``value`` in terms of JSON's types: dict, list, str, int, float, bool and None.

    NaN and the infinities become None; sets are sorted; mapping keys become strings.

    Raises:
        TypeError: If a value, at any depth, has no such form.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no plain form")


def to_json(value: Any, *, indent: int | None = 2) -> str:
    """Return ``value`` as a strict JSON document, without NaN or infinities.

    Args:
        value: Any value that :func:`plain` accepts.
        indent: Spaces per level; None for a single line.

    Raises:
        TypeError: If a value, at any depth, has no plain form.
    """
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
