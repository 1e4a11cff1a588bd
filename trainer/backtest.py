"""Rolling origins: a bundle beside everything it has to beat, with no sight past any origin. Runs the gateway's own forecaster."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather, WeatherSource
from edge_agent.forecaster import BATCH, Forecaster, Model, base_forecaster
from trainer.baselines import CLIMATOLOGY, actual_values, baseline_predictions
from trainer.datasets import read_table
from trainer.scores import Predictions, Scores, coverage_by_level, day_types, hours, leads, score, score_groups, skill, where_all_known
from trainer.table_times import standard_offset_s
from trainer.weather_table import read_weather

Ints = npt.NDArray[np.int64]

TEST_SHARE: Final = 0.2
EVERY_S: Final = {"m": 60, "h": 3600, "d": 86_400}
DAY_TYPES: Final = ("weekday", "weekend")
NO_FORECAST: Final = "no weather forecast"
PERFECT: Final = "perfect weather forecast"


@dataclass(frozen=True, eq=False)
class Backtest:
    """A model's forecasts at many origins, and the baselines' at the same."""

    model: str
    house: HouseSpec
    unit: str
    predictions: dict[str, Predictions]
    """By label; the model's first, the rolling climatology's last."""
    grades: dict[str, int]
    """Origins by grade: where the inputs do not allow the model, its row is the climatology's forecast, as on the gateway."""
    version: str = ""
    """Of the model."""
    weather: str = NO_FORECAST
    """Which weather forecast the model was given."""

    @property
    def of_model(self) -> Predictions:
        """The model's own."""
        return self.predictions[self.model]

    def scores(self) -> dict[str, Scores]:
        """Scores by label, all on the same steps."""
        return {label: score(p) for label, p in where_all_known(self.predictions).items()}


@dataclass(frozen=True, eq=False)
class Weather:
    """The weather forecast that a backtest gives to its model."""

    source: WeatherSource
    label: str


def backtest(forecaster: Forecaster, series: Series, origins: Ints, *, progress: Progress | None = None, weather: Weather | None = None) -> Backtest:
    """Forecasts of the model and the baselines at `origins` (unix s, on the series' grid).

    Raises:
        DataError: no origins.
    """
    if not len(origins):
        raise DataError("no origin lies in this span with a whole day after it: widen --from and --to, or give a smaller --every")
    builder = forecaster.builder(series, weather=weather.source if weather else None)
    graded = [forecaster.grade(builder, int(origin))[0] for origin in origins]
    label = forecaster.identity["name"] if forecaster.model is not None else CLIMATOLOGY
    given = weather.label if weather else NO_FORECAST
    anchored = baseline_predictions(builder if builder.plan.anchored else _climatology_of(forecaster).builder(series), origins)
    if forecaster.model is None:
        return Backtest(label, forecaster.house, forecaster.plan.unit, anchored, dict(Counter(graded)))
    own = _forecast(forecaster, builder, origins, progress)
    fallback = np.array([g == "baseline" for g in graded])
    climatology = anchored[CLIMATOLOGY]
    quantiles = np.where(fallback[:, None, None], climatology.quantiles, own.quantiles)
    own = replace(own, quantiles=quantiles, mean=np.where(fallback[:, None], climatology.mean, own.mean))
    version = forecaster.identity["version"]
    return Backtest(label, forecaster.house, forecaster.plan.unit, {label: own, **anchored}, dict(Counter(graded)), version, given)


def _climatology_of(forecaster: Forecaster) -> Forecaster:
    return Forecaster(forecaster.house, None, target=forecaster.plan.target)


def _forecast(forecaster: Forecaster, builder: FeatureBuilder, origins: Ints, progress: Progress | None) -> Predictions:
    task = progress.add_task("forecasting", total=len(origins)) if progress else None
    parts = []
    for first in range(0, len(origins), BATCH):
        parts.append(forecaster.batch(builder, origins[first : first + BATCH]))
        if progress and task is not None:
            progress.advance(task, len(parts[-1][1]))
    quantiles, mean = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    return Predictions(origins, builder.plan.step_s, builder.plan.quantile_levels, quantiles, mean, actual_values(builder, origins))


