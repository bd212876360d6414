"""The result of every verb: one object that can be saved, shown, plotted, printed or converted."""

from __future__ import annotations

import sys
import tempfile
import textwrap
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa

from recurate.core import progress
from recurate.core.errors import InputError, nearest, need
from recurate.core.files import write_text
from recurate.core.plain import plain, to_json
from recurate.core.tables import write_table
from recurate.core.version import VERSION
from recurate.log.reading.understand import Understood
from recurate.report.colour import painted, sentence
from recurate.report.console import print_sections, terminal_width
from recurate.report.reading import reading_section
from recurate.report.sections import Section, charts_of, page

MOST_NAMED = 5  # files of others in a folder
Found = TypeVar("Found")
Facts = dict[str, Any]
Tables = Mapping[str, pa.Table]
DETAILS = "In more detail"


@dataclass(frozen=True, repr=False, eq=False)
class Result(Generic[Found]):
    """The result of a verb, with its report.

    Attributes of ``found`` are also attributes of the result: ``recurate.forecast(rewards).trajectory``.

    Attributes:
        found: Values that the verb computed, such as a ``Forecast``, ``Plan``, ``Fit`` or ``Audit``.
        verb: Name of the verb (``forecast``, ``plan``, ...) and of the file with the facts.
        title: Title of the report.
        summary: The result in at most three sentences: what happened, whether it was expected, what to do.
        warnings: Reservations about the result, one sentence or more each.
        source: Input of the verb, such as the path of a log.
        make_facts: Function that returns the facts; it is called once, on first use.
        make_sections: Function that returns the sections, likewise.
        make_tables: Function that returns the tables, likewise.
        subtitle: Subtitle of the report.
        read: How the input was read; None for arrays and folders of runs.
        read_notes: What was assumed or left out in reading.
        lead: First line of the printed result, such as the rule that it assumes; "" for none.
        details: What the summary leaves out, a sentence or more each; a section of the report.
        outcome: The result in one or two words, such as ``as forecast`` or ``MISMATCH``; "" for none.
    """

    found: Found
    verb: str
    title: str
    summary: str
    warnings: tuple[str, ...]
    source: str
    make_facts: Callable[[], Facts]
    make_sections: Callable[[], Sequence[Section]]
    make_tables: Callable[[], Tables]
    subtitle: str = f"recurate {VERSION}"
    read: Understood | None = None
    read_notes: tuple[str, ...] = ()
    lead: str = ""
    details: tuple[str, ...] = ()
    outcome: str = ""

    @cached_property
    def facts(self) -> Facts:
        """All numbers as plain values, as in the JSON file; NaN and infinities are None."""
        own = {"recurate": VERSION, "source": self.source, **self._reading_facts(), **self.make_facts()}
        said = {"summary": self.summary, "outcome": self.outcome or None, "warnings": self.warnings}
        return dict(plain({**own, **said}))

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The report's sections."""
        details = [Section(DETAILS, lines=self.details, folded=True)] if self.details else []
        return (*details, *reading_section(self.read, self.read_notes), *self.make_sections())

    def _reading_facts(self) -> Facts:
        if self.read is None:
            return {}
        notes = [*self.read.notes, *self.read_notes]
        return {"read": {"roles": self.read.rows(), "unused": self.read.unused, "notes": notes}}

    @cached_property
    def tables(self) -> dict[str, pa.Table]:
        """Arrow tables by name, the main one first; :meth:`save` writes those with a file's name."""
        return dict(self.make_tables())

    def page(self) -> str:
        """Return the report as one self-contained HTML page."""
        return page(
            self.sections, title=self.title, subtitle=self.subtitle, summary=self.summary,
            warnings=self.warnings, verdict=self.outcome, rule=self.lead[:1].upper() + self.lead[1:],
        )  # fmt: skip

    def save(self, folder: Path | str) -> list[Path]:
        """Write tables, facts (``VERB.json``) and ``report.html`` into a folder, each file atomically.

        Returns:
            Paths of the files.

        Raises:
            InputError: If ``folder`` is a file.
        """
        folder = open_folder(Path(folder))
        written = [folder / name for name in self.tables if Path(name).suffix]
        for path in written:
            write_table(self.tables[path.name], path)
        facts, report = folder / f"{self.verb}.json", folder / "report.html"
        write_text(facts, to_json(self.facts) + "\n")
        write_text(report, self.page())
        return [facts, *written, report]

    def show(self) -> Path:
        """Open the report in a browser and return its path, a temporary file."""
        path = Path(tempfile.mkdtemp(prefix="recurate-")) / "report.html"
        path.write_text(self.page(), encoding="utf-8")
        open_page(path)
        return path

    def plot(self, quantity: str | None = None, label: str | None = None) -> Any:
        """Return a chart of the report as an ``altair.Chart``, which can be layered with others and saved.

        ``altair.layer(a.plot("mean_reward", "K = 4"), b.plot("mean_reward", "K = 8"))`` overlays two results.

        Args:
            quantity: Title or name of the chart, such as ``mean_reward``, or the beginning of one name alone;
                None stands for the first one.
            label: Name of this result in the legend, in a colour of its own; for charts over rounds.

        Raises:
            InputError: If there is no such chart (the message lists those that exist) or several begin so, or
                if its colours have another meaning than sources, so that it takes no label.
        """
        from recurate.report.charts import as_chart, labelled
        from recurate.report.figures import view_name

        found = [(title, view_name(spec), spec) for title, spec in charts_of(self.sections)]
        exact = [one for one in found if quantity is None or quantity in one[:2]][:1]
        chosen = exact or [one for one in found if one[1].startswith(f"{quantity}_")]
        if len(chosen) != 1:
            names = [name for _, name, _ in chosen or found]
            what = "several charts begin so" if chosen else "there is no such chart"
            remedy = nearest(str(quantity), names) if names else "this result has no charts"
            raise InputError(what, got=quantity, remedy=remedy)
        title, _, spec = chosen[0]
        own = spec if label is None else labelled(spec, label)
        if own is None:
            raise InputError("this chart takes no label", got=label, remedy="leave the label out")
        return as_chart(own).properties(title=title)

    def to_arrow(self, table: str | None = None) -> pa.Table:
        """Return a table (None: the main one) as an Arrow table."""
        names = {Path(name).stem: name for name in self.tables}
        chosen = next(iter(names), None) if table is None else Path(table).stem
        if chosen not in names:
            remedy = nearest(str(table), names) if names else "this result has no tables; see its facts"
            raise InputError("there is no such table", got=table, remedy=remedy)
        return self.tables[names[chosen]]

    def to_pandas(self, table: str | None = None) -> Any:
        """Return a table (None: the main one) as a pandas DataFrame."""
        need(["pandas"], "a pandas frame", "pip install pandas")
        return self.to_arrow(table).to_pandas()

    def to_polars(self, table: str | None = None) -> Any:
        """Return a table (None: the main one) as a polars DataFrame."""
        need(["polars"], "a polars frame", "pip install polars")
        import polars

        return polars.from_arrow(self.to_arrow(table))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "found":  # absent while the object is copied or unpickled
            raise AttributeError(name)
        return getattr(self.found, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(n for n in dir(self.found) if not n.startswith("_"))})

    def __repr__(self) -> str:
        count = len(self.warnings)
        lines = [
            self.title,
            *([self.lead] if self.lead else []),
            self.summary,
            *(f"warning: {text}" for text in self.warnings[:2]),
        ]
        lines += [f"... and {count - 2} more warnings"] if count > 2 else []
        return "\n  ".join(lines)

    def _repr_html_(self) -> str:
        from recurate.report.notebook import fragment

        said = (self.lead, self.summary)
        return fragment(self.verb, self.title, said, self.warnings, self.facts, self.sections)


