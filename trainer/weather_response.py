"""How a home's use followed the outdoor temperature over the last days, and what a forecast of the temperature makes of that.

A head that only sees tomorrow's temperature cannot tell what it means for this home: that takes a product of the forecast and of what the home did in
other weather. So the graph fits a line for each window, inside itself, and the head is told what the line says (LOG, 2026-11-26).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from keras import layers, ops

HOURS: Final = 24
WARM: Final = 0.9
"""19 degC, standardised: what is above is what a cooler answers to."""
COOL: Final = 0.7
"""17 degC, standardised: what is below is what a heater answers to."""
MEASURES: Final = ((1, "as it is"), (6, "warm"), (24, "warm"), (6, "cold"), (24, "cold"))
"""What use may follow: the temperature now, and how far its mean over the last hours lies in the warm or in the cold: walls and rooms answer late."""
MOST_LOAD: Final = 8.0
"""In shares of the home's mean; what is above counts as this, so that one kettle does not decide a slope."""
RIDGE: Final = 3.0
"""Added to the sum of squared deviations (of 168 hours, in units of 10 degC each): where the weather hardly changed, the slope stays near zero."""
MOST_SLOPE: Final = 5.0
"""Shares of the home's mean for 10 degC."""

Masked = Sequence[Any]
"""A value, zero where unknown, and whether it is known, `(n, steps, 1)` both."""


def temperature_response(*, load: Masked, measured: Masked, ahead: Masked, hour: Any) -> Any:
    """By how much the forecast temperature differs from the last days' at this hour, and the use that this means, for each step of the horizon.

    For each of MEASURES a line is fitted to the deviations of use and measure from their means at the same hour of the day, so that the habits of the
    day do not pass for an answer to the weather. The context ends where the horizon begins, so its hours are the horizon's.

    Args:
        load: hourly use in shares of the home's mean, `(n, context_length, 1)`, whole days.
        measured: outdoor temperature at the same hours, standardised.
        ahead: its forecast at the steps of the horizon.
        hour: which hour of the horizon each step lies in, `(n, steps, HOURS)`, ones and zeros.

    Returns:
        `(n, steps, 3 * len(MEASURES))`: deviation of the measure, use that it means, and that use's mean over the horizon; zero where unknown.
    """
    n_context = measured[0].shape[1]
    value, known = _hourly(ahead, hour)
    temperature = ops.concatenate([measured[0], value], axis=1)
    known = ops.concatenate([measured[1], known], axis=1)
    use = _by_day(ops.minimum(load[0], MOST_LOAD), n_context)
    found = []
    for hours, which in MEASURES:
        felt, felt_known = _trailing(temperature, known, hours)
        felt = ops.multiply(_measure(felt, which), felt_known)
        past = _by_day(felt, n_context)
        both = ops.multiply(_by_day(felt_known, n_context), _by_day(load[1], n_context))
        usual = _usual(past, both)
        slope = _slope(past - usual, use - _usual(use, both), both)
        is_known = ops.multiply(felt_known[:, n_context:, 0], ops.max(both, axis=1))
        deviation = ops.multiply(felt[:, n_context:, 0] - usual[:, 0], is_known)
        means = ops.multiply(deviation, slope)
        found += [deviation, means, ops.add(ops.zeros_like(means), ops.sum(means, axis=1, keepdims=True) / HOURS)]
    return ops.matmul(hour, ops.stack(found, axis=-1))


def _measure(felt: Any, which: str) -> Any:
    """The temperature as it is, or how far it lies in the warm or in the cold."""
    if which == "warm":
        return ops.maximum(felt - WARM, 0.0)
    return ops.maximum(COOL - felt, 0.0) if which == "cold" else felt


def _usual(value: Any, known: Any) -> Any:
    """The mean over the days at each hour, `(n, 1, HOURS)`."""
    return ops.divide(ops.sum(ops.multiply(value, known), axis=1, keepdims=True), ops.maximum(ops.sum(known, axis=1, keepdims=True), 1.0))


def _slope(deviation: Any, use: Any, both: Any) -> Any:
    """Use for each unit of the measure, `(n, 1)`, from deviations of both, `(n, days, HOURS)`, where both are known."""
    x, y = ops.multiply(deviation, both), ops.multiply(use, both)
    slope = ops.divide(ops.sum(x * y, axis=(1, 2)), ops.sum(x * x, axis=(1, 2)) + RIDGE)
    return ops.expand_dims(ops.clip(slope, -MOST_SLOPE, MOST_SLOPE), -1)


def _hourly(ahead: Masked, hour: Any) -> Masked:
    """The mean over the known steps of each hour, `(n, HOURS, 1)`."""
    to_hours = ops.transpose(hour, (0, 2, 1))
    n_known = ops.matmul(to_hours, ahead[1])
    return ops.divide(ops.matmul(to_hours, ahead[0]), ops.maximum(n_known, 1.0)), ops.minimum(n_known, 1.0)


def _trailing(value: Any, known: Any, hours: int) -> Masked:
    """Means over what is known of the last `hours`; unknown where nothing is."""
    if hours == 1:
        return value, known
    pool = layers.AveragePooling1D(hours, strides=1, padding="valid")
    total, share = (pool(ops.pad(each, ((0, 0), (hours - 1, 0), (0, 0)))) for each in (value, known))
    is_known = ops.cast(ops.greater(share, 0.5 / hours), "float32")
    return ops.divide(total, ops.maximum(share, 1.0 / hours)), is_known


def _by_day(value: Any, n_context: int) -> Any:
    """The context's part of `(n, hours, 1)` as `(n, days, HOURS)`."""
    return layers.Reshape((n_context // HOURS, HOURS))(value[:, :n_context, 0])
