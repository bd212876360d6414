"""The shards of a round: parts of its candidates, which an engine samples and scores anywhere.

The configuration alone divides a round into shards, never the engine or the number of workers, so that all of
them give the same bytes. Shard j samples with the stream at ("shard", j); the items of a generator whose
``sample`` takes ``first`` keep their numbers in the round. With several shards, or an engine other than this
process, a *batch* in the run's folder holds what a worker needs, and takes the results::

    .shards/003-0-main/             round 3, attempt 0, main arm: contents.json, model/, contexts.parquet
    .shards/003-0-main/samples-00007/   samples of shard 7, contents.json
    .shards/003-0-main/rewards-00007/   its scores.parquet, contents.json

The seal of a batch covers the run, the round before, the stream and the model; each result holds that seal.
Results appear in one rename, so a task that is done twice changes nothing, and a resumed round keeps them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from recurate.components.nets.devices import choose_device, device_name
from recurate.components.protocols import Generator
from recurate.components.registry import load_model
from recurate.core.errors import InputError
from recurate.core.fingerprints import versions
from recurate.core.plugins import takes
from recurate.core.sealed import CONTENTS, SEAL, read_json, verify, write_folder
from recurate.core.sealed import field as sealed_field
from recurate.core.seeds import Stream
from recurate.core.tables import read_table, write_table
from recurate.engines.engine import Elsewhere, Engine, Local
from recurate.log.candidates import Candidates
from recurate.log.folders import StoredRun
from recurate.log.samples import Samples, as_texts, is_text, load_samples, save_samples
from recurate.loop.asking import Picker
from recurate.loop.config import Config, read_config
from recurate.loop.environment import Judges, prepare_judges

HERE = Local()
BATCH = "batch"  # link of a result: the seal of its batch
SHARDS = ".shards"  # folder of the batches in the run's folder
SAMPLES, REWARDS = "samples", "rewards"
REMEDY = "recurate run --resume does the shard again"
NAME = re.compile(r"(\d{3,9})-\d{1,9}-(?:main|control)", re.ASCII)

Task = tuple[str, int]  # folder of the batch, number of the shard


@dataclass(frozen=True)
class Bench:
    """Where the shards of a run's next round are done, and by whom.

    Attributes:
        folder: Folder of the batches.
        engine: Engine that does the shards.
        links: Seals of the run and of the round before, by name.
        train: Task of an engine that trains the model of the next round, of the run's folder and the number
            of the attempt, and begins its batch; None: models are trained in this process.
        picker: Whoever shows slates to people; None: nobody does.
    """

    folder: Path
    engine: Engine
    links: Mapping[str, str]
    train: Callable[[Task], int] | None = None
    picker: Picker | None = None


@dataclass(frozen=True)
class Arm:
    """What one arm of a round samples.

    Attributes:
        name: ``main`` or ``control``.
        round: Number of the round.
        attempt: Number of the attempt at it.
        config: Configuration of the arm.
        judges: What scores the samples.
        stream: Stream of the samples.
        bench: Where shards are done; None: in this process, without files.
    """

    name: str
    round: int
    attempt: int
    config: Config
    judges: Judges
    stream: Stream
    bench: Bench | None = None

    def trained(self) -> tuple[Generator, dict[str, int]] | None:
        """Return the model of a batch that was begun before, and the sizes of its training set."""
        path = self._path()
        if path is None or not path.exists():
            return None
        try:
            verify(path, REMEDY, self._links())
            facts, own = _facts(path), self._facts()
            counts = facts.pop("counts")
            if self.config.engine.training == "task":  # a worker may have a GPU, and this process none
                own["device"] = facts["device"]
            if facts == own:
                return _model(path, self.config), dict(counts)
        except (InputError, KeyError):
            pass  # half of a folder, or of another version of recurate: begun again
        shutil.rmtree(path)
        return None

    def train(self) -> tuple[Generator, dict[str, int]] | None:
        """Have a worker train the model, and return it; None where this process trains.

        The control arm's model is trained here: its training set is made of the main arm's round.
        """
        bench, path = self.bench, self._path()
        if bench is None or path is None or bench.train is None or self.name != "main":
            return None
        if self.config.engine.training == "here" or isinstance(bench.engine, Elsewhere):
            return None
        task = str(bench.folder.parent), self.attempt
        for _ in bench.engine.map(bench.train, [task], self.config.engine.needs):
            pass
        found = self.trained()
        if found is None:
            raise InputError(
                "a worker trained the round's model, and its folder cannot be used here",
                got=path,
                remedy="install the same versions everywhere; or engine.training = 'here'",
            )
        return found

    def begin(self, generator: Generator, counts: Mapping[str, int], contexts: NDArray[Any] | None) -> Batch:
        """Return the batch of shards that a trained model samples.

        Args:
            generator: The model.
            counts: Sizes of its training set.
            contexts: Context of every slate, shape (slates,), or None.
        """
        path, seal = self._path(), ""
        engine = HERE if self.bench is None else self.bench.engine
        if path is not None:
            if not path.exists():
                fill = partial(_fill, generator, contexts)
                write_folder(path, fill, self._facts() | {"counts": dict(counts)}, self._links())
            seal = _seal(path)
        batch = Batch(self.config, self.judges, generator, contexts, self.stream, path, seal, engine)
        if path is not None:
            _hold(batch)
        return batch

    def _path(self) -> Path | None:
        bench = self.bench
        if bench is None:
            return None
        at_once = self.config.parts == 1 and isinstance(bench.engine, Local)
        if at_once and self.config.selection.by == "rule":  # people take longer than this process lives
            return None
        return bench.folder / f"{self.round:03d}-{self.attempt}-{self.name}"

    def _links(self) -> Mapping[str, str]:
        return {} if self.bench is None else self.bench.links

    def _facts(self) -> dict[str, Any]:
        selection = self.config.selection
        return {
            "stream": [self.stream.root, *self.stream.path],
            "slates": selection.shown,
            "k": selection.k,
            "shards": self.config.parts,
            "device": device_of(self.config),
            "versions": versions(),
        }


@dataclass(frozen=True)
class Batch:
    """The candidates of one arm of a round, in shards.

    Attributes:
        config: Configuration of the arm.
        judges: What scores the samples.
        generator: The model.
        contexts: Context of every slate, shape (slates,), or None.
        stream: Stream of the samples.
        path: Folder of the batch; None: nothing is written.
        seal: Seal of that folder.
        engine: Engine that does the shards.
    """

    config: Config
    judges: Judges
    generator: Generator
    contexts: NDArray[Any] | None
    stream: Stream
    path: Path | None = None
    seal: str = ""
    engine: Engine = HERE

    def samples(self) -> Samples:
        """Return all candidates, shape (slates * k, ...).

        Raises:
            InputError: If shards have different forms.
        """
        if self.path is None:
            parts = [self.sample(j) for j in range(self.config.parts)]
        else:
            parts = [load_samples(path) for path in self._done(SAMPLES, sample_shard)]
        if len(parts) == 1:
            return parts[0]
        forms = {form(part): j for j, part in enumerate(parts)}
        if len(forms) > 1:
            raise InputError(
                "the generator's samples have different forms",
                got="; ".join(f"{name} in shard {j}" for name, j in forms.items()),
                remedy="return samples in the form of the training set",
            )
        return np.concatenate(parts)

    def scored(self, samples: Samples) -> Candidates:
        """Return all candidates with rewards, tracked values and groups."""
        if self.path is None:
            parts = [
                self.judges.score(samples[self._rows(j)], self._prompts(j)) for j in range(self.config.parts)
            ]
        else:
            parts = [self._read(path) for path in self._done(REWARDS, score_shard)]
        if len(parts) == 1:
            return parts[0]
        first, contexts = parts[0], self.contexts
        return Candidates(
            np.concatenate([part.rewards for part in parts]),
            first.names,
            None if first.groups is None else np.concatenate([part.groups for part in parts]),
            {name: np.concatenate([part.tracked[name] for part in parts]) for name in first.tracked},
            None if contexts is None else np.repeat(contexts, self.config.selection.k),
        )

    # --- one shard ---

    def sample(self, shard: int) -> Samples:
        """Return the candidates of a shard."""
        rows, generator = self._rows(shard), self.generator
        n, contexts, stream = rows.stop - rows.start, self._prompts(shard), self.stream
        if self.config.parts == 1:
            return generator.sample(n, rng=stream, contexts=contexts)
        if takes(generator.sample, "first"):
            numbered: Any = generator.sample
            return numbered(n, rng=stream, contexts=contexts, first=rows.start)  # type: ignore[no-any-return]
        return generator.sample(n, rng=stream.at("shard", shard), contexts=contexts)

    def keep_sample(self, shard: int) -> None:
        """Write the candidates of a shard, unless they are there."""
        self._keep(SAMPLES, shard, lambda folder: save_samples(self.sample(shard), folder))

    def keep_score(self, shard: int) -> None:
        """Write the rewards of a shard whose candidates are there, unless they are there too."""

        def fill(folder: Path) -> None:
            source = self._target(SAMPLES, shard)
            verify(source, REMEDY, {BATCH: self.seal})
            scored = self.judges.score(load_samples(source), self._prompts(shard))
            write_table(_table(scored), folder / "scores.parquet")

        self._keep(REWARDS, shard, fill)

    def _rows(self, shard: int) -> slice:
        selection, parts = self.config.selection, self.config.parts
        first, last = (selection.shown * j // parts for j in (shard, shard + 1))
        return slice(first * selection.k, last * selection.k)

    def _prompts(self, shard: int) -> NDArray[Any] | None:
        if self.contexts is None:
            return None
        k, rows = self.config.selection.k, self._rows(shard)
        return np.repeat(self.contexts[rows.start // k : rows.stop // k], k)

    # --- files ---

    def _target(self, what: str, shard: int) -> Path:
        assert self.path is not None
        return self.path / f"{what}-{shard:05d}"

    def _there(self, what: str, shard: int) -> bool:
        """Return whether a shard is done; what is damaged or another batch's is removed."""
        target = self._target(what, shard)
        if not target.exists():
            return False
        try:
            verify(target, REMEDY, {BATCH: self.seal})
        except InputError:
            shutil.rmtree(target, ignore_errors=True)
            return False
        return True

    def _keep(self, what: str, shard: int, fill: Callable[[Path], None]) -> None:
        if self._there(what, shard):
            return
        target = self._target(what, shard)
        own = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=self.path))
        try:
            write_folder(target, fill, {}, {BATCH: self.seal}, own)
        except OSError:
            if not self._there(what, shard):  # else another worker was faster
                raise

    def _done(self, what: str, function: Callable[[Task], int]) -> list[Path]:
        """Return the folders of all shards, after the engine has done those that are missing."""
        shards = range(self.config.parts)
        missing = [j for j in shards if not self._there(what, j)]
        for _ in self.engine.map(function, [(str(self.path), j) for j in missing], self.config.engine.needs):
            pass
        for j in missing:
            verify(self._target(what, j), REMEDY, {BATCH: self.seal})
        return [self._target(what, j) for j in shards]

    def _read(self, path: Path) -> Candidates:
        table, judges = read_table(path / "scores.parquet"), self.judges

        def column(name: str) -> NDArray[Any]:
            return np.asarray(table.column(name).to_numpy())

        return Candidates(
            np.column_stack([column(name) for name in judges.rewards]),
            tuple(judges.rewards),
            None if judges.grouping is None else np.asarray(table.column("group").to_pylist(), str),
            {name: column(name) for name in judges.tracked},
            None if self.contexts is None else self._prompts(int(path.name.rpartition("-")[2])),
        )


