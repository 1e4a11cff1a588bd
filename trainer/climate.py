"""The network for a room's temperature or humidity: it corrects the mixture of naive forecasts by how the room answers to the weather.

A house has a few months of its own data and a dozen rooms, so little is learnt: the correction is linear in some fifty differences (what the room did
at this time on the days before, how it moved of late, how the weather differs from yesterday's, also as walls filter it), with coefficients that vary
smoothly with lead time and time of day. All start at zero: the untrained network is the mixture. A hidden layer beside it gained nothing (LOG,
2026-11-26).

Everything is relative: to where the mixture begins, in units of its band. Inputs and outputs are as in `trainer.model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import keras
import numpy as np
from keras import layers, ops

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.plan import CALENDAR, FeaturePlan
from edge_agent.contract.schema import WEATHER_ROLES
from trainer.model import MAX_LOG_CORRECTION, Names, Network, assemble, forecast_loss, kept, standard
from trainer.presets import HyperParameters

PER_STEP: Final = ("future", "weather", "anchor")
DAYS: Final = 7
HOURS: Final = 24
WALLS_H: Final = (3.0, 8.0, 24.0)
"""Time constants of the filters through which a room feels the weather: air, furniture, walls."""
SLOPES_H: Final = (3, 6, 12, 24)
MIN_SIZE: Final = 0.05
"""degC or %: a band that is narrower than this is no unit."""
LEAST_WEIGHT: Final = 0.5
"""Of two hours, the nearer one must be known."""
VAPOUR: Final = ("outdoor_temperature", "outdoor_humidity")
USUAL_VAPOUR_HPA: Final = 4.0


class RoomUnits:
    """To relative units and back: from where the anchor begins, in standard deviations of a normal distribution as wide as its band."""

    def __init__(self, plan: FeaturePlan, anchor: Any) -> None:
        levels = [NormalDist().inv_cdf(plan.quantile_levels[i]) for i in (0, -1)]
        self._width = levels[1] - levels[0]
        self._level = anchor[:, :1, -1:]
        bands = (anchor[:, :, -2:-1] - anchor[:, :, :1]) / self._width
        # a layer, because an operation ops.mean would be called like the output
        self._size = ops.maximum(layers.GlobalAveragePooling1D(keepdims=True, name="size")(bands), MIN_SIZE)

    def enter(self, value: Any) -> Any:
        """Relative `value`, `(n, steps, channels)`."""
        return ops.divide(value - self._level, self._size)

    def leave(self, value: Any) -> Any:
        """Physical `value`."""
        return ops.multiply(value, self._size) + self._level

    def relative(self, inputs: dict[str, Any], actual: Any) -> Any:
        """As `enter`, for outcomes `(n, horizon)` as numpy arrays."""
        anchor = inputs["anchor"]
        size = np.maximum((anchor[:, :, -2] - anchor[:, :, 0]).mean(axis=1, keepdims=True) / self._width, MIN_SIZE)
        return (actual - anchor[:, :1, -1]) / size


@dataclass(frozen=True, eq=False)
class Known:
    """Values with zero where unknown, and whether they are known, of one shape."""

    value: Any
    known: Any

    @classmethod
    def of(cls, value: Any, *, drop: float = 0.0, drop_all: float = 0.0) -> Known:
        """`value` with NaN for unknown; in training, channels are unknown as a whole with probability `drop`, all together with `drop_all`."""
        known = ops.cast(ops.logical_not(ops.isnan(value)), "float32")
        if drop:
            known = kept(known, drop)
        if drop_all:
            known = ops.multiply(known, kept(ops.ones_like(known[:, :, :1]), drop_all))
        return cls(ops.where(ops.greater(known, 0.0), value, 0.0), known)

    def __getitem__(self, index: Any) -> Known:
        return Known(self.value[index], self.known[index])

    def minus(self, other: Known) -> Known:
        """The difference, zero where either is unknown."""
        both = self.known * other.known
        return Known((self.value - other.value) * both, both)

    def mean(self, axis: int) -> Known:
        """Over what is known along `axis`, which stays."""
        count = ops.sum(self.known, axis=axis, keepdims=True)
        known = ops.cast(ops.greater(count, 0.0), "float32")
        return Known(ops.sum(self.value, axis=axis, keepdims=True) / ops.maximum(count, 1.0), known)

    def otherwise(self, other: Any) -> Any:
        """The values, and `other` where unknown."""
        return ops.where(ops.greater(self.known, 0.0), self.value, other)


def build_climate(plan: FeaturePlan, hyper: HyperParameters) -> Network:
    """The network for a target that is a state of a room.

    Raises:
        ConfigError: a plan that this network cannot read.
    """
    _check(plan)
    inputs = plan_inputs(plan)
    units = RoomUnits(plan, inputs["anchor"])
    features = _Features(plan, inputs, units, hyper)
    members = [_forecast(features, Names(number)) for number in range(hyper.members)]
    loss = forecast_loss(plan.quantile_levels, mean_weight=hyper.mean_weight, total_weight=hyper.total_weight)
    return assemble(plan, inputs, members, units, loss=loss)


def plan_inputs(plan: FeaturePlan) -> dict[str, Any]:
    """The network's inputs by name; the number of steps is free."""
    shapes = plan.input_shapes()
    return {name: keras.Input((None, *shape[1:]) if name in PER_STEP else shape, name=name) for name, shape in shapes.items()}


