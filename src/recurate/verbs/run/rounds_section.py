"""Sections on the rounds of a run: alarms, parts of the changes, sample metrics, counts."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from typing import Any

from recurate.log.trajectory import MEASURED, PassedOn, Row, Trajectory, passed_on
from recurate.loop.run_folder import RunFolder
from recurate.report.charts import MEASURES, title
from recurate.report.sections import Section
from recurate.verbs.run.samples_section import chosen_rounds

STAGES = dict.fromkeys(("precision", "recall", "density", "coverage"), "neighbours")
TEXTS = ("length", "distinct_1", "distinct_2", "self_bleu")


def rounds_sections(folder: RunFolder, trajectory: Trajectory) -> list[Section]:
    """Return the sections on accepted changes, alarms, parts of the changes, sample metrics and counts."""
    of_rounds = [_changes(trajectory), _measures(folder, trajectory), _counts(folder)]
    found = [_accepted(folder), _alarms(folder), *of_rounds]
    return [section for section in found if section is not None]


def _accepted(folder: RunFolder) -> Section | None:
    changes = folder.changes()
    if not changes:
        return None
    table = [["from round", "what changed", "was", "is", "accepted at"]]
    table += [[str(c.round), str(c), (c.was or "")[:12], (c.now or "")[:12], c.when] for c in changes]
    text = (
        "Files, packages or the device that the run rests on have changed since it began. Rounds before and "
        "after such a change do not belong to one loop: their rewards or models may not be comparable."
    )
    return Section("Changes accepted during the run", text, table)


def _alarms(folder: RunFolder) -> Section | None:
    lines = [
        f"round {t}: {alarm['message']} ({alarm['action']})"
        for t in range(folder.complete())
        for alarm in folder.alarms(t)
    ]
    lines += [
        f"round {t} was rolled back {folder.attempts(t)} times"
        for t in range(folder.complete() + 1)
        if folder.attempts(t)
    ]
    watched = folder.config().alarms
    if not watched and not lines:
        return None
    levels = {a.kind: getattr(a, "level", None) for a in watched}
    rates = ", ".join(f"{kind} {'unknown' if p is None else f'{p:.0%}'}" for kind, p in levels.items())
    text = (
        f"Alarms of this run, with the largest probability of a false alarm in the whole run: {rates}."
        if watched
        else ""
    )
    return Section("Alarms", text, lines=tuple(lines) or ("none was raised",))


def _changes(trajectory: Trajectory) -> Section | None:
    """Return a table of selection, sampling and transmission for every reward and round."""
    rows: dict[tuple[str, int], dict[str, Row]] = defaultdict(dict)
    for row in trajectory.where(MEASURED).rows:
        if row.quantity in ("selection", "sampling", "sampling_band", "transmission") and row.reward:
            rows[row.reward, row.round][row.quantity] = row
    if not rows:
        return None
    several = len({reward for reward, _ in rows}) > 1
    head = ["round", "change", "selection", "sampling", "transmission", "passed on"]
    table = [[*(["reward"] if several else []), *head]]
    parts_of = {(p.reward, p.round): p for p in passed_on(trajectory)}
    for (reward, t), parts in rows.items():
        chance, lost = parts["sampling"].value, parts["transmission"]
        total = parts["selection"].value + chance + lost.value
        table.append(
            [
                *([reward] if several else []),
                f"{t - 1} to {t}",
                f"{total:+.4g}",
                f"{parts['selection'].value:+.4g}",
                f"{chance:+.3g} (usual: ± {parts['sampling_band'].value:.2g})",
                f"{lost.value:+.3g}{_margin(lost)}",
                _part(parts_of.get((reward, t))),
            ]
        )
    text = (
        "The change of a mean reward from one round to the next has three parts: the expected effect of "
        "selection (exact, from the candidates), the sampling error of finitely many picks, and the effect "
        "of retraining (transmission). Passed on is the part of what the picks asked for that arrived."
    )
    return Section("Parts of each change", text, table)


def _part(found: PassedOn | None) -> str:
    return "" if found is None else f"{found.share:.0%} ({found.lower:.0%} to {found.upper:.0%})"


def _measures(folder: RunFolder, trajectory: Trajectory) -> Section | None:
    rows: dict[str, dict[int, Row]] = defaultdict(dict)
    for row in trajectory.where(MEASURED).rows:
        if row.quantity.partition(":")[0] in MEASURES:
            rows[row.quantity][row.round] = row
    if not rows:
        return None
    rounds = sorted({t for series in rows.values() for t in series})
    rounds = [rounds[i] for i in chosen_rounds(len(rounds))]
    real, costs = folder.facts().get("real_data", {}), _costs(folder)
    table = [["measure", "real data", *(f"round {t}" for t in rounds), "seconds"]]
    for quantity, series in rows.items():
        name, _, space = quantity.partition(":")
        cells = [f"{series[t].value:.3g}{_margin(series[t])}" if t in series else "" for t in rounds]
        known = f"{real[quantity]:.3g}" if quantity in real else ""
        table.append(
            [title(next(iter(series.values())).key), known, *cells, costs.get(_stage(name, space), "")]
        )
    share = _share(folder)
    text = (
        "Candidates against held-out real data, by feature space, with 95 % intervals. The column 'real "
        "data' has the same metrics for as many real training samples. Frechet distances of small samples "
        "are biased upwards: compare with that column. Memorisation is the probability that a candidate lies "
        "nearer to the training data than held-out data do (one half for fresh data)."
        + (f" These metrics took {share:.1%} of the time." if share is not None else "")
    )
    return Section("Sample metrics", text, table)


def _counts(folder: RunFolder) -> Section | None:
    rounds = chosen_rounds(folder.complete())
    counts = {t: folder.counts(t) for t in rounds}
    names = [
        n for n in ("trained_on_picks", "trained_on_real", "slates", "candidates", "picks") if n in counts[0]
    ]
    table = [["round", *(name.replace("_", " ") for name in names)]]
    table += [[str(t), *(f"{counts[t].get(name, 0):,}" for name in names)] for t in rounds]
    return Section("Sizes of each round", "Exact numbers of samples.", table)


def _margin(row: Row) -> str:
    if row.lower is None or row.upper is None:
        return ""
    return f" ± {max(row.upper - row.value, row.value - row.lower):.2g}"


def _stage(name: str, space: str) -> str:
    if name in TEXTS:
        return "measure text"
    stage = STAGES.get(name, name)
    return f"measure {stage}:{space}" if space else f"measure {stage}"


def _timings(folder: RunFolder) -> list[dict[str, Any]]:
    path = folder.path / "timings.jsonl"
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(dict(json.loads(line)))
        except ValueError:
            continue  # a line that a crash cut off
    return found


def _costs(folder: RunFolder) -> dict[str, str]:
    """Return the median seconds of every stage."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for line in _timings(folder):
        seconds[line["stage"]].append(line["seconds"])
    return {stage: f"{statistics.median(values):.2g}" for stage, values in seconds.items()}


def _share(folder: RunFolder) -> float | None:
    """Return the share of the rounds' time that measuring took."""
    lines = [line for line in _timings(folder) if line["round"] >= 0]
    total = sum(line["seconds"] for line in lines)
    spent = sum(line["seconds"] for line in lines if line["stage"].startswith("measure "))
    return spent / total if total else None