def open_folder(folder: Path) -> Path:
    """Return a folder to write to, which is created if necessary.

    Raises:
        InputError: If it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("--out names a file", got=folder, remedy="name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(
    result: Result[Any],
    folder: Path,
    *,
    as_json: bool = False,
    also: Sequence[str] = (),
    open_report: bool = False,
) -> None:
    """Save a result and print it: facts as JSON, or lead, sections, warnings, summary and the files' paths.

    Args:
        result: Result of a verb.
        folder: Folder to write to.
        as_json: Whether to print JSON.
        also: Further lines to print, unless as JSON.
        open_report: Whether to open the report in a browser.
    """
    written = save_told(result, folder)
    if as_json:
        print(to_json(result.facts, indent=None))
    else:
        _print(result, also, written)
    if open_report:
        open_page(written[-1])


def _print(result: Result[Any], also: Sequence[str], written: Sequence[Path]) -> None:
    if result.lead:
        print(textwrap.fill(result.lead, terminal_width()))
    print_sections(result.sections)
    for warning in result.warnings:
        print(f"{painted('warning:', 'open', sys.stderr)} {warning}", file=sys.stderr)
    print("\n" + sentence(textwrap.fill(result.summary, terminal_width())))
    print(f"written: {', '.join(map(str, written))}")
    for line in also:
        print(line)


def save_told(result: Result[Any], folder: Path) -> list[Path]:
    """Save a result as :meth:`Result.save` does, and tell whoever waits for it.

    That an older result is replaced is said here, not where the folder is chosen: until now an error or
    Ctrl-C would have left it.
    """
    from recurate.verbs.options import is_result

    if is_result(folder, result.verb):
        progress.hide()
        print(f"replacing {folder}", file=sys.stderr)
    progress.stage("writing the report")
    progress.kept(f"{folder} may hold a part of the result")
    written = result.save(folder)
    progress.kept(f"the result is in {folder}")
    progress.hide()
    names = {path.name for path in written}
    if others := sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in names):
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        print(f"left as it was in {folder}: {', '.join(others[:MOST_NAMED])}{more}", file=sys.stderr)
    return written


def open_page(path: Path) -> None:
    """Open a report in a browser; if there is none, say so on standard error."""
    if not webbrowser.open(path.resolve().as_uri()):
        print(f"warning: no browser could be opened; the report is {path}", file=sys.stderr)
