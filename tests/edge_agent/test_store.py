"""The model store: whatever happens, the old standing holds or the new one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import store as module
from edge_agent.contract.errors import ServiceError
from edge_agent.standing import Standing
from edge_agent.store import ModelStore

ONE, TWO = "1" * 16, "2" * 16
FILES = {"model.onnx": b"graph", "manifest.json": b"{}"}
MADE = "2026-11-01T00:00:00Z"


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "state")


def installed(store, *models, target="energy"):
    for model in models:
        with store.locked():
            standing = store.standing(target).with_installed(model, created_at=MADE, now=5, days=0)
            store.add(target, model, FILES)
            store.save(target, standing)
    return standing


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_nothing_installed_is_what_ships_and_looking_makes_nothing(store):
    assert (store.standing("energy"), store.targets(), store.version("energy")) == (Standing(), [], (0, 0))
    assert not store.path.exists()


def test_what_was_installed_is_there(store):
    standing = installed(store, ONE)
    assert store.standing("energy") == standing
    assert content(store.bundle("energy", ONE)) == FILES
    assert (store.targets(), store.standing("warmth")) == (["energy"], Standing())


def test_a_change_can_be_seen_from_outside(store):
    installed(store, ONE)
    before = store.version("energy")
    assert store.version("energy") == before
    installed(store, TWO)
    assert store.version("energy") != before


def test_what_no_standing_speaks_of_is_swept_away(store):
    installed(store, ONE, TWO, "3" * 16)
    assert sorted(entry.name for entry in (store.path / "energy").iterdir()) == [TWO, "3" * 16, module.STANDING]
    (store.path / "energy" / ".new-left-over").mkdir()
    (store.path / "energy" / f".new-{ONE}").mkdir()
    (store.path / "energy" / ONE).mkdir()
    with store.locked():
        store.save("energy", Standing())
    assert [entry.name for entry in (store.path / "energy").iterdir()] == [module.STANDING]


def test_a_damaged_bundle_is_replaced_by_the_same_one(store):
    installed(store, ONE)
    (store.bundle("energy", ONE) / "model.onnx").write_bytes(b"rot")
    with store.locked():
        store.add("energy", ONE, FILES)
    assert content(store.bundle("energy", ONE)) == FILES


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"current": "../../x"}'])
def test_a_damaged_state_file_is_named_and_says_what_to_do(store, text):
    installed(store, ONE)
    (store.path / "energy" / module.STANDING).write_text(text)
    with pytest.raises(ServiceError, match=r"energy/standing\.json: cannot be read .*remove it to forecast by what ships"):
        store.standing("energy")


def test_a_disk_that_takes_nothing_leaves_the_old_standing(store, monkeypatch):
    standing = installed(store, ONE)

    def full(*_):
        raise OSError(28, "No space left on device")

    for name, change in (("fill_folder", lambda: store.add("energy", TWO, FILES)), ("write_synced", lambda: store.save("energy", Standing()))):
        with monkeypatch.context() as broken, store.locked():
            broken.setattr(module, name, full)
            with pytest.raises(ServiceError, match="No space left on device"):
                change()
        assert (store.standing("energy"), content(store.bundle("energy", ONE))) == (standing, FILES)


def test_two_programs_do_not_change_it_at_once(store):
    code = "import pathlib, sys, edge_agent.store\nwith edge_agent.store.ModelStore(pathlib.Path(sys.argv[1])).locked(wait=False): pass"
    command = [sys.executable, "-c", code, str(store.path.parent)]
    with store.locked():
        other = subprocess.run(command, capture_output=True, text=True)
    assert "another program is changing the models: try again later" in other.stderr
    assert subprocess.run(command).returncode == 0


def test_an_error_of_the_one_who_holds_it_stays_what_it_is(store):
    with pytest.raises(PermissionError), store.locked():
        raise PermissionError("mine")


def test_everything_is_on_the_disk_before_something_relies_on_it(store, monkeypatch):
    """The order of operations: files, their folder, the bundle's name, its folder; then the state file, its name, its folder."""
    done = []

    def record(what, name):
        kept = getattr(os, name)

        def called(*given):
            done.append((what, Path(f"/proc/self/fd/{given[0]}").readlink().name if what == "sync" else Path(given[1]).name))
            return kept(*given)

        monkeypatch.setattr(os, name, called)

    record("sync", "fsync")
    record("name", "rename")
    record("name", "replace")
    installed(store, ONE)
    where = {what: place for place, what in enumerate(done)}
    order = [("sync", "model.onnx"), ("sync", "bundle"), ("name", ONE), ("sync", "energy"), ("name", "standing.json")]
    first = [done.index(what) for what in order]
    assert first == sorted(first)
    assert where["sync", ".new-standing.json"] < where["name", "standing.json"] < where["sync", "energy"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_installs_belongs_to_the_service(store):
    store.path.parent.mkdir()
    os.chown(store.path.parent, 12345, 12346)
    assert store.is_anothers
    installed(store, ONE)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in store.path.rglob("*")} == {(12345, 12346)}
    assert store.path.stat().st_uid == 12345
