"""A plan as sections: setting, binding constraints, frontiers, sensitivity, limits, survivors, phases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.report import charts
from recurate.report.lead import NO_SUPPORT, supported
from recurate.report.sections import Section
from recurate.report.trajectories import trajectory_sections
from recurate.theory.forecast import SUPPORT
from recurate.verbs.forecast.report import extinction_lines, forecast_table
from recurate.verbs.plan.ends import Ends, Phases
from recurate.verbs.plan.evaluation import Choice, Outcome, size_name
from recurate.verbs.plan.plan import Plan
from recurate.verbs.result import Facts, Result

WRITTEN = 5  # points of a frontier beside which K and the real share are written


def plan_result(found: Plan, source: str) -> Result[Plan]:
    """Return a plan as a result."""
    return Result(
        found,
        verb="plan",
        title=f"Plan from {source}",
        summary=summary_of(found),
        outcome=verdict_of(found),
        warnings=(*(() if found.opened is None else found.opened.warnings), *found.warnings),
        source=source,
        make_facts=lambda: _facts(found),
        make_sections=lambda: plan_sections(found),
        make_tables=lambda: _tables(found),
        lead=found.ruling.line,
        read=None if found.opened is None else found.opened.understood,
        read_notes=() if found.opened is None else found.opened.notes,
    )


def _tables(p: Plan) -> dict[str, pa.Table]:
    tables = {"settings": pa.Table.from_pylist([_flat(p, o) for o in p.outcomes])}
    return tables if p.forecast is None else tables | {"trajectory.parquet": p.forecast.trajectory.to_table()}


def _facts(p: Plan) -> Facts:
    ends = p.ends
    names = ("gap", "unique", "shares", "support")
    return {
        "rule": p.ruling.facts(),
        "rounds": p.rounds,
        "feasible": p.best is not None,
        "best": _outcome_facts(p, p.best),
        "closest": _outcome_facts(p, p.closest),
        "binding": p.binding,
        "diversity_frontier": [_outcome_facts(p, o) for o in p.diversity],
        "compute_frontier": [_outcome_facts(p, o) for o in p.compute],
        "sensitivity": [
            {"factor": s.factor} | {n: _outcome_facts(p, getattr(s, n)) for n in ("outcome", "replanned")}
            for s in p.sensitivity
        ],
        "log_k": p.log_k,
        "at_log_k": _outcome_facts(p, p.own),
        "settings_tried": len(p.outcomes),
        "compression_error": p.error,
        "groups": p.groups,
        "rewards": p.rewards,
        "survivors": [] if ends is None else ends.survivors,
        "welfare": {} if ends is None else dict(ends.welfare),
        "nash_limit": None if ends is None else {name: getattr(ends.nash, name) for name in names},
    }


def _outcome_facts(p: Plan, outcome: Outcome | None) -> Facts | None:
    if outcome is None:
        return None
    return {**vars(outcome), "choice": _choice_facts(p, outcome.choice), "feasible": outcome.feasible}


def _choice_facts(p: Plan, choice: Choice) -> Facts:
    """Return a setting as plain values, with the name of what is chosen: k, level or fraction."""
    return {size_name(p.ruling.rule) if name == "k" else name: v for name, v in vars(choice).items()}


def _flat(p: Plan, o: Outcome) -> Facts:
    """Return a setting and its outcome as one row."""
    names = ("objective", "rewards", "shares", "kl", "entropy", "variance", "cost", "exact", "settles")
    missed = ", ".join(o.missed)
    return {
        **_choice_facts(p, o.choice),
        **{n: getattr(o, n) for n in names},
        "missed": missed,
        "feasible": o.feasible,
    }


def verdict_of(found: Plan) -> str:
    """Return ``impossible``, ``beyond support`` or ``feasible``."""
    if found.best is None:
        return "impossible"
    return "feasible" if _is_supported(found) else NO_SUPPORT


def summary_of(found: Plan) -> str:
    """Return the plan in at most three sentences."""
    p, o = found, found.setting
    where = "in the limit" if p.rounds is None else f"after {p.rounds} rounds"
    if p.best is None:
        missed = ", ".join(f"{name} (by {miss:.1%})" for name, miss in o.missed.items())
        return (
            f"Impossible: no setting keeps every constraint. The closest is "
            f"{_setting(p, o.choice)}; it misses {missed}. "
            "What to do: loosen a constraint, or try more settings (--k, --real-fraction)."
        )
    binds = "" if not p.binding else f" What binds: {', '.join(name for name, _ in p.binding)}."
    if not _is_supported(p):
        return (
            f"{_setting(p, o.choice)}: the best of those tried, but fewer than {SUPPORT:g} effective "
            f"candidates carry its last round.{binds} "
            "What to do: log more candidates, or plan for fewer rounds."
        )
    todo = " What to do: run this, and check the loop with `recurate audit`."
    return f"{_setting(p, o.choice)}: objective {o.objective:.4g} {where}.{binds}{todo}"


def _is_supported(p: Plan) -> bool:
    """Return whether the setting's last round is within the effective support, as far as is known."""
    if p.forecast is None:
        return True
    return supported(p.forecast.trajectory) is None


