"""Electricity of everything but heating and cooling, minute by minute, from what people do."""

from __future__ import annotations

import numpy as np

from demo.grid import Flags, Floats, Grid, blocks, wander
from demo.household import Household, Occupancy


def simulate_appliances(rng: np.random.Generator, grid: Grid, house: Household, occupancy: Occupancy, *, solar_w_m2: Floats) -> Floats:
    """Power in W, `(n_minutes,)`; `solar_w_m2` by step decides when lamps are lit."""
    cold = _cold(rng, grid, 1 + (house.people > 2))
    always_on = house.standby_w * (1.0 + 0.05 * np.repeat(wander(rng, grid.n_minutes // 60, 12), 60))
    daily = _cooking(rng, grid, house, occupancy) + _cleaning(rng, grid, house, occupancy) + _water(rng, grid, house, occupancy)
    return (
        cold + always_on + daily + _evening(rng, grid, house, occupancy) + _by_hand(rng, grid, occupancy) + _lamps(house, occupancy, grid, solar_w_m2)
    )


def _cold(rng: np.random.Generator, grid: Grid, n_devices: int) -> Floats:
    """Fridges and freezers: compressor on for some twenty minutes, off for some forty."""
    watts = np.zeros(grid.n_minutes)
    for _ in range(n_devices):
        power_w, on_min, off_min = (rng.uniform(55, 110), rng.uniform(13, 26), rng.uniform(26, 48))
        n_cycles = int(grid.n_minutes / (on_min + off_min) * 1.3) + 10
        on = np.maximum(rng.normal(on_min, 2.0, n_cycles), 5.0)
        off = np.maximum(rng.normal(off_min, 4.0, n_cycles), 8.0)
        first = np.cumsum(on + off) - on - rng.uniform(0, on_min + off_min)
        watts += blocks(grid.n_minutes, first.astype(np.int64), on.astype(np.int64), power_w)
    return watts


def _cooking(rng: np.random.Generator, grid: Grid, house: Household, occupancy: Occupancy) -> Floats:
    """Breakfast, lunch on days when somebody is in, dinner: a hob or oven that switches on and off to hold its heat."""
    n_days, here = len(grid.dates), ~occupancy.is_away
    mouths = np.sqrt(house.people + occupancy.guests)
    strength = 1.0 if house.has_electric_hob else 0.12  # gas leaves the hood, a lamp and now and then the microwave
    lunch_chance = np.where(grid.is_free, 0.65, 0.55 * house.home_share)
    watts = np.zeros(grid.n_minutes)
    meals = (  # hour, chance, minutes, W
        (occupancy.wake_h + 0.4, 0.55, 8.0, 700.0),
        (12.4 + 0.5 * house.late_h + rng.normal(0, 0.4, n_days), lunch_chance, 26.0, 850.0),
        (occupancy.dinner_h, 0.85, 42.0, 950.0),
    )
    for hour, chance, minutes, power_w in meals:
        cooks = here & (rng.random(n_days) < chance)
        length = (minutes * np.exp(rng.normal(0, 0.3, n_days)) * cooks).astype(np.int64)
        watts += blocks(grid.n_minutes, grid.minute(grid.dates, hour), length, power_w * mouths * rng.uniform(0.7, 1.3, n_days))
    heats = (np.arange(grid.n_minutes) + int(rng.integers(0, 5))) % 5 < 3  # three minutes of five, at the power that keeps the mean
    return watts * strength * np.where(heats, 5 / 3, 0.0)


def _cleaning(rng: np.random.Generator, grid: Grid, house: Household, occupancy: Occupancy) -> Floats:
    """Washing machine, dryer after it, dishwasher after dinner; programmes as (minute from start, minutes, W)."""
    n_days, here = len(grid.dates), ~occupancy.is_away
    wash = ((3, 17, 1950.0), (20, 55, 180.0), (75, 12, 450.0))
    dry = ((0, 55, 1500.0), (55, 25, 700.0))
    dishes = ((5, 18, 1900.0), (23, 40, 70.0), (63, 14, 1850.0), (77, 20, 30.0))
    watts = np.zeros(grid.n_minutes)

    def run(programme: tuple[tuple[int, int, float], ...], hour: Floats, runs: Flags) -> None:
        start = grid.minute(grid.dates, hour)
        for offset, minutes, power_w in programme:
            watts[:] += blocks(grid.n_minutes, start + offset, (minutes * runs).astype(np.int64), power_w)

    laundry = here & (rng.random(n_days) < (0.6 + 0.45 * house.people) / 7 * np.where(grid.is_free, 1.7, 0.75))
    by_day = grid.is_free | (rng.random(n_days) < house.home_share)
    hour = np.where(by_day, rng.uniform(9.0, 16.0, n_days) + 0.5 * house.late_h, occupancy.back_h + rng.uniform(0.3, 1.5, n_days))
    run(wash, hour, laundry)
    run(dry, hour + 1.7, laundry & house.has_dryer & (rng.random(n_days) < 0.8))
    full = here & house.has_dishwasher & (rng.random(n_days) < np.minimum(0.2 * house.people + 0.2 + 0.1 * occupancy.guests, 0.95))
    run(dishes, occupancy.dinner_h + rng.uniform(0.8, 2.2, n_days), full)
    return watts


def _water(rng: np.random.Generator, grid: Grid, house: Household, occupancy: Occupancy) -> Floats:
    """Electric hot water: the tank heats up again after each shower."""
    if not house.has_electric_water:
        return np.zeros(grid.n_minutes)
    shape = (len(grid.dates), house.people)
    showers = ~occupancy.is_away[:, None] & (rng.random(shape) < 0.8)
    in_morning = rng.random(house.people) < 0.6  # a habit of each person
    hour = np.where(in_morning, occupancy.wake_h[:, None] + rng.uniform(0.1, 1.2, shape), occupancy.bed_h[:, None] - rng.uniform(0.5, 2.0, shape))
    length = rng.uniform(20, 40, shape) * showers
    rooms = blocks(grid.n_minutes, grid.minute(grid.dates[:, None], hour), length.astype(np.int64), 1.0)
    return 1900.0 * np.minimum(rooms, 1.6) + 18.0  # showers that overlap share one heating element; 18 W keep the tank warm


def _evening(rng: np.random.Generator, grid: Grid, house: Household, occupancy: Occupancy) -> Floats:
    """Television between dinner and bed, and computers while people are awake."""
    n_days, here = len(grid.dates), ~occupancy.is_away
    begin = occupancy.dinner_h + rng.uniform(0.2, 1.2, n_days)
    first = grid.minute(grid.dates, begin)
    length = np.maximum(grid.minute(grid.dates, occupancy.bed_h - rng.uniform(0, 0.8, n_days)) - first, 0) * (here & (rng.random(n_days) < 0.85))
    television = blocks(grid.n_minutes, first, length, float(rng.uniform(60, 160)))
    sessions = rng.random(grid.n_minutes) < 0.35 / 60 * occupancy.awake
    starts = np.flatnonzero(sessions)
    minutes = rng.exponential(70 + 60 * house.home_share, len(starts)).astype(np.int64)
    computers = blocks(grid.n_minutes, starts, minutes, rng.uniform(30, 130, len(starts)))
    return (television + computers) * (occupancy.awake > 0)


def _by_hand(rng: np.random.Generator, grid: Grid, occupancy: Occupancy) -> Floats:
    """Kettle and coffee, most of all in the morning, and now and then a hair dryer, iron or vacuum cleaner."""
    morning = 1.0 + 2.0 * np.exp(-(((grid.minute_hours - 7.3) / 1.2) ** 2))
    watts = np.zeros(grid.n_minutes)
    for per_hour, low_min, high_min, low_w, high_w in ((0.22, 2, 6, 1700, 2200), (0.06, 5, 25, 500, 1600)):
        chance = per_hour / 60 * np.sqrt(occupancy.awake) * morning
        starts = np.flatnonzero(rng.random(grid.n_minutes) < chance)
        watts += blocks(grid.n_minutes, starts, rng.integers(low_min, high_min, len(starts)), rng.uniform(low_w, high_w, len(starts)))
    return watts


def _lamps(house: Household, occupancy: Occupancy, grid: Grid, solar_w_m2: Floats) -> Floats:
    """Lamps of the people awake, the more the darker it is; a room is lit for the second person too."""
    darkness = 1.0 / (1.0 + (solar_w_m2 / 50.0) ** 2)
    return house.lamps_w * np.minimum(occupancy.awake, 4.0) ** 0.8 * grid.minutes(darkness)
