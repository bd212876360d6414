r"""What retraining passes on of a selection, learned round by round, and forecasts renewed with it.

Retraining moves a model only part of the way from its law p_t to its training law d_t
(:mod:`recurate.theory.setting`), and a classifier's or a person's groups are passed on more faithfully than
what distinguishes samples within a group. With groups g, their shares s(g) and the laws p(. | g) within them,

.. math:: s_{t+1} = s_t + \beta_t (s^d_t - s_t), \qquad
          p_{t+1}(\cdot | g) = p_t(\cdot | g) + \omega_t (d_t(\cdot | g) - p_t(\cdot | g)),

beta_t and omega_t at most 1, and below 0 where retraining loses more than was selected; with one group, or
beta = omega, this is the efficacy of :mod:`recurate.theory.renewal`. Each round shows one noisy value of
each: the weighted least-squares slope of the measured changes on those that selection asks for. They drift
from round to round, so they are tracked as local levels by Kalman's filter (Harvey, *Forecasting, structural
time series models and the Kalman filter*, 1989, section 4.1); what it predicts of the rounds ahead, with its
error, enters forecasts and their bands.

The three forms (*exact*: beta = omega = 1; *one*: beta = omega; *groups*: both) are compared by their errors
one round ahead, each made before its round was seen. This model is this package's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates
from recurate.log.trajectory import RENEWED, Row
from recurate.metrics.describe import Describer, Values
from recurate.metrics.estimates import NORMAL_975
from recurate.metrics.partition import Cells
from recurate.theory.loop_model import LoopModel
from recurate.theory.setting import Setting, mix

EXACT, ONE, GROUPS = "exact", "one", "groups"
# The constants of drift, fading and chance were chosen on loops that benchmarks/fidelity.py has as seed 0.
START, UNSURE = 1.0, 0.5  # mean and standard deviation of a level before any round
PULL, WANDER, CHANCE = 0.2, 0.03, 0.03  # of pulls: spread between groups, change and chance per round
DRIFT = 0.15  # standard deviation of a level's change per round
FADE = 0.5  # part of a level below 0 that is expected again: the first retrainings blur most
LIMITS = -1.0, 1.25  # of courses: retraining may also lose what a model had, or overshoot
LIKE = 50  # candidates of like reward over which a training law is spread where a model moves away from it
FEWEST = 5  # candidates that a group should have to tell its pull
DRAWS = 64  # loops behind the bands
MOST = 20_000  # atoms of a loop behind the bands


@dataclass(frozen=True)
class Level:
    """A part of the way that retraining moves a model, as it is known after some rounds.

    Attributes:
        mean: Its mean; below 0 retraining loses more than was selected, as where it blurs samples.
        variance: Its variance.
        rounds: Number of rounds that it rests on.
    """

    mean: float = START
    variance: float = UNSURE**2
    rounds: int = 0

    def seen(self, slope: float, variance: float) -> Level:
        """Return the level of the next round, after one round showed a slope with an error."""
        if not math.isfinite(variance):
            return replace(self, variance=self.variance + DRIFT**2)
        gain = self.variance / (self.variance + variance)
        after = (1 - gain) * self.variance
        return Level(self.mean + gain * (slope - self.mean), after + DRIFT**2, self.rounds + 1)

    def expected(self, ahead: int = 1) -> float:
        """Return the mean some rounds ahead, cut to LIMITS[0] and 1; below 0 it fades from round to round."""
        return min(max(self.mean, FADE**ahead * self.mean, LIMITS[0]), 1.0)

    @property
    def usable(self) -> float:
        """What is expected one round ahead."""
        return self.expected()

    def path(self, rounds: int, draw: np.random.Generator) -> FloatArray:
        """Return one possible course over the rounds ahead, cut to LIMITS, shape (rounds,)."""
        middle = np.array([self.expected(t) for t in range(1, rounds + 1)])
        start = math.sqrt(self.variance) * draw.standard_normal()
        steps = np.concatenate([[0.0], DRIFT * draw.standard_normal(max(rounds - 1, 0))])
        return np.asarray(np.clip(middle + start + np.cumsum(steps)[:rounds], *LIMITS))


@dataclass(frozen=True)
class Pulls:
    r"""The factors exp(b_g) by which retraining draws shares towards some groups, whatever was selected.

    Attributes:
        means: Means of b, shape (groups,).
        variances: Variances of b, shape (groups,).
    """

    means: FloatArray
    variances: FloatArray

    @classmethod
    def none(cls, groups: int) -> Pulls:
        """Return what is known before any round."""
        return cls(np.zeros(groups), np.full(groups, PULL**2))

    def seen(self, predicted: FloatArray, found: FloatArray, size: int, picks: int) -> Pulls:
        """Return the pulls of the next round, after shares were predicted and found, each (groups,)."""
        usable = (predicted * size >= FEWEST) & (found > 0)
        safe = np.where(usable, predicted, 1.0)
        gap = np.log(np.where(usable, found, 1.0) / safe)
        noise = (1 - safe) / safe * (1 / size + 1 / picks) + CHANCE**2
        gain = np.where(usable, self.variances / (self.variances + noise), 0.0)
        means = self.means + gain * (gap - self.means)
        return Pulls(means, (1 - gain) * self.variances + WANDER**2)

    def path(self, rounds: int, draw: np.random.Generator) -> FloatArray:
        """Return one possible course over the rounds ahead, shape (rounds, groups)."""
        groups = self.means.size
        start = self.means + np.sqrt(self.variances) * draw.standard_normal(groups)
        steps = WANDER * draw.standard_normal((rounds, groups))
        found = start + np.cumsum(steps, axis=0) - steps[0]
        return np.asarray(found + CHANCE * draw.standard_normal((rounds, groups)))


@dataclass(frozen=True)
class Slope:
    """A least-squares slope with its variance; infinite if there was nothing to see."""

    value: float
    variance: float


@dataclass(frozen=True)
class Passed:
    """What one round's retraining passed on.

    Attributes:
        one: Slope over all, of the mean rewards.
        between: Slope of the shares of groups.
        within: Slope of the mean rewards within groups.
    """

    one: Slope
    between: Slope
    within: Slope


Course = tuple[float, float, FloatArray | None]  # beta, omega and the pulls b of a round


@dataclass(frozen=True)
class Transmission:
    """What is known of retraining after some rounds.

    Attributes:
        form: ``exact``, ``one`` or ``groups``.
        one: Level of the form ``one``.
        between: Level of the shares of groups.
        within: Level within groups.
        pulls: Pulls of the form ``groups``; None without groups.
        errors: Root-mean-square error one round ahead of each form, relative to the measured values' errors.
    """

    form: str
    one: Level
    between: Level
    within: Level
    pulls: Pulls | None
    errors: dict[str, float]

    def levels(self, form: str | None = None, ahead: int = 1) -> tuple[float, float]:
        """Return beta and omega some rounds ahead."""
        form = self.form if form is None else form
        if form == EXACT:
            return 1.0, 1.0
        if form == ONE:
            return self.one.expected(ahead), self.one.expected(ahead)
        return self.between.expected(ahead), self.within.expected(ahead)

    def course(self, form: str | None = None, ahead: int = 1) -> Course:
        """Return the course that is expected some rounds ahead."""
        form = self.form if form is None else form
        pulls = self.pulls.means if form == GROUPS and self.pulls is not None else None
        return (*self.levels(form, ahead), pulls)

    def courses(self, rounds: int, draw: np.random.Generator) -> list[Course]:
        """Return possible courses of the rounds ahead.

        Where the form is ``exact``, those of ``one`` are drawn: that nothing was lost so far is no certainty.
        """
        one = self.one.path(rounds, draw)
        between, within = self.between.path(rounds, draw), self.within.path(rounds, draw)
        pulls = None if self.pulls is None else self.pulls.path(rounds, draw)
        if self.form != GROUPS:
            between = within = one
        return [
            (float(between[t]), float(within[t]), None if pulls is None else pulls[t]) for t in range(rounds)
        ]


@dataclass(frozen=True)
class Renewed:
    """Forecasts that know what earlier rounds showed.

    Attributes:
        rows: Rows of source ``renewed``: of every measured round from the second on, made one round before,
            and of the rounds ahead, made from the last round.
        transmission: What is known after the last round.
        passed: What each round's retraining passed on.
        known: Number of rounds whose training law is that of the picks that were made.
    """

    rows: tuple[Row, ...]
    transmission: Transmission
    passed: tuple[Passed, ...]
    known: int = 0


def renewed(
    rounds: Sequence[Candidates],
    setting: Setting,
    reference: Candidates | None = None,
    cells: Cells | None = None,
    *,
    ahead: int = 0,
    stream: Stream | None = None,
) -> Renewed:
    """Learn the transmission from measured rounds, and forecast with it.

    Args:
        rounds: The measured candidates of rounds 0, 1, ..., at least two rounds.
        setting: The selection and retraining of every round; its efficacy is not used. Not accumulating.
        reference: Real data; None: p_ref = p_0, the first round's candidates.
        cells: The partition behind ``kl_to_reference``; None leaves it out.
        ahead: Number of rounds to forecast after the last.
        stream: The random stream of the bands of these rounds; None: no bands.
    """
    starts = rounds if ahead else rounds[:-1]  # what the last round selects matters to the rounds ahead alone
    steps = [Step.of(now, setting, reference or rounds[0], cells) for now in starts]
    groups = len(steps[0].model.describer.group_names)
    pulls = Pulls.none(groups) if groups else None
    known, passed, rows = Transmission(EXACT, Level(), Level(), Level(), pulls, {}), [], []
    misses: dict[str, list[float]] = {form: [] for form in (EXACT, ONE, GROUPS)}
    for t, (now, after) in enumerate(zip(steps, rounds[1:], strict=False)):
        measured = now.describer_of(after).values()
        if t:  # nothing was known before the first retraining
            for form in misses:
                predicted = now.values(now.after(*known.course(form)))
                misses[form].append(_miss(predicted, measured))
        rows += now.model.describer.rows(t + 1, RENEWED, now.values(now.after(*known.course())))
        found = _passed(now, after, setting)
        passed.append(found)
        known = _learned(known, found, misses, now, after)
    if ahead:
        rows += _ahead(steps[-1], known, ahead, len(rounds) - 1, setting, stream)
    return Renewed(tuple(rows), known, tuple(passed), sum(step.known for step in steps))


def _learned(
    known: Transmission, found: Passed, misses: dict[str, list[float]], now: Step, after: Candidates
) -> Transmission:
    one, between, within = (
        level.seen(slope.value, slope.variance)
        for level, slope in (
            (known.one, found.one),
            (known.between, found.between),
            (known.within, found.within),
        )
    )
    errors = {form: float(np.sqrt(np.mean(np.square(e)))) for form, e in misses.items() if e}
    usable = [f for f in (EXACT, ONE, GROUPS) if now.codes is not None or f != GROUPS]
    form = min(usable, key=lambda f: errors[f]) if errors else usable[-1]
    pulls = known.pulls
    if pulls is not None and now.codes is not None:
        count = pulls.means.size
        law = now.after(between.expected(0), within.expected(0))  # of this round, which has not faded
        predicted = np.asarray(np.bincount(now.codes, law, count), float)
        codes = now.describer_of(after).codes
        assert codes is not None
        shares = np.asarray(np.bincount(codes, _measured_law(after), count), float)
        pulls = pulls.seen(predicted, shares, after.size, now.model.setting.picks or after.size)
    return Transmission(form, one, between, within, pulls, errors)


@dataclass(frozen=True)
class Step:
    """One round's candidates, and the law that the model is trained on next.

    Attributes:
        model: The loop from these candidates on, of one round.
        target: d_t on the model's atoms, shape (atoms,).
        known: Whether d_t is the law of the picks that were made, rather than of those to be expected.
    """

    model: LoopModel
    target: FloatArray
    known: bool = False

    @classmethod
    def of(cls, now: Candidates, setting: Setting, reference: Candidates, cells: Cells | None) -> Step:
        """Return the step from a round's candidates."""
        own = replace(setting, rounds=1, efficacy=1.0, accumulate=False)
        model = LoopModel.build(now, None, reference if setting.real_fraction else None, own, cells)
        names = tuple(sorted({*model.describer.group_names, *now.labels}))
        model = replace(model, describer=replace(model.describer, group_names=names))
        model = replace(model, has_kl=cells is not None)
        made = _of_picks(model, now)
        if made is not None:
            return cls(model, made, True)
        return cls(model, trained(model, model.population.law))

    @property
    def law(self) -> FloatArray:
        """p_t on the model's atoms, shape (atoms,)."""
        return self.model.population.law

    @cached_property
    def size(self) -> int:
        """The number of candidates that were measured; an atom may stand for several."""
        counts, atoms = self.model.describer.candidates.counts, self.model.candidates
        return atoms if counts is None else round(float(counts[:atoms].sum()))

    @cached_property
    def codes(self) -> IntArray | None:
        """The group of each atom, shape (atoms,), or None without groups."""
        return self.model.describer.codes

    def after(self, between: float, within: float, pulls: FloatArray | None = None) -> FloatArray:
        """Return the next law, shape (atoms,)."""
        return self.moved(self.law, self.target, (between, within, pulls))

    def moved(self, law: FloatArray, target: FloatArray, course: Course) -> FloatArray:
        """Return the law that a course makes of a law and its training law, each (atoms,)."""
        between, within, pulls = course
        if not 0 <= within <= 1:
            target = over_cells(target, law, self.alike)
        return pulled(moved(law, target, self.codes, between, within), self.codes, pulls)

    @cached_property
    def alike(self) -> IntArray:
        """Cells of at most LIKE atoms of one group, one context and like weighted reward, shape (atoms,)."""
        rewards = self.model.population.rewards @ self.model.population.weights
        codes = np.zeros(len(rewards), int) if self.codes is None else self.codes
        if self.model.context_codes is not None and self.model.residuals is None:
            codes = codes + (int(codes.max()) + 1) * self.model.context_codes
        order = np.lexsort((rewards, codes))
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        cells = np.empty(len(order), int)
        cells[order] = np.cumsum(place % LIKE == 0) - 1
        return cells

    def values(self, law: FloatArray) -> Values:
        """Return the quantities of a law."""
        return self.model.describe(law)

    def describer_of(self, other: Candidates) -> Describer:
        """Return what describes other candidates by the same groups."""
        own = self.model.describer
        return Describer(other, own.temperature, own.group_names)


