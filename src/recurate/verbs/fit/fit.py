"""Rewards, temperature, lapses, position effects and groups from picks, and tests of Luce's model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from recurate.choices.checks.consistency import Consistency
from recurate.choices.checks.gaps import Gap, reward_gaps
from recurate.choices.checks.held_out import (
    FEW_CHOOSERS,
    ClassScore,
    RuleScore,
    compare_rules,
    position_fit,
    select_classes,
)
from recurate.choices.checks.luce_checks import calibration_table, part_of, run_checks
from recurate.choices.checks.score_tests import Check
from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.checks.verdict import Fitted, Verdict, best_of, judge, nearly_best_of, no_rewards
from recurate.choices.checks.within_groups import Within, group_of, within_groups
from recurate.choices.from_slates import Reading
from recurate.choices.models import rival_rules
from recurate.choices.models.identifiability import NoEstimate
from recurate.choices.models.items import ItemFit, item_rewards
from recurate.choices.models.latent_classes import ClassFit, latent_classes
from recurate.choices.models.logit import LogitFit, conditional_logit, null_log_likelihood
from recurate.choices.models.recovery import ENOUGH, simplest
from recurate.choices.models.rival_rules import RuleFit
from recurate.choices.table import Choices
from recurate.choices.usable import Usable, item_codes, item_slates, usable
from recurate.core.arrays import BoolArray, FloatArray
from recurate.core.errors import InputError
from recurate.log.inputs import name_of
from recurate.log.large import Large, open_large
from recurate.log.opening import open_slates
from recurate.log.reading.mapping import RANK, Given
from recurate.log.reading.slates import CHARACTERS, ITEMS, POSITIONS, SCORE, PlainSlates, Wanted
from recurate.log.reading.understand import accounted
from recurate.log.reading.values import ZERO_TIES
from recurate.log.reading.wide import BY_VALUES
from recurate.metrics.estimates import NORMAL_975
from recurate.rules.families import Family
from recurate.rules.rule import Rule
from recurate.verbs.fit.again import ITEM_REWARD, Again, again_of, read_again
from recurate.verbs.fit.parts import estimated

FEW_ITEMS = 40  # maximum number of items that are fitted as indicator features
FOR_RULES = 9000  # maximum number of slates for the comparison of rival rules
FOR_CLASSES = 60_000  # maximum number of slates for the choice of the number of classes
FEW_PICKS = 2.0  # minimum mean number of slates per chooser for a search for classes
LUCK = 1e-3  # probability of random picks that are all the best above which a warning is given
THIN = 10.0  # mean number of slates per chooser below which more starts are used

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FitOptions:
    """Options of reading and fitting.

    Attributes:
        given: Columns by role, form and alternatives that the user named.
        wanted: Columns that describe the candidates, and the treatment of ties.
        classes: Number of preference groups; 0 for none, None to choose it.
        most_classes: Maximum number of groups to choose from.
        starts: Starts per number of groups; None: 5, or 15 if choosers picked rarely.
        shrinkage: Penalty on coefficients or item rewards.
        seed: Seed of random starts and of held-out data.
    """

    given: Given = field(default_factory=Given)
    wanted: Wanted = field(default_factory=Wanted)
    classes: int | None = None
    most_classes: int = 4
    starts: int | None = None
    shrinkage: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Fit:
    """A fit of rewards, rules and groups to picks, with tests of Luce's model.

    Attributes:
        reading: Choice table and how it was read.
        logit: Coefficients of features or of the score, or None.
        items: Rewards of items, or None.
        positions: Fit with an effect of each place, or None if places are unknown.
        lapse: Luce's rule with lapses, fitted to at most ``FOR_RULES`` slates, or None.
        thurstone: Thurstone's rule, fitted to the same slates, or None.
        best: Best of K with lapses, fitted to the same slates, or None.
        groups: Preference groups, or None.
        class_scores: Scores of each number of groups.
        checks: Tests of Luce's model with the same rewards for all choosers.
        rules: Held-out log-likelihoods of rival rules, likewise.
        within: The same within the groups, or None without groups or where they cannot be tested.
        calibration: (predicted, picked, standard error, candidates) by predicted probability; empty where
            groups are judged.
        verdict: Verdict on Luce's model.
        rewards: Fitted rewards of the included candidates at temperature 1, with mean zero, (rows, groups),
            or (rows, 1) without groups.
        weights: Weights of these rewards.
        warnings: Warnings.
        gaps: How often the better of two candidates is picked, by the gap of their rewards; with groups by
            the rewards of each chooser's likeliest one.
        repeats: How often people who were asked again picked the same, or None if nobody was.
        features: Names of the features that rules and groups were fitted to.
    """

    reading: Reading
    logit: LogitFit | None
    items: ItemFit | None
    positions: LogitFit | None
    lapse: RuleFit | None
    thurstone: RuleFit | None
    best: RuleFit | None
    groups: ClassFit | None
    class_scores: tuple[ClassScore, ...]
    checks: tuple[Check, ...]
    rules: tuple[RuleScore, ...]
    within: Within | None
    calibration: tuple[tuple[float, float, float, int], ...]
    verdict: Verdict
    rewards: FloatArray = field(repr=False)
    weights: tuple[float, ...]
    warnings: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    repeats: Consistency | None = None
    features: tuple[str, ...] = ()

    @property
    def temperature(self) -> tuple[float, float, float] | None:
        """Temperature 1 / beta of a single score and its 95 % interval, up to infinity; None without one.

        A score that is not preferred, beta <= 0, has no temperature.
        """
        if self.reading.model != SCORE or self.logit is None or self.logit.coefficients.size != 1:
            return None
        beta, error = float(self.logit.coefficients[0]), float(self.logit.errors[0])
        if beta <= 0:
            return None
        low, high = beta - NORMAL_975 * error, beta + NORMAL_975 * error
        return 1 / beta, 1 / high, 1 / low if low > 0 else math.inf

    @property
    def has_rewards(self) -> bool:
        """Whether anything but their place describes the candidates, so that they have rewards."""
        return self.reading.model != POSITIONS

    def settings(self) -> dict[str, Any]:
        """Return the settings of a forecast: temperature, weights, noise and lapse."""
        found: dict[str, Any] = {"temperature": 1.0}
        if len(self.weights) > 1:
            found["weights"] = list(self.weights)
        elif self.verdict.rule == Family.LAPSE and self.lapse is not None:
            found["lapse"] = self.lapse.lapse
        elif self.verdict.rule == Family.THURSTONE:
            found["noise"] = "gaussian"
        elif self.verdict.rule == Family.BEST and self.best is not None:
            found |= {"noise": "none", "lapse": self.best.lapse}
        return found


def fit_log(source: Any, options: FitOptions | None = None, progress: Progress | None = None) -> Fit:
    """Read picks and fit rewards, rules and groups to them; see :func:`recurate.fit`.

    Args:
        source: Log or table in any form of :mod:`recurate.log.reading.roles`, as accepted by
            :func:`recurate.log.inputs.table_of`.
        options: Options of reading and fitting.
        progress: Function called with a line of text at the start of each part.

    Raises:
        InputError: If the source cannot be read or used.
        NoEstimate: If no estimate exists; the message states why.
    """
    options = options or FitOptions()
    say = progress or (lambda _: None)
    say("reading")
    large = open_large(source, options.given)
    read = source if large is None else large.sample
    plain = open_slates(read, options.given, options.wanted)
    repeats = read_again(read, options.given, options.wanted, plain)
    if large is not None:
        plain = replace(plain, notes=(*large.notes, *plain.notes))
    name = name_of(source) if isinstance(source, str | os.PathLike) else "LOG"
    with accounted(plain.understood):
        ready = usable(plain, options.wanted.ties, options.shrinkage)
        if ready.best is not None:
            return _best_of_k(ready, ready.best, name)
        say(f"fitting {len(ready.reading.choices)} picks")
        found = fit_choices(ready, options, say, name, repeats)
        return found if large is None else _of_all(found, large, options, say)


def _of_all(fit: Fit, large: Large, options: FitOptions, say: Progress) -> Fit:
    """Return the fit of a sample with estimates from all slates, where sums over parts give them."""
    say("estimating from all parts")
    estimate = estimated(large, fit.reading, fit.items or fit.logit, options.shrinkage)
    if isinstance(estimate, str):
        return replace(fit, warnings=(*fit.warnings, f"estimates rest on the sample alone: {estimate}"))
    fit = replace(fit, items=estimate) if isinstance(estimate, ItemFit) else replace(fit, logit=estimate)
    rival = fit.verdict.rule in (Family.LAPSE, Family.THURSTONE)
    if fit.groups is None and not rival:
        design = _design(fit.reading, fit.items)
        rewards, weights = _rewards(fit.reading, design, fit.items, fit.logit, None, None)
        fit = replace(fit, rewards=rewards - rewards.mean(axis=0), weights=weights)
    return fit


def fit_choices(
    ready: Usable,
    options: FitOptions,
    say: Progress,
    source: str = "LOG",
    repeats: PlainSlates | None = None,
) -> Fit:
    """Fit a choice table.

    Args:
        ready: Choice table.
        options: Options of fitting.
        say: Function called with a line of text at the start of each part.
        source: Name of the log in advice.
        repeats: The same answers with those to questions that people were asked again, or None.
    """
    reading, logit = ready.reading, ready.logit
    warnings = [*_few_used(reading), *_by_values(reading), *ready.warnings]
    items = _fit_items(reading, options) if reading.model == ITEMS else None
    design = _design(reading, items)
    if reading.model == POSITIONS:
        warnings.append("only the places of candidates are known: all rewards are zero")
    elif items is not None and design.names != (ITEM_REWARD,):
        try:
            logit = conditional_logit(design, shrinkage=options.shrinkage)
        except NoEstimate:  # without ties, some item always (or never) won
            design = _known(reading, items)
    warnings += _avoided(reading, logit)
    found = _strict(reading, design, items, logit, options)
    if found is None:
        strict, beta, covariance = reading.strict, np.zeros(len(reading.strict.names)), None
        warnings.append("Luce's model was not tested: without ties, the picks are separated")
    else:
        strict, beta, covariance = found
    say("testing Luce's model")
    part = part_of(strict)
    again = None if repeats is None else _again(repeats, reading, strict, items, options, warnings)
    pairs = None if again is None else (again.choices, again.fitted)
    checks = [] if covariance is None else run_checks(part, beta, covariance, seed=options.seed, again=pairs)
    if len(part) < len(strict):
        warnings.append(f"Luce's model was tested on {len(part)} of {len(strict)} slates")
    say("comparing rules on held-out slates")
    few = part_of(strict, FOR_RULES)
    rules, lapse, probit, best = _rules(few, options, warnings)
    groups, scores = _groups(design, strict, options, say, warnings)
    count = beta.size if items is None else len(items.names) - 1
    p_zero = None if found is None else _ratio_p(strict, beta, count)
    within = _within(design, (part, few), groups, options, warnings, pairs)
    fitted = Fitted(len(strict), count, p_zero, 1 if groups is None else groups.classes, within is not None)
    near = None if groups is not None else _nearly_best(reading, few, lapse, probit, best, source)
    tested = (checks, rules) if within is None else (list(within.checks), list(within.rules))
    verdict = _after(reading, near or _verdict(reading, *tested, fitted))
    clusters = None if logit is None else logit.clusters
    if clusters is not None and clusters < FEW_CHOOSERS:
        warnings.append(f"standard errors clustered by only {clusters} choosers are likely too small")
    if len(reading.slates) < 200:
        warnings.append(f"with {len(reading.slates)} slates intervals are wide and tests weak")
    calibration: tuple[tuple[float, float, float, int], ...] = ()
    if found is not None and within is None:  # of one set of rewards; groups are judged by their own tests
        calibration = tuple(calibration_table(strict, strict.slates.softmax(strict.features @ beta)[0]))
    rival = {Family.LAPSE: lapse, Family.THURSTONE: probit}.get(verdict.rule)
    rewards, weights = _rewards(reading, design, items, logit, groups, rival)
    rewards = rewards - rewards.mean(axis=0)  # identified up to a constant
    gaps = reward_gaps(strict, _worths(strict, beta, groups, design)) if beta.size else []
    agreed = None
    if again is not None:
        chances = again.choices.slates.softmax(_worths(again.choices, beta, groups, design))[0]
        agreed = again.consistency(chances)
    return Fit(
        reading, logit, items, position_fit(strict), lapse, probit, best, groups, tuple(scores),
        tuple(checks), tuple(rules), within, calibration, verdict, rewards, weights, tuple(warnings),
        tuple(gaps), agreed, strict.names,
    )  # fmt: skip


def _best_of_k(ready: Usable, worth: FloatArray, source: str) -> Fit:
    """Return the fit of picks that are all the best of their slates by the only feature."""
    reading, strict = ready.reading, ready.reading.strict
    name, signed = strict.names[0], bool((worth == reading.matrix[:, 0]).all())
    if reading.model == SCORE and signed:
        forecast = f"to forecast: recurate forecast {source}{_reward_option(name)} --noise none"
    else:  # the sign, and indicators, exist in the fit's own log only
        forecast = "forecast from the folder of this fit, whose rewards are this worth"
    sign = 1.0 if signed else -1.0
    best = rival_rules.best_of_k(strict, sign * strict.features[:, 0])
    slates = reading.slates
    differ = int((slates.maxima(worth) > -slates.maxima(-worth)).sum())
    label = name if signed else f"minus {name}"
    verdict = best_of(np.unique(slates.sizes).tolist(), differ, len(slates), label, forecast)
    luck = float(np.exp(rival_rules.log_luck(strict, sign * strict.features[:, 0])))
    warnings = [*_few_used(reading), *ready.warnings]
    if luck > LUCK:
        warnings.append(f"random picks would all be the best with probability {luck:.2g}")
    return Fit(
        reading, None, None, None, None, None, best, None, (), (), (), None, (),
        _after(reading, verdict), worth[:, None].astype(float), (1.0,), tuple(warnings),
    )  # fmt: skip


# --- the pieces -----------------------------------------------------------------------------------


def _again(
    repeats: PlainSlates,
    reading: Reading,
    strict: Choices,
    items: ItemFit | None,
    options: FitOptions,
    warnings: list[str],
) -> Again | None:
    """Return the answers of people who were asked again, or None with a warning that says why not."""
    found = again_of(repeats, reading, strict, items, options.wanted.ties)
    if isinstance(found, Again):
        return found
    warnings.append(f"answers to questions that people were asked again are not compared: {found}")
    return None


def _worths(choices: Choices, beta: FloatArray, groups: ClassFit | None, design: Choices) -> FloatArray:
    """Return the rewards at temperature 1, (rows,), with groups those of the chooser's likeliest one."""
    if groups is None or choices.choosers is None:
        return np.asarray(choices.features @ beta)
    assert design.choosers is not None
    group = group_of(choices, groups, np.unique(design.choosers))
    d = len(choices.names)
    own = groups.coefficients[choices.slates.spread(group), :d]
    return np.asarray(np.einsum("nd,nd->n", choices.features, own))


