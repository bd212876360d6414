"""The report's paragraph of details, and its tables of the forecast against the measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recurate.log.trajectory import FORECAST, MEASURED, RENEWED, Row, Trajectory, agreement, passed_on
from recurate.report.charts import QUANTITIES, Key, title
from recurate.report.lead import banded, left_since, supported, verb


@dataclass(frozen=True)
class Comparison:
    """The forecast of one series against its measured values, as text.

    Attributes:
        title: Title of the quantity.
        table: Heading, then per round: measured value, forecast, difference, relative difference.
        verdict: Sentence that states the forecast's error.
    """

    title: str
    table: list[list[str]]
    verdict: str


def what_happened(trajectory: Trajectory, facts: dict[str, Any]) -> str:
    """Return a paragraph that summarises a run, or a forecast as far as its candidates support it.

    Args:
        trajectory: Measured values, or a forecast if there are none.
        facts: Settings of the loop by name, such as ``k``, ``noise`` and ``real_fraction``.
    """
    source = MEASURED if trajectory.where(MEASURED).rows else FORECAST
    until = supported(trajectory) if source == FORECAST else None
    if until is not None:  # of what lies beyond support, the charts and tables speak
        trajectory = Trajectory(tuple(r for r in trajectory.rows if r.round <= max(until, 0)))
    sentences = [_setting(facts)]
    rewards = list(dict.fromkeys(r.reward for r in trajectory.rows if r.reward is not None))
    for reward in rewards:
        rows = _rows(trajectory, source, "mean_exp_reward", reward) or _rows(
            trajectory, source, "mean_reward", reward
        )
        first, last = rows[0], rows[-1]
        of = "reward" if reward == "reward" else f"{reward}"
        cooled = of if facts.get("temperature", 1.0) == 1 else f"{of} / {facts['temperature']:g}"
        name = f"E exp({cooled})" if first.quantity == "mean_exp_reward" else f"the mean {of}"
        factor = last.value / first.value if first.value > 0 else math.nan
        fold = f", a factor of {factor:.2g}" if factor >= 1.1 else ""
        sentences.append(
            f"{name[0].upper()}{name[1:]} {verb(first, last, source)} from {first.value:.3g} in round "
            f"{first.round} to {last.value:.3g} in round {last.round}{fold}."
        )
    if source == MEASURED:
        sentences += [_forecast_quality(trajectory, reward) for reward in rewards]
        sentences.append(_passed(trajectory))
    sentences += [_groups(trajectory, source), _divergence(trajectory, source)]
    return " ".join(s for s in sentences if s)


MODELS = {"gumbel": "by Luce choice", "gaussian": "by Thurstone's model", "none": "by highest reward"}


def _setting(facts: dict[str, Any]) -> str:
    picking = "In every round, " + (_by_people(facts) if facts.get("by") == "people" else _picking(facts))
    weights = facts.get("weights", [])
    if len(weights) > 1:
        picking += f" (each slate is judged by one of {len(weights)} rewards, drawn with weights "
        picking += f"{', '.join(f'{w:g}' for w in weights)})"
    for stage in facts.get("then", []):
        picking += f"; then, from those kept, {_picking(stage)}"
    share = float(facts.get("real_fraction", 0.0))
    mixed = f"mixed with {share:.0%} real data" if share else "without real data"
    kept = " of this and all earlier rounds" if facts.get("accumulate") else ""
    part = facts.get("efficacy", 1.0)
    way = "" if part == 1 else f", which moves it {part:.0%} of the way to their distribution"
    return f"{picking}. The model is retrained on the picks{kept}, {mixed}{way}."


def _by_people(facts: dict[str, Any]) -> str:
    shown = f"people are shown {facts.get('k')} candidates and pick one"
    return f"{shown}; the forecast assumes that {_picking(facts)}"


def _picking(facts: dict[str, Any]) -> str:
    """Return a clause that states how a stage selects."""
    k, noise = facts.get("k"), str(facts.get("noise", "gumbel"))
    if "level" in facts:
        lost, let = facts.get("false_rejection", 0.0), facts.get("false_acceptance", 0.0)
        erring = (
            f", but a share of {lost:g} of them is not, and {let:g} of the others is" if lost or let else ""
        )
        return f"every candidate whose reward is at least {facts['level']:g} is kept{_noisily(facts)}{erring}"
    if "fraction" in facts:
        return f"the best {facts['fraction']:.0%} of all candidates are kept{_noisily(facts)}"
    if k == 1:
        return "samples are kept without selection (K = 1)"
    if k == "inf" and noise == "gumbel":
        return "candidates are picked with probability proportional to exp(reward) (K = infinity)"
    sizes = " or ".join(k) if isinstance(k, dict) else str(k)
    keep = facts.get("keep", 1)
    many = "one" if keep == 1 else str(keep)
    lapse = facts.get("lapse", 0.0)
    at_random = f" ({lapse:.0%} of the slates at random)" if lapse else ""
    model = MODELS.get(noise, f"with {noise} noise")
    return f"{many} of {sizes} candidates {'is' if keep == 1 else 'are'} picked {model}{at_random}"


def _noisily(facts: dict[str, Any]) -> str:
    return f", with {facts['noise']} noise" if facts.get("noise", "none") != "none" else ""


def _forecast_quality(trajectory: Trajectory, reward: str | None) -> str:
    until, key = supported(trajectory), ("mean_exp_reward", reward, None)
    rows = [row for row in trajectory.rows if row.key == key]
    held = [row for row in rows if until is None or row.round <= until]
    found = agreement(Trajectory(tuple(held)), key)
    known = [] if found is None else [t for t, off in found.relative.items() if math.isfinite(off)]
    if found is None or not known:
        return ""
    worst = max(known, key=lambda t: abs(found.relative[t]))
    of = "" if reward == "reward" else f" for {reward}"
    text = (
        f"The forecast from round 0 alone{of} was off by at most {abs(found.relative[worst]):.1%} "
        f"of the measured value (round {worst})"
    )
    beyond = any(row.source == MEASURED for row in rows if row not in held)
    text += f", in the rounds up to {until}, which it supports" if beyond else ""
    if math.isfinite(found.error_ratio):
        text += f"; its root-mean-square error is {found.error_ratio:.0%} of that of a forecast of no change"
    return text + _left(trajectory, reward) + "." + _renewed(trajectory, reward)


def _left(trajectory: Trajectory, reward: str | None) -> str:
    """Return from which round on the measured values are outside the band of the forecast from round 0."""
    since = left_since(*banded(trajectory, ("mean_exp_reward", reward, None)))
    return "" if since is None else f", and measured values lie outside its 95 % band from round {since} on"


def unbanded(trajectory: Trajectory, key: Key) -> str:
    """Return why some rounds of a forecast's series have no band; "" if all have one, or nothing has."""
    rows = trajectory.where(FORECAST).rows
    if all(row.lower is None for row in rows):
        return ""
    without = sorted(row.round for row in rows if row.key == key and row.lower is None)
    if not without:
        return ""
    if key[0] == "effective_support":
        return "No band: it is a number of this pool, not of the loops that may come."
    if key[0] == "kl_to_reference" and without[0] == 0:
        start = "No band in round 0: there its error has one side only."
        without = without[1:]
    else:
        start = ""
    if not without:
        return start
    found = [r for r in rows if r.key == key]
    where = "" if len(without) == len(found) else f" in {rounds_in_words(without)}"
    return f"{start} No band{where}: too few candidates of the pool carry its error.".strip()