def _measured_law(candidates: Candidates) -> FloatArray:
    """Return the share of each row among measured candidates, shape (n,)."""
    law = candidates.sample_law
    return np.full(len(candidates), 1 / len(candidates)) if law is None else law


def _of_picks(model: LoopModel, now: Candidates) -> FloatArray | None:
    """Return the training law of the picks that were made, (atoms,); None where they do not tell it."""
    setting, law = model.setting, model.population.law
    if now.picked is None or not now.picked.any() or now.counts is not None:
        return None
    if model.residuals is not None or setting.then:  # atoms are no candidates, or picks are not yet the last
        return None
    rows = np.flatnonzero(now.picked)
    batch = np.zeros(len(law))
    batch[rows] = 1 / len(rows)
    if model.context_codes is not None:
        batch = _of_contexts(batch, law, model.context_codes)
    return mix(batch, model.population.reference, setting.real_fraction) if setting.real_fraction else batch


def _of_contexts(batch: FloatArray, law: FloatArray, codes: IntArray) -> FloatArray:
    """Return a law with the contexts' shares of another: contexts are given, whatever is picked for them.

    A context without a pick keeps its law, as in :meth:`recurate.theory.population.Population.resample`.
    """
    own, made = np.bincount(codes, law), np.bincount(codes, batch)
    scale = np.where(made > 0, own / np.where(made > 0, made, 1.0), 0.0)
    return np.asarray(np.where(made[codes] > 0, batch * scale[codes], law))


