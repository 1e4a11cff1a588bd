"""What the agent costs when nothing happens but a house: 28 sensors every 200 s, a forecast every ten minutes, in real time."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.figures import Figures
from benchmarks.soak.flood import Flood, publish
from benchmarks.soak.home import HOUSE, POWER_W, counted, devices, house, remember, within
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.history import History

TITLE = "28 sensors every 200 s and a forecast every ten minutes, in real time"
EVERY_S = 200.0
MINUTES = 30
HISTORY_DAYS = 60
SETTLE_S = 15.0
"""What a start costs is no part of it."""
WANTED_PERCENT = 0.2
WANTED_MB = 80.0
WANTED_WAKEUPS = 5.0


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """Half an hour with the model that ships."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), minutes=0.2 if quick else MINUTES, history_days=HISTORY_DAYS, progress=progress)


def run(folder: Path, *, minutes: float, history_days: int, progress: Progress) -> list[Row]:
    """Watch an agent with `history_days` of past for so many minutes."""
    spec = house()
    remember(folder / "history.db", days=history_days, end=int(time.time()) // spec.step_s * spec.step_s)
    broker = Mosquitto(folder).start()
    agent = AgentProcess(folder, HOUSE, broker.port)
    try:
        agent.start()
        figures = Figures(agent.pid)
        with Flood(broker.port) as flood:
            reporters = Devices(spec, flood)
            reporters.report_for(SETTLE_S)
            start, cpu_s, before = time.monotonic(), figures.cpu_s, figures.threads()
            for _ in progress.track(range(max(round(minutes * 60), 1)), description="idle"):
                reporters.report_for(1.0)
            seconds, cpu_s, after = time.monotonic() - start, figures.cpu_s - cpu_s, figures.threads()
        peak_mb = figures.peak_mb
        agent.stop()
    finally:
        agent.kill()
        broker.stop()
    with History(folder / "history.db") as history:
        forecasts = len(history.forecasts(spec.targets[0].name, 0))
    percent = 100 * cpu_s / seconds
    threads = {id_: (each.name, (each.wakeups - before[id_].wakeups) / seconds) for id_, each in after.items() if id_ in before}
    words = ", ".join(f"{name} {wakeups:.1f}" for name, wakeups in threads.values())
    return [
        Row(
            "share of one core",
            f"< {WANTED_PERCENT:g} %",
            f"{percent:.3f} % over {seconds / 60:.0f} minutes, {reporters.sent} messages, {forecasts} forecasts",
            percent < WANTED_PERCENT,
        ),
        Row(f"peak memory, the model that ships and {history_days} days of history", f"< {WANTED_MB:g} MB", f"{peak_mb:.1f} MB", peak_mb < WANTED_MB),
        Row("each thread's wakeups", f"<= {WANTED_WAKEUPS:g} a second", words, max(each for _, each in threads.values()) <= WANTED_WAKEUPS),
    ]


class Devices:
    """Each device of a house says what it measures once in `EVERY_S`, one after the other."""

    def __init__(self, spec: HouseSpec, flood: Flood) -> None:
        self.flood, self.sent, self._began = flood, 0, time.monotonic()
        self._devices = devices(spec)

    def report_for(self, seconds: float) -> None:
        """Let so much time pass."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = self._began + self.sent * EVERY_S / len(self._devices)
            if now >= due:
                self._report()
            else:
                time.sleep(min(due, end) - now)

    def _report(self) -> None:
        topic, sensors = list(self._devices.items())[self.sent % len(self._devices)]
        self.sent += 1
        fields = {str(sensor.field): _value(sensor, time.monotonic() - self._began) for sensor in sensors}
        about = {"battery": 97, "linkquality": 140, "last_seen": datetime.now(UTC).isoformat(timespec="milliseconds")}
        self.flood.send([publish(topic, json.dumps(fields | about).encode(), number=self.sent % 65_535 + 1)])


def _value(sensor: Sensor, seconds: float) -> float:
    """In the topic's unit."""
    if sensor.feature.kind == "energy":
        return round(counted(sensor, POWER_W * seconds / 3600), 2)
    return round(within(sensor, 0.4 + 0.1 * (seconds / 3600 % 1)), 2)