def choose_origins(series: Series, horizon_s: int, *, start: int | None, end: int | None, every_s: int) -> Ints:
    """Origins at full multiples of `every_s` (UTC) in [start, end - horizon]; by default in the last 20 % of the series.

    Raises:
        ConfigError: `every_s` is no multiple of the step.
    """
    if every_s % series.step_s:
        raise ConfigError(f"--every: {every_s} s is no multiple of the house's step of {series.step_s} s")
    first = series.start + int(len(series) * (1 - TEST_SHARE)) * series.step_s if start is None else max(start, series.start)
    last = min(series.end if end is None else end, series.end) - horizon_s
    return np.arange(-(-first // every_s) * every_s, last + 1, every_s, dtype=np.int64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hearthcast-train backtest`."""
    parser.add_argument("--bundle", type=Path, help="bundle to test (default: the model that ships with Hearthcast, or else the climatology alone)")
    parser.add_argument("--house", type=Path, required=True, help="house.toml")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="CSV or Parquet files (.gz too) with the house's columns")
    parser.add_argument("--target", help="target of house.toml (default: the bundle's, or the first)")
    parser.add_argument("--from", dest="start", metavar="T", help="first origin, ISO time on the table's clock (default: the last 20 %% of the data)")
    parser.add_argument("--to", dest="end", metavar="T", help="end of the last day scored (default: the end of the data)")
    parser.add_argument("--every", default="1h", help="distance of origins, such as 10m, 1h or 1d (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weather",
        type=Path,
        metavar="FILE",
        help="archived weather forecasts: columns issued, time (ISO 8601; UTC without an offset) and roles",
    )
    source.add_argument(
        "--perfect-weather", action="store_true", help="give the model what was measured later as its weather forecast: a bound, and labelled so"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores, by lead time, hour and day type too")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="write every forecast (.npz)")
    parser.add_argument("--repair", action="store_true", help="repair what can be repaired in the data, and say what")
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a bundle that nobody trusted has signed")


def run(args: argparse.Namespace) -> int:
    """`hearthcast-train backtest`."""
    console = Console()
    house = read_house(args.house)
    start, end = (_time(option, text, house) for option, text in (("--from", args.start), ("--to", args.end)))
    every_s = _duration(args.every)
    forecaster = _forecaster(house, args)
    table = read_table(house, args.data, repair=args.repair)
    for line in table.repairs:
        console.print(f"[yellow]repaired:[/] {line}")
    origins = choose_origins(table.series, forecaster.plan.horizon * forecaster.plan.step_s, start=start, end=end, every_s=every_s)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    weather = _weather(forecaster, table.series, args)
    with Progress(*columns, console=console, transient=True) as progress:
        result = backtest(forecaster, table.series, origins, progress=progress, weather=weather)
    console.print(score_table(result))
    _write(result, json_path=args.json, predictions_path=args.predictions)
    return 0


def _forecaster(house: HouseSpec, args: argparse.Namespace) -> Forecaster:
    """By the bundle given, else by the base model that ships (for energy), else by the climatology."""
    if args.bundle:
        return Forecaster(house, Model(read_bundle(args.bundle, allow_unsigned=args.allow_unsigned)), target=args.target)
    return base_forecaster(house, args.target or house.targets[0].name)


def _weather(forecaster: Forecaster, series: Series, args: argparse.Namespace) -> Weather | None:
    """The weather forecast that the options ask for.

    Raises:
        ConfigError: the model reads none.
    """
    if not (args.weather or args.perfect_weather):
        return None
    if not forecaster.plan.weather:
        option = "--weather" if args.weather else "--perfect-weather"
        raise ConfigError(f"{option}: model {forecaster.identity['name']} reads no weather forecast: leave it out, or fit one with --weather")
    if args.perfect_weather:
        return Weather(PerfectWeather(series), PERFECT)
    return Weather(read_weather(args.weather), f"weather forecasts of {args.weather.name}")


def _time(option: str, text: str | None, house: HouseSpec) -> int | None:
    """Unix s of an ISO time; without an offset it is meant as the table's times are."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no time: ISO 8601 is expected, such as 2016-05-01 or 2016-05-01T09:00+02:00") from None
    if time.tzinfo is not None:
        return int(time.timestamp())
    if house.table_clock == "local":
        return int(time.replace(tzinfo=house.zone).timestamp())
    as_utc = time.replace(tzinfo=UTC).timestamp()
    return int(as_utc) - (standard_offset_s(np.array([as_utc]), house.zone) if house.table_clock == "standard" else 0)


def _duration(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in EVERY_S or not number.isdigit() or int(number) == 0:
        raise ConfigError(f"--every: {text!r} is no duration: a number and m, h or d are expected, such as 1h")
    return int(number) * EVERY_S[unit]


def score_table(result: Backtest) -> Table:
    """The model and the baselines, one row each; skill is against the rolling climatology."""
    scores, origins = result.scores(), result.of_model.origins
    n_values = next(iter(scores.values())).n_values
    unit = f"{result.unit} a step" if result.unit == "Wh" else result.unit
    span = f"{iso_utc(int(origins[0]))} to {iso_utc(int(origins[-1]))}"
    given = f"\n{result.model} was given: {result.weather}" if result.weather != NO_FORECAST else ""
    grades = ", ".join(f"{count} {grade}" for grade, count in sorted(result.grades.items()))
    table = Table(
        title=f"{result.house.site}: {len(origins)} origins from {span}\n{n_values} steps known{given}",
        caption=f"Errors in {unit}; skill = 1 - error / error of the {CLIMATOLOGY}.\nInputs: {grades}.",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("forecast", "MAE", "RMSE", "CRPS", "p10-p90", "day\ntotal", "CRPS\nskill", "total\nskill"):
        table.add_column(heading, justify="left" if heading == "forecast" else "right", no_wrap=True)
    for label, row in scores.items():
        gain = skill(row, scores[CLIMATOLOGY])
        cover = f"{row.coverage:.2f}" if (result.predictions[label].quantiles[..., 0] < result.predictions[label].quantiles[..., -1]).any() else "-"
        cells = (f"{row.mae:.4g}", f"{row.rmse:.4g}", f"{row.crps:.4g}", cover, f"{row.total_mae:.4g}")
        table.add_row(label, *cells, f"{gain['crps']:+.1%}", f"{gain['total_mae']:+.1%}", style="bold" if label == result.model else None)
    return table


def to_json(result: Backtest) -> dict[str, Any]:
    """All scores, JSON-able; NaN as null."""
    scores, own = result.scores(), result.of_model
    groups = {"lead_step": leads(own), "hour": hours(own, result.house.zone), "day_type": day_types(own, result.house.zone)}
    common = where_all_known(result.predictions)
    return _finite(
        {
            "site": result.house.site,
            "model": result.model,
            "version": result.version,
            "weather": result.weather,
            "unit": result.unit,
            "step_s": own.step_s,
            "origins": {"n": len(own.origins), "first": iso_utc(int(own.origins[0])), "last": iso_utc(int(own.origins[-1]))},
            "grades": result.grades,
            "scores": {label: {**asdict(row), "skill": skill(row, scores[CLIMATOLOGY])} for label, row in scores.items()},
            "coverage_by_level": dict(zip(map(str, own.quantile_levels), coverage_by_level(common[result.model]).tolist(), strict=True)),
            "by": {
                name: {label: {_group(name, g): asdict(row) for g, row in score_groups(p, ids).items()} for label, p in common.items()}
                for name, ids in groups.items()
            },
        }
    )


def _group(name: str, number: int) -> str:
    return DAY_TYPES[number] if name == "day_type" else str(number)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _write(result: Backtest, *, json_path: Path | None, predictions_path: Path | None) -> None:
    own = result.of_model
    try:
        if json_path:
            json_path.write_text(json.dumps(to_json(result), indent=1) + "\n", encoding="utf-8")
        if predictions_path:
            with predictions_path.open("wb") as file:  # given a name, numpy would add .npz to it
                np.savez_compressed(
                    file,
                    origins=own.origins,
                    quantile_levels=np.array(own.quantile_levels),
                    quantiles=own.quantiles,
                    mean=own.mean,
                    actual=own.actual,
                    weather=np.array(result.weather),
                )
    except OSError as err:
        raise ConfigError(f"{err.filename}: cannot be written ({err.strerror}); name another file") from err
