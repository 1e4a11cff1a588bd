"""The last resort of a sensor that does not add up; energy's is tested with the forecaster."""

import numpy as np

from edge_agent.contract.schema import parse_house
from edge_agent.plausibility import bounds, last_resort

HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 600
targets = [{name = "warmth", sensor = "room"}]
sensors = [
  {name = "room", role = "indoor_temperature", topic = "z/room", valid = [0, 40]},
  {name = "meter", role = "energy", topic = "z/meter", topic_unit = "kWh", field = "energy"},
]
""",
    source="house.toml",
)


def test_a_temperature_is_a_twentieth_of_its_range_around_the_mean():
    quantiles, mean = last_resort(np.array([20.0, 22.0]), HOUSE.sensor("room"), step_s=600, horizon=3, levels=(0.1, 0.5, 0.9))
    np.testing.assert_allclose(quantiles, np.tile([19.0, 21.0, 23.0], (3, 1)))
    np.testing.assert_array_equal(mean, [21.0, 21.0, 21.0])


def test_nothing_leaves_the_valid_range():
    quantiles, _ = last_resort(np.array([39.5]), HOUSE.sensor("room"), step_s=600, horizon=1, levels=(0.1, 0.5, 0.9))
    np.testing.assert_allclose(quantiles, [[37.5, 39.5, 40.0]])


def test_energy_is_bounded_by_mean_power_over_a_step():
    assert bounds(HOUSE.sensor("meter"), 600) == (0.0, HOUSE.sensor("meter").high / 6)
