"""Where loops end: Nash limits with their certificates, fixed points, cycles, bistability, survival."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.paths import GOLDENS
from recurate.core.errors import InputError
from recurate.rules import Rule, TopFraction
from recurate.rules.noise import NO_NOISE
from recurate.theory import fixed_points
from recurate.theory.limits import attractors, dynamics_of, limit
from recurate.theory.nash import maximise_nash
from recurate.theory.population import Population, favourites
from recurate.theory.setting import Setting, Stage
from recurate.theory.survival import (
    invades,
    pareto_front,
    phase,
    smallest_k,
    smallest_weight,
    survival,
)
from recurate.theory.welfare import hill_number, welfare

pytestmark = pytest.mark.usefixtures("few_replicates")

GOLDEN = json.loads((GOLDENS / "kernel.json").read_text())
CYCLIC = [[4.0, 2.0, 0.0], [0.0, 4.0, 2.0], [2.0, 0.0, 4.0]]
APART = np.array([[200.0, 0.0], [0.0, 200.0]])


def drawn(seed: int, atoms: int = 200, rewards: int = 3):
    rng = np.random.default_rng([31, seed])
    return rng.normal(size=(atoms, rewards)), rng.dirichlet(np.ones(rewards))


# --- K = infinity ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["nash"], ids=lambda c: c["name"])
def test_nash_goldens(case):
    rewards = np.array(case["rewards"], float).T
    found = limit(rewards, [float(w) for w in case["weights"]])
    np.testing.assert_allclose(found.law, np.array(case["p"], float), atol=1e-12)
    assert found.settles
    assert abs(found.gap - float(case["max_multiplier_minus_one"])) < 1e-10


def iterated(rewards, weights, law, rounds):
    """The multiplicative algorithm, written out."""
    u = np.exp(rewards - rewards.max(axis=0))
    p = law.copy()
    for _ in range(rounds):
        p = p * (u @ (weights / (p @ u)))
        p /= p.sum()
    return p, u


@pytest.mark.parametrize("seed", range(8))
def test_the_certificate_bounds_what_iterating_the_loop_reaches(seed):
    """N(p_T) <= N* for every T, N* - N(p_T) <= KL(p* || p_0) / T, and N* is not above what the gap allows."""
    rewards, weights = drawn(seed)
    found = limit(rewards, weights)
    p0 = np.full(len(rewards), 1 / len(rewards))
    nash = lambda p, u: float(weights @ np.log(p @ u))  # noqa: E731
    for rounds in (10, 100, 1000):
        p, u = iterated(rewards, weights, p0, rounds)
        best = nash(found.law, u)
        kl = float((found.law[found.support] * np.log(found.law[found.support] / p0[found.support])).sum())
        assert nash(p, u) <= best + 1e-10
        assert best - nash(p, u) <= kl / rounds + 1e-10
    # The certificate, recomputed from the law alone.
    worth = u @ (weights / (found.law @ u))
    assert worth.max() - 1 <= 1e-10
    np.testing.assert_allclose(worth[found.support], 1.0, atol=1e-9)


FAMILIES = (
    "plain",
    "wide",
    "duplicates",
    "near",
    "low rank",
    "ties",
    "-inf",
    "constant",
    "conflict",
    "range",
)


def family(name, rng, atoms, rewards):
    r = rng.normal(size=(atoms, rewards))
    if name == "wide":
        return 100 * r
    if name == "duplicates":
        return r[rng.integers(0, max(1, atoms // 10), atoms)]
    if name == "near":
        return np.repeat(r, 2, axis=0)[:atoms] + 1e-9 * rng.normal(size=r.shape)
    if name == "low rank":
        return r[:, :1] * rng.normal(size=(1, rewards))
    if name == "ties":
        return np.round(r)
    if name == "-inf":
        r[rng.random(r.shape) < 0.3] = -np.inf
        r[0] = 0.0
    if name == "constant":
        r[:, 0] = 0.0
    if name == "conflict":
        return np.where(np.arange(atoms)[:, None] % rewards == np.arange(rewards), 5.0, -50.0)
    if name == "range":
        return rng.uniform(-700, 700, (atoms, rewards))
    return r


@pytest.mark.parametrize("name", FAMILIES)
def test_no_family_of_landscapes_defeats_it(name):
    for seed in range(40):
        rng = np.random.default_rng([41, seed])
        m, n = int(rng.integers(1, 9)), int(rng.choice([1, 2, 5, 50, 1000]))
        rewards = family(name, rng, n, m)
        weights = np.maximum(rng.dirichlet(np.ones(m) * rng.choice([0.1, 1, 10])), 1e-9)
        found = limit(rewards, weights / weights.sum())
        assert found.settles, (name, seed, found.why)
        assert found.gap <= 1e-10
        assert found.law.sum() == pytest.approx(1)
        assert found.law.min() >= 0


def test_large_problems_take_few_passes():
    rewards, weights = drawn(0, 100_000, 10)
    found = maximise_nash(np.exp(rewards - rewards.max(axis=0)), weights)
    assert found.converged
    assert found.passes <= 8


def test_equal_atoms_split_by_the_first_law():
    rewards, weights = drawn(3, 60, 2)
    twice = np.vstack([rewards, rewards])
    start = np.random.default_rng(5).dirichlet(np.ones(120))
    found = limit(twice, weights, law=start)
    single = limit(rewards, weights)
    np.testing.assert_allclose(found.law[:60] + found.law[60:], single.law, atol=1e-9)
    for atom in single.support:
        assert found.law[atom] / found.law[60 + atom] == pytest.approx(start[atom] / start[60 + atom])
    # ... which is where the loop itself goes.
    followed = limit(twice, weights, law=start, dynamics=True)
    np.testing.assert_allclose(found.law, followed.law, atol=1e-6)


def test_a_maximiser_that_is_not_unique_is_called_so():
    """The third atom gives both groups what the even mixture of the first two gives."""
    utilities = np.array([[2.0, 1.0], [1.0, 2.0], [1.5, 1.5]])
    found = limit(np.log(utilities), [0.5, 0.5])
    assert found.unique is False
    assert found.gap <= 1e-10
    assert limit(np.log(utilities[:2]), [0.5, 0.5]).unique is True
    ends = [
        limit(np.log(utilities), [0.5, 0.5], law=p, dynamics=True) for p in ([0.6, 0.2, 0.2], [0.1, 0.1, 0.8])
    ]
    assert np.abs(ends[0].law - ends[1].law).max() > 0.1  # the dynamics' own limit depends on p_0
    np.testing.assert_allclose(ends[0].utilities, ends[1].utilities, rtol=1e-6)  # what people get does not


def test_zero_weights_and_absent_atoms():
    rewards, _ = drawn(4, 50, 3)
    np.testing.assert_allclose(
        limit(rewards, [0.4, 0.0, 0.6]).law, limit(rewards[:, [0, 2]], [0.4, 0.6]).law, atol=1e-12
    )
    start = np.ones(50)
    best = int(rewards[:, 0].argmax())
    start[best] = 0
    assert limit(rewards, [1.0, 0, 0], law=start).law[best] == 0


@pytest.mark.parametrize("rho", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_real_data_give_the_fixed_point_of_the_loop(rho, seed):
    rewards, weights = drawn(seed, 80, 3)
    real = np.random.default_rng([6, seed]).dirichlet(np.ones(80))
    solved = limit(rewards, weights, real_fraction=rho, reference=real)
    followed = limit(rewards, weights, real_fraction=rho, reference=real, dynamics=True)
    np.testing.assert_allclose(solved.law, followed.law, atol=1e-8)
    assert solved.residual < 1e-10
    assert solved.gap < 1e-9
    assert 0 < followed.radius < 1


def test_a_fine_reference_condenses():
    """Most of the mass lands on one atom where a W is almost one."""
    rewards = 3 * drawn(7, 20_000, 2)[0]
    found = limit(rewards, [0.3, 0.7], real_fraction=0.01)
    assert found.settles
    assert found.law.max() > 0.3
    assert found.residual < 1e-7


@pytest.mark.parametrize(
    ("rewards", "weights", "options"),
    [
        ([[np.nan, 1.0]], None, {}),
        ([[np.inf, 1.0]], None, {}),
        ([], None, {}),
        ([[1.0, 2.0]], [0.5, 0.6], {}),
        ([[1.0, 2.0]], [1.0], {}),
        ([[-np.inf, 1.0], [-np.inf, 2.0]], [0.5, 0.5], {}),
        ([[-np.inf, 1.0], [0.0, 2.0]], [0.5, 0.5], {"k": 4}),
        ([[1.0], [2.0]], None, {"law": [1.0]}),
        ([[1.0], [2.0]], None, {"real_fraction": 1.5}),
        ([[1.0], [2.0]], None, {"k": 1.5}),
    ],
)
def test_bad_input_is_refused(rewards, weights, options):
    with pytest.raises(InputError):
        limit(rewards, weights, **options)


# --- finite K -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", GOLDEN["survival"], ids=lambda c: f"K={c['K']},q={c['q']}")
def test_survival_goldens(case):
    q, k = float(case["q"]), int(case["K"])
    weights = np.array([q, 1 - q])
    share = limit(APART, weights, k=k).law[0]
    assert share == pytest.approx(float(case["share"]), abs=1e-10)
    assert (share > 1e-6) == (k * q > 1)
    assert smallest_k(APART, np.arange(2), weights, 0) == math.floor(1 / q) + 1
    assert invades(APART, np.arange(2), weights, 0, k) == pytest.approx(k * q, abs=1e-9)


@pytest.mark.parametrize("k", sorted({int(case["K"]) for case in GOLDEN["survival"]}))
def test_the_smallest_weight_is_one_by_k(k):
    """Whatever the weights are: the group's own is what is looked for."""
    found = smallest_weight(APART, np.arange(2), np.array([0.3, 0.7]), 0, k)
    assert found == pytest.approx(1 / k, abs=1e-6)


