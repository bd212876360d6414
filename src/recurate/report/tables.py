"""A forecast as a table of text."""

from __future__ import annotations

import shutil

from recurate.forecasting import SUPPORT, Forecast
from recurate.trajectory import FORECAST, MEASURED, Trajectory


def forecast_table(trajectory: Trajectory, result: Forecast) -> list[list[str]]:
    """Return the forecast as a table of text, heading first: one line a round, one column a quantity."""
    keys = result.trajectory.about(FORECAST)
    values = {(r.source, r.round, r.key): r.value for r in trajectory.rows}
    both = any(source == MEASURED for source, _, _ in values)
    heading = ["round", *(_heading(key, many=sum(k[0] == key[0] for k in keys) > 1) for key in keys)]
    lines = [heading]
    for t in range(result.setting.rounds + 1):
        beyond = values[FORECAST, t, ("effective_support", None, None)] < SUPPORT
        line = [f"{t}{'*' if beyond else ''}"]
        for key in keys:
            cell = f"{values[FORECAST, t, key]:.4g}" if (FORECAST, t, key) in values else ""
            found = values.get((MEASURED, t, key))
            line.append(cell + (f" ({found:.4g})" if both and found is not None else ""))
        lines.append(line)
    return lines


def _heading(key: tuple[str, str | None, str | None], *, many: bool) -> str:
    quantity, reward, group = key
    if group is not None:
        return f"share {group}"
    return f"{quantity} {reward}" if many and reward is not None else quantity


def print_table(lines: list[list[str]]) -> None:
    """Print aligned columns, in stacked blocks where they are wider than the terminal."""
    widths = [max(len(line[i]) for line in lines) + 2 for i in range(len(lines[0]))]
    limit = shutil.get_terminal_size((120, 24)).columns
    blocks: list[list[int]] = [[]]
    used = widths[0]
    for column in range(1, len(widths)):
        if used + widths[column] > limit and blocks[-1]:
            blocks.append([])
            used = widths[0]
        blocks[-1].append(column)
        used += widths[column]
    for index, block in enumerate(blocks):
        if index:
            print()
        for line in lines:
            print(line[0].rjust(widths[0]) + "".join(line[c].rjust(widths[c]) for c in block))
    notes = []
    if any(line[0].endswith("*") for line in lines):
        notes.append("* beyond support: fewer than 100 effective candidates are left")
    if any("(" in cell for line in lines[1:] for cell in line):
        notes.append("in brackets: measured in the log's rounds")
    for note in notes:
        print(note)
