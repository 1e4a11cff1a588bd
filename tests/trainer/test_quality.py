"""Whole tables of a simulated home, with faults put in, read as `fit` and `backtest` read them."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import parse_house
from trainer.datasets import ReadOptions, read_table
from trainer.findings import DOUBTFUL, Finding
from trainer.quality_report import KINDS, print_findings, print_summary, record_of

TOML = """
site = "t"
time_zone = "Europe/Berlin"
step = 3600
table_clock = "{clock}"
targets = [{{ name = "energy", sensor = "mains" }}]
[[sensors]]
name = "mains"
role = "{role}"
column = "use"
[[sensors]]
name = "room"
role = "indoor_temperature"
column = "room"
"""


@pytest.fixture
def read(lived_in, tmp_path):
    """`read(energy, clock="utc", role="energy", times=None, room=None, **options)`: the table as it is read from a CSV file."""

    def make(energy=None, *, clock="utc", role="energy", times=None, room=None, **options):
        energy = lived_in(60) if energy is None else energy
        times = pd.date_range("2026-01-01", periods=len(energy), freq="h") if times is None else times
        room = np.round(20 + np.random.default_rng(0).normal(0, 0.5, len(energy)), 2) if room is None else room
        path = tmp_path / "t.csv"
        pd.DataFrame({"time": times, "use": energy, "room": room}).to_csv(path, index=False)
        return read_table(parse_house(TOML.format(clock=clock, role=role), source="house.toml"), [path], options=ReadOptions(**options))

    return make


def told(table):
    return [(found.kind, found.done, found.sensor, found.steps) for found in table.findings]


def unknown(table, sensor="mains"):
    return np.flatnonzero(np.isnan(table.series.column(sensor))).tolist()


def test_a_clean_history_has_no_findings(read):
    table = read()
    assert (table.findings, table.repairs, unknown(table)) == ((), [], [])
    table.require("mains")


def test_a_dead_week_is_masked_without_being_asked(read, lived_in):
    energy = lived_in(60)
    energy[480:648] = 0
    table = read(energy)
    assert told(table) == [("dead", "masked", "mains", 168)]
    assert unknown(table) == list(range(480, 648))
    assert unknown(table, "room") == []
    (found,) = table.findings
    assert (found.start, found.end) == (table.series.times[480], table.series.times[648])
    assert "for 7 days from 2026-01-21T00:00:00Z" in str(found)
    assert table.repairs == [str(found)]


def test_a_whole_history_in_another_unit_is_noted_where_no_home_is_like_that(read, lived_in):
    table = read(lived_in(60) / 8)
    assert told(table) == [("level", "noted", "mains", 1440)]
    assert "uses 26.4 W on average, 231 kWh a year: left as it is: is the unit right?" in str(table.findings[0])


def test_what_is_true_of_a_house_is_left_as_it_is(read, lived_in):
    energy = lived_in(60)
    energy[480:648] = 0
    table = read(energy, accept=("dead",))
    assert told(table) == [("dead", "noted", "mains", 168)]
    assert (unknown(table), table.repairs) == ([], [])


def test_gaps_are_told_once_for_all_sensors_that_share_them(read, lived_in):
    energy = lived_in(60)
    energy[100:110] = np.nan
    assert told(read(energy)) == [("gap", "noted", "mains", 10)]
    room = np.where(np.isnan(energy), np.nan, 20 + np.arange(len(energy)) % 7)
    assert told(read(energy, room=room)) == [("gap", "noted", "", 10)]


def test_a_home_that_uses_nothing_is_refused_by_name(read, lived_in):
    energy = np.where(np.arange(60 * 24) % 24 < 19, 0.0, lived_in(60))
    table = read(energy)
    assert told(table) == [("empty", "refused", "mains", 60 * 19)]
    assert np.isnan(table.series.column("mains")).all()
    with pytest.raises(DataError, match=r"t.csv: mains: 0 in 79% of all known steps: refused: .*--accept empty uses it all the same"):
        table.require("mains")
    accepted = read(energy, accept=("empty",))
    accepted.require("mains")
    assert unknown(accepted) == []


def test_heating_at_night_only_and_parts_of_a_home_may_be_off_for_long(read, lived_in):
    night = np.where(np.arange(60 * 24) % 24 < 7, lived_in(60) + 2000, 0.0)
    assert told(read(night)) == []
    rare = np.where(np.arange(60 * 24) % 50 == 0, 900.0, 0.0)
    assert told(read(rare, role="energy_part")) == []
    assert told(read(np.zeros(60 * 24), role="energy_part")) == [("empty", "refused", "mains", 60 * 24)]


def test_a_stuck_thermometer_is_masked(read):
    room = np.round(20 + np.random.default_rng(0).normal(0, 0.5, 60 * 24), 2)
    room[200:300] = 21.37
    table = read(room=room)
    assert told(table) == [("dead", "masked", "room", 100)]


def test_a_copied_day_is_masked_and_a_history_made_of_copies_is_noted(read, lived_in):
    energy = lived_in(60)
    energy[900:924] = energy[700:724]
    assert told(read(energy)) == [("copy", "masked", "mains", 24)]
    made_up = np.tile(energy[:168], 9)
    table = read(made_up)
    assert told(table) == [("copy", "noted", "mains", 8 * 168)]
    assert unknown(table) == []


def test_an_outages_energy_in_one_step_is_masked(read, lived_in):
    energy = lived_in(60)
    energy[1000:1007], energy[1007] = 0, 6000
    assert told(read(energy)) == [("lump", "masked", "mains", 8)]


def test_a_change_of_unit_stops_the_reading_or_is_repaired(read, lived_in):
    energy = lived_in(60)
    wrong = energy.copy()
    wrong[1000:] *= 1000  # most of it beyond what a home can draw
    with pytest.raises(DataError, match="mains: energy is 1,000 times what it is otherwise"):
        read(wrong)
    table = read(wrong, repair=True)
    assert [row[:3] for row in told(table)] == [("unit", "repaired", "mains"), ("gap", "noted", "mains")]
    known = np.isfinite(table.series.column("mains"))
    np.testing.assert_allclose(table.series.column("mains")[known], energy[known])


def test_a_second_file_in_another_unit_is_found(read, lived_in, tmp_path):
    energy = lived_in(60)
    house = parse_house(TOML.format(clock="utc", role="energy"), source="house.toml")
    times = pd.date_range("2026-01-01", periods=len(energy), freq="h")
    paths = []
    for name, rows, factor in (("a.csv", slice(0, 900), 1), ("b.csv", slice(900, None), 10)):
        paths.append(tmp_path / name)
        pd.DataFrame({"time": times[rows], "use": factor * energy[rows], "room": energy[rows] / 50}).to_csv(paths[-1], index=False)
    with pytest.raises(DataError, match="mains: energy is 10 times what it is otherwise, its base load too, from 2026-02-07T12"):
        read_table(house, paths)


def test_wall_time_said_to_be_utc_is_known_by_the_hour_that_autumn_repeats(read, lived_in):
    wall = pd.date_range("2026-10-01", periods=60 * 24, freq="h", tz="UTC").tz_convert("Europe/Berlin").tz_localize(None)
    with pytest.raises(DataError, match=r"1 time twice, in the hour that the clock .* repeats \(row \d+\).*: set table_clock = \"local\""):
        read(times=wall)
    table = read(times=wall, repair=True)
    assert [row[:2] for row in told(table)] == [("clock", "repaired")]
    np.testing.assert_array_equal(table.series.column("mains"), lived_in(60))
    assert len(told(read(times=wall, clock="local"))) == 0


def test_duplicated_hours_are_dropped_once(read, lived_in):
    energy = lived_in(60)
    rows = np.sort(np.concatenate([np.arange(len(energy)), np.arange(500, 524)]))
    times = pd.date_range("2026-01-01", periods=len(energy), freq="h")[rows]
    with pytest.raises(DataError, match="24 rows with the time of an earlier one"):
        read(energy[rows], times=times)
    table = read(energy[rows], times=times, repair=True)
    assert told(table) == [("duplicate", "repaired", "", 24)]
    np.testing.assert_array_equal(table.series.column("mains"), energy)


def test_a_column_at_fault_is_left_out_where_others_can_go_on(read, lived_in):
    energy = lived_in(60).astype(object)
    energy[7] = "?"
    with pytest.raises(DataError, match="1 text where numbers belong"):
        read(energy)
    table = read(energy, leave_out=True)
    assert told(table) == [("column", "refused", "mains", 60 * 24)]
    assert unknown(table, "room") == []
    with pytest.raises(DataError, match="mains: column 'use' has 1 text where numbers belong"):
        table.require("mains")


def test_what_the_share_leaves_out_is_not_checked(read, lived_in):
    energy = lived_in(60)
    energy[1200:1400] = 0
    table = read(energy, share=0.75)
    assert (len(table.series), table.findings) == (1080, ())
    assert table.fingerprint == read(lived_in(60)[:1080]).fingerprint


def test_every_doubtful_kind_has_words():
    assert set(DOUBTFUL) <= set(KINDS)


def shown(show, *what):
    console = Console(width=100, record=True, file=StringIO())
    show(console, *what)
    return console.export_text()


def finding(source, kind, done, sensor="", steps=5):
    return Finding(source, kind, f"{kind} [here]", done, "masked" if done == "masked" else "mend it", sensor, steps)


def test_one_house_is_told_row_by_row_the_worst_first():
    text = shown(print_findings, [finding("a.csv", "dead", "masked", "mains"), finding("a.csv", "empty", "refused", "mains")], ["a.csv: 2 columns"])
    assert text.index("refused") < text.index("masked")
    assert "empty [here]: mend it" in text
    assert "note: a.csv: 2 columns" in text
    assert shown(print_findings, []) == "history checked: no fault found\n"


def test_hundreds_of_homes_are_told_on_one_screen():
    every = [finding(f"house{i}", "gap", "masked", "mains", steps=i) for i in range(300)]
    every += [finding(f"house{i}", "empty", "refused", "mains", steps=9) for i in range(40)]
    text = shown(print_summary, every, 300)
    lines = text.splitlines()
    assert len(lines) < 40
    (gaps,) = [line for line in lines if "gaps: house299:mains" in line]
    assert gaps.split()[:3] == ["masked", "300", f"{sum(range(300)):,}"]
    assert sum("left out: house" in line for line in lines) == 12
    assert "28 more, named in run.json" in text


def test_findings_go_into_the_record_whole():
    (entry,) = record_of([finding("a", "gap", "masked", "mains")])
    assert entry.pop("start") is entry.pop("end") is None
    assert entry == {"source": "a", "kind": "gap", "what": "gap [here]", "done": "masked", "how": "masked", "sensor": "mains", "steps": 5}
