"""When the loop may do what: messages wait for a time, and steps for what the broker had kept."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, Protocol

from edge_agent.clock import Clock
from edge_agent.mqtt import Message

MOST_HELD: Final = 20_000
"""Messages kept while there is no time yet."""
BROKER_S: Final = 60.0
"""How long overdue steps wait for a broker after the start: after a power cut it may begin later, and nobody hears a forecast without it."""
DRAIN_S: Final = 30.0
"""How long they wait, once it is there, for all that it had kept, where it never falls quiet."""


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
        self._began = self._away_until = clock.boot()
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
        """Whether steps may be closed. `is_overdue`: the broker may know more of them, or of the weather, because the agent has just begun."""
        if not self._may_close:
            now, is_there = self.clock.boot(), self.source.connected.is_set()
            if not is_there:
                self._away_until = now
            is_patient = now - self._away_until <= DRAIN_S if is_there else now - self._began <= BROKER_S
            self._may_close = not (is_overdue and is_patient) or self.source.is_drained
        return self._may_close