def trained(model: LoopModel, law: FloatArray) -> FloatArray:
    """Return the training law of a law, shape (atoms,)."""
    setting = model.setting
    batch = model.population.select(law, setting.stages)
    if setting.real_fraction:
        batch = mix(batch, model.population.reference, setting.real_fraction)
    return batch


def moved(
    law: FloatArray, target: FloatArray, codes: IntArray | None, between: float, within: float
) -> FloatArray:
    r"""Return the law that retraining makes of a law and its training law.

    Args:
        law: p_t, shape (atoms,).
        target: d_t, shape (atoms,).
        codes: Group of each atom, shape (atoms,); None: one group.
        between: beta, the part of the way that shares of groups move, at most 1; no law has mass below 0.
        within: omega, that of the laws within groups, alike.

    >>> moved(np.array([0.5, 0.5]), np.array([0.2, 0.8]), np.array([0, 1]), 0.5, 0.0)
    array([0.35, 0.65])
    """
    if codes is None or between == within:
        return np.maximum(law + within * (target - law), 0.0)
    count = int(codes.max()) + 1
    own, aim = np.bincount(codes, law, count), np.bincount(codes, target, count)
    shares = np.maximum(own + between * (aim - own), 0.0)
    # A group that one of the two lacks has the law of the other.
    part = np.where(own > 0, np.where(aim > 0, within, 0.0), 1.0)
    old = ((1 - part) * shares / np.where(own > 0, own, 1.0))[codes]
    new = (part * shares / np.where(aim > 0, aim, 1.0))[codes]
    return np.maximum(old * law + new * target, 0.0)


