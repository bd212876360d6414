"""Findings on the rule: family, temperature, lapses, weights and position effects.

The declared rule is fitted with all of its parameters free. Its declared parameters are judged by likelihood
ratios, and the rule itself by its residuals (:mod:`recurate.choices.checks.residuals`). Only where one of
these tests refuses it at the level of the audit are named rivals compared with it
(:mod:`recurate.choices.models.named_rules`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from recurate.choices.checks.residuals import (
    FEW,
    Residuals,
    p_of,
    place_columns,
    round_columns,
    shape_columns,
    within_columns,
)
from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.models import named_rules
from recurate.choices.models.named_rules import (
    LAPSES,
    MOST,
    MOST_COSTLY,
    PLACES,
    ROUNDS,
    RULE,
    WITHIN,
    Fit,
    Model,
    Picked,
    Step,
    climb,
    explain,
)
from recurate.choices.models.recovery import ENOUGH, NORMAL_975, WORTH_A_PARAMETER, Recovered
from recurate.choices.observed import Observed
from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.rules import GAUSSIAN, GUMBEL, NO_NOISE, Rule, noise_named
from recurate.rules.families import Family, family_of
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.departures import with_alike
from recurate.verbs.audit.findings import (
    LEVEL,
    MISMATCH,
    NOTE,
    OK,
    UNTESTED,
    Finding,
    compared,
    judge,
    p_text,
)

POOLED = 0.0125  # error of a pool's temperature, relative, as its picks are dependent
CHANCE = 0.01  # level at which picks can be told from random ones
ANOTHER = "another rule"


def judge_rule(observed: Observed, declared: Declared, found: Recovered) -> list[Finding]:
    """Compare the recovered rule with the declared one."""
    text = _rule_text(declared) if declared.says_choice else ""
    if declared.threshold is not None and (declared.erring or declared.lapse):
        return [_verifier(observed, declared, text)]
    keep = found.keep or 1
    chosen_from = (observed.picks_per_slate == keep) & (observed.slates.sizes > keep)
    if found.family == Family.UNKNOWN or not (found.family.pooled or declared.pooled or chosen_from.any()):
        verdict = UNTESTED if text else NOTE
        return [Finding("rule", text, found.family, found.evidence, verdict)]
    if found.family.pooled or declared.pooled:
        return _pool_rule(observed, declared, found, text)
    if declared.weights and len(declared.weights) != len(observed.names):
        raise InputError(
            "there must be one weight for each reward",
            got=f"{len(declared.weights)} for {len(observed.names)}",
            remedy="list them all",
        )
    claim = declared.rule(keep + 1)
    assert isinstance(claim, Rule)
    cheap = claim.noise == NO_NOISE or (claim.noise == GUMBEL and keep <= 3)
    most = MOST if cheap else MOST // 2 if claim.noise == GAUSSIAN else MOST_COSTLY
    data = Picked.of(observed, keep, most)
    return Judged(data, declared, claim, found, text).findings()


def _rule_text(declared: Declared) -> str:
    if declared.top is not None:
        return f"top {declared.top:g} of the pool"
    if declared.threshold is not None:
        named = f"rewards of at least {declared.threshold:g}"
        rates = (declared.false_rejection or 0.0, declared.false_acceptance or 0.0)
        named += f", {rates[0]:g} of them rejected, {rates[1]:g} of the others accepted" if any(rates) else ""
        return named + (f", lapse {declared.lapse:g}" if declared.lapse else "")
    noise = declared.noise or "gumbel"
    family = family_of(noise_named(noise))
    name = f"noise {noise}" if family is Family.UNKNOWN else str(family)
    name += " of the weighted sum" if declared.scalarised else ""
    return name + (f", lapse {declared.lapse:g}" if declared.lapse else "")


def temperature_text(found: Recovered) -> str:
    """Return the temperature and its 95 % interval as text."""
    if found.inverse is None:
        return ""
    if found.temperature is None or found.temperature_interval is None:
        return f"1 / temperature = {found.inverse[0]:.3g} ± {1.96 * found.inverse[1]:.2g}"
    low, high = found.temperature_interval
    return f"{found.temperature:.3g} ({low:.3g} to {'infinity' if math.isinf(high) else f'{high:.3g}'})"


# --- pools ----------------------------------------------------------------------------------------


def _verifier(observed: Observed, declared: Declared, text: str) -> Finding:
    """Return the finding on a verifier that errs: exact binomial tests of both rates of acceptance."""
    assert declared.threshold is not None
    if len(observed.names) > 1 or declared.noise not in (None, "none"):
        return Finding("rule", text, "a verifier", "tested for one reward, without noise", UNTESTED)
    from scipy.stats import binomtest

    rewards, level = observed.rewards[:, 0], declared.threshold
    good, p_values, shown = rewards >= level, [], []
    wanted = declared.rule(1).probabilities(np.array([level, np.nextafter(level, -np.inf)]))  # type: ignore[attr-defined]
    for rows, rate, who in zip((good, ~good), wanted, ("reach it", "do not"), strict=True):
        count, passed = int(rows.sum()), int(observed.picked[rows].sum())
        if count:
            p_values.append(float(binomtest(passed, count, float(rate)).pvalue))
            shown.append(f"{passed / count:.3g} of {count} that {who} accepted")
    p = min(1.0, len(p_values) * min(p_values))
    return Finding("rule", text, "; ".join(shown), p_text(p), judge(claimed=True, right=p >= LEVEL))


def _as_many(observed: Observed, top: float) -> bool:
    """Whether every round kept a share of its candidates, but for a last one without picks."""
    sizes = np.bincount(np.searchsorted(observed.round_ids, observed.rounds))
    picks = observed.picks_per_round
    if picks.size > 1 and picks[-1] == 0:
        sizes, picks = sizes[:-1], picks[:-1]
    return bool((np.abs(picks - top * sizes) <= np.maximum(2.0, 0.005 * sizes)).all())


def _pool_rule(observed: Observed, declared: Declared, found: Recovered, text: str) -> list[Finding]:
    share = found.share or 0.0
    recovered = f"{found.family} ({share:.3g})" if found.family.pooled else str(found.family)
    right, evidence = False, found.evidence
    softmax = declared.top is not None and declared.noise == "gumbel"
    as_many = declared.top is not None and _as_many(observed, declared.top)
    if declared.top is not None and not as_many and abs(share - declared.top) <= 0.005:
        evidence += "; rounds kept different shares"
    if softmax and found.family.pooled:
        # Too few picks may not tell one softmax from random picks: it is refused by its own likelihood only.
        p = _pool_p(declared, found)
        right = as_many and (found.family == Family.POOL_SOFTMAX or p >= LEVEL)
        if right and found.family != Family.POOL_SOFTMAX:
            verdict = UNTESTED if declared.says_choice else NOTE
            return [
                Finding("rule", text, recovered, f"{evidence}; too few picks to tell ({p_text(p)})", verdict)
            ]
    elif declared.top is not None:
        right = as_many and found.family == Family.TOP
    elif declared.threshold is not None:
        right = found.cut is not None and found.cut[0] < declared.threshold <= found.cut[1]
    verdict = judge(declared.says_choice, right)
    if found.family.pooled and declared.pooled and declared.noise not in (None, "none") and not softmax:
        verdict = UNTESTED  # noise of thresholds, and other noise of pools, is not fitted
    findings = [Finding("rule", text, recovered, evidence, verdict)]
    if found.inverse is not None:
        wanted = declared.temperature if softmax else None
        fits = wanted is None or _pool_p(declared, found) >= LEVEL
        findings.append(compared("temperature", wanted, temperature_text(found), right=fits))
        findings += _pools_over_time(found, claimed=wanted is not None)
    return findings


def _pools_over_time(found: Recovered, *, claimed: bool) -> list[Finding]:
    """Return the finding on equal temperatures of all pools."""
    if len(found.by_round) < 2 or found.inverse is None:
        return []
    beta, errors = np.array(found.by_round).T
    errors = np.hypot(errors, POOLED * abs(found.inverse[0]))
    middle = float((beta / errors**2).sum() / (1 / errors**2).sum())
    p = chi2_tail(float(np.square((beta - middle) / errors).sum()), beta.size - 1)
    wrong = p < LEVEL
    evidence = p_text(p) + (f"; 1 / temperature from {beta.min():.3g} to {beta.max():.3g}" if wrong else "")
    same = "the same in all rounds"
    shown = "changes between rounds" if wrong else same
    return [Finding(ROUNDS, same if claimed else "", shown, evidence, judge(claimed, not wrong))]


def _pool_p(declared: Declared, found: Recovered) -> float:
    """Return the p-value of the declared temperature of one softmax over the pool."""
    inverse = found.inverses.get(Family.POOL_SOFTMAX)
    if inverse is None or declared.temperature is None:
        return 1.0 if inverse is not None else 0.0
    beta, error = inverse
    error = math.hypot(error, POOLED / declared.temperature)
    return math.erfc(abs(beta - 1 / declared.temperature) / max(error, 1e-300) / math.sqrt(2))


# --- slates ---------------------------------------------------------------------------------------


@dataclass
class Judged:
    """The declared rule, judged on slates with equal numbers of picks."""

    data: Picked
    declared: Declared
    claim: Rule
    found: Recovered
    text: str
    p: dict[str, float] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """Return the findings on the rule and all of its parameters."""
        if len(self.data) == 0:
            return [
                Finding(
                    "rule", self.text, "not identified", "no slate has picks of more candidates", UNTESTED
                )
            ]
        self.free = free = self._free_fit(self._own_fit())
        joint = self._parameters_p(free, self._is_fixed(free.model))
        self._test(free)
        steps = self._steps(free, joint)
        self.final = steps[-1].fit if steps else free
        if steps:  # what is left is judged beside what was found
            before = dict(self.p)
            self._test(self.final)
            self.p |= {s.aspect: before[s.aspect] for s in steps if s.aspect in before}
        rule = [s for s in steps if s.aspect == RULE]
        findings = [self._rule(rule, steps, joint)]
        self.wrong = findings[0].verdict == MISMATCH or bool(rule)
        self._blame()
        findings += self._temperature(steps, joint)
        findings += self._lapses(steps)
        findings += self._weights()
        findings += self._over_time(steps) + self._places(steps)
        if steps:
            return findings
        return with_alike(findings, self.final, self.claim, self._claimed, self.declared.says_rule)

    def _own_fit(self) -> Fit:
        """Fit the declared family: all of its parameters are free."""
        claim, declared = self.claim, self.declared
        model = Model(
            self.data, self.data.rewards, claim.noise,
            lapse=claim.lapse > 0 or claim.noise == NO_NOISE, summed=bool(declared.scalarised),
        )  # fmt: skip
        return climb(model, self._claimed(model, 0.01))

    def _claimed(self, model: Model, least: float) -> FloatArray:
        """Return the declared parameters in a model's order, with a lapse share of ``least`` or more."""
        start = model.start(self.data.unit / self.claim.temperature, max(self.claim.lapse, least))
        weights = np.array(self.declared.weights or ())
        if weights.size > 1:
            start[model.at("weights")] = weights[1:] if model.summed else _logits(weights)
        return start

    def _free_fit(self, own: Fit) -> Fit:
        """Return the fit; where no temperature is declared, with one for each round if they differ."""
        if self.declared.temperature is not None or self.claim.noise == NO_NOISE:
            return own
        columns = round_columns(own)
        if columns is None or p_of(Residuals(own).test(columns)) >= LEVEL:
            return own
        found = named_rules.by_round(own)
        self.p["schedule"] = 0.0
        return found.fit

    def _is_fixed(self, model: Model) -> BoolArray:
        """Return which parameters are declared."""
        d = self.declared
        fixed = model.at("beta") & (d.temperature is not None)
        fixed |= model.at("weights") & (d.weights is not None)
        return np.asarray(
            fixed | (model.at("lapse") & (d.lapse is not None or self.claim.noise == NO_NOISE)), bool
        )

    def _parameters_p(self, fit: Fit, fixed: BoolArray) -> float:
        """Return the p-value of the likelihood ratio of declared values of some parameters."""
        if not fixed.any():
            return 1.0
        start = fit.theta.copy()
        own = self._claimed(fit.model, 1e-12)
        start[fixed] = own[fixed]
        if fit.model.lapse and fixed[fit.model.at("lapse")].any() and not self.claim.lapse:
            start[fit.model.at("lapse")] = -40.0
        value = climb(fit.model, start, ~fixed).value
        lapse = fit.model.at("lapse")
        if (lapse & ~fixed).any() and fixed.any():  # at a share of zero the likelihood is flat: no way back
            start[lapse] = self._claimed(fit.model, 0.05)[lapse]
            value = max(value, climb(fit.model, start, ~fixed).value)
        return chi2_tail(2 * max(fit.value - value, 0.0), int(fixed.sum()))

    def _blame(self) -> None:
        """Find the wrong declared parameters; if only all together are refused, the most doubtful one."""
        model = self.final.model
        fixed = self._is_fixed(model)
        names = [n for n in ("beta", "lapse", "weights") if (model.at(n) & fixed).any()]
        self.blamed = {n: self._parameters_p(self.final, model.at(n)) for n in names}
        joint = self._parameters_p(self.final, fixed) if len(names) > 1 else 1.0
        if joint < LEVEL <= min(self.blamed.values(), default=0.0):
            self.blamed[min(self.blamed, key=lambda n: self.blamed[n])] = joint

    def _test(self, fit: Fit) -> None:
        """Test the residuals of the fitted rule."""
        residuals = Residuals(fit)
        own, data = residuals.fit, residuals.fit.model.data
        self.p["shape"] = p_of(residuals.test(shape_columns(own)))
        self.p[WITHIN] = p_of(residuals.test(within_columns(own)))
        columns = round_columns(own)
        self.p[ROUNDS] = 1.0 if columns is None else p_of(residuals.test(columns))
        seats = place_columns(own)
        self.places_tested = seats is not None and seats.shape[2] > 0 and not self._winner_first()
        self.p[PLACES] = self.p["each round"] = 1.0
        if self.places_tested and seats is not None:
            self.p[PLACES] = p_of(residuals.test(seats))
            ids = np.unique(data.rounds)
            each = [np.flatnonzero(data.rounds == t) for t in ids[:: max(1, ids.size // 20)]]
            self.p["each round"] = p_of(
                *(residuals.test(seats[some], some) for some in each if some.size >= 100)
            )

    def _winner_first(self) -> bool:
        places = self.data.places
        if places is None or len(self.data) < 20:
            return False
        seats = np.take_along_axis(places, self.data.kept, axis=1)
        return bool((np.sort(seats, axis=1) == np.sort(seats[:1], axis=1)).all())

    # --- which rule ---

    def _steps(self, free: Fit, joint: float) -> list[Step]:
        """Return what explains the picks, if a test refuses the declared rule."""
        p = min(self.p[k] for k in ("shape", ROUNDS, WITHIN, PLACES))
        only_parameters = p >= LEVEL and not self._rival()
        if only_parameters and joint >= LEVEL:
            return []
        if joint < LEVEL and (self._random(free) or self._all_best() or self.found.family == Family.WORST):
            return []
        return explain(free, places=self.places_tested, noises=only_parameters)

    def _rival(self) -> bool:
        """Whether a family fitted by :func:`recover` is clearly better than the declared one."""
        logs = {f: v for f, v in self.found.logs.items() if f != Family.UNIFORM}
        own = Family.LAPSE if self.claim.lapse and self.claim.noise == GUMBEL else family_of(self.claim.noise)
        return own in logs and self.found.keep == 1 and max(logs.values()) - logs[own] > ENOUGH

    def _uniform(self, fit: Fit) -> float:
        return -float(fit.model._ways(fit.model.data.kept.shape[1]).sum())

    def _random(self, fit: Fit) -> bool:
        return fit.value - self._uniform(fit) <= WORTH_A_PARAMETER

    def _all_best(self) -> bool:
        return self.found.family == Family.BEST and (self.found.lapse or (1.0,))[0] == 0.0

    def _rule(self, rule: list[Step], steps: list[Step], joint: float) -> Finding:
        claimed, evidence = self.declared.says_rule, self.found.evidence
        text = self.text if claimed else ""
        declared_text = _rule_text(self.declared)
        if self.claim.noise != NO_NOISE and self._all_best() and joint < LEVEL:
            shown = f"best {self.found.keep} of K" if self.found.keep != 1 else str(Family.BEST)
            return Finding("rule", text, shown, evidence, judge(claimed, False))
        if self.found.family == Family.WORST and (joint < LEVEL or self.claim.noise == NO_NOISE):
            return Finding("rule", text, str(Family.WORST), evidence, judge(claimed, False))
        if self._random(self.free) and joint < LEVEL:
            return Finding("rule", text, str(Family.UNIFORM), evidence, judge(claimed, False))
        if rule:
            gain = f"{_nats(rule[0].fit.value - self._before(rule[0], steps))} better than the declared rule"
            if self._fits(self.final):
                names = " or ".join((rule[0].name, *rule[0].alike))
                return Finding("rule", text, names, f"{evidence}; {gain}", judge(claimed, False))
            nearest = f"{evidence}; the nearest that has a name, {rule[0].name}, is {gain} but does not fit"
            return Finding("rule", text, ANOTHER, nearest, judge(claimed, False))
        refused = self.p["shape"] < LEVEL and not (steps and self._fits(self.final))
        if refused:
            why = f"{evidence}; picks depend on the rewards otherwise, {p_text(self.p['shape'])}"
            return Finding("rule", text, ANOTHER, why, judge(claimed, False))
        if not self._told():
            verdict = UNTESTED if claimed else NOTE
            return Finding("rule", text, "cannot be told from random picks", evidence, verdict)
        if not claimed:
            return Finding("rule", "", str(self.found.family), evidence)
        if self.claim.noise != NO_NOISE and len(self.data) < FEW:
            return Finding("rule", text, declared_text, f"{evidence}; fewer than {FEW} slates", UNTESTED)
        return Finding("rule", text, declared_text, evidence, OK)

    def _before(self, step: Step, steps: list[Step]) -> float:
        at = steps.index(step)
        if at:
            return steps[at - 1].fit.value
        return self.free.value

    def _fits(self, fit: Fit) -> bool:
        residuals = Residuals(fit)
        return p_of(residuals.test(shape_columns(residuals.fit))) >= LEVEL

    def _told(self) -> bool:
        """Whether the picks can be told from random ones."""
        if self.claim.noise == NO_NOISE:
            return self._uniform(self.free) < math.log(CHANCE)
        gain = self.free.value - self._uniform(self.free)
        return chi2_tail(2 * max(gain, 0.0), 1) < CHANCE

    # --- parameters ---

    def _temperature(self, steps: list[Step], joint: float) -> list[Finding]:
        fit, wanted = self.final, self.declared.temperature
        if self.claim.noise == NO_NOISE and not (steps and fit.model.noise != NO_NOISE):
            return []
        if self._random(self.free) and joint < LEVEL:
            return [compared("temperature", wanted, "infinity", p_text(joint), right=False)]
        if self._all_best() and joint < LEVEL:
            return [compared("temperature", wanted, "zero", "no pick but the best", right=False)]
        if fit.model.noise == NO_NOISE or not all(s.on_rewards for s in steps):
            return [_told_nothing("temperature", wanted, "the rule is another one")]
        beta = float(fit.theta[0]) / self.data.unit
        error = float(fit.errors[0]) / self.data.unit
        shown = temperature_text(Recovered(Family.LUCE, (beta, error)))
        if self.wrong:
            return [_told_nothing("temperature", wanted, "the rule is another one", shown)]
        if any(s.aspect in (ROUNDS, WITHIN) for s in steps):
            return [_told_nothing("temperature", wanted, "the mean, as it changes", shown)]
        if wanted is None or self.p.get("schedule") is not None:
            return [compared("temperature", wanted, shown)]
        p = self.blamed.get("beta", 1.0)
        ratio = self.claim.temperature * beta
        right = p >= LEVEL
        evidence = p_text(p) + ("" if right else f"; rewards count {ratio:.3g} times as much as declared")
        return [compared("temperature", wanted, shown, evidence, right=right)]

    def _lapses(self, steps: list[Step]) -> list[Finding]:
        fit, wanted = self.final, self.declared.lapse
        if self.wrong or not fit.model.lapse:
            if wanted is None:
                return []
            if self.wrong:
                return [_told_nothing("lapse share", wanted, "the rule is another one")]
            return [Finding("lapse share", f"{wanted:g}", "none", "", OK)]
        at = fit.model.at("lapse")
        logit, error = float(fit.theta[at][0]), float(fit.errors[at][0])
        share = _share(logit)
        low, high = _share(logit - NORMAL_975 * error), _share(logit + NORMAL_975 * error)
        if share < 1e-6:
            low, high = 0.0, min(3.0 / len(self.data), 1.0)
        text = f"{share:.3g} ({low:.2g} to {high:.2g})"
        claimed = self.declared.says_rule or wanted is not None
        p = self.blamed.get("lapse", 1.0)
        step = next((s for s in steps if s.aspect == LAPSES), None)
        named = step is not None
        right = not named and p >= LEVEL
        declared = f"{self.claim.lapse:g}" if claimed else ""
        evidence = p_text(p)
        if right and claimed and not self._told():
            verdict = NOTE if wanted is None else UNTESTED
            return [Finding("lapse share", declared, text, "picks cannot be told from random ones", verdict)]
        if step is not None:
            evidence = f"{_nats(step.fit.value - self._before(step, steps))} better than without"
        return [Finding("lapse share", declared, text, evidence, judge(claimed, right))]

    def _weights(self) -> list[Finding]:
        fit, wanted = self.final, self.declared.weights
        if self.data.rewards.shape[2] < 2:
            return [] if wanted is None else [Finding("weights", _listed(wanted), "1", "one reward", OK)]
        if fit.model.worth.shape[2] < 2 or (
            self.wrong and fit.model.summed != bool(self.declared.scalarised)
        ):
            shown = _listed(fit.model.weights(fit.theta)) if fit.model.worth.shape[2] > 1 else ""
            return [Finding("weights", _listed(wanted or ()), shown, "the rule is another one", NOTE)]
        p = self.blamed.get("weights", 1.0)
        shown = _listed(fit.model.weights(fit.theta))
        if wanted is not None and p >= LEVEL and (why := self._weightless()):
            return [Finding("weights", _listed(wanted), shown, why, UNTESTED)]
        return [
            Finding("weights", _listed(wanted or ()), shown, p_text(p), judge(wanted is not None, p >= LEVEL))
        ]

    def _weightless(self) -> str:
        """Return why picks do not tell the weights, or an empty text."""
        if not self._told():
            return "picks cannot be told from random ones"
        shown = self.data.shown[..., None]
        count = np.maximum(shown.sum(axis=1, keepdims=True), 1)
        centred = np.where(shown, self.data.rewards, 0.0)
        centred = np.where(shown, centred - centred.sum(axis=1, keepdims=True) / count, 0.0)
        flat = centred.reshape(-1, centred.shape[2])
        scale = np.sqrt(np.square(flat).sum(axis=0))
        if (scale == 0).any() or np.linalg.matrix_rank(flat / scale, tol=1e-6) < flat.shape[1]:
            return "some rewards order candidates alike"
        return ""

    def _over_time(self, steps: list[Step]) -> list[Finding]:
        if self.claim.noise == NO_NOISE or len(self.data) < FEW:
            return []
        claimed = self.declared.temperature is not None
        found = []
        for aspect, same in ((ROUNDS, "the same in all rounds"), (WITHIN, "the same within rounds")):
            if aspect == ROUNDS and self.data.rounds.max() == 0:
                continue
            step = next((s for s in steps if s.aspect == aspect), None)
            p = self.p[aspect]
            wrong = step is not None or (p < LEVEL and not self.wrong)
            shown = same
            if wrong:
                shown = step.name.removeprefix("a temperature that ") if step else "changes"
            if aspect == ROUNDS and self.p.get("schedule") is not None:
                shown, wrong = "changes between rounds", False
            evidence = p_text(p) + (self._schedule(step) if step else "")
            found.append(Finding(aspect, same if claimed else "", shown, evidence, judge(claimed, not wrong)))
        return found

    def _schedule(self, step: Step) -> str:
        model, theta = step.fit.model, step.fit.theta
        if step.aspect == WITHIN:
            b, d = float(theta[0]), float(theta[model.at("drift")][0])
            ends = (b - d) / self.data.unit, (b + d) / self.data.unit
        else:
            assert model.scale is not None
            own = [float(model.scale[model.data.rounds == t][0]) for t in (0, model.data.rounds.max())]
            ends = own[0] * float(theta[0]) / self.data.unit, own[1] * float(theta[0]) / self.data.unit
        return f"; 1 / temperature from {ends[0]:.3g} to {ends[1]:.3g}"

    def _places(self, steps: list[Step]) -> list[Finding]:
        claimed = self.declared.says_rule
        text = "none" if claimed else ""
        if self._winner_first():
            why = "every pick is in the same place: the log writes the winner there"
            return [Finding("position effects", text, "not tested", why)]
        if len(self.data) < FEW:
            return [Finding("position effects", text, "not tested", f"fewer than {FEW} slates")]
        if not self.places_tested:
            return [Finding("position effects", text, "not tested", "places were not logged")]
        step = next((s for s in steps if s.aspect == PLACES), None)
        p, each = self.p[PLACES], self.p["each round"]
        evidence = f"{p_text(p)}; within rounds {p_text(each)}"
        if step is not None:
            values = np.r_[0.0, step.fit.theta[step.fit.model.at("place")]]
            shown = f"odds of up to {math.exp(min(float(np.ptp(values)), 50.0)):.2f} between places"
            return [Finding("position effects", text, shown, evidence, judge(claimed, False))]
        if each < LEVEL and not (p < LEVEL and (steps or self.wrong)):
            shown = "a different one in each round"
            evidence += ": perhaps the same noise in all slates of a round"
            return [Finding("position effects", text, shown, evidence, judge(claimed, False))]
        wrong = p < LEVEL and not self.wrong
        shown = "odds differ between places" if wrong else "none"
        return [Finding("position effects", text, shown, evidence, judge(claimed, not wrong))]


def _told_nothing(aspect: str, wanted: float | None, why: str, shown: str = "") -> Finding:
    return Finding(aspect, "" if wanted is None else f"{wanted:g}", shown or "not judged", why, NOTE)


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-min(max(logit, -700.0), 700.0)))


def _logits(weights: FloatArray) -> FloatArray:
    safe = np.maximum(weights, 1e-12)
    return np.asarray(np.log(safe[1:] / safe[0]))


def _listed(values: FloatArray | tuple[float, ...]) -> str:
    return ", ".join(f"{v:.3g}" for v in values)


def _nats(value: float) -> str:
    return "infinitely" if math.isinf(value) else f"{value:.0f} nats"
