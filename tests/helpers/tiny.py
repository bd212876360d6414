"""Tiny runs: real models, a second or two a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GAUSSIANS: dict[str, Any] = {
    "seed": 3,
    "rounds": 2,
    "data": {"kind": "gaussians", "modes": 4, "size": 500, "sd": 0.2},
    "generator": {
        "kind": "flow",
        "width": 16,
        "depth": 2,
        "first_steps": 60,
        "steps": 20,
        "batch": 64,
        "coupling": "ot",
        "coupling_batch": 32,
        "ode_steps": 3,
        "device": "cpu",
    },
    "rewards": [
        {"kind": "distance", "name": "east", "centre": [2.0, 0.0], "gamma": 1.0, "weight": 0.75},
        {"kind": "distance", "name": "west", "centre": [-2.0, 0.0], "gamma": 1.0, "weight": 0.25},
    ],
    "groups": {"kind": "nearest"},
    "selection": {"k": 3, "picks": 120, "slates": 150, "temperature": 0.5},
    "retraining": {"real_fraction": 0.25},
}

DIGITS: dict[str, Any] = {
    "seed": 3,
    "rounds": 1,
    "data": {"kind": "digits"},
    "generator": GAUSSIANS["generator"],
    "classifier": {"width": 16, "steps": 60},
    "rewards": [{"kind": "classifier", "score": "confidence", "gamma": 2.0}],
    "groups": {"kind": "classifier"},
    "selection": {"k": 2, "picks": 60},
}


def merged(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a configuration with some tables changed, key by key."""
    out = dict(base)
    for name, value in changes.items():
        out[name] = {**base[name], **value} if isinstance(value, dict) and name in base else value
    return out


MAY_DIFFER = {"timings.jsonl"}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the timings; hidden leftovers included."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name not in MAY_DIFFER)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def differences(found: dict[str, bytes | None], expected: dict[str, bytes | None]) -> list[str]:
    """Return a line for each file that is in one folder only or has other bytes, with the first of these."""
    lines = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected or name not in found:
            lines.append(f"{name} is {'left over' if name in found else 'missing'}")
            continue
        mine, theirs = found[name] or b"", expected[name] or b""
        if mine != theirs:
            pairs = enumerate(zip(mine, theirs, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(mine), len(theirs)))
            part = slice(max(at - 40, 0), at + 60)
            lines.append(f"{name}, byte {at} of {len(theirs)}: {mine[part]!r}, expected {theirs[part]!r}")
    return lines


def without_seals(files: dict[str, bytes | None]) -> dict[str, bytes | None]:
    """Return a run's files, its bounds without the seals that depend on what the run rests on."""
    if files.get("bounds.json") is None:
        return files
    found = json.loads(files["bounds.json"] or b"")
    plain = {name: value for name, value in found.items() if name not in ("seal", "before")}
    return files | {"bounds.json": json.dumps(plain).encode()}