def _fit_items(reading: Reading, options: FitOptions) -> ItemFit:
    codes, slates, picked, tied = item_slates(reading)
    choices = reading.choices
    appearances = np.bincount(codes, minlength=len(reading.strict.item_names))
    if appearances.max() <= 1:
        raise InputError(
            "rewards of items are not identified, because no item occurs twice",
            got=f"{appearances.size} items, each shown once",
            remedy="name features or a score that describe the items (--feature, --score)",
        )
    return item_rewards(
        codes, picked, offsets=slates.offsets, names=reading.strict.item_names, weights=choices.weights,
        clusters=choices.clusters, ties=tied, shrinkage=options.shrinkage,
    )  # fmt: skip


def _design(reading: Reading, items: ItemFit | None) -> Choices:
    """Return the choices with their features, or with indicators of few items or rewards of many."""
    choices = reading.choices
    if items is None:
        return choices
    if choices.tie_rows is not None:
        choices = reading.strict
    assert choices.items is not None
    if len(items.names) <= FEW_ITEMS:
        indicators = (choices.items[:, None] == np.arange(1, len(items.names))).astype(float)
        return choices.with_features(indicators, [f"item={n}" for n in items.names[1:]])
    return _known(reading, items)


def _known(reading: Reading, items: ItemFit) -> Choices:
    """Return the choices without ties, described by the fitted rewards of their items."""
    choices = reading.choices if reading.choices.tie_rows is None else reading.strict
    assert choices.items is not None
    return choices.with_features(items.rewards[choices.items][:, None], [ITEM_REWARD])


