from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import local_seconds
from edge_agent.contract.schema import parse_house
from trainer.findings import Findings
from trainer.table_times import find_grid, local_to_utc

HOUSE = parse_house(
    'site = "t"\ntime_zone = "Europe/Berlin"\ntargets = [{name = "x", sensor = "s"}]\n[[sensors]]\nname = "s"\nrole = "energy"\ncolumn = "c"\n',
    source="house.toml",
)


def unix(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def grid(times, *, clock="utc", repair=False, zone="Europe/Berlin"):
    findings = Findings("t.csv", repair=repair)
    column = times if isinstance(times, pd.Series) else pd.Series(list(times), name="time", dtype=str)
    house = replace(HOUSE, table_clock=clock, time_zone=zone)
    return find_grid(column, np.arange(2, len(column) + 2), house, findings), findings


def wall(start, n, every="30min"):
    return [str(t) for t in pd.date_range(start, periods=n, freq=every)]


def test_utc_clock_is_taken_as_it_is():
    found, _ = grid(wall("2026-07-01", 3))
    assert (found.start, found.cadence_s, found.n_slots) == (unix("2026-07-01"), 1800, 3)


def test_local_clock_follows_daylight_saving():
    assert grid(wall("2026-01-01", 3), clock="local")[0].start == unix("2025-12-31 23:00")
    assert grid(wall("2026-07-01", 3), clock="local")[0].start == unix("2026-06-30 22:00")


@pytest.mark.parametrize(("zone", "start"), [("Europe/Berlin", "2026-06-30 23:00"), ("Australia/Sydney", "2026-06-30 14:00"), ("UTC", "2026-07-01")])
def test_standard_clock_is_winter_time_all_year(zone, start):
    assert grid(wall("2026-07-01", 3), clock="standard", zone=zone)[0].start == unix(start)


def test_standard_clock_has_no_gap_at_the_clock_change():
    found, findings = grid(wall("2026-03-28 22:00", 20), clock="standard")
    assert (found.n_slots, findings.repairs) == (20, [])


def test_offsets_in_the_file_win_over_the_clock():
    times = ["2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T02:00:00Z"]
    found, _ = grid(times, clock="local")
    assert (found.start, found.cadence_s, found.n_slots) == (unix("2026-03-29"), 3600, 3)


@pytest.mark.parametrize("form", ["{d}T{h}Z", "{d}T{h}+00", "{d} {h}+00:00", "{b}T{h}0000Z", "{b}T{h}0000+0000"])
def test_an_offset_needs_no_colon(form):
    times = [form.format(d="2017-03-28", b="20170328", h=f"{hour:02}") for hour in (5, 6, 7)]
    found, findings = grid(times, clock="local", zone="America/Chicago")
    assert (found.start, found.cadence_s, findings.found) == (unix("2017-03-28 05:00"), 3600, [])


@pytest.mark.parametrize("form", ["2017-03-{}", "201703{}"])
def test_the_end_of_a_date_is_no_offset(form):
    found, _ = grid([form.format(day) for day in (20, 21, 22)], clock="local", zone="America/Chicago")
    assert (found.start, found.cadence_s) == (unix("2017-03-20 05:00"), 86_400)


def test_newest_first_keeps_the_passes_of_the_repeated_hour_apart():
    aware = pd.date_range("2026-10-24 20:00", periods=24, freq="30min", tz="UTC")
    local = [str(t.tz_convert("Europe/Berlin").tz_localize(None)) for t in aware]
    ahead, _ = grid(local, clock="local", repair=True)
    back, findings = grid(local[::-1], clock="local", repair=True)
    assert [finding.kind for finding in findings.found] == ["order"]
    assert back.lay(np.arange(24.0)).tolist() == ahead.lay(np.arange(24.0)[::-1]).tolist()


def test_times_without_an_hour_are_refused_with_repair_too():
    with pytest.raises(DataError, match=r"1,440 rows have 60 times, the first 2026-01-01T00:00:00Z: .* is the time of day missing"):
        grid([day for day in wall("2026-01-01", 60, "1D") for _ in range(24)], repair=True)


def test_times_with_and_without_offset_are_refused():
    with pytest.raises(DataError, match=r"with and without an offset from UTC \(row 3\)"):
        grid(["2026-01-01T00:00:00+01:00", "2026-01-01T01:00:00"], repair=True)


def test_parquet_timestamps_are_read_with_and_without_zone():
    naive = pd.Series(pd.date_range("2026-07-01", periods=3, freq="1h"))
    assert grid(naive, clock="local")[0].start == unix("2026-06-30 22:00")
    assert grid(naive.dt.tz_localize("America/New_York"), clock="local")[0].start == unix("2026-07-01 04:00")


def test_spring_hour_missing_from_wall_time_is_no_gap():
    found, findings = grid(["2026-03-29 01:00", "2026-03-29 01:30", "2026-03-29 03:00", "2026-03-29 03:30"], clock="local")
    assert (found.n_slots, findings.repairs) == (4, [])


def test_times_that_spring_skips_are_refused_or_dropped():
    times = wall("2026-03-29 01:00", 8)  # 02:00 and 02:30 do not exist
    with pytest.raises(DataError, match=r"2 rows at times that Europe/Berlin skips .*\(rows 4, 5\).*table_clock"):
        grid(times, clock="local")
    found, findings = grid(times, clock="local", repair=True)
    assert found.rows.tolist() == [0, 1, 4, 5, 6, 7]
    assert found.n_slots == 6
    assert findings.repairs[0].endswith("(rows 4, 5): dropped")


def test_autumn_hour_twice_is_two_hours():
    times = wall("2026-10-25 01:00", 4) + wall("2026-10-25 02:00", 4)
    found, findings = grid(times, clock="local")
    assert found.start == unix("2026-10-24 23:00")
    assert (found.n_slots, found.slots.tolist(), findings.repairs) == (8, list(range(8)), [])


def test_autumn_hour_twice_survives_a_missing_row():
    times = wall("2026-10-25 02:00", 6, "10min") + wall("2026-10-25 02:00", 7, "10min")
    del times[3]  # the first 02:30; the second one then appears once only
    found, _ = grid(times, clock="local", repair=True)
    assert found.slots.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_autumn_hour_once_is_a_gap_that_hints_at_the_clock():
    times = wall("2026-10-25 01:00", 8)
    with pytest.raises(DataError, match=r"2 steps of 1800 s missing in 1 gap \(row 5\).*there only once.*table_clock"):
        grid(times, clock="local")
    found, findings = grid(times, clock="local", repair=True)
    assert found.slots.tolist() == [0, 1, 2, 3, 6, 7, 8, 9]
    assert findings.repairs[0].endswith("left unknown")


def test_unreadable_time_is_named_or_dropped():
    times = ["2026-01-01 00:00", "25.12.2026 18:00", "2026-01-01 00:20", "2026-01-01 00:30"]
    with pytest.raises(DataError, match=r"1 time that cannot be read, the first '25.12.2026 18:00' \(row 3\)"):
        grid(times)
    assert grid([*times, "2026-01-01 00:40"], repair=True)[0].slots.tolist() == [0, 2, 3, 4]


@pytest.mark.parametrize("first", ["0", "1452531600", "Monday", ""])
def test_first_column_without_times_says_so_even_under_repair(first):
    with pytest.raises(DataError, match="the first column 'time' holds no times"):
        grid([first, first], repair=True)


def test_unsorted_times_are_named_or_sorted():
    times = ["2026-01-01 00:00", "2026-01-01 00:20", "2026-01-01 00:10", "2026-01-01 00:30"]
    with pytest.raises(DataError, match=r"1 row earlier than a row above \(row 4\)"):
        grid(times)
    found, _ = grid(times, repair=True)
    assert found.rows.tolist() == [0, 2, 1, 3]


def test_duplicate_times_are_named_or_dropped():
    times = ["2026-01-01 00:00", "2026-01-01 00:10", "2026-01-01 00:10", "2026-01-01 00:20"]
    with pytest.raises(DataError, match=r"1 row with the time of an earlier one \(row 4\)"):
        grid(times)
    found, _ = grid(times, repair=True)
    assert found.rows.tolist() == [0, 1, 3]


def test_missing_steps_are_named_or_left_unknown():
    times = ["2026-01-01 00:00", "2026-01-01 00:10", "2026-01-01 00:40", "2026-01-01 00:50"]
    with pytest.raises(DataError, match=r"2 steps of 600 s missing in 1 gap \(row 3\)"):
        grid(times)
    found, _ = grid(times, repair=True)
    assert np.isnan(found.lay(np.array([1.0, 2, 3, 4]))).tolist() == [False, False, True, True, False, False]


def test_times_a_little_off_the_grid_are_named_or_moved():
    times = ["2026-01-01 00:00:02", "2026-01-01 00:10:00", "2026-01-01 00:20:01.5", "2026-01-01 00:29:59"]
    with pytest.raises(DataError, match=r"3 rows off the grid of 600 s \(rows 2, 4, 5\)"):
        grid(times)
    found, _ = grid(times, repair=True)
    assert (found.start, found.slots.tolist()) == (unix("2026-01-01"), [0, 1, 2, 3])


def test_events_on_no_grid_are_refused_even_under_repair():
    seconds = np.cumsum(np.random.default_rng(3).exponential(300, 200))
    with pytest.raises(DataError, match="follow no regular grid"):
        grid(pd.Series(pd.to_datetime(seconds, unit="s")), repair=True)


def test_one_time_decades_away_does_not_fill_the_memory():
    with pytest.raises(DataError, match="steps are missing after row 2: is a time wrong there"):
        grid(["1970-01-01 00:00", *wall("2026-01-01", 10)], repair=True)


def test_one_row_is_no_table():
    with pytest.raises(DataError, match="1 row with a time: two or more"):
        grid(["2026-01-01 00:00"], repair=True)


@given(start=st.integers(0, 2**31 - 10**7), zone=st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata", "UTC"]))
def test_wall_time_goes_back_to_utc(start, zone):
    utc = start // 600 * 600 + 600 * np.arange(5000, dtype=np.int64)  # five weeks
    back, is_single = local_to_utc(local_seconds(utc, ZoneInfo(zone)).astype(float), ZoneInfo(zone))
    inside = slice(200, -200)  # a repeated hour cut by either end cannot be told
    assert (back[inside] == utc[inside]).all()
    assert not is_single[inside].any()
