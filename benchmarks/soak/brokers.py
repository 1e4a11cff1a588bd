"""The broker killed, cut off, black-holed, robbed of its memory: the agent is back at once, and nothing that the broker kept is lost."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median

from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.home import HOUSE, START, Ear, Heard, Sensors, await_online, house, remember, until
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.proxy import Proxy
from benchmarks.soak.row import Row
from edge_agent.history import History

TITLE = "Broker killed, cut off, black-holed, restarted without its memory"
FAULTS = {"killed": 60, "restarted without its memory": 60, "cut off, no RST": 55, "black hole": 20, "line dead, broker well": 5}
"""How often each; 200 in all."""
QUICK = {"killed": 1, "restarted without its memory": 1, "cut off, no RST": 1}
AWAY_S = {
    "killed": (0.0, 5.0),
    "restarted without its memory": (0.0, 5.0),
    "cut off, no RST": (0.5, 8.0),
    "black hole": (22.0, 26.0),
    "line dead, broker well": (0.0, 0.0),
}
"""How long the broker cannot be reached. A black hole lasts longer than it takes to notice one: what was connected before stays dead for ever."""
QUICK_AWAY_S = (0.5, 1.5)
BACK_S = 5.0
NOTICED_S = 25.0
"""A line on which nothing comes through, and nothing is said either, is noticed by the lack of an answer to a ping: 10 s and 10 s."""
REPORT_EVERY_S = 1.0
REST_S = 2.0
"""At the end, with nothing more to come."""
SAVING_S = 0.5
"""Mosquitto saves what it keeps about once a second. What it acknowledged after it began to write the file that it leaves behind was not kept."""
FORGOTTEN_S = 3.0
"""Before a death after which even that file is gone: what was acknowledged then may not have been handed out yet."""
CONFIGURATION = ("persistence true", "autosave_interval 1", "autosave_on_changes false", "max_queued_messages 0")


@dataclass
class _Diary:
    """What came of each fault."""

    back: dict[str, list[float]] = field(default_factory=dict)
    """Seconds from the broker's return to the agent's first word, by kind of fault."""
    not_kept: list[tuple[float, float]] = field(default_factory=list)
    """Stretches of the monotonic clock in which the broker kept nothing for the agent."""
    retained: Counter[str] = field(default_factory=Counter)
    """Topics that were retained before the broker lost its memory, and after: `restored`, `missing`."""


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """200 faults."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), faults=QUICK if quick else FAULTS, away_s=dict.fromkeys(QUICK, QUICK_AWAY_S) if quick else AWAY_S, progress=progress)


def run(folder: Path, *, faults: dict[str, int], away_s: dict[str, tuple[float, float]], progress: Progress, seed: int = 4) -> list[Row]:
    """Do so many `faults` of each kind in random order, each for a time within `away_s`."""
    spec, dice = house(), random.Random(seed)
    now = int(time.time())
    begin = now - now % spec.step_s
    remember(folder / "history.db", days=9, end=begin)
    saved = (f"persistence_location {folder}/", *CONFIGURATION)
    broker = Mosquitto(folder, extra=saved).start()
    kinds = dice.sample([kind for kind, n in faults.items() for _ in range(n)], sum(faults.values()))
    with Proxy(broker.port) as proxy:
        agent = AgentProcess(folder, HOUSE, proxy.port)
        try:
            with Sensors(spec, broker.port, now=time.time, start=START) as sensors:
                line = _Line(broker, proxy, sensors, memory=folder / "mosquitto.db")
                agent.start()
                await_online(spec.site, broker.port)  # from here on the broker keeps what the agent misses
                line.rest(2.0)
                for kind in progress.track(kinds, description="broker faults"):
                    line.suffer(kind, dice.uniform(*away_s[kind]))
                    line.rest(dice.uniform(1.0, 3.0))
                line.rest(2.0)
                sensors.settle()
                time.sleep(REST_S)
                code = agent.stop()
        finally:
            agent.kill()
            broker.stop()
    return _rows(folder / "history.db", line.diary, sensors, code)


