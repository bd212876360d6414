"""The verb as a Python function."""

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
    """Overlay runs: what they measured and forecast, how far apart they are, which settings differ.

    For every quantity q of the last round that all runs have, the difference q_i - q_1 to the first run,
    with a 95 % interval that takes the two measured values as independent and joins their intervals
    (MOVER).

    Args:
        runs: folders that ``recurate run`` has made, two or more.
        name: one for each; None: the folders' names.

    Returns:
        A result with ``round`` (the last common one), ``cells``, ``settings`` that differ and ``notes`` on
        what looks alike and is not; its tables are ``table`` (that round) and ``trajectories`` (all
        rounds).

    Raises:
        InputError: fewer than two runs, one run twice, something that is no run, or a damaged one.

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
