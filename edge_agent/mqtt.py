"""The agent's connection to the MQTT broker. The only file that knows paho.

MQTT 5 where the broker speaks it, else 3.1.1. paho's network thread does nothing but put messages on a bounded queue, and on every connect subscribe
and have the outbox send again what is retained.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import ssl
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_agent.clock import boottime
from edge_agent.config import BrokerSettings
from edge_agent.contract.errors import ConfigError
from edge_agent.outage import Outage
from edge_agent.outbox import Outbox
from edge_agent.reads import Reads
from edge_agent.rivals import Rivals

log = logging.getLogger(__name__)

QUEUE_SIZE: Final = 10_000
QUEUE_BYTES: Final = 2_000_000
"""Of payloads; one that is larger waits alone."""
LONGEST_PACKET: Final = 4 * 1024 * 1024 + 65_536
"""Bytes; an MQTT 5 broker keeps larger ones to itself. Zigbee2MQTT's list of all devices may be large, everything else is small."""
UNSENT_LIMIT: Final = 1_000
"""Most own messages that wait for the broker's acknowledgement; further ones are dropped."""
UNSENT_PACE: Final = 50
"""Own messages of a replay that wait to be written out."""
RECEIVE_MAXIMUM: Final = 100
"""Messages that an MQTT 5 broker may send ahead of acknowledgement."""
KEEPALIVE_S: Final = 10
"""A line on which nothing is heard for so long is asked for a sign of life, which it has as long again to give."""
DEAD_AFTER_S: Final = 5
"""A line on which the other machine's kernel answers nothing for so long is given up: a pulled cable, a broker's machine without power."""
SESSION_EXPIRY_S: Final = 3600
LONGEST_PATIENCE_S: Final = 60.0
FIRST_PATIENCE_S: Final = 3.0
"""Wait this long for the broker's first answer before the other version of MQTT is tried; doubled each time. Later, before another connection is."""
QUIET_S: Final = 0.7
"""A broker that had kept messages sends them at once, without such a pause."""
STABLE_S: Final = 30
"""A connection that lasted this long was a good one: the next attempt follows at once."""
ADVICE: Final = {
    "Not authorized": "check username and password file",
    "Bad user name or password": "check username and password file",
    "Client identifier not valid": "choose another client_id",
}
"""What to do when the broker refuses the connection, by its reason."""
TAKEN_OVER: Final = "Session taken over"
RUN: Final = "run"
"""MQTT 5 user property of own statuses: which run of which agent wrote them."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from the broker."""

    topic: str
    payload: bytes
    retained: bool
    """A snapshot kept by the broker, not a new sample."""
    received_at: float
    """Unix seconds, by the wall clock."""
    boot_s: float | None = None
    """When it was received by `clock.boottime`, which nobody sets; None where that is not known."""


