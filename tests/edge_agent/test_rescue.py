"""What is left of a damaged history: everything that SQLite can still read."""

import random
import shutil

import numpy as np
import pytest

from edge_agent.contract.errors import CorruptError, ServiceError
from edge_agent.contract.schema import Feature
from edge_agent.database import examine
from edge_agent.history import BUILDER, History
from edge_agent.meter import Repair
from edge_agent.reading import Reading
from edge_agent.rescue import damaged_files
from edge_agent.steps import ClosedStep

STEP, N = 600, 400
T = 1_772_359_200
PAGE = 4096
SENSORS = ("plug", "room", "attic")
FEATURES = tuple(Feature(name, "other") for name in SENSORS)
EXPECTED = np.array([[float(i + 1000 * k) for k in range(3)] for i in range(N)])


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A history of 400 steps of three sensors, in one file."""
    path = tmp_path_factory.mktemp("healthy") / "history.db"
    closed = [
        ClosedStep(T + i * STEP, dict(zip(SENSORS, row, strict=True)), (Repair(T + i * STEP, "plug", "gap", 1.0),)) for i, row in enumerate(EXPECTED)
    ]
    with History(path) as history:
        history.add_readings([Reading(name, T + i * 3 * STEP + 1.5, float(i)) for i in range(N // 2) for name in ("plug", "room")])
        history.close_steps(closed, {"next": N})
    return path


@pytest.fixture
def path(healthy, tmp_path):
    return shutil.copy(healthy, tmp_path / "history.db")


def damage(path, page):
    """Overwrite the head of a page (the first is 0), which SQLite notices."""
    with path.open("r+b") as file:
        file.seek(PAGE * page)
        file.write(b"\xff" * 64)


def open_or_rescue(path):
    """As the agent does; the history, open."""
    history = History(path)
    try:
        history.open()
        everything(history)
    except CorruptError:
        history.rescue(T)
    return history


def everything(history):
    known = history.series(FEATURES, T, T + N * STEP, STEP).values
    return known, history.state(BUILDER), len(history.readings_since(0)), len(history.repairs(0))


def test_a_healthy_file_goes_over_whole(path):
    history = History(path)
    assert (
        history.rescue(T) == f"set aside as history.db.damaged-20260301T100000Z; saved 3 sensors, {N} readings, {N} repairs, 2 state, {3 * N} steps"
    )
    values, state, readings, repairs = everything(history)
    assert np.array_equal(values, EXPECTED)
    assert (state, readings, repairs) == ({"next": N}, N, N)
    history.close()
    assert [file.name for file in damaged_files(path)] == ["history.db.damaged-20260301T100000Z"]


def test_one_damaged_page_costs_what_it_held_and_no_more(healthy, tmp_path):
    pages = healthy.stat().st_size // PAGE
    lost_steps, lost_others = [], 0
    for page in range(2, pages):  # the first two hold the schema and the map of the pages
        folder = tmp_path / str(page)
        folder.mkdir()
        path = shutil.copy(healthy, folder / "history.db")
        damage(path, page)
        history = History(path)
        history.rescue(T)
        values, _, readings, repairs = everything(history)
        history.close()
        assert np.array_equal(values[np.isfinite(values)], EXPECTED[np.isfinite(values)])
        lost_steps.append(int(np.isnan(values).sum()))
        lost_others += readings < N or repairs < N
    assert pages > 15
    assert lost_others > 0
    leaves = [lost for lost in lost_steps if 0 < lost < 3 * N]
    assert sum(leaves) == 3 * N - (len(leaves) - 1)  # each leaf in turn: none is lost with another's page; the rows between two are in the page above
    assert max(leaves) < 300


def test_a_damaged_first_page_costs_nothing(path):
    damage(path, 0)
    history = open_or_rescue(path)
    np.testing.assert_array_equal(everything(history)[0], EXPECTED)
    history.close()
    assert len(damaged_files(path)) == 1
    assert sorted(file.name for file in path.parent.iterdir() if ".damaged" not in file.name) == ["history.db"]


def test_a_damaged_first_page_costs_nothing_of_what_is_still_in_the_log(path):
    with History(path) as history:
        history.close_steps([ClosedStep(T + N * STEP, {"plug": 7.0}, ())], {"next": N + 1})
        for file in (path, path.with_name(f"{path.name}-wal")):
            shutil.copy(file, file.with_name(f"killed-{file.name}"))
    killed = path.with_name(f"killed-{path.name}")
    damage(killed, 0)
    history = open_or_rescue(killed)
    assert history.last_closed() == T + N * STEP
    history.close()


@pytest.mark.parametrize(("at", "by"), [(68, 1), (63, 2), (63, 1), (60, 64)], ids=["application_id", "version up", "version down", "version far"])
def test_a_damaged_header_is_no_other_programs_file(path, at, by):
    content = bytearray(path.read_bytes())
    content[at] ^= by
    path.write_bytes(content)
    history = open_or_rescue(path)
    np.testing.assert_array_equal(everything(history)[0], EXPECTED)
    history.close()
    assert len(damaged_files(path)) == 1


def test_a_byte_flipped_anywhere_is_survived(healthy, tmp_path):
    dice, changed = random.Random(3), 0
    content = healthy.read_bytes()
    for _ in range(60):
        at, by = dice.randrange(len(content)), 1 << dice.randrange(8)
        path = tmp_path / "history.db"
        path.write_bytes(content[:at] + bytes([content[at] ^ by]) + content[at + 1 :])
        history = open_or_rescue(path)
        values = everything(history)[0]
        history.close()
        changed += int((values != EXPECTED).sum() > 0)
        for file in tmp_path.iterdir():
            file.unlink()
    assert changed < 60


def test_the_rows_before_and_behind_a_damaged_one_are_kept(healthy, path):
    """Each of a leaf's cells in turn begins where it does not: that row is lost, and no other."""
    content = healthy.read_bytes()
    leaf = next(at for at in range(2 * PAGE, len(content), PAGE) if content[at] == 10 and int.from_bytes(content[at + 3 : at + 5], "big") > 100)
    for cell in (1, 30, 60):
        damaged = bytearray(content)
        damaged[leaf + 8 + 2 * cell : leaf + 10 + 2 * cell] = b"\x0f\xff"
        path.write_bytes(damaged)
        history = open_or_rescue(path)
        values = everything(history)[0]
        history.close()
        assert (values != EXPECTED).sum() <= 1


