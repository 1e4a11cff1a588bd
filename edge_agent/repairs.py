"""What was done about meters and clocks, in words, from the agent's own history."""

from __future__ import annotations

from collections.abc import Iterator
from math import isnan
from typing import Final

from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.history import History

EVENTS: Final = "events"
"""Key of the last events, in the history."""
WORDS: Final = {
    "start": "first reading: a starting point",
    "gap": "silent for longer than the hold time",
    "reset": "counter set back, and stayed so",
    "jump": "counter rose by more than can be, and stayed so",
    "scale": "counter went over to another unit; it is read in the old one",
    "stuck": "counter stood still while power went on; power was counted",
    "power": "step taken from power, because the counter did not tell it",
    "outlier": "one reading contradicted by the next, ignored",
    "range": "energy of a step outside the valid range",
}


def repair_lines(history: History, *, days: int) -> Iterator[str]:
    """Repairs, revisions and events since `days` before the last closed step; nothing when there were none."""
    last = history.last_closed()
    since = (last or 0) - days * DAY_S
    lines = [*_repairs(history, since), *_revisions(history, since)]
    if lines:
        yield f"repairs of {days} days"
        yield from lines
        yield ""
    events = [event for event in history.state(EVENTS) or () if isinstance(event, str) and event >= iso_utc(since)]
    if events:
        yield "events"
        yield from (f"  {event}" for event in events)
        yield ""


def _repairs(history: History, since: float) -> Iterator[str]:
    """One line a sensor and kind."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repair in history.repairs(since):
        found.setdefault((repair.sensor, repair.what), []).append((repair.time, repair.value))
    for (sensor, what), each in sorted(found.items()):
        told = "; ".join(WORDS.get(word, word) for word in what.split("+"))
        total = sum(value for _, value in each)
        yield f"  {sensor:24s} {len(each):5d} x {total:+12.1f} Wh  last {iso_utc(each[-1][0])}  {told}"


def _revisions(history: History, since: float) -> Iterator[str]:
    """One line a sensor: how many steps were changed after they had closed."""
    found: dict[str, list[tuple[float, float]]] = {}
    for revision in history.revisions(since):
        found.setdefault(revision.sensor, []).append((revision.was, revision.value))
    for sensor, each in sorted(found.items()):
        filled = sum(isnan(was) for was, _ in each)
        withdrawn = sum(isnan(value) for _, value in each)
        changes = [abs(value - was) for was, value in each if not isnan(value - was)]
        mean = sum(changes) / len(changes) if changes else 0.0
        yield f"  {sensor:24s} {len(changes):5d} steps revised by {mean:.2f} on average, {filled} filled late, {withdrawn} found unknown"
