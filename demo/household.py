"""What kind of house and family is simulated, and when its people are at home and awake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from demo.grid import Flags, Floats, Grid
from demo.weather import CLIMATES


@dataclass(frozen=True)
class Household:
    """Traits that stay the same over the years."""

    people: int
    floor_m2: float
    climate: str
    heating: str
    """`heat_pump`, `resistive`, or `none`: something else burns, and only a pump needs electricity."""
    has_cooling: bool
    has_electric_water: bool
    has_electric_hob: bool
    has_dryer: bool
    has_dishwasher: bool
    late_h: float
    """Hours that this family gets up and goes to bed later than others."""
    home_share: float
    """Share of working days that an adult spends at home."""
    standby_w: float
    lamps_w: float
    """Lighting in the dark for each person awake."""
    loss_w_k: float
    """Heat loss of the building for each kelvin that it is warmer than outside."""
    heat_set_c: float
    cool_set_c: float


def draw_household(rng: np.random.Generator, *, climate: str | None = None) -> Household:
    """A random household, the common kinds more often than the rare ones; in `climate`, when given."""
    anywhere = str(rng.choice(list(CLIMATES), p=[0.3, 0.3, 0.2, 0.2]))
    climate = climate or anywhere
    is_warm = climate in ("mediterranean", "subtropical")
    people = int(rng.choice([1, 2, 3, 4, 5], p=[0.25, 0.33, 0.17, 0.18, 0.07]))
    floor_m2 = float(np.clip(rng.normal(45 + 25 * people, 20), 35, 260))
    heating = str(rng.choice(["heat_pump", "resistive", "none"], p=[0.4, 0.2, 0.4] if is_warm else [0.25, 0.1, 0.65]))
    return Household(
        people=people,
        floor_m2=floor_m2,
        climate=climate,
        heating=heating,
        has_cooling=bool(rng.random() < (0.85 if is_warm else 0.2)),
        has_electric_water=bool(rng.random() < 0.35),
        has_electric_hob=bool(rng.random() < 0.7),
        has_dryer=bool(rng.random() < 0.4),
        has_dishwasher=bool(rng.random() < 0.35 + 0.12 * people),
        late_h=float(rng.normal(0.0, 0.8) + 2.5 * (rng.random() < 0.12)),
        home_share=float(rng.choice([0.05, 0.4, 0.95], p=[0.5, 0.3, 0.2])),
        standby_w=float(rng.uniform(25, 70) + 0.5 * floor_m2 * rng.random()),
        lamps_w=float(rng.uniform(15, 70)),
        loss_w_k=floor_m2 * float(rng.uniform(0.8, 1.4 if heating == "resistive" else 2.2)),  # who heats so dearly insulates
        heat_set_c=float(rng.normal(20.6, 0.7)),
        cool_set_c=float(rng.normal(24.8, 0.8)),
    )


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Who is where: by minute `(n_minutes,)`, and by local day of `Grid.dates` `(n_dates,)`."""

    home: Floats
    """People in the house, guests included."""
    awake: Floats
    """Those of them who are awake."""
    is_away: Flags
    """Days on which nobody sleeps here: holidays."""
    wake_h: Floats
    """When the first one gets up, local hours."""
    back_h: Floats
    """When the last one is home for the evening."""
    dinner_h: Floats
    bed_h: Floats
    """When the last one goes to bed; may pass 24."""
    guests: Floats
    """Guests in the evening."""


@dataclass(frozen=True, eq=False)
class _Days:
    """Each person's day, local hours `(n_dates, people)`."""

    wake: Floats
    leave: Floats
    back: Floats
    bed: Floats
    out_late: Flags
    """Spends the evening elsewhere."""


OUT_FROM_H = 19.3
VISIT_H = (17.5, 22.2)


