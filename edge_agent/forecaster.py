"""Runs a bundle: series in, Forecast out. The only importer of onnxruntime; the exporter's checks and the backtest run this very code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

# Nothing leaves the house: onnxruntime's Linux wheels (1.32) else keep a device id in ~/.cache/Microsoft and a thread that reports use to Microsoft.
# Read when the library loads; its disable_telemetry_events() comes too late.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.bundle import Bundle, Golden, read_shipped_bundle
from edge_agent.contract.calibration import ENOUGH_DAYS, identity, publish, widest_ratio
from edge_agent.contract.errors import BundleError, ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder, ModelInputs
from edge_agent.contract.forecast import PUBLISHED_LEVELS, Forecast, Grade, Total
from edge_agent.contract.localtime import DAY_S, day_bounds, iso_utc, local_date
from edge_agent.contract.manifest import Tensor
from edge_agent.contract.plan import CALENDAR, FeaturePlan
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.contract.weather import WeatherForecast, WeatherForecasts, WeatherSource
from edge_agent.graph import check_graph
from edge_agent.plausibility import absurdity, last_resort

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BATCH: Final = 32
"""Origins a run: the throughput of larger batches is no better, their memory is (4 MB a row)."""
GOLDEN_TOLERANCE: Final = 1e-3
"""Relative to the largest golden value: other processors round differently, another model does not come this close."""
MIN_KNOWN_SHARE: Final = 0.5
"""A model whose target is known for less of its context is not asked."""
FULL_KNOWN_SHARE: Final = 0.9
WAITING: Final = "waiting until"
"""In a reason that ends by itself, before the time (UTC) at which it may do so at the earliest."""
CLIMATOLOGY: Final = "climatology"
"""Id of a forecaster without a model, and its name where it forecasts energy."""
MIXTURE: Final = "naive-mixture"
"""Its name where it forecasts a state, such as a room's temperature."""


class Model:
    """A bundle's ONNX graph with its feature plan and calibration."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        """Load the graph; one thread by default, because ONNX Runtime's thread pool spins for 40 ms after every 3 ms forecast.

        Raises:
            BundleError: not a loadable graph, or other tensors than the manifest says.
        """
        self.bundle = replace(bundle, model=b"")  # ONNX Runtime has its own copy, and an agent runs for years
        manifest = bundle.manifest
        self.id = manifest.id
        try:
            check_graph(bundle.model)
        except BundleError as err:
            raise BundleError(f"{bundle.path}: model.onnx {err}: export it again") from err
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not ORT's own, which nothing here can look into
        options.log_severity_level = 4  # what goes wrong is raised
        try:
            self.session = ort.InferenceSession(bundle.model, options, providers=["CPUExecutionProvider"])
        except Exception as err:  # onnxruntime raises a dozen unrelated types
            raise BundleError(f"{bundle.path}: model.onnx cannot be loaded ({err}): export it again") from err
        self.session._model_bytes = None  # noqa: SLF001  kept for starting anew with other providers, of which there are none
        self._check_tensors(self.session.get_inputs(), manifest.inputs)
        self._check_tensors(self.session.get_outputs(), manifest.outputs)
        self.output_names = [t.name for t in manifest.outputs]

    def _check_tensors(self, found: Sequence[ort.NodeArg], expected: Sequence[Tensor]) -> None:
        """A dimension that the graph leaves open fits any number; the first, the batch, must be open."""
        shapes = {t.name: t.shape for t in found if t.type == "tensor(float)"}
        fits = len(found) == len(expected) and all(
            len(shapes.get(t.name, ())) == len(t.shape) + 1
            and not isinstance(shapes[t.name][0], int)
            and all(d == wanted or not isinstance(d, int) for d, wanted in zip(shapes[t.name][1:], t.shape, strict=True))
            for t in expected
        )
        if not fits:
            has = ", ".join(f"{t.name} {t.type} {t.shape}" for t in found)
            raise BundleError(f"{self.bundle.path}: model.onnx has tensors {has}; the manifest says {expected}: export it again")

    @property
    def has_open_horizon(self) -> bool:
        """Whether the graph runs at other steps than the one it was trained at."""
        per_step = [t.shape[1] for t in self.session.get_inputs() if t.name in ("future", "anchor", "weather")]
        return bool(per_step) and not any(isinstance(dimension, int) for dimension in per_step)

    def run(self, inputs: ModelInputs) -> tuple[Floats | None, Floats]:
        """The graph's own output, before calibration: quantiles `(n, horizon, n_levels)` or None, and mean `(n, horizon)`.

        Raises:
            BundleError: the graph fails on these inputs.
        """
        parts = []
        for first in range(0, len(inputs.origins), BATCH):
            feed = {name: array[first : first + BATCH] for name, array in inputs.arrays.items()}
            try:
                parts.append(self.session.run(self.output_names, feed))
            except Exception as err:  # onnxruntime raises a dozen unrelated types
                raise BundleError(f"{self.bundle.path}: model.onnx fails ({err}): export it again") from err
        joined = {name: np.concatenate([p[i] for p in parts]).astype(np.float64) for i, name in enumerate(self.output_names)}
        return joined.get("quantiles"), joined["mean"]

    def check_golden(self) -> float:
        """Run the bundle's worked example; returns how far it is from what it was when it was exported, relative to its largest value.

        Raises:
            BundleError: too far.
        """
        golden = self.bundle.golden
        quantiles, mean = golden_run(self, golden)
        scale = max(float(np.abs(golden.quantiles).max()), 1e-9)
        worst = max(float(np.abs(quantiles - golden.quantiles).max()), float(np.abs(mean - golden.mean).max())) / scale
        if not worst <= GOLDEN_TOLERANCE:
            raise BundleError(f"{self.bundle.path}: the golden sample differs by {worst:.2g} (allowed {GOLDEN_TOLERANCE:g}): export the bundle again")
        return worst


def golden_run(model: Model, golden: Golden) -> tuple[Floats, Floats]:
    """Published quantiles `(horizon, n_levels)` and mean `(horizon,)` of a golden sample's series."""
    plan = model.bundle.manifest.plan.at_step(golden.series.step_s)
    builder = FeatureBuilder(
        plan, golden.series, target=golden.target, zone=ZoneInfo(golden.time_zone), first_origin=golden.origin, weather=_weather_of(golden, plan)
    )
    quantiles, mean = publish(*model.run(builder.inputs(np.array([golden.origin], np.int64))), model.bundle.manifest.calibration, plan)
    return quantiles[0], mean[0]


