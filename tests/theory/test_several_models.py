"""Several models that train on each other's picks: known special cases, and where curation reverses."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurate.core.errors import InputError
from recurate.core.seeds import Stream
from recurate.rules import NO_NOISE, Rule, Threshold, TopFraction
from recurate.theory.population import Population
from recurate.theory.setting import Setting, Stage
from recurate.theory.several_models import (
    SeveralModels,
    apportioned,
    lasting_reversal,
    reversal_weight,
)

SEEDS = st.integers(0, 999)
KINDS = {
    "plain": Setting(Rule(4), rounds=5),
    "real": Setting(Rule(3, 0.5), real_fraction=0.3, rounds=5),
    "accumulate": Setting(Rule(4, noise=NO_NOISE), real_fraction=0.2, rounds=5, accumulate=True),
    "slow": Setting(Rule(math.inf), rounds=5, efficacy=0.4),
    "stages": Setting(Rule(2), rounds=4, then=(Stage(Rule(3)), Stage(TopFraction(0.5), (1.0, 0.0, 0.0)))),
    "verifier": Setting(Threshold(0.0, false_rejection=0.1, false_acceptance=0.2), rounds=4),
}
SETTINGS = pytest.mark.parametrize("setting", KINDS.values(), ids=KINDS.keys())


def stochastic(rng, rows: int, columns: int):
    return rng.dirichlet(np.ones(columns), rows)


def random_models(seed: int, models: int = 3, atoms: int = 12, **given) -> SeveralModels:
    rng = np.random.default_rng(seed)
    values = {
        "laws": rng.dirichlet(np.ones(atoms), models).T,
        "curators": stochastic(rng, models, 3),
        "mixing": stochastic(rng, models, models),
        "reference": rng.dirichlet(np.ones(atoms)),
    }
    return SeveralModels.of(rng.normal(size=(atoms, 3)), **values | given)


def two(s: float, z: float, w: float, v: float, gap: float, back: float | None = None) -> SeveralModels:
    """Return two models with opposed rewards on two atoms; s and z are shares of the first's favourite."""
    rewards = [[gap, 0.0], [0.0, gap if back is None else back]]
    laws = [[s, z], [1 - s, 1 - z]]
    return SeveralModels.of(rewards, laws=laws, mixing=[[1 - w, w], [v, 1 - v]])


def shares(models: SeveralModels, setting: Setting) -> np.ndarray:
    """Return the shares of the first atom, shape (rounds + 1, models)."""
    return np.array([laws[0] for laws in models.play(setting)])


def g(share: float, gap: float, rule: Rule) -> float:
    """Return the share of an atom after selection that likes it ``gap`` better than the other."""
    return share * float(rule.multiplier(np.array([gap, 0.0]), np.array([share, 1 - share]))[0])


# --- what is known -------------------------------------------------------------------------------------


@SETTINGS
def test_the_identity_is_so_many_loops(setting):
    models = random_models(1, mixing=np.eye(3))
    apart = [
        list(Population(models.population.rewards, law=law, reference=real, weights=judge).play(setting))
        for law, real, judge in zip(models.laws.T, models.reference.T, models.curators, strict=True)
    ]
    for t, laws in enumerate(models.play(setting)):
        np.testing.assert_allclose(
            laws, np.column_stack([loop[t] for loop in apart]), rtol=1e-11, atol=1e-300
        )


@SETTINGS
def test_equal_models_are_one_loop_whatever_the_mixing(setting):
    rng = np.random.default_rng(2)
    law, judge = rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(3))
    models = random_models(2, laws=np.tile(law[:, None], 4), curators=np.tile(judge, (4, 1)), models=4)
    one = Population(models.population.rewards, law=law, reference=models.reference[:, 0], weights=judge)
    for laws, alone in zip(models.play(setting), one.play(setting), strict=True):
        np.testing.assert_allclose(laws, np.tile(alone[:, None], 4), rtol=1e-11)


@given(seed=SEEDS)
def test_equal_rows_are_one_loop_with_mixed_judges(seed):
    """A model that trains on everybody's picks alike is one loop whose slates have all curators in turn."""
    rng = np.random.default_rng(seed)
    law, row = rng.dirichlet(np.ones(12)), rng.dirichlet(np.ones(3))
    models = random_models(seed, laws=np.tile(law[:, None], 3), mixing=np.tile(row, (3, 1)))
    setting = Setting(Rule(4), real_fraction=0.1, rounds=4)
    judge = row @ models.curators
    one = Population(models.population.rewards, law=law, reference=models.reference[:, 0], weights=judge)
    for laws, alone in zip(models.play(setting), one.play(setting), strict=True):
        np.testing.assert_allclose(laws, np.tile(alone[:, None], 3), rtol=1e-11)


