"""Loggers: thin adapters that copy a run's values to TensorBoard, MLflow or Weights & Biases, offline.

The run folder remains the record. Every logger writes below ``RUN/loggers/NAME``, and writes nothing before
the run has started. A round's values are logged at step = round once the round is safely on disk. A resumed
run continues after the last round that the logger has, so that rounds missing after a crash are added.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recurate.core.errors import InputError, nearest, need
from recurate.core.files import write_text
from recurate.log.trajectory import FORECAST, MEASURED, Trajectory
from recurate.loop.monitors.protocol import Monitor

ALARM = "alarm"
LONGEST = 5000  # characters of a text value
UNSTABLE = ("complete_rounds_found", "rounds")  # facts that a resumed run changes

Values = dict[str, dict[str, float]]  # source -> name -> value


class _Logger(Monitor):
    """Common part of all loggers: every round is written once, as a whole, and in order."""

    name = ""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / "loggers" / self.name
        self._last = -1
        self._rounds = 0
        self._counts: dict[int, dict[str, int]] = {}
        self._warnings: list[str] = []
        self._alarms: dict[int, list[str]] = {}
        self._names = _Names()
        self._open = False

    def started(self, facts: dict[str, Any]) -> None:
        """Open the logger's record, or continue an existing one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rounds = int(facts["rounds"])
        self._last = self.begin({name: str(value)[:LONGEST] for name, value in facts.items()})
        self._open = True

    def warn(self, warnings: Sequence[str]) -> None:
        """Write all warnings so far as text."""
        self._warnings += warnings
        if self._open and warnings:
            self.text("warnings", "\n".join(self._warnings)[:LONGEST], max(self._last, 0))

    def counts(self, round: int, counts: dict[str, int]) -> None:  # noqa: A002
        """Keep the counts until the round is on disk."""
        self._counts[round] = dict(counts)

    def alarm(self, round: int, message: str, action: str) -> None:  # noqa: A002
        """Write the round's alarms as text."""
        said = self._alarms.setdefault(round, [])
        said.append(f"{message} ({action})")
        if self._open:
            self.text(ALARM, "\n".join(said)[:LONGEST], round)

    def finished(self, round: int, trajectory: Trajectory) -> None:  # noqa: A002
        """Write the round, and earlier rounds that are missing."""
        for t in range(self._last + 1, round + 1):
            counts = {_safe(name): float(count) for name, count in self._counts.pop(t, {}).items()}
            self.write(t, self._values(trajectory, t) | {"counts": counts})
        self._last = max(self._last, round)

    def close(self) -> None:
        """Close the record."""
        if self._open:
            self._open = False
            self.end(self._last >= self._rounds)

    def _values(self, trajectory: Trajectory, t: int) -> Values:
        found: Values = {}
        for row in trajectory.where(round=t).rows:
            if row.source in (MEASURED, FORECAST):
                found.setdefault(row.source, {})[self._names(row.key)] = row.value
        return found

    def begin(self, facts: dict[str, str]) -> int:
        """Open the record; return the number of the last round in it, or -1."""
        raise NotImplementedError

    def write(self, t: int, values: Values) -> None:
        """Write the values of round ``t``."""
        raise NotImplementedError

    def text(self, name: str, text: str, t: int) -> None:
        """Write a text under a name at round ``t``."""
        raise NotImplementedError

    def end(self, complete: bool) -> None:
        """Close the record; ``complete`` states whether it has the last round."""
        raise NotImplementedError


