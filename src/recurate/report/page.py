"""Pages: one self-contained HTML file each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from recurate.log.trajectory import CONTROL, FORECAST, RENEWED, TAIL, Trajectory
from recurate.report import charts, narrative
from recurate.report.html import place, render
from recurate.report.sections import Section

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
