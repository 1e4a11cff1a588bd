"""How many messages a second the agent takes from Mosquitto on one core, beside a paho loop that does nothing but count them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak.figures import CONFIGURATION, Figures, metrics
from benchmarks.soak.flood import Flood, publish
from benchmarks.soak.home import HOUSE, devices, house, until
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.history import History

TITLE = "Load: messages of 28 sensors through Mosquitto, as fast as they are taken"
MESSAGES = 150_000
ROUNDS = 2
PIECE = 2_000
AHEAD = 10_000
"""Messages that may be on their way: enough that the agent never waits, few enough that the broker keeps little."""
WANTED = 10_000
ABOUT = {"battery": 97, "linkquality": 142, "voltage": 2985, "update": {"state": "idle"}}
COUNTER = """
import json, sys, time
from paho.mqtt import client as mqtt
port, topics = int(sys.argv[1]), json.loads(sys.argv[2])
seen = 0
def on_message(*_):
    global seen
    seen += 1
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_message = on_message
client.on_connect = lambda *_: client.subscribe([(topic, 1) for topic in topics])
client.on_subscribe = lambda *_: print("ready", flush=True)
client.connect("127.0.0.1", port)
client.loop_start()
for _ in sys.stdin:
    print(seen, flush=True)
"""


@dataclass(frozen=True)
class Speed:
    """What one run took for `n` messages."""

    n: int
    seconds: float
    cpu_s: float

    @property
    def per_cpu_s(self) -> float:
        """Messages a second of a core that does nothing else."""
        return self.n / self.cpu_s

    @property
    def per_s(self) -> float:
        """Messages a second of the clock, on a machine that may have other work."""
        return self.n / self.seconds


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """Both in turns, at both levels of quality of service."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), messages=5_000 if quick else MESSAGES, rounds=1 if quick else ROUNDS, progress=progress)


def run(folder: Path, *, messages: int, rounds: int, progress: Progress) -> list[Row]:
    """`rounds` runs of each kind, in turns."""
    turns = [(number, qos) for number in range(rounds) for qos in (0, 1)]
    counted: dict[int, list[Speed]] = {0: [], 1: []}
    used: dict[int, list[Speed]] = {0: [], 1: []}
    lost = 0
    for number, qos in progress.track(turns, description="load"):
        place = folder / f"{number}-{qos}"
        place.mkdir()
        counted[qos].append(_count(place, messages, qos))
        speed, missing = _use(place, messages, qos)
        used[qos].append(speed)
        lost += missing
    return [row for qos in (0, 1) for row in _rows(qos, used[qos], counted[qos])] + [Row("messages lost", "0", f"{lost}", lost == 0)]


def _rows(qos: int, used: list[Speed], counted: list[Speed]) -> list[Row]:
    agent, loop = (max(speeds, key=lambda speed: speed.per_cpu_s) for speeds in (used, counted))
    slowest = min(speed.per_s for speed in used)
    measured = f"{agent.per_cpu_s:,.0f} a second of its core; {slowest:,.0f} to {max(s.per_s for s in used):,.0f} by the clock"
    ratio = f"{agent.per_cpu_s / loop.per_cpu_s:.2f}: the loop takes {loop.per_cpu_s:,.0f} a second of its core, {loop.per_s:,.0f} by the clock"
    return [
        Row(f"messages at QoS {qos}, every reading stored", f">= {WANTED:,} a second on one core", measured, agent.per_cpu_s >= WANTED),
        Row(f"the same beside a bare paho loop that counts, QoS {qos}", "told", ratio, True),
    ]


def _use(folder: Path, messages: int, qos: int) -> tuple[Speed, int]:
    """The agent's speed, and how many messages left no trace in its history."""
    spec, broker = house(), Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    (folder / "agent.toml").write_text(CONFIGURATION, encoding="utf-8")
    agent = AgentProcess(folder, HOUSE, broker.port, flags=["--config", str(folder / "agent.toml")])
    try:
        agent.start()
        until(lambda: metrics(folder)["hearthcast_mqtt_connected"], "the agent's connection")
        time.sleep(1.0)
        figures = Figures(agent.pid).pin(_cores()[-1])
        speed = _feed(broker.port, spec, messages, qos, figures, lambda: int(metrics(folder)["hearthcast_mqtt_messages_received_total"]))
        agent.stop()
    finally:
        agent.kill()
        broker.stop()
    with History(folder / "history.db") as history:
        ((stored,),) = history.rows("SELECT count(*) FROM readings")
    return speed, sum(len(sensors) for _, sensors in islice(_round(spec), messages)) - stored


def _count(folder: Path, messages: int, qos: int) -> Speed:
    """The bare loop's speed."""
    spec, broker = house(), Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    topics = sorted({str(sensor.topic) for sensor in spec.sensors})
    command = [sys.executable, "-c", COUNTER, str(broker.port), json.dumps(topics)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as loop:
        assert loop.stdin is not None
        assert loop.stdout is not None
        try:
            assert loop.stdout.readline() == "ready\n"

            def seen() -> int:
                loop.stdin.write("?\n")
                return int(loop.stdout.readline())

            return _feed(broker.port, spec, messages, qos, Figures(loop.pid).pin(_cores()[-1]), seen)
        finally:
            loop.kill()
            broker.stop()


def _feed(port: int, spec: HouseSpec, messages: int, qos: int, figures: Figures, seen: Callable[[], int]) -> Speed:
    """Send the messages no faster than they are taken."""
    start, cpu_s = time.monotonic(), figures.cpu_s
    packets = _packets(spec, messages, qos)
    with Flood(port) as flood:
        for sent in range(PIECE, messages + PIECE, PIECE):
            flood.send(islice(packets, PIECE))
            while seen() < sent - AHEAD:
                time.sleep(0.02)
        until(lambda: seen() >= messages, "the last message", 300.0)
    return Speed(messages, time.monotonic() - start, figures.cpu_s - cpu_s)


def _packets(spec: HouseSpec, messages: int, qos: int) -> Iterator[bytes]:
    """Whole states of every device in turn, a millisecond after each other by their own clock, no two of one device alike."""
    began = time.time() - 300
    for number, (topic, sensors) in enumerate(islice(_round(spec), messages)):
        seen = datetime.fromtimestamp(began + number // 10 / 1000, UTC).isoformat(timespec="milliseconds")
        fields = {str(sensor.field): _value(sensor, number) for sensor in sensors}
        yield publish(topic, json.dumps({**fields, **ABOUT, "last_seen": seen}).encode(), number=(number % 65_535 + 1) * qos)


def _round(spec: HouseSpec) -> Iterator[tuple[str, list[Sensor]]]:
    return cycle(devices(spec).items())


def _value(sensor: Sensor, number: int) -> float:
    if sensor.feature.kind == "energy":
        return round(1000 + number * 1e-6, 6)
    low, high = max(sensor.low, -1000.0), min(sensor.high, 1000.0)
    return round(low + (high - low) * (0.4 + 0.2 * (number % 1000 / 1000)), 2)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))