def _strict(
    reading: Reading, design: Choices, items: ItemFit | None, logit: LogitFit | None, options: FitOptions
) -> tuple[Choices, FloatArray, FloatArray] | None:
    """Return the choices without ties, with coefficients and covariance for the tests; None without any."""
    if reading.model == POSITIONS:
        return reading.strict, np.empty(0), np.empty((0, 0))
    if items is None and reading.strict is not reading.choices:
        try:
            own = conditional_logit(reading.strict, shrinkage=options.shrinkage, clustered=False)
        except NoEstimate:
            return None
        return reading.strict, own.coefficients, own.covariance
    if logit is None:  # rewards of many items are treated as known
        return design, np.ones(1), np.zeros((1, 1))
    return design, logit.coefficients, logit.covariance


def _verdict(reading: Reading, checks: list[Check], rules: list[RuleScore], fitted: Fitted) -> Verdict:
    """Return the verdict on Luce's model, or that no rewards were fitted."""
    if reading.model != POSITIONS:
        return judge(checks, rules, fitted)
    texts = [n for n, why in reading.left_out.items() if CHARACTERS in why and _lengths_vary(reading, n)]
    example = f" (for example --feature {CHARACTERS}{texts[0]})" if texts else " (--feature COLUMN)"
    remedy = f"describe them by a score (--score COLUMN) or by features{example}"
    return no_rewards(remedy)


