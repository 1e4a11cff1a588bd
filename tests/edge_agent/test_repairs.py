"""What was done about meters and clocks can be read."""

import math

import pytest

from edge_agent.history import History
from edge_agent.meter import Repair, Revision
from edge_agent.repairs import EVENTS, WORDS, repair_lines
from edge_agent.steps import ClosedStep

STEP, DAY = 600, 86_400
T = 1_772_359_200  # 2026-03-01T10:00Z


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / "history.db") as history:
        yield history


def close(history, i, *, repairs=(), revisions=()):
    history.close_steps([ClosedStep(T + i * STEP, {"plug": 1.0, "mains": 2.0}, tuple(repairs), tuple(revisions))], {})


def test_nothing_to_tell_is_nothing_told(history):
    assert list(repair_lines(history, days=7)) == []
    close(history, 0)
    assert list(repair_lines(history, days=7)) == []


def test_repairs_are_summed_by_sensor_and_kind(history):
    close(history, 0, repairs=[Repair(T - 9 * DAY, "plug", "gap", 5.0), Repair(T + 60, "plug", "reset", -550.0)])
    close(history, 1, repairs=[Repair(T + 700, "plug", "reset", 10.0), Repair(T + 710, "mains", "gap+jump", 70.0)])
    lines = list(repair_lines(history, days=7))
    assert lines[0] == "repairs of 7 days"
    assert lines[1].split("  ")[-1] == "silent for longer than the hold time; counter rose by more than can be, and stayed so"
    assert lines[2].split()[:8] == ["plug", "2", "x", "-540.0", "Wh", "last", "2026-03-01T10:11:40Z", "counter"]


def test_revised_steps_are_counted(history):
    close(history, 0)
    changes = [(1.0, 3.0), (1.0, 0.0), (math.nan, 5.0), (1.0, math.nan)]
    close(history, 10, revisions=[Revision(T + i * STEP, "plug", value, was) for i, (was, value) in enumerate(changes)])
    (_, line, _) = repair_lines(history, days=7)
    assert " ".join(line.split()) == "plug 2 steps revised by 1.50 on average, 1 filled late, 1 found unknown"


def test_events_are_told(history):
    close(history, 0)
    history.save_state(EVENTS, ["2026-01-01T00:00:00Z long ago", "2026-03-01T09:00:00Z the clock was set by +3600 s"])
    assert list(repair_lines(history, days=7)) == ["events", "  2026-03-01T09:00:00Z the clock was set by +3600 s", ""]


def test_every_kind_of_repair_has_words():
    assert set(WORDS) == {"start", "gap", "reset", "jump", "scale", "stuck", "power", "outlier", "range"}
