"""The layout of slates end to end: softmax at any size of utilities, and rules that take it like tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from recurate.core.errors import InputError
from recurate.rules.noise import GAUSSIAN, GUMBEL, NO_NOISE, Noise
from recurate.rules.rule import Rule
from recurate.rules.slates import Slates

LOGISTIC = Noise("logistic", lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + 2 * np.cosh(z)))
SIZES = np.array([4, 2, 5, 3, 2, 4, 6])
RAGGED = Slates(np.r_[0, np.cumsum(SIZES)])


def padded(rewards):
    """Return rewards of RAGGED as a table with empty slots at the end."""
    table = np.full((len(RAGGED), SIZES.max()), -np.inf)
    table[RAGGED.index(), RAGGED.slots()] = rewards
    return table


@pytest.mark.parametrize("slates", [RAGGED, Slates.of_size(2, 13), Slates.of_size(26, 1)])
@pytest.mark.parametrize("shift", [0.0, -40.0, 1e4, -1e9, 1e9])
@pytest.mark.parametrize("spread", [0.1, 30.0, 700.0, 1e5])
@pytest.mark.parametrize("columns", [None, 2])
def test_softmax_at_any_size_of_utilities(slates, shift, spread, columns):
    rng = np.random.default_rng(0)
    u = shift + spread * rng.normal(size=(26,) if columns is None else (26, columns))
    found, log_total = slates.softmax(u)
    for s, (a, b) in enumerate(zip(slates.offsets[:-1], slates.offsets[1:], strict=True)):
        expected = log_softmax(u[a:b], axis=0)
        np.testing.assert_allclose(found[a:b], np.exp(expected), rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(
            u[a:b] - log_total[s], expected, rtol=1e-12, atol=1e-12 + 4e-16 * abs(shift)
        )


def test_softmax_of_rows_that_cannot_be_picked():
    slates = Slates(np.array([0, 3, 5]))
    found, log_total = slates.softmax(np.array([-np.inf, 0.0, 0.0, -np.inf, -800.0]))
    assert found.tolist() == [0, 0.5, 0.5, 0, 1]
    np.testing.assert_allclose(log_total, [np.log(2), -800.0])


def test_slates_by_size():
    found = {rows.shape[1]: (some.tolist(), rows) for some, rows in RAGGED.by_size()}
    assert {k: some for k, (some, _) in found.items()} == {2: [1, 4], 3: [3], 4: [0, 5], 5: [2], 6: [6]}
    assert found[2][1].tolist() == [[4, 5], [14, 15]]
    assert RAGGED.shares() == pytest.approx({2: 2 / 7, 3: 1 / 7, 4: 2 / 7, 5: 1 / 7, 6: 1 / 7})


@pytest.mark.parametrize("noise", [GUMBEL, GAUSSIAN, NO_NOISE, LOGISTIC], ids=lambda noise: noise.name)
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("lapse", [0.0, 0.3])
def test_rules_take_slates_end_to_end_as_tables(noise, keep, lapse):
    """The same probabilities and likelihoods, whether slates are padded or laid end to end."""
    rng = np.random.default_rng(1)
    rewards = rng.normal(size=RAGGED.rows).round(1)
    rule = Rule(4, 0.7, noise, keep, lapse)
    found = rule.probabilities(rewards, RAGGED)
    np.testing.assert_allclose(RAGGED.sums(found), keep, rtol=1e-12)
    np.testing.assert_allclose(padded(found)[padded(found) > -np.inf], found)
    table = rule.probabilities(padded(rewards))
    np.testing.assert_allclose(table[RAGGED.index(), RAGGED.slots()], found, rtol=1e-13, atol=1e-15)
    kept = np.tile(np.arange(keep), (len(RAGGED), 1))
    logs = rule.log_likelihood(rewards, kept, RAGGED, ordered=False)
    np.testing.assert_allclose(rule.log_likelihood(padded(rewards), kept, ordered=False), logs, rtol=1e-13)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda r, s: Rule().probabilities(r[1:], s), "one number per row"),
        (lambda r, s: Rule(noise=GAUSSIAN).probabilities(r[1:], s), "one number per row"),
        (lambda r, s: Rule().log_likelihood(np.where(r > 0, r, -np.inf), SIZES * 0, s), "that many"),
        (lambda r, s: Rule().log_likelihood(np.where(s.slots() > 0, r, -np.inf), SIZES * 0, s), "is empty"),
        (lambda r, s: Rule().probabilities(np.where(r > 0, r, np.nan), s), "must be numbers"),
        (lambda r, s: Rule(keep=3).probabilities(r, s), "that many"),
        (lambda r, s: Rule().log_likelihood(r, SIZES, s), "slots from 0"),
        (lambda r, s: Rule(keep=2).slopes(r, SIZES * 0, s), "one pick per slate"),
        (lambda r, s: Rule(noise=LOGISTIC).slopes(r, SIZES * 0, s), "one pick per slate"),
    ],
)
def test_wrong_rewards_of_slates_are_refused(act, message):
    with pytest.raises(InputError, match=message):
        act(np.linspace(-1, 1, RAGGED.rows), RAGGED)
