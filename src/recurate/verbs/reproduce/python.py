"""The function ``recurate.reproduce``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from recurate.verbs.reproduce.report import reproduction_result
from recurate.verbs.reproduce.reproduce import Reproduction
from recurate.verbs.reproduce.reproduce import reproduce as run_all
from recurate.verbs.result import Result, open_folder


def reproduce(
    name: str,
    *,
    scale: str = "small",
    seeds: int | Sequence[int] | None = None,
    out: Path | str | None = None,
    data: str | None = None,
    jobs: int | None = None,
    engine: str = "processes",
    progress: Callable[[str], None] | None = None,
) -> Result[Reproduction]:
    r"""Run a published experiment, and test its claims.

    Each claim compares a statistic s of a run with a bound that was fixed in advance, unless the experiment
    says otherwise. Over n seeds with mean :math:`\bar s` and standard deviation :math:`\sigma`, a claim
    agrees if the whole 95 % Student interval :math:`\bar s \pm t_{n-1} \sigma / \sqrt n` lies on the claimed
    side of the bound, and is refuted if it lies on the other side. A claim about exact laws (in the limit of
    infinite data) is one number without an interval; an experiment of such claims alone trains nothing.

    Args:
        name: Name of the experiment, such as ``F-gaussians``; ``recurate reproduce --list`` lists all.
        scale: ``small`` (minutes on two cores) or ``paper`` (CIFAR-10, needs a GPU).
        seeds: The number of seeds, counted from 0, or the seeds themselves. None: 3; 1 for ``text-scale``.
        out: Folder of the runs; complete runs in it are not repeated. None: ``reproduced/NAME-SCALE``.
        data: Path of CIFAR-10, which ``F-cifar-...`` and ``P-E3`` need at the scale ``paper``; for
            ``human-check`` a file of people's picks.
        jobs: Number of simultaneous runs. None: one per core, or one at the scale ``paper``.
        engine: Engine that executes the runs: ``local``, ``processes``, the name of an entry point, or
            ``module:name``.
        progress: Function that is called with one line of text when a run is complete.

    Returns:
        A result with ``findings`` (each claim with its values, interval and verdict), ``runs`` (the
        trajectories of each trained arm) and ``laws`` (that of each exact arm).

    Raises:
        InputError: If the experiment, scale or engine is unknown, the experiment would not use the seeds,
            jobs or data, the folder has another experiment or runs of other settings, or a run fails.

    D. Ferbach et al., *Self-Consuming Generative Models with Curated Data Provably Optimize Human
    Preferences*, NeurIPS 2024, section 4.

    >>> import recurate
    >>> recurate.reproduce("F-gaussian")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    recurate.core.errors.InputError: there is no such experiment
      got:    F-gaussian
      remedy: did you mean 'F-gaussians'? Valid: A-disjoint, ...
    """
    folder = Path("reproduced") / f"{name}-{scale}" if out is None else Path(out)
    if folder.exists():
        open_folder(folder)
    chosen = range(seeds) if isinstance(seeds, int) else seeds
    found = run_all(
        name, folder, scale=scale, seeds=chosen, data=data, jobs=jobs, engine=engine,
        tell=progress or (lambda _: None),
    )  # fmt: skip
    return reproduction_result(found)
