"""Drift, by hand: 30 days of which the last seven differ."""

from datetime import date, timedelta

import pytest

from edge_agent.drift import drift
from edge_agent.scores import DayScore

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
    assert drift("energy", days(crps=9.0)) == []
    assert drift("energy", []) == []


def test_a_week_worse_than_a_plain_average_is_told():
    (text,) = drift("energy", days())  # 30 days: 1 - (23 x 8 + 7 x 12) / 300 = 10.7 %
    assert text.startswith(
        "energy: forecasts of the last 7 days were 20% worse than a plain average, over 30 days 11% better: neither inputs nor level"
    )


def test_a_model_that_was_never_better_does_not_drift():
    assert drift("energy", days(crps=20.0)) == []  # 30 days: -8 %


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"full": 0.4}, "only 40% of them had all inputs (100% before): look for silent sensors"),
        ({"used": 130.0}, "the mean of what is measured is 30% higher than before"),
        ({"used": 60.0}, "the mean of what is measured is 37% lower than before"),
    ],
)
def test_the_cause_is_named(change, text):
    assert text in drift("energy", days(**change))[0]


def test_a_level_never_seen_before_is_told_even_where_forecasts_are_good():
    (text,) = drift("energy", days(crps=8.0, used=150.0))
    assert "what is measured has changed: 155.7 a step in the mean of 7 days, 104.8 (100 to 110) in the weeks before" in text


def test_few_days_tell_nothing():
    assert drift("energy", days(month=13)) == []
