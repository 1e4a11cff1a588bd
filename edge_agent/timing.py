"""When the loop may do what: messages wait for a time, and steps for what the broker had kept."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, Protocol

from edge_agent.clock import Clock
from edge_agent.mqtt import Message

MOST_HELD: Final = 20_000
"""Messages kept while there is no time yet."""
BROKER_S: Final = 10.0
"""How long overdue steps wait for a broker after the start."""
DRAIN_S: Final = 30.0
"""How long they wait for all that it had kept, where it never falls quiet."""


class Source(Protocol):
    """What is asked of the broker's link."""

    connected: threading.Event

    @property
    def is_drained(self) -> bool: ...


class Timing:
    """Holds messages back until the clock is known, and overdue steps until the broker has handed out what it kept during the agent's absence."""

    def __init__(self, clock: Clock, source: Source) -> None:
        self.clock, self.source = clock, source
        self._held: deque[Message] = deque(maxlen=MOST_HELD)
        self._began = clock.boot()
        self._may_close = False

    def admit(self, message: Message | None) -> list[Message]:
        """The messages to use now, `message` last: none while there is no time, then all that waited for it."""
        if message is not None:
            self._held.append(message)
        if self.clock.now() is None:
            return []
        admitted = list(self._held)
        self._held.clear()
        return admitted

    def received_at(self, message: Message) -> float:
        """Unix s, by what is known of the clock now."""
        at = None if message.boot_s is None else self.clock.at(message.boot_s)
        return message.received_at if at is None else at

    def may_close(self, *, is_overdue: bool) -> bool:
        """Whether steps may be closed. `is_overdue`: they were over before the agent began, so that the broker may know more of them."""
        if not self._may_close:
            waited_s = self.clock.boot() - self._began
            self._may_close = not is_overdue or self.source.is_drained or waited_s > (DRAIN_S if self.source.connected.is_set() else BROKER_S)
        return self._may_close
