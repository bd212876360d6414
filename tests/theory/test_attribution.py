"""Each round's change = selection + sampling + transmission: selection exact, sampling in its band."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, as_candidates
from recurate.metrics.estimates import entropy_of
from recurate.rules import Rule, Threshold, TopFraction, noise_named
from recurate.theory.attribution import Change, attribute, attribute_shares
from recurate.theory.setting import Setting

pytestmark = pytest.mark.usefixtures("few_replicates")

NONE, GAUSSIAN = noise_named("none"), noise_named("gaussian")


def changes(
    rounds, picked, rule, *, real_fraction=0.0, reference=None, weights=(1.0,), k=None
) -> list[Change]:
    setting = Setting(rule, weights, real_fraction, 1)
    slates = None if k is None else [np.arange(len(c)) // k for c in rounds]
    return attribute(rounds, picked, list(range(len(rounds))), setting, reference, slates)


def played(
    rng: np.random.Generator,
    rule: Rule,
    *,
    slates: int = 400,
    k: int = 4,
    rounds: int = 6,
    contexts: int = 0,
    real_fraction: float = 0.0,
) -> tuple[list[Candidates], list[np.ndarray], Candidates]:
    """Play an honest loop whose model is its training set: retraining neither adds nor loses anything."""
    where = np.arange(slates) % max(contexts, 1)
    level = rng.normal(0, 2, max(contexts, 1)) if contexts else np.zeros(1)
    real = rng.normal(size=2000)
    where_real = np.arange(real.size) % max(contexts, 1)

    def named(values, codes):
        return as_candidates(values, contexts=codes.astype(str) if contexts else None)

    found, picks, pool = [], [], real
    for _ in range(rounds):
        worth = pool[rng.integers(0, pool.size, (slates, k))]
        rewards = worth + level[where][:, None]
        picked = np.arange(k) == rule.draw(rewards, rng)[:, None]
        found.append(named(rewards.ravel(), where.repeat(k)))
        picks.append(picked.ravel())
        part = round(real_fraction / (1 - real_fraction) * slates)
        pool = np.concatenate([worth[picked], rng.permutation(real)[:part]])
    return found, picks, named(real + level[where_real], where_real)


# --- the identity ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        Rule(4, 0.5),
        Rule(3, 1.0, NONE, lapse=0.1),
        Rule(4, 1.0, GAUSSIAN),
        Rule(4, 1.0, keep=2),
        TopFraction(0.25, 1.0, NONE),
        Threshold(0.0),
    ],
    ids=["luce", "best", "thurstone", "keep 2", "top", "threshold"],
)
@pytest.mark.parametrize("real_fraction", [0.0, 0.3])
def test_the_parts_add_up_to_the_change(rule, real_fraction):
    """Whatever the picks were: the identity is no statement about the rule."""
    rng = np.random.default_rng(0)
    rounds = [as_candidates(rng.normal(t, 1 + t, size=(60 + 20 * t, 2)) * 1e3) for t in range(4)]
    picked = [rng.random(len(c)) < 0.4 for c in rounds]
    reference = as_candidates(rng.normal(size=(50, 2)))
    weights = (0.25, 0.75)
    found = changes(rounds, picked, rule, real_fraction=real_fraction, reference=reference, weights=weights)
    assert [(c.before, c.after, c.reward) for c in found] == [
        (t, t + 1, name) for t in range(3) for name in rounds[0].names
    ]
    for c, (t, j) in zip(found, itertools.product(range(3), range(2)), strict=True):
        scale = 1e3
        assert c.change == pytest.approx(c.selection + c.sampling + c.transmission, abs=1e-12 * scale)
        means = [float(rounds[s].rewards[:, j].mean()) for s in (t, t + 1)]
        assert c.start == means[0]
        assert c.change == pytest.approx(means[1] - means[0], abs=1e-12 * scale)
        kept = float(rounds[t].rewards[picked[t], j].mean())
        mixed = (1 - real_fraction) * kept + real_fraction * float(reference.rewards[:, j].mean())
        assert c.transmission == pytest.approx(means[1] - mixed, abs=1e-12 * scale)
        assert c.band > 0
        assert c.transmission_error > 0


def test_the_parts_add_up_with_contexts_and_labels():
    rng = np.random.default_rng(1)
    rounds, picked, reference = played(rng, Rule(4), contexts=7, real_fraction=0.25)
    setting = Setting(Rule(4), (1.0,), 0.25, 1)
    found = attribute(rounds, picked, [3, 5, 6, 9, 10, 11], setting, reference)
    assert [(c.before, c.after) for c in found] == [(3, 5), (5, 6), (6, 9), (9, 10), (10, 11)]
    for c in found:
        assert c.change == pytest.approx(c.selection + c.sampling + c.transmission, abs=1e-12)


def test_a_round_without_picks_is_left_out():
    rng = np.random.default_rng(2)
    rounds = [as_candidates(rng.normal(size=40)) for _ in range(3)]
    picked = [np.arange(40) % 4 == 0, np.zeros(40, bool), np.zeros(40, bool)]
    assert [c.before for c in changes(rounds, picked, Rule(4))] == [0]


# --- selection, by enumeration --------------------------------------------------------------------


def pick_chances(rewards: np.ndarray, rule: Rule) -> np.ndarray:
    """Return who is picked from slates (slates, k), in plain arithmetic."""
    if rule.noise == NONE:
        best = rewards == rewards.max(axis=1, keepdims=True)
        chances = best / best.sum(axis=1, keepdims=True)
    else:
        odds = np.exp(rewards / rule.temperature)
        chances = odds / odds.sum(axis=1, keepdims=True)
    return (1 - rule.lapse) * chances + rule.lapse / rewards.shape[1]


def mean_pick(values: np.ndarray, judged: np.ndarray, rule: Rule, *, replaced: bool) -> float:
    """Return the mean value of the picks over all slates, drawn with or without replacement."""
    k, n = int(rule.largest), range(len(values))
    every = itertools.product(n, repeat=k) if replaced else itertools.combinations(n, k)
    slates = np.array(list(every))
    return float((pick_chances(judged[slates], rule) * values[slates]).sum(axis=1).mean())


RULES = {
    "luce": Rule(3, 0.7),
    "pairs": Rule(2, 1.0),
    "best": Rule(3, 1.0, NONE),
    "lapses": Rule(3, 0.5, lapse=0.2),
    "four": Rule(4, 2.0),
}


@pytest.mark.parametrize("real_fraction", [0.0, 0.3])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_selection_is_that_of_all_slates(rule, real_fraction):
    rng = np.random.default_rng(3)
    values = rng.normal(size=8).round(1)  # some are equal
    pool, real = as_candidates(values), as_candidates(rng.normal(size=5) + 1)
    (found,) = changes(
        [pool, pool], [np.arange(8) < 3] * 2, rule, real_fraction=real_fraction, reference=real
    )
    picks = mean_pick(values, values, rule, replaced=True)
    expected = (1 - real_fraction) * picks + real_fraction * real.rewards.mean() - values.mean()
    assert found.selection == pytest.approx(expected, abs=1e-12)


def test_selection_by_two_rewards_is_that_of_all_slates():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(7, 2))
    pool, rule, weights = as_candidates(values), Rule(3, 0.7), (0.3, 0.7)
    found = changes([pool, pool], [np.arange(7) < 3] * 2, rule, weights=weights)
    for j, c in enumerate(found):
        means = [mean_pick(values[:, j], values[:, i], rule, replaced=True) for i in range(2)]
        expected = np.dot(weights, means) - values[:, j].mean()
        assert c.selection == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_selection_within_few_candidates_is_that_of_all_slates_of_each_context(rule):
    """Thin contexts: slates without replacement, which is unbiased; contexts keep their shares."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=11) + np.repeat([0.0, 3.0], [5, 6])
    contexts = np.repeat(["a", "b"], [5, 6])
    pool = as_candidates(values, contexts=contexts)
    (found,) = changes([pool, pool], [np.arange(11) % 3 == 0] * 2, rule)
    picks = sum(
        (contexts == c).mean() * mean_pick(values[contexts == c], values[contexts == c], rule, replaced=False)
        for c in "ab"
    )
    assert found.selection == pytest.approx(picks - values.mean(), abs=1e-12)