class _Line:
    """The way between agent and broker, and what becomes of it; sensors report all the time, straight to the broker."""

    def __init__(self, broker: Mosquitto, proxy: Proxy, sensors: Sensors, *, memory: Path) -> None:
        self.broker, self.proxy, self.sensors, self.memory = broker, proxy, sensors, memory
        self.diary = _Diary()
        self._report_at, self._broker_began = 0.0, time.monotonic()

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self._report_at:
                self._report_at = now + REPORT_EVERY_S
                self.sensors.report()
            time.sleep(0.02)

    def suffer(self, kind: str, away_s: float) -> None:
        """One fault, until the agent is back."""
        if kind in ("killed", "restarted without its memory"):
            self._die(away_s, is_forgetful=kind != "killed")
        elif kind == "line dead, broker well":
            self.proxy.orphan()
            self._await_agent(kind)
        else:
            self.proxy.is_silent, self.proxy.is_hole = True, kind == "black hole"
            self.rest(away_s)
            self.proxy.is_silent = self.proxy.is_hole = False
            self._await_agent(kind)

    def _die(self, away_s: float, *, is_forgetful: bool) -> None:
        before = self._retained() if is_forgetful else set()
        self.broker.kill()
        kept_until = self._forget() if is_forgetful else self._saved()
        self.rest(away_s)
        gone_until = self._broker_began = time.monotonic()
        self.broker.start()
        self._await_agent("restarted without its memory" if is_forgetful else "killed")
        if is_forgetful:
            self.diary.retained["restored"] += len(before & (after := self._retained()))
            self.diary.retained["missing"] += len(before - after)
            gone_until = time.monotonic()
        self.diary.not_kept.append((kept_until, gone_until))

    def _forget(self) -> float:
        """Take the dead broker's memory away; returns until when it had handed out what it acknowledged."""
        self.memory.unlink(missing_ok=True)
        return time.monotonic() - FORGOTTEN_S

    def _saved(self) -> float:
        """Until when the dead broker had saved what it acknowledged: a short life, after one whose memory was taken away, may have saved nothing."""
        if not self.memory.exists():
            return self._broker_began
        return time.monotonic() - (time.time() - self.memory.stat().st_mtime) - SAVING_S

    def _await_agent(self, kind: str) -> None:
        """Ask for a forecast until one comes."""
        returned, now = time.monotonic(), int(time.time())
        with Ear(self.sensors.spec.site, self.broker.port) as ear:
            topic = f"forecast/{self.sensors.spec.targets[0].name}"

            def answer() -> Heard | None:
                ear.client.publish(f"{ear.base}/cmd/forecast", qos=0)
                self.rest(0.1)
                return next((heard for heard in ear.on(topic) if not heard.retained and _issued_at(heard) >= now), None)

            heard: Heard = until(answer, f"the agent after {kind}", timeout_s=120.0)
            self.diary.back.setdefault(kind, []).append(heard.at - returned)

    def _retained(self) -> set[str]:
        """Topics that a newcomer finds."""
        with Ear(self.sensors.spec.site, self.broker.port) as ear:
            self.rest(0.5)
            return {heard.topic for heard in ear.heard if heard.retained and heard.payload}


def _issued_at(heard: Heard) -> float:
    return datetime.fromisoformat(heard.json()["issued_at"]).timestamp()


def _rows(path: Path, diary: _Diary, sensors: Sensors, code: int) -> list[Row]:
    with History(path) as history:
        stored = {(reading.sensor, reading.value) for reading in history.readings_since(0.0)}  # no value is sent twice
    kept = [sent for sent in sensors.sent if not any(start <= sensors.acknowledged[sent.info.mid] <= end for start, end in diary.not_kept)]
    lost = sum((reading.sensor, reading.value) not in stored for sent in kept for reading in sent.readings)
    restored, missing = diary.retained["restored"], diary.retained["missing"]
    rows = []
    for kind, seconds in diary.back.items():
        limit_s = NOTICED_S if kind == "line dead, broker well" else BACK_S
        measured = f"{max(seconds):.1f} s at most, median {median(seconds):.1f} s, {len(seconds)} times"
        rows.append(Row(f"{kind}: agent back", f"<= {limit_s:g} s", measured, max(seconds) <= limit_s))
    return [
        *sorted(rows, key=lambda row: row.what),
        Row("QoS 1 messages that the broker kept, lost", "0", f"{lost} of {sum(len(sent.readings) for sent in kept)} readings", lost == 0),
        Row("retained topics after the broker forgot them", "all", f"{restored} restored, {missing} missing", missing == 0),
        Row("the same process all the time, stopped in good order", "exit code 0", f"exit code {code}", code == 0),
    ]
