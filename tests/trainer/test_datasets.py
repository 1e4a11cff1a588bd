import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.schema import parse_house
from trainer.datasets import ReadOptions, read_table

HOUSE = """
site = "test"
time_zone = "Europe/Berlin"
table_clock = "utc"
step = 600
targets = [{name = "energy", sensor = "energy"}]
[[sensors]]
name = "energy"
role = "energy"
unit = "{unit}"
column = "use"
column_form = "{form}"
valid = [0, {high}]
[[sensors]]
name = "room"
role = "indoor_temperature"
column = "room"
"""


def house(unit="Wh", form="interval", high=50_000, **changes):
    text = HOUSE.replace("{unit}", unit).replace("{form}", form).replace("{high}", str(high))
    return replace(parse_house(text, source="house.toml"), **changes)


def table(start="2026-01-01 00:00", *, n=6, every="10min", use=100.0, room=20.0):
    return pd.DataFrame({"time": pd.date_range(start, periods=n, freq=every), "use": use, "room": room})


@pytest.fixture
def written(tmp_path):
    def write(frame, name="table.csv"):
        path = tmp_path / name
        frame.to_csv(path, index=False) if isinstance(frame, pd.DataFrame) else path.write_text(frame)
        return path

    return write


def test_columns_come_in_the_order_of_the_house(written):
    frame = table(use=[1.0, 2, 3, 400, 5, 6], room=[20.0, 21, 22, 23, 24, 25])[["time", "room", "use"]]
    series = read_table(house(), [written(frame)]).series
    assert series.names == ("energy", "room")
    assert series.start == 1767225600  # 2026-01-01T00:00Z
    assert series.values[:, 0].tolist() == [1, 2, 3, 400, 5, 6]
    assert series.values[:, 1].tolist() == [20, 21, 22, 23, 24, 25]


def test_quoted_numbers_with_leading_blanks_are_numbers(written):
    text = '"time","use","room"\n' + "".join(f'"2026-01-01 00:{m}0:00","  60"," 6.5999999999999996e+00"\n' for m in range(3))
    table_read = read_table(house(), [written(text)])
    assert table_read.series.values.tolist() == [[60.0, 6.6]] * 3
    assert table_read.repairs == []


def test_kilowatthours_become_watthours(written):
    assert read_table(house("kWh"), [written(table(use=0.25))]).series.column("energy").tolist() == [250.0] * 6


def test_power_becomes_energy_of_the_step(written):
    assert read_table(house("kW", "power"), [written(table(use=0.6))]).series.column("energy").tolist() == pytest.approx([100.0] * 6)


def test_counter_becomes_differences_and_the_last_step_is_unknown(written):
    values = read_table(house("kWh", "counter"), [written(table(use=[10.0, 10.1, 10.3, 10.3, 10.4, 10.5]))]).series.column("energy")
    assert values[:-1].tolist() == pytest.approx([100, 200, 0, 100, 100])
    assert np.isnan(values[-1])


def test_a_fresh_counter_given_as_interval_is_told_with_repair_too(written):
    fresh = written(table(n=24 * 30, every="1h", use=np.cumsum(np.random.default_rng(0).gamma(2, 0.2, 24 * 30))))
    for repair in (False, True):
        with pytest.raises(DataError, match='set column_form = "counter"'):
            read_table(house(unit="kWh"), [fresh], repair=repair)


def test_counter_spreads_energy_over_a_short_gap(written):
    frame = table(use=[10.0, 10.1, None, None, 10.4, 10.5])
    values = read_table(house("kWh", "counter"), [written(frame)]).series.column("energy")
    assert values[:-1].tolist() == pytest.approx([100, 100, 100, 100, 100])


def test_finer_table_is_summed_and_averaged(written):
    frame = table(n=20, every="1min", use=[10.0] * 10 + [20.0] * 10, room=[20.0] * 5 + [22.0] * 15)
    read = read_table(house(), [written(frame)])
    assert read.series.values.tolist() == [[100.0, 21.0], [200.0, 22.0]]
    assert "60 s are resampled" in read.notes[0]


def test_coarser_table_is_spread_evenly(written):
    read = read_table(house(), [written(table(n=2, every="1h", use=[600.0, 1200.0]))])
    assert read.series.column("energy").tolist() == pytest.approx([100.0] * 6 + [200.0] * 6)
    assert read.series.column("room").tolist() == pytest.approx([20.0] * 12)


def test_energy_of_many_hours_in_a_row_is_refused_or_accepted(written):
    daily = written(table(n=30, every="1D", use=9600.0))
    with pytest.raises(DataError, match=r"'use' holds the energy of 24 hours in each row: an hour at most is expected.*--accept coarse"):
        read_table(house(), [daily], repair=True)
    read = read_table(house(), [daily], options=ReadOptions(accept=("coarse", "dead")))
    assert ("coarse", "noted", 30) in [(found.kind, found.done, found.steps) for found in read.findings]
    assert read.series.column("energy")[:3].tolist() == pytest.approx([9600 / 144] * 3)


def test_rooms_may_be_measured_once_a_day(written):
    rooms = replace(house(), sensors=(replace(house().sensors[0], column=""), house().sensors[1]))
    assert np.isfinite(read_table(rooms, [written(table(n=30, every="1D"))]).series.column("room")).all()


def test_table_on_a_shifted_grid_keeps_its_energy(written):
    read = read_table(house(), [written(table("2026-01-01 00:05", n=3, use=[100.0, 300.0, 500.0]))])
    values = read.series.column("energy")
    assert np.isnan(values[[0, -1]]).all()  # known by half only
    assert values[1:-1].tolist() == pytest.approx([200.0, 400.0])