# --- tasks of an engine ---------------------------------------------------------------------------


def sample_shard(task: Task) -> int:
    """Do the samples of a shard and return its number."""
    return _do(task, Batch.keep_sample)


def score_shard(task: Task) -> int:
    """Do the rewards of a shard whose samples are done, and return its number."""
    return _do(task, Batch.keep_score)


def _do(task: Task, step: Callable[[Batch, int], None]) -> int:
    with threadpool_limits(1):  # sums of BLAS depend on the number of its threads
        step(open_batch(Path(task[0])), task[1])
    return task[1]


_HELD: dict[str, Any] = {}  # the batch that this process works on, and what scores the run's samples


def do_range(path: Path, index: int, of: int) -> list[int]:
    """Do the shards index, index + of, ... of a batch, samples and rewards, and return their numbers."""
    shards = list(range(index, open_batch(path).config.parts, of))
    for shard in shards:
        sample_shard((str(path), shard))
        score_shard((str(path), shard))
    return shards


def _hold(batch: Batch) -> None:
    _HELD["batch"] = batch


@contextmanager
def released() -> Iterator[None]:
    """Forget, after the block, the batch that this process works on."""
    try:
        yield
    finally:
        _HELD.clear()


def open_batch(path: Path) -> Batch:
    """Return a batch by its folder.

    Raises:
        InputError: If the folder cannot be seen here, is damaged, or belongs to another kind of machine.
    """
    if not path.is_dir():
        raise InputError(
            "the folder of the run cannot be seen on this machine",
            got=path,
            remedy="put the run on a file system that all workers share, or do not touch it while it runs",
        )
    held, seal = _HELD.get("batch"), _seal(path)
    if held is not None and held.path == path and held.seal == seal:
        return held  # type: ignore[no-any-return]
    _HELD.pop("batch", None)  # before another model is loaded
    verify(path, REMEDY)
    facts, run = _facts(path), path.parent.parent
    config = read_config(run / "config.toml")
    if path.name.endswith("control"):
        config = config.without_selection()
    _check_alike(facts, config)
    root, *coordinates = facts["stream"]
    contexts = path / "contexts.parquet"
    batch = Batch(
        config,
        _judges(run, config),
        _model(path, config),
        as_texts(read_table(contexts).column("context").to_pylist()) if contexts.exists() else None,
        Stream(root, tuple(coordinates)),
        path,
        seal,
    )
    _hold(batch)
    return batch


