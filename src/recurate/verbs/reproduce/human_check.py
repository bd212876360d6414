r"""Are people's picks Bradley-Terry? The assumption of Ferbach et al. 2024 on choices that people made.

The paper's theorems rest on P(x_k) = e^{r(x_k)} / sum_j e^{r(x_j)} with one reward r for everybody. A
conditional logit is fitted to each data set (:mod:`recurate.verbs.fit`), and departures are measured in units
that do not depend on the number of picks, with 95 % intervals from the data:

*Exponential form.* Pairs of the pick and another candidate, in bins of the gap d of their fitted rewards: the
largest distance, over the bins, of the share in which the better one was picked from 1 / (1 + e^-d). The
interval is simultaneous: each bin's, widened to the level 1 - .05 / bins.
*Rival rules.* What the best of Luce's rule with lapses, Thurstone's and best of K gains over Luce's rule on
held-out slates, in nats per slate; the interval is that rule's own.
*Irrelevant alternatives.* With the chi-squared score statistic C on f degrees of freedom of the tests against
nested logits (and a scale by slate size), (C - f) / (2 n): the gain of such a model in nats per slate, to
second order. The interval is that of the noncentrality, over 2 n (derived here).
*One reward for all.* What two groups of people gain over one on held-out people, in nats per slate.

A claim agrees if the whole interval lies below the margin, and is refuted if it lies above. The margins are
this package's choice, made with first fits of these data in view: they say what is small, no more. So a
departure that a test detects can be small enough to agree; the report has the tests' p-values. Likelihoods
that are known from the literature check how the data were read. ImageReward's rankings are not among the
data: nothing describes their images, so that no reward can be fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from recurate.core.data_files import locate
from recurate.core.errors import InputError
from recurate.log.trajectory import FORECAST, Row, Trajectory
from recurate.metrics.estimates import NORMAL_975
from recurate.report.sections import Section
from recurate.rules.families import Family
from recurate.verbs.fit.fit import Fit, FitOptions, fit_log
from recurate.verbs.reproduce.claims import Claim, Runs, apart, ends
from recurate.verbs.reproduce.experiment import Arms, Experiment, Law

SOURCE = "Ferbach et al. 2024, arXiv 2407.09499, section 2 (the assumption on curation)"
FORM, RIVAL, IIA, ALIKE, LIKELIHOOD = "form", "rival", "iia", "alike", "log_likelihood"
MARGIN, NATS = 0.05, 0.01  # of a probability; in nats per slate
NOT_MEASURED = (math.nan, math.nan, math.nan)

Measured = tuple[float, float, float]  # value and 95 % interval


@dataclass(frozen=True)
class Picks:
    """A data set of people's picks.

    Attributes:
        path: File, relative to the current folder or to RECURATE_DATA.
        what: What was chosen, in words.
        measures: The departures that can be measured on it.
        known: Log-likelihood of the conditional logit in the literature, or None.
    """

    path: str
    what: str
    measures: tuple[str, ...] = (FORM, RIVAL, IIA, ALIKE)
    known: float | None = None


PICKS = {
    "yogurt": Picks("yogurt/yogurt.csv.gz", "purchases of 100 households", known=-2656.888),
    "electricity": Picks(
        "electricity/electricity.csv.gz", "stated choices of suppliers, 361 people", known=-4958.649
    ),
    "cars, US": Picks("cars_conjoint/cars_us.csv.gz", "stated choices of cars, 384 people"),
    "cars, China": Picks("cars_conjoint/cars_china.csv.gz", "stated choices of cars, 448 people"),
    "swissmetro": Picks(
        "swissmetro/swissmetro_long.csv.gz", "stated choices of trains and cars, 1,191 people"
    ),
    "pandalm": Picks(
        "pandalm_pairs/testset-v1.json.gz", "pairs of models' answers, 3 annotators", measures=(FORM, RIVAL)
    ),
}

# --- measures -------------------------------------------------------------------------------------


def measured(path: str) -> Trajectory:
    """Return the departures of a file's picks from Luce's rule, as exact quantities with their intervals.

    Raises:
        InputError: If the file is absent or cannot be read.
    """
    fit = fit_log(_located(path), FitOptions(most_classes=2))
    found = {FORM: _form(fit), RIVAL: _rival(fit), IIA: _iia(fit), ALIKE: _alike(fit)}
    rows = [
        Row(0, FORECAST, name, value, lower=low, upper=high) for name, (value, low, high) in found.items()
    ]
    tests = {f"p:{check.name}": check.corrected for check in fit.checks if check.corrected is not None}
    rows += [Row(0, FORECAST, name, p) for name, p in tests.items()]
    rows.append(Row(0, FORECAST, "slates", float(len(fit.reading.choices))))
    likelihood = math.nan if fit.logit is None else fit.logit.log_likelihood
    return Trajectory((*rows, Row(0, FORECAST, LIKELIHOOD, likelihood)))


def _tests(laws: Mapping[str, Law], runs: Arms) -> list[Section]:
    """Return the p-values of the tests of every data set."""
    titles = {"iia": "irrelevant alternatives", "calibration": "calibration", "choosers": "people alike"}
    table = [["data", "slates", "log-likelihood", *titles.values()]]
    for name, law in laws.items():
        values = {row.quantity: row.value for row in law().rows}
        tested = [f"{values[f'p:{test}']:.2g}" if f"p:{test}" in values else "-" for test in titles]
        table.append([name, f"{values['slates']:,.0f}", f"{values[LIKELIHOOD]:.3f}", *tested])
    text = (
        "p-values of the tests of exact Luce choice with one reward, corrected for their number. With many "
        "picks a test rejects departures that are too small to matter; the margins say which are not."
    )
    return [Section("Tests", text, table)]


def _located(path: str) -> Path:
    try:
        return locate(path)
    except InputError as error:
        raise InputError(
            "human-check needs people's picks, and this file of them is absent",
            got=error.got,
            remedy="set RECURATE_DATA to the folder that holds "
            f"{', '.join(picks.path for picks in PICKS.values())}; or check your own with --data FILE",
        ) from None


def _form(fit: Fit) -> Measured:
    """Return the largest distance from the logistic curve over gaps, with a simultaneous interval."""
    if not fit.gaps:
        return NOT_MEASURED
    from scipy.special import ndtri

    wider = float(ndtri(1 - 0.025 / len(fit.gaps))) / NORMAL_975
    found = []
    for gap in fit.gaps:
        distance = abs(gap.better - gap.luce)
        reach = wider * max(gap.interval[1] - gap.better, gap.better - gap.interval[0])
        found.append((distance, max(distance - reach, 0.0), distance + reach))
    values, lows, highs = zip(*found, strict=True)
    return max(values), max(lows), max(highs)


def _rival(fit: Fit) -> Measured:
    """Return the held-out gain of the best rival rule over Luce's, in nats per slate."""
    rivals = [score for score in fit.rules if score.name not in (Family.LUCE, Family.UNIFORM)]
    if not rivals:
        return NOT_MEASURED
    best = max(rivals, key=lambda score: score.gain)
    return best.gain, *best.interval


