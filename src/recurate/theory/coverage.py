r"""Real data that cover a part of the candidates' rewards only: which part, and what that does to the loop.

*Coverage.* Cells of reward space hold about equal shares q_j of the candidates' law p_0; each has 25 of N
candidates or more, and n q_j >= 25. A cell is *uncovered* if fewer than ``SCARCE`` = 1/20 of the n q_j real
data that p_ref = p_0 would put there are found. The uncovered share is the p_0-mass of these cells. Where
p_ref = p_0, the real data in a cell of 25 candidates are, at n = N, negative binomial with r = 25, p = 1/2:
at most one has the probability 2^-25 (1 + 25/2) = 4e-7, so one of 128 cells is taken for uncovered in fewer
than 1e-4 of all pairs of samples; for other n / N it is rarer.

*Effect.* The same loop is played with p_ref = p_0, *full coverage*. The gap is reported if the last law of
that loop holds ``NOTABLE`` of its mass in uncovered cells and E exp(reward) ends lower by ``LOSS`` with the
real data as they are. Real data that lack only what selection removes anyway are not reported.

*Bound.* Let W <= w (w = K, stages multiply, by the number kept), a = 1 - rho and e the efficacy. The ratio
M_t = sup p_t / p_ref obeys M_{t+1} <= (1 - e) M_t + e (1 - a + a w M_t), so with g = 1 - e + e a w < 1

.. math:: M_T \le B + g^T (M_0 - B), \qquad B = \frac{1 - a}{1 - a w}, \qquad KL(p_T, p_{ref}) \le \log M_T,

which is Theorem 2.4 of Ferbach et al. 2024 (arXiv 2407.09499) if M_0 <= B (derived here, as is the rest). On
the uncovered cells together M_0 is at least their p_0-mass over the 95 % upper limit of their p_ref-mass, so
the bound that coverage allows is at least what this M_0 gives. Without real data a cell's mass grows by at
most a w per round: it dies out if a w < 1, that is rho > 1 - 1/w, and can stay otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray
from recurate.log.candidates import Candidates
from recurate.metrics.describe import Values
from recurate.metrics.partition import partition
from recurate.rules.rule import Rule
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting

SCARCE = 1 / 20  # part of its expected real data below which a cell is uncovered
NOTABLE = 0.05  # share of mass from which a gap is reported
LOSS = 0.01  # part of E exp(reward) from which it is


@dataclass(frozen=True)
class Gap:
    """The part of the candidates' rewards that real data do not cover, and its effect.

    Attributes:
        share: Share of the candidates' law in uncovered cells.
        held: Share of the last law in these cells, if real data were distributed like the candidates.
        ranges: Lowest and highest reward of the uncovered candidates, by reward.
        reward: Reward whose expectation loses most.
        exponential: Whether ``given`` and ``full`` are E exp(reward / temperature); else E reward.
        given: Expectation in the last round with the real data as they are.
        full: The same with full coverage.
        ratio: Lower limit of sup p_0 / p_ref (95 %), at least 1.
    """

    share: float
    held: float
    ranges: dict[str, tuple[float, float]]
    reward: str
    exponential: bool
    given: float
    full: float
    ratio: float


def uncovered(
    candidates: Candidates, reference: Candidates, law: FloatArray | None = None
) -> tuple[BoolArray, float]:
    """Return which candidates lie in uncovered cells, shape (n,), and the lower limit of sup p_0 / p_ref.

    Args:
        candidates: The candidates.
        reference: Real data with the same rewards.
        law: p_0, the masses of the candidates, shape (n,); None: that of the sample.
    """
    masses = candidates.sample_law if law is None else law
    masses = np.full(len(candidates), 1 / len(candidates)) if masses is None else masses
    real = float(reference.size)
    # Cells of 25 candidates or more, and of 25 expected real data or more.
    cells = partition(candidates.rewards, masses * min(candidates.size, real))
    own = cells.assign(candidates.rewards)
    q = np.bincount(own, masses, cells.reference.size)
    found = np.bincount(cells.assign(reference.rewards), reference.counts, cells.reference.size)
    lacking = found < SCARCE * real * q
    inside = lacking[own]
    if not lacking.any():
        return inside, 1.0
    return inside, max(float(q[lacking].sum()) * real / _most(float(found[lacking].sum())), 1.0)


def _most(count: float) -> float:
    """Return the exact 95 % upper limit of the mean of a Poisson count."""
    from scipy.special import gammaincinv

    return float(gammaincinv(count + 1, 0.95))


def gap_of(
    candidates: Candidates, reference: Candidates, law: FloatArray | None, setting: Setting, last: Values
) -> Gap | None:
    """Return what real data do not cover and what that does by the last round; None if it is not notable.

    Within contexts, and without real data in the retraining sets, nothing is reported.

    Args:
        candidates: The first round's candidates.
        reference: Real data.
        law: p_0; None: that of the sample.
        setting: The loop.
        last: Quantities of the last round with these real data.
    """
    mixed = setting.real_fraction > 0 or setting.accumulate
    if candidates.contexts is not None or not mixed or not setting.rounds:
        return None
    inside, ratio = uncovered(candidates, reference, law)
    if not inside.any():
        return None
    model = LoopModel.build(candidates, law, None, setting, None)
    *_, full = model.values()
    held = float(model.last_law[: len(candidates)] @ inside)
    lost = max((_loss(last, full, i, setting.temperature), i) for i in range(len(candidates.names)))
    (part, exponential, given, ideal), which = lost
    if held < NOTABLE or part < LOSS:
        return None
    rewards = candidates.rewards[inside]
    ends = zip(rewards.min(axis=0).tolist(), rewards.max(axis=0).tolist(), strict=True)
    return Gap(
        float(model.population.law @ inside), held, dict(zip(candidates.names, ends, strict=True)),
        candidates.names[which], exponential, given, ideal, ratio,
    )  # fmt: skip


def _loss(given: Values, full: Values, i: int, temperature: float) -> tuple[float, bool, float, float]:
    """Return the part of E exp(reward / tau) that is lost, whether it is that, and both expectations.

    Where exp(reward / tau) exceeds the range of doubles the part is 1 - exp(-d / tau), d being the difference
    of the mean rewards.
    """
    exps = [found.moments[i].get("mean_exp_reward") for found in (given, full)]
    if exps[0] is not None and exps[1] is not None:
        a, b = exps[0].value, exps[1].value
        return (1 - a / b if b > 0 else 0.0), True, a, b
    a, b = (found.moments[i]["mean_reward"].value for found in (given, full))
    return -math.expm1((a - b) / temperature), False, a, b


def about_gap(gap: Gap, setting: Setting) -> str:
    """Return what is uncovered, what it does, and what to do, as a warning."""
    quantity = f"E {gap.reward}"
    if gap.exponential:
        quantity = f"E exp({gap.reward}{'' if setting.temperature == 1 else ' / temperature'})"
    # Zero is added lest a reward of -0.0 be shown with its sign.
    where = ", ".join(f"{n} {low + 0.0:.3g} to {high + 0.0:.3g}" for n, (low, high) in gap.ranges.items())
    said = (
        f"real data are all but absent where {gap.share:.0%} of the candidates are ({where}): there "
        f"{gap.held:.0%} of the model would be in round {setting.rounds} with real data distributed like the "
        f"candidates. {quantity} is forecast {gap.given:.3g}, and {gap.full:.3g} with such data"
    )
    return f"{said}. {_about_bound(gap, setting)}{_remedy(gap, setting)}"


def long_run_warnings(
    candidates: Candidates, reference: Candidates | None, setting: Setting
) -> tuple[str, ...]:
    """Return the warning of :func:`about_gap` for a loop that is not forecast round by round, if any.

    Args:
        candidates: The first round's candidates.
        reference: Real data; None: p_ref = p_0, which covers all.
        setting: The loop, with so many rounds that it has settled.
    """
    if reference is None or candidates.contexts is not None or setting.real_fraction == 0:
        return ()
    if not uncovered(candidates, reference)[0].any():  # else many rounds would be played for nothing
        return ()
    model = LoopModel.build(candidates, None, reference, setting, None)
    *_, last = model.values()
    gap = gap_of(candidates, reference, None, model.setting, last)
    return () if gap is None else (about_gap(gap, model.setting),)


def _growth(setting: Setting) -> float | None:
    """Return w, the largest multiplier of a round; None where no bound is known."""
    rules = [stage.rule for stage in setting.stages if isinstance(stage.rule, Rule)]
    if len(rules) < len(setting.stages) or setting.accumulate:
        return None
    return max(math.prod(rule.largest for rule in rules) / rules[0].keep, 1.0)


def _about_bound(gap: Gap, setting: Setting) -> str:
    most, a = _growth(setting), 1 - setting.real_fraction
    if most is None:
        return ""
    if a * most >= 1:
        return "Theorem 2.4 bounds no divergence at this real fraction, whatever real data cover. "
    bound = (1 - a) / (1 - a * most)
    if gap.ratio <= bound:
        return f"Theorem 2.4's bound on the divergence stays {math.log(bound):.3g} nats. "
    growth = 1 - setting.efficacy * (1 - a * most)
    now = math.log(bound + growth**setting.rounds * (gap.ratio - bound))
    return (
        f"Theorem 2.4 would bound the divergence by {math.log(bound):.3g} nats with such data; with these "
        f"the bound in round {setting.rounds} is {now:.3g} nats at least. "
    )


def _remedy(gap: Gap, setting: Setting) -> str:
    most = _growth(setting)
    least = None if most is None else 1 - 1 / most
    collect = "Add real data with such rewards"
    if least is None or math.isinf(most or 0.0):
        return f"{collect}, or lower the real fraction"
    if setting.real_fraction > least:
        return (
            f"{collect}; or lower the real fraction from {setting.real_fraction:.3g} to below {least:.3g}: "
            "above it all dies out that real data lack"
        )
    return f"{collect}, or lower the real fraction from {setting.real_fraction:.3g}"
