"""Proved statements: none is violated on exact laws, each can be, and each says when it does not apply."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from helpers.paths import GOLDENS
from recurate.core.errors import InputError
from recurate.rules import Rule, TopFraction
from recurate.theory import bounds
from recurate.theory.bounds import Bound, check_bounds
from recurate.theory.population import Population
from recurate.theory.setting import Setting, Stage

NASH = {case["name"]: case for case in json.loads((GOLDENS / "kernel.json").read_text())["nash"]}
TRAJECTORIES = json.loads((GOLDENS / "trajectories.json").read_text())
NAMES = [name for _, name, _, _ in bounds.STATEMENTS]
MAIN_TEXT = "outside mass, main text (Lemma 3.3)"
APPENDIX = "outside mass, appendix (Lemma 3.3)"


def luce(r: np.ndarray, p: np.ndarray, k: float) -> np.ndarray:
    """The multiplier by direct quadrature over the winner's noise, or in closed form."""
    if math.isinf(k):
        u = np.exp(np.minimum(r - r[p > 0].max(), 700))  # dead atoms may lie far above
        return u / (p @ u)
    if k == 2:  # 2 P(x beats y), exact at any range
        return 2 * np.exp(-np.logaddexp(0.0, r[None, :] - r[:, None])) @ p
    s = np.arange(r.min() - 6, r.max() + 45 + math.log(k), 0.25)
    e = np.exp(-np.clip(s - r[:, None], -700, 700))
    return 0.25 * k * (e * np.exp(-e)) @ (p @ np.exp(-e)) ** (k - 1)


def play(rewards, law, k, rounds, *, weights=None, real_fraction=0.0, reference=None, multiplier=luce):
    """Exact laws p_0 .. p_T, by the direct multiplier."""
    rewards, law = np.asarray(rewards, float), np.asarray(law, float)
    rewards = rewards[:, None] if rewards.ndim == 1 else rewards
    weights = np.full(rewards.shape[1], 1 / rewards.shape[1]) if weights is None else weights
    reference = law if reference is None else reference
    laws = [law / law.sum()]
    for _ in range(rounds):
        p = laws[-1]
        picked = p * sum(w * multiplier(r, p, k) for w, r in zip(weights, rewards.T, strict=True))
        laws.append(real_fraction * reference + (1 - real_fraction) * picked / picked.sum())
    return laws


def verdicts(found: tuple[Bound, ...]) -> dict[str, str]:
    return {bound.name: bound.verdict for bound in found}


def checked(
    rewards, laws, *, weights=None, real_fraction=0.0, reference=None, multipliers=None, eps=None,
    stages=(), accumulate=False, efficacy=1.0, noise="gumbel", **rule,
) -> tuple[Bound, ...]:  # fmt: skip
    """Check laws by a setting that is spelled out, p_ref being the first of them if not given."""
    setting = Setting.of(
        noise=noise, **rule, weights=weights, real_fraction=real_fraction, accumulate=accumulate,
        efficacy=efficacy, then=[Stage(Rule(k)) for k in stages],
    )  # fmt: skip
    population = Population(rewards, law=laws[0], reference=reference)
    return check_bounds(population, setting, laws, multipliers=multipliers, eps=eps)


def get(found: tuple[Bound, ...], name: str) -> Bound:
    return next(bound for bound in found if name in bound.name)


def consistent(bound: Bound) -> None:
    if bound.verdict == "does not apply":
        assert bound.value is bound.measured is bound.slack is bound.round is None
        assert bound.why
        assert not all(h.holds for h in bound.hypotheses)
        return
    assert all(h.holds for h in bound.hypotheses)
    assert bound.round is not None
    assert math.isfinite(bound.value)
    assert math.isfinite(bound.measured) or bound.verdict == "violated"
    assert (bound.slack >= 0) == (bound.verdict == "holds")
    assert bool(bound.why) == (bound.verdict == "violated")