def test_survival_has_all_of_it_for_every_group():
    found = survival(APART, [0.4, 0.6], k=3)
    for j, share in enumerate([0.2, 0.8]):
        assert found[j].share == pytest.approx(share, abs=1e-10)
        assert found[j].law_applies
        assert found[j].survives
        assert found[j].smallest_weight == pytest.approx(1 / 3, abs=1e-6)
        assert found[j].smallest_k == [3, 2][j]
        assert found[j].invasion == pytest.approx(3 * found[j].weight, abs=1e-9)
        assert found[j].kq == pytest.approx(3 * found[j].weight)


def test_three_groups_survive_below_the_simple_law():
    """K w = .96 < 1 for the third, which survives all the same (math: w = .4, .36, .24, K = 4)."""
    weights = np.array([0.4, 0.36, 0.24])
    assert 4 * weights[2] < 1
    assert limit(np.eye(3) * 200, weights, k=4).law[2] == pytest.approx(0.0513336, abs=1e-6)
    assert invades(np.eye(3) * 200, np.arange(3), weights, 2, 4) > 1


def written_out(shares, weights, k):
    """s' for groups that never like each other's items."""
    out = weights * (1 - (1 - shares) ** k)
    for j in range(shares.size):
        others = np.delete(np.arange(shares.size), j)
        out[others] += weights[j] * (1 - shares[j]) ** k * shares[others] / (1 - shares[j])
    return out


