"""The report of a run: measured values and forecast, its rounds, its candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recurate.components.nets.classifiers import is_image
from recurate.components.registry import SECTIONS
from recurate.core.errors import InputError
from recurate.core.files import write_text
from recurate.core.plugins import call
from recurate.log.samples import is_text
from recurate.log.trajectory import FORECAST, Trajectory
from recurate.loop.config import Config
from recurate.loop.run_folder import RunFolder
from recurate.report import narrative
from recurate.report.lead import lead_of
from recurate.report.sections import Section
from recurate.report.trajectories import GLOSSARY, bound_sections, trajectory_sections
from recurate.theory.forecast import SUPPORT
from recurate.verbs.result import Result
from recurate.verbs.run import samples_section
from recurate.verbs.run.renewed import renewed_rows
from recurate.verbs.run.rounds_section import rounds_sections


@dataclass(frozen=True)
class Run:
    """A run with at least one complete round.

    Attributes:
        path: Folder of the run.
        config: Configuration of the run, defaults included.
        trajectory: Forecast and measured values of all rounds.
        store: Access to the run folder: ``store.log(t)``, ``store.samples(t)``, ``store.counts(t)``.
    """

    path: Path
    config: Config
    trajectory: Trajectory = field(repr=False)
    store: RunFolder = field(repr=False)


def write_run_report(folder: RunFolder) -> Path:
    """Write ``report.html`` into a run folder, from the files of the folder."""
    path = folder.path / "report.html"
    write_text(path, run_result(folder).page())
    return path


def run_result(folder: RunFolder) -> Result[Run]:
    """Return a run as a result.

    Raises:
        InputError: If no round is complete, or the folder was altered.
    """
    folder.verify()
    config = folder.config()
    trajectory = folder.trajectory() + renewed_rows(folder, config)[0]
    manifest = folder.manifest()
    facts = config.selection.rule().facts() | {
        "real_fraction": config.retraining.real_fraction,
        "weights": list(config.weights),
        "accumulate": config.retraining.mode == "accumulate",
        "by": config.selection.by,
    }
    last = folder.complete() - 1
    lead = lead_of(trajectory, facts)
    return Result(
        Run(folder.path, config, trajectory, folder),
        verb="run",
        title=title_of(config),
        summary=lead.text,
        outcome=lead.verdict,
        details=(narrative.what_happened(trajectory, facts),),
        warnings=_support_warning(trajectory),
        source=str(folder.path),
        make_facts=lambda: {"rounds": last, "facts": dict(_run_facts(folder)), "bounds": folder.bounds()},
        make_sections=lambda: run_sections(folder, trajectory),
        make_tables=lambda: {"trajectory": trajectory.to_table()},
        subtitle=f"recurate {manifest['recurate']}, seed {config.seed}, rounds 0 to {last}",
    )


def run_sections(folder: RunFolder, trajectory: Trajectory) -> list[Section]:
    """Return all sections of a run."""
    facts = [["", ""], *([name, value] for name, value in _run_facts(folder))]
    config = (folder.path / "config.toml").read_text(encoding="utf-8")
    return [
        *_candidates(folder),
        *trajectory_sections(trajectory),
        *rounds_sections(folder, trajectory),
        *bound_sections(folder.bounds()),
        *_own_sections(folder),
        Section("What was run", table=facts),
        Section("Configuration, defaults included", code=config, folded=True),
        GLOSSARY,
    ]


def _own_sections(folder: RunFolder) -> list[Section]:
    """Return the user's own sections, which the configuration names."""
    sections: list[Section] = []
    for name in folder.config().report.sections:
        made = call(name, SECTIONS.find(name), folder)
        found = [made] if isinstance(made, Section) else made
        if not isinstance(found, list | tuple) or not all(isinstance(one, Section) for one in found):
            raise InputError(
                f"{name} must return a Section, or a list of them",
                got=type(made).__name__,
                remedy="recurate docs extending has an example; the run itself is complete",
            )
        sections += found
    return sections


def _support_warning(trajectory: Trajectory) -> tuple[str, ...]:
    rows = trajectory.where(FORECAST, "effective_support").rows
    low = sorted({r.round for r in rows if r.value < SUPPORT})
    if not low:
        return ()
    return (
        f"In {narrative.rounds_in_words(low)} the forecast's effective support is below {SUPPORT:g} "
        "candidates: round 0's candidates cannot support its forecasts there.",
    )


def title_of(config: Config) -> str:
    """Return the title of a run's report."""
    data = "no data" if config.data is None else config.data.kind
    rewards = [r for r in config.rewards if config.model is None or r.weight]
    named = [r.kind if r.name == "reward" else f"{r.name} ({r.kind})" for r in rewards]
    whose = f"Model {config.model}, one of {len(config.models)}" if config.model else "Loop"
    return f"{whose} on {data}, rewarded by {', '.join(map(str, named))}"


def _run_facts(folder: RunFolder) -> list[tuple[str, str]]:
    manifest = folder.manifest()
    counts = folder.counts(folder.complete() - 1)
    known = folder.facts()
    known.pop("real_data", None)  # these are in the table of sample metrics
    facts: dict[str, Any] = {k.replace("_", " "): v for k, v in known.items()}
    sealed = [f"{part['name']} ({part['serves']}, {part['digest'][:12]})" for part in manifest["rests_on"]]
    facts |= {"rests on": ", ".join(sealed)} if sealed else {}
    if "classifier held out accuracy" in facts:
        facts["classifier held out accuracy"] = f"{facts['classifier held out accuracy']:.1%}"
    facts |= {f"last round: {k.replace('_', ' ')}": v for k, v in counts.items()}
    facts |= {
        "seed": manifest["seed"],
        "recurate": f"{manifest['recurate']} (code {manifest['code_revision'] or 'as installed'})",
        "python": manifest["python"],
        "packages": ", ".join(f"{k} {v}" for k, v in manifest["packages"].items() if v),
        "machine": "{system} {release} {architecture}, {cores} cores".format(**manifest["machine"]),
        "device": manifest["device"],
        "format": manifest["format"],
    }
    return [(name, str(value)) for name, value in facts.items()]


def _candidates(folder: RunFolder) -> list[Section]:
    """Return a section with candidates of evenly spread rounds: slates of images or texts, or points."""
    rounds = samples_section.chosen_rounds(folder.complete())
    first = folder.samples(0)
    logs = {t: folder.log(t).select(source="model") for t in rounds}
    if first.shape[1:] == (2,):
        found = {t: folder.samples(t) for t in rounds}
        rewards = {t: log.reward_matrix()[:, 0] for t, log in logs.items()}
        picked = {t: log.column("picked") for t, log in logs.items()}
        charts = samples_section.plane_charts(found, rewards, picked)
        cards = tuple(Section(title, chart=chart) for title, chart in charts)
        return [Section("The candidates", cards=cards, printed=False)]
    grey = first.ndim == 4 and first.shape[3] == 1
    if not (is_text(first) or is_image(first.shape[1:]) or grey):
        return []
    slates = tuple(samples_section.slates_of(t, folder.samples(t), log) for t, log in logs.items())
    if any(heading for one in slates for heading, _ in one.slates):
        text = (
            "The first slates of each round: what was picked, and what was not. Click a candidate, or press "
            "Enter, to see its slate with the rewards; arrow keys move."
        )
    else:
        text = (
            "The first candidates of each round, which were judged alone: what was picked, and what was not."
        )
    if len(rounds) < folder.complete():
        text += f" {len(rounds)} of {folder.complete()} rounds are shown, evenly spread."
    return [Section("The candidates", text, slates=slates, printed=False)]