def random_rewards(rng: np.random.Generator) -> np.ndarray:
    """Clouds, ties, two opposed groups (with and without others), two atoms."""
    kind = rng.choice(6, p=[0.15, 0.1, 0.2, 0.3, 0.15, 0.1])
    n, m = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    scale = rng.choice([0.1, 1.0, 5.0])
    if kind == 0:
        return scale * rng.normal(size=(n, m))
    if kind == 1:
        return np.round(scale * rng.normal(size=(n, m)))
    if kind == 2:
        return scale * rng.normal(size=(n, 1))
    gap = rng.uniform(0.1, 8)
    if kind == 3:
        return gap * np.eye(2) + rng.uniform(-0.5, 0.5, size=(2, 2)) * min(gap, 1.0)
    groups = gap * np.repeat(np.eye(2), [2, 2], axis=0) + rng.uniform(0, 0.03 * gap, size=(4, 2))
    return groups if kind == 4 else np.vstack([groups, -rng.uniform(0, 8, size=(2, 2))])


def random_law(rng: np.random.Generator, n: int) -> np.ndarray:
    law = rng.dirichlet(np.full(n, rng.choice([0.2, 1.0, 5.0]))) + 1e-12
    if n > 1 and rng.random() < 0.2:
        law[rng.integers(n)] = rng.choice([0.0, 1e-300])
    return law / law.sum()


def random_case(rng: np.random.Generator):
    rewards = random_rewards(rng)
    n, m = rewards.shape
    k = rng.choice([2, 3, 4, 8, math.inf, math.inf, math.inf])
    real = rng.choice([0.0, 0.0, 0.0, 0.3, rng.random(), 1 - rng.random() / k])
    law = random_law(rng, n)
    reference = random_law(rng, n) if rng.random() < 0.3 else None
    weights = rng.dirichlet(np.full(m, 5.0))
    rounds = int(rng.choice([1, 2, 5, 40])) if math.isinf(k) else int(rng.integers(1, 5))
    laws = play(rewards, law, k, rounds, weights=weights, real_fraction=real, reference=reference)
    eps = rng.choice([None, 0.0, rng.uniform(0, 1)])
    settings = {"weights": weights, "k": k, "real_fraction": real, "reference": reference, "eps": eps}
    return rewards, laws, settings


@pytest.mark.slow
def test_no_statement_is_violated_on_two_thousand_random_loops():
    """Lemma 3.3 as the main text of [P] has it is the exception: it must be found false."""
    rng = np.random.default_rng(20240709)
    applied, false = Counter(), 0
    for case in range(2000):
        rewards, laws, settings = random_case(rng)
        for bound in checked(rewards, laws, **settings):
            consistent(bound)
            applied[bound.name] += bound.verdict != "does not apply"
            if bound.name == MAIN_TEXT:
                false += bound.verdict == "violated"
            else:
                assert bound.verdict != "violated", (case, bound)
    assert set(applied) == set(NAMES)
    assert all(applied[name] >= 50 for name in NAMES), applied
    assert false >= 10


# --- each check can fail: (name, rewards, laws, settings) where the laws are not the loop's

R1 = np.array([0.0, 1.0, 2.0])
U = np.full(3, 1 / 3)
PAIR = 5 * np.eye(2)
TRIPLE = np.array([[5.0, 0.0], [0.0, 5.0], [-9.0, -9.0]])


def worst_of_k(r, p, k):
    return luce(-r, p, k)


def weaker(r, p, k):
    return luce(r / 4, p, k)


LOOSE = play(R1, U, 4, 3, multiplier=weaker)
BACK = play(R1, U, 4, 3)[::-1]
WORST = play(R1, U, 4, 3, multiplier=worst_of_k)
OUTWARDS = [np.array([0.4, 0.4, 0.2]), np.array([0.4, 0.4, 0.2]), np.array([0.1, 0.1, 0.8])]
DRAINED = [np.array([0.5, 0.5]), np.array([0.999, 0.001])]
STUCK = [np.array([0.9, 0.1]), np.array([0.9, 0.1])]
INF = math.inf
BROKEN = [
    ("reward gain", R1, BACK, {"k": 4}),
    ("reward gain", R1, LOOSE, {"k": 4}),
    ("reward gain", R1, [U, U], {"k": 4, "real_fraction": 0.5}),
    ("monotone collapse", R1, BACK, {"k": 4}),
    ("monotone collapse", R1, [U, np.array([0.5, 0.5, 0.0])], {"k": 4}),
    ("collapse rate", R1, LOOSE, {"k": 4}),
    ("reward above the reference (", R1, WORST, {"k": 4, "real_fraction": 0.0}),
    ("reward above the reference, sharper", R1, LOOSE, {"k": 4}),
    ("density ratio", R1, play(R1, U, 4, 9), {"k": 2, "real_fraction": 0.7}),
    ("divergence", R1, play(R1, U, 4, 9), {"k": 2, "real_fraction": 0.7}),
    ("KL-regularised step", R1, play(R1, U, 8, 3), {"k": INF}),
    ("outside mass, main", TRIPLE, OUTWARDS, {"k": INF}),
    ("outside mass, appendix", TRIPLE, OUTWARDS, {"k": INF}),
    ("share interval", PAIR, DRAINED, {"k": INF}),
    ("two-atom limit", PAIR, STUCK, {"k": INF}),
    ("Nash share", PAIR, STUCK, {"k": INF}),
]