def _nearly_best(
    reading: Reading,
    few: Choices,
    lapse: RuleFit | None,
    probit: RuleFit | None,
    best: RuleFit | None,
    source: str,
) -> Verdict | None:
    """Return the verdict that picks of a single score follow best of K with lapses, or None if not."""
    if reading.model != SCORE or few.features.shape[1] != 1 or not (lapse and probit and best):
        return None
    luce = conditional_logit(few, clustered=False)
    logs = {f.family: f.log_likelihood for f in (lapse, probit, best)} | {Family.LUCE: luce.log_likelihood}
    if luce.coefficients[0] <= 0 or simplest(logs) != Family.BEST:
        return None
    if logs[Family.BEST] - logs[Family.LUCE] < ENOUGH:
        return None
    share = float((rival_rules.best_chances(few, few.features[:, 0]) > 0).mean())
    name, sizes = few.names[0], np.unique(reading.slates.sizes).tolist()
    option = _reward_option(name)
    forecast = f"to forecast: recurate forecast {source}{option} --noise none --lapse {best.rule.lapse:.4g}"
    return nearly_best_of(sizes, share, len(few), name, forecast)


def _reward_option(name: str) -> str:
    """Return the option of a forecast that names a score, if it is not found by its name."""
    return "" if name == "reward" or name.startswith("reward_") else f" --reward {name}"


