"""Why there is no connection to the broker, who has been told, and how long to wait before the next attempt. Knows no MQTT library."""

from __future__ import annotations

import logging
import random
import time
from typing import Final, Literal

log = logging.getLogger(__name__)

Kind = Literal["away", "refused", "contested"]
LONGEST_WAIT_S: Final[dict[Kind, float]] = {"away": 2.0, "refused": 60.0, "contested": 300.0}
"""Before the next attempt, which may itself take 3 s, by what went wrong: a broker that comes back is found within 5 s, and rivals leave each other
some peace."""
LOG_AGAIN_S: Final = 3600.0
"""What goes on is told to the log once in this time."""


class Outage:
    """The present one, or that there is none."""

    def __init__(self, broker: str) -> None:
        """Of the broker called so in the log."""
        self.broker = broker
        self.problem: str | None = None
        """In words; None while there is a connection."""
        self.attempts = 0
        """Failed ones and lost connections, since the start."""
        self._in_a_row = 0
        self._kind: Kind = "away"
        self._is_told = False
        self._told_at: dict[str, float] = {}
        """When each warning was last given, by the monotonic clock."""

    def report(self, problem: str, kind: Kind = "away") -> None:
        """An attempt failed, or a connection is lost."""
        self.attempts += 1
        self.problem, self._kind = problem, kind
        if self.warn(f"broker {self.broker} {problem}; trying on"):
            self._is_told = True

    def warn(self, text: str) -> bool:
        """Log `text` when it was not said within the last hour."""
        now = time.monotonic()
        self._told_at = {said: at for said, at in self._told_at.items() if now - at < LOG_AGAIN_S}
        if text in self._told_at:
            return False
        self._told_at[text] = now
        log.warning("%s", text)
        return True

    def over(self) -> None:
        """There is a connection."""
        if self._is_told:
            log.info("connected to the broker after %d failed attempts", self._in_a_row)
        self.problem, self._is_told = None, False

    def wait_s(self, *, after_stable: bool = False, is_contested: bool = False) -> float:
        """Seconds until the next attempt: longer after each failure, and random, so that agents and rivals do not march in step.

        Args:
            after_stable: the connection had lasted.
            is_contested: another program takes it away again and again.
        """
        self._in_a_row = 1 if after_stable else self._in_a_row + 1
        longest_s = LONGEST_WAIT_S["contested" if is_contested else self._kind]
        top_s = longest_s if is_contested else min(2.0 ** min(self._in_a_row - 1, 10), longest_s)
        return random.uniform(top_s / 2, top_s)  # noqa: S311  no secret
