"""What retraining passes on: laws that move part of the way, and planted parts that are found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates
from recurate.rules import Rule
from recurate.theory import transmission
from recurate.theory.setting import Setting, Stage
from recurate.theory.transmission import (
    DRIFT,
    EXACT,
    FADE,
    GROUPS,
    LIMITS,
    Level,
    Pulls,
    Step,
    laws_ahead,
    moved,
    pulled,
    renewed,
)

SETTING = Setting(Rule(k=4), picks=3000, rounds=6)
NAMES = np.array(["a", "b", "c"])


def laws(count: int = 6) -> st.SearchStrategy:
    masses = st.lists(st.floats(0.01, 1.0), min_size=count, max_size=count)
    return masses.map(lambda m: np.array(m) / np.sum(m))


@given(laws(), laws(), st.floats(0, 1), st.floats(0, 1))
def test_shares_and_what_is_within_groups_move_their_own_parts(law, target, between, within):
    codes = np.array([0, 0, 1, 1, 2, 2])
    found = moved(law, target, codes, between, within)
    assert found.sum() == pytest.approx(1)
    for part in (law, target, found):
        assert (part >= 0).all()
    shares = [np.bincount(codes, p) for p in (law, target, found)]
    assert shares[2] == pytest.approx(shares[0] + between * (shares[1] - shares[0]))
    inside = [p / s[codes] for p, s in zip((law, target, found), shares, strict=True)]
    assert inside[2] == pytest.approx(inside[0] + within * (inside[1] - inside[0]))


@given(laws(), laws(), st.floats(0, 1))
def test_one_part_for_all_is_the_efficacy(law, target, part):
    codes = np.array([0, 0, 1, 1, 2, 2])
    assert moved(law, target, None, part, part) == pytest.approx(law + part * (target - law))
    assert moved(law, target, codes, part, part) == pytest.approx(law + part * (target - law))


def test_a_group_that_one_law_lacks_has_the_law_of_the_other():
    codes = np.array([0, 0, 1])
    gained = moved(np.array([0.5, 0.5, 0.0]), np.array([0.3, 0.3, 0.4]), codes, 0.5, 0.0)
    assert gained == pytest.approx([0.4, 0.4, 0.2])
    lost = moved(np.array([0.3, 0.3, 0.4]), np.array([0.5, 0.5, 0.0]), codes, 0.5, 1.0)
    assert lost == pytest.approx([0.4, 0.4, 0.2])


@given(laws(), st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_pulls_multiply_the_odds_of_groups(law, pulls):
    codes = np.array([0, 0, 1, 1, 2, 2])
    found, b = pulled(law, codes, np.array(pulls)), np.array(pulls)
    shares, own = np.bincount(codes, found), np.bincount(codes, law)
    assert shares / shares[0] == pytest.approx(own / own[0] * np.exp(b - b[0]))


def test_a_level_is_kalmans():
    level = Level(0.5, 0.04).seen(1.0, 0.04)
    assert level.mean == pytest.approx(0.75)
    assert level.variance == pytest.approx(0.02 + DRIFT**2)
    unseen = Level(0.5, 0.04).seen(9.0, np.inf)
    assert (unseen.mean, unseen.rounds) == (0.5, 0)


def test_pulls_of_groups_too_small_to_tell_stay_unknown():
    pulls = Pulls.none(2).seen(np.array([0.999, 0.001]), np.array([0.9, 0.1]), 1000, 1000)
    assert pulls.means[1] == 0.0
    assert pulls.means[0] < 0


def sample(law, atoms, groups, count, rng) -> Candidates:
    rows = rng.choice(len(law), count, p=law)
    return Candidates(atoms[rows, None], ("reward",), groups=groups[rows], labels=tuple(NAMES))


def loop(seed: int, between: float, within: float, pulls=None, rounds: int = 6, count: int = 6000) -> list:
    """Return the candidates of a loop whose retraining passes on known parts."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(3), 2000)
    atoms = rng.normal(0.5 * codes, 1.0)
    everything = Candidates(atoms[:, None], ("reward",), groups=NAMES[codes], labels=tuple(NAMES))
    step = Step.of(everything, SETTING, everything, None)
    found = [step.law, *laws_ahead(step, [(between, within, pulls)] * (rounds - 1))]
    return [sample(law, atoms, NAMES[codes], count, rng) for law in found]


@pytest.mark.parametrize(("between", "within"), [(0.9, 0.2), (0.4, 0.8), (1.0, 1.0), (0.6, 0.6)])
def test_planted_parts_are_found(between, within):
    """Each within 4 standard errors; the error of a level that is constant is below that which is stated."""
    found = renewed(loop(0, between, within), SETTING).transmission
    for level, planted in ((found.between, between), (found.within, within)):
        assert level.rounds == 5
        assert abs(level.mean - planted) < 4 * np.sqrt(level.variance)
        assert abs(level.mean - planted) < 0.25


