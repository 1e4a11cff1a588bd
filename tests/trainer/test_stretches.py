"""Faults put into a simulated home, and things that homes do and that are none."""

import numpy as np
import pytest

from trainer.stretches import copied_steps, dead_energy, dead_state, lumps, runs

HOUR, HALF = 3600, 1800


def stretches(mask):
    return runs(mask)


def test_runs_are_found_at_both_ends():
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, bool)) == []


@pytest.mark.parametrize("value", [0.0, 87.3])
@pytest.mark.parametrize("step_s", [600, 3600])
def test_a_dead_week_is_found_to_the_step(lived_in, value, step_s):
    energy, per_day = lived_in(60, step_s), 86_400 // step_s
    energy[20 * per_day : 27 * per_day] = value
    assert stretches(dead_energy(energy, step_s, rests=False)) == [(20 * per_day, 27 * per_day)]


def test_a_straight_line_is_a_gap_that_somebody_filled(lived_in):
    energy = lived_in(60)
    energy[500:530] = np.linspace(energy[500], energy[529], 30)
    ((first, last),) = stretches(dead_energy(energy, HOUR, rests=False))
    assert (first, last) == (500, 530)


def test_a_living_home_has_no_dead_steps(lived_in):
    for step_s in (600, 1800, 3600):
        energy = lived_in(60, step_s)
        assert not dead_energy(energy, step_s, rests=False).any()
        assert not lumps(energy, step_s).any()
        assert not copied_steps(energy, step_s).any()


def test_a_holiday_is_not_dead(lived_in):
    energy = lived_in(60)
    energy[480:816] = np.round(90 * np.random.default_rng(1).gamma(30, 1 / 30, 336))  # two weeks of the fridge alone, in whole Wh
    assert not dead_energy(energy, HOUR, rests=False).any()


def test_storage_heating_that_is_off_by_day_is_usual(lived_in):
    energy = lived_in(60).reshape(60, 24)
    energy[:, 7:] = 0
    energy[:, :7] += 2000
    assert not dead_energy(energy.ravel(), HOUR, rests=False).any()


def test_a_weekend_house_that_is_switched_off_is_usual(lived_in):
    energy = lived_in(90)
    energy[np.arange(len(energy)) // 24 % 7 < 5] = 0
    assert not dead_energy(energy, HOUR, rests=False).any()


def test_a_coarse_meter_reads_zero_for_hours(lived_in):
    total = np.cumsum(lived_in(60, 600))
    energy = np.diff(np.floor(total / 1000)) * 1000  # counts whole kWh: nights without any
    assert runs(energy == 0)
    assert not dead_energy(energy, 600, rests=False).any()


def test_a_washing_machine_rests_for_days_and_its_meter_does_not_get_stuck():
    energy = np.zeros(24 * 60)
    energy[::100] = 900.0
    energy[300:700] = 0.0
    assert not dead_energy(energy, HOUR, rests=True).any()
    energy[300:700] = 4.2
    assert stretches(dead_energy(energy, HOUR, rests=True)) == [(300, 700)]


def test_a_stuck_thermometer_is_found_and_weather_by_the_day_is_not():
    rng = np.random.default_rng(0)
    room = np.round(20 + rng.normal(0, 0.3, 24 * 60), 1)
    assert not dead_state(room, HOUR).any()
    room[100:200] = 20.3
    assert stretches(dead_state(room, HOUR)) == [(100, 200)]
    assert not dead_state(np.repeat(rng.normal(10, 3, 60), 24), HOUR).any()


def test_the_energy_of_an_outage_in_one_step_is_masked_with_its_zeros(lived_in):
    energy = lived_in(60)
    energy[1000:1007], energy[1007] = 0.0, 5000.0
    assert stretches(lumps(energy, HOUR)) == [(1000, 1008)]


def test_the_energy_of_a_gap_in_one_step_is_masked(lived_in):
    energy = lived_in(60)
    energy[1000:1007], energy[1007] = np.nan, 5000.0
    assert stretches(lumps(energy, HOUR)) == [(1007, 1008)]


def test_one_step_far_above_all_others_is_masked(lived_in):
    energy = lived_in(60)
    energy[[200, 900]] = 20_000.0, 30_000.0
    assert stretches(lumps(energy, HOUR)) == [(200, 201), (900, 901)]


def test_a_car_that_charges_each_week_is_no_lump(lived_in):
    energy = lived_in(60)
    energy[100 :: 7 * 24] += 11_000.0
    assert not lumps(energy, HOUR).any()


@pytest.mark.parametrize("distance", [48, 7 * 24, 101])
def test_a_copied_day_is_found_at_any_distance(lived_in, distance):
    energy = lived_in(60)
    energy[900:948] = energy[900 - distance : 948 - distance]
    assert stretches(copied_steps(energy, HOUR)) == [(900, 948)]


def test_a_night_that_looks_like_another_is_no_copy():
    quiet = np.tile([24.0, 5.0], 24 * 30)
    quiet[::7] += np.random.default_rng(0).integers(0, 3, len(quiet[::7]))
    assert not copied_steps(quiet, HALF).any()