def test_selection_within_large_contexts_is_that_of_their_own_pools():
    """500 candidates or more are a population; two values each, so that slates can be counted."""
    values = np.r_[np.repeat([0.0, 1.0], [400, 200]), np.repeat([5.0, 7.0], [300, 300])]
    contexts = np.repeat(["a", "b"], 600)
    pool, rule = as_candidates(values, contexts=contexts), Rule(3, 0.7)
    (found,) = changes([pool, pool], [np.arange(1200) % 3 == 0] * 2, rule)
    expected = 0.0
    for low, high, share in ((0.0, 1.0, 1 / 3), (5.0, 7.0, 1 / 2)):
        for ups in itertools.product((0, 1), repeat=3):
            slate = np.array([high if up else low for up in ups])[None]
            weight = np.prod([share if up else 1 - share for up in ups])
            expected += 0.5 * weight * float((pick_chances(slate, rule) * slate).sum())
    assert found.selection == pytest.approx(expected - values.mean(), abs=1e-12)


def test_selection_is_linear_in_scale_and_temperature():
    rng = np.random.default_rng(6)
    values = rng.normal(size=200)
    picked = [np.arange(200) % 4 == 0] * 2
    one, two = (changes([as_candidates(c * values + 5)] * 2, picked, Rule(4, c * 0.5))[0] for c in (1.0, 3.0))
    for name in ("change", "selection", "sampling", "band", "transmission_error"):
        assert getattr(two, name) == pytest.approx(3 * getattr(one, name), abs=1e-11)