def _iia(fit: Fit) -> Measured:
    """Return what nested logits gain over Luce's rule to second order, in nats per slate."""
    check = next((check for check in fit.checks if check.name == "iia"), None)
    if check is None or check.statistic is None or not check.df:
        return NOT_MEASURED
    count = 2 * len(fit.reading.choices)
    low, high = (noncentrality(check.statistic, check.df, level) for level in (0.975, 0.025))
    return (check.statistic - check.df) / count, low / count, high / count


def noncentrality(statistic: float, df: int, level: float) -> float:
    """Return the noncentrality at which a chi-squared statistic is below its value with probability level.

    Zero if even the central one is so small with a lower probability.
    """
    from scipy.optimize import brentq
    from scipy.special import chndtr

    if chndtr(statistic, df, 0.0) <= level:
        return 0.0
    top = 4 * statistic + 100.0
    return float(brentq(lambda nc: chndtr(statistic, df, nc) - level, 0.0, top))


def _alike(fit: Fit) -> Measured:
    """Return what two groups of people gain over one on held-out people, in nats per slate."""
    two = next((score for score in fit.class_scores if score.classes == 2), None)
    if two is None:
        return NOT_MEASURED
    return two.gain, two.gain - NORMAL_975 * two.gain_error, two.gain + NORMAL_975 * two.gain_error


# --- claims ---------------------------------------------------------------------------------------

CLAIMS = {
    FORM: ("the better of two is picked with 1 / (1 + exp(-gap))", "largest distance of its share", MARGIN),
    RIVAL: ("no rival rule predicts better", "held-out gain of the best rival, nats per slate", NATS),
    IIA: ("irrelevant alternatives do not matter", "gain of nested logits, nats per slate", NATS),
    ALIKE: ("all people share one reward", "held-out gain of two groups, nats per slate", NATS),
}


def _claims(name: str, picks: Picks) -> list[Claim]:
    claims = [
        Claim(
            f"{CLAIMS[measure][0]}: {name}",
            f"{CLAIMS[measure][1]}; {picks.what}",
            ends(name, measure),
            False,
            CLAIMS[measure][2],
            exact=True,
            interval=partial(_interval, name, measure),
        )
        for measure in picks.measures
    ]
    if picks.known is not None:
        claims.append(
            Claim(
                f"the conditional logit reaches the log-likelihood {picks.known:.3f} (known): {name}",
                "distance from it",
                apart(ends(name, LIKELIHOOD), picks.known),
                False,
                1e-3,
                exact=True,
            )
        )
    return claims


def _interval(name: str, measure: str, runs: Runs) -> tuple[float, float]:
    (row,) = runs[name].where(FORECAST, measure).rows
    return (
        math.nan if row.lower is None else row.lower,
        math.nan if row.upper is None else row.upper,
    )


def human_check(scale: str, data: str) -> Experiment:
    """Return human-check: whether people's picks are Bradley-Terry.

    Args:
        scale: Without meaning here: nothing is trained.
        data: File of picks in any form that ``fit`` reads; empty: the data sets of RECURATE_DATA.
    """
    sets = PICKS if not data else {Path(data).name: Picks(data, "picks of this file")}
    laws: dict[str, Law] = {name: cache(partial(measured, picks.path)) for name, picks in sets.items()}
    return Experiment(
        "human-check",
        "A conditional logit is fitted to people's picks. Departures from Bradley-Terry (Luce) choice with "
        f"one reward have the margins {MARGIN:g} (a probability) and {NATS:g} nats per slate, chosen with "
        "first fits in view.",
        {},
        tuple(claim for name, picks in sets.items() for claim in _claims(name, picks)),
        SOURCE,
        laws=laws,
        sections=partial(_tests, laws),
    )
