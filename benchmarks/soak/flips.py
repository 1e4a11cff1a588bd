"""One byte of the database flipped: the agent lives, says so where SQLite can see it, and keeps every closed step that can be read."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.home import HOUSE, START, Ear, Sensors, await_online, house, remember
from benchmarks.soak.passing import GRACE_S, RATE, Passing
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.database import examine
from edge_agent.history import History
from edge_agent.rescue import damaged_files

TITLE = "The database with one byte flipped"
FLIPS = 200
AT_ONCE = 25
"""Agents that run beside each other: so many start in well under a minute, after which they examine their histories."""
WATCHED_S = 85.0
"""The agent examines its history a minute after its start; a step closes every two minutes at this clock."""
LATE_S = 6.0
"""Every other byte is flipped this long after the start, behind SQLite's back."""

PAGE, HEAD = 4096, 128
"""Bytes of SQLite's pages, and of their beginning, where it keeps how the page is made up: every other pair of bytes is aimed there."""

Steps = dict[tuple[str, int], float]
"""Value by sensor and time."""


@dataclass
class _Victim:
    """An agent, and its history with one flipped byte."""

    site: str
    folder: Path
    offset: int
    mask: int
    is_late: bool
    agent: AgentProcess
    visible: str | None = None
    """What SQLite finds wrong with the file, right after the flip."""
    readable: Steps = field(default_factory=dict)
    """What SQLite can read of the closed steps, right after the flip; emptied when it has been compared."""
    code: int | None = None
    lost: int = 0
    """Closed steps that could be read and are gone."""
    gone: int = 0
    """Those that are gone."""
    changed: int = 0
    """Those with another value: SQLite keeps no checksums."""

    @property
    def path(self) -> Path:
        """Of the history."""
        return self.folder / "history.db"

    def compare(self, truth: Steps) -> None:
        """See what is left of the closed steps."""
        after = dict(_readable(self.path))
        self.lost = sum(key in truth and key not in after for key in self.readable)
        self.gone = len(truth.keys() - after.keys())
        self.changed = sum(value != after.get(key, value) for key, value in truth.items())
        self.readable = {}

    def flip(self) -> None:
        """Flip the byte, and see what SQLite makes of a copy."""
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            byte = file.read(1)[0]
            file.seek(self.offset)
            file.write(bytes([byte ^ self.mask]))
        copy = self.folder / "copy.db"
        for end in ("", "-wal"):
            source = self.path.with_name(f"history.db{end}")
            if source.exists():
                shutil.copy(source, copy.with_name(f"copy.db{end}"))
        self.visible, self.readable = examine(copy), dict(_readable(copy))


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """200 places."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), flips=4 if quick else FLIPS, watched_s=15.0 if quick else WATCHED_S, progress=progress)


def run(work: Path, *, flips: int, watched_s: float, progress: Progress, seed: int = 2) -> list[Row]:
    """Flip one byte in each of so many copies of a history; with less than a minute, only what is met at the start can be named."""
    dice, victims = random.Random(seed), list[_Victim]()
    broker = Mosquitto(work, extra=["max_queued_messages 0"]).start()
    try:
        clock = _lived(work / "healthy", broker.port)
        truth = dict(_readable(work / "healthy" / "history.db"))
        for first in progress.track(range(0, flips, AT_ONCE), description=f"flips, {AT_ONCE} at once"):
            batch = [_victim(work, i, dice, broker.port, clock) for i in range(first, min(first + AT_ONCE, flips))]
            victims += batch
            _watch(batch, watched_s, broker.port)
            for victim in batch:
                victim.compare(truth)
        said = {victim.site: _said(victim.site, broker.port) for victim in victims}
    finally:
        for victim in victims:
            victim.agent.kill()
        broker.stop()
    return _rows(victims, len(truth), said, is_examined=watched_s > 60)


def _lived(folder: Path, port: int) -> MadeUpClock:
    """A history of 9 days and two steps of its own, and the clock by which it ended."""
    folder.mkdir()
    remember(folder / "history.db", days=9)
    clock = MadeUpClock.create(folder / "clock.json", start=START + GRACE_S, rate=RATE)
    agent = AgentProcess(folder, HOUSE, port, clock=clock)
    with Sensors(house(), port, now=clock.true, start=START) as sensors:
        agent.start()
        await_online(house().site, port)
        passing = Passing(clock, sensors)
        passing.steps(2)
        passing.seconds(1.0)
        agent.stop()
    with History(folder / "history.db") as history:  # SQLite's log goes into the file when it is closed
        history.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return clock


def _victim(work: Path, number: int, dice: random.Random, port: int, clock: MadeUpClock) -> _Victim:
    site = f"flip{number}"
    folder = work / site
    folder.mkdir()
    shutil.copy(work / "healthy" / "history.db", folder / "history.db")
    spec = folder / "house.toml"
    spec.write_text(HOUSE.read_text(encoding="utf-8").replace('site = "uci_appliances"', f'site = "{site}"'), encoding="utf-8")
    size = (folder / "history.db").stat().st_size
    page, within = dice.randrange(size // PAGE), dice.randrange(PAGE if number % 4 < 2 else HEAD)
    return _Victim(site, folder, page * PAGE + within, dice.randrange(1, 256), number % 2 == 1, AgentProcess(folder, spec, port, clock=clock))


def _watch(batch: list[_Victim], watched_s: float, port: int) -> None:
    """Start the agents, flip the bytes, and stop those who live."""
    for victim in batch:
        if not victim.is_late:
            victim.flip()
        victim.agent.start(wait=False)
    for victim in batch:
        with suppress(TimeoutError):  # who died is told at the end
            await_online(victim.site, port)
    time.sleep(LATE_S)
    for victim in batch:
        if victim.is_late:
            victim.flip()
    time.sleep(watched_s)
    for victim in batch:
        victim.code = victim.agent.stop() if victim.agent.is_alive else None


def _said(site: str, port: int) -> str:
    """What the agent's last `health` said, all of it."""
    with Ear(site, port) as ear:
        time.sleep(0.3)
        return "\n".join(heard.payload.decode() for heard in ear.on("health"))


