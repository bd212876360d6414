"""Forecasts from a log or from arrays.

The settings that a log or its folder records are the defaults. The log's later rounds are shown beside the
forecast, and forecasts can be renewed and the efficacy estimated from them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from recurate.choices.followed import phrase
from recurate.core import progress
from recurate.core.errors import InputError
from recurate.core.limits import ROWS
from recurate.core.seeds import Stream
from recurate.log.candidates import Candidates, Rounds, as_candidates, from_log, group_names
from recurate.log.folders import StoredRun, is_fit
from recurate.log.inputs import folder_of, is_array
from recurate.log.large import Large, compressed, open_large, open_sample
from recurate.log.opening import open_log
from recurate.log.reading.logs import Opened
from recurate.log.reading.mapping import Given
from recurate.log.reading.slates import POSITIONS
from recurate.log.reading.understand import accounted
from recurate.log.schema import MODEL, REAL, Log
from recurate.log.trajectory import RENEWED, Trajectory
from recurate.metrics.partition import Cells, partition
from recurate.rules import GUMBEL, Rule, Selection
from recurate.rules.noise import built_in_name
from recurate.theory.forecast import Forecast, measured_rounds, predict, reference_cells
from recurate.theory.population import check_law
from recurate.theory.renewal import Efficacy, Renewal, learned, renew
from recurate.theory.setting import Setting, Stage
from recurate.theory.welfare import Welfare, welfare
from recurate.verbs.forecast.ruling import RATES, SLATES, Ruling, changed_rule, ruling_of, slate_size

UNFINISHED = 0.5  # a round with less than this part of the picks per candidate before it may lack some
LARGEST_ERROR = 1e-3  # of expectations, relative to their value, from reading in parts


@dataclass(frozen=True)
class LogForecast(Forecast):
    """A forecast from a log's first round, with the measurements of its rounds.

    It has the attributes of a ``Forecast``; its ``trajectory`` has the rows of all sources.

    Attributes:
        measured: the measurements of the log's rounds, counted from its first; empty with one round.
        renewal: the forecasts renewed from every round, if requested; else None.
        ahead: the forecast from the last round on, with rounds counted from the log's first, if renewed.
        fitted: the estimated efficacy that the forecast uses; None if it was not estimated.
        welfare: the diversity and fairness of some rounds' laws, forecast and measured, each with its name;
            empty with one reward.
        opened: how the log was read; None with arrays.
        ruling: the rule of the picks, and why it is used.
    """

    measured: Trajectory = field(default_factory=Trajectory)
    renewal: Renewal | None = None
    ahead: Forecast | None = None
    fitted: Efficacy | None = None
    welfare: tuple[tuple[str, Welfare], ...] = ()
    opened: Opened | None = None
    ruling: Ruling = field(default_factory=lambda: ruling_of(None, {}, {}))

    @classmethod
    def of(
        cls,
        result: Forecast,
        measured: Trajectory | None = None,
        renewal: Renewal | None = None,
        ahead: Forecast | None = None,
        **more: Any,
    ) -> LogForecast:
        """Join a forecast with measured and renewed rounds."""
        measured = measured or Trajectory()
        rows = renewal.rows if renewal else ()
        if ahead is not None:
            start = min(row.round for row in ahead.trajectory.rows)
            rows += tuple(replace(r, source=RENEWED) for r in ahead.trajectory.rows if r.round > start)
        own = vars(result) | {"trajectory": result.trajectory + measured + Trajectory(rows)}
        return cls(**own, measured=measured, renewal=renewal, ahead=ahead, **more)


@dataclass(frozen=True)
class LogOptions:
    """The request for a forecast; None stands for the value that the log or the run's configuration has.

    Attributes:
        rewards: the reward columns.
        group: the column of groups.
        track: the further columns whose means are forecast.
        columns: what the user said about the columns: contexts, rounds, slates, picks, form.
        given: arguments of :meth:`recurate.theory.setting.Setting.of`, and the rates of a verifier's errors;
            None where not given.
        then: further stages: a ``Stage``, or its slate size and weights (None: those of the first stage).
        threshold: the level of a verifier, in place of slates.
        top: the share of the pool that is kept, in place of slates.
        renew: whether to forecast every round from the previous one as well.
        fit_efficacy: whether to estimate the efficacy from the first half of the rounds.
        how: ``tail`` and ``bounds`` of :func:`recurate.theory.forecast.predict`, and ``stream``.
    """

    rewards: Sequence[str] | None = None
    group: str | None = None
    track: Sequence[str] = ()
    columns: Given = field(default_factory=Given)
    given: dict[str, Any] = field(default_factory=dict)
    then: Sequence[Stage | tuple[float, Sequence[float] | None]] = ()
    threshold: float | None = None
    top: float | None = None
    renew: bool = False
    fit_efficacy: bool = False
    how: dict[str, Any] = field(default_factory=dict)

    def ruling(self, log: Log | None, recorded: Mapping[str, Any]) -> Ruling:
        """Return the rule of the picks: the one asked for, else a folder's, else the log's."""
        return ruling_of(log, recorded, self.given, threshold=self.threshold, top=self.top)


def forecast_log(source: Any, options: LogOptions, reference: Any = None) -> LogForecast:
    """Forecast from the first round of a log; see :func:`recurate.forecast`.

    Args:
        source: a log, as :func:`recurate.log.inputs.log_of` takes it.
        options: the request.
        reference: real data, as a table or an array; None: the log's own rows of source ``real``, if any.

    Raises:
        InputError: a file, column or value is wrong, or the log has too few rounds for the request.
    """
    given = columns_given(options.rewards, options)
    large = open_large(source, replace(given, picks=False), pooled=True)
    opened = open_log(source, given) if large is None else large.opened(given)
    with accounted(opened.understood):
        return _from_opened(source, opened, options, reference, large)


def _from_opened(
    source: Any, opened: Opened, options: LogOptions, reference: Any, large: Large | None
) -> LogForecast:
    log = opened.log
    if options.renew and options.group is None and "group" in log.table.column_names:
        options = replace(options, group="group")  # shares are passed on unlike what is within groups
    found_rounds, known, ruling, caveats = _start(log, options, large, run_settings(folder_of(source)))
    candidates, real = found_rounds.first, found_rounds.real
    if reference is not None:
        real = reference_of(reference, candidates, options)
    rounds = found_rounds.numbers
    _check_many(rounds, renew=options.renew, fit=options.fit_efficacy)
    arguments = arguments_of(known, options, ruling)
    cells = _cells(candidates, real, several=len(rounds) > 1)
    renewal = fitted = None
    if options.renew or options.fit_efficacy:
        _check_consecutive(rounds)
        progress.stage("learning what retraining passes on")
        setting = Setting.of(**arguments | {"efficacy": 1.0})
        found, unfinished = _with_picks(found_rounds, known, ruling, options, whole=large is None)
        caveats += unfinished if options.renew else ()
        if options.fit_efficacy:
            half = len(rounds) // 2
            fitted = renew(found, setting, real, cells, first=half).efficacy
            arguments["efficacy"] = fitted.usable
        if options.renew:
            stream = options.how["stream"]
            renewal = (
                renew(found, setting, real, cells)
                if setting.accumulate
                else learned(found, setting, real, cells, ahead=setting.rounds, stream=stream)
            )
    progress.stage("forecasting")
    result = predict(candidates, Setting.of(**arguments), reference=real, cells=cells, **options.how)
    result = replace(result, warnings=ruling.warnings + caveats + result.warnings)
    gains = _welfare(found_rounds, real, result)
    if len(rounds) == 1:
        return LogForecast.of(result, welfare=gains, opened=opened, ruling=ruling)
    progress.stage("measuring the log's later rounds")
    later = measured_rounds(
        found_rounds,
        temperature=result.setting.temperature,
        cells=cells,
        names=group_names(candidates, real),
    )
    shifted = Trajectory(tuple(replace(row, round=row.round - rounds[0]) for row in later.rows))
    ahead = None
    if renewal is not None and renewal.transmission is None:
        own = arguments | {"efficacy": renewal.efficacy.usable, "first": len(rounds) - 1}
        ahead = _ahead(found[-1], real or found[0], Setting.of(**own), options.how["stream"])
    return LogForecast.of(
        result, shifted, renewal, ahead, fitted=fitted, welfare=gains, opened=opened, ruling=ruling
    )


def forecast_arrays(
    candidates: Candidates, options: LogOptions, reference: Any = None, law: Any = None
) -> LogForecast:
    """Forecast from candidates given as arrays; see :func:`forecast_log`."""
    if options.renew or options.fit_efficacy:
        raise InputError(
            "renewing and fitting the efficacy need the rounds of a log", got="arrays", remedy="pass a log"
        )
    real = None if reference is None else reference_of(reference, candidates, options)
    masses = None if law is None else check_law("law", law, len(candidates))
    ruling = options.ruling(None, {})
    setting = Setting.of(**arguments_of({}, options, ruling))
    return LogForecast.of(
        predict(candidates, setting, law=masses, reference=real, **options.how), ruling=ruling
    )


def _start(
    log: Log, options: LogOptions, large: Large | None, settings: Mapping[str, Any]
) -> tuple[Rounds, dict[str, Any], Ruling, tuple[str, ...]]:
    """Return the candidates of every round, what is recorded, the rule, and the caveats of parts."""
    if large is None:
        known = {**settings, "picks": picks_of(log, settings)}
        rounds = Rounds.of(log, group=options.group, track=options.track, picks=settings.get("picks"))
        return rounds, known, options.ruling(log, known), ()
    generated = log.select(source=MODEL)
    units = len(generated.slate_sizes()) if large.sizes else generated.table.num_rows
    kept = float(generated.column("picked").sum()) / max(units, 1)
    known = {**settings, "picks": _at_most(round(kept * large.first[1]) or None, settings)}
    ruling = options.ruling(log, known)
    ruling, caveats = _resized(ruling, log, large, options)
    if len(log.rewards) > 1:
        rounds = Rounds.of(log, group=options.group, track=options.track)
        caveats += (f"with several rewards, the candidates are the sample's {rounds.first.size:,}",)
        return rounds, known, ruling, caveats
    rounds, width = compressed(large, log.rewards[0], group=options.group, track=options.track)
    return rounds, known, ruling, (*caveats, _about_cells(rounds, width, ruling.rule, options))


def _resized(ruling: Ruling, log: Log, large: Large, options: LogOptions) -> tuple[Ruling, tuple[str, ...]]:
    """Return the rule for the slates of all parts, where they differ in size from the sample's."""
    size, here = large.slate_size, slate_size(log)
    if size in (None, here) or options.given.get("k") is not None or not isinstance(ruling.rule, Rule):
        return ruling, ()
    generated = log.select(source=MODEL)
    picked = generated.table.filter(generated.table.column("picked"))
    some = picked.group_by(["round", "slate"]).aggregate([]).num_rows
    if 0 < some < len(generated.slate_sizes()):
        return ruling, (
            "slates without a pick may have other sizes than those with one: K is that of the sample (--k)",
        )
    rule = changed_rule(ruling.rule, {"k": size})
    statement = f"{phrase(rule)}, by all slates; in the sample: {ruling.statement}"
    return replace(ruling, rule=rule, statement=statement), ()


