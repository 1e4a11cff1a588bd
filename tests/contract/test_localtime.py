"""Local time: 23- and 25-hour days, half-hour zones and clocks, days without midnight."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.localtime import (
    day_bounds,
    day_totals,
    iso_local,
    iso_utc,
    local_date,
    local_days,
    local_seconds,
    utc_offset_s,
    utc_offsets_s,
    weekdays,
)

HOUR = 3600
ZONES = (
    "UTC",
    "Europe/Brussels",
    "America/St_Johns",  # -3:30
    "Australia/Lord_Howe",  # +10:30, half an hour of daylight saving
    "Asia/Kathmandu",  # +5:45
    "America/Santiago",  # daylight saving begins at midnight
    "America/Asuncion",
    "Africa/Cairo",
    "America/Havana",  # midnight comes twice
    "Pacific/Apia",
)


def unix(text):
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("zone", "day", "first", "hours"),
    [
        ("Europe/Brussels", date(2016, 3, 26), "2016-03-25T23:00Z", 24),
        ("Europe/Brussels", date(2016, 3, 27), "2016-03-26T23:00Z", 23),
        ("Europe/Brussels", date(2016, 10, 30), "2016-10-29T22:00Z", 25),
        ("America/St_Johns", date(2026, 1, 1), "2026-01-01T03:30Z", 24),
        ("America/St_Johns", date(2026, 3, 8), "2026-03-08T03:30Z", 23),
        ("Australia/Lord_Howe", date(2026, 6, 1), "2026-05-31T13:30Z", 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), "2026-04-04T13:00Z", 24.5),
        ("Australia/Lord_Howe", date(2026, 10, 4), "2026-10-03T13:30Z", 23.5),
        ("America/Santiago", date(2026, 9, 6), "2026-09-06T04:00Z", 23),  # begins at 01:00
        ("Africa/Cairo", date(2026, 4, 24), "2026-04-23T22:00Z", 23),  # begins at 01:00
        ("Africa/Cairo", date(2026, 10, 29), "2026-10-28T21:00Z", 25),  # 23:00 to 24:00 comes twice
        ("America/Asuncion", date(2023, 10, 1), "2023-10-01T04:00Z", 23),
        ("America/Havana", date(2026, 11, 1), "2026-11-01T04:00Z", 25),  # 00:00 to 01:00 comes twice
    ],
)
def test_day_bounds(zone, day, first, hours):
    start, end = day_bounds(day, ZoneInfo(zone))
    assert (start, end - start) == (unix(first), hours * HOUR)


@given(st.sampled_from(ZONES), st.dates(date(2015, 1, 1), date(2035, 12, 31)))
def test_a_day_begins_where_the_day_before_ends(zone, day):
    zone = ZoneInfo(zone)
    start, end = day_bounds(day, zone)
    assert (local_date(start - 1, zone), local_date(start, zone)) == (day - timedelta(days=1), day)
    assert (local_date(end - 1, zone), local_date(end, zone)) == (day, day + timedelta(days=1))


@given(st.sampled_from(ZONES), st.lists(st.integers(unix("2015-01-01T00:00Z"), unix("2036-01-01T00:00Z")), min_size=1, max_size=20))
def test_offsets_of_many_times_are_those_of_each(zone, times):
    zone = ZoneInfo(zone)
    each = [datetime.fromtimestamp(t, zone).utcoffset().total_seconds() for t in times]
    assert utc_offsets_s(np.array(times), zone).tolist() == each
    assert [utc_offset_s(t, zone) for t in times] == each


def test_offset_changes_at_the_very_second():
    change = unix("2016-03-27T01:00Z")
    times = np.array([[change - 1, change], [change + 1, unix("2016-10-30T00:59:59Z")]])
    assert utc_offsets_s(times, ZoneInfo("Europe/Brussels")).tolist() == [[3600, 7200], [7200, 7200]]
    assert utc_offsets_s(np.zeros((0, 3), np.int64), ZoneInfo("UTC")).shape == (0, 3)


def test_offsets_of_a_broken_clock_are_still_found():
    times = np.array([0, unix("2200-01-01T00:00Z")])
    assert utc_offsets_s(times, ZoneInfo("Australia/Lord_Howe")).tolist() == [36_000, 39_600]


def test_half_hour_zone_has_its_own_days():
    zone = ZoneInfo("Australia/Lord_Howe")  # +10:30 in June: midnight is 13:30 UTC
    times = np.array([unix("2026-06-01T13:29:59Z"), unix("2026-06-01T13:30Z")])
    assert np.diff(local_days(times, zone)).tolist() == [1]
    assert (local_seconds(times, zone) % 86_400).tolist() == [86_399, 0]


def test_weekdays_count_from_monday():
    days = np.array([(date(2026, 11, 23) - date(1970, 1, 1)).days + i for i in range(8)])  # a Monday
    assert weekdays(days).tolist() == [0, 1, 2, 3, 4, 5, 6, 0]


@pytest.mark.parametrize(("day", "hours"), [(date(2016, 3, 27), 23), (date(2016, 10, 30), 25), (date(2016, 6, 1), 24)])
def test_day_totals_by_hand(day, hours):
    zone = ZoneInfo("Europe/Brussels")
    start, end = day_bounds(day, zone)
    times = np.arange(start - HOUR, end + HOUR, 600)
    totals = day_totals(times, np.ones(len(times)), zone)
    assert totals == {day - timedelta(days=1): 6.0, day: 6.0 * hours, day + timedelta(days=1): 6.0}


def test_a_day_with_an_unknown_step_has_an_unknown_total():
    times = unix("2026-01-01T00:00Z") + 3600 * np.arange(48)
    values = np.where(np.arange(48) == 30, np.nan, 2.0)
    totals = day_totals(times, values, ZoneInfo("UTC"))
    assert totals[date(2026, 1, 1)] == 48.0
    assert np.isnan(totals[date(2026, 1, 2)])


def test_written_times_name_their_zone():
    time = unix("2026-11-24T00:00Z")
    assert iso_utc(time) == "2026-11-24T00:00:00Z"
    assert iso_local(time, ZoneInfo("Europe/Brussels")) == "2026-11-24T01:00:00+01:00"
    assert datetime.fromisoformat(iso_local(time, ZoneInfo("America/St_Johns"))).astimezone(UTC).timestamp() == time