@pytest.mark.parametrize(("name", "rewards", "laws", "settings"), BROKEN)
def test_wrong_laws_are_noticed(name, rewards, laws, settings):
    bound = get(checked(rewards, laws, **settings), name)
    consistent(bound)
    assert bound.verdict == "violated", bound
    assert bound.slack < 0
    assert bound.why.startswith(f"round {bound.round}: ")


def test_variance_and_nash_product_are_facts_about_laws_and_their_arithmetic_can_fail(monkeypatch):
    """Theorems 3.6 and 3.7 hold for any law at all, so the mutation is in the arithmetic."""
    laws = play(PAIR, [0.4, 0.6], INF, 3)
    name = "variance between basins"
    assert get(checked(PAIR, laws, k=INF), name).verdict == "holds"
    original = bounds._moments
    monkeypatch.setattr(bounds, "_moments", lambda p, x: (original(p, x)[0], 0.999 * original(p, x)[1]))
    assert get(checked(PAIR, laws, k=INF), name).verdict == "violated"
    monkeypatch.undo()
    at_q = get(checked(PAIR, [[0.3, 0.7], [0.3, 0.7]], k=INF, weights=[0.3, 0.7]), "Nash product")
    assert at_q.slack == pytest.approx(0, abs=1e-15)  # attained at s = q
    away = get(checked(PAIR, [[0.4, 0.6], [0.4, 0.6]], k=INF, weights=[0.3, 0.7]), "Nash product")
    kl = 0.3 * math.log(0.3 / 0.4) + 0.7 * math.log(0.7 / 0.6)
    assert away.slack == pytest.approx(kl, rel=1e-12)  # and nowhere else
    assert away.value == pytest.approx(0.3 * math.log(0.3 * 5) + 0.7 * math.log(0.7 * 5))


# --- golden values


def golden(name: str):
    case = NASH[name]
    return np.array(case["rewards"], float).T, np.array(case["weights"], float), np.array(case["p"], float)


def test_a_compromise_breaks_the_main_text_and_fails_the_appendix_hypothesis():
    rewards, weights, limit = golden("compromise-wins")
    laws = play(rewards, U, INF, 3000, weights=weights)
    np.testing.assert_allclose(laws[-1], limit, atol=1e-8)
    found = checked(rewards, laws[:50], weights=weights, k=INF)
    main, appendix = get(found, MAIN_TEXT), get(found, APPENDIX)
    assert (main.verdict, main.round) == ("violated", 1)
    assert appendix.verdict == "does not apply"
    u = np.exp(rewards)
    peak = (weights * u[2] / u.mean(axis=0)).sum()
    assert f"sup of W outside the basins is {peak:.4g} >= 1 in round 0" in appendix.why
    assert main.measured == pytest.approx(peak / 3)