def over_cells(target: FloatArray, law: FloatArray, cells: IntArray) -> FloatArray:
    """Return a training law whose mass in each cell is spread as a law's is, (atoms,).

    Beyond [0, 1] the move from p to d is no mixture. Where picks or real data are few atoms, p - |w| (d - p)
    would take more from these than they have, and lose nearly all of the move; from their like it can be
    taken. A cell that the law lacks keeps its masses.
    """
    own, made = np.bincount(cells, law), np.bincount(cells, target)
    scale = made / np.where(own > 0, own, 1.0)
    return np.asarray(np.where(own[cells] > 0, law * scale[cells], target))


def pulled(law: FloatArray, codes: IntArray | None, pulls: FloatArray | None) -> FloatArray:
    """Return a law, normalised, whose groups have gained by factors exp(b), shape (atoms,)."""
    found = law if pulls is None or codes is None else law * np.exp(pulls)[codes]
    return np.asarray(found / found.sum())


# --- what one round passed on ---------------------------------------------------------------------


def _passed(now: Step, after: Candidates, setting: Setting) -> Passed:
    """Return the slopes of the measured changes on those that selection asks for."""
    codes, count = now.codes, now.model.candidates
    picks = setting.picks or after.size
    share = 0.0 if now.known else 1.0 - setting.real_fraction  # of the training set that is left to chance
    changes = [_mean_changes(now, after, None, None, picks, share)]
    if codes is None:
        return Passed(_slope(changes[0]), Slope(START, math.inf), _slope(changes[0]))
    own = now.describer_of(after).codes
    assert own is not None
    between = _share_changes(now, codes, after, own, picks, share)
    within = []
    for group in range(len(now.model.describer.group_names)):
        here, there = codes == group, own == group
        if min(np.count_nonzero(here[:count]), np.count_nonzero(there)) >= 2:
            within += _mean_changes(now, after, here, there, picks, share)
    return Passed(_slope(changes[0]), _slope(between), _slope(within))


