"""Reading: one value that a sensor sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POWER: Final = ":power"
"""Ends the name of a counter's second reading, the power of the same device in W."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one sensor, in the canonical unit of its topic's form."""

    sensor: str
    time: float
    """When it was measured, unix s."""
    value: float
    """`counter`: cumulative Wh; `interval`: Wh; `power`: W; `state`: the role's canonical unit."""
    retained: bool = False
    """A snapshot of unknown age (a retained or cached message without a time of its own), not a new sample."""
