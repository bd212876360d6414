"""A forecast of several models as sections: who trains on whom, own rewards, where curation is reversed."""

from __future__ import annotations

import math
from typing import Any, Protocol

from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.report import charts
from recurate.report.lead import NO_SUPPORT, supported
from recurate.report.sections import Section
from recurate.theory.forecast import SUPPORT
from recurate.theory.models_forecast import OWN, Model
from recurate.theory.setting import Setting
from recurate.verbs.forecast.from_log import LogForecast
from recurate.verbs.forecast.report import setting_label, setting_value
from recurate.verbs.forecast.several import ModelsForecast
from recurate.verbs.result import Facts, Result

Key = tuple[str, str | None, str | None]  # quantity, reward, model


class Shown(Protocol):
    """What is shown of several models, be they forecast from a log or trained."""

    @property
    def models(self) -> tuple[Model, ...]:
        """The models."""
        ...

    @property
    def trajectory(self) -> Trajectory:
        """Forecast and measured values; the group of a row is a model."""
        ...

    @property
    def measured(self) -> Trajectory:
        """The measured values."""
        ...

    @property
    def setting(self) -> Setting:
        """The selection and retraining of every round."""
        ...

    @property
    def candidates(self) -> int:
        """The number of candidates that the law rests on."""
        ...

    @property
    def reversals(self) -> tuple[tuple[str, str, float], ...]:
        """For pairs of models, the share of the other's picks above which the own reward falls at first."""
        ...


def models_result(found: ModelsForecast, source: str) -> Result[LogForecast]:
    """Return a forecast of several models as a result."""
    return Result(
        found,
        verb="forecast",
        title=f"Forecast of {len(found.models)} models from {source}",
        summary=_summary(found),
        outcome="" if supported(found.trajectory) is None else NO_SUPPORT,
        warnings=(*(() if found.opened is None else found.opened.warnings), *found.warnings),
        source=source,
        make_facts=lambda: _facts(found),
        make_sections=lambda: models_sections(found),
        make_tables=lambda: {"trajectory.parquet": found.trajectory.to_table()},
        read=None if found.opened is None else found.opened.understood,
        read_notes=() if found.opened is None else found.opened.notes,
        lead=found.ruling.line,
    )


def models_sections(found: Shown) -> list[Section]:
    """Return all sections."""
    both = bool(found.measured.rows)
    note = ("in brackets: measured in the log's rounds",) if both else ()
    names = [model.name for model in found.models]
    shown = tuple(
        Section(f"Own reward of {name}", chart=charts.quantity_chart(found.trajectory, (OWN, None, name)))
        for name in names
    )
    own: list[Key] = [(OWN, None, name) for name in names]
    sections = [
        Section("Who trains on whom", table=_mixing(found)),
        Section("Own rewards", cards=shown, printed=False),
        Section(
            "Own rewards by round",
            "The mean reward of each model by its own curator.",
            _table(found, own, names),
            note,
        ),
    ]
    for model in found.models:
        keys = [key for key in found.trajectory.about(FORECAST) if key[2] == model.name and key[0] != OWN]
        heading = [key[1] or key[0].replace("_", " ") for key in keys]
        sections.append(Section(f"Model {model.name}, mean rewards", table=_table(found, keys, heading)))
    facts = {k: v for k, v in found.setting.facts().items() if k not in ("weights", "picks")}
    facts |= {"candidates": found.candidates}
    made = ", ".join(f"{setting_label(name)} {setting_value(value)}" for name, value in facts.items())
    sections.append(Section("What was forecast", made))
    lines = tuple(reversal_line(*pair) for pair in found.reversals)
    return [*sections, *([Section("Where curation is reversed", lines=lines)] if lines else [])]


def reversal_line(model: str, other: str, weight: float) -> str:
    """Return what a model's share of another one's picks does to its own reward in the first round."""
    if math.isinf(weight):
        return f"model {model}: however much it trains on {other}, its own reward does not fall in round 1"
    if math.isnan(weight):
        return f"model {model}: its own reward falls in round 1 unless it trains on {other}"
    return (
        f"model {model}: its own reward falls in round 1 if more than {100 * weight:.3g} % of the picks that "
        f"it trains on are those of {other} and the rest its own"
    )


def _summary(found: ModelsForecast) -> str:
    until = supported(found.trajectory)
    if until is not None and until < 1:
        return (
            f"These candidates do not support a forecast: fewer than {SUPPORT:g} effective ones carry it. "
            "What to do: log more candidates of one round; the numbers below are of these candidates alone."
        )
    last = found.setting.rounds if until is None else until
    parts = []
    for model in found.models:
        values = found.trajectory.values(OWN, source=FORECAST, group=model.name)
        parts.append(f"the own reward of {model.name} goes from {values[0]:.4g} to {values[last]:.4g}")
    beyond = (
        f" Beyond round {until} too few candidates carry the forecast: log more of them." if until else ""
    )
    return f"By round {last}, {' and '.join(parts)}.{beyond}"


def _mixing(found: Shown) -> list[list[str]]:
    names = [model.name for model in found.models]
    rows = [
        [m.name, " and ".join(m.rewards), *(f"{100 * m.trains_on.get(n, 0.0):.4g} %" for n in names)]
        for m in found.models
    ]
    return [["model", "judged by", *(f"picks of {name}" for name in names)], *rows]


def _table(found: Shown, keys: list[Key], heading: list[str]) -> list[list[str]]:
    values = {(r.source, r.round, r.key): r.value for r in found.trajectory.rows}
    lines = [["round", *heading]]
    for t in range(found.setting.rounds + 1):
        cells = []
        for key in keys:
            seen = values.get((MEASURED, t, key))
            cells.append(f"{values[FORECAST, t, key]:.4g}" + ("" if seen is None else f" ({seen:.4g})"))
        lines.append([str(t), *cells])
    return lines


def _facts(found: ModelsForecast) -> Facts:
    return {
        "rule": found.ruling.facts(),
        "setting": {k: v for k, v in found.setting.facts().items() if k not in ("weights", "picks")},
        "candidates": found.candidates,
        "support_ends": found.support_ends,
        "models": [_plain(model) for model in found.models],
        "reversals": [
            {"model": model, "other": other, "share": share} for model, other, share in found.reversals
        ],
    }


def _plain(model: Model) -> dict[str, Any]:
    return {"name": model.name, "rewards": list(model.rewards), "trains_on": dict(model.trains_on)}