Change = tuple[
    float, float, float, float, float
]  # expected, measured, variances: before, after, of the picks


def _share_changes(
    now: Step, codes: IntArray, after: Candidates, own: IntArray, picks: int, share: float
) -> list[Change]:
    groups = len(now.model.describer.group_names)
    before, aim = np.bincount(codes, now.law, groups), np.bincount(codes, now.target, groups)
    then = np.bincount(own, _measured_law(after), groups)
    noise = [p * (1 - p) / n for p, n in ((before, now.size), (then, after.size))]
    drawn = share**2 * aim * (1 - aim) / picks
    floor = 0.25 / after.size**2  # of a group that did not occur
    return [
        (float(a - b), float(c - b), float(v), float(w + floor), float(d))
        for a, b, c, v, w, d in zip(aim, before, then, *noise, drawn, strict=True)
    ]


def _mean_changes(
    now: Step,
    after: Candidates,
    here: BoolArray | None,
    there: BoolArray | None,
    picks: int,
    share: float,
) -> list[Change]:
    """Return the change of each reward's mean, over all atoms or those of a group (masks here and there)."""
    old, aim = _within(now.law, here), _within(now.target, here)
    new = _within(_measured_law(after), there)
    if old is None or aim is None or new is None:
        return []
    found = []
    for own, then in zip(now.model.describer.candidates.rewards.T, after.rewards.T, strict=True):
        before, goal, reached = (float(law.law @ r) for law, r in ((old, own), (aim, own), (new, then)))
        errors = [
            float(law.law @ np.square(r - mean)) / max(law.part * size - correction, 1.0)
            for law, r, mean, size, correction in (
                (old, own, before, now.size, 0),
                (new, then, reached, after.size, 1),
                (aim, own, goal, picks, 0),
            )
        ]
        found.append((goal - before, reached - before, errors[0], errors[1], share**2 * errors[2]))
    return found