def _check(plan: FeaturePlan) -> None:
    n_calendar = len(CALENDAR)
    if plan.context[: 1 + n_calendar] != ("target", *CALENDAR) or not all(name.startswith("role:") for name in plan.context[1 + n_calendar :]):
        raise ConfigError(f"the context of a room's model is target, calendar, role:ROLE … in this order, not {', '.join(plan.context)}")
    if (plan.context_step_s, plan.context_length) != (3600, DAYS * HOURS) or plan.future != (*CALENDAR, "lead") or not plan.anchored:
        raise ConfigError("a room's model reads a week by the hour, the calendar, the lead time and the anchor: train again")
    lacking = [role for role in plan.weather if f"role:{role}" not in plan.context]
    if lacking:
        raise ConfigError(f"a forecast of {lacking[0]} says nothing to a room without what was measured: add it to --covariates")


class _Features:
    """What the forecast is linear in, and what its coefficients depend on."""

    def __init__(self, plan: FeaturePlan, inputs: dict[str, Any], units: RoomUnits, hyper: HyperParameters) -> None:
        future, context = inputs["future"], inputs["context"]
        lead = future[:, :, len(CALENDAR) : len(CALENDAR) + 1]
        self._horizon_h = plan.horizon * plan.step_s / 3600
        self._lead_h = ops.max(lead, axis=0, keepdims=True) * self._horizon_h  # it is the same for all windows of a batch
        self._weights = _hour_weights(self._lead_h)
        roles = [name[5:] for name in plan.context[1 + len(CALENDAR) :]]
        target = Known.of(units.enter(context[:, :, :1]))
        around = _channels(plan, context[:, :, 1 + len(CALENDAR) :], roles)
        covariates = Known.of(around, drop=hyper.channel_dropout) if roles else None
        self.anchor = units.enter(inputs["anchor"])
        steps, told = [self.anchor[:, :, -1:], self._naive(target)], [ops.zeros_like(lead)]
        if covariates is not None:
            drivers, told = self._drivers(plan, inputs, covariates, roles, hyper)
            steps += drivers
        self.by_step = ops.concatenate(steps, axis=-1)
        """`(n, steps, n)`."""
        self.at_origin = ops.concatenate([_summary(target), *([] if covariates is None else [_summary(covariates)])], axis=-1)
        """`(n, 1, n)`."""
        self.basis = _basis(lead, future, _average(ops.concatenate(told, axis=-1)))
        """`(n, steps, n)`."""

    def _naive(self, target: Known) -> Any:
        """What the room did at this time of day on the days before, less the anchor; zero where unknown, `(n, steps, n)`."""
        now, days = target[:, -1:], [_on_day(target, back, self._weights) for back in range(1, DAYS + 1)]
        anchor = Known(self.anchor[:, :, -1:], ops.ones_like(self.anchor[:, :, -1:]))
        moved = [day.minus(target[:, -1 - HOURS * back : -HOURS * back]) for back, day in enumerate(days[:-1], 1)]
        parts = [now, days[0], days[1], days[6], _joined(days).mean(-1)]
        changes = [_joined(moved[:n]).mean(-1) for n in (1, 3, DAYS - 1)]
        return ops.concatenate([*(part.minus(anchor).value for part in parts), *(change.minus(anchor).value for change in changes)], axis=-1)

    def _drivers(
        self, plan: FeaturePlan, inputs: dict[str, Any], covariates: Known, roles: list[str], hyper: HyperParameters
    ) -> tuple[list[Any], list[Any]]:
        """What the weather does to the room, and which channels of the forecast are known."""
        outdoors = [role for role in roles if role in WEATHER_ROLES]
        places = [roles.index(role) for role in outdoors] + ([len(roles)] if _feels_vapour(plan, outdoors) else [])
        if not places:
            return [], [ops.zeros_like(inputs["future"][:, :, :1])]
        measured = _joined([covariates[:, :, place : place + 1] for place in places])
        yesterday, now = _on_day(measured, 1, self._weights), measured[:, -1:]
        if not plan.weather:
            return [yesterday.minus(now).value], [ops.zeros_like(inputs["future"][:, :, :1])]
        told = Known.of(_forecast_channels(plan, inputs["weather"], outdoors), drop=hyper.channel_dropout, drop_all=hyper.weather_dropout)
        ahead = Known(told.otherwise(yesterday.value), ops.maximum(told.known, yesterday.known))
        other = told.minus(yesterday).value
        walls = [self._felt(other, hours) for hours in WALLS_H]
        return [yesterday.minus(now).value, other, *walls, ahead.minus(now).value], [told.known]

    def _felt(self, other: Any, hours: float) -> Any:
        """The difference from yesterday's weather through a first-order filter with this time constant, whatever the step."""
        passed = self._lead_h - ops.transpose(self._lead_h, (0, 2, 1))
        response = ops.where(ops.greater(passed, -1e-3), ops.exp(-ops.maximum(passed, 0.0) / hours), 0.0)
        n_steps = ops.sum(ops.ones_like(self._lead_h), axis=1, keepdims=True)
        return ops.matmul(response, other) * (self._horizon_h / hours) / n_steps


