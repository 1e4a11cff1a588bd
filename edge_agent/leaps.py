"""What a clock that was ahead has done to the history, and how far back it must be undone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from edge_agent.clock import SLACK_S, ClockSet

SAME_S: Final = 120.0
"""Two leaps of the same size up to this belong together: the clock was set, and set back."""
REMEMBERED: Final = 10


@dataclass(frozen=True, slots=True)
class Undo:
    """What is wrong since the clock was ahead."""

    since: float
    """Unix s from which on steps were closed too soon."""
    later_than: float
    """Readings later than this unix s"""
    by_s: float | None
    """were so many seconds earlier in truth; None: nobody knows when they were."""


@dataclass
class Leaps:
    """The forward leaps of the agent's time that are remembered, in case one of them turns out to have been wrong."""

    known_until: float | None = None
    """Unix s up to which an earlier run had closed steps."""
    began_at: float | None = None
    """Unix s at which this run first knew the time."""
    forward: list[tuple[float, float]] = field(default_factory=list)
    """From, to."""

    def begin(self, now: float | None) -> None:
        """Remember when this run first knew the time (unix s)."""
        if self.began_at is None:
            self.began_at = now

    def note(self, leap: ClockSet) -> None:
        """Remember a leap forward."""
        self.forward = [*self.forward[-REMEMBERED + 1 :], (leap.before, leap.after)]

    def undo(self, leap: ClockSet) -> Undo:
        """What a leap back says: that an earlier leap was wrong, or the clock since this run began, or at an unknown time before."""
        wrong = self._wrong(leap)
        if wrong is not None:
            self.forward.remove(wrong)
            before, after = wrong
            return Undo(before, after - SLACK_S, after - before)
        back_s = leap.before - leap.after
        if self.began_at is not None and self._began_ahead(back_s):
            since = self.began_at - back_s if self.known_until is None else self.known_until
            return Undo(since, self.began_at - SLACK_S, back_s)
        return Undo(leap.after, leap.after, None)

    def explains(self, leap: ClockSet) -> bool:
        """Whether it is known what a leap back would put right; else the clock may as well have been right before it."""
        return self._wrong(leap) is not None or self._began_ahead(leap.before - leap.after)

    def _wrong(self, leap: ClockSet) -> tuple[float, float] | None:
        """The leap forward that this one takes back."""
        back_s = leap.before - leap.after
        same = [(before, after) for before, after in self.forward if abs(after - before - back_s) <= SAME_S]
        over = [(before, after) for before, after in self.forward if before <= leap.after < after]
        return (same or over)[-1] if same or over else None

    def _began_ahead(self, by_s: float) -> bool:
        """Whether the clock may have been ahead by so much since this run began: even so it began after all that was known before."""
        return self.began_at is not None and (self.known_until is None or self.began_at - by_s >= self.known_until - SLACK_S)

    def state(self) -> list[list[float]]:
        """What `restore` needs, as JSON."""
        return [list(leap) for leap in self.forward]

    def restore(self, state: Any) -> None:
        """Go on from `state`; nothing when it is none."""
        self.forward = [(before, after) for before, after in state or ()]
