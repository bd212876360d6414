"""Luce's picks and chances in blocks: exact, one uniform number per slate, whatever the block."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import chi2

from recurate.core.errors import InputError
from recurate.rules import luce
from recurate.rules import slates as slates_module
from recurate.rules.rule import Rule

# Each statistical test here raises a false alarm with probability 1e-8, all together below 1e-6. Fixed seeds.
ALARM = 1e-8
EMPTY = -math.inf
LARGEST = 1 - 2.0**-53  # the largest number that random() returns


class Given:
    """A source of the uniform numbers that it is given, which counts them."""

    def __init__(self, numbers):
        self.numbers, self.used = np.asarray(numbers, float), 0

    def random(self, count):
        self.used += count
        return self.numbers[self.used - count : self.used].copy()


def plain(slate, number, lapse):
    """Return one slate's pick as the documentation says, number by number."""
    lapsed = number < lapse
    v = number / lapse if lapsed else (number - lapse) / (1 - lapse)
    top = max(slate)
    odds = [0.0 if u == EMPTY else 1.0 if lapsed else math.exp(u - top) for u in slate]
    total, reached = sum(odds), 0.0
    for slot, odd in enumerate(odds):
        reached += odd
        if reached > min(max(v, 2.0**-54), LARGEST) * total:
            return slot
    raise AssertionError("no slot")


def slates_of(width, count, rng, *, spread=1.0, empty=0.0):
    rewards = np.round(rng.normal(size=(count, width)), 1) * spread
    rewards[rng.random(rewards.shape) < empty] = EMPTY
    rewards[np.arange(count), rng.integers(width, size=count)] = 0.0
    return rewards


WIDTHS = st.one_of(st.integers(1, 9), st.sampled_from([31, 32, 33, 127, 128, 129, 400]))


