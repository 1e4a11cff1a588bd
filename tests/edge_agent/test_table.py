"""The history as a table: out and in again."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError, DataError, ServiceError
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.history import History
from edge_agent.steps import ClosedStep
from edge_agent.table import read_csv, write_csv

START = 1_780_264_800  # 2026-06-01 00:00 in Berlin, 2026-05-31T22:00Z
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", unit = "kWh", column = "use [kWh]"},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", unit = "degF"},
  {name = "boiler", role = "energy_part", topic = "zigbee2mqtt/boiler", unit = "W"},
]
""",
    source="house.toml",
)
HEADER = "time,use [kWh],room,boiler\n"


@pytest.fixture
def history(tmp_path):
    """Two days of 100 Wh an hour at 20 degC, the last hour unknown."""
    with History(tmp_path / "history.db") as history:
        history.bind(HOUSE)
        steps = [ClosedStep(START + 3600 * hour, {"meter": 100.0, "room": 20.0, "boiler": 50.0}, ()) for hour in range(47)]
        history.close_steps([*steps, ClosedStep(START + 3600 * 47, {"meter": np.nan, "room": np.nan, "boiler": np.nan}, ())], {})
        yield history


@pytest.fixture
def empty(tmp_path):
    with History(tmp_path / "empty.db") as history:
        history.bind(HOUSE)
        yield history


def written(history):
    file = io.StringIO()
    n = write_csv(HOUSE, history, file)
    return n, file.getvalue()


def read(history, text, house=HOUSE):
    return read_csv(house, history, io.StringIO(text), source="table.csv")


def test_an_empty_history_has_no_table(empty):
    with pytest.raises(ServiceError, match="no closed step yet"):
        written(empty)


def test_the_table_is_in_the_units_of_the_house_file(history):
    n, text = written(history)
    rows = list(csv.reader(io.StringIO(text)))
    assert n == 47
    assert rows[0] == ["time", "use [kWh]", "room", "boiler"]
    assert rows[1] == ["2026-05-31T22:00:00Z", "0.1", "68", "50"]
    assert len(rows) == 48


def test_unknown_steps_are_empty_cells(history):
    first = START - 3600 * 24 * 31
    history.import_series(Series(first, 3600, HOUSE.features[:1], np.array([[200.0]])))
    rows = list(csv.reader(io.StringIO(written(history)[1])))
    assert rows[1][1:] == ["0.2", "", ""]
    assert rows[2][1:] == ["", "", ""]
    assert len(rows) == 1 + 31 * 24 + 47


def test_a_counter_column_cannot_hold_unknown_steps(history):
    meter = replace(HOUSE.sensor("meter"), column_form="counter")
    house = replace(HOUSE, sensors=(meter,))
    with pytest.raises(ConfigError, match="'meter': its column is a counter"):
        write_csv(house, history, io.StringIO())
    with pytest.raises(ConfigError, match="'meter': its column is a counter"):
        read(history, "time,use [kWh]\n", house=house)


def test_what_was_written_is_read_back_as_it_was(history, empty):
    history.import_series(Series(START - 3600 * 24 * 70, 3600, HOUSE.features[1:2], np.array([[-3.25]])))  # over three blocks before
    _, text = written(history)
    found = read(empty, text)
    assert (found.stored, found.known, found.rejected) == (1 + 3 * 47, 1 + 3 * 47, {})
    assert written(empty)[1] == text
    span = (START - 3600 * 24 * 70, START + 3600 * 48, 3600)
    assert np.allclose(empty.series(HOUSE.features, *span).values, history.series(HOUSE.features, *span).values, rtol=1e-8, equal_nan=True)


def test_reading_a_table_changes_nothing_that_is_known(history):
    found = read(history, HEADER + "2026-06-01T00:00:00+02:00,9,70,9\n2026-06-02T21:00:00Z,0.3,,\n")
    assert (found.stored, found.known) == (1, 4)
    assert history.series(HOUSE.features[:1], START, START + 48 * 3600, 3600).values[:, 0].tolist() == [100.0] * 47 + [300.0]


def test_values_outside_the_valid_range_are_left_out_and_counted(empty):
    found = read(empty, HEADER + "2026-06-01T00:00:00Z,51,68,nan\n2026-06-01T01:00:00Z,-1,1e9,inf\n2026-06-01T02:00:00Z,50,68,1\n")
    assert (found.stored, dict(found.rejected)) == (4, {"meter": 2, "room": 1, "boiler": 1})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ConfigError, "no column ''"),
        ("time\n", ConfigError, "no column ''"),
        ("time,rom\n", ConfigError, "no column 'rom': did you mean 'room'"),
        ("time,room\nyesterday,1\n", DataError, "line 2: 'yesterday' is no time with an offset"),
        ("time,room\n2026-06-01T00:00:00,1\n", DataError, "line 2: .* no time with an offset"),
        ("time,room\n2026-06-01T00:10:00Z,1\n", DataError, "not the start of a step of 3600 s"),
        ("time,room\n2026-06-01T00:00:00Z,1\n2026-06-01T00:00:00Z,1\n", DataError, "line 3: .* must ascend"),
        ("time,room\n2026-06-01T00:00:00Z,warm\n", DataError, "'warm' is no number"),
        ("time,room\n2026-06-01T00:00:00Z\n", DataError, "1 cells: 2 are expected"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_its_line(empty, text, error, message):
    with pytest.raises(error, match=message):
        read(empty, text)
    assert empty.bounds() is None
