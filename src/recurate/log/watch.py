"""A callback that writes the log of a TRL trainer while it trains.

TRL is never imported here: whoever has a trainer has imported it. Besides public attributes of the trainers
only ``_logs`` is read, where trainers with reward functions keep the candidates of their last generation; a
version of TRL that keeps them elsewhere is named in an error.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError, nearest
from recurate.log.inputs import table_of
from recurate.log.parts import Parts
from recurate.log.reading.values import array_of, flags_of
from recurate.log.schema import COLUMNS, REAL, Log, as_log

TESTED = "1.16"  # versions of TRL that the tests were run with
TRAINER_KEY = b"recurate.trainer"
REWARD = "reward"
OWN = {*COLUMNS, REWARD, "step", "advantage"}
Scores = Callable[..., Iterable[Any]]


def watch(
    trainer: Any,
    path: str | Path | None = None,
    *,
    candidates: Any = None,
    reward: str | Sequence[str] | Scores | None = None,
    round: int | None = None,  # noqa: A002
    texts: bool = True,
) -> Any:
    r"""Write the log of a TRL trainer while it trains.

    One line before ``trainer.train()``. The log is a folder that ``forecast``, ``plan`` and ``audit`` read
    with no options, also while the trainer trains.

    **Trainers with reward functions** (``GRPOTrainer``, ``RLOOTrainer``): every generation is logged, with a
    slate per prompt, the ``num_generations`` completions that share it. Such a trainer weighs completions by
    their advantages and picks none, so ``picked`` is false everywhere; forecasts then say that they assume
    best of K. A round begins whenever completions come from a newly trained model. Besides the log's own
    columns there are:

    ============  ====================================================================================
    reward        what the trainer adds up, :math:`r = \sum_i w_i r_i` over those reward functions that
                  returned a number, with the trainer's ``reward_weights`` :math:`w`
    one per       what each reward function returned, under its name (with ``_func`` appended where the
    function      log has a column of that name); empty for None and NaN
    advantage     the advantage that the trainer computed
    step          the trainer's step, as in TRL's own tables of completions
    ============  ====================================================================================

    A completion for which no function returned a number has no reward; it is left out, as TRL leaves it out.
    Evaluations are not logged. The weights, K and the version of TRL are in the metadata of the files, as
    JSON under ``recurate.trainer``.

    **Trainers on a dataset** (``SFTTrainer``): pass all ``candidates`` of a round; the trainer trains on the
    picks among them. Candidates whose prompt and completion are rows of ``trainer.train_dataset`` are the
    picks; its other rows are real data. The round is logged when its training has ended.

    Files appear whole or not at all, a step's before its checkpoint. Where training is resumed from a
    checkpoint, the steps after it are removed from the log and logged again. In distributed training the main
    process writes.

    Args:
        trainer: the trainer; the callback is added to it.
        path: folder of the log. Default: ``recurate`` in the trainer's ``output_dir``.
        candidates: for trainers on a dataset, all candidates of the round, one row each: any table or path of
            one, with TRL's columns ``prompt`` and ``completion`` (texts or messages) and with rewards. The
            rows of a prompt are one slate unless a column ``slate`` says more. A column ``picked`` is
            believed where the dataset holds no texts (packed or streamed), and compared with it elsewhere.
        reward: for trainers on a dataset, the reward columns; default ``reward`` and ``reward_...``. Or a
            reward function with TRL's arguments, ``reward(prompts=..., completions=...)``: it scores the
            candidates and also the real data, which are logged only then.
        round: for trainers on a dataset, the number of the round. Default: the next. A loop that may be
            killed and started again passes it: that round and later ones are replaced.
        texts: whether the log has the completions themselves, or hashes of them.

    Returns:
        The callback, a ``transformers.TrainerCallback``; its ``path`` is the folder.

    Raises:
        InputError: If the trainer cannot be watched, names of reward functions repeat, candidates are missing
            or not valid, or no training row is a candidate. From ``trainer.train()``: if the folder has the
            log of another training.

    >>> from types import SimpleNamespace as Simple
    >>> import tempfile
    >>> import recurate
    >>> rows = [{"prompt": "2+2=", "completion": c, "reward": float(c == "4")} for c in ("3", "4", "5", "22")]
    >>> trainer = Simple(  # stands for SFTTrainer(train_dataset=Dataset.from_list(rows[1:2]), ...)
    ...     args=Simple(output_dir=tempfile.mkdtemp()), callbacks=[],
    ...     train_dataset={"prompt": ["2+2="], "completion": ["4"]},
    ... )
    >>> trainer.add_callback = trainer.callbacks.append
    >>> callback = recurate.watch(trainer, candidates=rows)
    >>> callback.on_train_end(trainer.args, Simple(is_world_process_zero=True), None)  # train() calls it
    >>> recurate.read_log(callback.path).column("picked")
    array([False,  True, False, False])
    """
    if not callable(getattr(trainer, "add_callback", None)):
        raise InputError(
            "watch needs a trainer of TRL",
            got=type(trainer).__name__,
            remedy="pass the GRPOTrainer, RLOOTrainer or SFTTrainer itself, before its train()",
        )
    folder = Path(trainer.args.output_dir) / "recurate" if path is None else Path(path)
    if hasattr(trainer, "reward_func_names"):
        given = {"candidates": candidates, "reward": reward, "round": round}
        unused = [name for name, value in given.items() if value is not None]
        if unused:
            raise InputError(
                f"{type(trainer).__name__} generates and scores candidates itself",
                got=", ".join(f"{name}=" for name in unused),
                remedy="leave that out",
            )
        made: Any = _callback(_Generations)(trainer, folder, texts)
    else:
        made = _callback(_Round)(trainer, folder, texts, candidates, reward, round)
    for old in list(getattr(getattr(trainer, "callback_handler", None), "callbacks", ())):
        if isinstance(old, _Watch) and old.path == folder:
            trainer.remove_callback(old)
    trainer.add_callback(made)
    return made


def _callback(kind: Any) -> Any:
    """Return a kind of callback as one of transformers', where that is loaded, as it is beside a trainer."""
    base = getattr(sys.modules.get("transformers"), "TrainerCallback", None)
    return kind if base is None else type(kind.__name__, (kind, base), {})


