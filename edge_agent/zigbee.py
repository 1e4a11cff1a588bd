"""MQTT messages into readings: Zigbee2MQTT's JSON and single-attribute topics, plain JSON and plain numbers. Never an exception, whatever arrives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf, isfinite
from typing import Any, Final

from edge_agent.bridge import Bridge
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.units import to_canonical
from edge_agent.payload import LATEST, number_in, unix_s_in
from edge_agent.reading import POWER, Reading

MAX_PAYLOAD: Final = 256 * 1024
"""Bytes; the largest device state seen is under 4 kB."""
STARTUP_S: Final = 10.0
"""After Zigbee2MQTT says that it is online, it sends every cached state as if it were new (`cache_state_send_on_startup`)."""
BIRTH_S: Final = (20.0, 120.0)
"""After Home Assistant came up it does so once more: seen after 36 s."""
ENOUGH_GAPS: Final = 4
"""Times between different energies of an interval, to know how soon another one can follow."""
EARLIEST: Final = 946_684_800
"""2000-01-01: before it, a clock was not set."""
FRESH_S: Final = 5.0
"""A message this young was sent just now, by a clock that is right."""
MOST_WH: Final = 1e12
"""A billion kWh; beyond 9e15 a float could not even count single Wh, and sums of 1e308 are none."""
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
        self.bridge = Bridge(house, base_topic=base_topic)
        self.wall_ahead_s = 0.0
        """How far this machine's wall clock is ahead of the time that messages are received at, while nobody believes it."""
        self.contradictions = 0
        """Messages of machines that go by that time all the same. The reader clears it."""
        self._birth_at: float | None = None
        self._last_text: dict[str, int] = {}
        """Hash of each topic's last message."""
        self._intervals: dict[str, _LastInterval] = {}
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
        return tuple(dict.fromkeys([*self.bridge.topics, *map(self.bridge.today, [*self._sensors, *self._attributes])]))

    def decode(self, topic: str, payload: bytes, *, received_at: float | None, retained: bool) -> list[Reading]:
        """The readings in one message.

        Args:
            topic: where it came.
            payload: what it said.
            received_at: unix s; None when the messages' own times are the only clock (recorded days), and one without a time is rejected.
            retained: the broker had kept it from before the subscription.
        """
        if self.bridge.take(topic, payload, received_at=received_at or 0.0, retained=retained):
            return []
        if self.bridge.renamed:
            topic = self.bridge.configured(topic)
        if topic not in self._sensors and topic not in self._attributes:
            return []
        text = self._text(topic, payload)
        if text is None:
            return []
        readings = []
        retained = retained or self._is_repeated_at_birth(topic, text, received_at)
        if topic in self._sensors:
            readings += self._whole(topic, text, received_at, retained)
        if topic in self._attributes and topic.rpartition("/")[0] not in self._json_topics:
            time, snapshot = self._time(topic, None, received_at, retained)
            readings += self._readings([(sensor, text) for sensor in self._attributes[topic]], time, snapshot)
        if readings and not readings[0].retained:
            self.bridge.heard(topic)
        return readings

    def note_birth(self, received_at: float) -> None:
        """Home Assistant came up at unix s: Zigbee2MQTT sends it all states again, half a minute later."""
        self._birth_at = received_at

    def _is_repeated_at_birth(self, topic: str, text: str, received_at: float | None) -> bool:
        """Whether this is the message before once more, because Home Assistant came up."""
        now, before = hash(text), self._last_text.get(topic)
        self._last_text[topic] = now
        if self._birth_at is None or received_at is None or not topic.startswith(self.bridge.base):
            return False
        first_s, last_s = BIRTH_S
        return now == before and first_s <= received_at - self._birth_at <= last_s

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
        if time is not None and any(sensor.topic_form == "interval" for sensor in sensors):
            values = [(sensor, raw) for sensor, raw in values if sensor.topic_form != "interval" or self._is_new_interval(sensor, raw, time)]
        return self._readings(values, time, snapshot)

    def _is_new_interval(self, sensor: Sensor, raw: Any, time: float) -> bool:
        """Whether this is the energy of another interval than last time.

        Zigbee2MQTT repeats every cached field with each report of another one: the same energy, sooner than two different ones ever followed each
        other, is not new.
        """
        last = self._intervals.setdefault(sensor.name, _LastInterval(sensor.topic is not None and sensor.topic.startswith(self.bridge.base)))
        return raw is not None and last.is_new(raw, time)

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
        if abs(value) > MOST_WH and sensor.topic_form in {"counter", "interval"}:
            self.rejected[sensor.name, "more than any meter counts"] += 1
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
        if seen is not None and self.wall_ahead_s:
            seen = self._seen_by_doubtful_clock(seen, received_at)
        if seen is not None and seen > received_at:  # nothing is received before it is sent: the other clock is ahead
            if seen > received_at + CLOCK_SLACK_S:
                self.rejected[topic, "last_seen is ahead of this machine's clock"] += 1
            return received_at, retained
        if seen is not None:
            return seen, False
        return received_at, retained or self._is_starting(topic, received_at)

    def _seen_by_doubtful_clock(self, seen: float, received_at: float) -> float:
        """`seen` in the agent's time: Zigbee2MQTT on this machine goes by the same doubtful clock, on another one it can bear witness."""
        if abs(received_at - seen) < FRESH_S:
            self.contradictions += 1
        elif abs(received_at + self.wall_ahead_s - seen) < abs(received_at - seen):
            return seen - self.wall_ahead_s
        return seen

    def _is_starting(self, topic: str, received_at: float) -> bool:
        online_at = self.bridge.online_at
        return online_at is not None and topic.startswith(self.bridge.base) and 0 <= received_at - online_at < STARTUP_S


class _LastInterval:
    """The last energy of an interval that a sensor sent, and how soon another one can follow."""

    def __init__(self, is_cached: bool) -> None:
        self.is_cached = is_cached
        self.raw: Any = None
        self.time = self.changed_at = -inf
        self.gaps: list[float] = []
        """The latest times from one energy to a different one, s."""

    def is_new(self, raw: Any, time: float) -> bool:
        if raw == self.raw and self.is_cached and len(self.gaps) >= ENOUGH_GAPS and time - self.time < 0.95 * min(self.gaps):
            return False
        if raw != self.raw:
            if 0 < time - self.changed_at < inf:
                self.gaps = [*self.gaps[-15:], time - self.changed_at]
            self.changed_at = time
        self.raw, self.time = raw, time
        return True


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
