"""The house as one resistance and one heat capacity (1R1C), its thermostats, and the air in its rooms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.grid import Floats, Grid, lag, wander
from demo.household import Household
from demo.weather import Weather, relative_humidity_pct, vapour_hpa

CAPACITY_J_K_M2 = 165_000.0
"""Heat capacity by floor area: the medium class of ISO 13790."""
GLAZING_SHARE = 0.035
"""Floor area times this is the area through which the sun shines in, shading included."""
PERSON_W = 80.0
COOLING_BAND_K = 0.6


@dataclass(frozen=True, eq=False)
class Indoors:
    """Mean indoor temperature and what keeping it took, by step `(n_steps,)`."""

    temperature_c: Floats
    heating_w: Floats
    """Electric power of heating, its pump included."""
    cooling_w: Floats
    """Electric power of the air conditioner."""


@dataclass(frozen=True)
class Room:
    """How a room differs from the house's mean."""

    offset_k: float
    outdoor_share: float
    """How far the room follows the outdoor temperature of the last day."""
    breath_share: float
    """Share of the people's moisture that is released here."""
    wet_hpa: float
    """What a shower or a meal for each person adds to the vapour pressure."""


LIVING = Room(0.4, 0.01, 0.6, 0.3)
BEDROOM = Room(-1.3, 0.06, 0.7, 0.0)
BATHROOM = Room(0.6, 0.03, 0.3, 5.0)


def simulate_indoors(grid: Grid, house: Household, weather: Weather, *, home: Floats, awake: Floats, appliances_w: Floats) -> Indoors:
    """Temperature and climate electricity step by step, because thermostats look at the state that they change.

    `home`, `awake` (people) and `appliances_w` are means by step, `(n_steps,)`.
    """
    area, loss_w_k, cool_set_c = house.floor_m2, house.loss_w_k, house.cool_set_c
    kelvin_per_watt = grid.step_s / (CAPACITY_J_K_M2 * area)
    max_heat_w, max_cool_w, answer_w_k = (35.0 * loss_w_k, 1500.0 + 45.0 * area, 8.0 * area)
    columns = (
        weather.temperature_c,
        GLAZING_SHARE * area * weather.solar_w_m2,
        0.85 * appliances_w + PERSON_W * home,
        _heating_set_points(grid, house, home),
        (home > 0) & house.has_cooling,
        awake > 0,
    )
    temperature, is_cooling = (float(np.clip(weather.temperature_c[:144].mean() + 4, house.heat_set_c, cool_set_c)), False)
    states, heats, colds = [], [], []
    for outdoor, sun_w, gain_w, heat_set_c, may_cool, is_awake in zip(*(column.tolist() for column in columns), strict=True):
        opens_windows = is_awake and temperature > 23.5 and outdoor < temperature - 1.0 and not is_cooling
        loss_w = loss_w_k * (2.5 if opens_windows else 1.0) * (temperature - outdoor)
        free_w = gain_w + sun_w * (0.4 if temperature > 24.0 else 1.0) - loss_w  # shutters close when it is warm
        below = heat_set_c - temperature
        heat_w = min(max(0.7 * loss_w + answer_w_k * below, 0.0), max_heat_w) if below > 0 else 0.0
        is_cooling = may_cool and temperature > cool_set_c + (-COOLING_BAND_K if is_cooling else COOLING_BAND_K)
        cold_w = min(max(free_w + answer_w_k * (temperature - cool_set_c), 400.0), max_cool_w) if is_cooling else 0.0
        states.append(temperature)
        heats.append(heat_w)
        colds.append(cold_w)
        temperature += (free_w + heat_w - cold_w) * kelvin_per_watt
    cooling_ratio = np.clip(4.3 - 0.08 * (weather.temperature_c - 25.0), 2.2, 5.5)
    return Indoors(np.array(states), np.array(heats) / _heating_ratio(house, weather.temperature_c), np.array(colds) / cooling_ratio)


def _heating_set_points(grid: Grid, house: Household, home: Floats) -> Floats:
    """Day set point while somebody is in, three kelvin less at night and with nobody in."""
    hours = (grid.local_s % 86_400) / 3600 - 0.5 * house.late_h
    is_day = (hours > 5.8) & (hours < 22.0)
    return np.where(is_day & (home > 0), house.heat_set_c, house.heat_set_c - 3.0)


def _heating_ratio(house: Household, outdoor_c: Floats) -> Floats:
    """Heat delivered for each unit of electricity."""
    if house.heating == "heat_pump":
        return np.clip(2.6 + 0.08 * outdoor_c, 1.6, 4.8)
    return np.full(len(outdoor_c), 1.0 if house.heating == "resistive" else 80.0)


def room_climate(
    rng: np.random.Generator, grid: Grid, room: Room, indoors: Indoors, *, weather: Weather, home: Floats, wet: Floats
) -> tuple[Floats, Floats]:
    """Temperature in degC and relative humidity in % of a room, `(n_steps,)` each.

    Moisture is one well-mixed volume: vapour follows the outdoor air within two hours, people and water add to it. `wet` counts showers and meals.
    """
    n, per_hour = grid.n_steps, 3600 / grid.step_s
    outdoor = lag(weather.temperature_c, 24 * per_hour)
    temperature = lag(indoors.temperature_c, 0.5 * per_hour) + room.offset_k + room.outdoor_share * (outdoor - 20.0)
    temperature = temperature + 0.08 * wander(rng, n, per_hour) + 0.02 * rng.standard_normal(n)
    source = 0.7 * room.breath_share * home + room.wet_hpa * wet
    cooled = np.where(indoors.cooling_w > 0, 0.82, 1.0)  # the air conditioner's coil dries the air
    vapour = lag((vapour_hpa(weather.dew_point_c) + 0.8) * cooled + source, 2 * per_hour)
    humidity = np.clip(relative_humidity_pct(temperature, vapour) + 0.4 * wander(rng, n, per_hour), 5.0, 99.0)
    return temperature, humidity
