"""Which homes a backtest is over, and what is read of each."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.markup import escape

from edge_agent.contract.bundle import Bundle
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import MAX_AGE_S, PerfectWeather, WeatherForecasts
from edge_agent.forecaster import Forecaster, Model
from trainer.archive import file_name
from trainer.backtest import TEST_SHARE, choose_origins
from trainer.datasets import ReadOptions, read_table
from trainer.findings import Finding
from trainer.homes import Sources, files_by_house
from trainer.rolling import BLOCK, NO_ORIGIN, Weather
from trainer.table_times import standard_offset_s
from trainer.weather_table import read_weather
from trainer.workers import Job, Skipped

EVERY_S: Final = {"m": 60, "h": 3600, "d": 86_400}
PERFECT: Final = "perfect weather forecast"


@dataclass(frozen=True)
class Plan:
    """What is to be done with one house."""

    house: HouseSpec
    files: list[Path]
    targets: dict[str, bool]
    """By name, whether the model forecasts it."""
    start: int | None
    """Unix s."""
    end: int | None


def plans_of(args: argparse.Namespace, bundle: Bundle | None, console: Console) -> list[Plan]:
    """What is to be done with each house.

    Raises:
        ConfigError: files and houses do not pair up, two homes have one name or one file, a target that is not there or not the model's, weather that
            no model here reads or no house here measures.
    """
    model, every_s = _model(bundle), _duration(args.every)
    plans = []
    for path, files in zip(args.house, files_by_house(Sources(tuple(args.house), tuple(args.data))), strict=True):
        house = read_house(path)
        if every_s % house.step_s:
            raise ConfigError(f"--every: {every_s} s is no multiple of the house's step of {house.step_s} s")
        start, end = (_time(option, text, house) for option, text in (("--from", args.start), ("--to", args.end)))
        plans.append(Plan(house, files, _targets(args, house, model, console), start, end))
    sites = [plan.house.site for plan in plans]
    twice = sorted({site for site in sites if sites.count(site) > 1})
    if twice:
        raise ConfigError(f"two houses are called {twice[0]!r}: give each house.toml its own site")
    if args.predictions:
        _check_files(plans)
    _check_weather(args, model, plans)
    return plans


def _check_files(plans: list[Plan]) -> None:
    """SITE-TARGET.npz of one home must not be that of another, in folders that know no capitals either."""
    homes: dict[str, str] = {}
    for name in (f"{plan.house.site}:{target}" for plan in plans for target in plan.targets):
        other = homes.setdefault(file_name(name).casefold(), name)
        if other != name:
            raise ConfigError(f"--predictions: {other} and {name} would both be written to {file_name(name)}: rename a site or a target")


def _check_weather(args: argparse.Namespace, model: Model | None, plans: list[Plan]) -> None:
    if not (args.weather or args.perfect_weather):
        return
    name, roles = (model.bundle.manifest.name, model.bundle.manifest.plan.weather) if model is not None else ("climatology", ())
    sensors = [sensor for plan in plans if any(plan.targets.values()) for sensor in plan.house.sensors]
    if not (roles and sensors):
        option = "--weather" if args.weather else "--perfect-weather"
        raise ConfigError(f"{option}: model {name} reads no weather forecast here: leave it out, or fit one with --weather")
    if args.perfect_weather and not any(sensor.column and sensor.role in roles for sensor in sensors):
        words = " or ".join(roles)
        raise ConfigError(
            f"--perfect-weather: model {name} reads {words}, and no sensor here measures that in a table: add its column, or leave it out"
        )


def _model(bundle: Bundle | None) -> Model | None:
    return Model(bundle) if bundle is not None else None


def _targets(args: argparse.Namespace, house: HouseSpec, model: Model | None, console: Console) -> dict[str, bool]:
    """The targets to forecast, and whether by the model: the bundle given, or the base model that ships where that is made for their role."""
    if not args.all_targets:
        if args.bundle:
            return {Forecaster(house, model, target=args.target).plan.target: True}
        name = args.target or house.targets[0].name
        return {name: _fits(house, model, name) is None}
    lacks = {target.name: _fits(house, model, target.name) for target in house.targets}
    if not args.bundle:
        return {name: lack is None for name, lack in lacks.items()}
    for name, lack in lacks.items():
        if lack is not None:
            console.print(escape(f"{house.site}: {name} is left out: {lack}"), soft_wrap=True)
    chosen = {name: True for name, lack in lacks.items() if lack is None}
    if not chosen:
        raise ConfigError(f"house {house.site!r} has no target that this model forecasts: give another bundle, or leave the house out")
    return chosen


def _fits(house: HouseSpec, model: Model | None, target: str) -> str | None:
    """Why the model cannot forecast this target; None when it can.

    Raises:
        ConfigError: the house has no such target.
    """
    role = house.sensor(house.target(target).sensor).role
    if model is None or model.bundle.manifest.plan.role != role:
        return f"the model does not forecast {role}"
    try:
        Forecaster(house, model, target=target)
    except ConfigError as err:
        return str(err)
    return None


def jobs_of(
    args: argparse.Namespace,
    plans: list[Plan],
    bundle: Bundle | None,
    *,
    findings: list[Finding],
    notes: list[str],
    skipped: list[Skipped] | None,
) -> Iterator[Job]:
    """The homes, each table read when its turn comes.

    What is found in the tables is added to `findings`, what is worth knowing to `notes`. A house or target that cannot be used, or a home without
    origins, goes to `skipped`; where there is no such list, it is an error.
    """
    model, archived = _model(bundle), read_weather(args.weather) if args.weather else None
    for plan in plans:
        try:
            options = ReadOptions(repair=args.repair, accept=tuple(args.accept), leave_out=skipped is not None)
            table = read_table(plan.house, plan.files, options=options)
        except (ConfigError, DataError) as err:
            _set_aside(plan.house.site, err, skipped)
            continue
        findings += [replace(finding, source=plan.house.site) for finding in table.findings] if skipped is not None else table.findings
        notes += table.notes
        for target, is_modelled in plan.targets.items():
            forecaster = Forecaster(plan.house, model if is_modelled else None, target=target)
            job = _job(args, plan, table.series, forecaster, archived)
            try:
                table.require(forecaster.target_sensor)
                if not len(job.origins):
                    raise DataError(NO_ORIGIN if args.start or args.end else _too_short(table.series))
                if skipped is None:
                    _require_weather(args, job, forecaster)
            except DataError as err:
                _set_aside(job.name, err, skipped)
                continue
            yield job


def _too_short(series: Series) -> str:
    days = len(series) * series.step_s / DAY_S
    return (
        f"the table covers {days:.1f} days, too few: no origin lies in its last {TEST_SHARE:.0%} with a whole day after it: "
        f"give more --data, an earlier --from or a smaller --every"
    )


def _set_aside(name: str, err: ConfigError | DataError, skipped: list[Skipped] | None) -> None:
    if skipped is None:
        raise err
    skipped.append(Skipped(name, str(err)))


def _job(args: argparse.Namespace, plan: Plan, series: Series, forecaster: Forecaster, archived: WeatherForecasts | None) -> Job:
    horizon_s = forecaster.plan.horizon * forecaster.plan.step_s
    origins = choose_origins(series, horizon_s, start=plan.start, end=plan.end, every_s=_duration(args.every))
    weather = _weather(args, series, forecaster, archived, origins)
    is_modelled = forecaster.model is not None
    return Job(plan.house, forecaster.plan.target, is_modelled, series.select(forecaster.sensors), origins, weather)


def _weather(
    args: argparse.Namespace, series: Series, forecaster: Forecaster, archived: WeatherForecasts | None, origins: npt.NDArray[np.int64]
) -> Weather | None:
    """The weather forecast that the options ask for, where the model reads one and it says something at an origin."""
    roles = forecaster.plan.weather
    if archived is not None:
        weather = Weather(archived, f"weather forecasts of {args.weather.name}")
    elif args.perfect_weather:
        weather = Weather(PerfectWeather(series.select(tuple(f.name for f in series.features if f.role in roles))), PERFECT)
    else:
        return None
    n_told = _n_told(weather, origins, forecaster) if roles else 0
    if n_told == 0:
        return None
    return weather if n_told == len(origins) else replace(weather, label=f"{weather.label}, at {n_told:,} of {len(origins):,} origins")


def _n_told(weather: Weather, origins: npt.NDArray[np.int64], forecaster: Forecaster) -> int:
    """How many origins the weather forecast says anything at."""
    plan, blocks = forecaster.plan, (origins[first : first + BLOCK] for first in range(0, len(origins), BLOCK))
    ahead = (weather.source.ahead(block, horizon=plan.horizon, step_s=plan.step_s, roles=plan.weather) for block in blocks)
    return sum(int(np.isfinite(values).any(axis=(1, 2)).sum()) for values in ahead)


def _require_weather(args: argparse.Namespace, job: Job, forecaster: Forecaster) -> None:
    """Make sure that the model is given the weather that was asked for.

    Raises:
        DataError: nothing is told of it at any origin.
    """
    if job.weather is None and forecaster.plan.weather and (args.weather or args.perfect_weather):
        roles = " or ".join(forecaster.plan.weather)
        if args.weather:
            asked, expected = f"--weather {args.weather}", f"forecasts issued in the {MAX_AGE_S // 3600} hours before an origin, of the day after it"
        else:
            asked, expected = "--perfect-weather", "sensors that were heard in the days scored"
        raise DataError(f"{asked} says nothing of {roles} at any of the {len(job.origins):,} origins: {expected}, are expected; else leave it out")


def _time(option: str, text: str | None, house: HouseSpec) -> int | None:
    """Unix s of an ISO time; without an offset it is meant as the table's times are."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no time: ISO 8601 is expected, such as 2016-05-01 or 2016-05-01T09:00+02:00") from None
    if when.tzinfo is not None:
        return int(when.timestamp())
    if house.table_clock == "local":
        return int(when.replace(tzinfo=house.zone).timestamp())
    as_utc = when.replace(tzinfo=UTC).timestamp()
    return int(as_utc) - (standard_offset_s(np.array([as_utc]), house.zone) if house.table_clock == "standard" else 0)


def _duration(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in EVERY_S or not number.isdecimal() or int(number) == 0:
        raise ConfigError(f"--every: {text!r} is no duration: a number and m, h or d are expected, such as 1h")
    return int(number) * EVERY_S[unit]
