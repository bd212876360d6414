"""A forecast from a log: what the log tells is the default, later rounds are compared and learnt from."""

from __future__ import annotations

import itertools
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from recurate.core.errors import InputError
from recurate.log.candidates import Candidates, from_log, group_names
from recurate.log.schema import MODEL, REAL, Log, read_log
from recurate.log.trajectory import RENEWED, Trajectory
from recurate.metrics.partition import Cells, partition
from recurate.rules import Rule, Selection, Threshold, TopFraction, noise_named
from recurate.theory.forecast import Forecast, measured, reference_cells, split_log
from recurate.theory.renewal import Efficacy, Renewal, renew
from recurate.theory.setting import Setting, Stage
from recurate.theory.welfare import Welfare, welfare
from recurate.verbs.forecast.forecast import forecast


@dataclass(frozen=True)
class LogForecast:
    """A forecast from a log's first round, beside what its rounds measured.

    Attributes:
        result: the forecast.
        measured: the log's rounds, counted from its first; empty with one round.
        renewal: forecasts renewed from every round, if asked for and there are several.
        ahead: the forecast from the last round on, counted from the log's first, if renewed.
        fitted: the efficacy that the forecast uses, if it was to be estimated.
        welfare: diversity and fairness of some rounds' laws, forecast and measured, with several rewards.
    """

    result: Forecast
    measured: Trajectory = field(default_factory=Trajectory)
    renewal: Renewal | None = None
    ahead: Forecast | None = None
    fitted: Efficacy | None = None
    welfare: tuple[tuple[str, Welfare], ...] = ()

    @property
    def trajectory(self) -> Trajectory:
        """All rows: forecast, measured, renewed (from the round before; after the last round, from it)."""
        rows = self.renewal.rows if self.renewal else ()
        if self.ahead is not None:
            start = min(row.round for row in self.ahead.trajectory.rows)
            later = [row for row in self.ahead.trajectory.rows if row.round > start]
            rows += tuple(replace(row, source=RENEWED) for row in later)
        return self.result.trajectory + self.measured + Trajectory(rows)


@dataclass(frozen=True)
class LogOptions:
    """What to forecast; None: as the log (or the run's own configuration) has it.

    Attributes:
        rewards, group, track, context: which columns are meant.
        k, temperature, real_fraction, weights, picks: as in :func:`recurate.forecast`.
        arguments: further arguments of :func:`recurate.forecast`.
        then: slate size and weights (None: as in the first) of every further stage.
        threshold: level of a verifier, in place of slates.
        top: share of the pool that is kept, in place of slates.
        renew: whether to forecast every round from the one before, too.
        fit_efficacy: whether to estimate the efficacy from the first half of the rounds.
    """

    rewards: Sequence[str] | None = None
    group: str | None = None
    track: Sequence[str] = ()
    context: str = "context"
    k: float | dict[float, float] | None = None
    temperature: float | None = None
    real_fraction: float | None = None
    weights: Sequence[float] | None = None
    picks: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    then: Sequence[tuple[float, list[float] | None]] = ()
    threshold: float | None = None
    top: float | None = None
    renew: bool = False
    fit_efficacy: bool = False


def forecast_log(path: Path, options: LogOptions, reference: Path | None = None) -> LogForecast:
    """Forecast from the first round of the log at ``path``; see :func:`recurate.forecast`.

    Args:
        path: a log, a table or a run's folder.
        options: what to forecast.
        reference: a file of real data; None: the log's own rows of source ``real``, if any.

    Raises:
        InputError: a file, column or value is wrong, or there are too few rounds for what is asked.
    """
    log = _read(path, options.rewards, options)
    real = None
    if reference is not None:
        rows = _real_rows(_read(reference, log.rewards, options))
        real = from_log(rows, group=options.group, track=options.track)
    candidates, own = split_log(log, group=options.group, track=options.track)
    real = own if real is None else real
    rounds = log.select(source=MODEL).rounds()
    if (len(rounds) < 3 and options.fit_efficacy) or (len(rounds) < 2 and options.renew):
        raise InputError(
            "the log has too few rounds to learn from",
            got=f"{len(rounds)}",
            remedy="--renew needs two rounds, --efficacy fit needs three",
        )
    arguments = arguments_of(path, log, options)
    cells = _cells(candidates, real, several=len(rounds) > 1)
    renewal = fitted = None
    if options.renew or options.fit_efficacy:
        _check_consecutive(rounds)
        own_arguments = {n: v for n, v in arguments.items() if n not in ("tail", "bounds", "seed")}
        setting = Setting.of(**own_arguments | {"efficacy": 1.0})
        found = [_round(log, t, options, candidates) for t in rounds]
        if options.fit_efficacy:
            half = len(rounds) // 2
            fitted = renew(found, setting, real, cells, first=half).efficacy
            arguments["efficacy"] = fitted.usable
        if options.renew:
            renewal = renew(found, setting, real, cells)
    result = forecast(candidates, reference=real, cells=cells, **arguments)
    gains = _welfare(candidates, real, result, rounds[0], None if len(rounds) == 1 else log)
    if len(rounds) == 1:
        return LogForecast(result, welfare=gains)
    later = measured(
        log,
        temperature=result.setting.temperature,
        group=options.group,
        track=options.track,
        cells=cells,
        names=group_names(candidates, real),
    )
    shifted = Trajectory(tuple(replace(row, round=row.round - rounds[0]) for row in later.rows))
    ahead = None
    if renewal is not None:
        ahead = _ahead(found[-1], real or found[0], len(rounds) - 1, arguments, renewal)
    return LogForecast(result, shifted, renewal, ahead, fitted, gains)


