"""Findings on candidates: shown before, twice in a slate, of one seed for every slate, or real data.

Candidates are known again by their rewards, or by their texts, if hardly any two of a round are equal;
rewards that are rounded to five decimals or have half precision are not used.
"""

from __future__ import annotations

import numpy as np

from recurate.choices.checks.statistics import chi2_tail
from recurate.choices.models.named_rules import ranks
from recurate.choices.observed import Observed
from recurate.core.arrays import BoolArray, FloatArray, IntArray
from recurate.core.errors import counted
from recurate.log.schema import MODEL, REAL, Log
from recurate.verbs.audit.declared import Declared
from recurate.verbs.audit.findings import INDEPENDENT, LEVEL, NOTE, OK, UNTESTED, Finding, judge, p_text
from recurate.verbs.audit.reuse import MATERIAL, SAME

FEW = 100  # least number of candidates
MOST = 20_000  # number of slates above which seeds are tested on some
MOST_GAPS = 0.1  # share of numbers above which their absence shows nothing by itself
NEARLY = 0.95  # share of slates, or of candidates, that counts as all
DISTINCT = 0.9  # least share of distinct values within rounds by which candidates are known again
ATOM = 3  # slates of one round in which a reward that tells no candidate stands
SLACK = 1.5  # times what a generator that repeats itself shows again, within the error of its share
EVOLVING = 0.2  # share of the effects of slots that differs between rounds where seeds differ
SEEDED = 0.1  # least size of the effects of slots, in standard deviations of ranks


def judge_candidates(log: Log, observed: Observed, declared: Declared, left_out: int = 0) -> list[Finding]:
    """Return findings on the identity of candidates within slates, between slates, and over rounds.

    Args:
        log: The log.
        observed: Its candidates of the model.
        declared: The declaration.
        left_out: Number of slates that could not be read.
    """
    findings = _missing(log, declared, left_out)
    keys = _keys(observed)
    if keys is not None and not keys.size:
        if declared.candidates is not None:
            evidence = "hardly any candidate occurs twice"
            findings.append(Finding("candidates used again", declared.candidates, "fresh", evidence, OK))
    elif keys is not None:
        findings += _used_again(observed, keys, declared)
        findings += _twice(observed, keys, declared)
    elif declared.candidates == "offline":
        why = "rewards are too coarse to know candidates again"
        findings.append(Finding("candidates used again", "offline", "not tested", why, UNTESTED))
    return findings + _real(log, observed, declared) + _one_seed(observed, declared)


def _fine(values: FloatArray) -> bool:
    """Whether rewards have enough digits to tell candidates apart."""
    with np.errstate(over="ignore", invalid="ignore"):
        coarse = np.all(values.astype(np.float16) == values) or np.all(np.round(values, 5) == values)
        single = values.astype(np.float32)
        coarse |= np.all(single == values) and np.all(single.view(np.uint32) & 0xFFFF == 0)
    return not coarse


def _keys(observed: Observed) -> IntArray | None:
    """Return a code of each candidate, (rows,), equal for equal candidates.

    It is empty if hardly any reward occurs twice, and None if rewards are too coarse to tell.
    """
    rows = observed.rounds.size
    if rows < FEW:
        return None
    found = None
    fine = [j for j in range(observed.rewards.shape[1]) if _fine(observed.rewards[:, j])]
    if fine:
        ordered = np.sort(observed.rewards[:, fine[0]])
        if (ordered[1:] == ordered[:-1]).mean() <= MATERIAL / 2:
            return np.empty(0, np.int64)
        found = np.unique(observed.rewards[:, fine[0]], return_inverse=True)[1].astype(np.int64)
    elif observed.items is not None:
        found = observed.items
    if found is None or _distinct(observed, found) < DISTINCT:
        return None
    return _without_atoms(observed, found) if fine else found


def _without_atoms(observed: Observed, keys: IntArray) -> IntArray:
    """Return keys in which values of several slates of a round, such as caps, are of different candidates."""
    atoms = _atoms(observed, keys)[keys]
    found = keys.copy()
    found[atoms] = keys.max() + 1 + np.arange(int(atoms.sum()))
    return np.asarray(np.unique(found, return_inverse=True)[1], np.int64)


