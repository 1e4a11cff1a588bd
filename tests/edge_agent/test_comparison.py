"""Two models' daily scores, by hand: where all quantiles are one number, the CRPS is how far it is from what happened."""

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.comparison import Comparison, day_pair
from edge_agent.contract.localtime import day_bounds
from edge_agent.contract.schema import parse_house
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, add_issued
from edge_agent.standing import DayPair
from edge_agent.steps import ClosedStep

HOUR, DAY = 3600, 86_400
BERLIN = ZoneInfo("Europe/Berlin")
FIRST = date(2026, 6, 2)
START = day_bounds(FIRST, BERLIN)[0]
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"}]
""",
    source="house.toml",
)
RUNNING = Comparison("energy", "old", "new", since=START - 1)


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / "history.db") as history:
        yield history


def happened(history, hours, *, first=0, value=100.0):
    """The house uses `value` Wh in each of these hours from START on."""
    history.close_steps([ClosedStep(START + HOUR * (first + hour), {"meter": value}, ()) for hour in range(hours)], {})


def issued(history, model, hour, value, *, grade="full"):
    quantiles = np.full((24, 3), value, np.float32)
    origin = START + HOUR * hour
    add_issued(history, [IssuedForecast("energy", model, "live", origin, origin + 5, HOUR, (0.1, 0.5, 0.9), quantiles, quantiles[:, 0], grade, None)])


def both(history, hours, *, old=110.0, new=95.0, **options):
    for hour in hours:
        issued(history, "old", hour, old, **options)
        issued(history, "new", hour, new, **options)


def test_a_days_pair_is_the_mean_error_of_its_origins(history):
    happened(history, 48)
    issued(history, "old", 0, 110.0)
    issued(history, "old", 12, 120.0)
    issued(history, "new", 0, 95.0)
    issued(history, "new", 12, 100.0)
    assert day_pair(history, HOUSE, RUNNING, FIRST) == DayPair(FIRST, 15.0, 2.5)


def test_only_origins_that_both_have_count(history):
    happened(history, 48)
    both(history, [0])
    issued(history, "old", 1, 900.0)
    issued(history, "another", 2, 100.0)
    issued(history, "new", 24, 100.0)  # the next day's
    assert day_pair(history, HOUSE, RUNNING, FIRST) == DayPair(FIRST, 10.0, 5.0)
    assert day_pair(history, HOUSE, RUNNING, date(2026, 6, 3)) is None


def test_what_is_not_known_counts_nowhere_and_too_little_tells_nothing(history):
    happened(history, 12)
    both(history, [0])
    assert day_pair(history, HOUSE, RUNNING, FIRST) == DayPair(FIRST, 10.0, 5.0)
    both(history, [1, 2])  # of which 11 and 10 hours are known, less than half
    assert day_pair(history, HOUSE, RUNNING, FIRST) is None


def test_where_the_climatology_stood_in_for_both_nothing_is_told(history):
    happened(history, 48)
    both(history, range(3), grade="baseline")
    assert day_pair(history, HOUSE, RUNNING, FIRST) is None
    issued(history, "new", 3, 100.0)
    issued(history, "old", 3, 105.0, grade="baseline")
    assert day_pair(history, HOUSE, RUNNING, FIRST) is None  # one origin of four
    both(history, [4, 5], old=105.0, new=100.0)
    assert day_pair(history, HOUSE, RUNNING, FIRST) == DayPair(FIRST, 5.0, 0.0)


def test_a_day_counts_when_all_its_forecasts_have_come_to_their_end(history):
    both(history, range(72))
    happened(history, 47)
    assert RUNNING.extended(history, HOUSE).pairs == ()
    happened(history, 1, first=47)
    assert RUNNING.extended(history, HOUSE).pairs == (DayPair(FIRST, 10.0, 5.0),)
    happened(history, 48, first=48)
    assert [pair.day.day for pair in RUNNING.extended(history, HOUSE).pairs] == [2, 3, 4]


def test_the_day_on_which_it_began_does_not_count(history):
    both(history, range(48))
    happened(history, 96)
    began = Comparison("energy", "old", "new", since=START + 60)
    assert [pair.day.day for pair in began.extended(history, HOUSE).pairs] == [3]


def test_an_empty_history_has_nothing_to_compare(history):
    assert RUNNING.extended(history, HOUSE) == RUNNING


def test_days_are_looked_at_once_and_remembered(history):
    both(history, range(24))
    happened(history, 48)
    first = RUNNING.extended(history, HOUSE)
    stored = first.to_json()
    history.save_state("comparison energy", stored)
    again = RUNNING.continued(history.state("comparison energy"))
    assert again == first
    with history.transaction() as db:
        db.execute("DELETE FROM issued")
    happened(history, 24, first=48)
    assert again.extended(history, HOUSE).pairs == first.pairs
    assert again.extended(history, HOUSE).looked_until == date(2026, 6, 3)


@pytest.mark.parametrize("other", [Comparison("energy", "new", "old", START - 1), Comparison("energy", "old", "new", START)])
def test_another_comparison_begins_anew(history, other):
    both(history, range(24))
    happened(history, 48)
    assert other.continued(RUNNING.extended(history, HOUSE).to_json()) == other
    assert other.continued(None) == other


def test_a_day_of_25_hours_counts_whole(history):
    autumn = date(2026, 10, 25)
    start, end = day_bounds(autumn, BERLIN)
    first = (start - START) // HOUR
    both(history, range(first, first + 25))
    issued(history, "old", first + 24, 135.0)
    happened(history, 49, first=first)
    assert end - start == 25 * HOUR
    assert day_pair(history, HOUSE, RUNNING, autumn) == DayPair(autumn, pytest.approx((24 * 10 + 35) / 25), 5.0)
