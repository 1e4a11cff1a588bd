"""What is on the disk stays there, whole, whatever happens to the program."""

import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError, ServiceError, StorageError
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.contract.series import Series
from edge_agent.history import BUILDER, History
from edge_agent.meter import Repair, Revision
from edge_agent.reading import Reading
from edge_agent.steps import ClosedStep

STEP = 600
T = 1_772_359_200
DAY = 86_400
ENERGY, ROOM = Feature("plug", "energy"), Feature("room", "indoor_temperature")
FEATURES = (ENERGY, ROOM)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "history.db"


@pytest.fixture
def history(path):
    with History(path) as history:
        yield history


def step(i, *, plug=math.nan, room=math.nan, repairs=()):
    return ClosedStep(T + i * STEP, {"plug": plug, "room": room}, tuple(repairs))


def values(history, n=4):
    return history.series(FEATURES, T, T + n * STEP, STEP).values.tolist()


def house(*, step_s=STEP, role="energy"):
    text = 'site = "test"\ntime_zone = "UTC"\n[[targets]]\nname = "energy"\nsensor = "plug"\n[[sensors]]\nname = "plug"\ntopic = "plug"\n'
    return parse_house(f'step = {step_s}\n{text}role = "{role}"\n', source="test")


nan = pytest.approx(math.nan, nan_ok=True)


# Steps


def test_what_was_closed_is_read_back(history):
    history.close_steps([step(0, plug=12.5, room=20.25), step(1, room=21.0)], {})
    history.close_steps([step(3, plug=0.1)], {})
    assert values(history) == [[12.5, 20.25], [nan, 21.0], [nan, nan], [0.1, nan]]
    assert history.last_closed() == T + 3 * STEP


def test_a_window_may_begin_before_and_end_after_what_is_stored(history):
    history.close_steps([step(0, plug=1.0), step(1, plug=2.0), step(2, plug=3.0)], {})
    series = history.series((Feature("new", "co2"), ENERGY), T + STEP, T + 2 * STEP, STEP)
    assert series.values.tolist() == [[nan, 2.0]]
    assert np.isnan(history.series(FEATURES, T - 2 * DAY, T, STEP).values).all()
    assert len(history.series(FEATURES, T, T, STEP)) == 0


def test_a_step_that_is_unknown_throughout_is_closed_too(history):
    history.close_steps([step(0)], {})
    assert history.last_closed() == T


def test_a_new_history_is_empty(history):
    assert history.last_closed() is None
    assert history.state(BUILDER) is None
    assert history.readings_since(0) == history.repairs(0) == history.forecasts("energy", 0) == []


def test_steps_and_the_state_they_belong_to_survive_a_reopening(path):
    with History(path) as history:
        history.close_steps([step(0, plug=1 / 3)], {"meters": {"plug": [1, None, 0.1]}})
    with History(path) as history:
        assert values(history, 1) == [[1 / 3, nan]]
        assert history.state(BUILDER) == {"meters": {"plug": [1, None, 0.1]}}


def test_a_step_is_never_measured_twice(history):
    history.close_steps([step(0, plug=1.0)], {})
    history.close_steps([step(0, plug=2.0)], {})
    assert values(history, 1) == [[1.0, nan]]


def test_steps_and_state_are_stored_together_or_not_at_all(history):
    history.close_steps([step(0, plug=1.0)], {"at": 0})
    with pytest.raises(TypeError):
        history.close_steps([step(1, plug=2.0)], {"at": object()})
    assert values(history, 2) == [[1.0, nan], [nan, nan]]
    assert (history.state(BUILDER), history.last_closed()) == ({"at": 0}, T)
    history.close_steps([step(1, plug=2.0)], {"at": 1})
    assert values(history, 2) == [[1.0, nan], [2.0, nan]]


def test_a_sensor_first_seen_in_a_transaction_that_failed_is_registered_again(history):
    with pytest.raises(TypeError):
        history.close_steps([step(0, plug=1.0)], {"at": object()})
    history.close_steps([step(0, plug=1.0)], {})
    assert values(history, 1) == [[1.0, nan]]


def test_sixty_days_of_28_sensors_come_back_as_they_were(history):
    features = tuple(Feature(f"s{i}", "other") for i in range(28))
    series = Series(T, STEP, features, np.random.default_rng(0).normal(size=(60 * 144, 28)))
    series.values[::7, 3] = np.nan
    history.import_series(series)
    assert np.array_equal(history.series(features, T, series.end, STEP).values, series.values, equal_nan=True)


def revised(i, value, was, *, sensor="plug"):
    return Revision(T + i * STEP, sensor, value, was)


def test_a_revision_changes_a_step_and_remembers_what_it_was(history):
    history.close_steps([step(0, plug=40.0), step(1, plug=math.nan), step(2, plug=5.0)], {})
    history.close_steps([ClosedStep(T + 3 * STEP, {}, (), (revised(0, 45.0, 40.0), revised(1, 50.0, math.nan), revised(2, math.nan, 5.0)))], {})
    assert values(history, 3) == [[45.0, nan], [50.0, nan], [nan, nan]]
    assert history.revisions(T) == [revised(0, 45.0, 40.0), revised(1, 50.0, nan), revised(2, nan, 5.0)]
    assert history.revisions(T + 2 * STEP) == [revised(2, nan, 5.0)]


