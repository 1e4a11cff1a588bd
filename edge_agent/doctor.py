"""Listens for a while and says, sensor by sensor, whether what `house.toml` promises arrives, and what is wrong with it."""

from __future__ import annotations

import contextlib
import difflib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.bridge import Bridge
from edge_agent.config import Settings
from edge_agent.contract.errors import ConfigError, ServiceError
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.schema import ROLES, HouseSpec, Sensor
from edge_agent.contract.units import unit_named
from edge_agent.contract.weather import WeatherForecast
from edge_agent.hearing import ADDRESSES, HABITS, unheard
from edge_agent.history import History
from edge_agent.mqtt import BrokerLink, Message
from edge_agent.reading import POWER, Reading
from edge_agent.repairs import repair_lines
from edge_agent.watch import Watch
from edge_agent.weather import WeatherDecoder
from edge_agent.zigbee import Decoder

CONNECT_S: Final = 10.0
LOOK_BACK_S: Final = 60 * DAY_S
REPAIR_DAYS: Final = 7


@dataclass(frozen=True)
class Past:
    """What the agent's history knows."""

    days: dict[str, float] = field(default_factory=dict)
    """Days known of each sensor among the last 60."""
    usual_s: dict[str, float | None] = field(default_factory=dict)
    """Each sensor's usual interval."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Zigbee2MQTT's addresses, by topic."""
    repairs: list[str] = field(default_factory=list)
    """Of the last week, in words."""


@dataclass
class Seen:
    """What was heard of one house."""

    messages: dict[str, int] = field(default_factory=dict)
    """By topic."""
    readings: dict[str, Reading] = field(default_factory=dict)
    """The newest of each sensor."""
    timed_topics: set[str] = field(default_factory=set)
    """Topics whose messages say when they were true."""
    weather: dict[str, WeatherForecast] = field(default_factory=dict)
    """The newest forecast of each role."""
    fields: dict[str, set[str]] = field(default_factory=dict)
    """Keys of the JSON messages on a sensor's topic."""
    exposes: dict[tuple[str, str], str] = field(default_factory=dict)
    """Units that Zigbee2MQTT tells, by (topic, property)."""
    rights: list[str] = field(default_factory=list)
    """What the broker seems not to let the agent do, in words."""


def examine(house: HouseSpec, settings: Settings, *, history_path: Path, seconds: float) -> Iterator[str]:
    """Lines of the report, the first before the listening starts.

    Raises:
        ServiceError: no connection to the broker.
    """
    decoder, weather = Decoder(house, base_topic=settings.zigbee2mqtt_topic), WeatherDecoder(house)
    devices_topic = f"{settings.zigbee2mqtt_topic}/bridge/devices"
    link = BrokerLink(
        settings.broker,
        client_id=f"hearthcast-{house.site}-doctor",
        status_topic=None,
        subscriptions=[*decoder.topics, *weather.topics, devices_topic],
        keep_session=False,
    )
    past = remembered(house, history_path)
    decoder.bridge.restore(past.addresses)
    link.start()
    try:
        if not link.connected.wait(CONNECT_S):
            raise ServiceError(f"broker {settings.broker.host}:{settings.broker.port}: {link.problem or 'no answer'}")
        version = "5" if link.is_mqtt5 else "3.1.1"
        yield f"connected to {settings.broker.host}:{settings.broker.port} (MQTT {version}); listening for at most {seconds:g} s"
        seen = _listen(link, decoder, weather, house, devices_topic=devices_topic, seconds=seconds)
    finally:
        link.stop()
    decoder.rejected += weather.rejected
    seen.rights = [*_silence(decoder.bridge, seen, settings.broker.username), *link.problems()]
    yield from describe(house, decoder, seen, past=past, now=time.time())


def _silence(bridge: Bridge, seen: Seen, user: str | None) -> Iterator[str]:
    if bridge.has_topics and bridge.is_online is None and not any(topic.startswith(bridge.base) for topic in seen.messages):
        yield unheard(bridge, user)


def _listen(link: BrokerLink, decoder: Decoder, weather: WeatherDecoder, house: HouseSpec, *, devices_topic: str, seconds: float) -> Seen:
    """Until every sensor and every weather forecast has delivered, or the time is up."""
    seen, end = Seen(), time.monotonic() + seconds
    wanted, forecasts = {sensor.name for sensor in house.sensors if sensor.topic is not None}, {source.role for source in house.weather}
    while time.monotonic() < end and not (wanted <= seen.readings.keys() and forecasts <= seen.weather.keys()):
        message = link.get(max(end - time.monotonic(), 0.0))
        if message is None:
            continue
        if message.topic == devices_topic:
            seen.exposes = units_told(message.payload, base_topic=devices_topic.removesuffix("/bridge/devices"))
        note(seen, decoder, message)
        note_weather(seen, weather, message)
        if decoder.bridge.has_changed:
            decoder.bridge.has_changed = False
            link.subscribe(decoder.topics)
    return seen


def note(seen: Seen, decoder: Decoder, message: Message) -> None:
    """Take one message in."""
    readings = decoder.decode(message.topic, message.payload, received_at=message.received_at, retained=message.retained)
    seen.messages[message.topic] = seen.messages.get(message.topic, 0) + 1
    for reading in readings:
        if not reading.sensor.endswith(POWER):
            seen.readings[reading.sensor] = reading
        if reading.time != message.received_at:
            seen.timed_topics.add(message.topic)
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(message.payload) if not readings else None
        if isinstance(content, dict):
            seen.fields.setdefault(message.topic, set()).update(content)


