import numpy as np
import pytest

from trainer.weather_response import HOURS, MEASURES, temperature_response

WARM_6H = 3
"""The first of its three channels."""
CONTEXT = 7 * HOURS


def channel(values):
    return np.asarray(values, np.float32)[None, :, None]


def masked(values):
    """With its mask; zero where unknown, as the network has it."""
    values = np.asarray(values, float)
    return channel(np.nan_to_num(values)), channel(np.isfinite(values))


def weather(seed=0):
    """Eight warm days, standardised: 20 to 35 degC."""
    days = np.random.default_rng(seed).uniform(1.2, 2.2, 8)
    return np.interp(np.arange(8 * HOURS), np.arange(8) * HOURS + 12, days) + 0.3 * np.sin(np.arange(8 * HOURS) * 2 * np.pi / HOURS)


def felt(temperature, hours):
    return np.array([temperature[max(i + 1 - hours, 0) : i + 1].mean() for i in range(len(temperature))])


def habits():
    return 0.6 + 0.3 * np.sin(np.arange(8 * HOURS) * 2 * np.pi / HOURS + 2)


def answer(load, temperature, pieces=1):
    """What the head is told of the day ahead at steps of an hour / `pieces`, `(steps, channels)`."""
    hour = np.repeat(np.eye(HOURS, dtype=np.float32), pieces, axis=0)[None]
    ahead = masked(np.repeat(temperature[CONTEXT:], pieces))
    return np.asarray(temperature_response(load=masked(load[:CONTEXT]), measured=masked(temperature[:CONTEXT]), ahead=ahead, hour=hour))[0]


@pytest.mark.parametrize("slope", [1.5, 0.7, 0.0, -0.5])
def test_what_the_weather_ahead_means_is_learnt_from_the_days_before(slope):
    temperature = weather()
    driven = slope * felt(temperature, 6)
    told = answer(3.0 + habits() + driven, temperature)
    meant = driven[CONTEXT:] - driven[:CONTEXT].reshape(-1, HOURS).mean(axis=0)
    # a ridge holds the slope back, which ever it is
    assert np.abs(told[:, WARM_6H + 1] - meant).max() <= 0.35 * np.abs(meant).max() + 1e-6
    assert told[:, WARM_6H + 2] == pytest.approx(told[:, WARM_6H + 1].mean(), abs=1e-5)


def test_habits_of_the_day_do_not_pass_for_an_answer_to_the_weather():
    temperature = weather()
    in_step_with_the_sun = 1.0 + 0.9 * np.sin(np.arange(8 * HOURS) * 2 * np.pi / HOURS)
    assert np.abs(answer(in_step_with_the_sun, temperature)[:, 1::3]).max() < 1e-5


def test_the_cold_counts_for_a_heater_and_not_for_a_cooler():
    temperature = weather() - 2.5
    told = answer(3.0 - felt(temperature, 24), temperature)
    assert len(MEASURES) * 3 == told.shape[1]
    assert np.abs(told[:, 3:9]).max() == 0
    assert np.abs(told[:, 13]).max() > 0.1


def test_it_is_the_same_at_every_step():
    temperature = weather()
    load = 1 + habits() + 0.5 * felt(temperature, 6)
    np.testing.assert_allclose(answer(load, temperature, pieces=6)[::6], answer(load, temperature), atol=1e-5)


@pytest.mark.parametrize("unknown", ["ahead", "measured", "load"])
def test_what_is_unknown_means_nothing(unknown):
    temperature = weather()
    load = 1 + habits() + felt(temperature, 6)
    if unknown == "ahead":
        temperature[CONTEXT:] = np.nan
        told = answer(load, temperature)
        assert (told[:, :3] == 0).all()
        # the means over the last hours reach into the day ahead, and so into its mean
        assert (told[-1, [3, 4, 6, 7, 9, 10, 12, 13]] == 0).all()
        assert np.isfinite(told).all()
    elif unknown == "measured":
        temperature[:CONTEXT] = np.nan
        assert (answer(load, temperature) == 0).all()
    else:
        assert (answer(np.full_like(load, np.nan), temperature) == 0).all()


def test_gaps_cost_little():
    temperature = weather()
    load = 1 + habits() + felt(temperature, 6)
    whole = answer(load, temperature)
    temperature[30:50] = np.nan
    load[90:95] = np.nan
    holed = answer(load, temperature)
    assert np.isfinite(holed).all()
    assert np.abs(holed - whole)[:, WARM_6H + 1].mean() < 0.2 * np.abs(whole[:, WARM_6H + 1]).mean()
