"""Homes are described from their headers and cut at the test span's start, and a fetched table is the published one."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from benchmarks.accuracy.houses import CALIFORNIA, HOUSTON, LONDON, REFERENCE, ROOMS, SCEAUX, VALENCIA, describe
from benchmarks.accuracy.material import first_part, lay_out, prepare
from benchmarks.accuracy.sources import check, hourly
from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import parse_house
from trainer.datasets import read_table


def table(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"date": pd.date_range("2013-01-01", periods=n, freq="30min"), **columns})


def test_meters_that_read_zero_are_no_homes():
    text = describe(LONDON, table(mac000002_kwh=[0.2] * 20, mac000004_kwh=[0.0] * 2 + [0.1] * 18, t_out_c=[4.0] * 20, wind_dir_deg=[10] * 20))
    house = parse_house(text, source="london")
    assert [(t.name, t.sensor) for t in house.targets] == [("energy", "mac000002_kwh")]
    assert [(s.name, s.role) for s in house.sensors] == [("mac000002_kwh", "energy"), ("t_out_c", "outdoor_temperature")]


def test_weather_of_the_whole_day_is_left_out():
    """At noon it would know the evening."""
    house = parse_house(describe(HOUSTON, table(energy_kwh=[1.0] * 4, t_out_avg_c=[20.0] * 4)), source="houston")
    assert [s.name for s in house.sensors] == ["energy_kwh"]
    assert house.targets[0].name == "energy"


def test_rooms_of_the_reference_house_are_targets_and_its_outdoor_sensor_is_not():
    house = parse_house(describe(ROOMS, table(date2=[0])), source="rooms")
    names = [t.name for t in house.targets]
    assert house.step_s == 3600
    assert len(names) == 16
    assert {"T1", "RH_9"} <= set(names)
    assert not {"T6", "RH_6", "energy"} & set(names)


def test_rooms_by_their_header():
    house = parse_house(
        describe(VALENCIA, table(t_dining_c=[20.0] * 3, rh_dining_pct=[40.0] * 3, t_out_c=[9.0] * 3, co2_room_ppm=[200] * 3)), source="v"
    )
    assert [(t.name, house.sensor(t.sensor).role) for t in house.targets] == [
        ("t_dining_c", "indoor_temperature"),
        ("rh_dining_pct", "indoor_humidity"),
    ]


def test_a_table_of_something_else_is_refused():
    with pytest.raises(DataError, match="right table"):
        describe(CALIFORNIA, table(price=[1.0]))


@pytest.mark.parametrize(("clock", "zone", "end"), [("utc", "Europe/London", 12), ("standard", "Etc/GMT-1", 11), ("local", "Europe/Paris", 10)])
def test_the_part_to_train_on_ends_where_the_test_span_begins(clock, zone, end):
    """Noon of a July day by the table's clock, cut at that moment in UTC."""
    frame = pd.DataFrame({"date": pd.date_range("2013-07-01 09:00", periods=6, freq="h"), "x": range(6)})
    spec = parse_house(
        f'site="a"\ntime_zone="{zone}"\ntable_clock="{clock}"\nstep=3600\n[[targets]]\nname="x"\nsensor="x"\n[[sensors]]\nname="x"\nrole="other"\ncolumn="x"',
        source="a",
    )
    cut = int(np.datetime64(f"2013-07-01T{end:02d}", "s").astype(int))
    assert first_part(frame, spec, cut)["x"].tolist() == [0, 1, 2]


def test_a_home_is_laid_out_as_a_user_would_have_it(houston_like, tmp_path):
    prepared = prepare((houston_like,), tmp_path, download=False, console=Console(quiet=True))
    assert list(prepared) == ["houston"]
    folder = tmp_path / "houses" / "houston"
    spec = parse_house((folder / "house.toml").read_text(), source="")
    first = read_table(spec, [folder / "train.csv.gz"], repair=True).series
    (case,) = prepared["houston"].cases()
    assert first.end == case.train_end <= case.origins[0]
    np.testing.assert_array_equal(first.values, prepared["houston"].series.values[: len(first)])


def test_laying_out_twice_writes_nothing_new(houston_like, tmp_path):
    path = houston_like / "houston_home_hourly.csv.gz"
    lay_out(HOUSTON, path, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    lay_out(HOUSTON, path, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_another_file_than_the_published_one_is_refused():
    with pytest.raises(DataError, match="sha256"):
        check(REFERENCE, b"date,Appliances\n")
    with pytest.raises(DataError, match="2,075,259"):
        check(SCEAUX, minutes(3))


def minutes(n, unknown=0):
    head = "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;Sub_metering_1;Sub_metering_2;Sub_metering_3\n"
    rows = [f"16/12/2006;17:{m:02d}:00;{'?;?;?;?;?;?;?' if m < unknown else '1.5;0.1;240.0;6.0;0;1;2'}\n" for m in range(n)]
    return (head + "".join(rows)).encode()


def test_minutes_become_hourly_means_and_thin_hours_unknown():
    header, row = hourly(minutes(60, unknown=20)).decode().splitlines()
    assert header == "date,power_kw,reactive_kvar,voltage_v,current_a,kitchen_w,laundry_w,heater_ac_w,minutes_seen"
    assert row == "2006-12-16 17:00:00,1.5,0.1,240.0,6.0,0.0,60.0,120.0,40"
    assert hourly(minutes(60, unknown=31)).decode().splitlines()[1] == "2006-12-16 17:00:00,,,,,,,,29"
