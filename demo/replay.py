"""Turns a series back into the messages that Zigbee2MQTT would have sent, and publishes them at any speed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

import numpy as np
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.series import Floats, Series
from edge_agent.contract.units import from_canonical

COUNTER_START_KWH: Final = 1000.0
"""What the meters have counted before the first step."""
CLOSING_S: Final = 30
"""One more message comes this long after the end: a step is closed by an event time past it, and nothing else would bring one."""
STALL_S: Final = 60.0
"""A broker that moves nothing for this long is given up."""
ECHO_EVERY: Final = 500
"""Messages after which the publisher waits for the broker to have handed them out."""


class Message(NamedTuple):
    """One MQTT message and when its device spoke."""

    time: int
    """Unix s."""
    topic: str
    payload: str


@dataclass(frozen=True)
class _Field:
    """One value of a device, by step edge."""

    path: tuple[str, ...]
    """Where it stands in the JSON object; empty when the payload is the value itself."""
    values: list[float | None]
    """`(n_steps + 1,)`: what is true at each edge; None unknown."""


def messages(series: Series, house: HouseSpec, *, counter_decimals: int | None = None) -> Iterator[Message]:
    """What the devices of `house` would have sent, in time order.

    A state of [t, t + step) is sent at t and holds; a counter's reading at t + step includes the energy of [t, t + step), so that readings on the
    edges give every step's energy exactly. Every message repeats the device's whole state, as Zigbee2MQTT's cache does. A device of which nothing is
    known is silent; unknown energy is not counted. Topics that carry a bare number, and hence no time, come last at each instant.

    Args:
        series: the values, canonical units.
        house: which topics and fields carry them; sensors without a topic are left out.
        counter_decimals: round kWh counters to this many decimals, as most plugs do; None sends every digit.
    """
    devices = _devices(series, house, counter_decimals)
    ordered = sorted(devices.items(), key=lambda item: not item[1][0].path)
    for row, unix_s in enumerate([*series.times.tolist(), series.end]):
        for topic, fields in ordered:
            if any(field.values[row] is not None for field in fields):
                yield Message(unix_s, topic, _payload(fields, row, unix_s))
    closing = next(((topic, fields) for topic, fields in ordered if fields[0].path), None)
    if closing is not None:
        yield Message(series.end + CLOSING_S, closing[0], _payload(closing[1], len(series), series.end + CLOSING_S))


def _devices(series: Series, house: HouseSpec, counter_decimals: int | None) -> dict[str, list[_Field]]:
    """Fields by topic, in the order of the house."""
    devices: dict[str, list[_Field]] = {}
    for sensor in house.sensors:
        if sensor.topic is not None:
            path = () if sensor.field is None else tuple(sensor.field.split("."))
            field = _Field(path, _readings(series.column(sensor.name), sensor, series.step_s, counter_decimals))
            devices.setdefault(sensor.topic, []).append(field)
    return devices


def _readings(column: Floats, sensor: Sensor, step_s: int, counter_decimals: int | None) -> list[float | None]:
    """What the device shows at each step edge, `(n_steps + 1,)`, in the topic's unit."""
    unknown = ~np.isfinite(column)
    if sensor.topic_form == "counter":
        counted_wh = np.concatenate([[0.0], np.cumsum(np.where(unknown, 0.0, column))])
        readings = from_canonical(COUNTER_START_KWH * 1e3 + counted_wh, sensor.topic_unit)
        readings = readings if counter_decimals is None else np.round(readings, counter_decimals)
        silent = np.concatenate([[False], unknown])
    elif sensor.topic_form == "interval":
        readings, silent = from_canonical(np.concatenate([[np.nan], column]), sensor.topic_unit), np.concatenate([[True], unknown])
    else:
        scale = 3600.0 / step_s if sensor.topic_form == "power" else 1.0  # Wh in the step -> mean W
        readings = from_canonical(np.concatenate([column * scale, column[-1:] * scale]), sensor.topic_unit)
        silent = np.concatenate([unknown, unknown[-1:]])
    return [None if is_silent else value for value, is_silent in zip(readings.tolist(), silent.tolist(), strict=True)]


def _payload(fields: list[_Field], row: int, unix_s: int) -> str:
    if not fields[0].path:
        return json.dumps(fields[0].values[row])
    state: dict[str, Any] = {}
    for field in fields:
        place = state
        for key in field.path[:-1]:
            place = place.setdefault(key, {})
        place[field.path[-1]] = field.values[row]
    state["linkquality"] = 90 + unix_s // 600 % 7 * 11
    state["last_seen"] = datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return json.dumps(state)


