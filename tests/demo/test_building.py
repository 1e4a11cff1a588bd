from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from demo.building import CAPACITY_J_K_M2, LIVING, room_climate, simulate_indoors
from demo.grid import Grid
from demo.household import draw_household
from demo.weather import CLIMATES, Weather, relative_humidity_pct, simulate_weather, vapour_hpa

GRID = Grid(1_767_225_600, 30, 600, ZoneInfo("UTC"))
HOUSE = replace(draw_household(np.random.default_rng(0)), floor_m2=100.0, loss_w_k=200.0, heating="resistive", has_cooling=False, heat_set_c=20.0)
NOBODY = np.zeros(GRID.n_steps)


def constant_weather(outdoor_c, sun_w_m2=0.0):
    full = np.ones(GRID.n_steps)
    return Weather(outdoor_c * full, 50 * full, (outdoor_c - 5) * full, sun_w_m2 * full, full, 1000 * full)


def test_house_without_heating_cools_down_with_its_time_constant():
    indoors = simulate_indoors(
        GRID, replace(HOUSE, heat_set_c=-50.0, cool_set_c=20.0), constant_weather(0.0), home=NOBODY, awake=NOBODY, appliances_w=NOBODY
    )
    constant_steps = CAPACITY_J_K_M2 * 100 / 200 / 600  # capacity over loss, in steps: about 23 hours
    after = indoors.temperature_c[round(constant_steps)] / indoors.temperature_c[0]
    assert after == pytest.approx(np.exp(-1), rel=0.02)


def test_electric_heaters_make_up_for_the_loss():
    indoors = simulate_indoors(GRID, HOUSE, constant_weather(0.0), home=NOBODY, awake=NOBODY, appliances_w=NOBODY + 100.0)
    # 100 W of appliances warm the house by 85 W; nobody is at home, so the set point is 17 degC
    assert indoors.heating_w[-1] == pytest.approx(200.0 * indoors.temperature_c[-1] - 85.0, rel=1e-3)
    assert 15.0 < indoors.temperature_c[-1] < 17.0


def test_heat_pump_takes_a_fraction_of_the_electricity():
    given = {"home": NOBODY, "awake": NOBODY, "appliances_w": NOBODY}
    heaters = simulate_indoors(GRID, HOUSE, constant_weather(5.0), **given)
    pump = simulate_indoors(GRID, replace(HOUSE, heating="heat_pump"), constant_weather(5.0), **given)
    np.testing.assert_allclose(heaters.heating_w, 3.0 * pump.heating_w)  # 2.6 + 0.08 * 5
    np.testing.assert_array_equal(heaters.temperature_c, pump.temperature_c)


def test_air_conditioner_runs_only_while_somebody_is_in():
    home = np.where(np.arange(GRID.n_steps) % 144 < 72, 2.0, 0.0)
    indoors = simulate_indoors(
        GRID, replace(HOUSE, has_cooling=True, cool_set_c=24.0), constant_weather(30.0, 300.0), home=home, awake=home, appliances_w=NOBODY
    )
    assert (indoors.cooling_w[home == 0] == 0).all()
    assert (indoors.cooling_w[home > 0] > 0).mean() > 0.9


def test_humidity_follows_from_temperature_and_dew_point():
    # air of 20 degC with a dew point of 9.3 degC is at 50 % (psychrometric table)
    assert relative_humidity_pct(np.array([20.0]), vapour_hpa(np.array([9.27])))[0] == pytest.approx(50.0, abs=0.2)
    assert vapour_hpa(np.array([20.0]))[0] == pytest.approx(23.4, abs=0.1)


def test_people_and_showers_make_a_room_moister():
    indoors = simulate_indoors(GRID, HOUSE, constant_weather(10.0), home=NOBODY, awake=NOBODY, appliances_w=NOBODY)

    def humidity(home, wet):
        return room_climate(np.random.default_rng(0), GRID, LIVING, indoors, weather=constant_weather(10.0), home=NOBODY + home, wet=NOBODY + wet)[
            1
        ].mean()

    assert humidity(0, 0) < humidity(3, 0) < humidity(3, 1)


@pytest.mark.parametrize("name", list(CLIMATES))
def test_weather_of_a_year_is_like_its_climate(name):
    year = Grid(1_767_225_600, 365, 3600, ZoneInfo("Europe/Berlin"))
    weather = simulate_weather(np.random.default_rng(1), year, CLIMATES[name])
    assert abs(weather.temperature_c.mean() - CLIMATES[name].mean_c) < 3.0
    assert -30 < weather.temperature_c.min() < weather.temperature_c.max() < 47
    assert 600 < weather.solar_w_m2.max() < 1000
    assert (weather.dew_point_c <= weather.temperature_c).all()
