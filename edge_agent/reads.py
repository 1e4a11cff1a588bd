"""The topics that are read, and which of them the broker refuses. Knows no MQTT library."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_agent.refusals import Refusals

Subscribe = Callable[[Sequence[str]], int | None]
"""Asks the broker for topics; returns the request's id, None when it could not be sent."""


class Reads:
    """Asks for topics, and matches the broker's answers with them. The caller keeps threads apart."""

    def __init__(self, topics: Sequence[str], subscribe: Subscribe, *, user: str | None = None) -> None:
        self.topics = list(dict.fromkeys(topics))
        self.refused = Refusals("read", user)
        self._subscribe = subscribe
        self._asked: dict[int, list[str]] = {}
        """Topics by request."""

    def add(self, topics: Sequence[str]) -> list[str]:
        """Read these too; returns those that are new."""
        new = [topic for topic in dict.fromkeys(topics) if topic not in self.topics]
        self.topics += new
        return new

    def remove(self, topics: Sequence[str]) -> list[str]:
        """Read these no longer; returns those that were read."""
        gone = [topic for topic in dict.fromkeys(topics) if topic in self.topics]
        self.topics = [topic for topic in self.topics if topic not in gone]
        for topic in gone:
            self.refused.take_back(topic)
        return gone

    def ask(self, topics: Sequence[str]) -> None:
        """Ask the broker for `topics`."""
        request = self._subscribe(topics) if topics else None
        if request is not None:
            self._asked[request] = list(topics)

    def answered(self, request: int, refusals: Sequence[str | None]) -> None:
        """The broker's answer, topic by topic: why it refuses, None where it does not."""
        for topic, refusal in zip(self._asked.pop(request, ()), refusals, strict=False):
            if refusal is None:
                self.refused.take_back(topic)
            else:
                self.refused.note(topic, refusal)
