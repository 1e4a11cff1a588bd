"""A copy of the history is whole, or there is none."""

import sqlite3
import threading

import pytest

from edge_agent.backup import back_up
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import Feature
from edge_agent.history import History
from edge_agent.steps import ClosedStep

T = 1_772_359_200
PLUG = Feature("plug", "energy")


def steps(first, last):
    return [ClosedStep(T + 600 * i, {"plug": float(i)}, ()) for i in range(first, last)]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "history.db"
    with History(path) as history:
        history.close_steps(steps(0, 500), {"next": 500})
    return path


def values(path):
    with History(path) as history:
        return history.series((PLUG,), T, T + 500 * 600, 600).values[:, 0].tolist()


def test_a_copy_holds_everything_and_is_a_history(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    assert values(copy) == [float(i) for i in range(500)]
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    db.close()


def test_a_folder_gets_a_file_named_by_the_time(source, tmp_path):
    (tmp_path / "copies").mkdir()
    assert back_up(source, tmp_path / "copies", now=T) == tmp_path / "copies" / "history-20260301T100000Z.db"


def test_a_history_in_use_is_copied_and_goes_on(source, tmp_path):
    with History(source) as history:
        copies = threading.Thread(target=lambda: [back_up(source, tmp_path / f"copy{i}.db", now=T) for i in range(5)])
        copies.start()
        i = 500
        while copies.is_alive():
            history.close_steps(steps(i, i + 1), {"next": i + 1})
            i += 1
        copies.join()
    for n in range(5):
        with History(tmp_path / f"copy{n}.db") as copy:
            closed = copy.state("builder")["next"]
            assert copy.last_closed() == T + 600 * (closed - 1)


def test_a_damaged_history_makes_no_copy_and_leaves_the_one_before(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    size = source.stat().st_size
    with source.open("r+b") as file:
        file.seek(size - 3 * 4096)
        file.write(b"\xff" * 3 * 4096)
    with pytest.raises(ServiceError, match="malformed"):
        back_up(source, copy, now=T)
    assert values(copy) == [float(i) for i in range(500)]
    assert not list(tmp_path.glob("*.part"))


def test_a_place_that_cannot_be_written_is_named(source, tmp_path):
    with pytest.raises(ServiceError, match=r"cannot be copied to .*none/copy.db"):
        back_up(source, tmp_path / "none" / "copy.db", now=T)