def test_swapped_picks_are_stages_in_turn():
    """Two rounds of two models that swap all picks are one round of one model with both curators' stages."""
    models = random_models(3, models=2, mixing=[[0, 1], [1, 0]])
    *_, last = models.play(Setting(Rule(3), rounds=2))
    for i in (0, 1):
        first, second = models.curators[i], models.curators[1 - i]
        stages = Setting(Rule(3), tuple(first), rounds=1, then=(Stage(Rule(3), tuple(second)),))
        *_, alone = Population(models.population.rewards, law=models.laws[:, i]).play(stages)
        np.testing.assert_allclose(last[:, i], alone, rtol=1e-12)


@given(seed=SEEDS)
def test_mass_is_kept_and_names_do_not_matter(seed):
    models, setting = random_models(seed), Setting(Rule(4), real_fraction=0.2, rounds=4)
    order = np.random.default_rng(seed).permutation(3)
    other = SeveralModels.of(
        models.population.rewards,
        laws=models.laws[:, order],
        curators=models.curators[order],
        mixing=models.mixing[np.ix_(order, order)],
        reference=models.reference[:, 0],
    )
    for laws, found in zip(models.play(setting), other.play(setting), strict=True):
        np.testing.assert_allclose(laws.sum(axis=0), 1, rtol=1e-13)
        np.testing.assert_allclose(found, laws[:, order], rtol=1e-12)


def test_two_rounds_by_enumeration_of_all_slates():
    """Every slate of three candidates, every pick, and the sums written out."""
    rewards = np.array([[0.3, -1.0], [1.1, 0.4], [-0.2, 2.0]])
    laws = np.array([[0.5, 0.2], [0.3, 0.3], [0.2, 0.5]])
    mixing, rho = np.array([[0.7, 0.3], [0.4, 0.6]]), 0.25
    real = np.array([0.1, 0.6, 0.3])
    models = SeveralModels.of(rewards, laws=laws, mixing=mixing, reference=real)
    played = list(models.play(Setting(Rule(3, 0.5), real_fraction=rho, rounds=2)))
    for t in (1, 2):
        picks = np.zeros((3, 2))
        for i, slate in itertools.product((0, 1), itertools.product(range(3), repeat=3)):
            worth = np.exp(rewards[list(slate), i] / 0.5)
            chance = np.prod(laws[list(slate), i])
            for atom, share in zip(slate, worth / worth.sum(), strict=True):
                picks[atom, i] += chance * share
        laws = np.column_stack(
            [
                rho * real + (1 - rho) * (mixing[i, 0] * picks[:, 0] + mixing[i, 1] * picks[:, 1])
                for i in (0, 1)
            ]
        )
        np.testing.assert_allclose(played[t], laws, rtol=1e-12)


# --- finitely many picks -------------------------------------------------------------------------------


def test_simulated_models_have_the_exact_law_on_average():
    models, setting = random_models(5), Setting(Rule(3), real_fraction=0.2, rounds=2, picks=400)
    *_, exact = models.play(setting)
    runs = np.array([list(models.simulate(setting, Stream(seed)))[-1] for seed in range(300)])
    np.testing.assert_allclose(runs.sum(axis=1), 1, rtol=1e-12)
    error = runs.std(axis=0, ddof=1) / math.sqrt(len(runs))
    # Shares of 400 picks are rounded to whole numbers, and two rounds have a bias of the order of 1 / 400.
    assert (np.abs(runs.mean(axis=0) - exact) < 5 * error + 5 / 400).all()
    *_, many = models.simulate(replace(setting, picks=4_000_000), Stream(1))
    assert np.abs(many - exact).max() < 2e-3


