"""Canonical units, and the only conversions between units."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError, closest

Number = TypeVar("Number", float, npt.NDArray[np.float64])


class Unit(NamedTuple):
    """`canonical = value * factor + offset`."""

    canonical: str
    factor: float
    offset: float


UNITS: Final[dict[str, Unit]] = {
    "Wh": Unit("Wh", 1.0, 0.0),
    "kWh": Unit("Wh", 1e3, 0.0),
    "MWh": Unit("Wh", 1e6, 0.0),
    "J": Unit("Wh", 1 / 3600, 0.0),
    "W": Unit("W", 1.0, 0.0),
    "kW": Unit("W", 1e3, 0.0),
    "degC": Unit("degC", 1.0, 0.0),
    "°C": Unit("degC", 1.0, 0.0),
    "degF": Unit("degC", 5 / 9, -160 / 9),
    "°F": Unit("degC", 5 / 9, -160 / 9),
    "K": Unit("degC", 1.0, -273.15),
    "%": Unit("%", 1.0, 0.0),
    "fraction": Unit("%", 100.0, 0.0),
    "hPa": Unit("hPa", 1.0, 0.0),
    "mbar": Unit("hPa", 1.0, 0.0),
    "kPa": Unit("hPa", 10.0, 0.0),
    "Pa": Unit("hPa", 0.01, 0.0),
    "mmHg": Unit("hPa", 1.33322387415, 0.0),
    "inHg": Unit("hPa", 33.8638866667, 0.0),
    "m/s": Unit("m/s", 1.0, 0.0),
    "km/h": Unit("m/s", 1 / 3.6, 0.0),
    "mph": Unit("m/s", 0.44704, 0.0),
    "kn": Unit("m/s", 1852 / 3600, 0.0),
    "km": Unit("km", 1.0, 0.0),
    "m": Unit("km", 1e-3, 0.0),
    "W/m2": Unit("W/m2", 1.0, 0.0),
    "W/m²": Unit("W/m2", 1.0, 0.0),
    "lx": Unit("lx", 1.0, 0.0),
    "ppm": Unit("ppm", 1.0, 0.0),
    "1": Unit("1", 1.0, 0.0),
}


def unit_named(name: str) -> Unit:
    """The unit called `name`.

    Raises:
        ConfigError: no such unit; the message names the closest one.
    """
    try:
        return UNITS[name]
    except KeyError:
        raise ConfigError(f"unknown unit {name!r}: {closest(name, UNITS)}") from None


def to_canonical(value: Number, unit: str) -> Number:
    """`value` in `unit`, expressed in the canonical unit of the same quantity."""
    _, factor, offset = unit_named(unit)
    return value * factor + offset


def from_canonical(value: Number, unit: str) -> Number:
    """The inverse of `to_canonical`."""
    _, factor, offset = unit_named(unit)
    return (value - offset) / factor