class Connection:
    """A connection to the broker that publishes with QoS 1 and a bounded number of messages in flight: a slow broker slows it down and loses nothing.

    A message of its own comes back now and then: amqtt acknowledges what it has yet to hand out, and forgets that when its sender disconnects.
    Works in the caller's thread: paho's network thread would share the interpreter with it and halve the rate.
    """

    def __init__(self, host: str, port: int, *, max_inflight: int = 100) -> None:
        """Connect to a broker.

        Raises:
            ServiceError: no broker answers there, or it refuses this client.
        """
        self.where, self.max_inflight, self.inflight = f"{host}:{port}", max_inflight, 0
        self.published, self.handed_out = 0, 0
        name = f"hearthcast-replay-{time.time_ns():x}"
        self.echo_topic = f"{name}/handed_out"
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name)
        self.client.max_inflight_messages_set(max_inflight)
        self.client.on_publish = self._on_publish
        try:
            self.client.connect(host, port)
        except OSError as err:
            raise ServiceError(f"no broker answers at {self.where} ({err}): start one, or leave --broker away") from err
        self.wait(self.client.is_connected, what="greeting")
        self.listen(self.echo_topic, self._on_echo)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()

    def listen(self, topic: str, hear: Callable[[str], None], *, retained: bool = True) -> None:
        """Call `hear` with the payload of every message on `topic`, whenever this connection is at work; also with the retained one, if wanted.

        Raises as `publish`.
        """
        granted: list[object] = []

        def pass_on(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
            if retained or not message.retain:
                hear(message.payload.decode())

        self.client.on_subscribe = lambda *args: granted.append(args)
        self.client.message_callback_add(topic, pass_on)
        self.client.subscribe(topic, qos=1)
        self.wait(lambda: bool(granted), what="answer to a subscription")

    def publish(self, topic: str, payload: str) -> None:
        """Hand one message to the broker; waits while too many are under way.

        Raises:
            ServiceError: the broker went away, or moves nothing any more.
        """
        self._send(topic, payload)
        self.published += 1
        if self.published % ECHO_EVERY == 0:
            self.flush()

    def flush(self) -> None:
        """Wait until the broker has handed out every message to its subscribers. Raises as `publish`."""
        self.handed_out = -1
        self._send(self.echo_topic, str(self.published))
        self.wait(lambda: self.handed_out == self.published, what="movement")

    def wait(self, done: Callable[[], bool], *, what: str, timeout_s: float = STALL_S) -> None:
        """Serve the connection until `done`.

        Raises:
            ServiceError: the broker went away, or there was no `what` for `timeout_s`.
        """
        end = time.monotonic() + timeout_s
        while not done():
            self._serve(0.1)
            if time.monotonic() > end:
                raise ServiceError(f"broker {self.where}: no {what} for {timeout_s:g} s: see the logs of the broker and of whoever should speak")

    def rest(self, seconds: float) -> None:
        """Let time pass with the connection kept alive. Raises as `publish`."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._serve(left)

    def _send(self, topic: str, payload: str) -> None:
        self.wait(lambda: self.inflight < self.max_inflight, what="acknowledgement")
        self.inflight += 1
        self.client.publish(topic, payload, qos=1)

    def _on_publish(self, *_: object) -> None:
        self.inflight -= 1

    def _on_echo(self, payload: str) -> None:
        self.handed_out = int(payload)

    def _serve(self, timeout_s: float) -> None:
        """Read and write what is due."""
        outcome = self.client.loop(min(timeout_s, 1.0))
        if outcome != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ServiceError(f"broker {self.where}: closed the connection ({mqtt.error_string(outcome)}): does it allow anonymous clients?")


def replay(
    series: Series,
    house: HouseSpec,
    connection: Connection,
    *,
    speed: float = float("inf"),
    counter_decimals: int | None = None,
    before_step: Callable[[int], None] = lambda _unix_s: None,
) -> int:
    """Publish `series` as messages of the devices of `house`.

    A broker keeps only so many messages for a reader that is slower than this (Mosquitto: 1,000, `max_queued_messages`) and drops the rest: raise
    that limit, or wait for the reader in `before_step`.

    Args:
        series: what happened.
        house: topics and fields.
        connection: where to publish.
        speed: seconds of the series in a second; as fast as the broker takes them when infinite.
        counter_decimals: as for `messages`.
        before_step: called with the time of each step edge before its messages go out: to show progress, or to wait for who listens.

    Returns:
        How many messages the broker took and handed out.

    Raises:
        ServiceError: the broker went away, or moves nothing any more.
    """
    begun, count, last = time.monotonic(), 0, series.start - 1
    for message in messages(series, house, counter_decimals=counter_decimals):
        if message.time > last:
            last = message.time
            connection.rest(begun + (last - series.start) / speed - time.monotonic())
            before_step(last)
        connection.publish(message.topic, message.payload)
        count += 1
    connection.flush()
    return count