def test_two_disjoint_groups_end_at_the_golden_share():
    rewards, weights, limit = golden("two-disjoint")
    laws = play(rewards, [0.5, 0.5], INF, 30, weights=weights)
    found = checked(rewards, laws, weights=weights, k=INF)
    bound = get(found, "two-atom limit")
    assert bound.verdict == "holds"
    assert bound.value == pytest.approx(limit[0], rel=1e-15)
    assert bound.measured == pytest.approx(limit[0], abs=1e-12)
    assert get(found, "Nash share").measured == pytest.approx(weights[0] - limit[0])
    early = get(checked(rewards, laws[:3], weights=weights, k=INF), "Nash share")
    assert "not settled yet" in early.why


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda c: c["name"])
def test_golden_trajectories_break_nothing(case):
    real = 0.0 if case["lam"] is None else 1 / (1 + float(case["lam"]))
    found = checked(
        np.array(case["rewards"], float).T,
        np.array(case["p"], float),
        weights=np.array(case["weights"], float),
        k=float(case["K"]),
        real_fraction=real,
        reference=np.array(case.get("p_ref") or case["p0"], float),
    )
    assert "violated" not in [b.verdict for b in found if b.name != MAIN_TEXT]


# --- extremes


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("k", [2, INF])
@pytest.mark.parametrize("real", [0.0, 0.75])
@pytest.mark.parametrize("law", [[0.25] * 4, [1e-300, 0.5, 0.5, 1e-300], [0.0, 0.3, 0.7, 0.0]])
def test_thousands_of_nats_and_masses_next_to_nothing(m, k, real, law):
    rewards = np.array([[5000.0, -5000, 1], [-5000, 5000, 2], [0, 0, 3], [4999, 3, 5000]])[:, :m]
    for rounds in (0, 1, 6):
        found = checked(rewards, play(rewards, law, k, rounds, real_fraction=real), k=k, real_fraction=real)
        for bound in found:
            consistent(bound)
            assert bound.verdict != "violated" or bound.name == MAIN_TEXT
            assert rounds > 0 or "only p_0 is given" in bound.why


@pytest.mark.parametrize("m", [1, 2, 3])
def test_one_atom(m):
    found = checked(np.zeros((1, m)), [[1.0], [1.0]], k=4)
    assert "violated" not in verdicts(found).values()
    assert (verdicts(found)["reward gain (Lemma 2.2)"] == "holds") == (m == 1)


def test_what_underflowed_is_not_concluded_from():
    rewards, law = np.array([0.0, -800.0]), np.array([0.0, 1.0])
    bound = get(checked(rewards, [[5e-324, 1.0], law], k=2), "reward gain")
    assert "keeps its digits (the least is" in bound.why


def test_rewards_shift_scale_and_unit():
    """Shifts and the rewards' unit change no verdict; eps is in the rewards' unit."""
    laws = play(R1, U, 4, 3)
    plain, moved = checked(R1, laws, k=4), checked(7 * R1 + 1e4, laws, k=4, temperature=7.0)
    for one, other in zip(plain, moved, strict=True):
        assert one.verdict == other.verdict
        assert one.value is None or one.value == pytest.approx(other.value, rel=1e-9)
    laws = play(PAIR, [0.4, 0.6], INF, 3)
    wide = get(checked(2 * PAIR, laws, k=INF, temperature=2.0, eps=10.0), "share interval")
    assert "disjoint basins, D_i > 2 eps (atoms in both: 2" in wide.why
    assert get(checked(2 * PAIR, laws, k=INF, temperature=2.0, eps=9.9), "share interval").verdict == "holds"


# --- hypotheses


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"noise": "gaussian"}, "the noise is gaussian"),
        ({"lapse": 0.25}, "a share 0.25 of the picks is random"),
        ({"keep": 2}, "2 are kept"),
        ({"stages": (2,)}, "slate sizes 4, 2"),
        ({"accumulate": True}, "data accumulate"),
        ({"efficacy": 0.5}, "it is 0.5"),
    ],
)
def test_other_rules_are_named(settings, why):
    laws = play(R1, U, 4, 2, real_fraction=0.95)
    found = checked(R1, laws, k=4, real_fraction=0.95, **settings)
    assert why in get(found, "reward gain").why
    general = {get(found, name).verdict for name in ("density ratio", "divergence")}
    assert general == ({"does not apply"} if "accumulate" in settings else {"holds"})