def test_the_jacobian_is_that_of_the_map(monkeypatch):
    """Of T(p) = p (A p), with an absent atom and in parts; one-sided differences err by less than 2e-7."""
    rng = np.random.default_rng(3)
    a = rng.random((7, 7))
    p = rng.dirichlet(np.ones(7))
    p[2] = 0.0  # its difference is one-sided
    p /= p.sum()
    atoms = np.array([0, 2, 3, 6])
    # Differences renormalise: f(p) = T(p / sum p) sum p has the derivative dT (I - p 1^T) + T 1^T.
    full = np.diag(a @ p) + p[:, None] * a
    expected = full - (full @ p)[:, None] + (p * (a @ p))[:, None]
    for at_once in (fixed_points.AT_ONCE, 15):  # 15: two atoms together
        monkeypatch.setattr(fixed_points, "AT_ONCE", at_once)
        found = fixed_points.jacobian(lambda law: law * (a @ law), p, atoms)
        np.testing.assert_allclose(found, expected[np.ix_(atoms, atoms)], atol=2e-7)


@pytest.mark.parametrize("rule", [Rule(1), Rule(2), Rule(16), Rule(3, lapse=0.1, temperature=0.5)])
def test_slopes_of_the_map_equal_its_differences(rule):
    """With and without real data and an absent atom; differences err by less than 2e-7 K."""
    rng = np.random.default_rng(4)
    for n, rho in ((2, 0.0), (9, 0.0), (40, 0.2)):
        p = rng.dirichlet(np.ones(n))
        p[0] = 0.0
        p /= p.sum()
        real = rng.dirichlet(np.ones(n))
        population = Population(rng.normal(0, 2, (n, 2)), reference=real, weights=[0.3, 0.7])
        loop = dynamics_of(population, Setting(rule, real_fraction=rho))
        atoms = np.arange(n)
        found = loop.slopes(p, atoms)
        expected = fixed_points.jacobian(loop.step, p, atoms)
        np.testing.assert_allclose(found, expected, atol=2e-7 * rule.largest)
        some = atoms[atoms > 0]  # those that have mass
        np.testing.assert_allclose(loop.slopes(p, some), found[1:, 1:], atol=1e-13)