def _size(p: Plan, c: Choice) -> str:
    name = _size_heading(p)
    return f"K = {c.k}" if name == "K" else f"{name} {c.k:.4g}"


def _size_heading(p: Plan) -> str:
    return {"k": "K", "level": "level", "fraction": "share kept"}[size_name(p.ruling.rule)]


def _setting(p: Plan, c: Choice) -> str:
    own = " (the log's)" if c.k == p.log_k else ""
    parts = [_size(p, c) + own, f"real fraction {c.real_fraction:.3g}"]
    if len(c.weights) > 1:
        parts.append("weights " + ", ".join(f"{w:.3g}" for w in c.weights))
    if c.temperature != 1:
        parts.append(f"temperature {c.temperature:.3g}")
    return ", ".join(parts)


def plan_sections(found: Plan) -> list[Section]:
    """Return all sections of a plan."""
    sections = [_outcome(found), *_forecast(found), *_binding(found), *_frontiers(found)]
    sections += _sensitivity(found)
    if found.ends is not None:
        sections += [
            _limits(found, found.ends),
            *_survivors(found, found.ends),
            *map(_phase, found.ends.phases),
        ]
    return sections


def _row(p: Plan, o: Outcome) -> list[str]:
    c = o.choice
    cells = [f"{c.k:.10g}{'*' if c.k == p.log_k else ''}", f"{c.real_fraction:.3g}"]
    cells += [", ".join(f"{w:.3g}" for w in c.weights)] if len(p.rewards) > 1 else []
    cells += [f"{c.temperature:.3g}", f"{o.objective:.4g}", ", ".join(f"{r:.3g}" for r in o.rewards)]
    cells += [", ".join(f"{s:.3g}" for s in o.shares), f"{o.entropy:.3g}", f"{o.kl:.3g}", f"{o.variance:.3g}"]
    cost = "" if math.isnan(o.cost) else f"{o.cost:,.0f}" if o.cost < 1e9 else f"{o.cost:.4g}"
    return [*cells, cost, ", ".join(o.missed) or ("" if o.settles else "does not settle")]


def _heading(p: Plan) -> list[str]:
    weights = ["weights"] if len(p.rewards) > 1 else []
    return [
        _size_heading(p), "real fraction", *weights, "temperature", "objective", "rewards", "shares",
        "entropy", "KL", "variance kept", "candidates", "misses",
    ]  # fmt: skip


def _outcome(found: Plan) -> Section:
    p = found
    text = (
        f"{len(p.outcomes)} settings were forecast on a compressed population (its largest error against all "
        f"candidates, over the settings below: {p.error:.2g}); the values here are exact. Rewards: "
        f"{', '.join(p.rewards)}; groups: {', '.join(p.groups)}."
    )
    title = "The plan" if p.best is not None else "Impossible: this is the closest"
    rows = [_heading(p), _row(p, found.setting)]
    if p.own is not None and p.own.choice.k != found.setting.choice.k:
        rows.append(_row(p, p.own))
        text += " The second row is the best setting with the log's K."
    return Section(title, text, rows, lines=() if p.own is None else (f"* the log's {_size_heading(p)}",))


def _forecast(found: Plan) -> list[Section]:
    """Return the forecast of the setting, round by round."""
    if found.forecast is None:
        return []
    rows = forecast_table(found.forecast)
    beyond = f"* beyond support: fewer than {SUPPORT:g} effective candidates are left"
    lines = ((beyond,) if any(row[0].endswith("*") for row in rows) else ()) + tuple(
        extinction_lines(found.forecast)
    )
    start = "the log's last round" if found.forecast.setting.first else "the candidates as they are"
    text = f"{_setting(found, found.setting.choice)}; round 0: {start}."
    return [Section("This setting, round by round", text, rows, lines=lines)] + [
        section for section in trajectory_sections(found.forecast.trajectory) if section.cards
    ]


def _binding(found: Plan) -> list[Section]:
    if not found.binding:
        return []
    rows = [["constraint", "objective lost to it"], *([n, f"{g:.4g}"] for n, g in found.binding)]
    return [Section("What binds", "Without any one of these the objective could be higher.", rows)]


def _frontiers(found: Plan) -> list[Section]:
    sections = []
    for title, outcomes, key in (
        ("Objective against diversity", found.diversity, "entropy"),
        ("Objective against compute", found.compute, "cost"),
    ):
        if len(outcomes) < 2:
            continue
        labels = (f"{_size(found, o.choice)}, real {o.choice.real_fraction:.3g}" for o in outcomes)
        points = [_place(o, key) | {"label": label} for o, label in zip(outcomes, labels, strict=True)]
        chosen = [i for i, o in enumerate(outcomes) if o.choice == found.setting.choice]
        beside = {i + step for i in chosen for step in (-1, 0, 1)}
        written = {round(i) for i in np.linspace(0, len(points) - 1, min(len(points), WRITTEN))} - beside
        points = [
            p | {"short": _short(found, o.choice) if i in written else ""}
            for i, (p, o) in enumerate(zip(points, outcomes, strict=True))
        ]
        here = _place(found.setting, key) | {"short": _short(found, found.setting.choice)}
        limit = found.constraints.entropy if key == "entropy" else found.constraints.budget
        axis = "entropy of the shares (nats)" if key == "entropy" else "candidates"
        sections.append(
            Section(
                title, "Settings that no other beats in both; the line ignores constraints, which are drawn. "
                "The diamond is the plan.",
                [_heading(found), *(_row(found, o) for o in outcomes)],
                chart=charts.frontier_chart(points, here, axis, key, limit),
            )
        )  # fmt: skip
    return sections


