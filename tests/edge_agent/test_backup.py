"""A copy of the history is whole, or there is none."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

from edge_agent.backup import back_up, put_back
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.history import History
from edge_agent.steps import ClosedStep

T = 1_772_359_200
PLUG = Feature("plug", "energy")
HOUSE = parse_house(
    """
site = "home"
time_zone = "UTC"
targets = [{name = "energy", sensor = "plug"}]
sensors = [{name = "plug", role = "energy", topic = "zigbee2mqtt/plug", field = "energy", topic_unit = "kWh"}]
""",
    source="house.toml",
)
OPEN = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT * FROM steps").fetchone()
print("open", flush=True)
time.sleep(60)
"""


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


def test_a_place_that_is_not_there_is_named(source, tmp_path):
    with pytest.raises(ServiceError, match=r"none/copy.db: there is no folder .*none: make it first"):
        back_up(source, tmp_path / "none" / "copy.db", now=T)


def later(source):
    """The history goes on after the copy."""
    with History(source) as history:
        history.close_steps(steps(500, 510), {"next": 510})


def test_a_copy_put_back_is_the_history_and_the_one_before_is_kept(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    later(source)
    aside = put_back(copy, source, house=HOUSE, now=T)
    assert aside == tmp_path / "history-before-20260301T100000Z.db"
    for path, last in ((source, 499), (aside, 509)):
        with History(path) as history:
            assert history.last_closed() == T + 600 * last
    assert values(source) == [float(i) for i in range(500)]
    assert {path.name for path in tmp_path.iterdir()} == {"copy.db", "history.db", aside.name}


def test_the_log_that_a_killed_agent_left_does_not_spoil_the_copy(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    with History(source) as history:
        history.close_steps(steps(500, 510), {"next": 510})
        for suffix in ("", "-wal", "-shm"):  # as the disk is after a kill
            shutil.copyfile(f"{source}{suffix}", tmp_path / f"killed.db{suffix}")
    killed = tmp_path / "killed.db"
    aside = put_back(copy, killed, house=HOUSE, now=T)
    assert values(killed) == [float(i) for i in range(500)]
    with History(aside) as history:
        assert history.last_closed() == T + 600 * 509


def test_where_there_is_no_history_a_copy_begins_one(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    assert put_back(copy, tmp_path / "new" / "history.db", house=HOUSE, now=T) is None
    assert values(tmp_path / "new" / "history.db") == [float(i) for i in range(500)]


def test_nothing_is_put_back_under_a_running_agent(source, tmp_path):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    with subprocess.Popen([sys.executable, "-c", OPEN, str(source)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(ServiceError, match="an agent is using it: stop it first"):
            put_back(copy, source, house=HOUSE, now=T)
        other.kill()
    put_back(copy, source, house=HOUSE, now=T)


@pytest.mark.parametrize("kind", ["damaged", "text", "none", "another's"])
def test_what_is_no_whole_history_of_this_house_changes_nothing(source, tmp_path, kind):
    copy = back_up(source, tmp_path / "copy.db", now=T)
    later(source)
    if kind == "damaged":
        with copy.open("r+b") as file:
            file.seek(-3 * 4096, os.SEEK_END)
            file.write(b"\xff" * 3 * 4096)
    elif kind == "text":
        copy.write_text("no database")
    elif kind == "none":
        copy.unlink()
    else:
        copy.unlink()
        with sqlite3.connect(copy) as db:
            db.execute("CREATE TABLE bookmarks (url)")
        db.close()
    with pytest.raises(ServiceError, match=r"copy\.db: cannot be put in the place of .*what was there before is untouched"):
        put_back(copy, source, house=HOUSE, now=T)
    with History(source) as history:
        assert history.last_closed() == T + 600 * 509
    assert not [path for path in tmp_path.iterdir() if "part" in path.name or "before" in path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_what_root_makes_in_the_services_folder_is_the_services(source, tmp_path):
    (tmp_path / "service").mkdir()
    os.chown(tmp_path / "service", 12345, 12345)
    history = tmp_path / "service" / "history.db"
    put_back(back_up(source, tmp_path / "copy.db", now=T), history, house=HOUSE, now=T)
    with History(tmp_path / "service" / "other.db"):
        pass
    assert [(path.stat().st_uid, path.stat().st_gid) for path in (history, tmp_path / "service" / "other.db")] == [(12345, 12345)] * 2