# --- sampling and transmission, by simulation -----------------------------------------------------

LOOPS = {
    "luce": (Rule(4), {}),
    "best of 4": (Rule(4, 1.0, NONE), {}),
    "eight": (Rule(8, 0.5), {"k": 8}),
    "real data": (Rule(4, 0.5), {"real_fraction": 0.5}),
    "five prompts": (Rule(4), {"contexts": 5}),
    "a prompt a slate": (Rule(4), {"contexts": 400}),
}


@functools.cache
def simulated(name: str, r: int) -> list[Change]:
    rule, more = LOOPS[name]
    rounds, picked, reference = played(np.random.default_rng([3, r]), rule, **more)
    real = {k: more[k] for k in ("real_fraction",) if k in more}
    k = more.get("k", 4)
    return list(changes(rounds, picked, rule, reference=reference if real else None, k=k, **real))


def simulate(name: str, count: int) -> list[Change]:
    return [change for r in range(count) for change in simulated(name, r)]


@pytest.mark.parametrize("name", LOOPS)
def test_sampling_lies_in_its_band(name):
    """Of 100 at 95 %, fewer than 86 lie inside with probability 1e-4."""
    found = simulate(name, 20)
    assert len(found) == 100
    assert sum(abs(c.sampling) <= c.band for c in found) >= 86
    # On average it is nothing, to four standard errors.
    z = np.array([c.sampling / c.band for c in found])
    assert abs(z.mean()) < 4 * z.std() / 10


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_sampling_lies_in_its_band_95_times_of_100(name):
    """Of 500 at 95 %, fewer than 455 lie inside with probability 1e-4."""
    found = simulate(name, 100)
    assert sum(abs(c.sampling) <= c.band for c in found) >= 455


@pytest.mark.slow
@pytest.mark.parametrize("name", ["luce", "best of 4"])
def test_the_band_is_no_wider_than_it_says(name):
    """Of 500 at 95 %, more than 491 lie inside with probability 1e-4."""
    found = simulate(name, 100)
    assert sum(abs(c.sampling) <= c.band for c in found) <= 491


@pytest.mark.parametrize("name", [n for n in LOOPS if n != "real data"])
def test_transmission_is_of_the_order_of_its_error(name):
    """Where retraining reproduces the picks' law: mean 0 and spread 1, to four standard errors and 3.5."""
    z = np.array([c.transmission / c.transmission_error for c in simulate(name, 20)])
    assert abs(z.mean()) < 4 * z.std() / np.sqrt(z.size)
    assert 0.75 < z.std() < 1.25


def test_retraining_that_loses_something_shows():
    rounds, picked, _ = played(np.random.default_rng(7), Rule(4))
    shifted = [replace(c, rewards=c.rewards - 0.2 * t) for t, c in enumerate(rounds)]
    for c in changes(shifted, picked, Rule(4)):
        assert c.transmission == pytest.approx(-0.2, abs=5 * c.transmission_error)
        assert c.transmission < -3 * c.transmission_error


def test_another_rule_than_the_real_one_shows_as_sampling():
    rounds, picked, _ = played(np.random.default_rng(8), Rule(4, 1.0, NONE), rounds=3)
    assert all(c.sampling > 2 * c.band for c in changes(rounds, picked, Rule(4, 1.0)))
    assert all(abs(c.sampling) <= c.band for c in changes(rounds, picked, Rule(4, 1.0, NONE)))


