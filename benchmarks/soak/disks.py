"""A disk that is full, read-only, or out of inodes: the agent lives on, says so, and has lost nothing when there is room again."""

from __future__ import annotations

import errno
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.home import HOUSE, POWER_W, START, Ear, Sensors, await_online, house, remember, until
from benchmarks.soak.passing import GRACE_S, RATE, Passing
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.localtime import DAY_S
from edge_agent.history import History

TITLE = "A disk that takes nothing"
SIZE = "16m"
INODES = 200
RECOVERY_S = 90.0
"""The agent tries to open a history anew once a minute."""


def _full(disk: Path) -> None:
    """Write until there is no room, not for one byte."""
    for size in (1 << 16, 1 << 12, 1):
        try:
            with (disk / f"filler{size}").open("ab", buffering=0) as file:
                while file.write(b"x" * size) == size:
                    pass
        except OSError as err:
            if err.errno != errno.ENOSPC:
                raise


def _without_inodes(disk: Path) -> None:
    """Make files until only one more can be made."""
    names = [disk / f"filler{i}" for i in range(INODES)]
    try:
        for name in names:
            name.touch()
    except OSError as err:
        if err.errno != errno.ENOSPC:
            raise
    max((name for name in names if name.exists()), key=lambda name: name.stat().st_ino).unlink()


def _freed(disk: Path) -> None:
    for file in disk.glob("filler*"):
        file.unlink()


def _read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def _writable(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def _abort(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)


FAULTS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], bool]] = {
    "full while it runs": (_full, _freed, True),
    "full at the start": (_full, _freed, False),
    "read-only at the start": (_read_only, _writable, False),
    "1 free inode at the start": (_without_inodes, _freed, False),
}
"""What is done to the disk, what ends it, and whether the agent runs already."""
CARD = "gone read-only while it runs"
"""As a memory card does that dies: the kernel finds its file system damaged. It stays so until somebody repairs it."""
QUICK = ("full while it runs",)


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """Every fault once."""
    kinds = QUICK if quick else (*FAULTS, CARD)
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return [row for kind in progress.track(kinds, description="disks") for row in run(Path(work), kind)]


def run(work: Path, kind: str) -> list[Row]:
    """One fault, in a folder of its own."""
    folder = work / kind.replace(" ", "-")
    (disk := folder / "disk").mkdir(parents=True)
    with _mounted(disk, is_card=kind == CARD) as is_mounted:
        if not is_mounted:
            return [Row(f"disk {kind}", "agent lives, nothing lost", "not measured: only root may mount a small disk", None)]
        return _suffer(folder, disk, kind)


@contextmanager
def _mounted(disk: Path, *, is_card: bool) -> Iterator[bool]:
    """A small disk in memory, or in a file (a card); whether it could be had."""
    is_mounted = _mount_card(disk) if is_card else _is_done("mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={INODES}", "hearthcast-soak", disk)
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(disk)], check=True)


def _mount_card(disk: Path) -> bool:
    """Repaired, if it was there before."""
    card = disk.with_suffix(".ext4")
    if not card.exists():
        card.write_bytes(b"\0" * (24 << 20))
        made = _is_done("mkfs.ext4", "-q", "-F", card)
    else:
        made = subprocess.run(["e2fsck", "-p", "-f", str(card)], capture_output=True).returncode in (0, 1)
    return made and _is_done("mount", "-o", "loop", card, disk)


def _repair(disk: Path) -> None:
    subprocess.run(["umount", str(disk)], check=True)
    attached = ["losetup", "--associated", str(disk.with_suffix(".ext4"))]
    until(lambda: not subprocess.run(attached, capture_output=True, check=True).stdout, "the end of the old mount")  # else it would be mounted again
    assert _mount_card(disk)