def test_extra_columns_are_ignored_with_a_note(written):
    read = read_table(house(), [written(table().assign(voltage=230, mood="fine"))])
    assert read.notes == [read.notes[0]]
    assert "2 columns that house.toml does not name ignored: voltage, mood" in read.notes[0]


def test_missing_column_names_the_closest(written):
    with pytest.raises(DataError, match=r"table.csv: 1 column missing, the first 'room': did you mean 'rooms'\?"):
        read_table(house(), [written(table().rename(columns={"room": "rooms"}))])


def test_sensor_without_column_is_unknown_throughout(written):
    text = HOUSE.replace("{unit}", "Wh").replace("{form}", "interval").replace("{high}", "50_000").replace('column = "room"', 'topic = "z/room"')
    series = read_table(parse_house(text, source="house.toml"), [written(table())]).series
    assert np.isnan(series.column("room")).all()


def test_house_without_columns_cannot_be_read():
    spec = house()
    with pytest.raises(ConfigError, match="no sensor has a 'column'"):
        read_table(replace(spec, sensors=tuple(replace(s, column=None) for s in spec.sensors)), ["x.csv"])


def test_files_join_in_order_of_time(written):
    early, late = table(use=100.0), table("2026-01-01 01:00", use=200.0)
    read = read_table(house(), [written(late, "late.csv"), written(early, "early.csv")])
    assert read.series.column("energy").tolist() == [100.0] * 6 + [200.0] * 6
    assert read.notes == []


def test_hole_between_files_is_unknown_and_noted(written):
    read = read_table(house(), [written(table(), "a.csv"), written(table("2026-01-01 01:20"), "b.csv")])
    assert np.isnan(read.series.column("energy")[6:8]).all()
    assert "2 steps between the files unknown, from 2026-01-01T01:00:00Z" in read.notes[0]


def test_files_that_contradict_each_other_are_refused_or_repaired(written):
    paths = [written(table(use=100.0), "a.csv"), written(table("2026-01-01 00:50", use=200.0), "b.csv")]
    with pytest.raises(DataError, match="contradict each other in 1 step, the first at 2026-01-01T00:50:00Z"):
        read_table(house(), paths)
    read = read_table(house(), paths, repair=True)
    assert read.series.column("energy").tolist() == [100.0] * 6 + [200.0] * 5
    assert "the earlier file holds" in read.repairs[0]


def test_overlapping_files_that_agree_need_no_repair(written):
    read = read_table(house(), [written(table(), "a.csv"), written(table("2026-01-01 00:30"), "b.csv")])
    assert len(read.series) == 9
    assert read.repairs == []


def test_fingerprint_is_the_same_from_every_format(tmp_path, written):
    rng = np.random.default_rng(1)
    frame = table(n=500, use=rng.gamma(2.0, 50.0, 500), room=rng.normal(20.0, 1.0, 500))
    frame.loc[7, "room"] = np.nan
    csv = written(frame)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(csv.read_bytes()))
    frame.to_parquet(tmp_path / "t.parquet")
    frame.set_index("time").to_parquet(tmp_path / "indexed.parquet")
    (tmp_path / "t.parquet.gz").write_bytes(gzip.compress((tmp_path / "t.parquet").read_bytes()))
    frame.assign(use=frame.use * (1 + 3e-16)).to_parquet(tmp_path / "less_exact.parquet")
    names = ("table.csv", "t.csv.gz", "t.parquet", "indexed.parquet", "t.parquet.gz", "less_exact.parquet")
    assert len({read_table(house(), [tmp_path / name]).fingerprint for name in names}) == 1


def test_fingerprint_sees_one_value_one_step_and_one_name(written):
    spec = house()
    base = read_table(spec, [written(table())]).fingerprint
    changed = table()
    changed.loc[3, "use"] = 100.01
    assert read_table(spec, [written(changed)]).fingerprint != base
    assert read_table(spec, [written(table("2026-01-01 00:10"))]).fingerprint != base
    renamed = replace(spec, sensors=(spec.sensors[0], replace(spec.sensors[1], name="kitchen")))
    assert read_table(renamed, [written(table())]).fingerprint != base


def test_reference_table_reads_as_published(reference_csv, reference_house):
    read = read_table(reference_house, [reference_csv])
    series = read.series
    assert series.values.shape == (19_735, 28)
    assert np.isfinite(series.values).all()
    assert (read.repairs, read.notes) == ([], [])
    assert series.start == 1452528000  # 2016-01-11 17:00 by the winter clock of Brussels
    assert series.column("Appliances").sum() == 1_928_010  # Wh, the sum of the column
    assert series.column("Press_mm_hg")[0] == pytest.approx(733.5 * 1.33322387415)


def test_reference_house_is_described_completely(reference_house):
    rooms = [f"{kind}{number}" for number in range(1, 10) for kind in ("T", "RH_")]
    weather = ["T_out", "Press_mm_hg", "RH_out", "Windspeed", "Visibility", "Tdewpoint", "rv1", "rv2"]
    assert [sensor.column for sensor in reference_house.sensors] == ["Appliances", "lights", *rooms, *weather]
    outdoors = [s.name for s in reference_house.sensors if s.role.startswith("outdoor")]
    assert outdoors == ["T6", "RH_6", "T_out", "RH_out"]  # number 6 hangs on the north side of the house
    assert reference_house.sensor("Press_mm_hg").unit == "mmHg"
    assert [(s.topic_form, s.topic_unit) for s in reference_house.sensors[:2]] == [("counter", "kWh")] * 2
    assert all(sensor.topic for sensor in reference_house.sensors)