def simulate_occupancy(rng: np.random.Generator, grid: Grid, house: Household) -> Occupancy:
    """Days of `house.people` people: working days and days off, errands, evenings out, guests, weekends away and holidays."""
    n_days = len(grid.dates)
    days = _plan_days(rng, grid, house)
    is_away = _holidays(rng, n_days)
    guests = np.where((rng.random(n_days) < np.where(grid.is_free, 0.2, 0.05)) & ~is_away, rng.integers(1, 5, n_days), 0).astype(np.float64)
    home, awake = _count_people(grid, days, is_away=is_away)
    visits = grid.spans(grid.dates, np.full(n_days, VISIT_H[0]), np.full(n_days, VISIT_H[1]), guests)
    evening = np.where(days.out_late, 0.0, days.back).max(axis=1)
    return Occupancy(
        home=home + visits,
        awake=awake + visits,
        is_away=is_away,
        wake_h=days.wake.min(axis=1),
        back_h=days.back.max(axis=1),
        dinner_h=np.clip(evening + 0.7, 17.6, 21.5) + 0.4 * house.late_h + rng.normal(0, 0.25, n_days),
        bed_h=days.bed.max(axis=1),
        guests=guests,
    )


def _plan_days(rng: np.random.Generator, grid: Grid, house: Household) -> _Days:
    shape = (len(grid.dates), house.people)
    free, is_adult = grid.is_free[:, None], np.arange(house.people) < 2
    free_tomorrow = np.roll(free, -1, axis=0)
    wake = 6.7 + 0.5 * house.late_h + rng.normal(0, 0.5, house.people) + rng.normal(0, 0.25, shape) + free * rng.uniform(0.8, 2.0, shape)
    leave = wake + np.where(is_adult, 1.1, 0.9) + rng.normal(0, 0.15, shape)
    usual_length = np.where(is_adult, rng.normal(9.3, 1.2, house.people), 7.2)
    back = leave + np.maximum(usual_length + rng.normal(0, 0.5, shape), 2.0)
    stays = free | (rng.random(shape) < np.where(is_adult, house.home_share, 0.06))  # children: ill, or no school
    errand = rng.uniform(9.5, 16.0, shape) + 0.4 * house.late_h
    leave = np.where(stays, errand, leave)
    back = np.where(stays, errand + rng.exponential(1.6, shape) * (rng.random(shape) < 0.75), back)
    out_late = is_adult & (rng.random(shape) < np.where(free | free_tomorrow, 0.22, 0.07))
    bed = 22.8 + house.late_h + rng.normal(0, 0.5, shape) - np.where(is_adult, 0.0, 1.6) + 0.7 * free_tomorrow
    bed = np.where(out_late, np.maximum(bed, 23.8 + rng.exponential(0.5, shape)), bed)
    return _Days(wake, np.maximum(leave, wake), np.minimum(back, bed - 0.5), bed, out_late)


def _count_people(grid: Grid, days: _Days, *, is_away: Flags) -> tuple[Floats, Floats]:
    """People at home and people at home and awake, without guests, `(n_minutes,)` each."""
    dates, here = (grid.dates[:, None], np.where(is_away, 0.0, 1.0)[:, None] * np.ones(days.wake.shape))
    n_dates, people = days.wake.shape
    evening_end = np.where(days.out_late, np.clip(days.back, OUT_FROM_H, None), days.bed)
    home = people - people * grid.spans(grid.dates, np.zeros(n_dates), np.full(n_dates, 24.0), is_away.astype(np.float64))
    home = home - grid.spans(dates, days.leave, days.back, here) - grid.spans(dates, evening_end, days.bed, here * days.out_late)
    awake = grid.spans(dates, days.wake, days.leave, here) + grid.spans(dates, days.back, evening_end, here)
    home = np.maximum(home, 0.0)  # who left for a journey at midnight may have been out until later
    return home, np.minimum(awake, home)


def _holidays(rng: np.random.Generator, n_days: int) -> Flags:
    """Days away: about two journeys of a week or two and four short ones a year."""
    away = np.zeros(n_days, dtype=np.bool_)
    for journeys, low, high in ((2.0, 6, 15), (4.0, 2, 4)):
        for _ in range(rng.poisson(journeys * n_days / 365)):
            first = int(rng.integers(0, n_days))
            away[first : first + int(rng.integers(low, high))] = True
    return away