@dataclass(frozen=True)
class _Part:
    """A law restricted to a group: the conditional law on all atoms, and the group's mass."""

    law: FloatArray
    part: float


def _within(law: FloatArray, mask: BoolArray | None) -> _Part | None:
    own = law if mask is None else np.where(mask, law, 0.0)
    part = float(own.sum())
    return _Part(own / part, part) if part > 0 else None


def _slope(changes: Sequence[Change]) -> Slope:
    """Return the weighted least-squares slope; a bad fit increases its variance."""
    if not changes:
        return Slope(START, math.inf)
    x, y, before, after, drawn = np.array(changes, float).T
    slope, variance = START, math.inf
    for _ in range(3):  # the weights depend, weakly, on the slope
        part = min(max(slope, 0.0), 1.0)
        weight = 1.0 / np.maximum(after + part**2 * drawn + (1 - part) ** 2 * before, 1e-300)
        power = float(weight @ np.square(x))
        if power <= 1.0:  # noise exceeds the changes
            return Slope(START, math.inf)
        slope = float(weight @ (x * y)) / power
        misfit = float(weight @ np.square(y - slope * x)) / max(len(x) - 1, 1)
        variance = max(misfit, 1.0) / power
    return Slope(slope, variance)


def _miss(predicted: Values, measured: Values) -> float:
    """Return the root-mean-square of errors in E exp(reward), relative to it, and in shares of groups."""
    errors = []
    for one, other in zip(predicted.moments, measured.moments, strict=True):
        name = "mean_exp_reward" if "mean_exp_reward" in one and "mean_exp_reward" in other else "mean_reward"
        scale = max(abs(other[name].value), 1e-300)
        errors.append((one[name].value - other[name].value) / scale)
    if predicted.shares is not None and measured.shares is not None:
        gaps = [a.value - b.value for a, b in zip(predicted.shares, measured.shares, strict=True)]
        errors.append(math.sqrt(float(np.mean(np.square(gaps)))))
    return math.sqrt(float(np.mean(np.square(errors))))


# --- the rounds ahead -----------------------------------------------------------------------------


def laws_ahead(step: Step, courses: Sequence[Course]) -> Iterator[FloatArray]:
    """Yield the laws of the rounds ahead of a step, each (atoms,), for the course of each round."""
    law, target = step.law, step.target
    for t, course in enumerate(courses):
        law = step.moved(law, trained(step.model, law) if t else target, course)
        yield law