def test_the_form_is_chosen_by_rounds_that_it_had_not_seen():
    errors = renewed(loop(1, 1.0, 1.0), SETTING).transmission.errors
    assert errors[EXACT] < 1.5 * min(errors.values()), "nothing is lost: all forms know it"
    apart = renewed(loop(1, 0.9, 0.1), SETTING).transmission
    assert apart.form == GROUPS
    assert apart.errors[GROUPS] < 0.5 * apart.errors[EXACT]


def test_planted_pulls_are_found():
    planted = np.array([0.15, -0.3, 0.15])  # a pull along the selection could not be told from a larger part
    found = renewed(loop(2, 0.9, 0.3, planted), SETTING).transmission
    assert found.pulls is not None
    gaps = found.pulls.means - planted
    assert np.ptp(gaps) < 0.15, "up to a constant"


def test_forecasts_two_and_four_rounds_ahead_beat_those_that_pass_on_everything():
    rounds = loop(3, 0.8, 0.2, rounds=7)
    known = renewed(rounds[:3], SETTING, ahead=4, stream=Stream(0))
    step = Step.of(rounds[2], SETTING, rounds[0], None)
    whole = list(laws_ahead(step, [(1.0, 1.0, None)] * 4))
    for lead in (2, 4):
        actual = rounds[2 + lead].rewards.mean()
        (row,) = (r for r in known.rows if (r.round, r.quantity) == (2 + lead, "mean_reward"))
        exact = step.values(whole[lead - 1]).moments[0]["mean_reward"].value
        assert abs(row.value - actual) < 0.3 * abs(exact - actual)


@pytest.mark.slow
def test_bands_hold_what_is_measured():
    """Of 40 loops whose parts do not drift, at least 95 % of mean rewards lie in the bands, up to chance.

    The bands allow for drift, and are wide for such loops: fewer than binomial(n, 0.95) has with probability
    1e-3 would be a fault.
    """
    inside = []
    for seed in range(40):
        rounds = loop(100 + seed, 0.8, 0.3, rounds=6, count=2000)
        found = renewed(rounds[:3], SETTING, ahead=3, stream=Stream(seed))
        for lead in (1, 3):
            (row,) = (r for r in found.rows if (r.round, r.quantity) == (2 + lead, "mean_reward"))
            inside.append(row.lower <= rounds[2 + lead].rewards.mean() <= row.upper)
    assert sum(inside) >= binom.ppf(1e-3, len(inside), 0.95)


def test_a_loss_beyond_what_was_selected_is_followed_and_fades():
    """Retraining that moves away from what was selected, as where it blurs samples and blur is punished."""
    assert (Level(0.5).usable, Level(-0.5).usable, Level(-3.0).usable, Level(2.0).usable) == (
        0.5, -0.5 * FADE, LIMITS[0], 1.0,
    )  # fmt: skip
    rounds = loop(6, 0.8, -0.4)
    found = renewed(rounds[:4], SETTING, ahead=1)
    (row,) = (r for r in found.rows if (r.round, r.quantity) == (4, "mean_reward"))
    persistence = abs(rounds[3].rewards.mean() - rounds[4].rewards.mean())
    assert abs(row.value - rounds[4].rewards.mean()) < 0.5 * persistence