def _welfare(
    candidates: Candidates, real: Candidates | None, result: Forecast, first: int, log: Log | None
) -> tuple[tuple[str, Welfare], ...]:
    """Return the welfare of the first round, of the last forecast law and of the last measured round."""
    if len(candidates.names) < 2 or candidates.contexts is not None:
        return ()
    weights, temperature = result.setting.weights, result.setting.temperature
    atoms = candidates.rewards
    if result.law.size > len(atoms) and real is not None:
        atoms = np.vstack([atoms, real.rewards])
    found = [("round 0", welfare(candidates.rewards, weights=weights, temperature=temperature))]
    if result.law.size == len(atoms):
        name = f"round {result.setting.rounds}, forecast"
        found.append((name, welfare(atoms, result.law, weights=weights, temperature=temperature)))
    if log is not None:
        last = log.select(source=MODEL).rounds()[-1]
        rows = log.select(source=MODEL, round=last).reward_matrix()
        found.append(
            (f"round {last - first}, measured", welfare(rows, weights=weights, temperature=temperature))
        )
    return tuple(found)


def _ahead(
    last: Candidates, reference: Candidates, t: int, arguments: dict[str, Any], renewal: Renewal
) -> Forecast:
    """Forecast on from the last round, with the efficacy as estimated from all rounds."""
    own = {**arguments, "efficacy": renewal.efficacy.usable, "first": t, "tail": False, "bounds": False}
    result = forecast(last, reference=reference, **own)
    rows = tuple(replace(row, round=row.round + t) for row in result.trajectory.rows)
    return replace(result, trajectory=Trajectory(rows))


def arguments_of(path: Path, log: Log, options: LogOptions) -> dict[str, Any]:
    """Return the arguments of the forecast: what is asked for, else what a run's folder or the log tells."""
    own = _run_settings(path)
    chosen = {
        "k": slate_size(log) if options.k is None else options.k,
        "temperature": options.temperature,
        "weights": options.weights,
        "real_fraction": options.real_fraction,
    }
    found = {name: own.get(name) if value is None else value for name, value in chosen.items()}
    arguments: dict[str, Any] = {
        **{name: value for name, value in found.items() if value is not None},
        "picks": _picks(log) if options.picks is None else options.picks,
        **{name: own[name] for name in ("noise", "lapse") if name in own},
        **options.arguments,
    }
    arguments["accumulate"] = bool(own.get("accumulate") or arguments.get("accumulate"))
    if options.threshold is not None or options.top is not None:
        arguments = _without_slates(arguments, options)
    noise = noise_named(str(arguments.get("noise", "none" if "rule" in arguments else "gumbel")))
    temperature: Any = found["temperature"] or 1.0
    arguments["then"] = [
        Stage(Rule(k, temperature, noise), None if weights is None else tuple(weights))
        for k, weights in options.then
    ]
    return arguments


def _without_slates(arguments: dict[str, Any], options: LogOptions) -> dict[str, Any]:
    """Put a verifier's or a top fraction's rule in the place of slates."""
    slates = {"--k": options.k, "--keep": options.arguments.get("keep")}
    if options.top is not None:
        slates |= {"--lapse": options.arguments.get("lapse")}
    given = [name for name, value in slates.items() if value is not None]
    if (options.threshold is not None and options.top is not None) or given:
        raise InputError(
            "--threshold and --top each stand for a rule of their own",
            got=f"{', '.join(given)} too" if given else "both",
            remedy="give one of them alone",
        )
    temperature = float(arguments.get("temperature", 1.0))
    noise = noise_named(options.arguments.get("noise", "none"))
    rule: Selection
    if options.threshold is not None:
        lapse = options.arguments.get("lapse", 0.0)
        rule = Threshold(options.threshold, temperature=temperature, noise=noise, lapse=lapse)
    else:
        assert options.top is not None
        rule = TopFraction(options.top, temperature=temperature, noise=noise)
    slate_only = ("k", "temperature", "noise", "keep", "lapse")
    return {n: v for n, v in arguments.items() if n not in slate_only} | {"rule": rule}


