"""A million messages that no house should send, and sensors that go on speaking among them."""

from __future__ import annotations

import random
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from rich.progress import Progress

from benchmarks.mosquitto import Mosquitto
from benchmarks.soak import fuzz
from benchmarks.soak.clocked import MadeUpClock
from benchmarks.soak.figures import CONFIGURATION, Figures, metrics
from benchmarks.soak.flood import Flood, publish
from benchmarks.soak.home import HOUSE, POWER_W, START, Sensors, house, remember, until
from benchmarks.soak.process import AgentProcess
from benchmarks.soak.row import Row
from edge_agent.history import History

TITLE = "A million hostile messages among those of 28 sensors"
MESSAGES = 1_000_000
PIECE = 2_000
PIECES_A_LOOK = 2
"""After so many pieces the agent's memory is looked at, when it is through with them."""
RATE = 30.0
"""The clock's seconds in one of ours."""
REPORT_EVERY_S = 1.0
WARM_UP = 0.1
"""Share of the messages after which memory must stay as it is."""
WANTED_MB = 5.0
MAD = """
[[sensors]]
name = "mad_temperature"
role = "indoor_temperature"
topic = "zigbee2mqtt/mad/climate"
field = "temperature"

[[sensors]]
name = "mad_humidity"
role = "indoor_humidity"
topic = "zigbee2mqtt/mad/climate"
field = "humidity"

[[sensors]]
name = "mad_counter"
role = "energy"
unit = "kWh"
topic = "zigbee2mqtt/mad_switch"
field = "energy"
topic_unit = "kWh"
topic_form = "counter"

[[sensors]]
name = "mad_power"
role = "energy"
unit = "kWh"
topic = "zigbee2mqtt/mad phases"
field = "power_l1"
topic_unit = "W"
topic_form = "power"

[[sensors]]
name = "mad_interval"
role = "energy"
unit = "kWh"
topic = "mad/interval"
field = "energy"
topic_unit = "Wh"
topic_form = "interval"

[[sensors]]
name = "mad_valve"
role = "indoor_temperature"
topic = "zigbee2mqtt/mad_valve"
field = "inside.temperature"

[[sensors]]
name = "mad_number"
role = "indoor_temperature"
topic = "mad/number"

[[weather]]
role = "outdoor_temperature"
topic = "mad/weather"
field = "temperature"

[[weather]]
role = "wind_speed"
topic = "mad/weather"
field = "wind_speed"
"""
MAD_WEATHER = "mad/weather"
MAD_DEVICES = ["zigbee2mqtt/mad/climate", "zigbee2mqtt/mad_switch", "zigbee2mqtt/mad phases", "zigbee2mqtt/mad_valve"]
MAD_PLACES = ["mad/interval", "mad/number", "zigbee2mqtt/mad/climate/temperature", "zigbee2mqtt/mad_switch/energy", "homeassistant/status"]


