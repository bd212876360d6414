"""Studies for tests: slates of texts, a study in a file, and a clock that the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def texts(*words: str, **values: Any) -> tuple[Any, ...]:
    from recurate.people.ballots import Candidate

    return tuple(
        Candidate(i, "text", w, {name: float(v[i]) for name, v in values.items()})
        for i, w in enumerate(words)
    )


def slates(count: int, k: int = 3) -> list[Any]:
    from recurate.people.ballots import Slate

    def of(n: int) -> tuple[Any, ...]:
        return texts(*(f"answer {n}.{i}" for i in range(k)), reward=[i - n % 2 for i in range(k)])

    return [Slate(n, of(n), f"question {n}") for n in range(count)]


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def study_of(tmp_path: Path, clock: Clock) -> Any:
    """A function that makes a study of some slates."""
    pytest.importorskip("sqlalchemy", reason="pip install 'recurate[people]'")
    from recurate.people.ballots import Rules, Study
    from recurate.people.tables import opened

    made: list[Study] = []

    def make(found: list[Any], **rules: Any) -> Study:
        study = Study(opened(tmp_path / f"{len(made)}.sqlite"), Rules(**rules), clock)
        study.add(found)
        made.append(study)
        return study

    yield make
    for study in made:
        study.engine.dispose()