def _average(value: Any) -> Any:
    """Over the last axis, which stays. An operation ops.mean would be called like the output."""
    return ops.sum(value, axis=-1, keepdims=True) / value.shape[-1]


def _joined(parts: Sequence[Known]) -> Known:
    return Known(ops.concatenate([part.value for part in parts], axis=-1), ops.concatenate([part.known for part in parts], axis=-1))


def _hour_weights(lead_h: Any) -> Any:
    """Weights of the hours of a day from the one before the origin's time on, `(1, steps, 1 + HOURS)`: straight lines between their middles."""
    place = ops.clip(lead_h - 0.5, -1.0, HOURS - 1.0)
    return ops.relu(1.0 - ops.abs(place - np.arange(-1.0, HOURS, dtype=np.float32)))


def _day(values: Known, back: int) -> Known:
    """The hours of `values` `(n, DAYS * HOURS, channels)` from one before the origin's time of day, `back` days ago, `(n, 1 + HOURS, channels)`."""
    first = (DAYS - back) * HOURS - 1
    whole = values[:, max(first, 0) : first + 1 + HOURS]
    if first >= 0:
        return whole
    return Known(*(ops.concatenate([ops.zeros_like(part[:, :1]), part], axis=1) for part in (whole.value, whole.known)))


def _on_day(values: Known, back: int, weights: Any) -> Known:
    """What was at times of day, `back` days before, by their `weights` of the hours."""
    hours = _day(values, back)
    weight = ops.matmul(weights, hours.known)
    known = ops.cast(ops.greater(weight, LEAST_WEIGHT), "float32")
    return Known(known * ops.matmul(weights, hours.value) / ops.maximum(weight, LEAST_WEIGHT), known)


