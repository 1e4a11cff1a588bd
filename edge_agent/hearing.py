"""What the agent hears: messages into readings, and what is known of those who send them."""

from __future__ import annotations

from typing import Final

from edge_agent.bridge import Bridge
from edge_agent.config import Settings
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from edge_agent.health import Health
from edge_agent.keeping import Keeper
from edge_agent.mqtt import BrokerLink, Message
from edge_agent.reading import Reading
from edge_agent.refusals import below
from edge_agent.repairs import EVENTS
from edge_agent.zigbee import Decoder

HABITS: Final = "habits"
"""Key of what was learnt of the sensors, in the history."""
ADDRESSES: Final = "addresses"
"""Key of Zigbee2MQTT's addresses by topic."""
SAVE_EVERY_S: Final = 3600.0
KEPT_S: Final = 60.0
"""What the broker had kept has come by then."""


class Hearing:
    """Decodes, follows renamed devices, and tells the watch who spoke and who could be heard at all."""

    def __init__(self, house: HouseSpec, settings: Settings, *, link: BrokerLink, keeper: Keeper, health: Health) -> None:
        self.decoder = Decoder(house, base_topic=settings.zigbee2mqtt_topic)
        self.link, self.keeper, self.health = link, keeper, health
        self.watch = health.watch
        self._asked = self.decoder.topics
        self.user = settings.broker.username
        self._is_connected = self._was_offline = False
        self._connected_at = 0.0
        self._save_at: float | None = None

    def restore(self) -> None:
        """Know again what was learnt; where that is damaged, it is learnt anew."""
        try:
            self.watch.restore(self.keeper.read(lambda history: history.state(HABITS), None))
            self.decoder.bridge.restore(self.keeper.read(lambda history: history.state(ADDRESSES), None))
            self.health.events.extend(map(str, self.keeper.read(lambda history: history.state(EVENTS), None) or ()))
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            self.health.happened(f"what was learnt of the sensors is damaged ({err!r}): it is learnt again")

    def save(self) -> None:
        """Remember what was learnt."""
        self.keeper.save_state(HABITS, self.watch.state())
        self.keeper.save_state(EVENTS, list(self.health.events))

    def readings(self, message: Message, *, received_at: float | None) -> list[Reading]:
        """What `message` says; `received_at` as for `Decoder.decode`."""
        readings = self.decoder.decode(message.topic, message.payload, received_at=received_at, retained=message.retained)
        if readings:
            self.watch.saw(readings)
        if self.decoder.bridge.has_changed:
            self.decoder.bridge.has_changed = False
            self.link.subscribe(self.decoder.topics)
            self.link.unsubscribe([topic for topic in self._asked if topic not in self.decoder.topics])
            self._asked = self.decoder.topics
            self.keeper.save_state(ADDRESSES, self.decoder.bridge.addresses)
        return readings

    def look(self, now: float, monotonic: float) -> None:
        """Notice whether the broker is there; call it often, with unix s and the monotonic clock."""
        is_connected = self.link.connected.is_set()
        if is_connected != self._is_connected:
            self._is_connected = is_connected
            self.health.notices["broker"] = [] if is_connected else [f"there is no connection to the broker: {self.link.problem}"]
            if is_connected:
                self._connected_at = now
                self.watch.resumed(now)
            else:
                self.watch.interrupted()
        if self._save_at is None:
            self._save_at = monotonic + SAVE_EVERY_S
        elif monotonic >= self._save_at:
            self._save_at = monotonic + SAVE_EVERY_S
            self.save()

    def tell(self, now: float) -> None:
        """Bring the notices about the broker and Zigbee2MQTT up to date."""
        bridge = self.decoder.bridge
        is_offline = bridge.is_online is False
        if self._was_offline and not is_offline:
            self.watch.resumed(now)
        self._was_offline = is_offline
        silence = self._silence(now)
        self.health.notices["zigbee2mqtt"] = [*bridge.problems(), *silence]
        self.health.notices["rights"] = self.link.problems()
        self.watch.muted = bridge.base if is_offline or silence else None

    def _silence(self, now: float) -> list[str]:
        """A broker that keeps silent about topics that the agent may not read: what else would be heard by now."""
        bridge = self.decoder.bridge
        if not (self._is_connected and bridge.has_topics) or bridge.is_online is False:
            return []
        if bridge.is_online is None:
            is_early = now - self._connected_at < KEPT_S
            return [] if is_early or self.watch.has_heard(bridge.base) else [unheard(bridge, self.user)]
        since = self.watch.silent_since(bridge.base, now)
        return [] if since is None else [silent(bridge, self.user, since)]


def unheard(bridge: Bridge, user: str | None) -> str:
    """Nothing came of Zigbee2MQTT, not even what it keeps on the broker; in words."""
    return (
        f"nothing is heard of Zigbee2MQTT, not even {bridge.base}bridge/state, which it keeps on the broker: does it use this broker, "
        f"is base_topic of [zigbee2mqtt] in agent.toml right, and does the broker's ACL have 'topic read {bridge.base}#' {below(user)}?"
    )


def silent(bridge: Bridge, user: str | None, since: float) -> str:
    """Zigbee2MQTT is there, and none of its devices; in words."""
    return (
        f"Zigbee2MQTT is online, but nothing has come from any of its devices since {iso_utc(since)}: "
        f"does the broker's ACL have 'topic read {bridge.base}#' {below(user)}, and does Zigbee2MQTT's log show their messages?"
    )