def _weather_of(golden: Golden, plan: FeaturePlan) -> WeatherForecasts | None:
    """The golden sample's weather forecast, as if issued at its origin."""
    if golden.weather is None:
        return None
    middles = golden.origin + plan.step_s * np.arange(plan.horizon, dtype=np.int64) + plan.step_s // 2
    known = np.isfinite(golden.weather)
    return WeatherForecasts(
        WeatherForecast(role, golden.origin, middles[known[:, i]], golden.weather[known[:, i], i])
        for i, role in enumerate(plan.weather)
        if known[:, i].any()
    )


class Forecaster:
    """Forecasts one target of one house: by a bundle's model where its inputs allow, else by the rolling climatology; a state by mixed naive ones."""

    def __init__(self, house: HouseSpec, model: Model | None, *, target: str | None = None) -> None:
        """Bind a model to a house.

        Args:
            house: the house.
            model: None to forecast by the climatology alone.
            target: name of the target; the model's own, or the house's first, when None. A model that reads no sensor by its name serves any target
                of its role.

        Raises:
            ConfigError: the house lacks the model's target or a sensor that it names, or has another step than a model that cannot change it.
        """
        self.house, self.model, self.zone = house, model, house.zone
        self.plan = climatology_plan(house, target or house.targets[0].name) if model is None else _plan_for(house, model, target)
        if target not in (None, self.plan.target):
            raise ConfigError(f"the model forecasts {self.plan.target!r}, not {target!r}: give another bundle, or none")
        self.sensors = self.plan.sensors(house)
        self.target_sensor = self.sensors[0]
        self.features = tuple(house.sensor(name).feature for name in self.sensors)
        """What the series given to `forecast` must hold."""
        self.calibration = identity(self.plan.quantile_levels) if model is None else model.bundle.manifest.calibration

    @property
    def history_s(self) -> int:
        """Seconds of history that one forecast looks at."""
        return max(self.plan.history_s, climatology_plan(self.house, self.plan.target).history_s)

    @property
    def model_id(self) -> str:
        """What tells this model from every other one, in the history."""
        return CLIMATOLOGY if self.model is None else self.model.id

    @property
    def identity(self) -> dict[str, str]:
        """Name and version of the model, as published."""
        if self.model is None:
            return {"name": CLIMATOLOGY if self.plan.unit == "Wh" else MIXTURE, "version": "1"}
        return {"name": self.model.bundle.manifest.name, "version": self.model.bundle.manifest.version}

    def builder(self, series: Series, *, first_origin: int | None = None, weather: WeatherSource | None = None) -> FeatureBuilder:
        """Features of `series`, reduced to the sensors that the plan reads, for origins from `first_origin` on; `weather` tells what comes."""
        read = series.select(self.sensors)
        return FeatureBuilder(self.plan, read, target=self.target_sensor, zone=self.zone, first_origin=first_origin, weather=weather)

    def batch(self, builder: FeatureBuilder, origins: Ints) -> tuple[Floats, Floats]:
        """Published quantiles `(n, horizon, n_levels)` and mean `(n, horizon)` for many origins, whatever the quality of their inputs."""
        if self.model is None:
            anchors = builder.anchors(origins).astype(np.float64)
            return publish(anchors[..., :-1], anchors[..., -1], self.calibration, self.plan)
        parts = [publish(*self.model.run(builder.inputs(origins[i : i + BATCH])), self.calibration, self.plan) for i in range(0, len(origins), BATCH)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def forecast(self, series: Series, origin: int, *, issued_at: int, weather: WeatherSource | None = None) -> Forecast:
        """The forecast for the steps after `origin`, with its grade.

        Args:
            series: history on the house's step; values at or after `origin` are not looked at.
            origin: unix s, on the grid.
            issued_at: unix s.
            weather: what is forecast of the weather, for a model that reads it; None: nothing.

        Raises:
            DataError: nothing at all is known of the target yet.
        """
        history = series.between(origin - self.history_s, origin)
        builder = self.builder(history, first_origin=origin, weather=weather)
        known = round(builder.known_share(origin, self.target_sensor, self.history_s) * self.history_s / self.house.step_s)
        if known == 0:
            raise DataError(f"nothing is known of {self.target_sensor!r} yet: waiting for its first full step")
        grade, reasons = self.grade(builder, origin)
        if grade != "baseline":
            try:
                return self._issue(builder, origin, issued_at=issued_at, grade=grade, reasons=reasons)
            except BundleError as err:  # a fault of the model must not cost the forecast
                reasons = (str(err),)
        fallback = self if self.model is None else Forecaster(self.house, None, target=self.plan.target)
        return fallback.stand_in(history, origin, issued_at=issued_at, reasons=reasons, known=known)

    def stand_in(self, history: Series, origin: int, *, issued_at: int, reasons: tuple[str, ...], known: int) -> Forecast:
        """By the climatology, or the mean of what is known where that is less than a day or the climatology is absurd."""
        builder = self.builder(history, first_origin=origin)
        lack = DAY_S // self.house.step_s - known
        if lack > 0:
            ready = iso_utc(origin + lack * self.house.step_s)
            few = f"only {known} full steps of {self.target_sensor} are known: their mean with a wide band, {WAITING} {ready}"
            return self._issue(builder, origin, issued_at=issued_at, grade="baseline", reasons=(*reasons, few), is_last_resort=True)
        try:
            return self._issue(builder, origin, issued_at=issued_at, grade="baseline", reasons=reasons)
        except BundleError as err:
            return self._issue(builder, origin, issued_at=issued_at, grade="baseline", reasons=(*reasons, str(err)), is_last_resort=True)

    def _issue(
        self, builder: FeatureBuilder, origin: int, *, issued_at: int, grade: Grade, reasons: tuple[str, ...], is_last_resort: bool = False
    ) -> Forecast:
        quantiles, mean = self._last_resort(builder, origin) if is_last_resort else self._believed(builder, origin)
        forecast = Forecast(
            site=self.house.site,
            target=self.plan.target,
            unit=self.plan.unit,
            issued_at=issued_at,
            origin=origin,
            step_s=self.house.step_s,
            quantile_levels=self.plan.quantile_levels,
            quantiles=quantiles,
            mean=mean,
            grade=grade,
            reasons=reasons,
            model=self.identity,
            totals={},
            zone=self.zone,
        )
        return replace(forecast, totals=self.totals(builder, forecast)) if self.plan.unit == "Wh" else forecast

    def _believed(self, builder: FeatureBuilder, origin: int) -> tuple[Floats, Floats]:
        """Quantiles `(horizon, n_levels)` and mean `(horizon,)`. Raises BundleError where they are not finite or absurd."""
        quantiles, mean = self.batch(builder, np.array([origin], np.int64))
        if not (np.isfinite(quantiles).all() and np.isfinite(mean).all()):
            raise BundleError(f"the forecast of model {self.identity['name']} is not finite: export it again")
        why = absurdity(quantiles[0], mean[0], builder.series, self.house.sensor(self.target_sensor), origin)
        if why is not None:
            raise BundleError(f"the forecast of {self.identity['name']} is held back: {why}")
        return quantiles[0], mean[0]

    def _last_resort(self, builder: FeatureBuilder, origin: int) -> tuple[Floats, Floats]:
        past = builder.target[: builder.series.index(origin)]
        sensor = self.house.sensor(self.target_sensor)
        return last_resort(
            past[np.isfinite(past)].astype(np.float64), sensor, step_s=self.house.step_s, horizon=self.plan.horizon, levels=self.plan.quantile_levels
        )

    def grade(self, builder: FeatureBuilder, origin: int) -> tuple[Grade, tuple[str, ...]]:
        """How good the inputs of a forecast at `origin` are, and why they are not better."""
        return self.grades(builder, np.array([origin], np.int64))[0]

    def grades(self, builder: FeatureBuilder, origins: Ints) -> list[tuple[Grade, tuple[str, ...]]]:
        """As `grade`, at many origins."""
        if self.model is None:
            usual = "rolling climatology" if self.plan.unit == "Wh" else "mixture of naive forecasts"
            return [("baseline", (f"no model is installed: {usual}",))] * len(origins)
        shares = np.stack([builder.known_shares(origins, name, self.plan.context_s) for name in self.sensors], axis=1)
        promised = {source.role for source in self.house.weather}
        roles = [role for role in self.plan.weather if role in promised]
        lacks = [self._weather_lacks(builder, int(origin), roles) for origin in origins] if roles else [()] * len(origins)
        return [
            self._grade(row, lack, int(origin)) if lack or least < FULL_KNOWN_SHARE else ("full", ())
            for least, row, lack, origin in zip(shares.min(axis=1), shares, lacks, origins, strict=True)
        ]

    def _weather_lacks(self, builder: FeatureBuilder, origin: int, roles: Sequence[str]) -> tuple[str, ...]:
        """What is missing of the weather forecast of the roles that the house promises and the plan reads."""
        source, seconds = builder.weather or WeatherForecasts(()), self.plan.horizon * self.plan.step_s
        return tuple(lack for role in roles if (lack := source.lack(role, origin, seconds=seconds)) is not None)

    def _grade(self, shares: Floats, weather: tuple[str, ...], origin: int) -> tuple[Grade, tuple[str, ...]]:
        """By how much of the context each sensor is known for, the target's first, and what is missing of the weather forecast."""
        days = self.plan.context_s / DAY_S
        if shares[0] < MIN_KNOWN_SHARE:
            lacking = round((MIN_KNOWN_SHARE - float(shares[0])) * self.plan.context_s / self.house.step_s + 0.499)
            ready = iso_utc(origin + lacking * self.house.step_s)
            needs = f"the model needs {MIN_KNOWN_SHARE:.0%}, {WAITING} {ready} at the earliest"
            return "baseline", (f"{self.target_sensor} is known for {shares[0]:.0%} of the last {days:g} days, {needs}",)
        known = dict(zip(self.sensors, shares.tolist(), strict=True))
        missing = tuple(f"{name} is known for {share:.0%} of the last {days:g} days" for name, share in known.items() if share < FULL_KNOWN_SHARE)
        missing += weather
        return ("masked", missing) if missing else ("full", ())

    def totals(self, builder: FeatureBuilder, forecast: Forecast) -> dict[str, Total]:
        """The total of tomorrow's local date: the day after that of the last closed step.

        The part of tomorrow beyond the horizon is filled with the climatology's mean. The band is the calibration's: quantiles of actual over
        forecast totals at held-out origins, because quantiles of a total are not sums of quantiles.
        """
        tomorrow = local_date(forecast.origin - 1, self.zone) + timedelta(days=1)
        # a step belongs to the day that it begins on
        first, last = (-((forecast.origin - t) // forecast.step_s) for t in day_bounds(tomorrow, self.zone))
        horizon = len(forecast.mean)
        value = float(forecast.mean[first:last].sum())
        if last > horizon:
            _, rest = builder.climatology.filled(builder.series.index(forecast.origin), last, skip=max(first, horizon))
            value += float(np.nan_to_num(rest).sum())
        ratio = self.calibration.total_ratio if self.model is not None else _past_ratio(builder, forecast)
        low, middle, high = (value * float(np.interp(level, self.plan.quantile_levels, ratio)) for level in PUBLISHED_LEVELS)
        share = max(min(last, horizon) - first, 0) / max(last - first, 1) if self.model is not None else 0.0
        return {"tomorrow": Total(tomorrow, middle, low, high, share)}


def served_targets(house: HouseSpec, model: Model) -> tuple[str, ...]:
    """The targets of `house` that a model is for: the one that it names, or else all of its role, where it reads no sensor by its name.

    Raises:
        ConfigError: there is none.
    """
    plan = model.bundle.manifest.plan
    if not plan.is_general or any(target.name == plan.target for target in house.targets):
        return (house.target(plan.target).name,)
    found = tuple(target.name for target in house.targets if house.sensor(target.sensor).role == plan.role)
    if not found:
        raise ConfigError(f"house {house.site!r} has no {plan.role} target, which this model forecasts: add one to [[targets]], or use another model")
    return found


def _plan_for(house: HouseSpec, model: Model, target: str | None) -> FeaturePlan:
    """The model's plan at the house's step, for the house's name of the target."""
    plan = model.bundle.manifest.plan.at_step(house.step_s)
    if plan.is_general:
        plan = replace(plan, target=target or served_targets(house, model)[0])
    if plan.step_s != model.bundle.manifest.plan.step_s and not model.has_open_horizon:
        trained = model.bundle.manifest.plan.step_s
        raise ConfigError(f"this model's graph is fixed to steps of {trained} s, the house has {house.step_s} s: set step = {trained} or train again")
    return plan


def _past_ratio(builder: FeatureBuilder, forecast: Forecast) -> Floats:
    """Quantiles of past days' totals over their mean, for want of a calibration; where there are none, as wide as the forecast's steps allow."""
    row, horizon = builder.series.index(forecast.origin), len(forecast.mean)
    n_days = row // horizon
    totals = builder.target[row - n_days * horizon : row].reshape(n_days, horizon).sum(axis=1)
    known = totals[np.isfinite(totals)]
    widest = widest_ratio(forecast.quantiles, forecast.mean, forecast.quantile_levels)
    if known.size < 2 or known.mean() <= 0:
        return widest
    trust = min(known.size / ENOUGH_DAYS, 1.0)
    ratio: Floats = trust * np.quantile(known / known.mean(), forecast.quantile_levels) + (1 - trust) * widest
    return ratio


def base_forecaster(house: HouseSpec, target: str) -> Forecaster:
    """Forecasts `target` by the base model that ships, where that is made for its role, else by the climatology."""
    bundle = read_shipped_bundle()
    if bundle is None or bundle.manifest.plan.role != house.sensor(house.target(target).sensor).role:
        return Forecaster(house, None, target=target)
    return Forecaster(house, Model(bundle), target=target)


def climatology_plan(house: HouseSpec, target: str) -> FeaturePlan:
    """The plan of a forecast that needs no model: the anchor alone."""
    role = house.sensor(house.target(target).sensor).role
    horizon = DAY_S // house.step_s
    return FeaturePlan(
        target, role, house.step_s, horizon, house.step_s, horizon, ("target", *CALENDAR), (), anchored=True, quantile_levels=QUANTILE_LEVELS
    )
