from dataclasses import replace

import numpy as np
import pytest

from demo.household import draw_household
from demo.simulate import simulate_house, simulated_house, write_csv
from edge_agent.contract.localtime import DAY_S, local_seconds, weekdays

WINTER = 1_767_222_000
"""2026-01-01 00:00 in Berlin."""
SEEDS = range(16)


def local_hours(series):
    return local_seconds(series.times, simulated_house().zone) % DAY_S / 3600


def is_weekend(series):
    return weekdays(local_seconds(series.times, simulated_house().zone) // DAY_S) >= 5


@pytest.fixture(scope="module")
def houses():
    """Sixteen house-years on the hour, by seed."""
    return {seed: simulate_house(seed, 364, start=WINTER, step_s=3600) for seed in SEEDS}


@pytest.fixture(scope="module")
def people():
    return {seed: draw_household(np.random.default_rng(seed)) for seed in SEEDS}


@pytest.fixture
def cooled():
    """A family in a hot place, with an air conditioner and no electric heating, from May on."""
    family = replace(draw_household(np.random.default_rng(0)), people=4, climate="mediterranean", has_cooling=True, heating="none", home_share=0.4)
    return simulate_house(5, 120, household=family)


def test_series_fits_the_house_description():
    series = simulate_house(1, 3)
    assert series.features == simulated_house().features
    assert (len(series), series.step_s) == (3 * 144, 600)


def test_same_seed_gives_the_same_values():
    np.testing.assert_array_equal(simulate_house(3, 20).values, simulate_house(3, 20).values)


def test_other_seed_gives_another_house():
    assert not np.allclose(simulate_house(3, 5).column("energy"), simulate_house(4, 5).column("energy"))


@pytest.mark.parametrize("step_s", [300, 600, 900, 1800, 3600])
def test_every_step_is_served(step_s):
    series = simulate_house(2, 3, step_s=step_s)
    assert (len(series), series.step_s) == (3 * DAY_S // step_s, step_s)
    assert np.isfinite(series.values).all()


def test_values_are_known_and_within_their_sensors_range(houses):
    for series in houses.values():
        assert np.isfinite(series.values).all()
        for sensor in simulated_house().sensors:
            values = series.column(sensor.name) * (3600 / series.step_s if sensor.feature.kind == "energy" else 1)
            assert ((values >= sensor.low) & (values <= sensor.high)).all(), sensor.name


def test_climate_energy_is_part_of_energy(houses):
    for series in houses.values():
        assert (series.column("climate_energy") < series.column("energy")).all()


def test_daily_energy_without_heating_and_cooling_is_a_family_s(houses, people):
    for seed, series in houses.items():
        rest_wh = (series.column("energy") - series.column("climate_energy")).sum() / 364
        low = 1_500 + 500 * people[seed].people
        high = 4_500 + 1_800 * people[seed].people + 4_000 * people[seed].has_electric_water
        assert low < rest_wh < high, seed


def test_yearly_heating_and_cooling_follow_from_the_equipment(houses, people):
    for seed, series in houses.items():
        yearly_kwh = series.column("climate_energy").sum() / 1e3
        if people[seed].heating == "none" and not people[seed].has_cooling:
            assert yearly_kwh < 300, seed  # a pump
        if people[seed].heating == "heat_pump":
            assert 150 < yearly_kwh < 8_000, seed
        if people[seed].heating == "resistive":
            assert 500 < yearly_kwh < 20_000, seed


def test_evening_is_busier_than_night_in_every_house(houses):
    for seed, series in houses.items():
        energy, hours = series.column("energy") - series.column("climate_energy"), local_hours(series)
        assert energy[(hours >= 18) & (hours < 22)].mean() > 1.5 * energy[(hours >= 2) & (hours < 5)].mean(), seed


def test_working_family_gets_up_in_the_morning_and_leaves():
    worker = replace(draw_household(np.random.default_rng(1)), people=2, home_share=0.0, late_h=0.0, heating="none", has_cooling=False)
    series = simulate_house(1, 140, household=worker)
    energy, hours, free = series.column("energy"), local_hours(series), is_weekend(series)
    morning = energy[~free & (hours >= 6.5) & (hours < 8)].mean()
    assert morning > 1.3 * energy[~free & (hours >= 3) & (hours < 5)].mean()
    assert morning > 1.3 * energy[~free & (hours >= 10) & (hours < 14)].mean()


def test_weekend_days_differ_where_people_go_to_work(houses, people):
    at_work = [seed for seed in SEEDS if people[seed].home_share < 0.1]
    assert len(at_work) >= 4
    for seed in at_work:
        series = houses[seed]
        energy, midday = series.column("energy"), (local_hours(series) >= 10) & (local_hours(series) < 15)
        assert energy[midday & is_weekend(series)].mean() > 1.3 * energy[midday & ~is_weekend(series)].mean(), seed


def test_cooling_follows_the_outdoor_temperature(cooled):
    daily_wh = cooled.column("climate_energy").reshape(120, 144).sum(axis=1)
    daily_c = cooled.column("outdoor_temperature").reshape(120, 144).mean(axis=1)
    assert np.corrcoef(daily_wh, daily_c)[0, 1] > 0.7
    by_warmth = daily_wh[np.argsort(daily_c)]
    assert by_warmth[:24].mean() < 0.35 * by_warmth[-24:].mean()


def test_air_conditioner_holds_the_room_while_people_are_in(cooled):
    runs = cooled.column("climate_energy") > 20
    assert np.percentile(cooled.column("living_temperature")[runs], 95) < 28.0


def test_heat_pump_works_harder_on_colder_days():
    heated = replace(draw_household(np.random.default_rng(2)), climate="continental", heating="heat_pump", has_cooling=False)
    series = simulate_house(2, 70, start=WINTER, household=heated)
    daily_wh = series.column("climate_energy").reshape(70, 144).sum(axis=1)
    daily_c = series.column("outdoor_temperature").reshape(70, 144).mean(axis=1)
    assert np.corrcoef(daily_wh, daily_c)[0, 1] < -0.7


def test_summer_is_warmer_and_brighter_than_winter(houses):
    for seed, series in houses.items():
        outdoor, sun = series.column("outdoor_temperature").reshape(364, 24), series.column("solar_radiation").reshape(364, 24)
        assert outdoor[180:210].mean() > outdoor[:30].mean() + 5, seed
        assert sun[150:200].mean() > 1.5 * sun[:30].mean(), seed


def test_sun_stands_highest_near_one_by_summer_time_and_is_down_at_night():
    series = simulate_house(1, 60)
    hours, sun = local_hours(series), series.column("solar_radiation")
    by_hour = [sun[(hours >= h) & (hours < h + 1)].mean() for h in range(24)]
    assert int(np.argmax(by_hour)) in (12, 13)
    assert by_hour[1] == 0.0


def test_nobody_at_home_leaves_the_base_load():
    family = replace(draw_household(np.random.default_rng(1)), heating="none", has_cooling=False)
    daily_wh = simulate_house(11, 364, start=WINTER, household=family).column("energy").reshape(364, 144).sum(axis=1)
    assert np.percentile(daily_wh, 2) < 0.5 * np.median(daily_wh)  # journeys
    assert daily_wh.min() > 24 * 0.8 * family.standby_w


def test_habits_keep_wall_time_across_the_clock_change():
    worker = replace(draw_household(np.random.default_rng(1)), people=2, home_share=0.0, late_h=0.0, heating="none", has_cooling=False)
    change = 1_774_746_000  # 2026-03-29 01:00 UTC, when Berlin's clocks went forward
    series = simulate_house(1, 56, start=change - change % DAY_S - 28 * DAY_S, household=worker)
    energy, hours = series.column("energy"), local_hours(series)
    before = series.times < change
    quiet = [energy[part & (hours >= 4.5) & (hours < 5.5)].mean() for part in (before, ~before)]
    busy = [energy[part & (hours >= 6.5) & (hours < 7.5)].mean() for part in (before, ~before)]
    assert min(busy) > 1.3 * max(quiet)


def test_csv_holds_every_digit(tmp_path):
    series = simulate_house(1, 1)
    write_csv(series, tmp_path / "house.csv")
    lines = (tmp_path / "house.csv").read_text().splitlines()
    assert lines[0].split(",") == ["time", *series.names]
    assert lines[1].startswith("2026-05-03T22:00:00Z,")
    np.testing.assert_array_equal([[float(v) for v in line.split(",")[1:]] for line in lines[1:]], series.values)


def test_household_can_be_drawn_in_one_climate():
    drawn = {draw_household(np.random.default_rng(seed), climate="maritime").climate for seed in range(20)}
    assert drawn == {"maritime"}
