"""A simulated house: people, appliances, building and weather, as the sensors described in `demo/house.toml` see them."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Final

import numpy as np

from demo.appliances import simulate_appliances
from demo.building import BATHROOM, BEDROOM, LIVING, room_climate, simulate_indoors
from demo.grid import Floats, Grid
from demo.household import Household, draw_household, simulate_occupancy
from demo.weather import CLIMATES, simulate_weather
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series

HOUSE_TOML: Final = Path(__file__).with_name("house.toml")
START: Final = 1_777_845_600
"""2026-05-04 00:00 in Berlin, a Monday: ten weeks from here end in the cooling season."""
DECIMALS: Final = {"energy": 4, "state": 2}
"""Decimal places of simulated values: a tenth of a milliwatt-hour, and what climate sensors send."""


def simulated_house() -> HouseSpec:
    """The description that fits every simulated house."""
    return read_house(HOUSE_TOML)


def simulate_house(seed: int, days: int, *, start: int = START, step_s: int = 600, household: Household | None = None) -> Series:
    """Sensors of one house, with no gaps; the same arguments give the same values.

    Args:
        seed: decides household, weather and everything people do.
        days: length in days of 24 hours.
        start: unix s of the first step, a multiple of 3600.
        step_s: one of the steps that a house may have.
        household: the traits to use in place of drawn ones.

    Returns:
        A series with the features of `simulated_house()`.
    """
    rng = np.random.default_rng(seed)
    drawn = draw_household(rng)
    grid = Grid(start, days, 300 if step_s in (300, 900) else 600, simulated_house().zone)
    features = simulated_house().features
    columns = _sensor_values(rng, grid, household or drawn)
    values = np.stack([np.round(columns[f.name], DECIMALS[f.kind]) for f in features], axis=1)
    return Series(start, grid.step_s, features, values).resample(step_s)


def _sensor_values(rng: np.random.Generator, grid: Grid, house: Household) -> dict[str, Floats]:
    """Values by sensor name, `(n_steps,)` each, energy in Wh of the step."""
    weather = simulate_weather(rng, grid, CLIMATES[house.climate])
    occupancy = simulate_occupancy(rng, grid, house)
    appliances = simulate_appliances(rng, grid, house, occupancy, solar_w_m2=weather.solar_w_m2)
    home, awake, appliances_w = (grid.steps(occupancy.home), grid.steps(occupancy.awake), grid.steps(appliances))
    indoors = simulate_indoors(grid, house, weather, home=home, awake=awake, appliances_w=appliances_w)
    climate_w = indoors.heating_w + indoors.cooling_w
    wet = np.minimum(np.maximum(appliances_w - 1.5 * np.median(appliances_w), 0.0) / 2000.0, 1.5) * (awake > 0)
    columns = {
        "energy": (appliances_w + climate_w) * grid.step_s / 3600,
        "climate_energy": climate_w * grid.step_s / 3600,
        "outdoor_temperature": weather.temperature_c,
        "outdoor_humidity": weather.humidity_pct,
        "pressure": weather.pressure_hpa,
        "wind_speed": weather.wind_m_s,
        "solar_radiation": weather.solar_w_m2,
    }
    for name, room in (("living", LIVING), ("bedroom", BEDROOM), ("bathroom", BATHROOM)):
        air = room_climate(rng, grid, room, indoors, weather=weather, home=home, wet=wet)
        columns[f"{name}_temperature"], columns[f"{name}_humidity"] = air
    return columns


def write_csv(series: Series, path: Path) -> None:
    """Write `series` as a table with UTC times, canonical units, and every digit of every value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["time", *series.names])
        for time, row in zip(series.times.tolist(), series.values.tolist(), strict=True):
            writer.writerow([iso_utc(time), *("" if math.isnan(value) else repr(value) for value in row)])