def _about_cells(rounds: Rounds, width: float, rule: Selection, options: LogOptions) -> str:
    """Say how well cells represent the candidates."""
    first = rounds.first
    said = f"{first.size:,} candidates are represented by {len(first):,} atoms in cells of {width:.2g}: "
    if not isinstance(rule, Rule) or rule.noise is not GUMBEL:
        assert first.counts is not None
        most = float(first.counts.max()) / first.size
        return said + f"those of one atom, at most {most:.1g} of all, are ties"
    rate = int(options.given.get("rounds") or 1) * (1 + len(options.then)) + 2
    error = (rate * width / rule.temperature) ** 3 / 12
    if error > LARGEST_ERROR:
        raise InputError(
            "rewards are too far apart for this temperature in a log that is read in parts",
            got=f"cells of {width:.2g} at temperature {rule.temperature:.3g} over {rate - 2} stages",
            remedy=f"forecast fewer rounds; or, with memory enough, {ROWS}=1000000000 in the environment",
        )
    return said + f"expectations differ by at most {error:.1g} of their value"


def _with_picks(
    rounds: Rounds, known: Mapping[str, Any], ruling: Ruling, options: LogOptions, *, whole: bool
) -> tuple[list[Candidates], tuple[str, ...]]:
    """Return every round's candidates, with picks where these are the next training set, and caveats.

    They are not where an option asks about other picks than those of the log, or where a sample of the log
    is read. In the last round they may not all be made yet.
    """
    found = list(rounds.generated.values())
    picks = options.given.get("picks")
    others = picks not in (None, known["picks"]) or options.given.get("weights") is not None
    if ruling.options or others or not whole:
        return [replace(c, picked=None) for c in found], ()
    before, last = (c.picked for c in found[-2:])
    if before is None or last is None or last.mean() >= UNFINISHED * before.mean():
        return found, ()
    said = (
        f"round {rounds.numbers[-1]} has {last.sum():,} picks, where round {rounds.numbers[-2]} has "
        f"{before.sum():,}: they are taken to be unfinished, and the forecast from there on expects its "
        "picks by the rule"
    )
    return [*found[:-1], replace(found[-1], picked=None)], (said,)