def test_only_the_last_damaged_files_are_kept(path):
    for hour in range(4):
        history = History(path)
        history.rescue(T + 3600 * hour)
        history.close()
    assert [file.name[-7:-1] for file in damaged_files(path)] == ["120000", "130000"]


def test_a_rescue_cut_short_before_its_last_move_is_finished(path):
    path.rename(path.with_name("history.db.part"))
    with History(path) as history:
        assert np.array_equal(everything(history)[0], EXPECTED)


def test_a_rescue_that_has_no_room_leaves_the_damaged_file(path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_agent.rescue._copy_all", full)
    with pytest.raises(ServiceError, match="No space left"):
        History(path).rescue(T)
    assert sorted(file.name for file in path.parent.iterdir()) == ["history.db"]


def test_examining_finds_what_reading_has_not_met_yet(path):
    assert examine(path) is None
    damage(path, path.stat().st_size // PAGE - 1)
    assert examine(path) is not None


@pytest.mark.parametrize("high", [0x79, 0x59])
def test_a_damaged_key_does_not_hide_the_rows_behind_it(path, high):
    content = bytearray(path.read_bytes())
    at = content.index((T + 20 * STEP).to_bytes(4, "big"), 2 * PAGE)  # of the first sensor; its other 379 steps lie behind
    content[at] = high
    path.write_bytes(content)
    assert examine(path) == "steps are out of order"
    history = History(path)
    history.rescue(T)
    assert np.isnan(everything(history)[0]).sum() <= 2
    history.close()


def test_a_row_whose_end_is_damaged_keeps_its_value(path):
    content = bytearray(path.read_bytes())
    at = content.index((T + 20 * STEP).to_bytes(4, "big"), 2 * PAGE)  # of the first sensor
    assert content[at - 5 : at] == b"\x05\x09\x04\x01\x08"  # SQLite's types of sensor, time, value and the flag behind them
    content[at - 1] = 6  # eight bytes more than there are
    path.write_bytes(content)
    history = History(path)
    assert "of steps something is lost" in history.rescue(T)
    assert np.array_equal(everything(history)[0], EXPECTED)
    history.close()


@pytest.mark.parametrize("text", ["{", "[1, 2"])
def test_state_that_is_no_json_is_damage(path, text):
    with History(path) as history:
        history.database.connection.execute("UPDATE state SET value = ?", (text,))
        with pytest.raises(CorruptError, match="table state"):
            history.state(BUILDER)
        history.rescue(T)
        assert history.state(BUILDER) is None


@pytest.mark.parametrize("value", ["text", b"\x00\xff"])
def test_a_step_that_is_no_number_is_damage_and_the_others_go_on(path, value):
    with History(path) as history:
        history.database.connection.execute("UPDATE steps SET value = ? WHERE sensor = 1 AND time = ?", (value, T + 600))
        with pytest.raises(CorruptError, match="table steps"):
            history.series(FEATURES, T, T + N * STEP, STEP)
        assert "of steps something is lost" in history.rescue(T)
        assert np.isnan(everything(history)[0]).sum() == 1