def rounds_in_words(rounds: Sequence[int]) -> str:
    """Return rounds in ascending order as text, such as ``rounds 1 and 3 to 10``."""
    spans: list[list[int]] = []
    for t in rounds:
        if spans and t == spans[-1][-1] + 1:
            spans[-1].append(t)
        else:
            spans.append([t])
    words = [str(s[0]) if len(s) == 1 else f"{s[0]} to {s[-1]}" for s in spans]
    said = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"round {said}" if len(rounds) == 1 else f"rounds {said}"


def _renewed(trajectory: Trajectory, reward: str | None) -> str:
    """Return the error of forecasts one round ahead that knew what retraining had passed on by then."""
    seen = {r.round: r.value for r in _rows(trajectory, MEASURED, "mean_exp_reward", reward)}
    ahead = [r for r in _rows(trajectory, RENEWED, "mean_exp_reward", reward) if r.round > 1]
    errors = [abs(r.value / seen[r.round] - 1) for r in ahead if seen.get(r.round)]
    later = [r for r in ahead if r.round not in seen]
    words = ""
    if errors:
        words = (
            " Forecasts one round ahead, which knew what retraining had passed on before, were off by at "
            f"most {max(errors):.1%}."
        )
    if later:
        last = later[-1]
        band = "" if last.lower is None else f" (95 %: {last.lower:.3g} to {last.upper:.3g})"
        words += f" They expect {last.value:.3g}{band} in round {last.round}."
    return words


