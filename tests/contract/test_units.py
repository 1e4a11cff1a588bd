"""Units: known values by hand, and there and back again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import ROLES
from edge_agent.contract.units import UNITS, from_canonical, to_canonical, unit_named


@pytest.mark.parametrize(
    ("value", "unit", "canonical", "expected"),
    [
        (1.5, "kWh", "Wh", 1500.0),
        (0.002, "MWh", "Wh", 2000.0),
        (7200.0, "J", "Wh", 2.0),
        (2.3, "kW", "W", 2300.0),
        (212.0, "degF", "degC", 100.0),
        (-40.0, "°F", "degC", -40.0),
        (273.15, "K", "degC", 0.0),
        (0.45, "fraction", "%", 45.0),
        (101.325, "kPa", "hPa", 1013.25),
        (101_325.0, "Pa", "hPa", 1013.25),
        (760.0, "mmHg", "hPa", 1013.25),
        (29.92, "inHg", "hPa", 1013.21),
        (36.0, "km/h", "m/s", 10.0),
        (10.0, "mph", "m/s", 4.4704),
        (3600.0, "kn", "m/s", 1852.0),
        (40_000.0, "m", "km", 40.0),
    ],
)
def test_known_values(value, unit, canonical, expected):
    assert unit_named(unit).canonical == canonical
    assert to_canonical(value, unit) == pytest.approx(expected, rel=1e-5, abs=1e-9)


@given(st.floats(-1e6, 1e6), st.sampled_from(sorted(UNITS)))
def test_conversion_there_and_back_is_identity(value, unit):
    assert from_canonical(to_canonical(value, unit), unit) == pytest.approx(value, rel=1e-12, abs=1e-9)


def test_arrays_convert_and_unknown_stays_unknown():
    np.testing.assert_allclose(to_canonical(np.array([32.0, np.nan]), "degF"), [0.0, np.nan], atol=1e-12)


def test_a_canonical_unit_is_its_own():
    for unit in UNITS.values():
        assert UNITS[unit.canonical] == (unit.canonical, 1.0, 0.0)
    assert {role.unit for role in ROLES.values()} <= {unit.canonical for unit in UNITS.values()}


def test_an_unknown_unit_is_answered_with_the_closest():
    with pytest.raises(ConfigError, match="unknown unit 'KWH': did you mean 'kWh'"):
        to_canonical(1.0, "KWH")
