"""What a coarse counter hides: the energy since its last tick, which shows only with the next one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

FINE_WH: Final = 0.5
"""A counter that shows this little or less hides nothing worth a guess."""
COARSEST_WH: Final = 1_000.0
ENOUGH_VALUES: Final = 6
"""Different values after which the resolution is believed."""
MOST_HIDDEN: Final = 0.85
"""Of the resolution. Measured on simulated households, fridges and steady loads: a load that has just stopped is guessed on for less."""


class Rounding:
    """Estimates how far the true energy is ahead of what a rounded counter shows.

    The resolution is learnt as the largest power of ten that divides every value. A counter that ticked by `rise` after `since` seconds is taken to
    go on at that rate until the next tick, up to `MOST_HIDDEN` of the resolution. When it ticked, the true energy lay on average half of what it can
    have risen since the reading before beyond the tick: nothing for a meter that speaks every second, half a tick for one that ticks with every
    reading; so exact readings that are multiples of the resolution give their exact differences.
    """

    def __init__(self, resolution_wh: float | None) -> None:
        """Begin with a known resolution (0: none), or None to learn it."""
        self._is_given = resolution_wh is not None
        self._wh = COARSEST_WH if resolution_wh is None else resolution_wh
        self._different = 0
        """Different values in a row that the resolution divides."""
        self._last_value: float | None = None
        self._ticked_at: float | None = None
        self._hidden_at_tick = self._rate = 0.0
        self._believed_wh = 0.0
        self._base = 0.0
        """What was hidden when the resolution was first believed: taken off, so that no energy appears by learning."""

    @property
    def wh(self) -> float:
        """The resolution; 0 while it is not known, or not worth a guess."""
        return self._wh if self._wh > FINE_WH and (self._is_given or self._different >= ENOUGH_VALUES) else 0.0

    def reading(self, time: float, value: float, *, before: tuple[float, float], read_at: float, by_power_wh: float | None) -> float:
        """Energy hidden when the counter was read; call it for each reading, in order.

        Args:
            time: of the reading, unix s.
            value: the counter, Wh.
            before: time and value of a reading before it.
            read_at: time of the very last reading before it, unix s.
            by_power_wh: energy since the last tick by power readings, where they know.

        Returns:
            Wh to add to the counter.
        """
        self._learn(value)
        rise = value - before[1]
        if rise > 0:
            self._rate = rise / (time - (before[0] if self._ticked_at is None else self._ticked_at))
            self._hidden_at_tick = min(self._rate * (time - read_at), self._wh) / 2
            self._ticked_at, by_power_wh = time, None
        if self.wh != self._believed_wh:
            self._believed_wh, self._base = self.wh, self._hidden(time, by_power_wh)
        return self.ahead(time, by_power_wh)

    def ahead(self, time: float, by_power_wh: float | None) -> float:
        """Energy hidden at `time`, not before the last reading, in Wh."""
        return self._hidden(time, by_power_wh) - self._base if self.wh else 0.0

    def _hidden(self, time: float, by_power_wh: float | None) -> float:
        if self._ticked_at is None:
            return self._hidden_at_tick
        more = self._rate * (time - self._ticked_at) if by_power_wh is None else by_power_wh
        return min(self._hidden_at_tick + max(more, 0.0), max(MOST_HIDDEN * self._wh, self._hidden_at_tick))

    def _learn(self, value: float) -> None:
        if self._is_given or value == self._last_value:
            return
        self._last_value = value
        found = self._wh
        while found > FINE_WH and abs(value / found - round(value / found)) > 1e-6:
            found /= 10
        self._different = self._different + 1 if found == self._wh else 1
        self._wh = found

    def restart(self, time: float) -> None:
        """The counter was set anew at `time`: how fast it runs is not known."""
        self._ticked_at, self._rate, self._hidden_at_tick = time, 0.0, self._base

    def state(self) -> list[Any]:
        """What `restore` needs, as JSON."""
        return [getattr(self, name) for name in _STATE]

    def restore(self, state: Sequence[Any]) -> None:
        """Go on from `state`; a resolution that is given now holds."""
        given = self._wh if self._is_given else None
        for name, value in zip(_STATE, state, strict=True):
            setattr(self, name, value)
        if given is not None:
            self._wh = given


_STATE: Final = ("_wh", "_different", "_last_value", "_ticked_at", "_hidden_at_tick", "_rate", "_believed_wh", "_base")
