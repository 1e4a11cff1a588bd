from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.errors import ConfigError, DataError
from trainer.__main__ import main
from trainer.readings import readings_of, series_of_readings


def arrays(readings):
    return {"time": readings["time"].astype("int64").to_numpy() // 1_000_000, "sensor": readings["sensor"], "value": readings["value"]}


def test_a_series_survives_as_readings(small_house, small_series):
    holed = replace(small_series, values=small_series.values.copy())
    holed.values[5:9, 0] = np.nan
    again = series_of_readings(small_house, arrays(readings_of(holed).sample(frac=1.0, random_state=0)))
    assert (again.start, again.step_s, again.names) == (holed.start, holed.step_s, holed.names)
    np.testing.assert_array_equal(again.values, holed.values)


def test_what_a_sensor_cannot_have_measured_is_unknown(small_house):
    series = series_of_readings(small_house, {"time": [0, 0, 3600], "sensor": ["living", "meter", "living"], "value": [999.0, 5.0, 20.0]})
    assert np.isnan(series.column("living")[0])
    assert series.column("living")[1] == 20.0
    assert series.column("meter")[0] == 5.0


def test_strange_sensors_are_left_out_and_strange_times_refused(small_house):
    row = {"time": [1800, 3600], "sensor": ["stranger", "meter"], "value": [1.0, 2.0]}
    assert len(series_of_readings(small_house, row)) == 1
    with pytest.raises(DataError, match="between its steps of 3600 s"):
        series_of_readings(small_house, {**row, "sensor": ["meter", "meter"]})
    with pytest.raises(DataError, match="no readings of the sensors"):
        series_of_readings(small_house, {**row, "sensor": ["stranger", "other"]})


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
    again = series_of_readings(small_house, arrays(readings))
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
        gather([small_run[0], small_run[0]], [small_run[1]], small_run[0].parent / "fleet", repair=False, console=Console(quiet=True))
