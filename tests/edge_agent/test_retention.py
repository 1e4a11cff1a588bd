"""What the history forgets, and that it does so bit by bit."""

import numpy as np
import pytest

from edge_agent.config import HistoryLimits
from edge_agent.contract.errors import FullError
from edge_agent.contract.schema import Feature
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, add_issued, issued_between
from edge_agent.meter import Repair
from edge_agent.reading import Reading
from edge_agent.retention import ROWS, Retention
from edge_agent.steps import ClosedStep

STEP = 600
T = 1_772_359_200
DAY = 86_400
PLUG = Feature("plug", "energy")


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / "history.db") as history:
        yield history


def step(i, value=1.0):
    return ClosedStep(T + i * STEP, {"plug": value}, (Repair(T + i * STEP, "plug", "gap", 0.0),))


def pieces(history, limits):
    """How many pieces of work there were."""
    retention, n = Retention(history, limits), 0
    while retention.tidy():
        n += 1
    return n


def test_what_is_older_than_asked_is_forgotten(history):
    history.add_readings([Reading("plug", T, 20.0), Reading("plug", T + 9 * STEP, 21.0)])
    history.close_steps([step(i) for i in range(10)], {})
    history.save_forecast("energy", origin=T, issued_at=T, payload={})
    history.save_forecast("energy", origin=T + 9 * STEP, issued_at=T, payload={})
    pieces(history, HistoryLimits(readings_s=STEP, steps_s=6 * STEP, forecasts_s=2 * STEP))
    assert [r.time for r in history.readings_since(0)] == [T + 9 * STEP]
    assert np.isnan(history.series((PLUG,), T, T + 10 * STEP, STEP).values).sum() == 3
    assert len(history.repairs(0)) == 7
    assert [f.origin for f in history.forecasts("energy", 0)] == [T + 9 * STEP]


def test_whole_forecasts_are_forgotten_once_their_day_was_scored(history):
    """One an hour for 40 days, live and in shadow: 35 days of them stay."""

    def forecast(hour, role):
        values = np.zeros((24, 3), np.float32)
        return IssuedForecast("energy", role, role, T + 3600 * hour, T + 3600.0 * hour, 3600, (0.1, 0.5, 0.9), values, values[:, 0], "full", None)

    add_issued(history, [forecast(hour, role) for hour in range(40 * 24) for role in ("live", "shadow")])
    history.close_steps([ClosedStep(T + 40 * DAY, {"plug": 1.0}, ())], {})
    pieces(history, HistoryLimits())
    left = issued_between(history, "energy", 0, T + 41 * DAY)
    assert (left[0].origin, left[-1].origin) == (T + 5 * DAY, T + 40 * DAY - 3600)
    assert len(left) == 2 * 35 * 24


def test_a_history_without_a_closed_step_forgets_nothing(history):
    history.add_readings([Reading("plug", 1.0, 20.0)])
    assert pieces(history, HistoryLimits(readings_s=1.0)) == 0
    assert len(history.readings_since(0)) == 1


def test_much_is_forgotten_in_many_pieces(history):
    history.add_readings([Reading("plug", T + i, float(i)) for i in range(5 * ROWS)])
    history.close_steps([step(100)], {})
    assert pieces(history, HistoryLimits(readings_s=1.0)) >= 5
    assert history.readings_since(0) == []


def test_space_that_came_free_goes_back_to_the_disk_in_pieces(history, monkeypatch):
    monkeypatch.setattr("edge_agent.retention.SPARE_PAGES", 8)
    monkeypatch.setattr("edge_agent.retention.PAGES", 16)
    history.add_readings(Reading("plug", T + i, float(i)) for i in range(20_000))
    history.close_steps([step(1000)], {})
    before = history.database.one("PRAGMA page_count")
    assert pieces(history, HistoryLimits(readings_s=1.0)) > 10 + 5  # of forgetting, and of giving back
    assert history.database.one("PRAGMA page_count") < before / 3


def filled(history, days):
    for day in range(days):
        for hour in range(24):
            at = T + day * DAY + hour * 3600
            history.add_readings(Reading("plug", at + i, float(i)) for i in range(0, 3600, 4))
        history.close_steps([step(day * 144 + i) for i in range(144)], {})


def test_a_file_over_its_limit_forgets_raw_readings_first(history):
    filled(history, 5)
    size = history.database.one("PRAGMA page_count") * 4096
    pieces(history, HistoryLimits(max_bytes=int(0.8 * size)))
    assert np.isfinite(history.series((PLUG,), T, T + 5 * DAY, STEP).values).all()
    left = history.readings_since(0)
    assert T + DAY < left[0].time < T + 4 * DAY
    assert left[-1].time > T + 5 * DAY - 10


def test_sqlite_itself_refuses_to_grow_beyond_the_limit(history):
    filled(history, 1)
    size = history.database.one("PRAGMA page_count") * 4096
    Retention(history, HistoryLimits(max_bytes=size)).tidy()
    history.add_readings(Reading("plug", T + 2 * DAY + i, 0.0) for i in range(20_000))
    with pytest.raises(FullError, match="max_mb"):
        history.commit()
    Retention(history, HistoryLimits()).tidy()
