"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from recurate.core.citations import cite
from recurate.verbs.options import need_run_extra
from recurate.verbs.reproduce.report import reproduction_result
from recurate.verbs.reproduce.reproduce import Reproduction
from recurate.verbs.reproduce.reproduce import reproduce as run_all
from recurate.verbs.result import Result, open_folder


def reproduce(
    name: str,
    *,
    scale: str = "small",
    seeds: int | Sequence[int] = 3,
    out: Path | str | None = None,
    data: str | None = None,
    jobs: int | None = None,
    engine: str = "processes",
    progress: Callable[[str], None] | None = None,
) -> Result[Reproduction]:
    r"""Run a published experiment with and without real data, and say which of its claims hold here.

    Every claim is a statistic of a run and a bound that was stated before. Over n seeds it agrees if the
    whole interval :math:`\bar s \pm t_{n-1} \sigma / \sqrt n` (95 %, Student) lies beyond the bound.

    Args:
        name: ``F-gaussians``, ``F-moons``, ``F-cifar-airplane`` or ``F-cifar-confidence``.
        scale: ``small`` (minutes on two cores) or ``paper`` (CIFAR-10, a GPU).
        seeds: how many, from 0 on; or which.
        out: folder of the runs; None: ``reproduced/NAME-SCALE``. What is complete there is not run again.
        data: path of CIFAR-10, for the scale of the paper.
        jobs: runs at a time; None: one per core, one for the scale of the paper.
        engine: where runs are made: ``local``, ``processes``, an entry point's name or ``module:name``.
        progress: called with a line whenever a run is complete.

    Returns:
        A result with ``findings`` (claims with values, interval and verdict) and ``runs`` (trajectories by
        arm).

    Raises:
        InputError: there is no such experiment, or a run cannot be made.

    D. Ferbach et al., *Self-Consuming Generative Models with Curated Data Provably Optimize Human
    Preferences*, NeurIPS 2024, section 4.

    >>> import recurate
    >>> recurate.reproduce("F-gaussian")
    Traceback (most recent call last):
    ...
    recurate.core.errors.InputError: there is no such experiment
      got:    F-gaussian
      remedy: did you mean 'F-gaussians'? Valid: F-cifar-airplane, F-cifar-confidence, F-gaussians, F-moons
    """
    need_run_extra()
    cite("ferbach2024")
    folder = Path("reproduced") / f"{name}-{scale}" if out is None else Path(out)
    if folder.exists():
        open_folder(folder)
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    found = run_all(
        name, folder, scale=scale, seeds=chosen, data=data, jobs=jobs, engine=engine,
        tell=progress or (lambda _: None),
    )  # fmt: skip
    return reproduction_result(found)