def test_slopes_without_a_formula_are_differences():
    """Of several stages, best of K, and more atoms than are nodes themselves."""
    few, many = Population(np.arange(5.0)), Population(np.arange(500.0) / 100)
    for population, setting in (
        (few, Setting(Rule(2), then=(Stage(Rule(3)),))),
        (few, Setting(Rule(4, noise=NO_NOISE))),
        (many, Setting(Rule(2))),
    ):
        loop = dynamics_of(population, setting)
        atoms = np.arange(5)
        assert loop.slopes(population.law, atoms) is None
        expected = fixed_points.jacobian(loop.step, population.law, atoms)
        np.testing.assert_array_equal(loop.jacobian(population.law, atoms), expected)


def test_fixed_points_solve_the_equations_of_disjoint_groups():
    for seed in range(5):
        weights = np.random.default_rng([8, seed]).dirichlet(np.full(4, 3.0))
        found = limit(np.eye(4) * 300, weights, k=9)
        assert found.settles
        np.testing.assert_allclose(written_out(found.law, weights, 9), found.law, atol=1e-9)


@pytest.mark.parametrize("k", [3, 4, 8])
def test_condorcet_settles_from_three_on(k):
    found = limit(CYCLIC, k=k, law=[0.4, 0.35, 0.25])
    np.testing.assert_allclose(found.law, 1 / 3, atol=1e-9)
    assert found.radius < 1


def test_condorcet_at_two_does_not_settle():
    found = limit(CYCLIC, k=2, law=[0.4, 0.35, 0.25])
    assert not found.settles
    assert "does not settle" in found.why
    assert [a.limit.settles for a in attractors(CYCLIC, k=2, starts=1)] != [True]


def test_the_radius_is_the_growth_of_small_deviations():
    population = Population(np.array(CYCLIC))
    rule = Rule(2)
    p = np.full(3, 1 / 3) + np.array([1e-6, -0.5e-6, -0.5e-6])
    sizes = []
    for _ in range(200):
        sizes.append(np.linalg.norm(p - 1 / 3))
        p = population.step(p, Setting(rule))
    growth = (sizes[-1] / sizes[0]) ** (1 / 199)
    held = limit(CYCLIC, k=2, real_fraction=0.02, dynamics=True)
    # At the centre real data shrink every deviation by 1 - rho.
    assert held.radius == pytest.approx(0.98 * growth, abs=1e-5)


