"""The networks: functional Keras models made of layers and `keras.ops` only, so that `keras.models.load_model` needs nothing from here.

Inputs are physical units with NaN for unknown. Masks, scaling, monotone quantiles, zero as the floor of energy and the way back to physical units
all lie inside the graph. The LSTM is the fused kind everywhere (tanh and sigmoid, no masking, no recurrent dropout): cuDNN on a GPU, one LSTM node
in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import keras
import numpy as np
from keras import layers, ops

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.plan import CALENDAR, FeaturePlan
from edge_agent.contract.schema import ROLES
from trainer.batches import Relative
from trainer.presets import HyperParameters
from trainer.weather_response import HOURS, temperature_response
from trainer.windows import Span

HEAD_UNITS: Final = (96, 64)
HEAD_REACH: Final = (5, 5)
"""Steps of the horizon that each of the head's convolutions reads: a step and two neighbours on either side, and theirs (trials G2 and G5 in LOG)."""
MOST_BLOCKS: Final = 48
"""Into how many blocks the horizon is cut for them, a day into half hours; fewer steps are taken as they are."""
DAILY_UNITS: Final = (48, 32)
OUTDOORS: Final = "outdoor_temperature"
USUAL_SPREAD: Final = 0.4
"""Mean distance of the anchor's quantiles from its mean in a usual home, in shares of its mean use."""
MAX_LOG_CORRECTION: Final = 3.0
"""The anchor is corrected by a factor of at most exp(3) = 20: a wild weight must not overflow."""
ROLE_MEAN_AND_SPREAD: Final = {
    "indoor_temperature": (20.0, 5.0),
    "outdoor_temperature": (10.0, 10.0),
    "dew_point": (5.0, 10.0),
    "indoor_humidity": (50.0, 20.0),
    "outdoor_humidity": (70.0, 20.0),
}
"""Fixed, not learnt, so that a value means the same in every house."""
SKEWED_ROLE_SIZE: Final = {"wind_speed": 3.0, "solar_radiation": 100.0}
"""What is never negative and has rare large values enters as log(1 + value / this)."""


Weight = Callable[[Any], Any]
"""Inputs of a batch -> how much each window counts in training, `(n,)`."""


@dataclass(frozen=True, eq=False)
class Network:
    """One network in two forms that share their layers."""

    model: keras.Model
    """What is saved and exported: physical units out."""
    core: keras.Model
    """What is trained: `(n, horizon, n_levels + 1)`, quantiles then mean, in relative units. In `base` neighbours are always steps."""
    relative: Relative
    """Outcomes in the units that `core` is trained in."""
    loss: Callable[[Any, Any], Any]
    weight: Weight | None = None
    """In training; None: all count the same."""
    members: tuple[Network, ...] = ()
    """What is averaged, each with a core of its own; empty when it is one network. They are trained apart, so that they err differently."""


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation over the training span, in canonical units: by context channel, and of the target."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    target_mean: float
    target_std: float


def scaling_of(builder: FeatureBuilder, span: Span) -> Scaling:
    """Scaling of a plan of `sensor:` features, from the steps before the end of the training span only."""
    rows = slice(0, builder.series.index(span.end))
    columns = [builder.series.position(name.removeprefix("sensor:")) for name in builder.plan.context]
    pairs = [_mean_and_std(builder.series.values[rows, column]) for column in columns]
    return Scaling(*zip(*pairs, strict=True), *_mean_and_std(builder.target[rows]))