def test_the_picks_that_were_made_are_the_next_training_set():
    rounds = loop(7, 0.9, 0.9, rounds=2)
    reward = rounds[1].rewards[:, 0]
    made = np.argsort(-reward)[: len(reward) // 8]  # by no rule of the setting
    picked = np.isin(np.arange(len(reward)), made)
    known = [rounds[0], replace(rounds[1], picked=picked)]
    step = Step.of(known[1], SETTING, rounds[0], None)
    assert step.known
    assert step.target == pytest.approx(picked / picked.sum())
    assert not Step.of(rounds[1], SETTING, rounds[0], None).known
    values = []
    for measured in (known, rounds):
        found = renewed(measured, SETTING, ahead=2, stream=Stream(0))
        values.append({r.round: r for r in found.rows if r.quantity == "mean_reward"})
    told, expected = values
    assert told[2].value > expected[2].value + 0.3, "the best eighth has a higher mean than Luce's picks"
    assert told[2].value == pytest.approx(
        reward.mean() + 0.9 * (reward[made].mean() - reward.mean()), abs=0.1
    )


def test_prompts_are_given_whatever_is_picked_for_them():
    """Three of four picks are of one context: each context keeps its share, one without a pick its law."""
    contexts = np.repeat(["p", "q", "r"], [600, 600, 800])
    now = Candidates(np.random.default_rng(0).normal(size=(2000, 1)), ("reward",), contexts=contexts)
    picked = np.zeros(2000, bool)
    picked[[0, 1, 2, 600]] = True
    step = Step.of(replace(now, picked=picked), SETTING, now, None)
    assert step.known
    assert [step.target[contexts == c].sum() for c in "pqr"] == pytest.approx([0.3, 0.3, 0.4])
    assert step.target[[0, 600, 1200]] == pytest.approx([0.1, 0.3, 1 / 2000])
    reward = now.rewards[:, 0] + np.repeat([0, 1, 2], [600, 600, 800])  # alike across contexts, too
    best = np.arange(4) == np.argmax(reward.reshape(-1, 4), axis=1)[:, None]
    step = Step.of(replace(now, rewards=reward[:, None], picked=best.ravel()), SETTING, now, None)
    lost = step.after(-0.4, -0.4)
    assert [lost[contexts == c].sum() for c in "pqr"] == pytest.approx([0.3, 0.3, 0.4], abs=0.01)


@pytest.mark.parametrize("k", [2, 8])
@pytest.mark.parametrize("real_fraction", [0.0, 0.3])
def test_a_loss_takes_as_much_from_the_picks_as_from_those_expected(k, real_fraction):
    """A pick is one atom, and the move away from it is larger than its mass: its like lose it."""
    now = loop(9, 1.0, 1.0, rounds=1)[0]
    reward, rng = now.rewards[:, 0], np.random.default_rng(0)
    slates = reward.reshape(-1, k)
    best = np.argmax(slates + rng.gumbel(size=slates.shape), axis=1)
    picked = (np.arange(k) == best[:, None]).ravel()
    step = Step.of(replace(now, picked=picked), Setting(Rule(k), real_fraction=real_fraction), now, None)
    assert step.known
    asked = step.target @ step.model.describer.candidates.rewards[:, 0] - reward.mean()
    found = step.values(step.after(-0.4, -0.4)).moments[0]["mean_reward"].value - reward.mean()
    assert found == pytest.approx(-0.4 * asked, rel=0.15)


def test_bands_of_a_thinned_pool_are_those_of_the_picks_that_were_made(monkeypatch):
    """The picks are the lowest eighth, against the rule: bands about the rule's picks would lie above."""
    rounds = loop(10, 0.9, 0.9, rounds=2, count=4000)
    reward = rounds[1].rewards[:, 0]
    rounds[1] = replace(rounds[1], picked=np.argsort(np.argsort(reward)) < len(reward) // 8)
    bands = []
    for most in (transmission.MOST, 1000):
        monkeypatch.setattr(transmission, "MOST", most)
        found = renewed(rounds, SETTING, ahead=1, stream=Stream(0))
        (row,) = (r for r in found.rows if (r.round, r.quantity) == (2, "mean_reward"))
        bands.append((row.value, row.lower, row.upper))
    whole, thinned = bands
    assert thinned[0] == whole[0]
    assert thinned[1:] == pytest.approx(whole[1:], abs=0.3 * (whole[2] - whole[1]))


def test_candidates_of_two_stages_have_no_such_training_set():
    now = loop(8, 1.0, 1.0, rounds=1)[0]
    staged = Setting(Rule(2), then=(Stage(Rule(2)),))
    assert not Step.of(replace(now, picked=np.arange(len(now)) % 2 == 0), staged, now, None).known


def test_the_first_round_ahead_knows_nothing_yet():
    rounds = loop(4, 0.5, 0.5, rounds=3)
    found = renewed(rounds, SETTING)
    step = Step.of(rounds[0], SETTING, rounds[0], None)
    (row,) = (r for r in found.rows if (r.round, r.quantity) == (1, "mean_reward"))
    assert row.value == pytest.approx(step.values(step.target).moments[0]["mean_reward"].value)


def test_loops_without_groups_have_one_part():
    rounds = [Candidates(c.rewards, c.names) for c in loop(5, 0.5, 0.5)]
    found = renewed(rounds, SETTING, ahead=2, stream=Stream(0))
    assert found.transmission.pulls is None
    assert found.transmission.one.mean == pytest.approx(0.5, abs=0.1)
    assert {r.round for r in found.rows if r.lower is not None} == {6, 7}


def test_atoms_that_stand_for_several_candidates_count_as_those():
    rounds = loop(3, 0.7, 0.4, count=400)
    spelled = [c.take(np.repeat(np.arange(len(c)), 1 + np.arange(len(c)) % 3)) for c in rounds]
    counted = [replace(c, counts=1.0 + np.arange(len(c)) % 3) for c in rounds]
    one, other = (renewed(r, SETTING, ahead=2) for r in (counted, spelled))
    for part, whole in zip(one.passed, other.passed, strict=True):
        for name in ("one", "between", "within"):
            mine, theirs = getattr(part, name), getattr(whole, name)
            assert (mine.value, mine.variance) == pytest.approx((theirs.value, theirs.variance), rel=1e-9)
    assert [r.value for r in one.rows] == pytest.approx([r.value for r in other.rows], rel=1e-9)


def test_bands_of_large_pools_rest_on_fewer_atoms_and_are_as_wide(monkeypatch):
    rounds = loop(4, 0.7, 0.4)
    found = []
    for most in (transmission.MOST, 1500):
        monkeypatch.setattr(transmission, "MOST", most)
        found.append(renewed(rounds, SETTING, ahead=2, stream=Stream(1)).rows)
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a.lower is not None]
    assert pairs
    for whole, thin in pairs:
        assert thin.value == whole.value
        if whole.quantity == "effective_support":
            assert thin.lower is None, "fewer atoms do not tell how many there are"
            continue
        # Bands rest on 64 loops: their standard deviations are within 9 % (one standard error) each.
        assert thin.upper - thin.lower == pytest.approx(whole.upper - whole.lower, rel=0.5), whole.key
