"""Drift, by hand: 30 days of which the last seven differ."""

from datetime import date, timedelta

import pytest

from edge_agent.drift import drift, moved_sensors
from edge_agent.history import History
from edge_agent.scores import DayScore
from edge_agent.steps import ClosedStep
from tests.edge_agent.test_table import HOUSE, START

FIRST = date(2026, 6, 1)


def days(*, crps=12.0, used=100.0, full=1.0, week=7, month=30):
    """`month` days of 8 against a climatology of 10, of which the last `week` have a CRPS of `crps`."""

    def one(i):
        is_last = i >= month - week
        level = (used if is_last else 100.0) + 10 * (i % 2)
        ours = crps if is_last else 8.0
        return DayScore(FIRST + timedelta(days=i), 1.0, 1.0, 1.0, ours, 10.0, 0.8, level, full if is_last else 1.0)

    return [one(i) for i in range(month)]


def test_all_is_well():
    assert drift("energy", days(crps=9.0), []) == []
    assert drift("energy", [], []) == []


def test_a_week_worse_than_a_plain_average_is_told():
    (text,) = drift("energy", days(), [])  # 30 days: 1 - (23 x 8 + 7 x 12) / 300 = 10.7 %
    assert text.startswith(
        "energy: forecasts of the last 7 days were 20% worse than a plain average, over 30 days 11% better: neither inputs nor level"
    )


def test_a_model_that_was_never_better_does_not_drift():
    assert drift("energy", days(crps=20.0), []) == []  # 30 days: -8 %


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"full": 0.4}, "only 40% of them had all inputs (100% before): look for silent sensors"),
        ({"used": 130.0}, "the mean of what is measured is 30% higher than before"),
        ({"used": 60.0}, "the mean of what is measured is 37% lower than before"),
    ],
)
def test_the_cause_is_named(change, text):
    assert text in drift("energy", days(**change), [])[0]


def test_a_level_never_seen_before_is_told_even_where_forecasts_are_good():
    (text,) = drift("energy", days(crps=8.0, used=150.0), [])
    assert "what is measured has changed: 155.7 a step in the mean of 7 days, 104.8 (100 to 110) in the weeks before" in text


def test_few_days_tell_nothing():
    assert drift("energy", days(month=13), []) == []


def moved(tmp_path, *, days, week):
    """Of a meter and a room of 20 and 21 degrees in turn, and `week` in the last seven days, where the meter draws nothing."""
    with History(tmp_path / "history.db") as history:
        history.bind(HOUSE)
        steps = []
        for hour in range(days * 24):
            day = hour // 24
            is_last = day >= days - 7
            steps.append(ClosedStep(START + hour * 3600, {"meter": 0.0 if is_last else 100.0, "room": week if is_last else 20.0 + day % 2}, ()))
        history.close_steps(steps, {})
        return moved_sensors(history, HOUSE.sensors, step_s=3600)


MOVED = "24 degC in the mean of 7 days, 20.48 (20 to 21) in the weeks before: was it moved, set anew, or is something beside it?"


@pytest.mark.parametrize(("week", "text"), [(24.0, MOVED), (22.5, None), (20.9, None)])  # by 7 spreads, by 4, within the days before
def test_a_sensor_that_left_its_usual_range_is_told(tmp_path, week, text):
    assert moved(tmp_path, days=30, week=week) == ({} if text is None else {"room": text})


def test_a_sensor_of_two_weeks_tells_and_one_of_less_does_not(tmp_path):
    assert "room" in moved(tmp_path, days=14, week=30.0)
    (tmp_path / "young").mkdir()
    assert moved(tmp_path / "young", days=13, week=30.0) == {}


def test_a_sensor_that_moved_is_named_as_the_cause():
    assert "better: attic, room left the usual range" in drift("energy", days(), ["room", "attic"])[0]