@pytest.mark.parametrize(("k", "threshold"), [(2, 0.3819660112501051), (3, 0.3176721961719807)])
def test_two_opposed_stages_are_bistable(k, threshold):
    """s' = (1 - (1 - s)^K)^K: everything or nothing, by the start."""
    for shift, end in ((-1e-3, 0.0), (1e-3, 1.0)):
        start = [threshold + shift, 1 - threshold - shift]
        found = limit(APART, [1.0, 0.0], k=k, law=start, then=[Stage(Rule(k), (0.0, 1.0))])
        assert found.settles
        assert found.law[0] == pytest.approx(end, abs=1e-9)
    ends = attractors(APART, [1.0, 0.0], k=k, then=[Stage(Rule(k), (0.0, 1.0))])
    assert len(ends) == 2
    assert sum(e.share for e in ends) == pytest.approx(1)


def test_any_rule_has_fixed_points():
    rewards, weights = drawn(2, 40, 2)
    for rule in (Rule(3, noise=Rule(2).noise, lapse=0.3), Rule(6, keep=2), TopFraction(0.4)):
        found = limit(rewards, weights, rule=rule, real_fraction=0.2)
        assert found.settles, (rule, found.why)
        population = Population(rewards, weights=weights)
        np.testing.assert_allclose(
            population.step(found.law, Setting(rule, real_fraction=0.2)), found.law, atol=1e-9
        )


@given(st.integers(0, 10_000))
def test_dominated_candidates_never_remain(seed):
    rng = np.random.default_rng([9, seed])
    rewards = rng.normal(size=(30, 2))
    front = pareto_front(rewards)
    brute = [i for i, r in enumerate(rewards) if not any((o >= r).all() and (o > r).any() for o in rewards)]
    assert front.tolist() == brute
    found = limit(rewards, [0.4, 0.6], k=5)
    if found.settles:
        assert set(found.support.tolist()) <= set(front.tolist())


def test_phase_diagrams_follow_the_law_of_survival():
    shares = phase(APART, [2, 4, 8], [0.1, 0.2, 0.3])
    for a, k in enumerate([2, 4, 8]):
        for b, q in enumerate([0.1, 0.2, 0.3]):
            assert (shares[a, b] > 1e-6) == (k * q > 1)


def test_survival_refuses_what_has_no_groups():
    with pytest.raises(InputError, match="two or more"):
        survival([[1.0], [2.0]])
    with pytest.raises(InputError, match="has no members"):
        survival([[1.0, 1.0], [0.0, 0.0]])


# --- welfare --------------------------------------------------------------------------------------


def test_hill_numbers():
    shares = [0.5, 0.25, 0.25]
    assert hill_number(shares, 0) == 3
    assert hill_number(shares, 1) == pytest.approx(math.exp(1.5 * math.log(2)))
    assert hill_number(shares, 2) == pytest.approx(1 / 0.375)
    assert hill_number([1.0, 0.0], 2) == 1


def test_welfare_is_largest_at_the_nash_limit():
    rewards, weights = drawn(11, 100, 3)
    end = welfare(rewards, limit(rewards, weights).law, weights=weights)
    start = welfare(rewards, weights=weights)
    assert end.nash_gap == pytest.approx(0, abs=1e-9)
    assert start.nash < end.nash
    assert start.nash + start.nash_gap == pytest.approx(end.nash, abs=1e-9)
    apart = np.array([[9.0, 0.0], [0.0, 9.0]])
    assert welfare(apart, [0.3, 0.7], weights=[0.3, 0.7]).distance == pytest.approx(0)
    assert favourites(apart, apart.max(axis=0)).tolist() == [0, 1]
