"""Own messages on their way to the broker: the newest retained values, what waits for an answer, what was refused. Knows no MQTT library."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

from edge_agent.refusals import Refusals

TRY_AGAIN_S: Final = 600.0
"""What was refused is sent again this often: somebody may have mended the broker's ACL."""


class Send(Protocol):
    """Hands a message to the connection; returns its id, None when it was not taken."""

    def __call__(self, topic: str, data: bytes, *, retain: bool, lifetime_s: int | None) -> int | None: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """The newest retained value of a topic."""

    data: bytes
    number: int
    expires_at: float | None
    """On the monotonic clock."""


class Outbox:
    """Keeps retained values and sends them again on every connection, because a broker without persistence forgets them."""

    def __init__(self, send: Send, *, user: str | None = None) -> None:
        self.dropped = 0
        self.refused = Refusals("write", user)
        """Seen with MQTT 5 only."""
        self._try_again_at = 0.0
        self._send_now = send
        self._is_open = False
        self._kept: dict[str, _Kept] = {}
        self._numbers = 0
        self._in_flight: dict[int, tuple[str, int]] = {}
        self._acknowledged: dict[str, int] = {}
        self._answers: deque[tuple[int, str | None]] = deque()
        self._lock = threading.RLock()

    @property
    def waiting(self) -> int:
        """Messages sent and not answered, as far as `settle` has looked."""
        return len(self._in_flight)

    def put(self, topic: str, data: bytes, *, retain: bool = False, lifetime_s: float | None = None) -> None:
        """Send a message; while there is no connection, keep a retained one and drop any other.

        Args:
            topic: where.
            data: what; an empty retained one removes the topic.
            retain: keep it on the broker.
            lifetime_s: seconds after which a retained value is worth nothing.
        """
        with self._lock:
            if retain:
                self._numbers += 1
                self._kept[topic] = _Kept(data, self._numbers, None if lifetime_s is None else time.monotonic() + lifetime_s)
            if self._is_open and retain:
                self._send_kept(topic)
            elif self._is_open:
                self._send(topic, data, retain=False, number=0, lifetime_s=None)

    def open(self) -> None:
        """There is a connection: from here on messages are sent, the kept ones first."""
        with self._lock:
            self._is_open = True
            self.send_all()

    def close(self) -> None:
        """The connection is gone."""
        with self._lock:
            self._is_open = False

    def send_all(self) -> None:
        """Send every retained value again, in the order in which their topics were first used."""
        with self._lock:
            for topic in list(self._kept) if self._is_open else ():
                self._send_kept(topic)

    def answered(self, message_id: int, refusal: str | None) -> None:
        """Note the broker's answer, to be looked at by `settle`; takes no lock, because the network thread calls it under its own."""
        self._answers.append((message_id, refusal))

    def settle(self) -> None:
        """Look at the answers noted, and try again at times what was refused."""
        while self._answers:
            message_id, refusal = self._answers.popleft()
            with self._lock:
                topic, number = self._in_flight.pop(message_id, ("", 0))
                if refusal is not None:
                    self.refused.note(topic, refusal)
                else:
                    self.refused.take_back(topic)
                if refusal is None and number and topic in self._kept:
                    self._confirm(topic, number)
        if self.refused.counts:
            self._try_again()

    def _try_again(self) -> None:
        now = time.monotonic()
        if self._try_again_at and now >= self._try_again_at:
            with self._lock:
                for topic in self._kept.keys() & self.refused.counts.keys() if self._is_open else ():
                    self._send_kept(topic)
        if now >= self._try_again_at:
            self._try_again_at = now + TRY_AGAIN_S

    def _confirm(self, topic: str, number: int) -> None:
        if number < self._acknowledged.get(topic, 0):
            # after a reconnect the connection may send an old unanswered value behind the new one
            self._send_kept(topic)
            return
        self._acknowledged[topic] = number
        if not self._kept[topic].data:
            del self._kept[topic]  # removed from the broker: once is enough

    def _send_kept(self, topic: str) -> None:
        kept = self._kept[topic]
        left_s = None if kept.expires_at is None else int(kept.expires_at - time.monotonic())
        if left_s is not None and left_s <= 0:
            del self._kept[topic]
        else:
            self._send(topic, kept.data, retain=True, number=kept.number, lifetime_s=left_s)

    def _send(self, topic: str, data: bytes, *, retain: bool, number: int, lifetime_s: int | None) -> None:
        message_id = self._send_now(topic, data, retain=retain, lifetime_s=lifetime_s)
        if message_id is None:
            self.dropped += 1
        else:
            self._in_flight[message_id] = (topic, number)
