import gzip

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.errors import DataError
from trainer.weather_table import read_weather

TABLE = """issued,time,outdoor_temperature,wind_speed
2026-01-01T00:00Z,2026-01-01T00:00Z,1.5,3
2026-01-01T00:00Z,2026-01-01T01:00Z,2.5,
2026-01-01T07:00+01:00,2026-01-01T06:00Z,4.5,5
2026-01-01T07:00+01:00,2026-01-01T07:00Z,5.5,5
"""
MIDNIGHT = 1_767_225_600
HOUR = 3600


@pytest.fixture
def file(tmp_path):
    def write(text, name="weather.csv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def ahead(forecasts, origin, horizon=2):
    return forecasts.ahead(np.array([origin]), horizon=horizon, step_s=HOUR, roles=("outdoor_temperature", "wind_speed"))[0].tolist()


def test_each_issue_counts_from_when_it_was_issued(file):
    forecasts = read_weather(file(TABLE))
    assert ahead(forecasts, MIDNIGHT) == [[2.0, 3.0], [2.5, pytest.approx(np.nan, nan_ok=True)]]
    assert ahead(forecasts, MIDNIGHT + 6 * HOUR) == [[5.0, 5.0], [5.5, 5.0]]


def test_a_damaged_gzip_file_says_so(tmp_path):
    whole = gzip.compress(TABLE.encode())
    for damaged in (whole[:-20], whole[:30] + b"XXXX" + whole[34:]):
        (tmp_path / "weather.csv.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="damaged or cut short"):
            read_weather(tmp_path / "weather.csv.gz")


def test_parquet_and_gzip_say_the_same(file, tmp_path):
    frame = pd.read_csv(file(TABLE))
    frame.to_csv(tmp_path / "weather.csv.gz", index=False)
    frame["time"] = pd.to_datetime(frame["time"])
    frame.to_parquet(tmp_path / "weather.parquet")
    for name in ("weather.csv.gz", "weather.parquet"):
        assert ahead(read_weather(tmp_path / name), MIDNIGHT + 6 * HOUR) == [[5.0, 5.0], [5.5, 5.0]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("issued", "isued", "column 'issued' is missing"),
        ("wind_speed", "wind", "unknown column 'wind': did you mean 'wind_speed'"),
        ("1.5", "151.5", "column 'outdoor_temperature', row 2"),
        ("1.5", "warm", "'warm' cannot be"),
        ("2026-01-01T06:00Z", "tomorrow", "column 'time'"),
        ("2026-01-01T06:00Z", "", "row 4 has no time"),
    ],
)
def test_what_cannot_be_is_refused_by_place(file, old, new, said):
    with pytest.raises(DataError, match=said):
        read_weather(file(TABLE.replace(old, new, 1)))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read_weather(tmp_path / "none.csv")
