"""The report of several models: beside each other, against the exact law of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from recurate.core.files import write_text
from recurate.log.folders import MODELS
from recurate.log.trajectory import FORECAST, MEASURED, Row, Trajectory
from recurate.loop.config import Config
from recurate.loop.models_folder import ModelsFolder
from recurate.report.lead import supported
from recurate.report.sections import Section
from recurate.theory.forecast import SUPPORT
from recurate.theory.models_forecast import OWN, Model, reversals_of
from recurate.theory.setting import Setting
from recurate.verbs.forecast.several_report import models_sections
from recurate.verbs.result import Result
from recurate.verbs.run.report import title_of, write_run_report


@dataclass(frozen=True)
class ModelsRun:
    """A run of several models with at least one complete round.

    Attributes:
        path: Folder of the run.
        config: Configuration of all models, defaults included.
        trajectory: Forecast and measured values of all rounds; the group of a row is a model.
        store: Access to the folder: ``store.stores()["NAME"]`` is the run of a model.
        setting: Selection and retraining of every round.
        candidates: Number of candidates of round 0, on which the law rests.
        reversals: For pairs of models, the share of the other's picks above which the model's own reward
            falls in the first round.
    """

    path: Path
    config: Config
    trajectory: Trajectory = field(repr=False)
    store: ModelsFolder = field(repr=False)
    setting: Setting
    candidates: int
    reversals: tuple[tuple[str, str, float], ...]

    @property
    def models(self) -> tuple[Model, ...]:
        """The models."""
        return tuple(model.plain for model in self.config.models)

    @property
    def measured(self) -> Trajectory:
        """The measured values."""
        return self.trajectory.where(MEASURED)


def write_models_report(folder: ModelsFolder) -> Path:
    """Write ``report.html`` of all models and of each into their folders."""
    for store in folder.stores().values():
        write_run_report(store)
    path = folder.path / "report.html"
    write_text(path, models_run_result(folder).page())
    return path


def models_run_result(folder: ModelsFolder) -> Result[ModelsRun]:
    """Return a run of several models as a result.

    Raises:
        InputError: If no round is complete, or the folder was altered.
    """
    folder.verify()
    config = folder.config()
    played, setting, first = folder.law(config)
    reversals = reversals_of(played, setting, [model.plain for model in config.models])
    found = ModelsRun(folder.path, config, folder.trajectory(), folder, setting, first.size, reversals)
    last, manifest = folder.complete() - 1, folder.manifest()
    return Result(
        found,
        verb="run",
        title=f"{len(config.models)} models that train on each other's picks: {title_of(config)}",
        summary=_summary(found, last),
        warnings=_warnings(found),
        source=str(folder.path),
        make_facts=lambda: {"rounds": last, "models": [m.model_dump() for m in config.models]},
        make_sections=lambda: _sections(folder, found, last),
        make_tables=lambda: {"trajectory": found.trajectory.to_table()},
        subtitle=f"recurate {manifest['recurate']}, seed {config.seed}, rounds 0 to {last}",
    )


def _summary(found: ModelsRun, last: int) -> str:
    """Return what became of every model's own reward, measured and by the law within its support."""
    until = supported(found.trajectory)
    parts = []
    for model in found.models:
        first, now = _row(found, MEASURED, 0, model.name), _row(found, MEASURED, last, model.name)
        law = _row(found, FORECAST, last, model.name)
        parts.append(
            f"the own reward of {model.name} went from {first.value:.4g} to {now.value:.4g}"
            + (f" (law: {law.value:.4g})" if until is None else "")
        )
    said = f"By round {last}, {' and '.join(parts)}."
    return f"{said} {_apart(found, last if until is None else until)}".strip()


def _apart(found: ModelsRun, last: int) -> str:
    """Return whose measured changes differ most from the law's, up to a round that the law supports."""
    if last < 1:
        return "The candidates of round 0 do not support the law."
    gaps = {}
    for model in found.models:
        now, law = _row(found, MEASURED, last, model.name), _row(found, FORECAST, last, model.name)
        gaps[model.name] = now.value - law.value
    name = max(gaps, key=lambda n: abs(gaps[n]))
    return f"In round {last} the law is farthest off for {name}, by {gaps[name]:+.2g}."


def _warnings(found: ModelsRun) -> tuple[str, ...]:
    rows = found.trajectory.where(FORECAST, "effective_support").rows
    low = next((row for row in rows if row.value < SUPPORT), None)
    if low is None:
        return ()
    return (
        f"From round {low.round} on, the effective support of model {low.group} by the law is below "
        f"{SUPPORT:g} candidates: round 0's candidates cannot support the law there.",
    )


def _row(found: ModelsRun, source: str, t: int, name: str) -> Row:
    return found.trajectory.series(OWN, source=source, group=name)[t]


def _sections(folder: ModelsFolder, found: ModelsRun, last: int) -> list[Section]:
    config = (folder.path / "config.toml").read_text(encoding="utf-8")
    reports = tuple((model.name, f"{MODELS}/{quote(model.name)}/report.html") for model in found.models)
    return [
        _beside(found, last),
        *models_sections(found),
        Section("The report of each model", "Shares, sample metrics and sizes of rounds.", links=reports),
        Section("Configuration, defaults included", code=config, folded=True),
    ]


def _beside(found: ModelsRun, last: int) -> Section:
    """Return the own reward of each model in the last round, measured and by the law."""
    table = [["model", "round 0", f"round {last}", "95 % interval", "by the law", "change", "by the law"]]
    for model in found.models:
        first, now = _row(found, MEASURED, 0, model.name), _row(found, MEASURED, last, model.name)
        law, start = (_row(found, FORECAST, t, model.name).value for t in (last, 0))
        interval = "" if now.lower is None else f"{now.lower:.4g} to {now.upper:.4g}"
        change, expected = now.value - first.value, law - start
        table.append(
            [
                model.name, f"{first.value:.4g}", f"{now.value:.4g}", interval, f"{law:.4g}",
                f"{change:+.3g}", f"{expected:+.3g}",
            ]
        )  # fmt: skip
    text = (
        "The mean reward of each model by its own curator. The law is exact for infinitely many samples and "
        "perfect retraining, from the candidates of round 0; the interval is that of this round's candidates."
    )
    return Section("The models beside each other", text, table)
