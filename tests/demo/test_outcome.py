import json

import numpy as np
import pytest
from rich.console import Console

from demo.outcome import MODEL, forecast_table, score_forecasts, score_table
from demo.picture import draw_forecast, gather
from edge_agent.contract.localtime import iso_local, iso_utc
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from trainer.baselines import CLIMATOLOGY

HOUSE = parse_house(
    """
site = "test"
time_zone = "Europe/Berlin"
step = 3600
[[targets]]
name = "energy"
sensor = "mains"
[[targets]]
name = "warmth"
sensor = "room"
[[sensors]]
name = "mains"
role = "energy"
column = "mains"
[[sensors]]
name = "room"
role = "indoor_temperature"
column = "room"
""",
    source="house.toml",
)
START = 1_772_319_600
"""2026-03-01 00:00 in Berlin."""
DAY = 86_400
ORIGIN = START + 20 * DAY


def series_of(last_day):
    """Twenty days of 100 Wh an hour at 20 degC, then a day of `last_day` Wh an hour."""
    energy = np.concatenate([np.full(480, 100.0), np.full(24, last_day)])
    return Series(START, 3600, HOUSE.features, np.stack([energy, np.full(504, 20.0)], axis=1))


def message(origin=ORIGIN, *, p10=150.0, value=180.0, p90=220.0, unit="Wh", total=4400.0):
    rows = [{"time": iso_local(origin + 3600 * i, HOUSE.zone), "value": value, "p10": p10, "p90": p90} for i in range(24)]
    totals = {} if total is None else {"tomorrow": {"date": "2026-03-21", "value": total, "p10": 4000.0, "p90": 5200.0, "model_share": 1.0}}
    head = {"unit": unit, "origin": iso_utc(origin), "step_s": 3600, "grade": "full", "model": {"name": "m", "version": "1"}}
    return json.loads(json.dumps({**head, "totals": totals, "forecast": rows}))


def shown(table):
    console = Console(width=160, file=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_scores_worked_out_by_hand():
    outcome = score_forecasts([message()], series_of(200.0), HOUSE, "energy")
    line = outcome.lines[MODEL]
    # losses: 0.1 * (200 - 150), 0.5 * (200 - 180), 0.1 * (220 - 200); twice their mean
    assert line.crps == pytest.approx(2 * (5 + 10 + 2) / 3)
    assert line.mae == pytest.approx(20.0)
    assert line.total_mae == pytest.approx(400.0)  # 4400 published, 24 * 200 happened
    assert line.coverage == 1.0


def test_baselines_worked_out_by_hand():
    outcome = score_forecasts([message()], series_of(200.0), HOUSE, "energy")
    climatology = outcome.lines[CLIMATOLOGY]
    assert (climatology.crps, climatology.mae, climatology.total_mae) == pytest.approx((100.0, 100.0, 2400.0))
    assert outcome.lines["same time yesterday"].coverage is None
    assert outcome.skill(MODEL) == pytest.approx(1 - (34 / 3) / 100)
    assert outcome.skill(MODEL, "total_mae") == pytest.approx(1 - 400 / 2400)


def test_only_forecasts_of_full_hours_with_a_known_day_are_scored():
    messages = [message(ORIGIN - 3600), message(ORIGIN - 1800), message(ORIGIN), message(ORIGIN + 3600)]
    outcome = score_forecasts(messages, series_of(200.0), HOUSE, "energy")
    assert (outcome.n_origins, outcome.n_days) == (2, 1)  # the last one's day is not over


def test_skill_against_a_faultless_climatology_is_unknown():
    outcome = score_forecasts([message()], series_of(100.0), HOUSE, "energy")
    assert np.isnan(outcome.skill(MODEL))


def test_target_that_does_not_add_up_has_no_total():
    outcome = score_forecasts([message(p10=19.0, value=20.5, p90=22.0, unit="degC", total=None)], series_of(100.0), HOUSE, "warmth")
    assert outcome.lines[MODEL].mae == pytest.approx(0.5)
    assert np.isnan(outcome.lines[MODEL].total_mae)


def test_score_table_shows_every_method():
    text = shown(score_table(score_forecasts([message()], series_of(200.0), HOUSE, "energy"), "Wh"))
    for label in (MODEL, CLIMATOLOGY, "persistence", "same time last week"):
        assert label in text
    assert "+88.7%" in text
    assert "+83.3%" in text


def test_forecast_table_shows_hours_the_total_and_what_happened():
    hourly = message(p10=0.15, value=0.18, p90=0.22, unit="kWh", total=4.4)
    hourly["totals"]["tomorrow"].update(p10=4.0, p90=5.2)
    text = shown(forecast_table(hourly, series_of(200.0), HOUSE, "energy"))
    assert "Saturday 21 March 2026" in text
    assert text.count("0.15 to 0.22") == 24
    last = next(line for line in text.splitlines() if "whole day" in line)
    assert [cell.strip() for cell in last.split("│")[2:5]] == ["4.40", "4.00 to 5.20", "4.80"]


def test_picture_shows_mean_power_of_forecast_and_truth():
    day = gather(message(), series_of(200.0), HOUSE, "energy")
    assert day.actual.tolist() == [200.0] * 24  # 200 Wh in an hour are 200 W
    assert day.quantiles[0].tolist() == [150.0, 180.0, 220.0]
    assert day.anchor[0].tolist() == [100.0, 100.0, 100.0, 100.0]
    assert day.past.tolist() == [100.0] * 12
    assert day.edges(24)[0] * DAY == pytest.approx(ORIGIN)


@pytest.mark.parametrize(("target", "unit", "total"), [("energy", "Wh", 4400.0), ("warmth", "degC", None)])
def test_picture_is_drawn_for_energy_and_for_states(tmp_path, target, unit, total):
    draw_forecast(message(unit=unit, total=total), series_of(200.0), HOUSE, target, path=tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


def test_picture_is_drawn_before_the_day_is_over(tmp_path):
    series = series_of(200.0).between(START, ORIGIN + 6 * 3600)
    assert np.isnan(gather(message(), series, HOUSE, "energy").actual[6:]).all()
    draw_forecast(message(), series, HOUSE, "energy", path=tmp_path / "day.png")
    assert (tmp_path / "day.png").stat().st_size > 10_000