def test_real_data_do_not_change_the_contexts_shares():
    """Contexts of very different levels, and real data that have one of them far more often."""
    rng = np.random.default_rng(9)
    where, level = np.arange(400) % 5, 2.0 * np.arange(5)
    rewards = rng.normal(size=(400, 4)) + level[where][:, None]
    picked = (np.arange(4) == Rule(4).draw(rewards, rng)[:, None]).ravel()
    pool = as_candidates(rewards.ravel(), contexts=where.repeat(4).astype(str))
    codes = rng.choice(5, 2000, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    real = as_candidates(rng.normal(size=2000) + level[codes], contexts=codes.astype(str))
    (found,) = changes([pool, pool], [picked] * 2, Rule(4), real_fraction=0.5, reference=real)
    assert abs(found.sampling) <= found.band
    assert abs(found.selection) < 0.5, "half of the gain of picks; levels differ by eight"


def test_each_reward_has_a_band_of_its_own():
    """Also where every context has a single pick."""
    rng = np.random.default_rng(10)
    values = rng.normal(size=(400, 2)) * [1.0, 50.0]
    for contexts in (None, np.arange(100).repeat(4).astype(str)):
        one = as_candidates(values, contexts=contexts)
        other = as_candidates(values[:, ::-1], contexts=contexts)
        picked = [np.arange(400) % 4 == 0] * 2
        bands = [c.band for c in changes([one, one], picked, Rule(4), weights=(0.5, 0.5))]
        swapped = [c.band for c in changes([other, other], picked, Rule(4), weights=(0.5, 0.5))]
        assert swapped == pytest.approx(bands[::-1], rel=1e-12)
        assert bands[1] > 20 * bands[0]


# --- shares ---------------------------------------------------------------------------------------


def grouped(rng: np.random.Generator, size: int) -> Candidates:
    return as_candidates(
        rng.normal(size=(size, 2)), groups=rng.choice(["a", "b", "c"], size, p=[0.6, 0.3, 0.1])
    )


@pytest.mark.parametrize("real_fraction", [0.0, 0.4])
def test_the_parts_of_shares_add_up(real_fraction):
    """Of every share and of the entropy, whatever was picked; a group that nobody belongs to stays at 0."""
    rng = np.random.default_rng(5)
    rounds = [replace(grouped(rng, 80 + 20 * t), labels=("a", "b", "c", "never")) for t in range(3)]
    picked = [rng.random(len(c)) < 0.3 for c in rounds]
    real = grouped(rng, 50)
    setting = Setting(Rule(4), (0.25, 0.75), real_fraction, 1)
    found = attribute_shares(rounds, picked, [3, 4, 7], setting, real)
    assert [(c.before, c.after, c.groups) for c in found] == [
        (3, 4, ("a", "b", "c", "never")),
        (4, 7, ("a", "b", "c", "never")),
    ]
    for t, c in enumerate(found):
        own, then, kept = (
            np.array([(x.groups == g).mean() for g in c.groups])
            for x in (rounds[t], rounds[t + 1], rounds[t].take(picked[t]))
        )
        mixed = (1 - real_fraction) * kept + real_fraction * np.array(
            [(real.groups == g).mean() for g in c.groups]
        )
        np.testing.assert_allclose(c.selection + c.sampling + c.transmission, then - own, atol=1e-12)
        np.testing.assert_allclose(c.transmission, then - mixed, atol=1e-12)
        assert sum(c.entropy) == pytest.approx(entropy_of(then) - entropy_of(own), abs=1e-12)
        assert c.entropy[2] == pytest.approx(entropy_of(then) - entropy_of(mixed), abs=1e-12)
        assert c.transmission[3] == 0


def test_the_selection_of_shares_is_exact():
    """Two groups at rewards 0 and g: the share of the better one by the binomial law of a slate."""
    groups = np.array(["low"] * 30 + ["high"] * 10)
    pool = as_candidates(np.where(groups == "high", 2.0, 0.0), groups=groups)
    k, s, gain = 3, 0.25, np.exp(2.0)
    chances = [
        math.comb(k, n) * s**n * (1 - s) ** (k - n) * n * gain / (n * gain + k - n) for n in range(k + 1)
    ]
    picked = np.arange(40) >= 20
    found = attribute_shares([pool, pool], [picked, picked], [0, 1], Setting(Rule(k), rounds=1))[0]
    assert found.groups == ("high", "low")
    assert found.selection[0] == pytest.approx(sum(chances) - s)
    assert found.sampling[0] == pytest.approx(0.5 - sum(chances))
    assert found.transmission[0] == pytest.approx(s - 0.5)


def test_shares_that_cannot_be_attributed():
    rng = np.random.default_rng(6)
    plain, several = (
        as_candidates(rng.normal(size=9)),
        as_candidates(rng.normal(size=8), contexts=["x", "y"] * 4),
    )
    for pool in (plain, replace(several, groups=np.array(["a"] * 8))):
        mask = np.ones(len(pool), bool)
        with pytest.raises(InputError, match="groups and no contexts"):
            attribute_shares([pool, pool], [mask, mask], [0, 1], Setting(Rule(2), rounds=1))
    pool = grouped(rng, 9)
    with pytest.raises(InputError, match="accumulate"):
        attribute_shares([pool, pool], [mask, mask], [0, 1], Setting(Rule(2), rounds=1, accumulate=True))