class _Watch:
    """What the callbacks share.

    Attributes:
        path: Folder of the log.
    """

    def __init__(self, trainer: Any, path: Path, texts: bool) -> None:
        Parts(path)  # refuses what is no folder of its own
        self.path = path
        self._trainer = trainer
        self._texts = texts
        self._parts: Parts | None = None

    def _append(self, log: Log, facts: Mapping[str, Any]) -> None:
        assert self._parts is not None
        facts = {"trainer": type(self._trainer).__name__, "trl": _version(), **facts}
        known = {**(log.table.schema.metadata or {}), TRAINER_KEY: json.dumps(facts).encode()}
        self._parts.append(log.table.replace_schema_metadata(known))

    def _items(self, texts: Sequence[str]) -> pa.Array:
        return (
            pa.array(texts, pa.string()) if self._texts else pa.array([hashed(t) for t in texts], pa.int64())
        )


# --- trainers with reward functions ---------------------------------------------------------------


class _Generations(_Watch):
    """Logs what a trainer generates and scores."""

    def __init__(self, trainer: Any, path: Path, texts: bool) -> None:
        super().__init__(trainer, path, texts)
        names = list(trainer.reward_func_names)
        if len(set(names)) < len(names):
            raise InputError(
                "two reward functions have the same name, and TRL keeps their values under it together",
                got=", ".join(names),
                remedy="give each a __name__ of its own",
            )
        self._columns = {name: f"{name}_func" if name in OWN else name for name in names}
        if len(set(self._columns.values())) < len(names):
            raise InputError(
                "the names of the reward functions collide with the log's columns",
                got=", ".join(names),
                remedy="rename them",
            )
        self._round, self._slates, self._step = -1, 0, -1
        self._seen = self._newest()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Continue the log at the step at which training begins."""
        self._seen = self._newest()
        if not state.is_world_process_zero:
            return
        self._parts = Parts(self.path)
        begun = self._parts.last("step")
        if state.global_step == 0 and self._parts.files():
            raise InputError(
                "the folder has the log of a training, and this training begins at step 0",
                got=f"{self.path}, of {'another kind' if begun is None else f'steps up to {begun}'}",
                remedy="remove it, give another path, or resume: train(resume_from_checkpoint=True)",
            )
        self._parts.drop_from("step", state.global_step + 1)
        last = self._parts.last("round")
        self._round, self._slates, self._step = -1 if last is None else last, 0, -1

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log a generation between the optimizer's steps."""
        self._look(state, state.global_step + 1)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log a generation that the step used first."""
        self._look(state, state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Pass over what an evaluation generated."""
        self._seen = self._newest()

    on_predict = on_evaluate

    def _stores(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return where the trainer keeps its last candidates, and their rewards."""
        logs = getattr(self._trainer, "_logs", None)
        rewards = logs.get("rewards") if isinstance(logs, Mapping) else None
        if (
            not isinstance(logs, Mapping)
            or not isinstance(rewards, Mapping)
            or not {"prompt", "completion"} <= logs.keys()
        ):
            raise self._unreadable("its attribute _logs lacks prompt, completion or rewards")
        return logs, rewards

    def _newest(self) -> Any:
        # Every generation makes new float objects: its last one tells it from any other of equal values.
        _, rewards = self._stores()
        values = rewards.get(next(iter(self._columns)))
        return values[-1] if values else None

    def _look(self, state: Any, step: int) -> None:
        if self._parts is None:
            return
        newest = self._newest()
        if newest is None or newest is self._seen:
            return
        logs, rewards = self._stores()
        values = list(rewards[next(iter(self._columns))])
        old = next((i + 1 for i in range(len(values) - 1, -1, -1) if values[i] is self._seen), 0)
        self._seen = newest
        count = len(values) - old
        kept = {
            "prompt": logs["prompt"],
            "completion": logs["completion"],
            **{n: rewards.get(n, ()) for n in self._columns},
        }
        short = [name for name, stored in kept.items() if len(stored) < count]
        k = int(self._trainer.num_generations)
        if short or count % k:
            raise self._unreadable(
                f"{count} new rewards, {k} per prompt" + (f", but fewer {short[0]}" if short else "")
            )
        advantages = list(logs.get("advantages", ()))
        new = {name: list(stored)[-count:] for name, stored in kept.items()}
        new["advantage"] = advantages[-count:] if len(advantages) >= count else [None] * count
        self._write(new, k, step)

    def _write(self, new: Mapping[str, list[Any]], k: int, step: int) -> None:
        if step != self._step:
            self._round, self._slates, self._step = self._round + 1, 0, step
        count = len(new["prompt"])
        each = np.array([[_number(v) for v in new[name]] for name in self._columns])
        weights = np.array([float(w) for w in self._trainer.reward_weights])
        scored = np.isfinite(each)
        total = (np.where(scored, each, 0.0) * weights[:, None]).sum(axis=0)
        group = np.arange(count) // k
        contexts = [said(new["prompt"][i * k]) for i in range(count // k)]
        table = {
            "round": np.full(count, self._round),
            "context": pa.array([contexts[g] for g in group], pa.string()),
            "slate": self._slates + group,
            "slot": np.arange(count) % k,
            "item": self._items([said(v) for v in new["completion"]]),
            REWARD: total,
            **{
                c: pa.array(v, mask=~np.isfinite(v))
                for c, v in zip(self._columns.values(), each, strict=True)
            },
            "advantage": pa.array([_number(v) for v in new["advantage"]], from_pandas=True),
            "step": np.full(count, step),
        }
        self._slates += count // k
        rows = pa.table(table).filter(pa.array(scored.any(axis=0)))
        if not rows.num_rows:
            return
        facts = {
            "num_generations": k,
            "weights": dict(zip(self._columns.values(), weights.tolist(), strict=True)),
            "picks": "none: candidates are weighed by their advantages",
        }
        self._append(as_log(rows, rewards=[REWARD], name=str(self.path), several=True), facts)

    def _unreadable(self, got: str) -> InputError:
        return InputError(
            "watch cannot find the completions and rewards that this trainer keeps",
            got=f"{type(self._trainer).__name__} of TRL {_version()}: {got}",
            remedy=f"use TRL {TESTED}, with which watch was tested; or set log_completions=True and read the "
            "tables that TRL writes: recurate forecast OUTPUT_DIR/completions",
        )


# --- trainers on a dataset ------------------------------------------------------------------------


class _Round(_Watch):
    """Logs one round of candidates, once a trainer has trained on its picks."""

    def __init__(
        self,
        trainer: Any,
        path: Path,
        texts: bool,
        candidates: Any,
        reward: str | Sequence[str] | Scores | None,
        number: int | None,
    ) -> None:
        super().__init__(trainer, path, texts)
        if getattr(trainer, "train_dataset", None) is None:
            raise InputError(
                "this trainer has neither reward functions nor a dataset: nothing tells its candidates",
                got=type(trainer).__name__,
                remedy="log it with recurate.PickLogger",
            )
        if candidates is None:
            raise InputError(
                f"{type(trainer).__name__} sees only what was picked",
                got="no candidates",
                remedy="pass all candidates of the round: watch(trainer, candidates=rows)",
            )
        self._number = number
        self._log, self._facts = self._made(table_of(candidates, text=("prompt", "completion")), reward)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the round."""
        if not state.is_world_process_zero:
            return
        self._parts = Parts(self.path)
        last = self._parts.last("round")
        if self._number is None:
            self._number = 0 if last is None else last + 1
        self._parts.drop_from("round", self._number)
        place = self._log.table.column_names.index("round")
        rounds = pa.array(np.full(self._log.table.num_rows, self._number, np.int32))
        self._append(
            Log(self._log.table.set_column(place, "round", rounds), self._log.rewards),
            {"round": self._number, **self._facts},
        )

    def _made(
        self, table: pa.Table, reward: str | Sequence[str] | Scores | None
    ) -> tuple[Log, dict[str, Any]]:
        names = table.column_names
        for name in ("prompt", "completion"):
            if name not in names:
                raise InputError(
                    f"the candidates have no column {name!r}", got=f"columns {', '.join(names)}",
                    remedy=nearest(name, names) + "; or rename the column, as TRL's datasets call it",
                )  # fmt: skip
        prompts = table.column("prompt").to_pylist()
        completions = table.column("completion").to_pylist()
        keys = [(said(p), said(c)) for p, c in zip(prompts, completions, strict=True)]
        trained = self._trained(keys)
        marked = flags_of(array_of(table, "picked")) == 1 if "picked" in names else None
        picked, real = self._picks(keys, trained, marked)
        columns: dict[str, Any] = {
            "context": [prompt for prompt, _ in keys],
            "slate": _slates(table, keys),
            "item": self._items([completion for _, completion in keys]),
            "picked": picked,
        }
        kept = [n for n in names if n not in {*COLUMNS, "prompt", "completion"}]
        columns |= {n: table.column(n) for n in (*kept, *({"slot", "chooser", "propensity"} & {*names}))}
        rewards: Sequence[str] | None = (
            None if callable(reward) else [reward] if isinstance(reward, str) else reward
        )
        if callable(reward):
            name = getattr(reward, "__name__", REWARD)
            name = REWARD if name in OWN or not name.isidentifier() else name
            columns[name] = _scored(reward, prompts, completions)
            rewards = [name]
        log = as_log(pa.table(columns), rewards=rewards, name="the candidates", several=True)
        facts = {
            "candidates": len(keys),
            "picks": int(picked.sum()),
            "real": None if real is None else len(real),
        }
        if real and callable(reward):
            log = _with_real(
                log,
                real,
                self._items([r[1] for r in real]),
                _scored(reward, *map(list, zip(*real, strict=True))),
            )
        elif real:
            warnings.warn(
                f"{len(real)} of the rows trained on are no candidates but real data: the log leaves them "
                "out unless reward=FUNCTION scores them",
                stacklevel=4,
            )
        return log, facts

    def _trained(self, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]] | None:
        """Return prompt and completion of every row trained on; None if the dataset does not hold them."""
        data = self._trainer.train_dataset
        names = getattr(data, "column_names", None) or (list(data) if isinstance(data, Mapping) else ())
        field = getattr(self._trainer.args, "dataset_text_field", "text")
        if not hasattr(data, "__getitem__"):
            return None  # streamed
        if {"prompt", "completion"} <= {*names}:
            rows = [(said(p), said(c)) for p, c in zip(data["prompt"], data["completion"], strict=True)]
        elif "messages" in names:
            rows = [(said(m[:-1]), said(m[-1])) for m in data["messages"]]
        elif field in names:
            whole = {p + c: (p, c) for p, c in keys}
            rows = [whole.get(self._ended(t), ("", self._ended(t))) for t in data[field]]
        else:
            return None
        return [(prompt, self._ended(completion)) for prompt, completion in rows]

    def _ended(self, text: str) -> str:
        """Return a text without the end-of-sequence token that trainers append."""
        tokenizer = getattr(self._trainer, "processing_class", None)
        tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        end = getattr(tokenizer, "eos_token", None)
        return text.removesuffix(end) if end else text

    def _picks(
        self, keys: Sequence[tuple[str, str]], trained: list[tuple[str, str]] | None, marked: Any
    ) -> tuple[Any, list[tuple[str, str]] | None]:
        """Return which candidates were trained on, and the real data."""
        if trained is None:
            if marked is None:
                names = getattr(self._trainer.train_dataset, "column_names", None) or ["unknown"]
                raise InputError(
                    "the trainer's dataset does not hold texts, so that it does not tell what was picked",
                    got=f"columns {', '.join(names)}",
                    remedy="give the candidates a column picked (yes or no)",
                )
            return marked, None
        keys = [(prompt, self._ended(completion)) for prompt, completion in keys]
        left = Counter(trained)
        known = set(keys)
        real = [row for row in trained if row not in known]
        picked = np.zeros(len(keys), bool)
        first = range(len(keys)) if marked is None else np.argsort(~marked, kind="stable")
        for i in first:
            if left[keys[i]] > 0:
                left[keys[i]] -= 1
                picked[i] = True
        if not picked.any():
            raise InputError(
                "none of the rows that the trainer trains on is one of the candidates",
                got=f"trained on {trained[0]!r:.80}, candidates such as {keys[0]!r:.80}",
                remedy="give the candidates with prompt and completion exactly as in the training dataset",
            )
        odd = [] if marked is None else np.flatnonzero(picked != marked).tolist()
        if odd:
            wrong = odd[0]
            raise InputError(
                f"the column picked and the training dataset disagree about {len(odd)} candidates",
                got=f"row {wrong + 1}, {keys[wrong][1]!r:.80}: {'not ' * (not picked[wrong])}trained on",
                remedy="leave the column out: the candidates that are trained on are then the picks",
            )
        return picked, real