@given(
    width=WIDTHS,
    count=st.integers(0, 40),
    spread=st.sampled_from([0.0, 1.0, 300.0, 1e300]),
    empty=st.sampled_from([0.0, 0.5, 1.0]),
    temperature=st.sampled_from([1.0, 0.7, 30.0]),
    lapse=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 2**32),
)
def test_a_pick_is_the_documented_function_of_its_slate_and_its_number(
    width, count, spread, empty, temperature, lapse, seed
):
    rewards = slates_of(width, count, np.random.default_rng(seed), spread=spread, empty=empty)
    kept = rewards.copy()
    rng, twin = np.random.default_rng(seed), np.random.default_rng(seed)
    slots = Rule(width, temperature, lapse=lapse).draw(rewards, rng)
    numbers = twin.random(count)
    assert rng.random() == twin.random()  # one number a slate and no more
    assert slots.dtype == np.int64
    assert slots.tolist() == [
        plain(slate, number, lapse)
        for slate, number in zip((rewards / temperature).tolist(), numbers.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(rewards, kept)


@pytest.mark.parametrize("width", [1, 2, 4, 32, 33, 128, 129, 1000])
@pytest.mark.parametrize("lapse", [0.0, 0.2])
def test_blocks_change_nothing(monkeypatch, width, lapse):
    rewards = slates_of(width, 211, np.random.default_rng(width), empty=0.2)
    rule = Rule(width, 0.9, lapse=lapse)
    slots, found = rule.draw(rewards, np.random.default_rng(1)), rule.probabilities(rewards)
    for doubles in (1, 5 * width, 7 * width + 1, 211 * width):
        monkeypatch.setattr(luce, "BLOCK_DOUBLES", doubles)
        monkeypatch.setattr(slates_module, "BLOCK_DOUBLES", doubles)
        np.testing.assert_array_equal(rule.draw(rewards, np.random.default_rng(1)), slots)
        np.testing.assert_array_equal(rule.probabilities(rewards), found)
    # Nor does it matter whether slates come together or one after the other.
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(
        np.concatenate([rule.draw(part, rng) for part in (rewards[:90], rewards[90:])]), slots
    )
    # Nor how a block is laid out.
    monkeypatch.setattr(luce, "NARROW", 0 if width <= luce.NARROW else 255)
    if width < 256:
        np.testing.assert_array_equal(rule.draw(rewards, np.random.default_rng(1)), slots)


def test_the_default_block_is_passed_many_times():
    rewards = np.random.default_rng(0).normal(size=(3 * luce.BLOCK_DOUBLES // 4 + 5, 4))
    slots = Rule(4).draw(rewards, np.random.default_rng(1))
    numbers = np.random.default_rng(1).random(len(rewards))
    reached = np.cumsum(softmax(rewards, axis=1), axis=1)
    # Numbers within rounding of a boundary may go either way: 1e-12 wide, so hardly ever there.
    np.testing.assert_array_equal(slots, (reached[:, :3] <= numbers[:, None]).sum(axis=1))


@pytest.mark.parametrize(
    "copy", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2], np.ndarray.tolist]
)
def test_layouts_of_the_rewards_change_nothing(copy):
    rewards = slates_of(4, 50, np.random.default_rng(0), empty=0.2)
    rule = Rule(4, 0.7, lapse=0.1)
    for act in (rule.probabilities, lambda x: rule.draw(x, np.random.default_rng(1))):
        np.testing.assert_array_equal(act(copy(rewards)), act(rewards))
    whole = np.arange(12).reshape(3, 4) % 5
    np.testing.assert_array_equal(rule.probabilities(whole), rule.probabilities(whole.astype(float)))
    np.testing.assert_array_equal(
        rule.probabilities(whole.astype(np.float32)), rule.probabilities(whole.astype(float))
    )


SLATES = {
    "plain": [0.3, -1.0, 2.0, 0.0],
    "ties": [1.0, 1.0, 1.0],
    "one": [5.0],
    "empty slots": [EMPTY, 0.0, EMPTY, 1.0, EMPTY],
    "far apart": [-700.0, 0.0, -1.0, -800.0, 1e-3],
    "far up": [1e6, 1e6 + 1, EMPTY],
    "wide": (np.arange(150) % 7 / 3).tolist(),
}


@pytest.mark.parametrize("lapse", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("slate", SLATES.values(), ids=SLATES.keys())
def test_picks_follow_the_chances(slate, lapse):
    """Pearson's test, level 1e-8; slots expected less than five times are pooled."""
    slate, temperature = np.array(slate), 0.8
    n = 300_000 if len(slate) < 100 else 60_000  # of 150 slots, too: each is expected hundreds of times
    present = slate > EMPTY
    expected = (1 - lapse) * softmax(slate / temperature) + lapse * present / present.sum()
    rule = Rule(len(slate), temperature, lapse=lapse)
    np.testing.assert_allclose(rule.probabilities(slate[None])[0], expected, rtol=1e-9, atol=1e-300)
    counts = np.bincount(rule.draw(np.tile(slate, (n, 1)), np.random.default_rng(8)), minlength=len(slate))
    assert (counts[~present] == 0).all()
    often = n * expected >= 5
    seen = np.append(counts[often], counts[~often].sum())
    hoped = n * np.append(expected[often], expected[~often].sum())
    if hoped[-1] < 5:
        assert seen[-1] <= 40  # Poisson with mean 5: beyond 40 with probability below 1e-20
        seen, hoped = seen[:-1], hoped[:-1]
    statistic = ((seen - hoped) ** 2 / hoped).sum()
    assert statistic < (chi2.ppf(1 - ALARM, hoped.size - 1) if hoped.size > 1 else 1e-3)


def test_lapses_are_as_frequent_among_all_picks():
    """A lapse and the pick come of one number: yet neither tells of the next slate's pick. Level 1e-8."""
    slate, lapse, n = np.array([0.0, 1.0, -2.0]), 0.3, 300_000
    slots = Rule(3, lapse=lapse).draw(np.tile(slate, (2 * n, 1)), np.random.default_rng(3))
    chances = Rule(3, lapse=lapse).probabilities(slate[None])[0]
    pairs = np.bincount(3 * slots[::2] + slots[1::2], minlength=9)
    hoped = n * np.outer(chances, chances).ravel()
    assert ((pairs - hoped) ** 2 / hoped).sum() < chi2.ppf(1 - ALARM, 8)


NUMBERS = st.one_of(
    st.sampled_from([0.0, 2.0**-53, 0.5, LARGEST, 1 - 2.0**-52]),
    st.integers(0, 2**53 - 1).map(lambda i: i * 2.0**-53),
)
UTILITIES = st.one_of(
    st.sampled_from([EMPTY, 0.0, -36.0, -37.0, -40.0, -745.0, -1e300, 1e300]), st.floats(-60, 60, width=32)
)


@given(
    slate=st.lists(UTILITIES, min_size=1, max_size=12).filter(lambda slate: max(slate) > EMPTY),
    filler=st.sampled_from([0, 200]),
    number=NUMBERS,
    lapse=st.one_of(st.sampled_from([0.0, 2.0**-60, 1e-3, 0.3, LARGEST, 1.0]), st.floats(0, 1)),
)
def test_no_number_picks_what_has_no_chance(slate, filler, number, lapse):
    """Whatever the uniform number, the least and the largest among them: never empty, never below 2^-54."""
    rewards = np.array([slate + [EMPTY] * filler])
    rule = Rule(rewards.shape[1], lapse=lapse)
    for u in (number, min(lapse, LARGEST), float(np.nextafter(lapse, 0))):
        slot = rule.draw(rewards, Given([u]))[0]
        assert 0 <= slot < len(slate)
        assert rewards[0, slot] > EMPTY
        judged_at_random = u < lapse
        chance = rule.probabilities(rewards)[0, slot] if judged_at_random else softmax(rewards[0])[slot]
        assert chance > (0 if judged_at_random else 2.0**-54)


def test_tiny_chances_at_either_end():
    rewards = np.array([[-50.0, 0.0, -50.0], [EMPTY, 0.0, EMPTY], [-800.0, 0.0, -1e300]])
    for u in (0.0, LARGEST):
        assert Rule(3).draw(rewards, Given([u] * 3)).tolist() == [1, 1, 1]


def test_a_number_on_a_boundary_goes_to_the_slot_above():
    ties = np.zeros((5, 4))
    assert Rule(4).draw(ties, Given([0.0, 0.25, 0.5, 0.75, LARGEST])).tolist() == [0, 1, 2, 3, 3]


def test_slots_beyond_the_largest_gap_may_lapse():
    rewards = np.array([[-1e308, 1e308, EMPTY]])
    rule = Rule(3, lapse=0.5)
    assert rule.probabilities(rewards).tolist() == [[0.25, 0.75, 0.0]]
    drawn = [int(rule.draw(rewards, Given([u]))[0]) for u in (0.2, 0.3, 0.6, 0.9)]
    assert drawn == [0, 1, 1, 1]


@pytest.mark.parametrize("width", [0, 1, 4, 200])
def test_no_slates_draw_nothing(width):
    source = Given([])
    found = Rule(4, lapse=0.1).draw(np.zeros((0, width)), source)
    assert (found.shape, found.dtype, source.used) == ((0,), np.int64, 0)
    assert Rule(4).probabilities(np.zeros((0, width))).shape == (0, width)


def test_one_slate_draws_one_number_even_where_there_is_no_choice():
    for slate in ([0.0], [EMPTY, 2.0], list(range(10_000))):
        source = Given([0.999])
        assert Rule(4).draw(np.array([slate]), source)[0] == len(slate) - 1
        assert source.used == 1


def test_wide_slates():
    rewards = np.random.default_rng(0).normal(size=(20, 10_000))
    rewards[:, 7_000:] = EMPTY
    numbers = np.random.default_rng(1).random(20)
    expected = [plain(slate, u, 0.0) for slate, u in zip(rewards.tolist(), numbers.tolist(), strict=True)]
    assert Rule(4).draw(rewards, np.random.default_rng(1)).tolist() == expected
    np.testing.assert_allclose(Rule(4).probabilities(rewards), softmax(rewards, axis=1), rtol=1e-13)


@pytest.mark.parametrize("width", [3, 40, 300])
@pytest.mark.parametrize(
    ("fault", "temperature", "message"),
    [
        ([0.0, math.nan], 1.0, "must be numbers"),
        ([EMPTY, math.nan], 1.0, "must be numbers"),
        ([0.0, math.inf], 1.0, "must be numbers"),
        ([0.0, 1e300], 1e-20, "must be numbers"),
        ([0.0, -1e300], 1e-20, "must be numbers"),
        ([EMPTY, EMPTY], 1.0, "that many"),
    ],
)
def test_one_fault_in_any_block_is_refused(monkeypatch, width, fault, temperature, message):
    monkeypatch.setattr(luce, "BLOCK_DOUBLES", 10 * width)
    monkeypatch.setattr(slates_module, "BLOCK_DOUBLES", 10 * width)
    for at in (0, 17, 29):
        rewards = np.full((30, width), EMPTY)
        rewards[:, 0] = 1.0
        rewards[at, :2] = fault
        for act in (
            Rule(width, temperature).probabilities,
            lambda x: Rule(width, temperature, lapse=0.5).draw(x, np.random.default_rng(0)),
        ):
            with pytest.raises(InputError, match=message):
                act(rewards)


def test_picking_needs_little_memory():
    rewards = np.random.default_rng(0).normal(size=(500_000, 4))
    for lapse in (0.0, 0.1):
        tracemalloc.start()
        Rule(4, 0.7, lapse=lapse).draw(rewards, np.random.default_rng(0))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * len(rewards) + 1_500_000  # the picks and a block
