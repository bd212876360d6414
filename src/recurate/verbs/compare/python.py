"""The function ``recurate.compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recurate.core.citations import cite
from recurate.verbs.compare.compare import Comparison
from recurate.verbs.compare.compare import compare as compare_runs
from recurate.verbs.compare.report import comparison_result
from recurate.verbs.options import listed
from recurate.verbs.result import Result


def compare(*runs: Path | str, name: str | Sequence[str] | None = None) -> Result[Comparison]:
    """Compare runs: their measured and forecast trajectories, their differences and their settings.

    For every quantity q measured in the last common round, the result has the difference q_i - q_1 from the
    first run. Its 95 % interval combines the intervals of the two values, which are assumed to be
    independent (MOVER).

    Args:
        runs: Two or more folders that ``recurate run`` has written.
        name: A name for each run. None: the names of the folders.

    Returns:
        A result with ``round`` (the last common round), ``cells``, ``settings`` (those that differ) and
        ``notes`` on quantities that have the same name but are not comparable. Its tables are ``table``
        (the last common round) and ``trajectories`` (all rounds).

    Raises:
        InputError: If fewer than two runs are given, a run is given twice, or a folder is damaged or is not
            a run folder.

    A. Donner and G. Y. Zou, *Closed-Form Confidence Intervals for Functions of the Normal Mean and Standard
    Deviation*, Stat. Methods Med. Res. 21, 2012.

    >>> import recurate
    >>> recurate.compare("runs/a")
    Traceback (most recent call last):
    ...
    recurate.core.errors.InputError: comparing needs two runs or more
      got:    1
      remedy: recurate compare RUN RUN ...
    """
    cite("donner2012")
    return comparison_result(compare_runs([Path(run) for run in runs], listed(name) or ()))