def _welfare(rounds: Rounds, real: Candidates | None, result: Forecast) -> tuple[tuple[str, Welfare], ...]:
    """Return the welfare of the first round, of the last forecast law and of the last measured round."""
    candidates = rounds.first
    if len(candidates.names) < 2 or candidates.contexts is not None:
        return ()
    setting, atoms = result.setting, candidates.rewards
    gain = partial(welfare, weights=setting.weights, temperature=setting.temperature)
    if result.law.size > len(atoms) and real is not None:
        atoms = np.vstack([atoms, real.rewards])
    found = [("round 0", gain(candidates.rewards))]
    if result.law.size == len(atoms):
        found.append((f"round {setting.rounds}, forecast", gain(atoms, result.law)))
    first, last = rounds.numbers[0], rounds.numbers[-1]
    if last != first:
        found.append((f"round {last - first}, measured", gain(rounds.generated[last].rewards)))
    return tuple(found)


def _ahead(last: Candidates, reference: Candidates, setting: Setting, stream: Stream) -> Forecast:
    """Forecast from the last round's candidates, with rounds counted from the log's first."""
    result = predict(last, setting, reference=reference, stream=stream)
    rows = tuple(replace(row, round=row.round + setting.first) for row in result.trajectory.rows)
    return replace(result, trajectory=Trajectory(rows))