class Inbox(queue.Queue[tuple[Message, int]]):
    """Messages and their ids (0: wants no acknowledgement); full of some large messages as well as of many small ones."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self.n_bytes = 0

    def _qsize(self) -> int:
        return len(self.queue) if self.n_bytes < QUEUE_BYTES else max(len(self.queue), self.maxsize)

    def _put(self, item: tuple[Message, int]) -> None:
        self.n_bytes += len(item[0].payload)
        super()._put(item)

    def _get(self) -> tuple[Message, int]:
        item: tuple[Message, int] = super()._get()
        self.n_bytes -= len(item[0].payload)
        return item


class BrokerLink:
    """A connection that comes back by itself; `start()` and `stop()` frame its life, all other methods may be called between them at any time."""

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        client_id: str,
        status_topic: str | None,
        subscriptions: Sequence[str],
        keep_session: bool = True,
        is_replay: bool = False,
    ) -> None:
        """Prepare; nothing is opened.

        Args:
            settings: where the broker is and how to log in.
            client_id: the same at every start, because the broker knows the session by it.
            status_topic: holds `online`, `offline` (the last will) or `stopped`; None for a visitor.
            subscriptions: topics to read, QoS 1.
            keep_session: let the broker keep messages for an hour while this program is away.
            is_replay: own messages go at QoS 0, because the broker's acknowledgements would stand in line behind all that it has to hand out.
        """
        self.settings, self.client_id, self.status_topic = settings, client_id, status_topic
        own = () if status_topic is None else (status_topic,)
        self.reads = Reads([*subscriptions, *own], self._ask, user=settings.username)
        self.rivals = Rivals(client_id)
        self.keep_session, self.is_replay = keep_session, is_replay
        self.attempted = threading.Event()
        """Set once the first connect attempt has ended, well or badly."""
        self.connected = threading.Event()
        self.outage = Outage(f"{settings.host}:{settings.port}")
        self._queue = Inbox(QUEUE_SIZE)
        self._handed_out: list[int] = []
        self._unacknowledged: dict[int, tuple[str, bytes]] = {}
        """Messages taken and not acknowledged yet, by id: the broker sends them again after a reconnect."""
        self._arrived_at = self._acknowledged_at = 0.0
        self._has_echo = False
        """The broker has sent back a status written on this connection: what it had kept stood in line before it."""
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._closed = threading.Event()
        self._connected_at: float | None = None
        self._is_version_proven = False
        self._patience_s = FIRST_PATIENCE_S
        self._patience: threading.Timer | None = None
        self._client = self._new_client(MQTTProtocolVersion.MQTTv5)
        self.outbox = Outbox(self._send, user=settings.username)
        if status_topic is not None:
            self.outbox.put(status_topic, b"online", retain=True)

    # life

    def start(self) -> None:
        """Begin to connect, in paho's own thread; returns at once."""
        self._open(self._client)

    def stop(self, timeout_s: float = 1.2) -> None:
        """Say `stopped`, disconnect in good order and end the thread; gives up on a dead line after about `timeout_s`."""
        self._stopping.set()
        self._end_patience()
        self.acknowledge()
        if not self.connected.is_set():
            self._client.disconnect()
            return
        if self.status_topic is not None:
            self.outbox.put(self.status_topic, b"stopped", retain=True)
            self._wait_until_answered(timeout_s / 2)
        self._client.disconnect()
        # ending the loop before DISCONNECT is on the wire would make the broker publish the will over `stopped`
        if self._closed.wait(timeout_s / 2):
            self._client.loop_stop()

    def _wait_until_answered(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while self.outbox.waiting and time.monotonic() < end:
            time.sleep(0.002)
            self.outbox.settle()

    def get(self, timeout_s: float) -> Message | None:
        """As `take`, for who is done with a message when it asks for the next one: the one before is acknowledged now."""
        self.acknowledge()
        return self.take(timeout_s)

    def take(self, timeout_s: float) -> Message | None:
        """The next message; None when none came within `timeout_s`.

        It stays unacknowledged until `acknowledge` is called, so that the broker sends no faster than messages are used, and sends again what a crash
        took. Call it again and again, because it also looks after own messages.
        """
        self.outbox.settle()
        try:
            message, message_id = self._queue.get(timeout=timeout_s) if timeout_s > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if message_id:
            self._handed_out.append(message_id)
        return message

    @property
    def n_unacknowledged(self) -> int:
        """How many messages were taken that the broker keeps until `acknowledge` is called; it sends only so many more (Mosquitto: 20)."""
        return len(self._handed_out)

    def acknowledge(self) -> None:
        """Let the broker forget what was taken: it is used, or safe."""
        for message_id in self._handed_out:
            self._unacknowledged.pop(message_id, None)
            self._client.ack(message_id, 1)
        if self._handed_out:
            self._acknowledged_at = time.monotonic()
        self._handed_out.clear()

    @property
    def waiting(self) -> int:
        """Messages received that nobody has taken yet."""
        return self._queue.qsize()

    @property
    def is_drained(self) -> bool:
        """Whether there is a connection and nothing more comes of what the broker had kept: neither waits here nor in line before our own status.

        Without MQTT 5 nobody knows whose status it is: then a while in which nothing comes is enough. A broker that waits for acknowledgements,
        because the disk is slow, is not quiet.
        """
        connected_at = self._connected_at
        if connected_at is None or self._handed_out or not self._queue.empty():
            return False
        return self._has_echo or time.monotonic() - max(connected_at, self._arrived_at, self._acknowledged_at) >= QUIET_S

    @property
    def is_mqtt5(self) -> bool:
        """Whether the connection speaks MQTT 5."""
        return bool(self._client.protocol == MQTTProtocolVersion.MQTTv5)

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in words; None while there is one."""
        return self.outage.problem

    def state(self) -> dict[str, Any]:
        """What `health` tells about the connection."""
        version = "5" if self.is_mqtt5 else "3.1.1"
        return {
            "version": version,
            "dropped": self.outbox.dropped,
            "failed_attempts": self.outage.attempts,
            "refused_topics": sorted(self.outbox.refused.counts),
            "refused_reads": sorted(self.reads.refused.counts),
            "rivals": self.rivals.is_proven(time.monotonic()),
        }

    def problems(self) -> list[str]:
        """What the owner should look at while the connection stands, in words."""
        return [*self.rivals.words(time.monotonic()), *self.reads.refused.words(), *self.outbox.refused.words()]

    # own messages

    def publish(self, topic: str, payload: str | bytes, *, retain: bool = False, lifetime_s: float | None = None) -> None:
        """Send a message, as `Outbox.put`; the broker drops a retained value after `lifetime_s` (MQTT 5)."""
        # Let the network thread write out what was published, but not while it may itself wait, at a full queue.
        while self.is_replay and self.outbox.waiting >= UNSENT_PACE and self.connected.is_set() and not self._queue.full():
            time.sleep(0.001)
            self.outbox.settle()
        self.outbox.put(topic, payload.encode() if isinstance(payload, str) else payload, retain=retain, lifetime_s=lifetime_s)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Read more topics, from now on and after every reconnect."""
        with self._lock:
            new = self.reads.add(topics)
            if self.connected.is_set():
                self.reads.ask(new)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Read these no longer."""
        with self._lock:
            gone = self.reads.remove(topics)
            if gone and self.connected.is_set():
                self._client.unsubscribe(gone)

    def republish(self) -> None:
        """Send `online` and every retained value again."""
        self.outbox.send_all()

    def _send(self, topic: str, data: bytes, *, retain: bool, lifetime_s: int | None) -> int | None:
        values: dict[str, Any] = {} if lifetime_s is None else {"MessageExpiryInterval": lifetime_s}
        if topic == self.status_topic:
            values["UserProperty"] = (RUN, self.rivals.mark)
        properties = _properties(PacketTypes.PUBLISH, **values) if values and self.is_mqtt5 else None
        info = self._client.publish(topic, data, qos=0 if self.is_replay else 1, retain=retain, properties=properties)
        return None if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info.mid

    # paho's side

    def _new_client(self, version: MQTTProtocolVersion) -> Client:
        clean_session = None if version == MQTTProtocolVersion.MQTTv5 else not self.keep_session
        client = Client(CallbackAPIVersion.VERSION2, client_id=self.client_id, clean_session=clean_session, protocol=version, manual_ack=True)
        if self.settings.username is not None:
            client.username_pw_set(self.settings.username, self.settings.password)
        if self.status_topic is not None:
            mark = _properties(PacketTypes.WILLMESSAGE, UserProperty=(RUN, self.rivals.mark)) if version == MQTTProtocolVersion.MQTTv5 else None
            client.will_set(self.status_topic, b"offline", qos=1, retain=True, properties=mark)
        if self.settings.tls:
            _use_tls(client, self.settings)
        client.connect_timeout = 3.0
        client.max_queued_messages_set(UNSENT_LIMIT)
        client.on_connect, client.on_connect_fail, client.on_disconnect = self._on_connect, self._on_connect_fail, self._on_disconnect
        client.on_socket_open = self._on_socket_open
        client.on_message, client.on_publish, client.on_subscribe = self._on_message, self._on_publish, self._on_subscribe
        return client

    def _open(self, client: Client) -> None:
        settings = self.settings
        options: dict[str, Any] = {}
        if client.protocol == MQTTProtocolVersion.MQTTv5:
            expiry_s = SESSION_EXPIRY_S if self.keep_session else 0
            options = {
                "properties": _properties(
                    PacketTypes.CONNECT, SessionExpiryInterval=expiry_s, ReceiveMaximum=RECEIVE_MAXIMUM, MaximumPacketSize=LONGEST_PACKET
                )
            }
            if self.keep_session:  # Mosquitto 2.0 does not save a session that was opened with a clean start, whatever its expiry
                options["clean_start"] = False
        client.connect_async(settings.host, settings.port, keepalive=KEEPALIVE_S, **options)
        client.loop_start()

    def _on_connect(self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None) -> None:
        if client is not self._client or self._stopping.is_set():
            client.disconnect()  # it was just connecting when it was told to end
            return
        self._end_patience()
        if reason.getName() == "Unsupported protocol version" and client.protocol == MQTTProtocolVersion.MQTTv5:
            self._change_version(client)
        elif reason.is_failure:
            self.outage.report(f"refuses user {self.settings.username!r}: {reason}; {ADVICE.get(reason.getName(), 'look into its log')}", "refused")
            self.attempted.set()
        else:
            self._welcome()

    def _on_socket_open(self, client: Client, _data: Any, line: Any) -> None:
        """Limit the wait for an answer: amqtt (and others that speak 3.1.1 only) leaves a CONNECT with a will of MQTT 5 unanswered."""
        _notice_dead(line)
        with self._lock:
            if self._patience is None:
                patience_s = FIRST_PATIENCE_S if self._is_version_proven else self._patience_s
                self._patience = threading.Timer(patience_s, self._lose_patience, (client, line))
                self._patience.daemon = True
                self._patience.start()

    def _end_patience(self) -> None:
        with self._lock:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    def _lose_patience(self, client: Client, line: Any) -> None:
        with self._lock:
            if self._patience is None or client is not self._client or self._stopping.is_set():
                return
            self._patience = None
            if self._is_version_proven:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)  # paho's thread finds it closed, and tries again
                return
            self._patience_s = min(2 * self._patience_s, LONGEST_PATIENCE_S)
            self._change_version(client)

    def _change_version(self, client: Client) -> None:
        """Go on with the other version of MQTT. A paho client cannot change its version, so it gets a successor; its thread ends by itself."""
        version = MQTTProtocolVersion.MQTTv311 if client.protocol == MQTTProtocolVersion.MQTTv5 else MQTTProtocolVersion.MQTTv5
        log.info("broker %s:%d does not answer %s: trying %s", self.settings.host, self.settings.port, client.protocol.name, version.name)
        with self._lock:
            self._client = self._new_client(version)
        client.disconnect()
        self._open(self._client)

    def _welcome(self) -> None:
        self._connected_at, self._has_echo = time.monotonic(), False
        self._is_version_proven = True
        self.outage.over()
        with self._lock:
            self.reads.ask(self.reads.topics)
        self.connected.set()
        self.outbox.open()
        self.attempted.set()

    def _ask(self, topics: Sequence[str]) -> int | None:
        return self._client.subscribe([(topic, 1) for topic in topics])[1]

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Properties | None) -> None:
        with self._lock:  # whoever asked has noted the request by now
            self.reads.answered(mid, [str(reason) if reason.is_failure else None for reason in reasons])

    def _on_connect_fail(self, client: Client, _data: Any) -> None:
        if client is self._client:
            error = sys.exception()  # paho calls this from its `except OSError`
            advice = "; check ca_file, and the names in the broker's certificate" if isinstance(error, ssl.SSLCertVerificationError) else ""
            self.outage.report(f"cannot be reached: {error}{advice}")
            self._back_off()

    def _on_disconnect(self, client: Client, _data: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None) -> None:
        if client is not self._client:
            client.disconnect()  # a predecessor that was just connecting when it was told to end
            return
        if self._is_version_proven:
            self._end_patience()
        self.connected.clear()
        self.outbox.close()
        if self._stopping.is_set():
            self._closed.set()
            return
        now, connected_at, self._connected_at = time.monotonic(), self._connected_at, None
        if connected_at is not None:
            if reason.getName() == TAKEN_OVER:
                self.rivals.took_over(now)
            self.outage.report(f"closed the connection ({reason}); if this repeats, another program uses client id {self.client_id!r}")
        elif self.outage.problem is None:
            why = "does the broker want a certificate that it can check (cert_file, key_file)" if self.settings.tls else "is this port meant for TLS"
            self.outage.report(f"closed the connection before it answered: {why}, or is it starting?")
        self._back_off(after_stable=connected_at is not None and now - connected_at > STABLE_S)

    def _back_off(self, *, after_stable: bool = False) -> None:
        self.attempted.set()
        delay_s = self.outage.wait_s(after_stable=after_stable, is_contested=self._tell_rivals())
        self._client.reconnect_delay_set(delay_s, delay_s)  # type: ignore[arg-type]  # it adds seconds, and fractions too

    def _tell_rivals(self) -> bool:
        words = self.rivals.words(time.monotonic())
        for text in words:
            self.outage.warn(text)
        return bool(words)

    def _on_message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        self._arrived_at = time.monotonic()
        try:
            topic = message.topic
        except UnicodeDecodeError:  # of a broker that does not check
            client.ack(message.mid, message.qos)
            return
        payload = bytes(message.payload)
        if topic == self.status_topic:
            self._hear_status(client, message)
            return
        if message.qos:
            if message.dup and self._unacknowledged.get(message.mid) == (topic, payload):
                return  # it is still in the queue, or being used
            self._unacknowledged[message.mid] = topic, payload
        item = Message(topic, payload, message.retain, time.time(), boottime()), message.mid
        while not self._stopping.is_set():  # a full queue holds the broker back: Mosquitto 2.0 may send any number ahead of acknowledgement
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return

    def _hear_status(self, client: Client, message: MQTTMessage) -> None:
        """Own status as the broker has it: by another agent's mark a rival is known, and what it or an older connection left behind is put right."""
        client.ack(message.mid, message.qos)
        marks = dict(getattr(message.properties, "UserProperty", ()))
        self._has_echo |= marks.get(RUN) == self.rivals.mark and not message.retain
        self.rivals.heard(marks.get(RUN), bytes(message.payload), time.monotonic())
        self._tell_rivals()
        if message.payload != b"online" and not message.retain and self.connected.is_set() and not self._stopping.is_set():
            self.outbox.put(message.topic, b"online", retain=True)

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Properties | None) -> None:
        # paho holds the lock here that `publish` needs: nothing may be waited for
        self.outbox.answered(mid, str(reason) if reason.is_failure else None)


def _properties(packet: int, **values: Any) -> Properties:
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _notice_dead(line: Any) -> None:
    """Have the kernel find out when the other machine is gone without a word; what is merely slow to read goes on."""
    tcp = {socket.TCP_KEEPIDLE: 3, socket.TCP_KEEPINTVL: 1, socket.TCP_USER_TIMEOUT: 1000 * DEAD_AFTER_S}
    with contextlib.suppress(OSError):  # no TCP
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in tcp.items():
            line.setsockopt(socket.IPPROTO_TCP, option, value)


def _use_tls(client: Client, settings: BrokerSettings) -> None:
    ca_file, cert_file, key_file = (None if path is None else str(path) for path in (settings.ca_file, settings.cert_file, settings.key_file))
    try:
        client.tls_set(ca_file, cert_file, key_file)
    except OSError as err:  # ssl.SSLError too
        raise ConfigError(f"TLS files {ca_file}, {cert_file}, {key_file}: cannot be used ({err}); PEM files are expected") from err
