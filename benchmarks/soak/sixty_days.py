"""Sixty days of a house with 28 sensors in one run, as fast as they can be replayed."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.figures import CONFIGURATION, Figures, metrics
from benchmarks.soak.flood import Flood, publish
from benchmarks.soak.home import HOUSE, START, counted, devices, house, until, within
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.history import History

TITLE = "60 simulated days in one run"
DAYS = 60
WARM_UP_DAYS = 10
EVERY_S = 200
LIMIT_MB = 50
"""Of the history's file: the smallest that can be set, and less than the days would take."""
WANTED_MB = 3.0
WANTED_LINES = 5.0


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """60 days, the first ten of which are for memory to settle."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        days, warm_up = (3, 1) if quick else (DAYS, WARM_UP_DAYS)
        return run(Path(work), days=days, warm_up_days=warm_up, progress=progress)


def run(folder: Path, *, days: int, warm_up_days: int, progress: Progress) -> list[Row]:
    """Replay so many days, and look at the agent at the end of each."""
    spec = house()
    (folder / "agent.toml").write_text(f"{CONFIGURATION}[history]\nmax_mb = {LIMIT_MB}\n", encoding="utf-8")
    broker = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    agent = AgentProcess(folder, HOUSE, broker.port, flags=["--replay-clock", "--config", str(folder / "agent.toml")])
    memory_mb, file_mb, sent = list[float](), list[float](), 0
    try:
        agent.start()
        until(lambda: metrics(folder)["hearthcast_mqtt_connected"], "the agent's connection")
        figures = Figures(agent.pid)
        with Flood(broker.port) as flood:
            for day in progress.track(range(days), description="days"):
                packets = list(_day(spec, START + day * DAY_S))
                sent += len(packets)
                flood.send(packets)
                until(lambda: metrics(folder)["hearthcast_mqtt_messages_received_total"] >= sent, f"day {day}'s end", 600.0)  # noqa: B023
                memory_mb.append(figures.resident_mb)
                file_mb.append((folder / "history.db").stat().st_size / 1e6)
        found = metrics(folder)
        agent.stop()
    finally:
        agent.kill()
        broker.stop()
    with History(folder / "history.db") as history:
        ((stored,),) = history.rows("SELECT count(DISTINCT time) FROM steps")
    return _rows(days, warm_up_days, found, memory_mb, file_mb, lines=len(agent.log_text().splitlines()), sent=sent, stored=stored)


def _day(spec: HouseSpec, start: int) -> Iterator[bytes]:
    """Every device every `EVERY_S`, with the time in its messages."""
    for second in range(0, DAY_S, EVERY_S):
        for number, (topic, sensors) in enumerate(devices(spec).items()):
            now = start + second + number
            seen = datetime.fromtimestamp(now, UTC).isoformat()
            fields = {str(sensor.field): _value(sensor, now, phase=i) for i, sensor in enumerate(sensors)}
            yield publish(topic, json.dumps({**fields, "linkquality": 120, "last_seen": seen}).encode())


def _value(sensor: Sensor, now: int, *, phase: int) -> float:
    """In the topic's unit: a counter of what a home uses, more by day; a state that swings by the day and by the week."""
    day = 2 * math.pi * (now - START) / DAY_S
    if sensor.feature.kind == "energy":
        hours = (now - START) / 3600
        return round(counted(sensor, 300 * hours - 200 * DAY_S / 3600 / (2 * math.pi) * math.sin(day)), 3)
    return round(within(sensor, 0.5 + 0.1 * math.sin(day + phase) + 0.05 * math.sin(day / 7)), 2)


def _rows(
    days: int, warm_up_days: int, found: dict[str, float], memory_mb: list[float], file_mb: list[float], *, lines: int, sent: int, stored: int
) -> list[Row]:
    warm = memory_mb[warm_up_days - 1 :]
    failed = sum(n for name, n in found.items() if name.startswith("hearthcast_failures_total"))
    swing_mb = max(warm) - min(warm)
    steps, wanted_steps = found["hearthcast_steps_closed_total"], days * DAY_S // house().step_s - 1
    forecasts = {name.rpartition('grade="')[2].rstrip('"}'): n for name, n in found.items() if name.startswith("hearthcast_forecasts_total")}
    words = ", ".join(f"{n:,.0f} {grade}" for grade, n in forecasts.items())
    return [
        Row(
            f"memory from day {warm_up_days} to day {days}",
            f"flat within {WANTED_MB:g} MB",
            f"{swing_mb:.1f} MB between {min(warm):.1f} and {max(warm):.1f}",
            swing_mb <= WANTED_MB,
        ),
        Row(
            "the history's file",
            f"<= {LIMIT_MB} MB, its limit",
            f"{max(file_mb):.1f} MB at most, {file_mb[-1]:.1f} in the end",
            max(file_mb) <= LIMIT_MB,
        ),
        Row(
            "steps closed, and on the disk",
            f"{wanted_steps:,}",
            f"{steps:,.0f} and {stored:,}, of {sent:,} messages; {failed:,.0f} writes failed",
            steps == stored == wanted_steps and not failed,
        ),
        Row("forecasts", f"{wanted_steps:,}", words, sum(forecasts.values()) == wanted_steps),
        Row("lines of log", f"<= {WANTED_LINES:g} a day", f"{lines / days:.1f} a day", lines <= WANTED_LINES * days),
    ]