def arguments_of(known: Mapping[str, Any], options: LogOptions, ruling: Ruling) -> dict[str, Any]:
    """Return the arguments of the setting: those given, else those that the log or its folder records.

    Further stages have the temperature and the noise of the rule, where it has them.
    """
    rule = ruling.rule
    own = {
        name: value
        for name, value in known.items()
        if value is not None and name not in (*SLATES, *RATES, "threshold")
    }
    given = {name: value for name, value in options.given.items() if value is not None}
    given = {name: value for name, value in given.items() if name not in (*SLATES, *RATES, "rule")}
    told = {} if ruling.weights is None else {"weights": ruling.weights}
    arguments = told | own | given | {"rule": rule}
    noise = getattr(rule, "noise", GUMBEL)
    arguments["then"] = [
        stage
        if isinstance(stage, Stage)
        else Stage(Rule(stage[0], rule.temperature, noise), None if stage[1] is None else tuple(stage[1]))
        for stage in options.then
    ]
    return arguments


def last_round(log: Log, options: LogOptions, first: Candidates) -> tuple[Candidates, int]:
    """Return the last round's candidates, and the number of rounds before it."""
    rounds = log.select(source=MODEL).rounds()
    _check_many(rounds, renew=True, fit=False)
    _check_consecutive(rounds)
    return _round(log, rounds[-1], options, first), len(rounds) - 1


def _check_many(rounds: Sequence[int], *, renew: bool, fit: bool) -> None:
    if (len(rounds) < 3 and fit) or (len(rounds) < 2 and renew):
        raise InputError(
            "the log has too few rounds to renew forecasts or fit the efficacy",
            got=f"{len(rounds)}",
            remedy="--renew needs two rounds, --efficacy fit needs three",
        )


def _check_consecutive(rounds: Sequence[int]) -> None:
    gaps = [(a, b) for a, b in itertools.pairwise(rounds) if b != a + 1]
    if gaps:
        raise InputError(
            "renewing and fitting the efficacy need consecutive rounds",
            got=f"round {gaps[0][0]} is followed by round {gaps[0][1]}",
            remedy="log all rounds, or leave out --renew and --efficacy fit",
        )


def read(source: Any, rewards: Sequence[str] | None, options: LogOptions) -> Opened:
    """Return a source as a log for forecasts and plans, and how it was read."""
    return open_sample(source, columns_given(rewards, options))


def columns_given(rewards: Sequence[str] | None, options: LogOptions) -> Given:
    """Return what the user said about the columns, those of the forecast among them."""
    text = () if options.group is None else (options.group,)
    others = (*text, *options.track)
    return replace(options.columns, rewards=tuple(rewards or ()), others=others, text=text)


