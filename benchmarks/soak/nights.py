"""The nights in which the clocks change, in six zones: no step twice, none left out, and the day's total is that of a day of its length."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.home import await_online, until
from benchmarks.soak.process import ROOT, AgentProcess
from benchmarks.soak.row import Row
from demo.replay import Connection, replay
from edge_agent.contract.localtime import DAY_S, day_bounds
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from edge_agent.history import History

TITLE = "Nights in which the clocks change"
NIGHTS = {
    "Europe/Berlin": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "America/St_Johns": ("2026-03-08", "2026-11-01"),  # -3:30
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),  # half an hour; +10:30
    "America/Santiago": ("2026-09-06", "2026-04-04"),  # at midnight: a day that begins at 1 o'clock, and one that has 23:00 twice
    "Pacific/Auckland": ("2026-09-27", "2026-04-05"),
}
"""The days on which the clocks go forward and back."""
QUICK = ("Australia/Lord_Howe",)
STEP_S = 600
ENERGY_WH = 60.0
"""Of every step."""
KNOWN_DAYS = 29
# No model ships for a part of the energy: its climatology says of a constant use exactly what it is.
TOML = """
site = "home"
time_zone = "{zone}"
step = 600
targets = [{{name = "energy", sensor = "meter"}}]
sensors = [
  {{name = "meter", role = "energy_part", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh", resolution = 0}},
  {{name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature"}},
]
"""


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """Twelve nights."""
    nights = [(zone, day) for zone, days in NIGHTS.items() if not quick or zone in QUICK for day in days]
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return [run(Path(work), zone, day) for zone, day in progress.track(nights, description="nights")]


def run(work: Path, zone: str, day: str) -> Row:
    """Replay the day before and the day itself to an agent that knows the four weeks before; the home uses the same all the time."""
    folder = work / f"{zone}-{day}".replace("/", "-")
    folder.mkdir(parents=True)
    (folder / "house.toml").write_text(TOML.format(zone=zone), encoding="utf-8")
    spec, today = read_house(folder / "house.toml"), date.fromisoformat(day)
    start, end = day_bounds(today - timedelta(days=1), ZoneInfo(zone))[0], day_bounds(today, ZoneInfo(zone))[1]
    with History(folder / "history.db") as history:
        history.bind(spec)
        history.import_series(_constant(spec, start - KNOWN_DAYS * DAY_S, start))
    _replay(folder, spec, _constant(spec, start, end))
    return _row(folder, spec, today, start=start, end=end)


def _constant(spec: HouseSpec, start: int, end: int) -> Series:
    return Series(start, STEP_S, spec.features, np.tile([ENERGY_WH, 21.0], ((end - start) // STEP_S, 1)))


def _replay(folder: Path, spec: HouseSpec, days: Series) -> None:
    broker = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    agent = AgentProcess(folder, folder / "house.toml", broker.port, flags=("--replay-clock",))
    try:
        agent.start()
        await_online(spec.site, broker.port)
        with Connection("127.0.0.1", broker.port) as connection:
            heard: list[str] = []
            connection.listen(f"hearthcast/{spec.site}/health", heard.append)
            replay(days, spec, connection)
            last = np.datetime_as_string(np.datetime64(days.end, "s")) + "Z"
            until(lambda: connection.rest(0.05) or any(f'"last_step":"{last}"' in text for text in heard), "the last step", timeout_s=300.0)
        agent.stop()
    finally:
        agent.kill()
        broker.stop()


def _row(folder: Path, spec: HouseSpec, today: date, *, start: int, end: int) -> Row:
    midnight, _ = day_bounds(today, spec.zone)
    n = (end - midnight) // STEP_S
    with History(folder / "history.db") as history:
        values = history.series(spec.features, start, end, STEP_S).values
        (stray,) = history.rows("SELECT count(*) FROM steps WHERE time >= ? OR time % ? != 0", end, STEP_S)[0]
    whole = np.isfinite(values).all() and np.allclose(values[1:], [ENERGY_WH, 21.0]) and stray == 0
    forecast, actual = _report(folder, today)
    wanted = n * ENERGY_WH / 1000
    measured = f"{int(np.isfinite(values[-n:]).all(axis=1).sum())} steps; {forecast:.2f} and {actual:.2f} kWh"
    passed = bool(whole) and abs(forecast - wanted) < 0.006 and abs(actual - wanted) < 0.006
    return Row(f"{spec.zone.key} {today}: steps; total forecast and measured", f"{n} steps; {wanted:.2f} kWh", measured, passed)


def _report(folder: Path, today: date) -> tuple[float, float]:
    """What `hearthcast-agent report` says was forecast the evening before, and used, kWh."""
    program = str(Path(sys.executable).with_name("hearthcast-agent"))
    command = [program, "report", "--house", str(folder / "house.toml"), "--state-dir", str(folder)]
    text = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True).stdout
    found = re.search(rf"{today}\s+forecast\s+([\d.]+).*actual\s+([\d.]+)", text)
    return (float(found[1]), float(found[2])) if found else (float("nan"), float("nan"))