class TensorBoard(_Logger):
    """TensorBoard event files: ``measured`` and ``forecast`` are two runs with equal tags, which overlay."""

    name = "tensorboard"

    def begin(self, facts: dict[str, str]) -> int:
        """Open new event files beside those of earlier sessions; return the last round logged, or -1."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        last = self._found()
        self._writers = {
            source: EventFileWriter(str(self.folder / source)) for source in (MEASURED, FORECAST)
        }
        rows = "".join(f"| {_cell(n)} | {_cell(v)} |\n" for n, v in facts.items())
        self.text("facts", f"| fact | value |\n|---|---|\n{rows}", last + 1)
        return last

    def _found(self) -> int:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        last = -1
        if (self.folder / MEASURED).is_dir():
            found = EventAccumulator(str(self.folder / MEASURED), size_guidance={"scalars": 1})
            found.Reload()
            for tag in found.Tags()["scalars"]:
                last = max(last, *(event.step for event in found.Scalars(tag)))
        return last

    def write(self, t: int, values: Values) -> None:
        """Write the values of round ``t`` and flush them to the file."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for source, group in values.items():
            prefix = "counts/" if source == "counts" else ""
            summary = [Summary.Value(tag=prefix + n, simple_value=v) for n, v in group.items()]
            self._add(FORECAST if source == FORECAST else MEASURED, t, summary)
        for writer in self._writers.values():
            writer.flush()

    def text(self, name: str, text: str, t: int) -> None:
        """Write a text for TensorBoard's text tab."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text import metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        kind = metadata.create_summary_metadata(name, "")
        tensor = make_tensor_proto([text.encode()])
        self._add(MEASURED, t, [Summary.Value(tag=name, metadata=kind, tensor=tensor)])

    def _add(self, source: str, t: int, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if values:
            event = Event(step=t, wall_time=time.time(), summary=Summary(value=values))
            self._writers[source].add_event(event)

    def end(self, complete: bool) -> None:
        """Close the event files."""
        for writer in self._writers.values():
            writer.close()


class MLflow(_Logger):
    """A separate MLflow store in SQLite, never a server; a run has one MLflow run, even if it is resumed."""

    name = "mlflow"

    def begin(self, facts: dict[str, str]) -> int:
        """Open the store; return the last round logged, or -1.

        Facts are logged as parameters; facts that change on resume are logged as tags.
        """
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient
        from mlflow.entities import Param, RunTag

        for name in ("mlflow", "alembic"):  # they log every migration of the new store
            logging.getLogger(name).setLevel(logging.WARNING)
        store = f"sqlite:///{(self.folder / 'mlflow.db').resolve()}"
        self._client = MlflowClient(tracking_uri=store, registry_uri=store)
        experiment = self._client.get_experiment_by_name("recurate")
        if experiment is None:
            place = (self.folder / "artifacts").resolve().as_uri()
            chosen = self._client.create_experiment("recurate", artifact_location=place)
        else:
            chosen = experiment.experiment_id
        earlier = self._client.search_runs([chosen], order_by=["attributes.start_time ASC"], max_results=1)
        run = earlier[0] if earlier else self._client.create_run(chosen, run_name=self.run.resolve().name)
        self.run_id = run.info.run_id
        self._client.update_run(self.run_id, status="RUNNING")
        new = {n: v for n, v in facts.items() if n not in UNSTABLE and n not in run.data.params}
        self._client.log_batch(
            self.run_id,
            params=[Param(_safe(n), v) for n, v in new.items()],
            tags=[RunTag(_safe(n), v) for n, v in facts.items() if n in UNSTABLE],
        )
        return self._found(set(run.data.metrics))

    def _found(self, names: set[str]) -> int:
        history = self._client.get_metric_history
        return max((m.step for n in names for m in history(self.run_id, n)), default=-1)

    def write(self, t: int, values: Values) -> None:
        """Write the values of round ``t`` in batches."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{s}/{n}", v, now, t) for s, group in values.items() for n, v in group.items()]
        for start in range(0, len(metrics), 1000):  # the maximal size of a batch
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def text(self, name: str, text: str, t: int) -> None:
        """Write a text as a tag."""
        self._client.set_tag(self.run_id, _numbered(name, t), text)

    def end(self, complete: bool) -> None:
        """Mark the run as finished or, before its last round, as killed."""
        self._client.set_terminated(self.run_id, "FINISHED" if complete else "KILLED")


