"""Options that are more than one value."""

from __future__ import annotations

from pathlib import Path

from recurate.core.errors import InputError


def numbers(option: str, text: str) -> list[float]:
    """Read numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} must be numbers separated by commas", got=text, remedy=f"for example {option} 0.4,0.6"
        ) from None


def words(text: str | None) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def beside(log: Path, what: str) -> Path:
    """Return LOG-what beside the log, without its endings."""
    whole = log.resolve()
    stem = whole.name if whole.is_dir() else whole.name.removesuffix(".gz").rpartition(".")[0]
    return whole.with_name(f"{stem}-{what}")
