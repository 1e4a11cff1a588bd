"""When a forecast is due."""

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

from edge_agent.schedule import is_due, lifetime_s

BERLIN = ZoneInfo("Europe/Berlin")


def due_times(day, *at, zone=BERLIN, step_s=600):
    """UTC hours and minutes of the origins of a UTC day that are due."""
    start = int(datetime(*day, tzinfo=UTC).timestamp())
    origins = range(start, start + 86_400, step_s)
    return [f"{datetime.fromtimestamp(o, UTC):%H:%M}" for o in origins if is_due(o, step_s=step_s, at=at, zone=zone)]


def test_without_times_every_step_is_due():
    assert len(due_times((2026, 6, 1))) == 144


def test_local_times_of_the_day():
    assert due_times((2026, 6, 1), time(6), time(18, 30)) == ["04:00", "16:30"]
    assert due_times((2026, 12, 1), time(6), time(18, 30)) == ["05:00", "17:30"]


def test_a_time_between_steps_waits_for_the_next_one():
    assert due_times((2026, 6, 1), time(6, 5)) == ["04:10"]


def test_midnight_belongs_to_the_step_that_ends_there():
    assert due_times((2026, 6, 1), time(0)) == ["22:00"]


def test_a_time_that_spring_skips_comes_an_hour_later():
    assert due_times((2026, 3, 29), time(2, 30)) == ["01:30"]


def test_a_time_that_autumn_repeats_counts_once():
    assert due_times((2026, 10, 25), time(2, 30)) == ["00:30"]


def test_zone_with_half_hours():
    assert due_times((2026, 6, 1), time(6), zone=ZoneInfo("Asia/Kolkata"), step_s=3600) == ["01:00"]


def test_a_forecast_lives_until_its_successors_are_overdue():
    assert lifetime_s((), step_s=600) == 7200
    assert lifetime_s((), step_s=3600) == 2 * 3600 + 5400
    assert lifetime_s((time(6),), step_s=600) == 24 * 3600 + 5400
    assert lifetime_s((time(6), time(18)), step_s=600) == 12 * 3600 + 5400