def _summary(values: Known) -> Any:
    """How each channel moved of late: the last hour beside hours, days and the week before, and the last day beside the one before."""
    now = values[:, -1:]
    day, before, week = values[:, -HOURS:].mean(1), values[:, -2 * HOURS : -HOURS].mean(1), values.mean(1)
    moves = [*(now.minus(values[:, -1 - hours : -hours]) for hours in SLOPES_H), now.minus(day), now.minus(week), day.minus(before)]
    return _joined(moves).value


def _basis(lead: Any, future: Any, told: Any) -> Any:
    """What coefficients are smooth functions of: lead time, time of day, and how much of the weather forecast is known."""
    one, time_of_day = ops.ones_like(lead), future[:, :, :2]
    by_lead = ops.concatenate([one, lead, ops.square(lead), ops.exp(-HOURS / 2 * lead)], axis=-1)
    return ops.concatenate([by_lead, time_of_day, time_of_day * lead, by_lead * told], axis=-1)


def _feels_vapour(plan: FeaturePlan, roles: Sequence[str]) -> bool:
    return plan.role == "indoor_humidity" and set(VAPOUR) <= set(roles)


def _channels(plan: FeaturePlan, physical: Any, roles: Sequence[str]) -> Any:
    """Covariates of about the size of one; for a humidity also the outdoor air's vapour pressure, which is what comes in through the window."""
    scaled = standard(physical, roles)
    if not _feels_vapour(plan, roles):
        return scaled
    temperature, humidity = (physical[:, :, place : place + 1] for place in map(list(roles).index, VAPOUR))
    return ops.concatenate([scaled, _vapour_pressure(temperature, humidity) / USUAL_VAPOUR_HPA], axis=-1)


def _vapour_pressure(temperature: Any, humidity: Any) -> Any:
    """In hPa, by Magnus's formula over water (WMO Guide to Meteorological Instruments, annex 4.B)."""
    return humidity / 100.0 * 6.112 * ops.exp(17.62 * temperature / (243.12 + temperature))


def _forecast_channels(plan: FeaturePlan, weather: Any, outdoors: Sequence[str]) -> Any:
    """The weather forecast in the order of `outdoors`, as `_channels`; unknown where the plan reads none."""
    unknown = ops.full_like(weather[:, :, :1], np.nan)
    parts = [weather[:, :, i : i + 1] if (i := plan.weather.index(role) if role in plan.weather else -1) >= 0 else unknown for role in outdoors]
    return _channels(plan, ops.concatenate(parts, axis=-1), outdoors)


def _forecast(features: _Features, name: Names) -> Any:
    """One member's quantiles and mean in relative units, `(n, steps, n_levels + 1)`; its layers' names begin with its number."""
    basis, by_step, at_origin = features.basis, features.by_step, features.at_origin
    n_step, n_origin = by_step.shape[-1], at_origin.shape[-1]
    coefficients = layers.Dense(n_step + n_origin, use_bias=False, kernel_initializer="zeros", name=name("coefficients"))(basis)
    shift = ops.sum(coefficients[:, :, :n_step] * by_step, axis=-1, keepdims=True)
    shift = shift + ops.sum(coefficients[:, :, n_step:] * at_origin, axis=-1, keepdims=True)
    spread = layers.Dense(1, kernel_initializer="zeros", name=name("spread"))(basis)
    spread = MAX_LOG_CORRECTION * ops.tanh(spread / MAX_LOG_CORRECTION)
    mean = features.anchor[:, :, -1:]
    around = ops.multiply(features.anchor[:, :, :-1] - mean, ops.exp(spread))
    return ops.concatenate([ops.sort(mean + shift + around, axis=-1), mean + shift], axis=-1)