def test_a_revision_in_the_same_breath_as_its_step(history):
    first, second = step(0, plug=40.0), ClosedStep(T + STEP, {"plug": 1.0}, (), (revised(0, 45.0, 40.0),))
    history.close_steps([first, second], {})
    assert values(history, 2) == [[45.0, nan], [1.0, nan]]


def test_what_a_clock_ahead_stored_is_taken_back(history):
    history.import_series(Series(T + 5 * STEP, STEP, (ENERGY,), np.array([[9.0]])))
    history.add_readings([Reading("plug", T + STEP + 1, 1.0), Reading("plug", T + DAY, 2.0)])
    history.close_steps([step(i, plug=float(i), repairs=[Repair(T + i * STEP, "plug", "gap", 1.0)]) for i in range(4)], {"open_from": 1})
    for i in range(5):
        history.save_forecast("energy", origin=T + i * STEP, issued_at=T, payload={})
    assert history.withdraw(T + 2 * STEP, step_s=STEP, later_than=T + 2 * STEP, by_s=DAY - 2.5 * STEP) == 2
    assert values(history, 6) == [[0.0, nan], [1.0, nan], [nan, nan], [nan, nan], [nan, nan], [9.0, nan]]
    assert [r.time for r in history.readings_since(0)] == [T + STEP + 1, T + 2.5 * STEP]
    assert (len(history.repairs(0)), len(history.forecasts("energy", 0))) == (3, 3)
    assert (history.last_closed(), history.state(BUILDER)) == (T + STEP, None)
    assert history.withdraw(T, step_s=STEP, later_than=T, by_s=None) == 2
    assert history.readings_since(0) == []


def test_a_file_whose_neighbours_cannot_be_made_is_still_read(path, monkeypatch):
    with History(path) as history:
        history.close_steps([step(0, plug=12.5)], {})
    history, tried = History(path), []
    connect = history.database._connect

    def no_room(address, **options):
        tried.append(address)
        if "immutable" not in address:
            raise StorageError("disk I/O error")
        connect(address, **options)

    monkeypatch.setattr(history.database, "_connect", no_room)
    history.open_to_read()
    assert values(history, 1) == [[12.5, nan]]
    assert len(tried) == 2
    history.close()


# Imported steps


def imported(*plug):
    return Series(T, STEP, (ENERGY,), np.array(plug)[:, None])


def test_an_import_never_overwrites_a_measured_step(history):
    history.close_steps([step(1, plug=50.0)], {})
    assert history.import_series(imported(1.0, 2.0, math.nan, 4.0)) == 2
    assert values(history) == [[1.0, nan], [50.0, nan], [nan, nan], [4.0, nan]]


def test_a_measured_step_replaces_an_imported_one(history):
    history.import_series(imported(1.0, 2.0))
    history.close_steps([step(1, plug=50.0)], {})
    assert values(history, 2) == [[1.0, nan], [50.0, nan]]


def test_an_import_closes_no_step(history):
    history.import_series(imported(1.0))
    assert history.last_closed() is None


# Readings


def test_readings_are_read_back_in_the_order_of_time(history):
    late, early, snapshot = Reading("room", T + 0.25, 20.5), Reading("plug", T, 1.0), Reading("room", T + 1, 20.75, retained=True)
    history.add_readings([late, early, snapshot])
    assert history.readings_since(T) == [early, late, snapshot]
    assert history.readings_since(T + 0.5) == [snapshot]


def test_a_reading_that_came_twice_is_stored_once(history):
    history.add_readings([Reading("room", T, 20.0), Reading("room", T, 21.0)])
    assert history.readings_since(T) == [Reading("room", T, 21.0)]


def stored_readings(path):
    with sqlite3.connect(path) as other:
        (n,) = other.execute("SELECT count(*) FROM readings").fetchone()
    other.close()
    return n


def test_readings_are_committed_when_half_a_second_has_passed(history, path):
    history.commit_if_due(100.0)
    history.add_readings([Reading("room", T, 20.0)])
    history.commit_if_due(100.4)
    assert stored_readings(path) == 0
    history.commit_if_due(100.5)
    assert stored_readings(path) == 1


def test_what_was_only_written_is_brought_to_the_disk_when_it_is_due(history, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink()))
    history.add_readings([Reading("plug", T + 1.0, 1.0)])
    history.commit("NORMAL")
    assert synced == []
    history.commit_if_due(10.0)
    assert synced == [history.path.with_name("history.db-wal")]
    history.commit_if_due(11.0)
    assert len(synced) == 1


def test_buffered_readings_are_written_with_a_closed_step_and_at_the_end(path):
    with History(path) as history:
        history.add_readings([Reading("room", T, 20.0)])
        history.close_steps([step(0)], {})
        assert stored_readings(path) == 1
        history.add_readings([Reading("room", T + 1, 20.0)])
    assert stored_readings(path) == 2