def _ahead(
    last: Step, known: Transmission, rounds: int, first: int, setting: Setting, stream: Stream | None
) -> list[Row]:
    rows = _expected(last, known, rounds, first)
    if stream is None:
        return rows
    few = _thinned(last, setting)
    played = _spread(few, known, rounds, last.size, setting, stream)
    own = rows if few is last else _expected(few, known, rounds, first)
    found = []
    for row, centre in zip(rows, own, strict=True):
        mean, error = played[row.round - first - 1].get(row.key, (math.nan, math.nan))
        told = few is last or row.quantity != "effective_support"  # fewer atoms do not tell their number
        if told and math.isfinite(error):
            # Of what is not linear in the law, such as the entropy, chance shifts the mean.
            middle = row.value + mean - centre.value
            low, high = middle - NORMAL_975 * error, middle + NORMAL_975 * error
            ends = _possible(row.quantity)
            low, high = max(low, ends[0]), min(high, ends[1])
            row = replace(row, lower=min(low, row.value), upper=max(high, row.value))
        found.append(row)
    return found


def _expected(last: Step, known: Transmission, rounds: int, first: int) -> list[Row]:
    courses = [known.course(ahead=t) for t in range(1, rounds + 1)]
    return [
        row
        for t, law in enumerate(laws_ahead(last, courses), 1)
        for row in last.model.describer.rows(first + t, RENEWED, last.values(law))
    ]


Key = tuple[str, str | None, str | None]


def _spread(
    last: Step, known: Transmission, rounds: int, size: int, setting: Setting, stream: Stream
) -> list[dict[Key, tuple[float, float]]]:
    """Return mean and standard deviation of each quantity as it would be measured, per round ahead.

    Loops are drawn: their transmission, their first candidates and their picks are, and their measurements.
    """
    model = last.model
    picks = setting.picks or size
    courses = [dict[Key, list[float]]() for _ in range(rounds)]
    for number in range(DRAWS):
        draw = stream.at(number).generator()
        law = _drawn(last.law, size, draw)
        for t, course in enumerate(known.courses(rounds, draw)):
            # The picks' chance is passed on as far as the selection itself is.
            made = last.known and t == 0
            aim = last.target if made else _drawn(trained(model, law), picks, draw)
            law = last.moved(law, aim, course)
            seen = last.values(_drawn(law, size, draw))
            for row in model.describer.rows(0, RENEWED, seen):
                courses[t].setdefault(row.key, []).append(row.value)
    return [
        {key: (float(np.mean(v)), float(np.std(v, ddof=1))) for key, v in own.items() if len(v) > 1}
        for own in courses
    ]


def _thinned(last: Step, setting: Setting) -> Step:
    """Return the step of at most MOST atoms, evenly spread over them and their picks: bands need no more."""
    model = last.model
    count = model.candidates
    if count <= MOST:
        return last
    atoms = model.describer.candidates
    picked = last.target[:count] > 0
    order = np.argsort(~picked, kind="stable") if last.known else np.arange(count)
    rows = order[np.linspace(0, count - 1, MOST).astype(int)]
    own = replace(atoms.take(rows), picked=picked[rows] if last.known else None)
    real = atoms.take(np.arange(count, len(atoms))) if len(atoms) > count else own
    return Step.of(replace(own, labels=model.describer.group_names), setting, real, model.cells)


def _possible(quantity: str) -> tuple[float, float]:
    """Return the ends of what a quantity can be."""
    if quantity == "mean_reward" or quantity.startswith("mean:"):
        return -math.inf, math.inf
    return 0.0, 1.0 if quantity == "share" else math.inf


def _drawn(law: FloatArray, size: int, draw: np.random.Generator) -> FloatArray:
    """Return the law of a sample of a law, shape (atoms,)."""
    positive = np.maximum(law, 0.0)
    return np.asarray(draw.multinomial(size, positive / positive.sum()) / size)
