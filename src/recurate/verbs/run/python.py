"""The function ``recurate.run``."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recurate.core.citations import cite
from recurate.core.errors import InputError, Stopped, WaitingForPeople, need
from recurate.engines.engine import Engine, opened
from recurate.log.folders import StoredRun, is_of_models
from recurate.verbs.options import fresh_folder, need_run_extra

POLL = 1.0  # seconds between two looks at people's answers
SERVER = "RECURATE_SERVER"  # variable with the number of the server's process that began this one

if TYPE_CHECKING:
    from recurate.loop.asking import Answers
    from recurate.loop.config import Config
    from recurate.loop.models_folder import ModelsFolder
    from recurate.loop.monitors.protocol import Monitor
    from recurate.loop.run_folder import RunFolder
    from recurate.verbs.result import Result
    from recurate.verbs.run.models_report import ModelsRun
    from recurate.verbs.run.report import Run


def run(
    config: Path | str | Mapping[str, Any] | Config | None = None,
    *,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    accept_changes: bool = False,
    trust: bool = False,
    logger: Sequence[str] = (),
    monitor: Monitor | None = None,
    engine: str = "local",
    workers: int | None = None,
    db: str | None = None,
    wait: bool = False,
) -> Result[Run] | Result[ModelsRun]:
    r"""Run a loop of training, sampling, picking and retraining, and compare each round with the forecast.

    In round t the model generates slates of K candidates, a rule or a person picks one per slate, and the
    model is retrained on the picks, mixed with a fraction of real data. The forecast iterates the law

    .. math:: p_{t+1} = \rho\,p_\mathrm{ref} + (1-\rho)\,p_t W_t

    from the candidates of round 0 alone. The run's folder contains logs of all candidates, picked or not,
    the models, the measured values and ``report.html``. An interrupted run that is resumed writes the same
    bytes as an uninterrupted one, apart from timings.

    Args:
        config: Path of a TOML file, a dictionary of the same structure, or a ``Config``; see
            ``recurate docs configuration``.
        out: New folder for the run. None: ``runs/CONFIG-N``.
        resume: Folder of a run to resume after its last complete round; excludes ``config``.
        accept_changes: With ``resume``, whether to resume although files that the run depends on have
            changed.
        trust: Whether to run the code that the configuration of a run folder names, if the run was made by
            another user or on another machine.
        logger: Names of loggers that copy all values into the run's folder: ``tensorboard``, ``mlflow``,
            ``wandb``.
        monitor: Object that is notified of every event of the run. None: no monitor.
        engine: Where the shards of a round are sampled and scored, which does not change the result:
            ``local``, ``processes``, ``ray``, ``ray://HOST:PORT``, ``shards`` or ``module:name``; see
            ``recurate docs scale``.
        workers: Number of shards that are done at a time. None: the engine's own.
        db: Database of people's answers, if people pick: a file, or ``postgresql://USER@HOST/NAME``. None: a
            file in the run's folder.
        wait: Whether to wait for people's answers instead of raising ``WaitingForPeople``.

    Returns:
        A result with ``path``, ``config``, ``trajectory`` and ``store`` (each round's log, samples and
        counts). Of several models (``[[models]]``), the groups of the trajectory are the models, and
        ``store.stores()`` has the run of each.

    Raises:
        InputError: If the configuration, the data or the folder is invalid, the model diverges, or a
            required package is missing.
        Stopped: If an alarm stops the run. Complete rounds are kept, and the report is written.
        Waiting: If the engine is ``shards``, and shards are missing.
        WaitingForPeople: If people pick, and answers are missing: ``recurate serve`` takes them.

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
    check_arguments(config, out, resume, accept_changes)
    need_run_extra()
    cite("ferbach2024")
    from recurate.loop.config import Config, parse_config, read_config
    from recurate.loop.models_folder import ModelsFolder
    from recurate.loop.monitors.loggers import make_loggers
    from recurate.loop.monitors.protocol import Several
    from recurate.loop.run_folder import check_trusted
    from recurate.verbs.run.models_report import models_run_result
    from recurate.verbs.run.report import run_result

    if isinstance(config, Mapping):
        config = parse_config(dict(config))
    stem = Path(config).stem if isinstance(config, str | Path) else "run"
    if isinstance(config, str | Path):
        check_trusted(Path(config), trust=trust)
    settings = config if config is None or isinstance(config, Config) else read_config(config)
    folder = Path(resume or out or fresh_folder(Path("runs") / stem))
    watching = Several([*([monitor] if monitor else []), *make_loggers(logger, folder)])
    store = run_loop(
        settings,
        folder,
        watching,
        accept_changes=accept_changes,
        trust=trust,
        engine=engine,
        workers=workers,
        db=db,
        wait=wait,
    )
    return models_run_result(store) if isinstance(store, ModelsFolder) else run_result(store)


def check_arguments(config: object, out: object, resume: object, accept_changes: bool) -> None:
    """Check that the arguments of :func:`run` are compatible.

    Raises:
        InputError: If neither or both of ``config`` and ``resume`` are given, if ``out`` is given with
            ``resume``, or if ``accept_changes`` is given without it.
    """
    if (config is None) == (resume is None):
        raise InputError(
            "say what to run",
            got="neither a configuration nor a run to resume" if config is None else "both",
            remedy="recurate run CONFIG.toml, or recurate run --resume FOLDER",
        )
    if resume is not None and out is not None:
        raise InputError(
            "out has no meaning with resume", got=out, remedy="a resumed run stays in its folder"
        )
    if accept_changes and resume is None:
        raise InputError(
            "accept-changes has a meaning only with resume",
            got="no run to resume",
            remedy="recurate run --resume FOLDER --accept-changes",
        )