# Repairs, forecasts, state


def test_repairs_are_kept_with_their_sensor_and_time(history):
    first, second = Repair(T + 5, "plug", "reset", -550.0), Repair(T + 700, "plug", "gap", 70.0)
    history.close_steps([step(0, repairs=[first]), step(1, repairs=[second])], {})
    assert history.repairs(0) == [first, second]
    assert history.repairs(T + 6) == [second]


def test_forecasts_of_a_target_since_an_origin(history):
    for i, target in enumerate(["energy", "energy", "room"]):
        history.save_forecast(target, origin=T + i * STEP, issued_at=T + i * STEP + 5.5, payload={"value": [0.1, i, None]})
    (found,) = history.forecasts("energy", T + 1)
    assert (found.origin, found.issued_at, found.payload) == (T + STEP, T + STEP + 5.5, {"value": [0.1, 1, None]})


def test_other_state_is_kept_by_key(history):
    history.save_state("calibration", {"offsets": [0.1]})
    history.close_steps([step(0)], {"open_from": T})
    assert history.state("calibration") == {"offsets": [0.1]}


# Refusals


def test_a_house_with_another_step_is_refused(path):
    with History(path) as history:
        history.bind(house())
    with History(path) as history:
        for act in (
            lambda: history.bind(house(step_s=300)),
            lambda: history.series(FEATURES, T, T + 600, 300),
            lambda: history.import_series(Series(T, 300, (ENERGY,), np.zeros((1, 1)))),
        ):
            with pytest.raises(ConfigError, match=r"history\.db: holds steps of 600 s, the house has 300 s"):
                act()


def test_a_sensor_with_another_role_is_refused(history):
    history.bind(house())
    history.bind(house())
    with pytest.raises(ConfigError, match="sensor 'plug' has the role 'energy' there and 'co2'"):
        history.bind(house(role="co2"))


def test_a_newer_schema_is_refused(path):
    with History(path):
        pass
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
        other.execute("CREATE TABLE of_a_later_agent (x)")
    other.close()
    with pytest.raises(ServiceError, match="history of schema 99, this agent reads up to"):
        History(path).open()


def test_another_programs_database_is_refused(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE states (a)")
    other.close()
    with pytest.raises(ServiceError, match="another program's database"):
        History(path).open()


def test_a_file_that_is_no_database_is_named(path):
    path.parent.mkdir()
    path.write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(ServiceError, match=r"history.db: .*not a database"):
        History(path).open()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError, match="cannot be opened"):
        History(tmp_path / "file" / "history.db").open()


def test_a_history_that_another_process_holds_locked_says_so(history, path):
    history._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ServiceError, match=r"history.db: .*locked"):
        history.close_steps([step(0, plug=1.0)], {})
    other.execute("ROLLBACK")
    other.close()
    history.close_steps([step(0, plug=1.0)], {})
    assert values(history, 1) == [[1.0, nan]]


def test_an_unopened_history_says_so(path):
    with pytest.raises(ServiceError, match="not open"):
        History(path).state("x")


def test_the_owner_can_read_it_by_name_and_utc(history, path):
    history.bind(house())
    history.close_steps([step(0, plug=12.5)], {})
    other = sqlite3.connect(path)
    assert other.execute("SELECT * FROM steps_utc").fetchall() == [("plug", "2026-03-01 10:00:00", 12.5, "Wh", 0)]
    other.close()


# kill -9

CLOSER = """
import sys
from pathlib import Path
from edge_agent.history import BUILDER, History
from edge_agent.reading import Reading
from edge_agent.steps import ClosedStep

with History(Path(sys.argv[1])) as history:
    i = (history.state(BUILDER) or {"next": 0})["next"]
    while True:
        history.add_readings([Reading("plug", float(600 * i + 599), float(i))])
        values = {f"s{j}": float(i) for j in range(20)}
        history.close_steps([ClosedStep(600 * i, {"plug": float(i), **values}, ())], {"next": i + 1})
        print(i, flush=True)
        i += 1
"""


def run_and_kill(path, seconds):
    """Numbers of the steps that a process said were closed before it was killed, `seconds` after the first."""
    with subprocess.Popen([sys.executable, "-c", CLOSER, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        lines = process.stdout.readline()
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.read()
    return [int(line) for line in lines.splitlines()]


def test_kill_9_loses_no_closed_step_and_doubles_none(path):
    dice = random.Random(7)
    acknowledged = -1
    for _ in range(6):
        acknowledged = max([acknowledged, *run_and_kill(path, dice.uniform(0.0, 0.3))])
        with History(path) as history:
            n = history.state(BUILDER)["next"]
            series = history.series((ENERGY, Feature("s19", "other")), 0, 600 * n + 600, STEP)
            readings = history.readings_since(0)
        assert n > acknowledged
        assert history_is_whole(series, readings, n)


def history_is_whole(series, readings, n):
    expected = [[float(i)] * 2 for i in range(n)] + [[nan] * 2]
    return series.values.tolist() == expected and [r.value for r in readings] == [float(i) for i in range(n)]
