"""Alarms: each kind by hand; false alarms and delays by simulation."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy.special import ndtri
from scipy.stats import beta, binom, norm, poisson

from helpers import alarming
from helpers.alarming import ALARMS, FAULTS, LIMITS, LOOP_ROUNDS
from helpers.rates import Rate
from recurate.core.errors import InputError
from recurate.log.candidates import as_candidates
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory, passed_on
from recurate.loop.alarms.history import Seen, error_of
from recurate.loop.alarms.kinds import UNSEEN
from recurate.loop.alarms.protocol import Known
from recurate.loop.alarms.raising import (
    BandAlarm,
    DivergenceAlarm,
    FrechetAlarm,
    GoldAlarm,
    ShareAlarm,
    TransmissionAlarm,
    VarianceAlarm,
    raised,
)
from recurate.loop.config import AnyAlarm
from recurate.metrics.describe import Describer
from recurate.metrics.estimates import NORMAL_975, Estimate

FALSE = 1e-5  # probability at most that a correct alarm fails one test of its rate


def row(t, quantity, value, se=None, *, reward=None, group=None, low=-math.inf, high=math.inf):
    lower, upper = Estimate(value, se).interval(low, high) if se else (None, None)
    return Row(t, MEASURED, quantity, value, reward, group, lower, upper)


def support(*counts):
    return [row(t, "effective_support", n) for t, n in enumerate(counts)]


def fires(alarm, rows, t):
    return raised((alarm,), Trajectory(tuple(rows)), t)


# --- standard errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.45)])
def test_the_error_is_taken_from_the_side_that_is_not_cut(low, high):
    assert error_of(row(0, "x", 0.4, 0.3, low=low, high=high)) == pytest.approx(0.3, rel=1e-12)


def test_no_error_where_there_is_no_interval_or_both_sides_are_cut():
    assert error_of(row(0, "mean_reward", 1.0)) is None
    assert error_of(row(0, "share", 0.5, 0.4, low=0.0, high=1.0)) is None
    assert error_of(row(0, "entropy", 0.5, 0.5, low=0.0, high=math.log(2))) is None


# --- each kind by hand ----------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 7])
def test_divergence_is_raised_beyond_the_level_of_its_round(t):
    n, se, alarm = 1000, 0.01, DivergenceAlarm(limit=0.5, level=0.02)
    edge = 0.5 + 128 * UNSEEN / n + norm.isf(0.02 / (t * (t + 1))) * se
    rows = support(*[n] * (t + 1))
    assert not fires(alarm, [*rows, row(t, "kl_to_reference", edge - 1e-6, se, low=0.0)], t)
    (found,) = fires(alarm, [*rows, row(t, "kl_to_reference", edge + 1e-6, se, low=0.0)], t)
    assert (found.round, found.kind, found.action, found.level) == (t, "divergence", "warn", 0.02)
    assert (found.quantity, found.reward, found.group, found.limit) == ("kl_to_reference", None, None, 0.5)


def test_the_bias_of_a_cell_with_few_candidates_is_bounded():
    few, x = np.linspace(0.01, 20, 2000)[:, None], np.arange(1, 100)
    bias = poisson.pmf(x, few) @ (x * np.log(x)) - (few * np.log(few))[:, 0] + np.expm1(-few[:, 0]) / 2
    assert UNSEEN - 0.01 < bias.max() < UNSEEN


@pytest.mark.parametrize("rewards", [("a",), ("a", "b")])
def test_variance_compares_logarithms_with_both_errors(rewards):
    n, alarm = 10_000, VarianceAlarm(floor=0.5)
    shape = max((0.05 / 2) ** 2, (0.01 / 0.9) ** 2) * n
    z = norm.isf(0.01 / 2 / len(rewards))
    edge = 0.5 * 2 * math.exp(-z * math.sqrt(2 * shape / n))
    first = support(n, n) + [row(0, "var_exp_reward", 2.0, 0.05, reward=name) for name in rewards]

    def later(value):
        return [*first, row(1, "var_exp_reward", value, 0.01 * value / 0.9, reward="a", low=0.0)]

    assert not fires(alarm, later(edge * 1.0001), 1)
    (found,) = fires(alarm, later(edge * 0.9999), 1)
    assert (found.reward, found.limit) == ("a", 1.0)
    assert not fires(VarianceAlarm(floor=0.5, reward="b"), later(edge * 0.9), 1)


def test_variance_is_not_judged_where_few_candidates_carry_it():
    rows = [*support(1000, 1000), row(0, "var_exp_reward", 1.0, 0.15, reward="r")]
    assert not fires(VarianceAlarm(floor=0.9), [*rows, row(1, "var_exp_reward", 1e-9, 1e-12, reward="r")], 1)


def test_candidates_that_are_all_alike_have_lost_their_variance():
    rows = []
    for t, x in enumerate((np.linspace(0, 1, 1000), np.full(1000, 0.5))):
        describer = Describer(as_candidates(x), 1.0)
        rows += describer.rows(t, MEASURED, describer.values())
    (found,) = fires(VarianceAlarm(floor=0.5), rows, 1)
    assert found.value == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("x", [0, 1, 7])
def test_shares_have_the_bound_of_clopper_and_pearson(x):
    n, level = 400, 0.01 / 2  # all of round 1, of one group
    bound = beta.isf(level, x + 1, n - x)
    se = math.sqrt(x / n * (1 - x / n) / n)
    rows = [*support(n, n), row(1, "share", x / n, se, group="g", low=0.0, high=1.0)]
    assert not fires(ShareAlarm(floor=bound - 1e-9, group="g"), rows, 1)
    (found,) = fires(ShareAlarm(floor=bound + 1e-9, group="g"), rows, 1)
    assert (found.value, found.group) == (x / n, "g")


def test_a_group_that_has_died_out_needs_no_interval():
    rows = support(1000, 1000) + [row(0, "share", 0.5, 0.0158, group=g) for g in "ab"]
    rows += [row(1, "share", 0.0, group="a"), row(1, "share", 1.0, group="b")]
    (found,) = fires(ShareAlarm(floor=0.02), rows, 1)
    assert found.group == "a"
    assert not fires(ShareAlarm(floor=0.005), rows, 1)  # 0 of 1,000 says no more than 0.0062 at this level


def test_groups_that_round_0_had_not_are_not_expected():
    rows = support(1000, 1000) + [row(t, "share", 0.0, group="new") for t in (0, 1)]
    assert not fires(ShareAlarm(floor=0.02), rows, 1)
    assert fires(ShareAlarm(floor=0.02, group="new"), rows, 1)


def test_contexts_leave_fewer_candidates():
    n, share = 1000, 0.03
    wide = 3 * math.sqrt(share * (1 - share) / n)  # a design effect of nine
    rows = [*support(n, n, n), row(1, "share", share, wide, group="g", low=0.0)]
    assert Seen(Trajectory(tuple(rows))).size(1, "g") == pytest.approx(n / 9)
    # Zero has no error of its own: the group's largest effect so far holds.
    rows += [row(2, "share", 0.0, group="g")]
    assert Seen(Trajectory(tuple(rows))).size(2, "g") == pytest.approx(n / 9)
    assert Seen(Trajectory(tuple(rows))).size(2, "h") == pytest.approx(n / 9)
    plain = [*support(n, n), row(1, "share", share, wide / 3, group="g", low=0.0)]
    assert fires(ShareAlarm(floor=0.06, group="g"), plain, 1)
    assert not fires(ShareAlarm(floor=0.06, group="g"), rows, 1)


def test_frechet_compares_with_round_0():
    alarm = FrechetAlarm(factor=2.0)
    edge = 2.0 + norm.isf(0.01 / 2 / 2) * math.hypot(0.1, 2 * 0.05)
    rows = [row(0, f"frechet:{s}", 1.0, 0.05, low=0.0) for s in ("x", "y")]
    assert not fires(alarm, [*rows, row(1, "frechet:x", edge - 1e-9, 0.1)], 1)
    (found,) = fires(alarm, [*rows, row(1, "frechet:x", edge + 1e-9, 0.1)], 1)
    assert (found.quantity, found.limit) == ("frechet:x", 2.0)
    assert not fires(FrechetAlarm(factor=2.0, space="y"), [*rows, row(1, "frechet:x", 9.0, 0.1)], 1)


def test_gold_needs_a_rise_and_a_fall_since_the_same_round():
    alarm = GoldAlarm(proxy="p", gold="g")

    def rows(proxies, golds):
        both = enumerate(zip(proxies, golds, strict=True))
        return [
            r
            for t, (a, b) in both
            for r in (row(t, "mean_reward", a, 0.1, reward="p"), row(t, "mean:g", b, 0.1))
        ]

    (found,) = fires(alarm, rows((0, 1, 2), (0, 1, 0)), 2)  # since round 1, not since round 0
    assert (found.quantity, found.reward, found.value, found.limit) == ("mean:g", "p", 0.0, 1.0)
    assert "from 1 in round 1" in found.message
    assert not fires(alarm, rows((0, 2, 1), (0, 1, 0.5)), 2)  # higher than in round 0, both of them
    assert not fires(alarm, rows((0, 1), (0, 1)), 1)
    assert not fires(alarm, rows((0, 1), (0, -0.1)), 1)


def banded(t, quantity, value, lower, upper, **names):
    return Row(t, FORECAST, quantity, value, names.get("reward"), names.get("group"), lower, upper)


def test_bands_are_widened_by_the_errors_of_what_is_measured():
    rows = [banded(t, "mean:x", 1.0, 0.9, 1.1) for t in range(4)]
    rows += [row(t, "mean:x", 1.0, 0.02) for t in (0, 2)]
    edge = 1.1 + norm.isf(0.05 / 2 / 3) * 0.02  # three values: rounds 1, 2, 3
    assert not fires(BandAlarm(), [*rows, row(1, "mean:x", edge - 1e-9, 0.02)], 1)
    (found,) = fires(BandAlarm(), [*rows, row(1, "mean:x", edge + 1e-9, 0.02)], 1)
    assert (found.level, found.limit) == (0.05, pytest.approx(edge))
    assert not fires(BandAlarm(), [*rows, row(1, "mean:x", 5.0)], 1)  # no interval


def test_bands_of_shares_know_a_share_of_zero():
    rows = [*support(2000, 2000), banded(1, "share", 0.1, 0.05, 0.15, group="a")]
    (found,) = fires(BandAlarm(), [*rows, row(1, "share", 0.0, group="a")], 1)
    angle = math.asin(math.sqrt(0.05)) - norm.isf(0.025) / 2 / math.sqrt(2000)
    assert found.limit == pytest.approx(math.sin(angle) ** 2)
    near = [*support(50, 50), *rows[2:], row(1, "share", 0.02, 0.0198, group="a")]
    assert not fires(BandAlarm(), near, 1)


# --- all kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alarm", [*ALARMS, GoldAlarm(proxy="no", gold="no")], ids=lambda a: a.kind)
def test_nothing_is_raised_by_what_is_missing(alarm):
    assert not fires(alarm, [], 3)
    lonely = [row(3, "kl_to_reference", 9.0), row(3, "share", 0.0, group="b"), row(3, "frechet:x", 9.0, 0.1)]
    lonely += [row(3, "var_exp_reward", 0.0, reward="r"), row(3, "mean:gold", -9.0, 0.1)]
    assert not fires(alarm, lonely, 3)
    assert not fires(alarm, [row(3, "kl_to_reference", math.inf, 1.0), *support(9, 9, 9, 9)], 3)


def test_round_0_raises_nothing_and_later_rounds_are_not_looked_at():
    rows = support(*[10**6] * 4) + [row(t, "kl_to_reference", 1.0, 0.01) for t in range(4)]
    alarm = DivergenceAlarm(limit=0.1)
    assert not fires(alarm, rows, 0)
    assert fires(alarm, rows, 2) == fires(alarm, [r for r in rows if r.round <= 2], 2)


def test_messages_say_since_when_and_how_sure():
    values = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)
    rows = support(*[10**6] * 6) + [row(t, "kl_to_reference", v, 0.01) for t, v in enumerate(values)]
    alarm = DivergenceAlarm(limit=0.5, action="rollback")
    first, last = fires(alarm, rows, 4)[0], fires(alarm, rows, 5)[0]
    assert first.message == (
        "In round 4 kl_to_reference is 1 nats, above the limit of 0.5, for the first time; if nothing is "
        "wrong, the probability of this alarm in a whole run is at most 0.01."
    )
    assert "as in every round since round 4" in last.message
    assert json.loads(json.dumps(asdict(last)))["action"] == "rollback"


def test_settings_are_told_apart_by_their_kind_and_checked():
    read = TypeAdapter(AnyAlarm).validate_python
    assert read({"kind": "share", "floor": 0.1}) == ShareAlarm(floor=0.1)
    assert read({"kind": "band", "action": "stop"}) == BandAlarm(action="stop")
    for wrong in (
        {"kind": "band", "level": 0.1},
        {"kind": "divergence"},
        {"kind": "divergence", "limit": 0.0},
        {"kind": "frechet", "factor": 0.5},
        {"kind": "share", "floor": 0.1, "level": 0},
        {"kind": "share", "floor": 0.1, "action": "shout"},
        {"kind": "gold", "proxy": "p"},
        {"kind": "other"},
    ):
        with pytest.raises(ValidationError):
            read(wrong)


def test_names_are_checked():
    have = Known(("r",), ("g",), ("a", "b"), ("x",))
    right = (
        *(VarianceAlarm(floor=0.5, reward=r) for r in ("r", None)),
        *(ShareAlarm(floor=0.1, group=g) for g in ("a", None)),
        *(FrechetAlarm(factor=2, space=s) for s in ("x", None)),
        GoldAlarm(proxy="r", gold="g"),
        DivergenceAlarm(limit=1),
        BandAlarm(),
    )
    for alarm in right:
        alarm.check(have)
    for wrong, name in (
        (VarianceAlarm(floor=0.5, reward="rr"), "rr"),
        (ShareAlarm(floor=0.1, group="c"), "c"),
        (FrechetAlarm(factor=2, space="y"), "y"),
        (GoldAlarm(proxy="q", gold="g"), "q"),
        (GoldAlarm(proxy="r", gold="h"), "h"),
    ):
        with pytest.raises(InputError, match=f"unknown (.|\n)*{name}"):
            wrong.check(have)
    for needy in (right[3], right[5], right[6]):
        with pytest.raises(InputError, match="needs"):
            needy.check(Known(("r",)))


# --- by simulation --------------------------------------------------------------------------------


def most(runs, level):
    """Return what a binomial(runs, level) number exceeds with probability FALSE at most."""
    return int(binom.isf(FALSE, runs, level))


def test_the_simulated_frechet_distance_and_its_error_are_right():
    rng, d = np.random.default_rng(0), 3
    found = [
        alarming.frechet(1.4 * rng.normal(size=(4000, d)) + 0.3, np.zeros(d), np.eye(d)) for _ in range(300)
    ]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(d * (0.09 + 0.16), rel=0.03)
    assert np.mean([f.se for f in found]) == pytest.approx(values.std(), rel=0.15)


@pytest.mark.parametrize("name", LIMITS)
def test_few_false_alarms_at_the_limit(name):
    """The smaller of two sizes: fails for a correct alarm with probability 1e-5."""
    runs, level = 40, 0.2
    assert alarming.at_limit(name, (level,), runs, seed=1)[0] <= most(runs, level)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIMITS)
def test_false_alarms_at_the_limit_are_within_the_level(name):
    """Fails for a correct alarm with probability 2e-5; ends as soon as it is clear.

    Rates of 4.0 % at the level 1 %, and of 29 % at 20 %, are found with probability 0.99, as in 1,000 runs.
    """
    runs, levels = 1000, (0.01, 0.2)
    rates = [Rate(most(runs, level), runs, low=level) for level in levels]
    for run in range(runs):
        for rate, hit in zip(rates, alarming.raised_at_limit(name, levels, run), strict=True):
            rate.add(hit)
        if all(rate.ended for rate in rates):
            break
    assert all(rate.passed for rate in rates), [rate.hits for rate in rates]


@pytest.mark.slow
def test_healthy_loops_raise_no_more_than_the_stated_levels():
    """All six alarms on up to 200 loops; fails for correct alarms with probability 1e-5.

    A rate of 21 % (the levels' sum is 6 %) is found with probability 0.99, as in 200 loops.
    """
    runs, level = 200, sum(alarm.level for alarm in ALARMS)
    rate = Rate(most(runs, level), runs, low=level)
    for s in range(1000, 1000 + runs):
        if rate.add(bool(alarming.ever(ALARMS, alarming.loop(s), LOOP_ROUNDS))):
            break
    assert rate.passed


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "temperature halved"])
def test_planted_faults_are_found(fault):
    for delays in alarming.detections(fault, 6, 12).values():
        found = [d for d in delays if d is not None]
        assert len(found) >= 5
        assert np.median(found) <= 4


@pytest.mark.slow
def test_a_loop_that_leaves_its_forecast_is_found():
    (delays,) = alarming.detections("temperature halved", 12, 8).values()
    found = [d for d in delays if d is not None]
    assert len(found) >= 8
    assert np.median(found) <= 3


def changed(t, selection, transmission, se, reward="r"):
    reach = NORMAL_975 * se
    ends = transmission - reach, transmission + reach
    return [
        Row(t, MEASURED, "selection", selection, reward),
        Row(t, MEASURED, "sampling", 0.0, reward),
        Row(t, MEASURED, "transmission", transmission, reward, None, *ends),
    ]


@pytest.mark.parametrize("sign", [1, -1])
def test_transmission_is_raised_where_too_little_is_passed_on(sign):
    alarm = TransmissionAlarm(floor=0.5, level=0.01)
    z = -float(ndtri(0.01 / 2))  # half of the level in round 1
    for lost, raised_ in ((0.5 + 1.1 * z * 0.02, True), (0.5 + 0.9 * z * 0.02, False)):
        rows = changed(1, sign * 1.0, -sign * lost, 0.02)
        assert bool(alarm.find(Seen(Trajectory(tuple(rows))), 1)) == raised_
    (found,) = alarm.find(Seen(Trajectory(tuple(changed(1, sign * 1.0, -sign * 0.9, 0.02)))), 1)
    assert "passed on 10% of what was selected by 'r', below 50%" in found.words


def test_transmission_at_the_floor_is_raised_at_its_level():
    """Of 20,000 rounds exactly at the floor, a share of level / 2 is raised, up to 4 standard errors."""
    alarm, draw = TransmissionAlarm(floor=0.7, level=0.1), np.random.default_rng(0)
    count = sum(
        bool(alarm.find(Seen(Trajectory(tuple(changed(1, 1.0, -0.3 + 0.05 * z, 0.05)))), 1))
        for z in draw.standard_normal(20_000)
    )
    assert abs(count / 20_000 - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 20_000)


def test_what_was_passed_on():
    (found,) = passed_on(Trajectory(tuple(changed(2, 0.5, -0.4, 0.02))))
    assert (found.round, found.reward) == (2, "r")
    assert found.share == pytest.approx(0.2)
    assert (found.lower, found.upper) == pytest.approx((0.2 - NORMAL_975 * 0.04, 0.2 + NORMAL_975 * 0.04))
    assert passed_on(Trajectory(tuple(changed(2, 0.01, -0.4, 0.02)))) == [], "less was asked for than chance"