def _rows(victims: list[_Victim], n_steps: int, said: dict[str, str], *, is_examined: bool) -> list[Row]:
    dead = [victim for victim in victims if victim.code != 0]
    visible = [victim for victim in victims if victim.visible is not None and not victim.is_late]
    silent = [victim for victim in visible if "damaged" not in said[victim.site] + victim.agent.log_text()]
    late = [victim for victim in victims if victim.is_late and victim.visible is not None and not damaged_files(victim.path)]
    left = [victim for victim in late if examine(victim.path) is not None]
    lost, gone, changed = sum(v.lost for v in victims), max(v.gone for v in victims), sum(v.changed for v in victims)
    worst = f"; at most {gone} of {n_steps} in one file could not be read; {changed} values changed unseen (SQLite keeps no checksums)"
    return [
        Row("agents alive", f"{len(victims)}", f"{len(victims) - len(dead)}{_places(dead)}", not dead),
        Row(
            "damage that SQLite sees at the start, named",
            f"{len(visible)}",
            f"{len(visible) - len(silent)}{_places(silent)}",
            not silent if is_examined else None,
        ),
        Row("damage done while it runs, neither named nor written over", "0", f"{len(left)}{_places(left)}", not left if is_examined else None),
        Row("closed steps lost that SQLite can read", "0", f"{lost}{worst}", lost == 0),
    ]


def _places(victims: list[_Victim]) -> str:
    """Where the bytes are, to try them again."""
    return "".join(f"; {victim.site} at byte {victim.offset} ^ {victim.mask}" for victim in victims[:5])


def _readable(path: Path) -> Iterator[tuple[tuple[str, int], float]]:
    """Closed steps as SQLite reads them: along the table from both ends, until the first error each."""
    with ExitStack() as stack:
        connection = stack.enter_context(closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)))
        for order in ("ASC", "DESC"):
            query = f"SELECT name, time, value FROM steps JOIN sensors ON sensor = id ORDER BY sensor {order}, time {order}"
            try:
                for name, time_s, value in connection.execute(query):
                    if isinstance(name, str) and isinstance(time_s, int) and isinstance(value, float):
                        yield (name, time_s), value
            except (sqlite3.Error, UnicodeDecodeError):
                continue