def _slates(table: pa.Table, keys: Sequence[tuple[str, str]]) -> Any:
    """Return the slate of each candidate: as given, else one per prompt."""
    of = (
        table.column("slate").to_pylist() if "slate" in table.column_names else [prompt for prompt, _ in keys]
    )
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(slate, len(numbers)) for slate in of])


def _scored(reward: Scores, prompts: Sequence[Any], completions: Sequence[Any]) -> list[float]:
    values = [_number(v) for v in reward(prompts=list(prompts), completions=list(completions))]
    if len(values) != len(completions):
        raise InputError(
            "a reward function returns one number per completion",
            got=f"{len(values)} for {len(completions)}",
            remedy="return a list as long as completions",
        )
    return values


def _with_real(log: Log, real: Sequence[tuple[str, str]], items: pa.Array, scores: Sequence[float]) -> Log:
    """Return a log with real data, which lie in no slate."""
    rows = {
        "context": [prompt for prompt, _ in real], "item": items, "source": [REAL] * len(real),
        "slate": pa.nulls(len(real), pa.int64()), log.rewards[0]: scores,
    }  # fmt: skip
    more = as_log(pa.table(rows), rewards=log.rewards, name="the real data", several=True)
    table = pa.concat_tables([log.table, more.table], promote_options="permissive")
    return Log(table.replace_schema_metadata(log.table.schema.metadata), log.rewards)


# --- values ---------------------------------------------------------------------------------------


def said(value: Any) -> str:
    """Return a prompt or a completion as text: itself, or the contents of its messages, one below the other.

    >>> said([{"role": "user", "content": "2+2?"}])
    '2+2?'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return said(value.get("content", value.get("text")))
    if isinstance(value, Iterable):
        return "\n".join(text for text in map(said, value) if text)
    return "" if value is None else str(value)


def hashed(text: str) -> int:
    """Return 63 bits of a text's BLAKE2 hash, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _version() -> str:
    try:
        return importlib.metadata.version("trl")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
