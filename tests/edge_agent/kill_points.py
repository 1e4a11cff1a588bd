"""Kills an installation with SIGKILL at every point where it matters, and sees that the store is whole.

    python kill_points.py HOUSE FIRST SECOND FOLDER

A point is every file operation that Python knows of (its audit events) and every line of the modules that write. At each, a forked child installs
SECOND over FIRST and kills itself there; then either model must be current and whole, and a second run must succeed. Prints the number of points.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: F401  so that signatures are not checked in a process of its own each

import edge_agent.download
from edge_agent import install as module
from edge_agent import store as store_module
from edge_agent.contract import bundle as bundle_module
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.schema import parse_house
from edge_agent.install import DOWNLOADS, Wishes
from edge_agent.store import ModelStore
from edge_agent.trial import Trial

OPERATIONS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.chown",
    "os.chmod",
    "os.truncate",
    "shutil.rmtree",
    "os.scandir",
    "fcntl.flock",
}
WRITERS = {store_module.__file__, edge_agent.download.__file__}
WRITING = {"fill_folder", "write_synced", "sync_folder"}
"""Functions of the bundle module that write."""


def kill_at(point):
    """Arm this process: it dies just before the point."""
    left = [point]

    def count():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(frame, event, _argument):
        code = frame.f_code
        if code.co_filename not in WRITERS and not (code.co_filename == bundle_module.__file__ and code.co_name in WRITING):
            return None
        if event == "line":
            count()
        return trace

    sys.addaudithook(lambda event, _arguments: event in OPERATIONS and count())
    sys.settrace(trace)


def install(source, state_dir, house_text, *, days=0):
    house = parse_house(house_text, source="house.toml")
    store = ModelStore(state_dir)
    list(module.install(source, house=house, house_text=house_text, store=store, wishes=Wishes(days=days), trial=lambda *_, **__: Trial(0.1, 1.0)))
    return store.standing("energy").current


def check_whole(state_dir, allowed):
    """Either standing holds, and every model that it speaks of can be used."""
    store = ModelStore(state_dir)
    standing = store.standing("energy")
    assert standing.current in allowed, standing
    for model in standing.models:
        assert read_bundle(store.bundle("energy", model)).manifest.id == model


def check_tidy(state_dir, current):
    names = {entry.name for entry in (state_dir / "models" / "energy").iterdir()}
    standing = ModelStore(state_dir).standing("energy")
    assert standing.current == current
    assert names == {"standing.json", *standing.models}, names
    assert not list((state_dir / DOWNLOADS).glob("*")), "downloads are left over"


def main(house, first, second, folder):
    house_text, folder = Path(house).read_text(encoding="utf-8"), Path(folder)
    before = install(first, folder / "before", house_text)
    after = install(second, shutil.copytree(folder / "before", folder / "whole"), house_text)
    assert before != after
    point, killed = 0, True
    while killed:
        point += 1
        state_dir = shutil.copytree(folder / "before", folder / "state")
        child = os.fork()
        if child == 0:
            kill_at(point)
            install(second, state_dir, house_text)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or status == 0, f"point {point}: {status}"
        check_whole(state_dir, {before, after})
        assert install(second, state_dir, house_text) == after
        check_tidy(state_dir, after)
        shutil.rmtree(state_dir)
    sys.stdout.write(f"{point - 1}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