def test_stages_multiply_and_keeping_divides_in_theorem_2_4():
    laws = play(R1, U, 4, 2, real_fraction=0.8)
    settings = {"k": 4, "real_fraction": 0.8}
    assert get(checked(R1, laws, **settings), "density ratio").value == pytest.approx(0.8 / (1 - 0.2 * 4))
    halved = get(checked(R1, laws, keep=2, **settings), "density ratio")
    assert halved.value == pytest.approx(0.8 / (1 - 0.2 * 2))
    assert "a is 0.2, K is 16" in get(checked(R1, laws, stages=(4,), **settings), "density ratio").why
    other = get(checked(R1, laws, reference=[0.98, 0.01, 0.01], **settings), "density ratio")
    assert "sup p_0/p_ref is 33.33" in other.why


def test_theorem_2_4_is_tight_for_a_rare_best_item():
    """With K = 4, a = 0.2 and a best item of vanishing mass the ratio tends to 1/(1 - lambda (K-1)) = 4."""
    rewards, law = np.array([2000.0, 0.0]), np.array([1e-15, 1.0])

    def sure(r, p, k):
        return np.array([k, (1 - k * p[0]) / p[1]])  # best of k, p_0 -> 0

    laws = play(rewards, law, 4, 120, real_fraction=0.8, multiplier=sure)
    bound = get(checked(rewards, laws, k=4, real_fraction=0.8), "density ratio")
    assert bound.value == pytest.approx(4)
    assert 0 <= bound.slack < 1e-9


def test_given_multipliers_are_used():
    laws = play(TRIPLE, U, INF, 2)
    given = [np.array([1.4, 1.4, 0.1])] * 2
    settings = {"k": INF, "weights": [0.5, 0.5], "multipliers": given}
    assert verdicts(checked(TRIPLE, laws, **settings))[APPENDIX] == "holds"
    settings["multipliers"] = [np.array([1.4, 1.4, 1.5])] * 2
    assert "is 1.5 >= 1 in round 0" in get(checked(TRIPLE, laws, **settings), APPENDIX).why
    found = checked(R1, [U, U], k=2, real_fraction=0.9, multipliers=[[3.0, 0.0, 0.0]])
    assert "the largest W is 3, K is 2" in get(found, "density ratio").why


def test_a_group_below_the_leakage_has_no_interval():
    laws = play(PAIR, [0.5, 0.5], INF, 3, weights=[0.001, 0.999])
    bound = get(checked(PAIR, laws, k=INF, weights=[0.001, 0.999]), "share interval")
    assert "k_1 is 0.00674, q is 0.001, k_2 is 0.00674" in bound.why


def test_a_reward_without_weight_does_not_count():
    laws = play(R1, U, 4, 2)
    both = np.column_stack([np.array([9.0, -9.0, 0.0]), R1])
    assert checked(both, laws, k=4, weights=[0.0, 1.0]) == checked(R1, laws, k=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0}, {"k": 2.5}, {"temperature": 0.0}, {"real_fraction": 1.5}, {"efficacy": 2.0},
        {"lapse": -0.1}, {"keep": 5}, {"eps": -1.0}, {"weights": [0.5, 0.5]}, {"reference": [1.0]},
        {"multipliers": []}, {"rewards": [0.0, math.inf, 1.0]}, {"rewards": []},
        {"rewards": [0.0, 1e200, 1.0]},
    ],
)  # fmt: skip
def test_wrong_input_is_refused(wrong):
    with pytest.raises(InputError):
        checked(**{"rewards": R1, "laws": [U, U], "k": 4} | wrong)


@pytest.mark.parametrize(
    "laws", [[], [[0.5, 0.5]], [[1.0, 1.0, 1.0]], [[math.nan, 0.5, 0.5]], [[-0.5, 1.0, 0.5]]]
)
def test_wrong_laws_are_refused(laws):
    with pytest.raises(InputError, match="law"):
        check_bounds(Population(R1), Setting(Rule(4)), laws)


def test_a_population_brings_its_own_laws():
    population, setting = Population(R1, law=[0.2, 0.5, 0.3]), Setting(Rule(4), real_fraction=0.1, rounds=5)
    assert check_bounds(population, setting) == check_bounds(
        population, setting, list(population.play(setting))
    )


def test_rules_without_slates_are_refused():
    with pytest.raises(InputError, match="slates"):
        check_bounds(Population(R1), Setting(Rule(4), then=(Stage(TopFraction(0.5)),)))