def _lengths_vary(reading: Reading, name: str) -> bool:
    """Return whether texts differ in length within some slate."""
    lengths = np.array([len(str(t)) for t in reading.table[name]], float)
    return bool((reading.slates.maxima(lengths) > -reading.slates.maxima(-lengths)).any())


def _after(reading: Reading, verdict: Verdict) -> Verdict:
    """Return the verdict after a sentence that says so if most slates were left out."""
    lost = _few_used(reading)
    return replace(verdict, sentence=f"{lost[0]}. {verdict.sentence}") if lost else verdict


def _few_used(reading: Reading) -> list[str]:
    """Return a line that says so if most slates were left out."""
    used, lost = len(reading.slates), sum(e.slates for e in reading.exclusions)
    if lost <= used:
        return []
    return [f"Only {used} of {used + lost} slates could be used, and this is about them alone"]


def _by_values(reading: Reading) -> list[str]:
    """Return what was assumed of values that mean the opposite elsewhere, with the option that turns it."""
    found = [note for note in reading.notes if note == ZERO_TIES]
    if reading.mapping.reasons.get(RANK) == BY_VALUES:
        columns = ",".join(reading.mapping.marks)
        found.append(f"{BY_VALUES}; if the highest number is the best: --alternatives {columns}")
    return found