def note_weather(seen: Seen, decoder: WeatherDecoder, message: Message) -> None:
    """Take one message of a weather forecast in."""
    found = decoder.decode(message.topic, message.payload, received_at=message.received_at, retained=message.retained)
    seen.weather |= {forecast.role: forecast for forecast in found}


def units_told(payload: bytes, *, base_topic: str) -> dict[tuple[str, str], str]:
    """Units in Zigbee2MQTT's `bridge/devices`, by (topic, property); empty when it is not of the known form."""
    units: dict[tuple[str, str], str] = {}

    def walk(topic: str, exposes: Any) -> None:
        for expose in exposes or ():
            if "unit" in expose and "property" in expose:
                units[topic, expose["property"]] = expose["unit"]
            walk(topic, expose.get("features"))

    try:
        for device in json.loads(payload):
            walk(f"{base_topic}/{device['friendly_name']}", (device.get("definition") or {}).get("exposes"))
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return units


def remembered(house: HouseSpec, path: Path) -> Past:
    """What the agent's history at `path` knows; little, when there is none."""
    if not path.exists():
        return Past()
    with History(path) as history:
        last = history.last_step()
        habits, addresses = history.state(HABITS) or {}, history.state(ADDRESSES) or {}
        if last is None:
            return Past(addresses=addresses)
        end = last + house.step_s
        known = np.isfinite(history.series(house.features, end - LOOK_BACK_S, end, house.step_s).values).sum(axis=0)
        days = {feature.name: float(count) * house.step_s / DAY_S for feature, count in zip(house.features, known, strict=True)}
        watch = Watch(house)
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            watch.restore(habits)
        return Past(days, watch.usual_s, addresses, list(repair_lines(history, days=REPAIR_DAYS)))


def describe(house: HouseSpec, decoder: Decoder, seen: Seen, *, past: Past, now: float) -> Iterator[str]:
    """The report: a line a sensor, then what is wrong."""
    problems, bridge = list(seen.rights), list(decoder.bridge.problems())
    for sensor in house.sensors:
        reading = seen.readings.get(sensor.name)
        value = "nothing yet" if reading is None else f"{reading.value:.6g} {_unit(sensor)}, {max(now - reading.time, 0):.0f} s old"
        usual_s = past.usual_s.get(sensor.name)
        usually = "" if usual_s is None else f", usually at least every {usual_s:.0f} s"
        yield f"  {sensor.name:24s} {value:32s} {past.days.get(sensor.name, 0.0):5.1f} of the last 60 days known{usually}"
        is_explained = sensor.topic not in seen.messages and any(
            text.startswith(f"{sensor.topic} ") or f"({sensor.topic})" in text for text in bridge
        )
        problems += [] if is_explained else list(_problems(sensor, seen))
    for source in house.weather:
        name = f"{source.role} ahead"
        yield f"  {name:24s} {_told(seen.weather.get(source.role))}"
        if source.role not in seen.weather:
            problems.append(f"{name}: {source.topic}: no usable forecast; publish it retained, or listen for longer with --seconds")
    problems += [f"{who}: {why} ({n} times)" for (who, why), n in decoder.rejected.items()]
    problems += bridge
    yield ""
    yield from past.repairs
    yield from (f"problem: {problem}" for problem in problems)
    yield f"{len(seen.readings)} of {len(house.sensors)} sensors delivered, {len(problems)} problems ({iso_utc(now)})"


def _told(forecast: WeatherForecast | None) -> str:
    """What a weather forecast says, in short."""
    if forecast is None:
        return "nothing yet"
    first, last = iso_utc(int(forecast.times[0])), iso_utc(int(forecast.times[-1]))
    return (
        f"{forecast.values.min():.3g} to {forecast.values.max():.3g} {ROLES[forecast.role].unit}, {len(forecast.times)} values from {first} to {last}"
    )


def _unit(sensor: Sensor) -> str:
    return unit_named(sensor.topic_unit).canonical


def _problems(sensor: Sensor, seen: Seen) -> Iterator[str]:
    if sensor.topic is None:
        yield f"{sensor.name}: has no topic, the agent cannot read it"
        return
    if sensor.name not in seen.readings:
        heard = seen.messages.get(sensor.topic, 0)
        why = "no message; sensors that report on change may take an hour; a broker whose ACL forbids reading says nothing"
        if heard:
            why = f"{heard} messages, none with a usable {sensor.field!r}{_hint(sensor.field, seen.fields.get(sensor.topic, set()))}"
        yield f"{sensor.name}: {sensor.topic}: {why}"
    elif sensor.topic not in seen.timed_topics and sensor.field is not None:
        yield f"{sensor.name}: messages say no time, arrival counts; set advanced.last_seen = ISO_8601 in Zigbee2MQTT"
    told = seen.exposes.get((sensor.topic, sensor.field or ""))
    if told is not None and not _same_unit(told, sensor.topic_unit):
        yield f"{sensor.name}: Zigbee2MQTT says {told!r}, house.toml says topic_unit = {sensor.topic_unit!r}"


def _hint(field: str | None, fields: set[str]) -> str:
    """What is there instead: a field never reported yet, or those of several endpoints, or one spelt otherwise."""
    if field is None or not fields:
        return ""
    if field in fields:
        return " (it is null: never reported yet)"
    near = sorted(name for name in fields if name.startswith(f"{field}_")) or difflib.get_close_matches(field, sorted(fields), n=3)
    return f"; there is {', '.join(near or sorted(fields))}"


def _same_unit(told: str, configured: str) -> bool:
    try:
        return unit_named(told) == unit_named(configured)
    except ConfigError:
        return True  # a unit that we do not know proves nothing
