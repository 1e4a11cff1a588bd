"""MQTT messages into readings: Zigbee2MQTT's JSON and single-attribute topics, plain JSON and plain numbers. Never an exception, whatever arrives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Final

from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.units import to_canonical
from edge_agent.payload import LATEST, number_in, unix_s_in
from edge_agent.reading import POWER, Reading

MAX_PAYLOAD: Final = 256 * 1024
"""Bytes; the largest device state seen is under 4 kB."""
STARTUP_S: Final = 10.0
"""After Zigbee2MQTT says that it is online, it sends every cached state as if it were new (`cache_state_send_on_startup`)."""
EARLIEST: Final = 946_684_800
"""2000-01-01: before it, a clock was not set."""
CLOCK_SLACK_S: Final = 60.0
"""Two machines' clocks may differ by this much without a word."""


class Decoder:
    """Turns messages on the house's topics into readings in canonical units.

    The time of a reading is the message's `last_seen` (ISO 8601 with an offset, or an epoch in seconds or milliseconds); without one it is when the
    message was received. No reading is later than that: the clock of this machine says when a step is over. A snapshot of unknown age is marked
    `retained`: a retained message without `last_seen`, or a cached one that Zigbee2MQTT sends when it starts.
    """

    def __init__(self, house: HouseSpec, *, base_topic: str = "zigbee2mqtt") -> None:
        """Know the topics of `house`; `base_topic` is Zigbee2MQTT's."""
        self.rejected: Counter[tuple[str, str]] = Counter()
        """Values that could not be used, by (sensor or topic, reason). The reader clears it after each report."""
        self.is_bridge_online: bool | None = None
        """What Zigbee2MQTT last said about itself; None before it said anything."""
        self._base = f"{base_topic}/"
        self._bridge_topic = f"{base_topic}/bridge/state"
        self._bridge_online_at: float | None = None
        self._sensors: dict[str, list[Sensor]] = {}
        self._attributes: dict[str, list[Sensor]] = {}
        self._json_topics: set[str] = set()
        for topic, sensor in _sources(house):
            self._sensors.setdefault(topic, []).append(sensor)
            if sensor.field is not None:  # Zigbee2MQTT joins the keys of nested objects with "-" (`output: attribute`)
                self._attributes.setdefault(f"{topic}/{sensor.field.replace('.', '-')}", []).append(sensor)

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to, no wildcards."""
        return tuple(dict.fromkeys([self._bridge_topic, *self._sensors, *self._attributes]))

    def decode(self, topic: str, payload: bytes, *, received_at: float | None, retained: bool) -> list[Reading]:
        """The readings in one message.

        Args:
            topic: where it came.
            payload: what it said.
            received_at: unix s; None when the messages' own times are the only clock (recorded days), and one without a time is rejected.
            retained: the broker had kept it from before the subscription.
        """
        if topic == self._bridge_topic:
            self._note_bridge(payload, received_at=received_at, retained=retained)
            return []
        if topic not in self._sensors and topic not in self._attributes:
            return []
        text = self._text(topic, payload)
        if text is None:
            return []
        readings = []
        if topic in self._sensors:
            readings += self._whole(topic, text, received_at, retained)
        if topic in self._attributes and topic.rpartition("/")[0] not in self._json_topics:
            time, snapshot = self._time(topic, None, received_at, retained)
            readings += self._readings([(sensor, text) for sensor in self._attributes[topic]], time, snapshot)
        return readings

    def _text(self, topic: str, payload: bytes) -> str | None:
        """The payload as text; None when there is none (an empty message clears a retained one, or an attribute never reported)."""
        if len(payload) > MAX_PAYLOAD:
            self.rejected[topic, f"payload over {MAX_PAYLOAD // 1024} KiB"] += 1
            return None
        try:
            return payload.decode().strip() or None
        except UnicodeDecodeError:
            self.rejected[topic, "not UTF-8"] += 1
            return None

    def _whole(self, topic: str, text: str, received_at: float | None, retained: bool) -> list[Reading]:
        """Readings of the sensors on a device's own topic: a JSON object with their fields, or one plain number."""
        sensors = self._sensors[topic]
        values: list[tuple[Sensor, Any]] = [(sensor, text) for sensor in sensors if sensor.field is None]
        last_seen = None
        if len(values) < len(sensors):
            try:
                message = json.loads(text)
            except (ValueError, RecursionError):
                message = None
            if isinstance(message, dict):
                self._json_topics.add(topic)
                last_seen = message.get("last_seen")
                values += [(sensor, _field(message, sensor.field)) for sensor in sensors if sensor.field is not None]
            else:
                self.rejected[topic, "not a JSON object"] += 1
        time, snapshot = self._time(topic, last_seen, received_at, retained)
        return self._readings(values, time, snapshot)

    def _readings(self, values: list[tuple[Sensor, Any]], time: float | None, snapshot: bool) -> list[Reading]:
        found = ((sensor, self._value(sensor, raw)) for sensor, raw in values if raw is not None and time is not None)
        return [Reading(sensor.name, time, value, snapshot) for sensor, value in found if value is not None and time is not None]

    def _value(self, sensor: Sensor, raw: Any) -> float | None:
        """`raw` in the canonical unit; None, and counted, when it is no number or cannot be."""
        number = number_in(raw)
        if number is None:
            self.rejected[sensor.name, "not a number"] += 1
            return None
        value = to_canonical(number, sensor.topic_unit)
        if not isfinite(value):
            self.rejected[sensor.name, "not finite"] += 1
            return None
        # Energy is checked against the time it took, where that is known: in the meter.
        if sensor.topic_form in {"state", "power"} and not sensor.low <= value <= sensor.high:
            self.rejected[sensor.name, "outside the valid range"] += 1
            return None
        return value

    def _time(self, topic: str, last_seen: Any, received_at: float | None, retained: bool) -> tuple[float | None, bool]:
        """When the message was true, and whether its age is unknown; None, and counted, when there is no time at all."""
        seen = unix_s_in(last_seen)
        if last_seen is not None and (seen is None or not EARLIEST <= seen <= LATEST):
            self.rejected[topic, "last_seen is no time"] += 1
            seen = None
        if received_at is None:
            if seen is None:
                self.rejected[topic, "no time"] += 1
            return seen, False
        if seen is not None and seen > received_at:  # nothing is received before it is sent: the other clock is ahead
            if seen > received_at + CLOCK_SLACK_S:
                self.rejected[topic, "last_seen is ahead of this machine's clock"] += 1
            return received_at, retained
        if seen is not None:
            return seen, False
        return received_at, retained or self._is_starting(topic, received_at)

    def _is_starting(self, topic: str, received_at: float) -> bool:
        online_at = self._bridge_online_at
        return online_at is not None and topic.startswith(self._base) and 0 <= received_at - online_at < STARTUP_S

    def _note_bridge(self, payload: bytes, *, received_at: float | None, retained: bool) -> None:
        """Remember what Zigbee2MQTT says about itself: `{"state": "online"}`, or `online` from 1.x."""
        text = self._text(self._bridge_topic, payload)
        if text is None:
            return
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            message = text
        state = message.get("state") if isinstance(message, dict) else message
        if state not in ("online", "offline"):
            self.rejected[self._bridge_topic, "neither online nor offline"] += 1
            return
        self.is_bridge_online = state == "online"
        if self.is_bridge_online and not retained:
            self._bridge_online_at = received_at


def _sources(house: HouseSpec) -> Iterator[tuple[str, Sensor]]:
    """What is to be read, by topic: each sensor's value, and the power of the same device beside a counter."""
    for sensor in house.sensors:
        if sensor.topic is not None:
            yield sensor.topic, sensor
        if sensor.topic is not None and sensor.power_field is not None:
            yield sensor.topic, replace(sensor, name=sensor.name + POWER, field=sensor.power_field, topic_form="power", topic_unit="W")


def _field(message: Mapping[str, Any], path: str) -> Any:
    """The value at `path` (dots go deeper); None when it is not there. A key that itself holds dots is found too."""
    if path in message:
        return message[path]
    value: Any = message
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
