"""The verb as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurate.core.citations import cite
from recurate.core.errors import InputError, Stopped
from recurate.verbs.options import fresh_folder, need_run_extra

if TYPE_CHECKING:
    from recurate.loop.config import Config
    from recurate.loop.monitors.protocol import Monitor
    from recurate.verbs.result import Result
    from recurate.verbs.run.report import Run


def run(
    config: Path | str | Mapping[str, Any] | Config | None = None,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    accept_changes: bool = False,
    logger: Sequence[str] = (),
    monitor: Monitor | None = None,
) -> Result[Run]:
    r"""Run a loop: train, sample, pick, retrain, measured every round against its own forecast.

    In round t the model proposes slates of K candidates, a rule or a person keeps one of each, and the
    model is retrained on the picks, mixed with a share of real data; the forecast iterates the law

    .. math:: p_{t+1} = \rho\,p_\mathrm{ref} + (1-\rho)\,p_t W_t

    from round 0's candidates alone. Everything lands in one folder: logs with losers kept, models, measures
    and ``report.html``. A run that was killed continues with ``resume`` and ends with the same bytes as one
    that was not.

    Args:
        config: a TOML file, the same as a dictionary, or a ``Config``; see docs/configuration.md.
        out: new folder for the run; None: ``runs/CONFIG-N``.
        resume: continue this run after its last complete round, in place of ``config``.
        accept_changes: with ``resume``, continue although files that the run rests on have changed.
        logger: ``tensorboard``, ``mlflow`` or ``wandb``: copies of all values, below the run's folder.
        monitor: an object that is called with everything that happens; None: nothing is shown.

    Returns:
        A result with ``path``, ``config``, ``trajectory`` and ``store`` (logs, samples and counts of each
        round).

    Raises:
        InputError: the configuration, data or folder do not fit, the model diverged, or a package is missing.
        Stopped: an alarm stopped the run; what is complete is kept, and its report written.

    D. Ferbach et al., *Self-Consuming Generative Models with Curated Data Provably Optimize Human
    Preferences*, NeurIPS 2024, section 2.

    >>> import tempfile
    >>> import recurate
    >>> config = {
    ...     "rounds": 1, "seed": 3,
    ...     "data": {"kind": "gaussians", "size": 400}, "generator": {"kind": "kde"},
    ...     "rewards": [{"kind": "distance", "centre": [2.0, 0.0]}], "selection": {"k": 2, "picks": 100},
    ... }
    >>> done = recurate.run(config, out=tempfile.mkdtemp())
    >>> done.trajectory.values("mean_reward", source="measured").shape
    (2,)
    """
    if (config is None) == (resume is None):
        raise InputError(
            "give a configuration, or a run to resume",
            got="both" if config is not None else "neither",
            remedy="recurate.run('loop.toml'), or recurate.run(resume='runs/a')",
        )
    need_run_extra()
    cite("ferbach2024")
    from recurate.loop import driver
    from recurate.loop.config import Config, parse_config, read_config
    from recurate.loop.monitors.loggers import make_loggers
    from recurate.loop.monitors.protocol import Several, Silent
    from recurate.loop.run_folder import RunFolder
    from recurate.verbs.run.report import run_result, write_run_report

    stem = Path(config).stem if isinstance(config, str | Path) else "run"
    folder = Path(resume or out or fresh_folder(Path("runs") / stem))
    watcher = Several([monitor or Silent(), *make_loggers(list(logger), folder)])
    try:
        if config is None:
            driver.resume(folder, watcher, accept_changes=accept_changes)
        elif isinstance(config, Config):
            driver.run(config, folder, watcher)
        else:
            settings = (
                parse_config(dict(config)) if isinstance(config, Mapping) else read_config(Path(config))
            )
            driver.run(settings, folder, watcher)
    except Stopped:
        write_run_report(RunFolder.open(folder))
        raise
    finally:
        watcher.close()
    store = RunFolder.open(folder)
    write_run_report(store)
    return run_result(store)


def read_run(folder: Path | str) -> Result[Run]:
    """Return the result of a run that was made, from its folder.

    Raises:
        InputError: it is no run, has no complete round, or was altered.
    """
    need_run_extra()
    from recurate.loop.run_folder import RunFolder
    from recurate.verbs.run.report import run_result

    store = RunFolder.open(Path(folder))
    if store.complete() == 0 or not (store.path / "trajectory.parquet").exists():
        raise InputError(
            "the run has no complete round yet", got=folder, remedy=f"recurate run --resume {folder}"
        )
    return run_result(store)