def _mean_and_std(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Of what is known; a channel that never changes, or is never known, is left as it is."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    std = float(known.std())
    return float(known.mean()), std if std > 1e-6 * max(abs(float(known.mean())), 1e-6) else 1.0


def forecast_loss(levels: tuple[float, ...], *, mean_weight: float, total_weight: float = 0.0) -> Callable[[Any, Any], Any]:
    """CRPS (twice the mean pinball loss over the levels) over the known steps, and two terms for the mean; one value a window.

    Gneiting and Raftery 2007, section 4.2. Without levels it is the mean squared error alone.

    Args:
        levels: quantile levels.
        mean_weight: of the mean's squared error.
        total_weight: of the absolute error of the mean's sum over the horizon, divided by the number of steps: a household acts on the day's total.
    """

    def loss(actual: Any, predicted: Any) -> Any:
        """`actual` `(n, horizon, 1)`, NaN unknown; `predicted` `(n, horizon, n_levels + 1)`."""
        unknown = ops.isnan(actual)
        error = ops.where(unknown, ops.zeros_like(predicted), ops.where(unknown, ops.zeros_like(actual), actual) - predicted)
        by_step = mean_weight * ops.square(error[:, :, -1])
        total = ops.abs(ops.sum(error[:, :, -1], axis=1))
        if levels:
            error = error[:, :, :-1]
            level = ops.convert_to_tensor(np.asarray(levels, np.float32))
            by_step = by_step + 2.0 * ops.mean(ops.maximum(level * error, (level - 1.0) * error), axis=-1)
        n_known = ops.sum(ops.cast(ops.logical_not(unknown), by_step.dtype), axis=(1, 2))
        return (ops.sum(by_step, axis=1) + total_weight * total) / ops.maximum(n_known, 1.0)

    return loss


def build_seed(plan: FeaturePlan, hyper: HyperParameters, scaling: Scaling) -> Network:
    """The source article's network: scaled sensors -> LSTM -> LeakyReLU -> dropout -> Dense(horizon).

    An unknown value is replaced by the training mean.
    """
    context = keras.Input((plan.context_length, len(plan.context)), name="context")
    scaled = layers.Normalization(mean=scaling.mean, variance=np.square(scaling.std), dtype="float32", name="scaling")(context)
    state = _dropped(_encode(ops.where(ops.isnan(scaled), 0.0, scaled), hyper, Names(0)), hyper)
    core = layers.Dense(plan.horizon, kernel_regularizer=_l2(hyper), dtype="float32", name="head")(state)
    unscale = layers.Normalization(
        axis=None, mean=scaling.target_mean, variance=scaling.target_std**2, invert=True, dtype="float32", name="unscaling"
    )
    mean = _output(unscale(core), plan, "mean")
    return Network(
        model=keras.Model([context], [mean], name="seed"),
        core=keras.Model([context], ops.expand_dims(core, -1), name="seed_core"),
        relative=lambda _inputs, actual: (actual - scaling.target_mean) / scaling.target_std,
        loss=forecast_loss((), mean_weight=1.0),
    )


def build_base(plan: FeaturePlan, hyper: HyperParameters) -> Network:
    """The anchor-correcting network: an LSTM reads the last days, a small head corrects the rolling climatology at each step of the horizon.

    Everything is relative to the house's own mean of 28 days, and both correction layers start at zero: the untrained network is the climatology.
    The horizon's length is free, so that one model serves houses of any step. How the level moved from day to day (`daily`) joins the LSTM's state.
    """
    context = keras.Input((plan.context_length, len(plan.context)), name="context")
    future = keras.Input((None, len(plan.future)), name="future")
    anchor = keras.Input((None, len(plan.quantile_levels) + 1), name="anchor")
    scale = keras.Input((1,), name="scale")
    daily = [keras.Input((plan.daily_length,), name="daily")] if plan.daily_length else []
    weather = [keras.Input((None, len(plan.weather)), name="weather")] if plan.weather else []
    inputs = {tensor.name: tensor for tensor in (context, future, *daily, *weather, anchor, scale)}
    units = _EnergyUnits(scale)
    sensed = _sensed(plan, inputs, units, hyper)
    members, served = zip(*[_correction(plan, inputs, sensed, units, hyper, number) for number in range(hyper.members)], strict=True)
    loss = forecast_loss(plan.quantile_levels, mean_weight=hyper.mean_weight, total_weight=hyper.total_weight)
    return assemble(plan, inputs, members, units, loss=loss, weight=steady_homes_weigh_more, served=served)


class Units(Protocol):
    """To relative units and back."""

    def leave(self, value: Any) -> Any:
        """Physical `value`, `(n, steps, channels)`."""

    def relative(self, inputs: Any, actual: Any) -> Any:
        """Outcomes `(n, horizon)`, as numpy arrays, in relative units."""


def assemble(
    plan: FeaturePlan,
    inputs: dict[str, Any],
    members: Sequence[Any],
    units: Units,
    *,
    loss: Callable[[Any, Any], Any],
    weight: Weight | None = None,
    served: Sequence[Any] | None = None,
) -> Network:
    """One network of `members`' outcomes, each `(n, steps, n_levels + 1)` in relative units: their mean. `served`: those saved, where they differ."""
    tensors = list(inputs.values())
    outcome = _average(served or members)
    quantiles, mean = outcome[:, :, :-1], outcome[:, :, -1:]
    outputs = [_output(units.leave(quantiles), plan, "quantiles"), _output(ops.squeeze(units.leave(mean), -1), plan, "mean")]
    model, core = keras.Model(tensors, outputs, name="base"), keras.Model(tensors, _average(members), name="base_core")
    cores = [keras.Model(tensors, member, name=f"base_core_{number}") for number, member in enumerate(members)]
    apart = tuple(Network(model, one, units.relative, loss, weight) for one in cores) if len(cores) > 1 else ()
    return Network(model, core, units.relative, loss, weight, apart)


def _average(members: Sequence[Any]) -> Any:
    return members[0] if len(members) == 1 else layers.Average(name="ensemble")(list(members))


def steady_homes_weigh_more(inputs: dict[str, Any]) -> Any:
    """About 1 / the climatology's own expected error: a home counts by the share of its error that is taken away, not by how erratic it is.

    Without it, spiky homes decide what is learnt. The gain is small: trials A4, D1 and D2 in LOG.
    """
    anchor = inputs["anchor"] / inputs["scale"][:, :, None]
    spread = np.abs(anchor[:, :, :-1] - anchor[:, :, -1:]).mean(axis=(1, 2))
    weight = USUAL_SPREAD / np.clip(spread, USUAL_SPREAD / 4, USUAL_SPREAD * 5)
    return np.asarray(weight, np.float32)


@dataclass(frozen=True, eq=False)
class _Sensed:
    """What the house's other sensors and a weather forecast say; all members read the same."""

    past: tuple[Any, ...] = ()
    """Channels for the LSTM."""
    ahead: tuple[Any, ...] = ()
    """Channels for the head."""


def _sensed(plan: FeaturePlan, inputs: dict[str, Any], units: _EnergyUnits, hyper: HyperParameters) -> _Sensed:
    """Each with its mask; with an outdoor temperature in both, also what the one ahead means for this home."""
    roles = [name.removeprefix("role:") for name in plan.context if name.startswith("role:")]
    context = inputs["context"]
    past = _masked(standard(context[:, :, -len(roles) :], roles), drop=hyper.channel_dropout, drop_all=hyper.weather_dropout) if roles else []
    if not plan.weather:
        return _Sensed(tuple(past))
    ahead = _masked(standard(inputs["weather"], plan.weather), drop=hyper.channel_dropout, drop_all=hyper.weather_dropout)
    if OUTDOORS not in roles or OUTDOORS not in plan.weather:
        return _Sensed(tuple(past), tuple(ahead))
    i, j = roles.index(OUTDOORS), plan.weather.index(OUTDOORS)
    response = temperature_response(
        load=_masked(units.enter(context[:, :, :1]), drop=0.0),
        measured=[part[:, :, i : i + 1] for part in past],
        ahead=[part[:, :, j : j + 1] for part in ahead],
        hour=_blocks(inputs["weather"], HOURS),
    )
    return _Sensed(tuple(past), (*ahead, response))


def _correction(
    plan: FeaturePlan, inputs: dict[str, Any], sensed: _Sensed, units: _EnergyUnits, hyper: HyperParameters, number: int
) -> tuple[Any, Any]:
    """One member's quantiles and mean in relative units, `(n, horizon, n_levels + 1)`, as trained and as served.

    Its layers' names begin with its number.
    """
    name = Names(number)
    relative_anchor = units.enter(inputs["anchor"])
    state = [_encode(ops.concatenate([*_base_context(plan, inputs["context"], units), *sensed.past], axis=-1), hyper, name)]
    if plan.daily_length:
        state.append(_level(inputs["daily"], units, hyper, name))
    features = [_base_future(plan, inputs["future"], relative_anchor, units), units.compress(relative_anchor), *sensed.ahead]
    joined = state[0] if len(state) == 1 else ops.concatenate(state, axis=-1)
    trained, served = _head(_dropped(joined, hyper), ops.concatenate(features, axis=-1), hyper, name)
    return _corrected(relative_anchor, trained, served, len(plan.quantile_levels) + 1, name)


class Names:
    """Layer names of one member: the first's are plain, so that a single network reads as one."""

    def __init__(self, number: int) -> None:
        self._prefix = f"m{number}_" if number else ""

    def __call__(self, name: str) -> str:
        return self._prefix + name


class _EnergyUnits:
    """To relative units and back: shares of the house's mean."""

    def __init__(self, scale: Any) -> None:
        self._divisor = ops.expand_dims(scale, 1)

    def enter(self, value: Any) -> Any:
        """Relative `value`, `(n, steps, channels)`."""
        return ops.divide(value, self._divisor)

    def leave(self, value: Any) -> Any:
        """Physical `value`."""
        return ops.multiply(value, self._divisor)

    def compress(self, value: Any) -> Any:
        """Energy is spiky: its logarithm (tf2onnx knows no Log1p)."""
        return ops.log(1.0 + ops.maximum(value, 0.0))

    def relative(self, inputs: Any, actual: Any) -> Any:
        """As `enter`, for outcomes `(n, horizon)` as numpy arrays."""
        return actual / inputs["scale"]


def _base_context(plan: FeaturePlan, context: Any, units: _EnergyUnits) -> list[Any]:
    """Channels for the LSTM: target, zero where unknown, whether it is known, and the calendar."""
    n_calendar = len([name for name in plan.context if name in CALENDAR])
    if plan.context[0] != "target" or not all(name.startswith("role:") for name in plan.context[1 + n_calendar :]):
        raise ConfigError(f"the context of a base model is target, calendar, role:ROLE … in this order, not {', '.join(plan.context)}")
    return [*_masked(units.compress(units.enter(context[:, :, :1])), drop=0.0), context[:, :, 1 : 1 + n_calendar]]


def standard(value: Any, roles: Sequence[str]) -> Any:
    """Channels `(n, steps, n_roles)` of physical units, brought to about the size of one."""
    mean, spread = np.array([ROLE_MEAN_AND_SPREAD.get(role, (0.0, 1.0)) for role in roles], np.float32).T
    size = np.array([SKEWED_ROLE_SIZE.get(role, np.inf) for role in roles], np.float32)
    linear = (value - mean) / spread
    if not np.isfinite(size).any():
        return linear
    skewed = ops.log(1.0 + ops.maximum(value, 0.0) / size)
    return ops.where(np.isfinite(size), skewed, linear)


def _masked(value: Any, *, drop: float, drop_all: float = 0.0) -> list[Any]:
    """The values with zero where unknown, and their mask.

    In training each channel is unknown as a whole with probability `drop`, and all of them together with `drop_all`.
    """
    known = ops.cast(ops.logical_not(ops.isnan(value)), "float32")
    if drop:
        known = kept(known, drop)
    if drop_all:
        known = ops.multiply(known, kept(ops.ones_like(known[:, :, :1]), drop_all))
    return [ops.where(ops.greater(known, 0.0), value, 0.0), known]


def kept(known: Any, drop: float) -> Any:
    """`known`, with whole channels at zero. The dropout scales what it keeps, so take only whether it kept it."""
    return ops.cast(ops.greater(layers.SpatialDropout1D(drop, dtype="float32")(known), 0.0), "float32")


def _level(daily: Any, units: _EnergyUnits, hyper: HyperParameters, named: Names) -> Any:
    """What the daily means `(n, daily_length)` say: relative, around zero at a house's usual level, zero where unknown, and the mask."""
    value = units.compress(units.enter(ops.expand_dims(daily, -1))) - float(np.log(2.0))
    hidden = layers.Flatten(name=named("daily_flat"))(ops.concatenate(_masked(value, drop=0.0), axis=-1))
    for n_units, name in zip(DAILY_UNITS, ("daily_step", "daily_state"), strict=True):
        hidden = layers.Dense(n_units, dtype=_policy(hyper), name=named(name))(hidden)
        hidden = layers.LeakyReLU(negative_slope=hyper.leaky_slope, dtype=_policy(hyper))(hidden)
    return hidden


def _base_future(plan: FeaturePlan, future: Any, relative_anchor: Any, units: _EnergyUnits) -> Any:
    """Channels for the head: calendar and lead as they are; lags relative, and where unknown the anchor's mean."""
    n_plain = len([name for name in plan.future if not name.startswith("lag")])
    if not all(name.startswith("lag") for name in plan.future[n_plain:]):
        raise ConfigError(f"the future features of a base model end with its lags, not {', '.join(plan.future)}")
    lags = units.enter(future[:, :, n_plain:])
    lags = ops.where(ops.isnan(lags), relative_anchor[:, :, -1:], lags)
    return ops.concatenate([future[:, :, :n_plain], units.compress(lags)], axis=-1)


def _head(state: Any, features: Any, hyper: HyperParameters, named: Names) -> tuple[Any, Any]:
    """One hidden vector per step of the horizon from the LSTM's state and the features of the step and its neighbours, as trained and as served.

    Served, neighbours are half hours where steps are shorter, which forecasts them better (LOG, 2026-11-26).
    """
    policy, (first, second) = _policy(hyper), HEAD_UNITS
    activated = layers.LeakyReLU(negative_slope=hyper.leaky_slope, dtype=policy)
    # Dense on [state, features] is Dense(state) + Dense(features): the state's part is computed once, not at each step
    from_state = ops.expand_dims(layers.Dense(first, use_bias=False, dtype=policy, name=named("head_state"))(state), 1)
    alone = activated(ops.add(layers.Dense(first, dtype=policy, name=named("head_step"))(features), from_state))
    around = [layers.Conv1D(first, n, padding="same", dtype=policy, name=named(f"head_around_{i}")) for i, n in enumerate(HEAD_REACH)]
    last = layers.Dense(second, dtype=policy, name=named("head_hidden"))

    def with_neighbours(hidden: Any, exists: Any = 1.0) -> Any:
        for convolution in around:
            hidden = ops.add(hidden, ops.multiply(activated(convolution(hidden)), exists))
        return hidden

    within = _blocks(alone)
    n_within = ops.expand_dims(ops.sum(within, axis=1), -1)
    blocks = ops.divide(ops.matmul(ops.transpose(within, (0, 2, 1)), alone), ops.maximum(n_within, 1.0))
    exists = ops.minimum(n_within, 1.0)  # the others stay zero, as beyond the end of the horizon
    served = ops.add(alone, ops.matmul(within, ops.subtract(with_neighbours(blocks, exists), blocks)))
    trained, served = (activated(last(hidden)) for hidden in (with_neighbours(alone), served))
    return trained, served


def _blocks(steps: Any, most: int = MOST_BLOCKS) -> Any:
    """Which block each of `steps`, `(n, steps, channels)`, lies in, `(n, steps, most)`: up to that many steps, each in its own."""
    position = ops.subtract(ops.cumsum(ops.ones_like(steps[:, :, :1], dtype="float32"), axis=1), 1.0)
    n_steps = ops.add(ops.max(position, axis=1, keepdims=True), 1.0)
    block = ops.floor(ops.divide(position, ops.maximum(ops.divide(n_steps, most), 1.0)))
    return ops.cast(ops.equal(block, np.arange(most, dtype=np.float32)), "float32")


def _corrected(anchor: Any, trained: Any, served: Any, n_outputs: int, named: Names) -> tuple[Any, Any]:
    """`anchor * exp(s) + b` for both hidden vectors, quantiles ascending, then the mean; s and b start at zero."""
    log_factor, shift = (layers.Dense(n_outputs, kernel_initializer="zeros", dtype="float32", name=named(name)) for name in ("log_factor", "shift"))

    def corrected(hidden: Any) -> Any:
        factor = MAX_LOG_CORRECTION * ops.tanh(log_factor(hidden) / MAX_LOG_CORRECTION)
        outcome = ops.add(ops.multiply(anchor, ops.exp(factor)), shift(hidden))
        return ops.concatenate([ops.sort(outcome[:, :, :-1], axis=-1), outcome[:, :, -1:]], axis=-1)

    return corrected(trained), corrected(served)


def _encode(values: Any, hyper: HyperParameters, named: Names) -> Any:
    """The LSTM's last state, `(n, units)`; it reads `patch` steps at once, which halves the time and costs nothing (see LOG)."""
    policy = _policy(hyper)
    if hyper.patch > 1:
        n_steps, n_channels = values.shape[1:]
        if n_steps % hyper.patch:
            raise ConfigError(f"--patch {hyper.patch}: a divisor of the {n_steps} steps of the context is expected")
        values = layers.Reshape((n_steps // hyper.patch, hyper.patch * n_channels), name=named("patches"))(values)
    state = layers.LSTM(hyper.units, kernel_regularizer=_l2(hyper), recurrent_regularizer=_l2(hyper), dtype=policy, name=named("lstm"))(values)
    return layers.LeakyReLU(negative_slope=hyper.leaky_slope, dtype=policy)(state)


def _dropped(state: Any, hyper: HyperParameters) -> Any:
    return layers.Dropout(hyper.dropout, dtype=_policy(hyper))(state)


def _output(value: Any, plan: FeaturePlan, name: str) -> Any:
    """The named output: energy is never below zero."""
    return layers.Activation("relu" if ROLES[plan.role].kind == "energy" else "linear", dtype="float32", name=name)(value)


def _policy(hyper: HyperParameters) -> str:
    return "mixed_float16" if hyper.mixed_precision else "float32"


def _l2(hyper: HyperParameters) -> Any:
    return keras.regularizers.L2(hyper.l2) if hyper.l2 else None
