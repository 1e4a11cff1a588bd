"""Weather for a simulated house: seasons, days, spells of a few days, and clouds that tie sun, warmth and humidity together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from demo.grid import Floats, Grid, lag, wander
from edge_agent.contract.localtime import DAY_S, utc_offset_s


@dataclass(frozen=True)
class Climate:
    """What a place's weather is like over the years."""

    latitude_deg: float
    mean_c: float
    """Mean temperature of the year."""
    season_c: float
    """Half the difference between midsummer and midwinter."""
    spell_c: float
    """Standard deviation of spells that last a few days."""
    cloud_bias: float
    """Above 0 the sky is mostly covered, below 0 mostly clear."""
    dryness_c: float
    """Usual distance of the dew point below the day's mean temperature."""
    wind_m_s: float


CLIMATES: Final[dict[str, Climate]] = {
    "maritime": Climate(52.0, 9.5, 5.0, 3.0, 0.5, 3.5, 4.2),
    "continental": Climate(49.5, 8.5, 9.0, 3.8, 0.1, 5.0, 3.0),
    "mediterranean": Climate(41.0, 15.0, 6.5, 2.4, -0.7, 7.0, 3.0),
    "subtropical": Climate(31.0, 19.0, 6.5, 2.6, -0.2, 4.5, 3.2),
}


@dataclass(frozen=True, eq=False)
class Weather:
    """Weather by step, `(n_steps,)` each."""

    temperature_c: Floats
    humidity_pct: Floats
    dew_point_c: Floats
    solar_w_m2: Floats
    """Global radiation on level ground."""
    wind_m_s: Floats
    pressure_hpa: Floats


def simulate_weather(rng: np.random.Generator, grid: Grid, climate: Climate) -> Weather:
    """Weather of `climate` on the steps of `grid`."""
    n, per_hour = grid.n_steps, 3600 / grid.step_s
    cloud = 1.0 / (1.0 + np.exp(-(climate.cloud_bias + 1.8 * wander(rng, n, 20 * per_hour) + 0.6 * wander(rng, n, 2 * per_hour))))
    solar = _clear_sky_w_m2(grid, climate.latitude_deg) * (1.0 - 0.75 * cloud**3.4)  # Kasten and Czeplak 1980
    season = -np.cos(2 * np.pi * (_day_of_year(grid) - 22) / 365.25)  # coldest around 22 January
    spells = climate.spell_c * (0.9 * wander(rng, n, 72 * per_hour) + 0.2 * wander(rng, n, 6 * per_hour))
    sun_warmth = 0.02 * lag(solar, 4 * per_hour) - 1.6 * (1.0 - cloud) * (solar <= 0)
    temperature = climate.mean_c - 3.0 + climate.season_c * season + spells + lag(sun_warmth, per_hour)
    spread = climate.dryness_c * np.exp(0.4 * wander(rng, n, 30 * per_hour))
    dew_point = np.minimum(lag(temperature, 30 * per_hour) - spread, temperature - 0.2)
    daytime_wind = 0.8 + 0.4 * np.minimum(solar / 500, 1.0)
    return Weather(
        temperature_c=temperature,
        humidity_pct=relative_humidity_pct(temperature, vapour_hpa(dew_point)),
        dew_point_c=dew_point,
        solar_w_m2=solar,
        wind_m_s=climate.wind_m_s * daytime_wind * np.exp(0.5 * wander(rng, n, 10 * per_hour) - 0.12),
        pressure_hpa=1013.0 + 8.0 * wander(rng, n, 60 * per_hour),
    )


def vapour_hpa(dew_point_c: Floats) -> Floats:
    """Vapour pressure of air with that dew point; of a temperature, the saturation pressure (Magnus formula, WMO-No. 8)."""
    return 6.112 * np.exp(17.62 * dew_point_c / (243.12 + dew_point_c))


def relative_humidity_pct(temperature_c: Floats, vapour: Floats) -> Floats:
    """Relative humidity of air at `temperature_c` that holds `vapour` hPa, 0 to 100."""
    return np.clip(100.0 * vapour / vapour_hpa(temperature_c), 0.0, 100.0)


def _day_of_year(grid: Grid) -> Floats:
    days = grid.times / DAY_S
    years = grid.times.astype("datetime64[s]").astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64)
    return np.asarray(days - years, dtype=np.float64)


def _clear_sky_w_m2(grid: Grid, latitude_deg: float) -> Floats:
    """Radiation under a clear sky from the sun's elevation (Kasten and Czeplak 1980), at the meridian of the zone's standard time."""
    declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + _day_of_year(grid)) / 365)  # Cooper 1969
    middle = grid.times + grid.step_s / 2
    solar_hour_deg = (middle + _standard_offset_s(grid)) % DAY_S / 240 - 180
    latitude = np.radians(latitude_deg)
    sine = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(np.radians(solar_hour_deg))
    return np.maximum(910.0 * sine - 30.0, 0.0)


def _standard_offset_s(grid: Grid) -> int:
    """Offset without daylight saving: the smaller of the offsets half a year apart."""
    return min(utc_offset_s(grid.start, grid.zone), utc_offset_s(grid.start + 182 * DAY_S, grid.zone))
