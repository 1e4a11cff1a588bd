"""Topics that the broker does not let the agent read or write, each named once with what to do."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final, Literal

log = logging.getLogger(__name__)

NOT_ALLOWED: Final = ("Not authorized", "Unspecified error")
"""What a broker with an ACL answers; the second is all that MQTT 3.1.1 can say, and that of a subscription only."""


class Refusals:
    """Refusals of one kind, since the start."""

    def __init__(self, right: Literal["read", "write"], user: str | None = None) -> None:
        """Of reading or of writing; `user` is the agent's name at the broker."""
        self.right, self.user = right, user
        self.counts: Counter[str] = Counter()
        """By topic, those that stand."""
        self._words: dict[str, str] = {}

    def note(self, topic: str, reason: str) -> None:
        """The broker refused `topic`, for a reason in MQTT's words."""
        if topic not in self.counts:
            what = "reading" if self.right == "read" else "writing"
            self._words[topic] = f"broker refuses {what} {topic} ({reason}){self._advice(topic, reason)}"
            log.warning("%s", self._words[topic])
        self.counts[topic] += 1

    def take_back(self, topic: str) -> None:
        """The broker accepted `topic`."""
        if self.counts.pop(topic, None) is not None:
            log.info("broker no longer refuses %s", topic)

    def words(self) -> list[str]:
        """What stands, in words."""
        return [self._words[topic] for topic in self.counts]

    def _advice(self, topic: str, reason: str) -> str:
        if reason not in NOT_ALLOWED:
            return ": look into the broker's log and limits"
        return f": add 'topic {self.right} {topic}' {below(self.user)} in the broker's ACL file, and let the broker read it again"


def below(user: str | None) -> str:
    """Where a user's rights stand in an ACL file."""
    return "above the first 'user' line" if user is None else f"below 'user {user}'"