def _avoided(reading: Reading, logit: LogitFit | None) -> list[str]:
    """Return a warning for each score that picks avoid."""
    if reading.model != SCORE or logit is None:
        return []
    found = []
    for name, beta, error in zip(logit.names, logit.coefficients, logit.errors, strict=True):
        z = float(beta / error) if error > 0 else 0.0
        if name == "tie" or beta > 0:
            continue
        if z < -NORMAL_975:
            found.append(
                f"lower values of {name} are picked (z = {z:.1f}): if lower is better there, say so with "
                "--rank COLUMN if 1 is the best"
            )
        else:
            found.append(f"{name} does not raise the odds of a pick (z = {z:.1f}): it has no temperature")
    return found


def _ratio_p(strict: Choices, beta: FloatArray, count: int) -> float | None:
    """Return the p-value of the likelihood ratio against coefficients of zero, with ``count`` of them."""
    if not beta.size or count < 1:
        return None
    logs = strict.log_likelihood(Rule(), strict.features @ beta)
    value = float(logs.sum() if strict.weights is None else logs @ strict.weights)
    return chi2_tail(max(2 * (value - null_log_likelihood(strict)), 0.0), count)


def _rules(
    choices: Choices, options: FitOptions, warnings: list[str]
) -> tuple[list[RuleScore], RuleFit | None, RuleFit | None, RuleFit | None]:
    if not choices.names:
        return [], None, None, None
    try:
        pooled = conditional_logit(choices, clustered=False)
        lapse = rival_rules.lapse_logit(choices, pooled=pooled)
        rules = compare_rules(choices, seed=options.seed, lapse=lapse)
        probit = rival_rules.thurstone(choices, pooled=pooled, errors=False)
        best = rival_rules.best_of_k(choices, choices.features @ pooled.coefficients)
    except NoEstimate as error:
        warnings.append(f"rival rules were not compared: {error.what} ({error.got})")
        return [], None, None, None
    warnings += [
        f"the fit of {f.family} has not converged (gradient per slate {f.gradient_norm:.1e})"
        for f in (lapse, probit)
        if not f.converged
    ]
    return rules, lapse, probit, best