def prove(*, quick: bool, progress: Progress) -> list[Row]:
    """A million."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-soak-") as work:
        return run(Path(work), messages=20_000 if quick else MESSAGES, progress=progress)


def run(folder: Path, *, messages: int, progress: Progress, rate: float = RATE, seed: int = 4) -> list[Row]:
    """Send `messages` hostile ones, and let the good sensors report meanwhile."""
    spec = house()
    (folder / "house.toml").write_text(HOUSE.read_text(encoding="utf-8") + MAD, encoding="utf-8")
    (folder / "agent.toml").write_text(CONFIGURATION, encoding="utf-8")
    remember(folder / "history.db", days=9)
    broker = Mosquitto(folder, extra=["max_queued_messages 0"]).start()
    clock = MadeUpClock.create(folder / "clock.json", start=START + 5.0, rate=rate)
    agent = AgentProcess(folder, folder / "house.toml", broker.port, clock=clock, flags=["--config", str(folder / "agent.toml")])
    try:
        agent.start()
        until(lambda: metrics(folder)["hearthcast_mqtt_connected"], "the agent's connection")
        with Sensors(spec, broker.port, now=clock.true, start=START) as sensors, Flood(broker.port) as flood:
            attack = _Attack(folder, agent, sensors, flood, seed=seed)
            for n in progress.track(range(0, messages, PIECE), description="hostile messages"):
                attack.send(min(PIECE, messages - n))
            attack.wait_for_steps(clock, spec.step_s)
            sensors.settle()
            until(attack.is_through, "the last message's end")
        is_alive, found = agent.is_alive, metrics(folder)
        agent.stop()
    finally:
        agent.kill()
        broker.stop()
    return _rows(folder, agent, attack, sensors, is_alive=is_alive, found=found)


class _Attack:
    """Sends no faster than the agent takes, so that the broker keeps little, and watches the agent's memory."""

    def __init__(self, folder: Path, agent: AgentProcess, sensors: Sensors, flood: Flood, *, seed: int) -> None:
        self.folder, self.agent, self.sensors, self.flood = folder, agent, sensors, flood
        self.sent, self.memory_mb, self.peak_mb = 0, list[float](), 0.0
        self.figures = Figures(agent.pid)
        good = sorted({str(sensor.topic) for sensor in sensors.spec.sensors})
        places = {"devices": MAD_DEVICES, "places": MAD_PLACES, "good": good}
        self._messages = fuzz.messages(random.Random(seed), **places, bridge="zigbee2mqtt", weather=MAD_WEATHER)
        self._report_at = 0.0

    def send(self, n: int) -> None:
        """So many more."""
        self.flood.send(publish(topic, payload) for topic, payload in islice(self._messages, n))
        self.sent += n
        until(self._has_caught_up, "the agent's use of what was sent", 300.0)
        if self.sent % (PIECES_A_LOOK * PIECE) == 0:
            until(self.is_through, "the agent's use of what was sent", 300.0)
            self.memory_mb.append(self.figures.resident_mb)
            self.peak_mb = self.figures.peak_mb

    def wait_for_steps(self, clock: MadeUpClock, step_s: int) -> None:
        """Let three steps pass that the good sensors have spoken in."""
        end = clock.true() + 3 * step_s + 30
        while clock.true() < end:
            self._report()
            time.sleep(0.05)

    def is_through(self) -> bool:
        """Whether the agent has taken everything that was sent to it."""
        return self._taken() >= self.sent + len(self.sensors.sent)

    def _has_caught_up(self) -> bool:
        self._report()
        if not self.agent.is_alive:
            raise RuntimeError(f"the agent ended after {self.sent} messages: see its log\n{self.agent.log_text()[-4000:]}")
        return self._taken() >= self.sent - PIECE

    def _taken(self) -> float:
        return metrics(self.folder)["hearthcast_mqtt_messages_received_total"]

    def _report(self) -> None:
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + REPORT_EVERY_S
            self.sensors.report()


def _rows(folder: Path, agent: AgentProcess, attack: _Attack, sensors: Sensors, *, is_alive: bool, found: dict[str, float]) -> list[Row]:
    spec = sensors.spec
    with History(folder / "history.db") as history:
        last = history.last_closed()
        assert last is not None
        stored = {(r.sensor, r.time, r.value) for r in history.readings_since(START)}
        begin = int(min(reading.time for sent in sensors.sent for reading in sent.readings)) // spec.step_s * spec.step_s + spec.step_s
        steps = history.series(spec.features, begin, last, spec.step_s)  # without the last, which the next readings revise
    spoken = [reading for sent in sensors.sent for reading in sent.readings]
    missing = [reading for reading in spoken if (reading.sensor, reading.time, reading.value) not in stored]
    energy = steps.values[:, [s.feature.kind == "energy" for s in spec.sensors]]
    wrong = int(np.isnan(steps.values).sum() + (np.abs(energy - POWER_W * spec.step_s / 3600) > 1e-3).sum())
    warm = attack.memory_mb[int(WARM_UP * len(attack.memory_mb)) :]
    swing_mb = max(warm) - min(warm)
    log = agent.log_text()
    rejected = sum(n for name, n in found.items() if name.startswith("hearthcast_values_rejected_total"))
    crashes = log.count("Traceback") + (not is_alive)
    return [
        Row("crashes, and tracebacks in the log", "0", f"{crashes}; {len(log.splitlines())} lines of log", crashes == 0),
        Row(
            "hostile messages",
            f"{attack.sent:,}",
            f"{attack.sent:,} taken, {rejected:,.0f} values rejected by the last step's end",
            found["hearthcast_mqtt_messages_received_total"] >= attack.sent + len(sensors.sent),
        ),
        Row(
            f"memory after the first {WARM_UP:.0%}",
            f"flat within {WANTED_MB:g} MB",
            f"{swing_mb:.1f} MB between {min(warm):.1f} and {max(warm):.1f}, whenever nothing waits; peak {attack.peak_mb:.1f}",
            swing_mb <= WANTED_MB,
        ),
        Row("readings of the good sensors lost", "0", f"{len(missing)} of {len(spoken)}", not missing),
        Row("their steps unknown or wrong", "0", f"{wrong} of {steps.values.size}", wrong == 0),
    ]
