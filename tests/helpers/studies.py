"""Studies for tests: slates of texts, a study in a file, and a clock that the test sets."""

from __future__ import annotations

import re
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


class Visitor:
    """Somebody with a browser of their own."""

    def __init__(self, app: Any, **headers: str) -> None:
        from starlette.testclient import TestClient

        self.http = TestClient(app, follow_redirects=True, headers=headers)
        self.token = ""

    def join(self, invitation: str = "", **form: str) -> Visitor:
        answer = self.http.post("/join", data={"invitation": invitation, **form})
        self.token = (re.findall(r'name="token" content="(\w+)"', answer.text) or [""])[0]
        return self

    def get(self, path: str) -> Any:
        return self.http.get(path)

    def post(self, path: str, **body: Any) -> Any:
        return self.http.post(path, json=body, headers={"X-Token": self.token})

    def pick(self, place: int = 0, **more: Any) -> Any:
        state = self.get("/api/next").json()
        lease = state["slate"]["lease"]
        body = {"lease": lease, "key": f"click-{lease:06d}", "outcome": "pick"}
        return self.post("/api/ballots", **(body | {"places": [place]} | more))


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