def _groups(
    design: Choices, strict: Choices, options: FitOptions, say: Progress, warnings: list[str]
) -> tuple[ClassFit | None, list[ClassScore]]:
    unknown = design.choosers is None or not design.names
    if options.classes == 0 or (options.classes is None and unknown):
        return None, []
    people = 0 if design.choosers is None else int(np.unique(design.choosers).size)
    mean = len(design) / max(people, 1)
    if options.classes is None and (people < FEW_CHOOSERS or mean < FEW_PICKS):
        warnings.append(
            f"preference groups were not fitted: {people} choosers with {mean:.1f} slates each are too few"
        )
        return None, []
    starts = options.starts or (5 if mean >= THIN else 15)
    if mean < THIN:
        warnings.append(f"preference groups are weakly identified: {mean:.1f} slates per chooser")
    say("fitting preference groups")
    if options.classes is not None:
        try:
            return latent_classes(design, classes=options.classes, starts=starts, seed=options.seed), []
        except NoEstimate as error:
            if not options.shrinkage:
                raise
            remedy = "fit no groups (--groups none): a shrinkage does not apply to them"
            raise NoEstimate(error.what, got=error.got, remedy=remedy) from None
    part = part_of(strict if design.tie_rows is not None else design, FOR_CLASSES)
    try:
        found, scores = select_classes(part, most=options.most_classes, starts=starts, seed=options.seed)
        if len(part) < len(design) or design.tie_rows is not None:
            found = latent_classes(design, classes=found.classes, starts=starts, seed=options.seed)
    except NoEstimate as error:  # where rewards exist only with a shrinkage
        warnings.append(f"preference groups were not fitted: {error.what} ({error.got})")
        return None, []
    if not found.converged:
        warnings.append(
            f"the fit of groups has not converged (gradient per slate {found.gradient_norm:.1e}): they are "
            "hardly identified"
        )
    if found.classes > 1 and found.agreeing == 1 and len(found.starts) > 1:
        warnings.append(f"only one of {len(found.starts)} starts reached these groups: try --starts 30")
    warnings += _doubts(scores, found.classes, options.most_classes)
    return (found if found.classes > 1 else None), scores


def _doubts(scores: list[ClassScore], chosen: int, most: int) -> list[str]:
    """Return what speaks against the chosen number of groups."""
    found = []
    by_bic = min(scores, key=lambda s: s.bic).classes
    if by_bic != chosen:
        found.append(f"held-out choosers support {chosen} preference groups, BIC supports {by_bic}")
    if chosen == most and len(scores) == most > 1:
        found.append(
            f"more than {most} preference groups may exist, but no more were tried (--most-groups {2 * most})"
        )
    return found


def _within(
    design: Choices,
    parts: tuple[Choices, Choices],
    groups: ClassFit | None,
    options: FitOptions,
    warnings: list[str],
    pairs: tuple[Choices, BoolArray] | None,
) -> Within | None:
    """Return the tests within the groups, if there are any; ``parts`` are for tests and for rules."""
    if groups is None or design.choosers is None:
        return None
    found = within_groups(*parts, groups, np.unique(design.choosers), options.seed, pairs)
    if isinstance(found, Within):
        return found
    warnings.append(f"Luce's model was not tested within the groups: {found}")
    return None


def _rewards(
    reading: Reading,
    design: Choices,
    items: ItemFit | None,
    logit: LogitFit | None,
    groups: ClassFit | None,
    rival: RuleFit | None,
) -> tuple[FloatArray, tuple[float, ...]]:
    """Return the rewards of all included candidates at temperature 1, (rows, groups), and their weights.

    They are those of the groups, else of the rule that predicts better than Luce's (``rival``), else Luce's.
    """
    if reading.model == POSITIONS:
        return np.zeros((reading.slates.rows, 1)), (1.0,)
    if items is not None and groups is None and rival is None:
        return items.rewards[item_codes(reading)][:, None], (1.0,)
    matrix = described(reading, items, design.names)
    d = matrix.shape[1]
    if groups is not None:
        return matrix @ groups.coefficients[:, :d].T, tuple(groups.weights.tolist())
    if rival is not None:
        return (matrix @ rival.coefficients[:d])[:, None], (1.0,)
    assert logit is not None
    return (matrix @ logit.coefficients[:d])[:, None], (1.0,)


def described(reading: Reading, items: ItemFit | None, names: Sequence[str]) -> FloatArray:
    """Return the features of all included candidates, (rows, d), that have these names in the fit."""
    if items is None:
        return reading.matrix
    codes = item_codes(reading)
    if tuple(names) == (ITEM_REWARD,):
        return np.asarray(items.rewards[codes][:, None])
    return np.asarray(codes[:, None] == np.arange(1, len(items.names)), float)
