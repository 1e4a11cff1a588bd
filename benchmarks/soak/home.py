"""A home of 28 sensors on a real broker: what they send, remembered; and what the agent publishes, heard."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import material
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.units import from_canonical
from edge_agent.history import History
from edge_agent.reading import Reading
from edge_agent.zigbee import Decoder

HOUSE = material.HOUSE
"""The reference house: 28 sensors, steps of ten minutes."""
START = 1_780_264_800
"""When a proof begins: 2026-06-01 00:00 in Berlin, on the grid of every step."""
POWER_W = 300.0
"""What every meter draws, always: its counter tells the true energy of any stretch of time."""


def house() -> HouseSpec:
    """The reference house."""
    return material.house()


def devices(spec: HouseSpec) -> dict[str, list[Sensor]]:
    """Sensors by the topic of their device."""
    found: dict[str, list[Sensor]] = {}
    for sensor in spec.sensors:
        if sensor.topic is not None:
            found.setdefault(sensor.topic, []).append(sensor)
    return found


def counted(sensor: Sensor, energy_wh: float) -> float:
    """What a meter shows after so much energy, in its topic's unit."""
    return float(from_canonical(1e6 + energy_wh, sensor.topic_unit))


def within(sensor: Sensor, share: float) -> float:
    """A state at this share of the sensor's range, in its topic's unit."""
    low, high = max(sensor.low, -1000.0), min(sensor.high, 1000.0)
    return float(from_canonical(low + (high - low) * share, sensor.topic_unit))


def remember(path: Path, *, days: int, end: int = START) -> None:
    """Give an agent a past of some days that ends at unix s `end`, so that its own model forecasts."""
    series = material.series()
    past = replace(series.between(series.end - days * DAY_S, series.end), start=end - days * DAY_S)
    with History(path) as history:
        history.bind(house())
        history.import_series(past)


def client() -> mqtt.Client:
    """A client of loopback's broker with its own thread, not connected yet."""
    made = mqtt.Client(CallbackAPIVersion.VERSION2)
    made.max_inflight_messages_set(1000)
    made.reconnect_delay_set(1, 1)
    return made


@dataclass(frozen=True)
class Sent:
    """A message that the broker has acknowledged, or not yet."""

    readings: tuple[Reading, ...]
    info: mqtt.MQTTMessageInfo
    at: float
    """On the monotonic clock."""


class Sensors:
    """The house's devices: each `report` is one message of every device at QoS 1, with `last_seen`, no value twice."""

    def __init__(self, spec: HouseSpec, port: int, *, now: Callable[[], float], start: float) -> None:
        """Connect.

        Args:
            spec: the house.
            port: of the broker.
            now: the time that the devices go by, unix s.
            start: unix s at which the meters stood at 1000 kWh.
        """
        self.spec, self.now, self.origin, self.sent, self._count = spec, now, start, list[Sent](), 0
        self._n_acknowledged = 0
        self.acknowledged: dict[int, float] = {}
        """When the broker acknowledged a message (its id), on the monotonic clock."""
        self._decoder = Decoder(spec)
        self._topics = devices(spec)
        self.client = client()
        self.client.on_publish = self._on_publish
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_publish(self, _client: mqtt.Client, _data: object, message_id: int, *_: object) -> None:
        self.acknowledged[message_id] = time.monotonic()
        self._n_acknowledged += 1

    def report(self) -> None:
        """One message of every device."""
        self._count += 1
        for topic, sensors in self._topics.items():
            now = round(self.now(), 3)
            fields: dict[str, Any] = {"last_seen": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")}
            for sensor in sensors:
                fields[str(sensor.field)] = self._value(sensor, now)
            payload = json.dumps(fields)
            readings = tuple(self._decoder.decode(topic, payload.encode(), received_at=None, retained=False))
            self.sent.append(Sent(readings, self.client.publish(topic, payload, qos=1), time.monotonic()))

    def settle(self) -> None:
        """Wait until the broker has acknowledged everything."""
        until(lambda: self._n_acknowledged == len(self.sent), "the broker's acknowledgement")

    def _value(self, sensor: Sensor, now: float) -> float:
        """In the topic's unit: a counter of constant power, or a state that never stands still."""
        if sensor.feature.kind == "energy":
            return counted(sensor, POWER_W * (now - self.origin) / 3600)
        return within(sensor, 0.3 + 0.4 * (self._count * 0.0137 % 1))


@dataclass(frozen=True)
class Heard:
    """A message of the agent's."""

    at: float
    """On the monotonic clock."""
    topic: str
    payload: bytes
    retained: bool

    def json(self) -> Any:
        """The payload, parsed."""
        return json.loads(self.payload)


class Ear:
    """Hears everything that the agent of a site publishes."""

    def __init__(self, site: str, port: int) -> None:
        self.base, self.heard, self._ready = f"hearthcast/{site}", list[Heard](), False
        self.client = client()
        self.client.on_message = self._on_message
        self.client.on_connect = lambda *_: self.client.subscribe([("hearthcast/#", 1), ("homeassistant/#", 1)])
        self.client.on_subscribe = self._on_subscribe
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        until(lambda: self._ready, "the broker's answer")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_subscribe(self, *_: object) -> None:
        self._ready = True

    def _on_message(self, _client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        self.heard.append(Heard(time.monotonic(), message.topic, bytes(message.payload), message.retain))

    def on(self, topic: str, *, since: float = 0.0) -> list[Heard]:
        """What came below the site's base topic since then (monotonic), oldest first."""
        name, found = f"{self.base}/{topic}", list[Heard]()
        for heard in reversed(list(self.heard)):  # there may be very many
            if heard.at < since:
                break
            if heard.topic == name:
                found.append(heard)
        return found[::-1]


def await_online(site: str, port: int) -> None:
    """Wait until the agent of `site` has subscribed: it says `online` after that."""
    with Ear(site, port) as ear:
        until(lambda: any(heard.payload == b"online" for heard in ear.on("status")), "the agent's status")


def until(claim: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """Wait until `claim()` holds; returns its value.

    Raises:
        TimeoutError: it never did.
    """
    end = time.monotonic() + timeout_s
    while not (value := claim()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} never came within {timeout_s:g} s")
        time.sleep(0.02)
    return value
