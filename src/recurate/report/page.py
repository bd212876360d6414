"""Pages: one self-contained HTML file each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import recurate
from recurate.core.errors import InputError
from recurate.core.files import write_text
from recurate.log.trajectory import CONTROL, FORECAST, RENEWED, TAIL, Trajectory
from recurate.loop.run_folder import RunFolder
from recurate.report import charts, narrative
from recurate.report.html import place, render
from recurate.report.sections import Section
from recurate.theory.evidence import plain_bounds
from recurate.verbs.forecast.forecast import SUPPORT
from recurate.verbs.forecast.from_log import LogForecast
from recurate.verbs.forecast.report import note_lines
from recurate.verbs.run import samples_section
from recurate.verbs.run.rounds_section import run_sections

QUANTITIES = ("mean_reward", "mean_exp_reward", "var_exp_reward", "kl_to_reference", "entropy")


@dataclass
class _Page:
    """What the template fills in; charts are kept beside the places that they go to."""

    title: str
    subtitle: str
    summary: str
    warnings: tuple[str, ...] = ()
    facts: list[tuple[str, str]] = field(default_factory=list)
    config: str = ""
    table: list[list[str]] = field(default_factory=list)
    comparisons: list[narrative.Comparison] = field(default_factory=list)
    quantities: list[tuple[str, str]] = field(default_factory=list)
    planes: list[tuple[str, str]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    shares: str = ""
    hidden: int = 0
    bands: bool = False
    renewed: bool = False
    tail: bool = False
    notes: list[str] = field(default_factory=list)
    bounds: list[dict[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    controlled: bool = False
    specs: list[tuple[str, str]] = field(default_factory=list)

    def place(self, spec: dict[str, Any]) -> str:
        """Keep a chart and return the id of its place."""
        return place(self.specs, spec)

    def add_bounds(self, table: list[dict[str, Any]]) -> None:
        """List proved statements: those that apply first."""
        order = {"violated": 0, "holds": 1, "does not apply": 2}
        for row in sorted(table, key=lambda row: order[row["verdict"]]):
            numbers = {n: f"{v:.4g}" for n, v in row.items() if isinstance(v, float)}
            self.bounds.append({name: str(value) for name, value in (row | numbers).items()})

    def add_trajectory(self, trajectory: Trajectory) -> None:
        """Place a chart for every quantity."""
        keys = trajectory.about()
        ordered = [k for q in QUANTITIES for k in keys if k[0] == q]
        ordered += [k for k in keys if k[0].startswith("mean:")]
        if trajectory.where(FORECAST).rows:
            ordered += [k for k in keys if k[0] == "effective_support"]
        sources = {row.source for row in trajectory.rows}
        self.renewed, self.tail = RENEWED in sources, TAIL in sources
        self.controlled = CONTROL in sources
        self.bands = any(r.lower is not None for r in trajectory.where(FORECAST).rows)
        for key in ordered:
            row = next(r for r in trajectory.rows if r.key == key)
            self.quantities.append((charts.title(row), self.place(charts.quantity_chart(trajectory, key))))
        if any(k[0] == "share" for k in keys):
            self.shares = self.place(charts.shares_chart(trajectory))
            groups = {k[2] for k in keys if k[0] == "share"}
            self.hidden = max(len(groups) - charts.GROUPS, 0)

    def render(self) -> str:
        """Return the HTML."""
        return render("page.html.j2", **vars(self))


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
    page.sections = run_sections(folder, trajectory)
    _add_candidates(page, folder)
    return page


def write_forecast_report(found: LogForecast, path: Path, *, name: str, table: list[list[str]]) -> None:
    """Write a forecast's report."""
    result, trajectory = found.result, found.trajectory
    facts = result.setting.facts() | {"candidates": result.candidates, "contexts": result.contexts}
    page = _Page(
        title=f"Forecast from {name}",
        subtitle=f"recurate {recurate.__version__}",
        summary=narrative.what_happened(trajectory, facts),
        warnings=result.warnings,
        facts=[(k.replace("_", " "), "infinitely many" if v is None else str(v)) for k, v in facts.items()],
        table=table,
        comparisons=narrative.comparisons(trajectory),
        notes=note_lines(found),
    )
    page.add_trajectory(trajectory)
    page.add_bounds(plain_bounds(result.bounds))
    write_text(path, page.render())


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
    files = [f"{path} (SHA-256 {digest[:12]}...)" for path, digest in known.pop("files", {}).items()]
    facts: dict[str, Any] = {k.replace("_", " "): v for k, v in known.items()}
    facts |= {"files": ", ".join(files)} if files else {}
    if "classifier held out accuracy" in facts:
        facts["classifier held out accuracy"] = f"{facts['classifier held out accuracy']:.1%}"
    facts |= {f"last round: {k.replace('_', ' ')}": v for k, v in counts.items()}
    facts |= {
        "seed": manifest["seed"],
        "recurate": f"{manifest['recurate']} (code {manifest['code_revision'] or 'as installed'})",
        "python": manifest["python"],
        "packages": ", ".join(f"{k} {v}" for k, v in manifest["packages"].items() if v),
        "machine": "{system} {release} {architecture}, {cores} cores".format(**manifest["machine"]),
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
