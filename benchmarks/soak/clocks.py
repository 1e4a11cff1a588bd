"""The clock set wrong and right again while the agent runs: no step twice, none left out, every total right."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from paho.mqtt import client as mqtt
from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.home import START, await_online, client
from benchmarks.soak.nights import TOML
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.schema import read_house
from edge_agent.history import History

TITLE = "The clock set while the agent runs"
LEAPS: Final = {"+1 h": 3600.0, "-1 h": -3600.0, "+1 day": 86_400.0, "-1 day": -86_400.0, "1970": -float(START)}
MINUTES: Final = {"5 min": 5, "25 min": 25}
"""How long it stays wrong: shorter and longer than it takes to be believed."""
SEEN: Final = ("no last_seen", "last_seen by this machine's clock", "last_seen by a clock that is right")
FIRST_MIN, BEFORE_MIN, AFTER_MIN = 25, 35, 45
RATE = 40.0
"""The clock's seconds in one of ours."""
STEP_S = 600
POWER_W = 360.0
ENERGY_WH = POWER_W * STEP_S / 3600
TOLERANCE = 0.15
"""Of a step's energy, and hours: a message without a time of its own counts when it comes, and 0.1 s of ours are 4 s here. A step taken twice, or an
hour off, is far beyond it."""


@dataclass
class _Home:
    """A meter of constant power, and a thermometer that shows the hour of true time."""

    name: str
    leap_s: float
    minutes: int
    seen: str
    folder: Path
    clock: MadeUpClock
    agent: AgentProcess

    def say(self, connection: mqtt.Client) -> None:
        """One message of each."""
        true = self.clock.true()
        fields: dict[str, object] = {}
        if self.seen != SEEN[0]:
            seen = self.clock.wall() if self.seen == SEEN[1] else true
            fields["last_seen"] = datetime.fromtimestamp(max(seen, 0.0), UTC).isoformat(timespec="milliseconds")
        hours = (true - START) / 3600
        for device, values in (("meter", {"energy": 500 + POWER_W * hours / 1000}), ("room", {"temperature": hours})):
            connection.publish(f"{self.name}/{device}", json.dumps(fields | values), qos=1)

    def look(self, true_min: float) -> None:
        """Set the clock wrong, or right, when its time has come."""
        is_wrong = BEFORE_MIN <= true_min < BEFORE_MIN + self.minutes
        ahead = self.leap_s if is_wrong else 0.0
        if ahead != self.clock.wall() - self.clock.true():
            self.clock.set_ahead(ahead)


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """Every leap, for both times, by each kind of `last_seen`."""
    leaps = {"+1 h": LEAPS["+1 h"]} if quick else LEAPS
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), leaps=leaps, progress=progress)


def run(work: Path, *, leaps: dict[str, float], progress: Progress) -> list[Row]:
    """All homes at once, at one broker."""
    broker = Mosquitto(work, extra=["max_queued_messages 0"]).start()
    homes = [_home(work, i, name, minutes, seen, broker.port) for i, (name, minutes, seen) in enumerate(product(leaps, MINUTES, SEEN))]
    connection = client()
    connection.connect("127.0.0.1", broker.port)
    connection.loop_start()
    try:
        for lives_min in (
            FIRST_MIN,
            BEFORE_MIN + max(MINUTES.values()) + AFTER_MIN,
        ):  # a run that begins a history says nothing of its clock
            codes = _live(homes, connection, broker.port, lives_min, progress)
    finally:
        for home in homes:
            home.agent.kill()
        connection.disconnect()
        connection.loop_stop()
        broker.stop()
    return [_row(name, [(h, code) for h, code in zip(homes, codes, strict=True) if h.leap_s == leap_s]) for name, leap_s in leaps.items()]


def _home(work: Path, number: int, leap: str, minutes: str, seen: str, port: int) -> _Home:
    name = f"home{number}"
    folder = work / name
    folder.mkdir()
    text = TOML.format(zone="Europe/Berlin").replace('site = "home"', f'site = "{name}"').replace("zigbee2mqtt/", f"{name}/")
    (folder / "house.toml").write_text(text, encoding="utf-8")
    clock = MadeUpClock.create(folder / "clock.json", start=float(START), rate=1.0)
    return _Home(name, LEAPS[leap], MINUTES[minutes], seen, folder, clock, AgentProcess(folder, folder / "house.toml", port, clock=clock))


def _live(homes: list[_Home], connection: mqtt.Client, port: int, lives_min: int, progress: Progress) -> list[int]:
    """One run of all agents, with every minute a message of each device; returns their exit codes."""
    for home in homes:
        home.agent.start(wait=False)
    for home in homes:
        await_online(home.name, port)
    starts = {home.name: home.clock.true() for home in homes}
    for home in homes:
        home.clock.set_rate(RATE)
    spoken, minutes = dict.fromkeys(starts, -1.0), dict.fromkeys(starts, 0.0)
    task = progress.add_task("clocks, minutes", total=lives_min)
    while min(minutes.values()) < lives_min:
        for home in homes:
            now = minutes[home.name] = (home.clock.true() - starts[home.name]) / 60
            home.look(now if lives_min > FIRST_MIN else 0.0)
            if now >= spoken[home.name] + 1:
                spoken[home.name] = np.floor(now)
                home.say(connection)
        progress.update(task, completed=min(minutes.values()))
        time.sleep(0.02)
    for home in homes:
        home.clock.set_rate(1.0)
    return [home.agent.stop() for home in homes]


def _row(name: str, homes: list[tuple[_Home, int]]) -> Row:
    """What the agents of one leap have stored."""
    n = missing = wrong = stray = 0
    for home, _ in homes:
        spec = read_house(home.folder / "house.toml")
        with History(home.folder / "history.db") as history:
            last = history.last_closed()
            assert last is not None
            values = history.series(spec.features, START, last + STEP_S, STEP_S).values[2:]  # the agent was not yet there in the first
            (later,) = history.rows("SELECT count(*) FROM steps WHERE time > ? OR time < ? OR time % ? != 0", home.clock.true(), START, STEP_S)[0]
        middles = (np.arange(len(values)) + 2.5) * STEP_S / 3600
        n, stray = n + values.size, stray + later
        missing += int(np.isnan(values).sum())
        off = np.abs(values - np.stack([np.full(len(values), ENERGY_WH), middles], axis=1)) > [TOLERANCE * ENERGY_WH, TOLERANCE]
        wrong += int(off.sum())
    codes = sum(code != 0 for _, code in homes)
    measured = f"{missing} missing, {wrong} wrong, {stray} in no time, of {n} steps of {len(homes)} agents; {codes} ended badly"
    return Row(f"clock set by {name} and back", "0 missing, doubled or wrong", measured, n > 0 and missing == wrong == stray == codes == 0)