def _atoms(observed: Observed, keys: IntArray) -> BoolArray:
    """Return whether each key stands in ``ATOM`` or more slates of one round, (keys,)."""
    slate = np.arange(keys.size)
    slate[: observed.slated] = observed.slates.index()
    slate[observed.slated :] += len(observed.slates)
    rounds = np.searchsorted(observed.round_ids, observed.rounds)
    pairs = keys * observed.round_ids.size + rounds
    slates = int(slate.max()) + 1
    pair, counts = np.unique(np.unique(pairs * slates + slate) // slates, return_counts=True)
    found = np.zeros(int(keys.max()) + 1, bool)
    found[pair[counts >= ATOM] // observed.round_ids.size] = True
    return found


def _distinct(observed: Observed, keys: IntArray) -> float:
    """Return the share of distinct candidates within rounds, each slate's own repeats apart."""
    slate = np.arange(keys.size)
    slate[: observed.slated] = slate[observed.slates.spread(observed.slates.offsets[:-1])]
    _, once = np.unique(slate * (int(keys.max()) + 1) + keys, return_index=True)
    pairs = observed.rounds[once].astype(np.int64) * (int(keys.max()) + 1) + keys[once]
    return np.unique(pairs).size / pairs.size


def _first(codes: IntArray) -> IntArray:
    """Return the index of the first row with each row's code."""
    _, first, index = np.unique(codes, return_index=True, return_inverse=True)
    return np.asarray(first[index.ravel()], np.int64)


def _used_again(observed: Observed, keys: IntArray, declared: Declared) -> list[Finding]:
    order = np.argsort(observed.rounds, kind="stable")
    first = np.empty(order.size, np.int64)
    first[order] = order[_first(keys[order])]
    before = observed.rounds[first] < observed.rounds
    slate = np.arange(keys.size)
    slate[: observed.slated] = observed.slates.index()
    inside = (observed.rounds[first] == observed.rounds) & (slate[first] != slate)
    later = observed.rounds > observed.round_ids[0]
    shares = (
        _without_fixed_slots(observed, before, later),
        _without_fixed_slots(observed, inside, later | True),
    )
    aspect, wanted = (
        "candidates used again",
        declared.candidates or ("(fresh)" if declared.says_anything else ""),
    )
    evidence = (
        f"{shares[0]:.1%} were shown in an earlier round, {shares[1]:.1%} in an earlier slate of the round"
    )
    if max(shares) <= MATERIAL:
        verdict = OK if declared.candidates == "fresh" else NOTE
        shown = "fresh"
        if declared.candidates == "offline":
            verdict = OK
        return [Finding(aspect, wanted, shown, evidence, verdict)] if declared.candidates else []
    if shares[0] >= NEARLY:
        shown = "an offline set: the same candidates in each round"
        verdict = judge(declared.candidates is not None, declared.candidates == "offline")
        more = "" if declared.candidates else "; declare candidates = offline, if they are"
        return [Finding(aspect, declared.candidates or "", shown, evidence + more, verdict)]
    # A generator that repeats itself does so within rounds and over them, in proportion to what it has shown.
    over = SLACK * 2 * (observed.round_ids.size - 1) * shares[1]
    if declared.candidates != "offline" and shares[1] <= max(shares[0], over) and shares[0] <= over:
        shown = "the generator repeats itself, or rewards have few digits"
        verdict = NOTE if declared.candidates is None else UNTESTED
        return [Finding(aspect, declared.candidates or "", shown, evidence, verdict)]
    right = declared.candidates == "offline"
    return [Finding(aspect, wanted, "candidates are used again", evidence, judge(bool(wanted), right))]


def _without_fixed_slots(observed: Observed, again: BoolArray, of: BoolArray) -> float:
    """Return the share of rows ``of`` shown again, without slots of which most are: greedy answers."""
    if not of.any():
        return 0.0
    slots = np.clip(observed.slots, -1, 63) + 1
    total, hits = np.bincount(slots[of]), np.bincount(slots[of & again], minlength=slots[of].max() + 1)
    fixed = hits > SAME * total
    if not fixed[total > 0].all():
        total, hits = total[~fixed], hits[~fixed]
    return float(hits.sum() / max(total.sum(), 1))


def _twice(observed: Observed, keys: IntArray, declared: Declared) -> list[Finding]:
    """Return a finding if slates show candidates twice."""
    slates = observed.slates
    if not len(slates) or slates.sizes.max() < 2:
        return []
    pairs = slates.index() * (int(keys.max()) + 1) + keys[: observed.slated]
    own = np.bincount(np.unique(pairs) // (int(keys.max()) + 1), minlength=len(slates))
    fewer = own < slates.sizes
    if fewer.mean() <= MATERIAL:
        return []
    usual = int(np.bincount(own).argmax())
    always = bool((own == usual).mean() >= NEARLY)
    evidence = f"{fewer.mean():.1%} of the slates show a candidate twice"
    shown = f"{usual} in {(own == usual).mean():.1%} of the slates"
    wanted = "" if declared.k is None else str(declared.k)
    return [
        Finding(
            "distinct candidates per slate", wanted, shown, evidence, judge(bool(wanted) and always, False)
        )
    ]


def _real(log: Log, observed: Observed, declared: Declared) -> list[Finding]:
    """Return a finding if real data are among the candidates."""
    real = log.select(source=REAL)
    if not real.table.num_rows:
        return []
    fine = [j for j in range(len(observed.names)) if _fine(observed.rewards[:, j])]
    if not fine:
        return []
    values, keys = np.unique(observed.rewards[:, fine[0]], return_inverse=True)
    alone = ~_atoms(observed, keys.ravel().astype(np.int64))[keys.ravel()]
    share = float((np.isin(observed.rewards[:, fine[0]], real.reward_matrix()[:, fine[0]]) & alone).mean())
    known = float(values.size / observed.rounds.size)
    if share <= MATERIAL or known < DISTINCT:
        return []
    claimed = declared.says_anything
    wanted = "of the model" if claimed else ""
    evidence = f"{share:.1%} of them have exactly the reward of one of the real data"
    return [
        Finding("source of the candidates", wanted, "real data among them", evidence, judge(claimed, False))
    ]


def _missing(log: Log, declared: Declared, left_out: int) -> list[Finding]:
    """Return a finding if the numbers of slates have more gaps than slates were left out."""
    table = log.select(source=MODEL).table
    slate = np.asarray(table.column("slate").fill_null(-1).to_numpy(), np.int64)
    rounds = np.asarray(table.column("round").to_numpy(), np.int64)[slate >= 0]
    slate = slate[slate >= 0]
    if not slate.size:
        return []
    order = np.lexsort((slate, rounds))
    rounds, slate = rounds[order], slate[order]
    fresh = np.flatnonzero(np.r_[True, rounds[1:] != rounds[:-1]])
    spans = int((slate[np.r_[fresh[1:], slate.size] - 1] - slate[fresh] + 1).sum())
    ids = rounds[fresh]
    distinct = 1 + int(((rounds[1:] != rounds[:-1]) | (slate[1:] != slate[:-1])).sum())
    gaps = spans - distinct
    if gaps <= left_out or gaps > spans / 2:
        return []
    claimed = declared.slates is not None and spans - gaps < declared.slates * ids.size
    if not claimed and gaps > MOST_GAPS * spans:  # numbers of prompts, of which rounds have some
        return []
    evidence = f"{gaps} of {spans} consecutive numbers do not occur"
    shown = counted(gaps, "{slate number is|slate numbers are} missing")
    return [
        Finding(
            "numbers of the slates", "complete" if claimed else "", shown, evidence, judge(claimed, False)
        )
    ]


def _one_seed(observed: Observed, declared: Declared) -> list[Finding]:
    """Test whether slots have the same latent noise in all slates of a round, another one in each round."""
    slates = observed.slates
    k = slates.width
    if observed.round_ids.size < 2 or k < 4 or k > 64:
        return []
    step = max(1, len(slates) // MOST)
    worth = observed.rewards[: observed.slated, 0].reshape(-1, k)[::step]
    rounds = observed.slate_rounds[::step]
    found = [_seeded(np.delete(worth, out, axis=1), rounds) for out in (k, *range(k))[1:]]
    p = max(p for p, _ in found)
    if p >= LEVEL or min(size for _, size in found) < SEEDED:
        return []
    claimed = declared.says_anything
    shown = "shared: the same seed for all slates of a round"
    evidence = f"slots have effects of their own in each round, {p_text(p)}"
    wanted = INDEPENDENT if claimed else ""
    return [Finding("candidates of different slates", wanted, shown, evidence, judge(claimed, False))]


def _seeded(worth: FloatArray, rounds: IntArray) -> tuple[float, float]:
    """Return the p-value of equal effects of slots in all rounds, and the size of the differences."""
    place = ranks(worth, np.ones(worth.shape, bool))
    ids, index, counts = np.unique(rounds, return_inverse=True, return_counts=True)
    means = np.array([np.bincount(index, column) for column in place.T]).T / counts[:, None]
    spread = float(np.square(place).mean())
    middle = counts @ means / counts.sum()
    between = float((counts[:, None] * np.square(means - middle)).sum())
    whole = float((counts[:, None] * np.square(means)).sum())
    if spread < 1e-12 or whole <= 0 or between < EVOLVING * whole:
        return 1.0, 0.0
    k = worth.shape[1]
    p = chi2_tail(between * (k - 1) / (k * spread), (ids.size - 1) * (k - 1))
    return p, float(np.sqrt(between / rounds.size / k / spread))
