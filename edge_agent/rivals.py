"""Whether another agent is at work under the same name. Knows no MQTT library.

Two programs with one client id throw each other out of the broker, without end. A broker that speaks MQTT 5 may say so when it closes the
older connection (reason 0x8E); Mosquitto 2.0.11 does not. So every run marks what it writes on the status topic with a number of its own, and
reads that topic: a mark that is not its own, after its own has been there, is another one's.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import Final

MEMORY_S: Final = 3600.0
"""A rival that has shown itself no more for this long is gone."""
ENOUGH_FAREWELLS: Final = 2
"""`offline` of another run proves a rival when it comes again: once, it may be the will of a run before, that the broker noticed late."""


class Rivals:
    """Signs of another agent, by the monotonic clock."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.mark = secrets.token_hex(4)
        """This run's."""
        self._is_mark_known = False
        """The broker has sent this run's own mark back: what differs from now on came later."""
        self._proofs: deque[float] = deque(maxlen=1)
        self._farewells: deque[float] = deque(maxlen=ENOUGH_FAREWELLS)

    def heard(self, mark: str | None, status: bytes, now: float) -> None:
        """A status came, marked by whoever wrote it (None: by nobody)."""
        if mark == self.mark:
            self._is_mark_known = True
        elif mark is not None and self._is_mark_known:
            seen = self._proofs if status == b"online" else self._farewells
            seen.append(now)

    def took_over(self, now: float) -> None:
        """The broker says that another connection with this client id has taken the session."""
        self._proofs.append(now)

    def is_proven(self, now: float) -> bool:
        """Whether there is a rival."""
        farewells = [at for at in self._farewells if now - at < MEMORY_S]
        return any(now - at < MEMORY_S for at in self._proofs) or len(farewells) == ENOUGH_FAREWELLS

    def words(self, now: float) -> list[str]:
        """What the owner should do; nothing when there is no rival."""
        if not self.is_proven(now):
            return []
        text = (
            f"another agent is at work for this site, perhaps with the same client id {self.client_id!r}: both lose messages and overwrite each "
            "other; stop one of them, or give it another site in house.toml and, where one is set, another client_id in agent.toml"
        )
        return [text]
