"""What Zigbee2MQTT says about itself and its devices: who is there, who was renamed, who left. Never an exception, whatever arrives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec

MAX_PAYLOAD: Final = 4 * 1024 * 1024
"""Bytes; a device with all that it exposes takes about 5 kB."""
LEFT: Final = "left the Zigbee network"

LONGEST_NAME: Final = 200
WILDCARDS: Final = frozenset("+#")


class Bridge:
    """Follows `bridge/*` and the devices' availability.

    A device that is renamed is still the one that `house.toml` means: its address is remembered, and its new topic is read in the place of the old
    one until a device is called by the old name again.
    """

    def __init__(self, house: HouseSpec, *, base_topic: str = "zigbee2mqtt") -> None:
        """Know the devices that `house` reads; `base_topic` is Zigbee2MQTT's."""
        self.base = f"{base_topic}/"
        self.is_online: bool | None = None
        """None before it said anything."""
        self.online_at: float | None = None
        """When it last said that it had just come online, unix s."""
        self.addresses: dict[str, str] = {}
        """Addresses of the devices that the house reads, by topic; the reader remembers them over a restart."""
        self.renamed: dict[str, str] = {}
        """Topics of today, by topic in `house.toml`."""
        self._topics = sorted({s.topic for s in house.sensors if s.topic is not None and s.topic.startswith(self.base)})
        self._offline_since: float | None = None
        self._names: dict[str, str] | None = None
        """Addresses by friendly name; None before they were told."""
        self._groups: set[str] = set()
        self._away: dict[str, str] = {}
        """Why a device is away, by topic."""
        self.has_changed = False
        """Addresses or names changed: subscribe to `topics` again, and remember `addresses`. The reader clears it."""
        self._read: tuple[str, ...] = ()
        self._note_topics()

    @property
    def has_topics(self) -> bool:
        """Whether the house reads any device of this bridge."""
        return bool(self._topics)

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return self._read

    def _note_topics(self) -> None:
        own = [f"{self.base}bridge/{name}" for name in ("state", "devices", "groups", "event")]
        self._read = (*own, *(f"{self.renamed.get(topic, topic)}/availability" for topic in self._topics))

    def today(self, topic: str) -> str:
        """Where to read what `house.toml` expects on `topic`, which may be an attribute's."""
        for configured, today in self.renamed.items():
            if topic == configured or topic.startswith(f"{configured}/"):
                return today + topic.removeprefix(configured)
        return topic

    def configured(self, topic: str) -> str:
        """The inverse of `today`."""
        for configured, today in self.renamed.items():
            if topic == today or topic.startswith(f"{today}/"):
                return configured + topic.removeprefix(today)
        return topic

    def take(self, topic: str, payload: bytes, *, received_at: float, retained: bool) -> bool:
        """Take a message in; False when it is none of these."""
        if topic not in self._read:
            return False
        message = _parsed(payload)
        what = topic.removeprefix(self.base)
        if what == "bridge/state":
            self._take_state(message, received_at, retained=retained)
        elif what == "bridge/devices":
            self._take_devices(message)
        elif what == "bridge/groups":
            self._groups = {name for name, _ in _named(message)}
        elif what == "bridge/event":
            self._take_event(message, received_at)
        else:
            self._take_availability(topic.removesuffix("/availability"), message)
        return True

    def _take_state(self, message: Any, received_at: float, *, retained: bool) -> None:
        """`{"state": "online"}`, or `online` from 1.x."""
        state = _state(message)
        if state is None:
            return
        was, self.is_online = self.is_online, state == "online"
        if self.is_online:
            self._offline_since = None
            if not retained:
                self.online_at = received_at
        elif was is not False:
            self._offline_since = received_at

    def _take_devices(self, message: Any) -> None:
        if not isinstance(message, list):
            return
        self._names = {name: address for name, address in _named(message) if address}
        by_address = {address: name for name, address in self._names.items()}
        addresses, renamed = dict(self.addresses), {}
        for topic in self._topics:
            name = topic.removeprefix(self.base)
            if name in self._names:
                addresses[topic] = self._names[name]
            elif addresses.get(topic) in by_address:
                renamed[topic] = self.base + by_address[addresses[topic]]
        if (addresses, renamed) != (self.addresses, self.renamed):
            self.addresses, self.renamed, self.has_changed = addresses, renamed, True
            self._note_topics()

    def _take_event(self, message: Any, received_at: float) -> None:
        """A device came or left."""
        data = message.get("data") if isinstance(message, dict) else None
        if not isinstance(data, dict):
            return
        topic = self.configured(f"{self.base}{data.get('friendly_name')}")
        if topic not in self._topics:
            return
        if message.get("type") == "device_leave":
            self._away[topic] = f"{LEFT} at {iso_utc(received_at)}: pair it again"
        elif message.get("type") in ("device_joined", "device_announce"):
            self._away.pop(topic, None)

    def _take_availability(self, topic: str, message: Any) -> None:
        configured = self.configured(topic)
        if _state(message) == "offline":
            self._away.setdefault(configured, "is offline, says Zigbee2MQTT: is its battery empty, its plug out, its router off?")
        else:  # online; or empty, because the device was renamed or removed
            self._away.pop(configured, None)

    def heard(self, topic: str) -> None:
        """The device on this topic spoke: whoever was called away is back."""
        if self._away:
            self._away.pop(self.configured(topic), None)

    def problems(self) -> Iterator[str]:
        """What is wrong, in words."""
        if self.is_online is False:
            since = "" if self._offline_since is None else f" since {iso_utc(self._offline_since)}"
            yield f"Zigbee2MQTT is offline{since}: is its service running, its adapter plugged in?"
        for topic in self._topics:
            today = self.renamed.get(topic)
            if today is not None:
                yield f'{topic} is now called {today}, and is read there: set topic = "{today}" in house.toml'
            elif self._names is not None and not self._is_known(topic) and not self._away.get(topic, "").startswith(LEFT):
                yield f"Zigbee2MQTT knows no device called {topic.removeprefix(self.base)!r} ({topic}): was it removed, or is the name misspelt?"
            if topic in self._away and self.is_online is not False:  # else nobody knows
                yield f"{topic} {self._away[topic]}"

    def _is_known(self, topic: str) -> bool:
        """Whether the topic is a device's or a group's; an endpoint or an attribute may stand behind the name."""
        name = topic.removeprefix(self.base)
        known = {*(self._names or ()), *self._groups}
        return name in known or any(name.startswith(f"{other}/") for other in known)

    def restore(self, state: Mapping[str, str] | None) -> None:
        """Know the addresses that an earlier run had seen."""
        self.addresses = {str(topic): str(address) for topic, address in (state or {}).items()}


def _parsed(payload: bytes) -> Any:
    """The payload as JSON, or as text where it is none; None when it is empty or too long."""
    if not payload or len(payload) > MAX_PAYLOAD:
        return None
    try:
        text = payload.decode()
        return json.loads(text)
    except RecursionError:
        return None
    except ValueError:
        return payload.decode(errors="replace").strip()


def _state(message: Any) -> str | None:
    """`online` or `offline`, in the form of 2.x or 1.x."""
    state = message.get("state") if isinstance(message, dict) else message
    return state if state in ("online", "offline") else None


def _named(message: Any) -> Iterator[tuple[str, str]]:
    """Friendly names and addresses of devices or groups; what can be no name in a topic is left out."""
    for item in message if isinstance(message, list) else ():
        name = item.get("friendly_name") if isinstance(item, dict) else None
        if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and name.isprintable() and not WILDCARDS & set(name):
            address = item.get("ieee_address")
            yield name, address if isinstance(address, str) and len(address) <= LONGEST_NAME else ""
