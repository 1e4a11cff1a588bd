from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import utc_offsets_s
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.contract.series import Series
from trainer.clock_shift import clock_fault, settle_clock
from trainer.findings import Findings

BERLIN = ZoneInfo("Europe/Berlin")
START = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
SUMMER = tuple(int(datetime(*day, 1, tzinfo=UTC).timestamp()) for day in ((2025, 3, 30), (2025, 10, 26)))
HOUSE = (
    'site = "t"\ntime_zone = "Europe/Berlin"\nstep = 1800\ntable_clock = "{clock}"\ntargets = [{{name = "x", sensor = "s"}}]\n'
    '[[sensors]]\nname = "s"\nrole = "energy"\ncolumn = "c"\n'
)


@pytest.fixture
def series(lived_in):
    """`series(late_s, years=1)`: a home whose times are late in summer by so much."""

    def make(late_s=0, n_days=365, homes=1):
        values = np.stack([lived_in(n_days, 1800, START, BERLIN, seed=i) for i in range(homes)], axis=1)
        true = Series(START, 1800, tuple(Feature(f"s{i}" if homes > 1 else "s", "energy") for i in range(homes)), values)
        in_summer = utc_offsets_s(true.times, BERLIN) > 3600
        rows = np.arange(len(true)) + np.where(in_summer, late_s // 1800, 0)
        shifted = np.full_like(values, np.nan)
        shifted[rows] = values
        return true, Series(START, 1800, true.features, shifted)

    return make


@pytest.mark.parametrize("late_s", [3600, -3600])
def test_a_shifted_summer_is_found(series, late_s):
    _, wrong = series(late_s)
    ((start, end, seconds),) = [(s.start, s.end, s.seconds) for s in clock_fault(wrong, BERLIN, ("s",), "standard").shifts]
    assert (start, end, seconds) == (*SUMMER, late_s)


def test_right_times_are_right(series):
    true, _ = series()
    assert clock_fault(true, BERLIN, ("s",), "standard").shifts == ()
    assert clock_fault(true, ZoneInfo("UTC"), ("s",), "standard").shifts == ()
    assert clock_fault(true.between(START, START + 86_400), BERLIN, ("s",), "standard").shifts == ()


def test_two_shifted_summers_are_found(series):
    _, wrong = series(3600, 730)
    assert [(s.seconds, (s.end - s.start) // 86_400) for s in clock_fault(wrong, BERLIN, ("s",), "standard").shifts] == [(3600, 210)] * 2


def test_one_shifted_summer_of_two_is_found(series):
    true, wrong = series(3600, 730)
    half = len(true) // 2
    mixed = Series(START, 1800, true.features, np.concatenate([true.values[:half], wrong.values[half:]]))
    ((start, end),) = [(s.start, s.end) for s in clock_fault(mixed, BERLIN, ("s",), "standard").shifts]
    assert (start, end) == tuple(time + 364 * 86_400 for time in SUMMER)  # both changes fall on a Sunday


def test_timers_of_one_home_among_six_do_not_shift_the_table(series):
    true, wrong = series(3600, homes=6)
    mixed = Series(START, 1800, true.features, np.concatenate([wrong.values[:, :1], true.values[:, 1:]], axis=1))
    assert clock_fault(mixed, BERLIN, true.names, "standard").shifts == ()
    assert len(clock_fault(wrong, BERLIN, true.names, "standard").shifts) == 1


@pytest.mark.parametrize(
    ("clock", "late_s", "advice"),
    [
        ("utc", 3600, r'seems to be in wall time, and is said to be in utc time: set table_clock = "local"'),
        ("local", -3600, r'seems to know no daylight saving: set table_clock = "standard" or "utc"'),
        ("local", 3600, "written by a clock of another zone"),
    ],
)
def test_shifted_times_are_refused_with_the_clock_that_fits(series, clock, late_s, advice):
    house = parse_house(HOUSE.format(clock=clock), source="house.toml")
    with pytest.raises(DataError, match=f"60 minutes (late|early) by the clock of Europe/Berlin from 2025-03-30T01.*{advice}.*--accept clock"):
        settle_clock(series(late_s)[1], house, Findings("t.csv", repair=False))


@pytest.mark.parametrize("late_s", [3600, -3600])
def test_shifted_times_are_moved_back_under_repair(series, late_s):
    true, wrong = series(late_s)
    findings = Findings("t.csv", repair=True)
    mended = settle_clock(wrong, parse_house(HOUSE.format(clock="standard"), source="house.toml"), findings)
    known = np.isfinite(mended.column("s"))
    assert (~known).sum() == 4  # an hour that nobody measured at one border, an hour measured twice at the other
    np.testing.assert_array_equal(mended.column("s")[known], true.column("s")[known])
    assert [(found.kind, found.done, found.start, found.end) for found in findings.found] == [("clock", "repaired", *SUMMER)]


def test_wall_time_read_as_utc_is_read_as_wall_time(lived_in):
    zone = ZoneInfo("America/Los_Angeles")  # eight hours: what looks like a morning is an afternoon
    times = START + 1800 * np.arange(365 * 48, dtype=np.int64)
    energy, wall = lived_in(365, 1800, START, zone), times + utc_offsets_s(times, zone)
    start = int(wall.min())
    values = np.full((int(wall.max() - start) // 1800 + 1, 1), np.nan)
    values[(wall - start) // 1800, 0] = energy
    house = parse_house(HOUSE.format(clock="utc").replace("Europe/Berlin", zone.key), source="house.toml")
    findings = Findings("t.csv", repair=True)
    mended = settle_clock(Series(start, 1800, (Feature("s", "energy"),), values), house, findings)
    assert [found.how for found in findings.found] == ["read as wall time"]
    both = mended.between(START, START + 365 * 86_400).column("s")
    assert np.isfinite(both).sum() >= len(energy) - 4
    np.testing.assert_array_equal(both[np.isfinite(both)], energy[np.isfinite(both)])
