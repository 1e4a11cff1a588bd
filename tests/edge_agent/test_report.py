"""What was forecast beside what happened."""

from datetime import date

import numpy as np
import pytest

from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import iso_local
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.contract.series import Series
from edge_agent.history import History
from edge_agent.report import report_lines
from edge_agent.steps import ClosedStep

START = 1_780_264_800  # 2026-06-01 00:00 in Berlin
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}, {name = "warmth", sensor = "room"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", unit = "kWh", column = "use [kWh]"},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", unit = "degF"},
  {name = "boiler", role = "energy_part", topic = "zigbee2mqtt/boiler", unit = "W"},
]
""",
    source="house.toml",
)


@pytest.fixture
def history(tmp_path):
    """Two days of 100 Wh an hour at 20 degC, the last hour unknown."""
    with History(tmp_path / "history.db") as history:
        history.bind(HOUSE)
        steps = [ClosedStep(START + 3600 * hour, {"meter": 100.0, "room": 20.0, "boiler": 50.0}, ()) for hour in range(47)]
        history.close_steps([*steps, ClosedStep(START + 3600 * 47, {"meter": np.nan, "room": np.nan, "boiler": np.nan}, ())], {})
        yield history


def save(history, target, *, origin, value, day, unit="Wh"):
    totals = {"tomorrow": {"date": day.isoformat(), "value": value, "p10": value - 500, "p90": value + 500}} if unit == "Wh" else {}
    rows = [{"time": iso_local(START + 3600 * hour, HOUSE.zone), "value": value, "p10": value - 1, "p90": value + 1} for hour in range(48)]
    payload = {"grade": "full", "unit": unit, "totals": totals, "forecast": rows}
    history.save_forecast(target, origin=origin, issued_at=origin, payload=payload)


def test_a_days_total_is_compared_with_the_last_forecast_before_it(history):
    save(history, "energy", origin=START - 7200, value=9000.0, day=date(2026, 6, 1))
    save(history, "energy", origin=START, value=2200.0, day=date(2026, 6, 1))
    save(history, "energy", origin=START + 3600, value=2300.0, day=date(2026, 6, 2))
    lines = list(report_lines(HOUSE, history, days=3))
    assert lines[0] == "energy (kWh a day)"
    assert lines[1] == "  2026-06-01  forecast     2.20  (1.70 to 2.70)  full      actual     2.40  error -0.20  in the band"
    assert lines[2] == "  2026-06-02  forecast     2.30  (1.80 to 2.80)  full      not over, or not known throughout"


def test_imported_steps_are_enough(tmp_path):
    with History(tmp_path / "imported.db") as history:
        history.bind(HOUSE)
        history.import_series(Series(START, 3600, (Feature("meter", "energy"),), np.full((24, 1), 100.0)))
        save(history, "energy", origin=START, value=2200.0, day=date(2026, 6, 1))
        assert "actual     2.40" in list(report_lines(HOUSE, history, days=3))[1]


def test_what_is_imported_behind_the_last_closed_step_counts(history):
    history.import_series(Series(START + 48 * 3600, 3600, (Feature("meter", "energy"),), np.full((24, 1), 100.0)))
    assert history.last_step() == START + 71 * 3600


def test_a_temperature_is_compared_by_the_days_mean(history):
    save(history, "warmth", origin=START, value=22.0, day=date(2026, 6, 1), unit="degC")
    lines = list(report_lines(HOUSE, history, days=3))
    assert "  no forecast of these days is stored" in lines
    assert "  2026-06-01  forecast    22.00  (21.00 to 23.00)  full      actual    20.00  error +2.00  outside the band" in lines


def test_an_empty_history_has_nothing_to_report(tmp_path):
    with History(tmp_path / "history.db") as history, pytest.raises(ServiceError, match="no forecast was made from it yet"):
        list(report_lines(HOUSE, history, days=3))
