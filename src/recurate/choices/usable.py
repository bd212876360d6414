"""The part of plain slates for which estimates exist; what is left out is named and counted.

- Slates of an item against itself hold no information.
- Rewards of items are finite within a strongly connected part of the graph "was picked over" (Ford 1957). The
  largest part is kept. If an item outside of it always (or never) won, the rewards of the others are those to
  which the estimates converge as its own goes to infinity.
- A feature that is a combination of features before it has no coefficient of its own.
- A feature that is never lower (or never higher) for picks than for their rivals has no finite coefficient.
  Candidates that it rules out are left out, and then itself, unless it decides half of the slates or more.

Two cases stop the whole: picks that are always the best by the only feature follow best of K, and picks that
features decide in most slates have no estimate without a shrinkage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recurate.choices.from_slates import Reading, choices_of
from recurate.choices.models.connectivity import check_tie_odds, components_of
from recurate.choices.models.identifiability import NoEstimate, Separated, listed, regular_features
from recurate.choices.models.logit import LogitFit, conditional_logit
from recurate.choices.models.rival_rules import best_chances
from recurate.choices.table import Choices
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import InputError
from recurate.log.reading.forms import RANK
from recurate.log.reading.slates import ITEMS, POSITIONS, SCORE, Exclusion, PlainSlates
from recurate.rules.slates import Slates

ROUNDS = 50  # maximum number of times that separated slates are looked for
ALONE = "of one item against itself: they hold no information"
OUTSIDE = "whose pick, or all of whose other candidates, are left out"
DECIDED = "that features without a finite coefficient decide"
HALVES = "ties are counted as half a win for each (as with --ties half): the odds of a tie are not finite"


@dataclass(frozen=True)
class Usable:
    """Slates, items and features for which estimates exist.

    Attributes:
        reading: Choice table of what is kept.
        logit: Conditional logit of the table, where features or scores describe the candidates; else None.
        best: Worth of the candidates (rows,), if every pick is the best of its slate by it; else None.
        warnings: Items and features that were left out with slates, and why.
    """

    reading: Reading
    logit: LogitFit | None = None
    best: FloatArray | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()


def usable(plain: PlainSlates, ties: str, shrinkage: float = 0.0) -> Usable:
    """Return what can be fitted of plain slates; with a shrinkage, all but slates without information.

    Args:
        plain: Usable slates of a file.
        ties: Treatment of ties: ``davidson``, ``half`` or ``drop``.
        shrinkage: Penalty on coefficients or rewards of items.

    Raises:
        InputError: If nothing can be fitted.
        NoEstimate: If features decide most slates, or every pick is the worst by the only score.
    """
    if plain.model == ITEMS:
        plain = _without_mirrors(plain)
        return Usable(choices_of(plain, ties)) if shrinkage else _connected(plain, ties)
    if plain.model == POSITIONS:
        return Usable(choices_of(plain, ties))
    return _described(plain, ties, shrinkage)


def only(plain: PlainSlates, rows: BoolArray, reason: str) -> PlainSlates:
    """Return plain slates with some rows only; slates without a pick among several are excluded.

    Args:
        plain: Plain slates.
        rows: Whether each row is kept, (rows,).
        reason: Reason of the exclusion, as a phrase that follows "slates".
    """
    slates, result = plain.slates, plain.columns["result"].astype(float)
    left = slates.sums(rows.astype(np.int64))
    low, high = (
        -slates.maxima(np.where(rows, -result, -np.inf)),
        slates.maxima(np.where(rows, result, -np.inf)),
    )
    if plain.kind == RANK:
        good = (left >= 2) & (low < high)
    else:  # tied pairs are kept whole or not at all
        good = (left >= 2) & (high > 0) & ((low < high) | (left == slates.sizes))
    if not good.any():
        remedy = "name the column of items (--item), or features (--feature)"
        raise InputError("no slate can be used", got=f"{len(slates)} {reason}", remedy=remedy)
    kept = rows & slates.spread(good)
    columns = dict(plain.columns)
    if "slot" in columns and columns["slot"].dtype != object and (left[good] < slates.sizes[good]).any():
        columns["slot"] = np.array([f"{s:06d}" for s in slates.slots()], object)  # places as they were shown
    columns = {name: values[kept] for name, values in columns.items()}
    exclusions = plain.exclusions
    if not good.all():
        first = plain.columns["slate"][slates.offsets[np.flatnonzero(~good)[0]]]
        lost = int(slates.sizes[~good].sum())
        exclusions += (Exclusion(reason, int((~good).sum()), lost, f"first: slate {first}"),)
    offsets = np.r_[0, np.cumsum(left[good])].astype(np.int64)
    ordered = tuple(sorted(exclusions, key=lambda e: -e.slates))
    return replace(plain, columns=columns, slates=Slates(offsets), exclusions=ordered)


# --- items ----------------------------------------------------------------------------------------


def item_slates(reading: Reading) -> tuple[IntArray, Slates, IntArray, BoolArray | None]:
    """Return item codes (rows,), slates, picked slots (slates,) and whether slates are tied, None if none is.

    A tied pair has the pick 0.
    """
    choices = reading.choices
    if choices.tie_rows is None:
        assert choices.items is not None
        return choices.items, choices.slates, choices.picked, None
    return item_codes(reading), reading.slates, np.where(reading.tied, 0, choices.picked), reading.tied


def item_codes(reading: Reading) -> IntArray:
    """Return the item code of each included candidate, (rows,)."""
    names = {name: i for i, name in enumerate(reading.strict.item_names)}
    return np.array([names["" if v is None else str(v)] for v in reading.table["item"]], np.int64)


def _without_mirrors(plain: PlainSlates) -> PlainSlates:
    """Return the slates in which more than one item occurs."""
    codes = plain.codes("item").astype(float)
    alone = plain.slates.maxima(codes) == -plain.slates.maxima(-codes)
    return only(plain, ~plain.slates.spread(alone), ALONE) if alone.any() else plain


def _connected(plain: PlainSlates, ties: str) -> Usable:
    """Return the slates of the largest strongly connected part of the items."""
    reading = choices_of(plain, ties)
    codes, slates, picked, known = item_slates(reading)
    tied = np.zeros(len(slates), bool) if known is None else known
    winners = codes[slates.offsets[:-1] + picked]
    count = len(reading.strict.item_names)
    labels = components_of(codes, slates, winners, tied, count)
    warnings: list[str] = []
    if labels.max() > 0:
        same = slates.sums((labels[codes] == slates.spread(labels[winners])).astype(np.int64)) >= 2
        within = np.bincount(labels[winners][same & ~tied], minlength=labels.max() + 1)
        largest = int(np.lexsort((within, np.bincount(labels), within > 0))[-1])
        kept = labels == largest
        if within[largest] == 0:
            return Usable(
                reading
            )  # no part has a pick: its rewards have no estimate, which item_rewards says
        warnings = _outsiders(reading, codes, winners, tied, slates, kept)
        plain = _without_mirrors(only(plain, kept[item_codes(reading)], OUTSIDE))
        reading = choices_of(plain, ties)
        codes, slates, picked, known = item_slates(reading)
        winners, count = codes[slates.offsets[:-1] + picked], int(kept.sum())
    if known is not None and known.any():
        try:
            check_tie_odds(codes, winners, known, count)
        except NoEstimate:
            return Usable(choices_of(plain, "half"), warnings=(*warnings, HALVES))
    return Usable(reading, warnings=tuple(warnings))


def _outsiders(
    reading: Reading, codes: IntArray, winners: IntArray, tied: BoolArray, slates: Slates, kept: BoolArray
) -> list[str]:
    """Return one line on each kind of items that are not kept, which names them."""
    names, count = reading.strict.item_names, kept.size
    own = item_codes(reading)
    pairs = np.unique(np.column_stack([reading.slates.index(), own]), axis=0)
    shown = np.bincount(pairs[:, 1], minlength=count)  # slates of each item
    stages = np.bincount(codes, minlength=count)
    wins = np.bincount(winners[~tied], minlength=count)
    halves = np.bincount(codes[slates.spread(tied)], minlength=count)
    always = ~kept & (wins == stages) & (halves == 0)
    never = ~kept & (wins + halves == 0)
    two = reading.slates.width == 2
    what = "comparisons" if two else "slates"
    if reading.kind == RANK:
        verbs = ("came first in", "came last in")
    else:
        verbs = ("won", "lost") if two else ("was picked in", "was not picked in")
    lines = []
    for members, verb in ((always, verbs[0]), (never, verbs[1])):
        index = np.flatnonzero(members)
        every = "any of " if "not" in verb else "all "
        if 0 < index.size <= 3:
            for i in index:
                times = f"{every}its {shown[i]} {what}" if shown[i] > 1 else f"its only {what[:-1]}"
                lines.append(f"{listed([names[i]])} {verb} {times}{_left_out(1)}")
        elif index.size:
            many = verb.replace("was ", "were ")
            title = (
                f"{listed([names[i] for i in index])} {many} {every}their {int(shown[index].sum())} {what}"
            )
            lines.append(title + _left_out(index.size))
    rest = np.flatnonzero(~kept & ~always & ~never)
    if rest.size:
        verb = "is" if rest.size == 1 else "are"
        lines.append(
            f"{listed([names[i] for i in rest])} {verb} not connected with the others in both directions "
            f"along 'was picked over'{_left_out(rest.size)}"
        )
    return lines


def _left_out(count: int) -> str:
    return f": no finite reward; left out (--shrinkage 1 gives {'it' if count == 1 else 'them'} one)"


# --- features -------------------------------------------------------------------------------------


def _described(plain: PlainSlates, ties: str, shrinkage: float) -> Usable:
    """Return the slates and features of which a conditional logit has an estimate, and this estimate."""
    warnings: list[str] = []
    reasons: dict[str, str] = {}
    whole = reading = _regular(choices_of(plain, ties), shrinkage, reasons)
    refused: NoEstimate | None = None  # the reason why the whole has no estimate, with its remedies
    for _ in range(ROUNDS):
        try:
            return Usable(
                reading, conditional_logit(reading.choices, shrinkage=shrinkage), warnings=tuple(warnings)
            )
        except Separated as error:
            if refused is None:
                worth = _only_worth(reading)
                if worth is not None:
                    return Usable(reading, best=worth)
                refused = _advice(plain, reading, error)
            part = _undecided(plain, reading, error)
            if part is not None and 2 * len(part.slates) >= len(whole.slates):
                names = [reading.choices.names[j] for j in error.blamed]
                warnings.append(_decided(names, len(plain.slates) - len(part.slates)))
                reasons |= dict.fromkeys(names, "it has no finite coefficient (--shrinkage 1 gives it one)")
                plain = part
            elif reading.choices.tie_rows is not None:
                ties, warnings = "half", [*warnings, HALVES]
            else:
                raise refused from None
        try:
            reading = _regular(choices_of(plain, ties), shrinkage, reasons)
        except InputError:  # no feature is left
            raise refused from None
    assert refused is not None
    raise refused


def _regular(reading: Reading, shrinkage: float, reasons: dict[str, str]) -> Reading:
    """Return a choice table without the features whose coefficients are not identified.

    Args:
        reading: Choice table.
        shrinkage: With a shrinkage, collinear features are kept.
        reasons: Reasons why features are left out, where they are known.
    """
    strict = reading.strict
    kept, gone = regular_features(strict, collinear=not shrinkage)
    left_out = {name: reasons.get(name, why) for name, why in reading.left_out.items()}
    if not gone:
        return replace(reading, left_out=left_out)
    for j, others in gone.items():
        name = strict.names[j]
        if not others:
            why = "the same for all candidates of a slate"
        else:
            of = listed([strict.names[i] for i in others])
            what = f"repeats {of}" if len(others) == 1 else f"is a linear combination of {of}"
            why = f"within slates it {what} (--shrinkage 1 keeps it)"
        left_out[name] = reasons.get(name, why)
    if not kept.size:
        raise InputError(
            "no feature varies within slates",
            got=listed(list(left_out)),
            remedy="name features that differ between the candidates of a slate (--feature)",
        )
    own = _cut(strict, kept, len(strict.names))
    choices = own if reading.choices is strict else _cut(reading.choices, kept, len(strict.names))
    matrix = np.ascontiguousarray(reading.matrix[:, kept])
    return replace(reading, choices=choices, strict=own, matrix=matrix, left_out=left_out)


def _cut(choices: Choices, kept: IntArray, count: int) -> Choices:
    """Return the choices with some of their first ``count`` features, and all features after them."""
    index = np.r_[kept, np.arange(count, len(choices.names))]
    return choices.with_features(choices.features[:, index], [choices.names[j] for j in index])


def _only_worth(reading: Reading) -> FloatArray | None:
    """Return the worth of the candidates (rows,) by the only feature, if it decides every pick; else None.

    Raises:
        NoEstimate: If the feature is a score, and every pick is the worst by it.
    """
    strict = reading.strict
    if len(strict.names) != 1:
        return None
    worth = reading.matrix[:, 0]
    spread = reading.slates.maxima(worth) + reading.slates.maxima(-worth)
    if (spread[reading.tied] > 0).any():
        return None
    if (best_chances(strict, strict.features[:, 0]) > 0).all():
        return worth
    if reading.model != SCORE:
        return -worth
    name = strict.names[0]
    raise NoEstimate(
        f"every pick is the worst of its slate by {name!r}",
        got=f"in all {int((spread > 0).sum())} slates whose candidates differ in it",
        remedy=f"name a score of which higher is better (--score); --rank COLUMN if 1 is the best; or fit "
        f"{name!r} as a feature, whose sign is free (--feature {name})",
    )


def _undecided(plain: PlainSlates, reading: Reading, error: Separated) -> PlainSlates | None:
    """Return the slates without the candidates that separating features rule out; None if none is left."""
    if (
        plain.kind == RANK
        or reading.choices is not reading.strict
        or len(reading.choices) != len(plain.slates)
    ):
        return None  # stages of rankings, and ties
    worth = reading.matrix @ error.direction
    top = worth[plain.slates.offsets[:-1] + reading.choices.picked]
    size = max(float(np.abs(worth).max()), 1e-300)
    try:
        return only(plain, worth >= plain.slates.spread(top) - 1e-7 * size, DECIDED)
    except InputError:
        return None


def _decided(names: Sequence[str], slates: int) -> str:
    """Return a line on features that are left out with the slates they decide."""
    if len(names) == 1:
        has, rule, they, them = "has no finite coefficient", "it is", "it decides", "it"
    else:
        has, rule, they, them = "have no finite coefficients", "a combination is", "they decide", "them"
    return (
        f"{listed(names)} {has}: {rule} never lower (or never higher) for the pick; left out with the "
        f"{slates} slates that {they} (--shrinkage 1 keeps {them})"
    )


def _advice(plain: PlainSlates, reading: Reading, error: Separated) -> NoEstimate:
    """Return the error of separated picks with options that work for this table."""
    choices = reading.strict
    blamed = [choices.names[j] for j in error.blamed if j < len(choices.names)]
    option = "--score" if reading.model == SCORE else "--feature"
    columns = [*plain.numeric, *plain.categories]
    at_fault = {_column(name, columns) for name in blamed}
    others = [
        c for c in columns if c not in at_fault and any(_column(n, columns) == c for n in choices.names)
    ]
    remedies = ["set a shrinkage (--shrinkage 1)"]
    if others:
        remedies.append(f"fit without {listed(blamed)}: " + " ".join(f"{option} {c}" for c in others))
    if len(at_fault) == 1 and blamed[0] in plain.numeric:
        worth = choices.features[:, choices.names.index(blamed[0])]
        if (best_chances(choices, worth) > 0).all():
            remedies.insert(0, f"take it that picks follow best of K by it: --score {blamed[0]}")
    return NoEstimate(error.what, got=error.got, remedy="; or ".join(remedies))


def _column(name: str, columns: Sequence[str]) -> str:
    """Return the column of a feature: itself, or that of which it is an indicator."""
    return name if name in columns else name.rpartition("=")[0]