def _short(p: Plan, c: Choice) -> str:
    """Return K (or what the rule has in its place) and the real share, to be written beside a point."""
    size = f"K {c.k:.10g}" if _size_heading(p) == "K" else f"{c.k:.3g}"
    return f"{size}, {c.real_fraction:.0%} real"


def _place(o: Outcome, key: str) -> dict[str, Any]:
    return {"x": getattr(o, key), "y": o.objective}


def _sensitivity(found: Plan) -> list[Section]:
    rows = [["rewards times", "the plan's objective then", "misses", "best setting then"]]
    for s in found.sensitivity:
        again = (
            "nothing"
            if s.replanned is None
            else f"{_setting(found, s.replanned.choice)}: {s.replanned.objective:.4g}"
        )
        rows.append([f"{s.factor:g}", f"{s.outcome.objective:.4g}", ", ".join(s.outcome.missed), again])
    return [Section("If rewards are off by 10 %", "", rows)] if len(rows) > 1 else []


def _limits(found: Plan, ends: Ends) -> Section:
    n = ends.nash
    text = (
        "At K = infinity without real data the loop maximises weighted Nash welfare. Certificate: within "
        f"{math.log1p(max(n.gap, 0.0)):.1e} nats of the maximum; {len(n.support)} candidates remain; the "
        f"maximiser is {'unique' if n.unique else 'not unique'}. Shares: "
        f"{', '.join(f'{s:.3f}' for s in n.shares)}."
    )
    rows = [[
        "", "entropy", "effective groups", "Nash welfare", "below its maximum", "utilitarian", "worst",
        "distance",
    ]]  # fmt: skip
    for name, w in ends.welfare:
        rows.append(
            [
                name, f"{w.entropy:.3f}", f"{w.hill[2]:.2f}", f"{w.nash:.4g}", f"{w.nash_gap:.3g}",
                f"{w.utilitarian:.4g}", f"{w.worst:.4g} ({found.rewards[w.worst_group]})",
                f"{w.distance:.3f}",
            ]
        )  # fmt: skip
    return Section("The limit", text, rows)


def _survivors(found: Plan, ends: Ends) -> list[Section]:
    if not ends.survivors:
        return []
    k = int(found.setting.choice.k)
    rows = [[
        "reward", "weight", "share of the limit", "survives", "smallest weight", "smallest K",
        "invasion multiplier", "K w",
    ]]  # fmt: skip
    for s in ends.survivors:
        share = "does not settle" if math.isnan(s.share) else f"{s.share:.4f}"
        rows.append(
            [
                found.rewards[s.group], f"{s.weight:.3g}", share, "yes" if s.survives else "no",
                f"{s.smallest_weight:.4f}", str(s.smallest_k or "none"),
                "" if math.isnan(s.invasion) else f"{s.invasion:.4f}", f"{s.kq:.3g}",
            ]
        )  # fmt: skip
    law = (
        "Nobody likes another group's items: a group survives iff K w > 1."
        if ends.survivors[0].law_applies
        else ""
    )
    used, front = ends.front
    part = "" if used == front else f" Computed on {used} of the {front} candidates of the Pareto front."
    return [Section("Who survives", f"At K = {k} without real data.{part} {law}", rows)]


def _phase(p: Phases) -> Section:
    cells: list[dict[str, Any]] = [
        {"k": str(k), "value": f"{v:g}", "share": None if math.isnan(s) else float(f"{s:.4g}")}
        for k, row in zip(p.ks, p.shares, strict=True)
        for v, s in zip(p.values, row, strict=True)
    ]
    k = min(p.ks, key=lambda x: abs(math.log(x / p.here[0])))
    value = min(p.values, key=lambda x: abs(x - p.here[1]))
    here = {"k": str(k), "value": f"{value:g}"}
    rows = [["K", *(f"{v:g}" for v in p.values)]]
    for k, row in zip(p.ks, p.shares, strict=True):
        rows.append([str(k), *("moves" if math.isnan(s) else f"{s:.2f}" for s in row)])
    title = f"First reward's share of the limit, by K and {p.axis}"
    text = "The plan's place is marked. 'moves': not settled within 800 rounds."
    order = ([str(k) for k in p.ks], [f"{v:g}" for v in p.values])
    return Section(title, text, rows, chart=charts.phase_chart(cells, order, here, p.axis))