def _check_alike(facts: Mapping[str, Any], config: Config) -> None:
    """Refuse to do shards on a machine that may give other numbers than the one that began the batch."""
    here = versions()
    found = {name: (here.get(name), then) for name, then in facts["versions"].items()}
    found["device"] = (device_of(config), facts["device"])
    different = [
        f"{name} {now or 'absent'}, not {then or 'absent'}"
        for name, (now, then) in found.items()
        if now != then
    ]
    if different:
        raise InputError(
            "this machine may give other numbers than the one that trained the round's model",
            got="; ".join(different),
            remedy="install the same versions; for another device, set engine.gpus or generator.device",
        )


def batches(run: StoredRun) -> list[Path]:
    """Return the folders of the batches of a run's next round."""
    folder, t = run.path / SHARDS, run.complete()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if (name := NAME.fullmatch(path.name)) and int(name[1]) == t]


def device_of(config: Config) -> str:
    """Return the description of the device on which a configuration's models are used."""
    device = getattr(config.generator, "device", None)  # generators without this setting run on the CPU
    return device_name("cpu" if device is None else choose_device(device))


def form(samples: Samples) -> str:
    """Return what samples are, in words."""
    return "texts" if is_text(samples) else f"numbers of shape {samples.shape[1:]}"


def _judges(run: Path, config: Config) -> Judges:
    key = (str(run), str(StoredRun(run).manifest()[SEAL]))
    known = _HELD.get("judges")
    if known is None or known[0] != key:
        known = _HELD["judges"] = (key, prepare_judges(config, run / "setup")[2])
    judges: Judges = known[1]
    return judges


def _model(path: Path, config: Config) -> Generator:
    run = path.parent.parent
    return load_model(config.generator, path / "model", run / ".work", run / "commands")


def _fill(generator: Generator, contexts: NDArray[Any] | None, folder: Path) -> None:
    (folder / "model").mkdir()
    generator.save(folder / "model")
    if contexts is not None:
        write_table(
            pa.table({"context": pa.array(contexts.tolist(), pa.string())}), folder / "contexts.parquet"
        )


def _facts(path: Path) -> dict[str, Any]:
    return dict(sealed_field(read_json(path / CONTENTS, REMEDY), "facts", dict, path / CONTENTS, REMEDY))


def _seal(path: Path) -> str:
    return str(read_json(path / CONTENTS, REMEDY)[SEAL])


def _table(scored: Candidates) -> pa.Table:
    columns: dict[str, Any] = {name: scored.rewards[:, i] for i, name in enumerate(scored.names)}
    columns |= scored.tracked
    return pa.table(columns if scored.groups is None else columns | {"group": scored.groups})
