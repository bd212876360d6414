"""A panel of simulated people with known deviations, through the pages and the export, to `recurate fit`.

Each test has one panel with a fixed seed. Intervals of 95 % are widened to 99.9 % (3.3 standard errors), so
that a right program fails a check with a probability of 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurate
from helpers.studies import Visitor

pytest.importorskip("fastapi", reason="pip install 'recurate[people]'")

from recurate.people import export
from recurate.people.ballots import Candidate, Slate
from recurate.people.insight import overview
from recurate.people.web import Site, application

pytestmark = pytest.mark.slow
K = 4
WIDE = 3.3


class Panel:
    """People who judge a study's slates in turn; rewards (slates, K, features) are known to them alone."""

    def __init__(self, study_of: Callable[..., Any], slates: int, features: int = 1, **rules: float) -> None:
        rng = np.random.default_rng(5)
        self.rewards = rng.normal(size=(slates, K, features))

        def slate(n: int) -> Slate:
            values = [{f"r{j}": float(v) for j, v in enumerate(own)} for own in self.rewards[n]]
            shown = (Candidate(k, "text", f"answer {n} {k}", values[k]) for k in range(K))
            return Slate(n, tuple(shown), f"question {n}")

        self.study = study_of([slate(n) for n in range(slates)], **rules)

    def judge(
        self, people: int, utility: Callable[[int, int, np.ndarray], np.ndarray], lapse: float = 0.0
    ) -> None:
        """Let people pick the largest utility with Gumbel noise; ``utility(person, step, rewards shown)``."""
        app, rng = application(self.study, Site(open=True)), np.random.default_rng(6)
        visitors = [Visitor(app).join() for _ in range(people)]
        states = [v.get("/api/next").json() for v in visitors]
        step = 0
        while any(state["slate"] for state in states):
            for i, state in enumerate(states):
                if state["slate"] is None:
                    continue
                names = [
                    c["html"].strip()[len("<p>answer ") : -len("</p>")] for c in state["slate"]["candidates"]
                ]
                shown = np.array([self.rewards[tuple(map(int, name.split()))] for name in names])
                noisy = utility(i, step, shown) + rng.gumbel(size=K)
                place = int(rng.integers(K) if rng.random() < lapse else noisy.argmax())
                key = f"click-{step:06d}"
                answer = visitors[i].post(
                    "/api/ballots", lease=state["slate"]["lease"], key=key, outcome="pick", places=[place]
                )
                states[i] = answer.json()
            step += 1
            self.study.now.time += 1

    def fitted(self, tmp_path: Any) -> dict[str, Any]:
        """Return what `recurate fit` says of the export."""
        export.write(self.study, tmp_path / "picks.parquet")
        recurate.fit(tmp_path / "picks.parquet").save(tmp_path / "fit")
        import json

        found: dict[str, Any] = json.loads((tmp_path / "fit" / "fit.json").read_text(encoding="utf-8"))
        return found


def check_of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in found["checks"] if c["name"] == name)


def test_position_bias_is_recovered(study_of, tmp_path):
    panel = Panel(study_of, 800)
    panel.judge(20, lambda person, step, r: r[:, 0] + 0.7 * (np.arange(K) == 0))
    found = panel.fitted(tmp_path)
    for place in found["positions"]:
        assert abs(place["coefficient"] + 0.7) < WIDE * place["se"], place
    assert not found["verdict"]["holds"]
    assert check_of(found, "position")["corrected"] < 0.045
    assert abs(found["coefficients"][0]["coefficient"] - 1) < WIDE * found["coefficients"][0]["se"] + 0.1
    (effect,) = (r for r in found["consequences"]["rows"] if r["deviation"] == "Position bias")
    assert all(mean < luce for mean, luce in zip(effect["mean"], effect["luce_mean"], strict=True))


def test_lapses_of_a_twentieth_are_recovered(study_of, tmp_path):
    panel = Panel(study_of, 1000)
    panel.judge(20, lambda person, step, r: 3 * r[:, 0], lapse=0.05 * K / (K - 1))
    found = panel.fitted(tmp_path)["lapse"]
    low, high = found["lapse_interval"]
    middle = found["lapse"]
    spread = WIDE / 1.96
    assert middle - spread * (middle - low) < 0.05 * K / (K - 1) < middle + spread * (high - middle), found
    assert low > 0


def test_two_groups_are_recovered(study_of, tmp_path):
    panel = Panel(study_of, 1000, features=2)
    tastes = np.array([[1.2, 0.0], [-0.5, 1.0]])
    panel.judge(25, lambda person, step, r: r @ tastes[person % 2])
    groups = panel.fitted(tmp_path)["groups"]
    assert len(groups) == 2
    for group, true in zip(sorted(groups, key=lambda g: -g["coefficients"]["r0"]), tastes, strict=True):
        for name, value in zip(("r0", "r1"), true, strict=True):
            assert abs(group["coefficients"][name] - value) < WIDE * group["se"][name] + 0.02, (group, true)


def test_fatigue_is_found(study_of, tmp_path):
    panel = Panel(study_of, 800)
    panel.judge(20, lambda person, step, r: r[:, 0] * np.linspace(2.2, 0.3, 40)[min(step, 39)])
    found = panel.fitted(tmp_path)
    assert check_of(found, "drift")["corrected"] < 0.045
    assert not found["verdict"]["holds"]


def test_luce_people_and_their_repeats(study_of, tmp_path):
    """The same pick twice has a probability of E sum p^2, and two people agree as often."""
    panel = Panel(study_of, 300, repeats=0.3, seats=2)
    panel.judge(10, lambda person, step, r: r[:, 0])
    weights = np.exp(panel.rewards[..., 0])
    expected = float(np.square(weights / weights.sum(axis=1, keepdims=True)).sum(axis=1).mean())
    seen = overview(panel.study)
    for share in seen["agreement"].values():
        spread = np.sqrt(expected * (1 - expected) / share["pairs"])
        assert abs(share["share"] - expected) < WIDE * spread
    (term,) = seen["fit"]["coefficients"]
    assert abs(term["value"] - 1) < WIDE * (term["high"] - term["low"]) / 3.92
    found = panel.fitted(tmp_path)
    assert found["verdict"]["holds"]
    assert any("left out: " in note and "repeats; --include" in note for note in found["read"]["notes"])
    again = found["repeats"]
    assert again["pairs"] == seen["agreement"]["repeats"]["pairs"]
    assert again["share"] == pytest.approx(seen["agreement"]["repeats"]["share"])
    assert abs(again["expected"] - expected) < 0.1