def _is_done(*command: object) -> bool:
    try:
        return subprocess.run(list(map(str, command)), capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _suffer(folder: Path, disk: Path, kind: str) -> list[Row]:
    spec, (harm, mend, is_running) = house(), FAULTS.get(kind, (_abort, _freed, True))
    remember(disk / "history.db", days=9)
    broker = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    clock = MadeUpClock.create(folder / "clock.json", start=START + GRACE_S, rate=RATE)
    agent = AgentProcess(folder, HOUSE, broker.port, clock=clock, flags=("--state-dir", str(disk)))
    codes: list[int] = []
    try:
        with Sensors(spec, broker.port, now=clock.true, start=START) as sensors, Ear(spec.site, broker.port) as ear:
            passing = Passing(clock, sensors)
            if not is_running:
                harm(disk)
            agent.start()
            await_online(spec.site, broker.port)
            passing.steps(1)
            passing.seconds(1.0)
            before = max(passing.due) if kind == CARD else None  # what was closed later, the card never took
            if is_running:
                harm(disk)
            told = _live(passing, ear, agent)
            if kind == CARD:
                codes.append(agent.stop())
                _repair(disk)
                agent.start()
            mend(disk)
            _recover(passing, ear)
            codes.append(agent.stop())
    finally:
        agent.kill()
        broker.stop()
    return _rows(disk / "history.db", kind, told, codes=codes, end=before)


@dataclass(frozen=True)
class _Told:
    """What could be heard of the agent while the disk took nothing."""

    is_alive: bool
    problems: list[str]
    steps: int
    forecasts: int


def _live(passing: Passing, ear: Ear, agent: AgentProcess) -> _Told:
    """Three steps."""
    before, topic = set(passing.due), f"forecast/{passing.sensors.spec.targets[0].name}"
    passing.steps(3)
    passing.seconds(2.0)
    due = {np.datetime64(origin, "s").item().strftime("%Y-%m-%dT%H:%M:%SZ") for origin in set(passing.due) - before}
    forecasts = due & {heard.json()["origin"] for heard in ear.on(topic)}
    return _Told(agent.is_alive, _problems(ear), len(due), len(forecasts))


def _recover(passing: Passing, ear: Ear) -> None:
    """Until the agent sees no problem any more, and a step longer."""
    end = time.monotonic() + RECOVERY_S
    while _problems(ear) and time.monotonic() < end:
        passing.steps(1)
        passing.seconds(1.0)
    passing.steps(1)
    passing.seconds(2.0)


def _problems(ear: Ear) -> list[str]:
    """What the agent says of its history."""
    heard = ear.on("health")
    problems = heard[-1].json()["problems"] if heard else []
    return [problem.partition("history.db: ")[2] for problem in problems if problem.startswith("history fails")]


def _rows(path: Path, kind: str, told: _Told, *, codes: list[int], end: int | None) -> list[Row]:
    """What is on the disk, up to `end` (None: the last closed step)."""
    spec = house()
    with History(path) as history:
        last = history.last_closed()
        assert last is not None
        steps = history.series(spec.features, START + spec.step_s, end or last + spec.step_s, spec.step_s)
        past = history.series(spec.features, START - 9 * DAY_S, START, spec.step_s)
    energy = steps.values[:, [feature.kind == "energy" for feature in spec.features]]
    missing = int(np.isnan(steps.values).sum() + np.isnan(past.values).sum())
    wrong = int((np.abs(energy - POWER_W * spec.step_s / 3600) > 1e-3).sum())
    lives = f"{'alive' if told.is_alive else 'DEAD'}, exit code {max(codes)} at the end; {told.forecasts} of {told.steps} forecasts"
    return [
        Row(f"disk {kind}: agent lives and forecasts", "every step", lives, told.is_alive and not any(codes) and told.forecasts == told.steps),
        Row(f"disk {kind}: named", "in `health`", told.problems[0] if told.problems else "not named", bool(told.problems)),
        Row(
            f"disk {kind}: closed steps lost, when there is room again",
            "0",
            f"{missing} of {steps.values.size + past.values.size}; {wrong} wrong",
            missing == wrong == 0,
        ),
    ]
