"""Issued forecasts come back as they went in."""

import sqlite3
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.forecast import Forecast, Total
from edge_agent.history import _READINGS, APPLICATION_ID, History
from edge_agent.issued import IssuedForecast, add_issued, issued_between

T = 1_772_359_200
LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / "history.db") as history:
        yield history


def issued(origin, *, role="live", model="ab12", factor=1.0, total=None):
    quantiles = factor * np.array([[1.0, 2.0, 3.0], [0.1, 0.2, 1e6]])
    totals = {} if total is None else {"tomorrow": total}
    forecast = Forecast("home", "energy", "Wh", T + 7, origin, 3600, LEVELS, quantiles, quantiles[:, 1], "full", (), {}, totals, ZoneInfo("UTC"))
    return IssuedForecast.of(forecast, model=model, role=role)


def test_what_was_issued_is_read_back(history):
    total = Total(date(2026, 3, 2), 8123.0, 6900.5, 9800.25, 0.75)
    add_issued(history, [issued(T, total=total), issued(T, role="shadow", model="cd34", factor=2.0)])
    live, shadow = issued_between(history, "energy", T, T + 1)
    assert (live.target, live.model, live.role, live.origin, live.issued_at, live.step_s) == ("energy", "ab12", "live", T, T + 7, 3600)
    assert (live.levels, live.grade, live.total) == (LEVELS, "full", total)
    np.testing.assert_array_equal(live.quantiles, np.float32([[1.0, 2.0, 3.0], [0.1, 0.2, 1e6]]))
    np.testing.assert_array_equal(shadow.mean, np.float32([4.0, 0.4]))
    assert (shadow.model, shadow.role, shadow.total, shadow.published) == ("cd34", "shadow", None, None)


def test_what_was_published_of_it_is_read_back(history):
    band = np.float32([[0.5, 2.0, 4.0], [0.05, 0.2, 2e6]])
    add_issued(history, [replace(issued(T), published=band)])
    np.testing.assert_array_equal(issued_between(history, "energy", T, T + 1)[0].published, band)


def test_a_window_holds_its_start_and_not_its_end(history):
    add_issued(history, [issued(T + hour * 3600) for hour in (2, 0, 1)])
    assert [f.origin for f in issued_between(history, "energy", T, T + 7200)] == [T, T + 3600]
    assert issued_between(history, "warmth", T, T + 7200) == []


def test_a_forecast_issued_again_replaces_the_first(history):
    add_issued(history, [issued(T)])
    add_issued(history, [issued(T, factor=3.0)])
    (found,) = issued_between(history, "energy", T, T + 1)
    assert found.mean[0] == 6.0


def test_a_history_of_an_older_agent_gets_the_table(tmp_path):
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as old:
        old.executescript(f"{_READINGS} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1;")
    old.close()
    with History(path) as history:
        add_issued(history, [issued(T)])
        assert len(issued_between(history, "energy", T, T + 1)) == 1
    with History(path) as history:
        assert len(issued_between(history, "energy", T, T + 1)) == 1
