from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import utc_offsets_s
from trainer.__main__ import main
from trainer.datasets import ReadOptions
from trainer.findings import Findings
from trainer.fleet_house import checked_table
from trainer.readings import readings_of, series_of_readings

START = 1_735_689_600  # 2025-01-01T00:00Z


def strict():
    return Findings("small", repair=False)


def mended():
    return Findings("small", repair=True)


def arrays(readings):
    return {"time": readings["time"].astype("int64").to_numpy() // 1_000_000, "sensor": readings["sensor"], "value": readings["value"]}


def test_a_series_survives_as_readings(small_house, small_series):
    holed = replace(small_series, values=small_series.values.copy())
    holed.values[5:9, 0] = np.nan
    again = series_of_readings(small_house, arrays(readings_of(holed).sample(frac=1.0, random_state=0)), strict())
    assert (again.start, again.step_s, again.names) == (holed.start, holed.step_s, holed.names)
    np.testing.assert_array_equal(again.values, holed.values)


def test_what_a_sensor_cannot_have_measured_is_unknown(small_house):
    series = series_of_readings(
        small_house, {"time": [0, 0, 3600], "sensor": ["living", "meter", "living"], "value": [999.0, 5.0, 20.0]}, mended(), judge_units=False
    )
    assert np.isnan(series.column("living")[0])
    assert series.column("living")[1] == 20.0
    assert series.column("meter")[0] == 5.0


def changed(series, change):
    """Readings of the series with `change(values)` in its meter."""
    values = series.values.copy()
    values[:, 0] = change(values[:, 0])
    return arrays(readings_of(replace(series, values=values)))


def last_third_times_ten(use):
    return np.where(np.arange(len(use)) < len(use) * 2 // 3, use, 10 * use)


def some(use, share):
    return np.random.default_rng(0).random(len(use)) < share


FAULTS = {
    "unit": (last_third_times_ten, "small: meter: energy is 10 times what it is otherwise"),
    "negative": (lambda use: np.where(some(use, 0.3), -use, use), "small: column 'meter' has 574 negative values"),
    "kWh": (lambda use: use / 1000, "its peaks are only 1.* readings are expected in Wh of the step"),
    "range": (lambda use: np.where(some(use, 0.2), 60_000, use), "small: column 'meter' has 398 values outside 0 to 50,000 W .*at 2026-01-01T"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused_as_in_a_table_and_name_house_and_time(small_house, small_series, fault):
    change, says = FAULTS[fault]
    with pytest.raises(DataError, match=says):
        checked_table(small_house, changed(small_series, change))


def test_repaired_readings_say_so(small_house, small_series):
    table = checked_table(small_house, changed(small_series, last_third_times_ten), repair=True)
    assert [(found.kind, found.done, found.sensor) for found in table.findings if found.kind != "gap"] == [("unit", "repaired", "meter")]
    np.testing.assert_allclose(table.series.values[-24:, 0], small_series.values[-24:, 0])


def test_readings_that_contradict_each_other_are_refused_and_repeated_ones_are_not(small_house, small_series):
    readings = readings_of(small_series)
    twice = arrays(pd.concat([readings, readings], ignore_index=True))
    assert checked_table(small_house, twice).findings == ()
    other = arrays(pd.concat([readings, readings.assign(value=readings["value"] * 1.01)], ignore_index=True))
    with pytest.raises(DataError, match="5,760 readings that a later one of the same sensor and time contradicts"):
        checked_table(small_house, other)
    table = checked_table(small_house, other, repair=True)
    assert [found.kind for found in table.findings] == ["contradiction"]
    np.testing.assert_allclose(table.series.values, small_series.values * 1.01)


def test_a_shifted_summer_is_refused_in_readings_too(small_house, lived_in):
    use = lived_in(365, zone=small_house.zone)
    times = START + 3600 * np.arange(len(use), dtype=np.int64)
    late = times + np.where(utc_offsets_s(times, small_house.zone) > 3600, 3600, 0)
    _, one_each = np.unique(late, return_index=True)
    readings = {"time": late[one_each], "sensor": np.full(len(one_each), "meter"), "value": use[one_each]}
    with pytest.raises(DataError, match="small: the day's pattern comes 60 minutes late"):
        checked_table(small_house, readings)
    assert any(found.kind == "clock" for found in checked_table(small_house, readings, accept=("clock",)).findings)


def test_strange_sensors_are_left_out_and_strange_times_refused(small_house):
    row = {"time": [1800, 3600], "sensor": ["stranger", "meter"], "value": [1.0, 2.0]}
    assert len(series_of_readings(small_house, row, mended(), judge_units=False)) == 1
    with pytest.raises(DataError, match="between its steps of 3600 s"):
        series_of_readings(small_house, {**row, "sensor": ["meter", "meter"]}, strict())
    with pytest.raises(DataError, match="no readings of the sensors"):
        series_of_readings(small_house, {**row, "sensor": ["stranger", "other"]}, strict())


@pytest.fixture
def gather(small_run, tmp_path):
    """`gather("one", "two")` gathers copies of the small house with these names; a name in capitals has a table that cannot be read."""
    toml, rows = small_run[0].read_text(), small_run[1].read_text()

    def run(*names):
        for name in names:
            (tmp_path / f"{name}.toml").write_text(toml.replace('"small"', f'"{name.lower()}"'))
            (tmp_path / f"{name}.csv").write_text("nonsense" if name.isupper() else rows)
        houses, tables = ([str(tmp_path / f"{name}.{kind}") for name in names] for kind in ("toml", "csv"))
        return main(["fleet", "gather", "--house", *houses, "--data", *tables, "--out", str(tmp_path / "fleet")]), tmp_path / "fleet"

    return run


def test_a_fleet_has_each_houses_description_and_readings(gather, small_house, small_series, capsys):
    code, fleet = gather("one", "TWO")
    said = capsys.readouterr().out
    assert code == 0
    assert "skipped: " in said
    assert "TWO.csv" in said
    assert "1 of 2 houses gathered" in said
    assert [path.name for path in (fleet / "houses").iterdir()] == ["one.toml"]
    readings = pd.read_parquet(fleet / "readings" / "site=one" / "readings.parquet")
    again = series_of_readings(small_house, arrays(readings), strict())
    np.testing.assert_allclose(again.values, small_series.values, atol=1e-3)


def test_no_house_at_all_is_a_failure(gather, capsys):
    assert gather("ONE")[0] == 1
    assert "none of 1 houses could be gathered" in capsys.readouterr().err


def test_two_houses_of_one_name_are_not_mixed(gather, capsys):
    assert gather("one", "One")[0] == 0
    assert "site 'one' is that of" in capsys.readouterr().out


def test_houses_and_tables_must_pair_up(small_run):
    from rich.console import Console

    from trainer.fleet_folder import gather

    with pytest.raises(ConfigError, match="2 houses and 1 tables"):
        gather([small_run[0], small_run[0]], [small_run[1]], small_run[0].parent / "fleet", options=ReadOptions(), console=Console(quiet=True))


def test_a_null_takes_no_reading_back_and_rounding_contradicts_nothing(small_house):
    readings = {"time": [0, 0, 3600, 3600], "sensor": ["living"] * 4, "value": [20.1, np.nan, 20.1, float(np.float32(20.1))]}
    series = series_of_readings(small_house, readings, strict(), judge_units=False)
    np.testing.assert_allclose(series.column("living"), 20.1, rtol=1e-6)


def test_a_counters_count_among_readings_is_refused(small_house, small_series):
    with pytest.raises(DataError, match=r"it never falls, as a cumulative counter.*give the energy of each step"):
        checked_table(small_house, changed(small_series, lambda use: np.cumsum(np.nan_to_num(use)) / 1000))
