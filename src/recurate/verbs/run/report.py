"""A run's page, and its charts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recurate.components.registry import SECTIONS
from recurate.core.errors import InputError
from recurate.core.files import write_text
from recurate.core.plugins import call
from recurate.log.trajectory import FORECAST, Trajectory
from recurate.loop.run_folder import RunFolder
from recurate.report import narrative
from recurate.report.page import _Page
from recurate.report.sections import Section
from recurate.theory.forecast import SUPPORT
from recurate.verbs.run import samples_section
from recurate.verbs.run.rounds_section import run_sections


def write_run_report(folder: RunFolder) -> Path:
    """Write ``report.html`` into a run folder, from what the folder holds."""
    path = folder.path / "report.html"
    write_text(path, _run_page(folder).render())
    return path


def run_charts(folder: RunFolder) -> list[tuple[str, dict[str, Any]]]:
    """Return the charts of a run's report, each with what stands above it."""
    page = _run_page(folder)
    titles = {identity: name for name, identity in (*page.quantities, *page.planes)}
    titles[page.shares] = "Share of the candidates"
    return [(titles.get(identity, ""), json.loads(text)) for identity, text in page.specs]


def _run_page(folder: RunFolder) -> _Page:
    config = folder.config()
    folder.verify()
    try:
        trajectory = Trajectory.read(folder.path / "trajectory.parquet")
    except InputError as error:
        remedy = f"recurate run --resume {folder.path} writes it again"
        raise InputError("the run's trajectory cannot be read", got=error.got, remedy=remedy) from None
    manifest = folder.manifest()
    facts = config.selection.rule().facts() | {
        "real_fraction": config.retraining.real_fraction,
        "weights": list(config.weights),
        "accumulate": config.retraining.mode == "accumulate",
    }
    data = "no data" if config.data is None else config.data.kind
    page = _Page(
        title=f"Loop on {data}, rewarded by {', '.join(_title(r) for r in config.rewards)}",
        subtitle=f"recurate {manifest['recurate']}, seed {config.seed}, rounds 0 to {folder.complete() - 1}",
        summary=narrative.what_happened(trajectory, facts),
        warnings=_support_warning(trajectory),
        facts=_run_facts(folder, manifest),
        config=(folder.path / "config.toml").read_text(encoding="utf-8"),
        comparisons=narrative.comparisons(trajectory),
    )
    page.add_trajectory(trajectory)
    page.add_bounds(folder.bounds())
    page.sections = [*run_sections(folder, trajectory), *_own_sections(folder)]
    _add_candidates(page, folder)
    return page


def _own_sections(folder: RunFolder) -> list[Section]:
    """Return the sections that the configuration names."""
    sections: list[Section] = []
    for name in folder.config().report.sections:
        made = call(name, SECTIONS.find(name), folder)
        found = [made] if isinstance(made, Section) else made
        if not isinstance(found, list | tuple) or not all(isinstance(one, Section) for one in found):
            raise InputError(
                f"{name} must return a Section, or a list of them",
                got=type(made).__name__,
                remedy="see docs/extending.md; the run itself is complete",
            )
        sections += found
    return sections


def _support_warning(trajectory: Trajectory) -> tuple[str, ...]:
    rows = trajectory.where(FORECAST, "effective_support").rows
    low = [str(r.round) for r in rows if r.value < SUPPORT]
    if not low:
        return ()
    return (
        f"In rounds {', '.join(low)} the forecast's effective support is below {SUPPORT:g} candidates: "
        "those values are beyond what round 0's candidates can tell.",
    )


def _title(reward: Any) -> str:
    return str(reward.kind if reward.name == "reward" else f"{reward.name} ({reward.kind})")


def _run_facts(folder: RunFolder, manifest: dict[str, Any]) -> list[tuple[str, str]]:
    counts = folder.counts(folder.complete() - 1)
    known = folder.facts()
    known.pop("real_data", None)  # in a table of its own
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


def _add_candidates(page: _Page, folder: RunFolder) -> None:
    """Show samples of evenly spread rounds: as images, or as points in the plane."""
    rounds = list(range(folder.complete()))
    shape = folder.samples(0).shape[1:]
    if shape == (2,):
        found, rewards, picked = {}, {}, {}
        for t in samples_section.chosen_rounds(len(rounds)):
            log = folder.log(t).select(source="model")
            found[t], rewards[t] = folder.samples(t), log.reward_matrix()[:, 0]
            picked[t] = log.column("picked")
        for name, spec in samples_section.plane_charts(found, rewards, picked):
            page.planes.append((name, page.place(spec)))
    elif samples_section.is_image(shape):
        for t in samples_section.chosen_rounds(len(rounds)):
            images, log = folder.samples(t), folder.log(t).select(source="model")
            winners = images[log.column("picked").astype(bool)]
            for kind, shown in (("proposed", images), ("picked", winners)):
                uri, count = samples_section.image_grid(shown), min(len(shown), samples_section.GRID**2)
                page.images.append({"uri": uri, "count": count, "caption": f"round {t}: {kind}"})