def test_a_round_does_not_depend_on_the_rounds_simulated_before():
    models, setting = random_models(6), Setting(Rule(3), rounds=5, picks=50)
    whole = list(models.simulate(setting, Stream(9)))
    begun = replace(models, laws=whole[2])
    rest = list(begun.simulate(replace(setting, rounds=3, first=2), Stream(9)))
    for found, expected in zip(rest, whole[2:], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_models_that_swap_share_their_picks():
    """One model's picks are the other's training set, to the last one."""
    models, setting = (
        random_models(7, models=2, mixing=[[0, 1], [0, 1]]),
        Setting(Rule(3), rounds=1, picks=40),
    )
    *_, laws = models.simulate(setting, Stream(0))
    np.testing.assert_array_equal(laws[:, 0], laws[:, 1])
    np.testing.assert_allclose(laws * 40, np.round(laws * 40), atol=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(0, 10_000))
def test_apportioned_numbers_are_whole_and_fair(weights, count):
    exact = np.array(weights) / sum(weights) * count
    found = apportioned(np.array(weights) / sum(weights), count)
    assert found.sum() == count
    assert (np.abs(found - exact) < 1 + 1e-6).all()


# --- reversal ------------------------------------------------------------------------------------------


@given(seed=SEEDS, rho=st.floats(0, 0.8), eta=st.floats(0.1, 1), accumulate=st.booleans())
def test_the_own_reward_falls_above_the_reversal_weight(seed, rho, eta, accumulate):
    setting = Setting(Rule(4), real_fraction=rho, rounds=1, efficacy=eta, accumulate=accumulate)
    models = random_models(seed, curators=np.eye(3))
    weight = reversal_weight(models, setting, 0, 1)
    falls_alone = weight == 0 or math.isnan(weight)
    for w in (0.0, 0.25, 0.5, 0.75, 1.0, weight - 1e-3, weight + 1e-3):
        if not 0 <= w <= 1:
            continue
        mixing = models.mixing.copy()
        mixing[0] = [1 - w, w, 0]
        first, last = (models.own_rewards(laws)[0] for laws in models.mixed(mixing).play(setting))
        if falls_alone and w == 0:
            assert last < first
        if not math.isnan(weight) and w != 0:
            assert (last < first - 1e-12) == (w > weight) or abs(last - first) < 1e-9
        if math.isnan(weight) and w == 1:
            assert last >= first - 1e-9


@given(s=st.floats(0.05, 0.95), gap=st.floats(0.1, 6), back=st.floats(0.1, 6), k=st.sampled_from([2, 3, 8]))
def test_two_atoms_reverse_where_gains_and_losses_balance(s, gap, back, k):
    rule = Rule(k)
    up, down = g(s, gap, rule), 1 - g(1 - s, back, rule)
    assert down < s < up
    expected = (up - s) / (up - down)
    models = two(s, s, 0, 0, gap, back)
    assert reversal_weight(models, Setting(rule)) == pytest.approx(expected, rel=1e-8)
    assert reversal_weight(models, Setting(rule), 1, 0) == pytest.approx(1 - expected, rel=1e-6)
    # With real data like the first models', the weight is the same.
    assert reversal_weight(models, Setting(rule, real_fraction=0.6)) == pytest.approx(expected, rel=1e-8)


@given(
    s=st.floats(0.05, 0.95), gap=st.floats(0.2, 5), back=st.floats(0.2, 5), k=st.sampled_from([2, 4]),
    beyond=st.floats(0.05, 0.9), other=st.floats(0, 1),
)  # fmt: skip
def test_the_first_round_decides_if_the_other_model_follows(s, gap, back, k, beyond, other):
    """w > w_1 and v <= 1 - w_1: model 1 falls in every round; w < w_1 and v >= 1 - w_1: it rises."""
    setting = Setting(Rule(k), rounds=40)
    w1 = reversal_weight(two(s, s, 0, 0, gap, back), setting)
    falling = shares(two(s, s, w1 + beyond * (1 - w1), other * (1 - w1), gap, back), setting)[:, 0]
    rising = shares(two(s, s, w1 * (1 - beyond), 1 - other * w1, gap, back), setting)[:, 0]
    assert (np.diff(falling) <= 1e-15).all()
    assert falling[-1] < s
    assert (np.diff(rising) >= -1e-15).all()
    assert rising[-1] > s


@pytest.mark.parametrize("k", [2, 4, math.inf])
def test_equal_and_opposite_models_reverse_at_one_half(k):
    for w in (0.1, 0.45, 0.499):
        played = shares(two(0.5, 0.5, w, w, 1.5), Setting(Rule(k), rounds=200))
        assert (played[1:, 0] > 0.5).all()
        np.testing.assert_allclose(played.sum(axis=1), 1, atol=1e-12)
    half = shares(two(0.5, 0.5, 0.5, 0.5, 1.5), Setting(Rule(k), rounds=20))
    np.testing.assert_allclose(half, 0.5, atol=1e-12)
    # Above one half the fixed point s = w + (1 - 2 w) g(s) lies below one half, and attracts here.
    played = shares(two(0.5, 0.5, 0.7, 0.7, 1.5), Setting(Rule(k), rounds=400))
    end = played[-1, 0]
    assert played[1, 0] < 0.5
    assert end < 0.5
    assert end == pytest.approx(0.7 - 0.4 * g(end, 1.5, Rule(k)), abs=1e-12)


@given(s=st.floats(0.05, 0.95), gap=st.floats(0.3, 5), k=st.sampled_from([2, 3, 8, math.inf]))
def test_a_settled_opponent_reverses_curation_sooner(s, gap, k):
    rule = Rule(k)
    weight = lasting_reversal(s, rule, gap)
    assert weight == pytest.approx(1 - s / g(s, gap, rule), rel=1e-9)
    if math.isinf(k):
        assert weight == pytest.approx((1 - s) * (1 - math.exp(-gap)), rel=1e-9)
    setting = Setting(rule, rounds=60)
    for w, sign in ((weight * 0.97, 1), (weight + 0.03 * (1 - weight), -1)):
        played = shares(two(s, 0.0, w, 0.0, gap), setting)[:, 0]
        assert sign * (played[-1] - s) > 0
        assert sign * (played[1] - s) > 0


@pytest.mark.parametrize("k", [2, 4, math.inf])
def test_curation_that_first_helps_may_be_reversed_later(k):
    """Between the two weights, and with an opponent that starts as the model does but settles alone."""
    rule, s, gap = Rule(k), 0.5, 1.0
    late, first = lasting_reversal(s, rule, gap), reversal_weight(two(s, s, 0, 0, gap), Setting(rule))
    assert late < first
    setting = Setting(rule, rounds=2000)
    played = shares(two(s, s, (late + first) / 2, 0.0, gap), setting)[:, 0]
    assert played[1] > s
    assert played[-1] < s
    assert shares(two(s, s, late - 0.02, 0.0, gap), setting)[-1, 0] > s
    lost = 1 - 1 / float(rule.multiplier(np.array([gap, 0.0]), np.array([1e-12, 1 - 1e-12]))[0])
    assert shares(two(s, s, lost + 0.02, 0.0, gap), setting)[-1, 0] < 1e-6
    assert shares(two(s, s, lost - 0.02, 0.0, gap), setting)[-1, 0] > 1e-3


@given(
    s=st.floats(0.05, 0.95), z=st.floats(0.05, 0.95), w=st.floats(0, 1), v=st.floats(0, 1),
    gap=st.floats(0, 4), more=st.floats(0, 3), back=st.floats(0, 4),
)  # fmt: skip
def test_with_two_atoms_more_curation_never_lowers_the_own_reward(s, z, w, v, gap, more, back):
    """The map increases in both shares and in g_1, so every later share is at least as large."""
    setting = Setting(Rule(3), rounds=30, real_fraction=0.1)
    weak, strong = (shares(two(s, z, w, v, size, back), setting) for size in (gap, gap + more))
    assert (strong >= weak - 1e-12).all()


def test_reversal_at_its_ends():
    agreeing = SeveralModels.of([[1.0], [0.0]], curators=[[1.0], [1.0]])
    assert reversal_weight(agreeing, Setting(Rule(2))) == math.inf
    assert reversal_weight(agreeing, Setting(Rule(1))) == math.inf, "without selection nothing falls"
    # Model 1 does not select, so any share of an opponent's picks lowers its reward.
    with_idle = SeveralModels.of([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], curators=[[1, 0, 0], [0, 1, 0]])
    assert 0 < reversal_weight(with_idle, Setting(Rule(2))) < 1
    with pytest.raises(InputError, match="another one"):
        reversal_weight(agreeing, Setting(Rule(2)), 1, 1)


def test_bad_models_are_refused():
    rewards = [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(
        InputError, match="mixing, row 1: weights must be non-negative numbers that sum to one"
    ):
        SeveralModels.of(rewards, mixing=[[1, 0], [0.5, 0.6]])
    with pytest.raises(InputError, match="one row of shares of all models"):
        SeveralModels.of(rewards, mixing=[[1, 0]])
    with pytest.raises(InputError, match="curators must have one row of 2 shares"):
        SeveralModels.of(rewards, curators=[[1.0]])
    with pytest.raises(InputError, match="one mass for each candidate and model"):
        SeveralModels.of(rewards, laws=[[0.5, 0.5]])
    with pytest.raises(InputError, match="own curator's weights"):
        list(SeveralModels.of(rewards).play(Setting(Rule(2), (0.5, 0.5))))
    with pytest.raises(InputError, match="need a number of picks"):
        list(SeveralModels.of(rewards).simulate(Setting(Rule(2)), Stream(0)))
    with pytest.raises(InputError, match="share must lie between 0 and 1"):
        lasting_reversal(1.0, Rule(2), 1.0)