def _passed(trajectory: Trajectory) -> str:
    """Return what retraining passed on in the first round and, if there were more, in the last."""
    found = passed_on(trajectory)
    if not found:
        return ""
    several = len({p.reward for p in found}) > 1
    first = min(p.round for p in found)
    words = []
    for p in (p for p in found if p.round == first):
        of = f" of what {p.reward} selected" if several else " of what was selected"
        words.append(f"{p.share:.0%} ({p.lower:.0%} to {p.upper:.0%}){of}")
    later = [p for p in found if p.round > first and p.reward == found[0].reward]
    then = f"; in round {later[-1].round}, {later[-1].share:.0%}" if later and not several else ""
    return f"Retraining passed on {' and '.join(words)} in round {first}{then}."


def _groups(trajectory: Trajectory, source: str) -> str:
    entropy = _rows(trajectory, source, "entropy", None)
    groups = {r.group for r in trajectory.rows if r.quantity == "share"}
    if not entropy or len(groups) < 2:
        return ""
    last = entropy[-1].round
    shares = [r for r in trajectory.rows if r.source == source and r.quantity == "share"]
    final = max((r for r in shares if r.round == last), key=lambda r: r.value)
    start = next(r for r in shares if r.round == entropy[0].round and r.group == final.group)
    return (
        f"The largest group in round {last} is {final.group!r} with {final.value:.0%} (round "
        f"{entropy[0].round}: {start.value:.0%}); the entropy of the shares changes from "
        f"{entropy[0].value:.2f} to {entropy[-1].value:.2f} nats."
    )


def _divergence(trajectory: Trajectory, source: str) -> str:
    rows = _rows(trajectory, source, "kl_to_reference", None)
    if not rows:
        return ""
    first, last = rows[0].value, rows[-1].value
    return (
        f"The KL divergence of the reward distribution from the reference changes from {first:.2f} to "
        f"{last:.2f} nats."
    )


def _rows(trajectory: Trajectory, source: str, quantity: str, reward: str | None) -> list[Row]:
    rows = [r for r in trajectory.rows if r.key == (quantity, reward, None) and r.source == source]
    return sorted(rows, key=lambda r: r.round)


def comparisons(trajectory: Trajectory) -> list[Comparison]:
    """Return, for every measured series of the main quantities, the forecast against the measured values.

    Series without a common round after round 0 are omitted.
    """
    found = []
    for key in trajectory.about(MEASURED):
        compared = agreement(trajectory, key) if key[0] in QUANTITIES else None
        if compared is None:
            continue
        values = {(r.source, r.round): r.value for r in trajectory.rows if r.key == key}
        table = [["round", "measured", "forecast", "forecast - measured", "relative"]]
        for t, difference in compared.differences.items():
            both = [f"{values[source, t]:.5g}" for source in (MEASURED, FORECAST)]
            table.append([str(t), *both, f"{difference:+.3g}", f"{compared.relative[t]:+.1%}"])
        verdict = (
            f"The forecast's root-mean-square error over rounds is {compared.rmse:.3g}, "
            f"{compared.error_ratio:.0%} of the error {compared.persistence_rmse:.3g} of a forecast of no "
            "change."
        )
        found.append(Comparison(title(key), table, verdict))
    return found
