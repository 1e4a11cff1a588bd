from zoneinfo import ZoneInfo

import numpy as np
import pytest

from trainer.daily import DayBook
from trainer.scores import Predictions, point_predictions

BERLIN = ZoneInfo("Europe/Berlin")
NOON = 1774609200 - 25_200 + 18_000  # 2026-03-27T09:00Z
HOUR = 3600


def book(origins, actual, forecast, *, adds_up=True, step_s=1800):
    """A day book that was given the origins in two parts; the model is a point forecast with a little band."""
    kept = DayBook("model", BERLIN, adds_up=adds_up)
    levels = (0.1, 0.5, 0.9)
    for rows in (slice(0, 5), slice(5, None)):
        quantiles = np.repeat(forecast[rows, :, None], 3, axis=2)
        own = Predictions(origins[rows], step_s, levels, quantiles, forecast[rows], actual[rows])
        naive = point_predictions(origins[rows], np.zeros_like(forecast[rows]), actual[rows], step_s=step_s, quantile_levels=levels)
        kept.add({"model": own, "naive": naive})
    return kept.close()


@pytest.fixture
def hourly():
    """Origins at each hour from 10:00 on the Friday before the clock goes forward, for 72 hours."""
    return NOON + HOUR * np.arange(72)


def test_a_day_is_the_forecast_from_its_first_hour(hourly):
    values = np.ones((72, 48))
    days, _ = book(hourly, values, values)
    # Saturday and Sunday from 00:00; Friday began at 10:00, and Monday's first origin is 00:00 summer time
    local = [np.datetime64(int(t), "s").item() for t in days.origins]
    assert [(t.day, t.hour) for t in local] == [(27, 23), (28, 23), (29, 22)]
    assert days.actual.tolist() == [48.0] * 3


def test_energy_at_another_hour_is_misplaced_and_total_right(hourly):
    actual, forecast = np.zeros((72, 48)), np.zeros((72, 48))
    actual[:, 10] = 300.0  # in the sixth hour, first half
    forecast[:, 11] = 100.0  # the same hour: not misplaced
    forecast[:, 20] = 150.0  # another hour
    days, _ = book(hourly, actual, forecast)
    assert days.errors("model").tolist() == [50.0] * 3
    assert days.misplaced["model"].tolist() == [200.0] * 3  # 150 Wh came at another time, 50 Wh more came than forecast
    assert days.misplaced["naive"].tolist() == days.errors("naive").tolist() == [300.0] * 3


def test_states_are_means(hourly):
    days, _ = book(hourly, np.full((72, 48), 21.0), np.full((72, 48), 20.0), adds_up=False)
    assert days.actual.tolist() == [21.0] * 3
    assert days.errors("model").tolist() == days.misplaced["model"].tolist() == [1.0] * 3


def test_a_day_with_a_gap_is_left_out(hourly):
    actual = np.ones((72, 48))
    actual[14:20, 5] = np.nan  # 00:00 on Saturday is the fifteenth origin
    days, _ = book(hourly, actual, actual)
    assert len(days) == 2


def test_examples_are_a_good_a_typical_and_a_bad_day():
    origins = NOON - 10 * HOUR + 86_400 * np.arange(11)
    actual = np.zeros((11, 48))
    errors = np.array([5, 3, 9, 1, 7, 0, 10, 2, 8, 4, 6.0])
    days, examples = book(origins, actual, actual + errors[:, None])
    assert days.examples() == {"good": 3, "typical": 0, "bad": 2}  # errors of 1, 5 and 9
    assert {name: float(one["model"].mean[0, 0]) for name, one in examples.items()} == {"good": 1.0, "typical": 5.0, "bad": 9.0}


def test_no_whole_day_is_no_failure(hourly):
    days, examples = book(hourly, np.full((72, 48), np.nan), np.ones((72, 48)))
    assert len(days) == 0
    assert examples == {}