class WandB(_Logger):
    """Weights & Biases, offline unless WANDB_MODE is set otherwise; ``wandb sync`` uploads the run later."""

    name = "wandb"

    def begin(self, facts: dict[str, str]) -> int:
        """Start a run, or continue under the id of the earlier session; return the last round, or -1."""
        mode = os.environ.get("WANDB_MODE") or "offline"
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        kept = self.folder / "rounds.json"
        state = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        self._id = str(state.get("id") or secrets.token_hex(4))
        while list(self.folder.glob(f"wandb/*run-{time.strftime('%Y%m%d_%H%M%S')}-{self._id}")):
            time.sleep(0.1)  # wandb names folders by the second and would overwrite an earlier session's
        settings = wandb.Settings(
            console="off", silent=True, save_code=False, disable_code=True, disable_git=True,
            x_disable_stats=True, x_disable_meta=True, init_timeout=60,
        )  # fmt: skip
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "recurate",
            id=self._id, name=self.run.resolve().name, dir=str(self.folder), mode=mode,  # type: ignore[arg-type]
            resume="allow", reinit="create_new", settings=settings,
            config={n: v for n, v in facts.items() if n not in UNSTABLE},
        )  # fmt: skip
        changed = {n: v for n, v in facts.items() if n in UNSTABLE}
        self._run.config.update(changed, allow_val_change=True)  # type: ignore[no-untyped-call]
        last = int(state.get("last", -1))
        self._keep(last)
        return last

    def _keep(self, last: int) -> None:
        """Store the last round logged, because only wandb's upload can read wandb's own file."""
        write_text(self.folder / "rounds.json", json.dumps({"id": self._id, "last": last}) + "\n")

    def write(self, t: int, values: Values) -> None:
        """Write the values of round ``t`` as one step."""
        plain = {f"{source}/{n}": v for source, group in values.items() for n, v in group.items()}
        self._run.log({"round": t, **plain}, step=t, commit=True)
        self._keep(t)

    def text(self, name: str, text: str, t: int) -> None:
        """Write a text into the summary; an alarm also tags the run."""
        self._run.summary[_numbered(name, t)] = text
        if name == ALARM and ALARM not in (self._run.tags or ()):
            self._run.tags = (*(self._run.tags or ()), ALARM)

    def end(self, complete: bool) -> None:
        """Finish the run, with exit code 0 if it is complete and 1 otherwise."""
        self._run.finish(exit_code=0 if complete else 1)


LOGGERS: dict[str, tuple[Callable[[Path], Monitor], tuple[str, ...]]] = {
    "tensorboard": (TensorBoard, ("tensorboard",)),
    "mlflow": (MLflow, ("mlflow", "sqlalchemy", "alembic")),
    "wandb": (WandB, ("wandb",)),
}


def make_loggers(names: Sequence[str], run: Path) -> list[Monitor]:
    """Return the loggers of these names, without repetitions; nothing is written yet.

    Args:
        names: Names of loggers: tensorboard, mlflow or wandb.
        run: Folder of the run.

    Raises:
        InputError: If a logger is unknown or its packages are not installed.
    """
    found = []
    for name in dict.fromkeys(names):
        if name not in LOGGERS:
            raise InputError("there is no such logger", got=name, remedy=nearest(name, LOGGERS))
        make, packages = LOGGERS[name]
        need(packages, f"the logger {name!r}", "pip install 'recurate[loggers]'")
        found.append(make(run))
    return found


class _Names:
    """Names of series in tools, ``quantity/reward/group``; distinct series have distinct names."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str | None, str | None], str] = {}

    def __call__(self, key: tuple[str, str | None, str | None]) -> str:
        if key not in self._given:
            quantity, reward, group = key
            parts = [*quantity.split(":"), *(p for p in (reward, group) if p is not None)]
            parts = parts[: -1 if reward == "reward" and group is None else None]
            name = base = "/".join(_safe(part) for part in parts)
            number = 2
            while name in self._given.values():
                name, number = f"{base} {number}", number + 1
            self._given[key] = name
        return self._given[key]


def _safe(part: str) -> str:
    """Replace every character that some tool does not allow by an underscore."""
    return re.sub(r"[^\w\- ]", "_", part)[:100].strip() or "_"


def _numbered(name: str, t: int) -> str:
    return f"{name}/round-{t}" if name == ALARM else name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