def run_loop(
    config: Config | None,
    folder: Path,
    monitor: Monitor,
    *,
    accept_changes: bool = False,
    trust: bool = False,
    engine: str = "local",
    workers: int | None = None,
    db: str | None = None,
    wait: bool = False,
) -> RunFolder | ModelsFolder:
    """Run a loop, or resume the run in ``folder`` if ``config`` is None, and write its report.

    Raises:
        InputError: If the configuration, the data or the folder is invalid, or the model diverges.
        Stopped: If an alarm stops the run; the report is written first.
        Waiting: If the engine leaves shards to others.
        WaitingForPeople: If people's answers are missing.
    """
    from recurate.loop import driver
    from recurate.loop.run_folder import RunFolder
    from recurate.verbs.run.report import write_run_report

    several = is_of_models(folder) if config is None else bool(config.models)
    picker = _Asked(db)
    try:
        if db is not None or wait:
            _check_asks_people(config, folder, several)
        with opened(engine, workers) as found:
            if several:
                return _run_models(config, folder, monitor, accept_changes, trust, found)
            while True:
                try:
                    if config is None:
                        driver.resume(
                            folder, monitor, accept_changes=accept_changes, trust=trust, engine=found,
                            picker=picker,
                        )  # fmt: skip
                    else:
                        driver.run(config, folder, monitor, found, picker)
                    break
                except WaitingForPeople as people:
                    if not wait:
                        raise
                    config = None  # from here on the run is resumed
                    _until_answered(folder, people, db)
        store = RunFolder.open(folder)
        write_run_report(store)
        return store
    except Stopped:
        monitor.close()
        write_run_report(RunFolder.open(folder))
        raise
    finally:
        monitor.close()


def _run_models(
    config: Config | None,
    folder: Path,
    monitor: Monitor,
    accept_changes: bool,
    trust: bool,
    engine: Engine,
) -> ModelsFolder:
    """Run several models, or resume their run if ``config`` is None, and write the reports."""
    from recurate.loop import several
    from recurate.loop.models_folder import ModelsFolder
    from recurate.verbs.run.models_report import write_models_report

    if config is None:
        several.resume(folder, monitor, accept_changes=accept_changes, trust=trust, engine=engine)
    else:
        several.run(config, folder, monitor, engine)
    store = ModelsFolder.open(folder)
    write_models_report(store)
    return store


def _check_asks_people(config: Config | None, folder: Path, several: bool) -> None:
    """Refuse options about people's picks where a rule picks."""
    if several:
        by = "rule"
    elif config is not None:
        by = config.selection.by
    else:
        by = StoredRun.open(folder).settings()["selection"]["by"]
    if by != "people":
        raise InputError(
            "db and wait are about people's picks, and nobody is asked in this run",
            got=f"selection.by = {by!r}",
            remedy="leave them out",
        )


def read_run(folder: Path | str, *, trust: bool = False) -> Result[Run] | Result[ModelsRun]:
    """Return the result of an earlier run from its folder.

    Args:
        folder: Folder of the run.
        trust: Whether to import the plug-ins that the configuration names, if the run was made by another
            user or on another machine.

    Raises:
        InputError: If the folder is not a run folder, has no complete round, was altered, or is a stranger's
            and names plug-ins.
    """
    need_run_extra(trains=False)
    from recurate.loop.models_folder import ModelsFolder
    from recurate.loop.run_folder import RunFolder, check_trusted
    from recurate.verbs.run.models_report import models_run_result
    from recurate.verbs.run.report import run_result

    if is_of_models(Path(folder)):
        check_trusted(Path(folder) / "config.toml", trust=trust)
        return models_run_result(ModelsFolder.open(Path(folder)))
    store = RunFolder.open(Path(folder))
    check_trusted(store.path / "config.toml", trust=trust)
    return run_result(store)


def _until_answered(folder: Path, wait: WaitingForPeople, db: str | None = None) -> None:
    """Return when a run's round has all answers, or its deadline has passed.

    Args:
        folder: Folder of the run.
        wait: What the run waits for.
        db: Database of people's answers.
    """
    from recurate.loop.asking import facts_of, posted_in
    from recurate.loop.run_folder import RunFolder
    from recurate.people.asked import missing_in

    posted = posted_in(folder)[-1]
    hours = RunFolder.open(folder).config().selection.people.deadline
    end = math.inf if hours is None else facts_of(posted)["posted"] + 3600 * hours
    how = "" if SERVER in os.environ else f": recurate serve {folder} takes them"
    print(f"{wait}{how}", file=sys.stderr, flush=True)
    while missing_in(posted, db) and time.time() < end:
        if SERVER in os.environ and os.environ[SERVER] != str(os.getppid()):
            raise wait  # the server that began this process was killed: the next one begins it again
        time.sleep(POLL)


class _Asked:
    """People's answers, from a database that is opened where a round needs it."""

    def __init__(self, db: str | None) -> None:
        self._db = db

    def answers(self, posted: Path, slates: int, k: int, late: bool, *, by_rule: bool = False) -> Answers:
        need(["sqlalchemy", "alembic"], "taking people's picks", "pip install 'recurate[people]'")
        from recurate.people.asked import Ballots

        return Ballots(self._db).answers(posted, slates, k, late, by_rule=by_rule)
