"""What real data do not cover: the share, its effect, no alarm on ordinary data, the words."""

import math

import numpy as np
import pytest

from recurate import forecast, plan
from recurate.log.candidates import Candidates, as_candidates
from recurate.rules import Rule
from recurate.theory.coverage import gap_of, long_run_warnings, uncovered
from recurate.theory.forecast import predict
from recurate.theory.loop_model import LoopModel
from recurate.theory.population import Population
from recurate.theory.setting import Setting

ABSENT = "real data are all but absent"


def even(size, top=4.0, low=0.0):
    return low + (top - low) * (np.arange(size) + 0.5) / size


def gap(candidates, real, setting, law=None):
    own, reference = as_candidates(candidates), as_candidates(real)
    *_, last = LoopModel.build(own, law, reference, setting, None).values()
    return gap_of(own, reference, law, setting, last)


def test_the_share_and_what_it_does():
    """Even rewards in [0, 4], real data below 0.8: the effect is that of the exact laws."""
    setting = Setting(Rule(4), real_fraction=0.8, rounds=10)
    found = gap(even(4000), even(2000, 0.8), setting)
    assert found.share == pytest.approx(0.8, abs=1 / 64)
    low, high = found.ranges["reward"]
    assert low == pytest.approx(0.8, abs=4 / 64)
    assert high == pytest.approx(4.0, abs=1e-3)
    full = forecast(even(4000), k=4, real_fraction=0.8, rounds=10)
    given = forecast(even(4000), k=4, real_fraction=0.8, rounds=10, reference=even(2000, 0.8))
    assert found.full == pytest.approx(full.trajectory.values("mean_exp_reward")[10], rel=1e-9)
    assert found.given == pytest.approx(given.trajectory.values("mean_exp_reward")[10], rel=1e-9)
    assert found.given < found.full / 8
    # No real datum among .8 of 2,000 expected ones: p_ref has at most 2.996 / 2,000 there (rule of three).
    assert found.ratio == pytest.approx(found.share * 2000 / -math.log(0.05), rel=1e-9)


@pytest.mark.parametrize("size", [50, 300, 5000])
@pytest.mark.parametrize("dimension", [1, 2])
def test_no_alarm_on_ordinary_data(size, dimension):
    """Real data of the candidates' own law: no cell in 100 draws; the rate is below 1e-4 per draw."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        own, real = (as_candidates(rng.normal(size=(n, dimension)) ** 3) for n in (1500, size))
        assert not uncovered(own, real)[0].any()


def test_what_real_data_lack_at_the_bottom_is_no_matter():
    """Candidates that are worse than the real data are lost anyway."""
    setting = Setting(Rule(4), real_fraction=0.5, rounds=5)
    assert gap(even(4000), even(2000, low=1.0), setting) is None


def test_weights_of_candidates_count():
    """Rows that stand for several candidates, and a law, are as many rows."""
    values, counts = even(400), np.repeat([1.0, 9.0], 200)
    rows = np.repeat(values, counts.astype(int))
    real = as_candidates(even(2000, 1.0))
    inside, ratio = uncovered(Candidates(values[:, None], ("reward",), counts=counts), real)
    many, same = uncovered(as_candidates(rows), real)
    assert (counts * inside).sum() == pytest.approx(many.sum())
    assert ratio == pytest.approx(same)
    law = counts / counts.sum()
    missed = float(law @ uncovered(as_candidates(values), real, law)[0])
    assert 0.95 - 50 / 400 <= missed <= 0.95  # all but the part of a cell that reaches across the edge


def about(warnings):
    return [text for text in warnings if ABSENT in text]


def test_forecasts_and_plans_say_it():
    rng = np.random.default_rng(1)
    rewards = rng.uniform(0, 4, 2000)
    ordinary, some = rng.uniform(0, 4, 2000), rng.uniform(0, 0.8, 2000)
    for fraction, words in ((0.8, "below 0.75"), (0.5, "whatever real data cover"), (0.2, "E exp(reward)")):
        asked = {"k": 4, "rounds": 10, "real_fraction": fraction}
        (said,) = about(forecast(rewards, reference=some, **asked).warnings)
        assert words in said
        assert not about(forecast(rewards, reference=ordinary, **asked).warnings)
    only = {"k": [4], "real_fraction": [0.8], "refine": False}
    for rounds in (10, None):
        (said,) = about(plan(rewards, rounds=rounds, reference=some, **only).warnings)
        assert f"in round {rounds or 150}" in said
        assert not about(plan(rewards, rounds=rounds, reference=ordinary, **only).warnings)


@pytest.mark.parametrize(("real", "loops"), [(even(2000), 1), (even(2000, 0.8), 2)])
def test_loops_are_played_once(real, loops, monkeypatch):
    """A forecast plays its loop once, and that of full coverage only where something is uncovered."""
    played, play = [], Population.play
    monkeypatch.setattr(Population, "play", lambda self, setting: played.append(1) or play(self, setting))
    own, reference = as_candidates(even(4000)), as_candidates(real)
    setting = Setting(Rule(4), real_fraction=0.8, rounds=10)
    predict(own, setting, reference=reference)
    assert len(played) == loops
    played.clear()
    assert bool(long_run_warnings(own, reference, setting)) == (loops == 2)
    assert len(played) == (2 if loops == 2 else 0)


def test_the_bound_that_coverage_allows():
    """log(B + g^T (M_0 - B)): with B = 4 and g = .8 after 10 rounds, at the ratio of the rule of three."""
    rng = np.random.default_rng(1)
    rewards, real = rng.uniform(0, 4, 2000), rng.uniform(0, 0.8, 2000)
    setting = Setting(Rule(4), real_fraction=0.8, rounds=10)
    found = gap(rewards, real, setting)
    bound = math.log(4 + 0.8**10 * (found.ratio - 4))
    (said,) = about(forecast(rewards, k=4, rounds=10, real_fraction=0.8, reference=real).warnings)
    assert "would bound the divergence by 1.39 nats" in said
    assert f"bound in round 10 is {bound:.3g} nats at least" in said