def _check_consecutive(rounds: Sequence[int]) -> None:
    gaps = [(a, b) for a, b in itertools.pairwise(rounds) if b != a + 1]
    if gaps:
        raise InputError(
            "learning from rounds needs every one of them",
            got=f"round {gaps[0][0]} is followed by {gaps[0][1]}",
            remedy="log all rounds, or leave out --renew and --efficacy fit",
        )


def sizes(log: Log) -> list[int]:
    """Return the sizes of the log's slates, sorted; none for a bare table."""
    return sorted(set(log.select(source=MODEL).slate_sizes().tolist()))


def slate_size(log: Log) -> float | dict[float, float]:
    """Return the size of the log's slates, or their distribution; 4 for a bare table."""
    found = log.select(source=MODEL).slate_sizes()
    if not found.size:
        return 4.0
    counts = {float(k): float((found == k).mean()) for k in sizes(log)}
    return next(iter(counts)) if len(counts) == 1 else counts


def _read(path: Path, rewards: Sequence[str] | None, options: LogOptions) -> Log:
    text = [options.context] if options.group is None else [options.context, options.group]
    log = read_log(path, rewards, text=text)
    if options.context == "context":
        return log
    values = log.column(options.context)
    texts = pa.array(["" if v is None else str(v) for v in values.tolist()])
    index = log.table.column_names.index("context")
    return Log(log.table.set_column(index, "context", texts), log.rewards)


def _round(log: Log, t: int, options: LogOptions, first: Candidates) -> Candidates:
    rows = log.select(source=MODEL, round=t)
    found = from_log(rows, group=options.group, track=options.track)
    return replace(found, labels=first.labels)


def _cells(candidates: Candidates, real: Candidates | None, *, several: bool) -> Cells | None:
    if real is not None:
        return reference_cells(candidates, real)[0]
    return partition(candidates.rewards) if several and candidates.contexts is None else None


def _real_rows(log: Log) -> Log:
    """Return a reference's real rows, or all of them where it tells nothing of real data."""
    real = log.select(source=REAL)
    return real if real.table.num_rows else log


def _run_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a run or fit folder, which are the defaults for forecasting from it."""
    if (path / "fit.json").is_file():
        return _fit_settings(path / "fit.json")
    if not (path / "config.toml").is_file():
        return {}
    try:
        config = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        weights = [reward.get("weight") for reward in config["rewards"]]
        selection = config["selection"]
        return {
            "temperature": selection["temperature"],
            "real_fraction": config["retraining"]["real_fraction"],
            "weights": None if None in weights else weights,
            "accumulate": config["retraining"].get("mode") == "accumulate",
            **{name: selection[name] for name in ("noise", "lapse") if name in selection},
        }
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the run's configuration is damaged", got=f"{path / 'config.toml'}: {error}", remedy="restore it"
        ) from None


def _fit_settings(path: Path) -> dict[str, Any]:
    """Return what a fit found of how picks are made: temperature, weights, noise, lapse."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["settings"]
        return {name: found[name] for name in ("temperature", "weights", "noise", "lapse") if name in found}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("the fit is damaged", got=f"{path}: {error}", remedy="fit it again") from None


def _picks(log: Log) -> int | None:
    generated = log.select(source=MODEL)
    if generated.table.num_rows == 0:
        return None
    first = generated.select(round=generated.rounds()[0])
    return int(first.column("picked").sum()) or None


def parse_size(text: str) -> float | dict[float, float]:
    """Read a slate size (``4``, ``inf``) or a distribution over sizes (``2:0.5,4:0.5``).

    Raises:
        InputError: it is neither.
    """
    try:
        if ":" in text:
            pairs = [part.split(":") for part in text.split(",")]
            return {_size(k): float(chance) for k, chance in pairs}
        return _size(text)
    except (ValueError, OverflowError):
        raise InputError(
            "--k must be a whole number or inf, or sizes with their shares",
            got=text,
            remedy="--k 4, or --k 2:0.5,4:0.5",
        ) from None


def _size(text: str) -> float:
    return math.inf if text.strip().lower() in ("inf", "infinity") else float(int(text))