def reference_of(source: Any, candidates: Candidates, options: LogOptions) -> Candidates:
    """Return real data: an array as it is; of a table its rows of source ``real``, or all if it has none."""
    if isinstance(source, Candidates):
        return source
    if is_array(source):
        return as_candidates(source, names=candidates.names)
    large = open_large(source, replace(columns_given(candidates.names, options), picks=False), pooled=True)
    if large is not None:
        return _large_reference(large, candidates, options)
    log = read(source, candidates.names, options).log
    real = log.select(source=REAL)
    rows = real if real.table.num_rows else log
    return from_log(rows, group=options.group, track=options.track)


def _large_reference(large: Large, candidates: Candidates, options: LogOptions) -> Candidates:
    """Return the real data of a table that is read in parts."""
    if len(candidates.names) > 1:
        raise InputError(
            "real data of this size are read in parts, which needs one reward",
            got=", ".join(candidates.names),
            remedy="name a part of their files",
        )
    rounds, _ = compressed(large, candidates.names[0], group=options.group, track=options.track)
    if rounds.real is not None:
        return rounds.real
    first, *others = rounds.generated.values()
    for other in others:
        first = first.join(other)
    return first


def _round(log: Log, t: int, options: LogOptions, first: Candidates) -> Candidates:
    rows = log.select(source=MODEL, round=t)
    found = from_log(rows, group=options.group, track=options.track)
    return replace(found, labels=first.labels)


def _cells(candidates: Candidates, real: Candidates | None, *, several: bool) -> Cells | None:
    if real is not None:
        return reference_cells(candidates, real)[0]
    return (
        partition(candidates.rewards, candidates.counts) if several and candidates.contexts is None else None
    )


def run_settings(path: Path | None) -> dict[str, Any]:
    """Return the settings of a run or fit folder, which are the defaults for forecasting from it."""
    if path is None:
        return {}
    if is_fit(path):
        return _fit_settings(path / "fit.json")
    config = StoredRun.open(path).settings()
    if config.get("model") is not None:
        raise InputError(
            f"this is the run of {config['model']!r}, one of several that train on each other's picks: "
            "the law of one model does not hold for it",
            got=path,
            remedy=f"recurate forecast {path.absolute().parent.parent} takes all of them",
        )
    return settings_in(config, path)


def settings_in(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the settings in the configuration of a run's folder, which are the defaults for forecasts."""
    try:
        weights = [reward.get("weight") for reward in config["rewards"]]
        selection = config["selection"]
        return {
            "temperature": selection["temperature"],
            "real_fraction": config["retraining"]["real_fraction"],
            "weights": None if None in weights else weights,
            "accumulate": config["retraining"].get("mode") == "accumulate" or None,
            "picks": selection.get("picks"),
            **_noise_and_lapse(selection, path),
            **{name: selection[name] for name in ("threshold", *RATES) if name in selection},
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the run's configuration is damaged", got=f"{path / 'config.toml'}: {error}", remedy="restore it"
        ) from None


def _noise_and_lapse(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = {name: settings[name] for name in ("noise", "lapse") if name in settings}
    return found | ({"noise": built_in_name(found["noise"], path)} if "noise" in found else {})


def _fit_settings(path: Path) -> dict[str, Any]:
    """Return the settings that a fit estimated: temperature, weights, noise, lapse."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        found, empty = facts["settings"], facts.get("model") == POSITIONS
        plain: dict[str, Any] = (
            {"weights": [float(w) for w in found["weights"]]} if found.get("weights") is not None else {}
        )
        if "temperature" in found:
            plain["temperature"] = float(found["temperature"])
        plain |= _noise_and_lapse(found, path)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("the fit is damaged", got=f"{path}: {error}", remedy="fit it again") from None
    if empty:
        raise InputError(
            "this fit has no rewards: nothing described its candidates but their place",
            got=path.parent,
            remedy="fit again with what describes them: recurate fit LOG --feature COLUMN, or --score COLUMN",
        )
    return plain


def picks_of(log: Log, settings: Mapping[str, Any]) -> int | None:
    """Return the number of picks of the first round that are trained on; None if it has no picks.

    Args:
        log: The log.
        settings: What its folder records; of a run, its ``picks`` are the most that are trained on.
    """
    generated = log.select(source=MODEL)
    if generated.table.num_rows == 0:
        return None
    first = generated.select(round=generated.rounds()[0])
    return _at_most(int(first.column("picked").sum()) or None, settings)


def _at_most(picks: int | None, settings: Mapping[str, Any]) -> int | None:
    most = settings.get("picks")
    return picks if most is None or picks is None else min(picks, most)
