"""Readings in, closed steps out: what every sensor was in each step of the house's grid, in order, each step once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Final, Protocol, TypeVar

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.counter import CounterMeter
from edge_agent.meter import SECONDS_PER_HOUR, HeldMeter, IntervalMeter, Repair, Revision
from edge_agent.reading import POWER, Reading

T = TypeVar("T")

WARM_UP_S: Final = 6 * 3600
"""What a meter must have heard before a step to know it as if it had never stopped: more than the hold time of any role."""
CATCH_UP_S: Final = 7 * 86_400
"""Steps further back than this are closed only where a sensor can know something: a board without a clock battery starts in 1970."""


@dataclass(frozen=True, slots=True)
class ClosedStep:
    """What the house's sensors were in one step, as far as is known when it closes; a later one may revise it once."""

    time: int
    """Start of the step, unix s."""
    values: dict[str, float]
    """By sensor (those with a topic): the role's canonical unit, energy in Wh; NaN unknown."""
    repairs: tuple[Repair, ...]
    revisions: tuple[Revision, ...] = ()
    """Of earlier steps."""


class Meter(Protocol):
    """Turns the readings of one sensor into the values of its steps. It takes nothing from the state of another kind of meter."""

    repairs: list[Repair]
    revisions: list[Revision]

    def add(self, time: float, value: float) -> bool: ...
    def close(self, start: int, end: int) -> float: ...
    def known_from(self, time: float) -> float: ...
    def begin_at(self, time: int) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def restore(self, state: Mapping[str, Any], *, open_from: float) -> None: ...


def meter_for(sensor: Sensor, *, step_s: int, grace_s: float) -> Meter:
    """The meter for what `sensor` sends."""
    range_w = {"low_w": sensor.low, "high_w": sensor.high}
    if sensor.topic_form == "counter":
        return CounterMeter(sensor.name, step_s=step_s, hold_s=sensor.hold_s, resolution_wh=sensor.resolution, **range_w)
    if sensor.topic_form == "interval":
        return IntervalMeter(sensor.name, step_s=step_s, grace_s=grace_s, hold_s=sensor.hold_s, **range_w)
    is_power = sensor.topic_form == "power"
    return HeldMeter(sensor.name, step_s=step_s, hold_s=sensor.hold_s, scale=step_s / SECONDS_PER_HOUR if is_power else 1.0, is_power=is_power)


class StepBuilder:
    """Collects readings and closes steps in the order of time.

    The clock is whatever `close_until` is told. When it goes back, nothing closes until it has caught up: a step is closed once. When it leaps by
    more than a week, the steps of the leap in which no sensor can know anything are left out; the history shows them as unknown all the same.
    """

    def __init__(self, house: HouseSpec, *, grace_s: float = 5.0) -> None:
        """Begin with no step open.

        Args:
            house: its sensors with a topic are followed.
            grace_s: how long after its end a step waits for messages that are still on their way.
        """
        self.step_s, self.grace_s = house.step_s, grace_s
        self.open_from: int | None = None
        """Start of the first step that is not closed, unix s; None before the first `close_until`."""
        self.dropped: Counter[tuple[str, str]] = Counter()
        """Readings that went into no step, by (sensor, reason)."""
        self._meters = {s.name: meter_for(s, step_s=self.step_s, grace_s=grace_s) for s in house.sensors if s.topic is not None}
        self._repairs: list[Repair] = []
        self._revisions: list[Revision] = []

    @property
    def stuck(self) -> list[str]:
        """Counters that stand still although power readings say otherwise."""
        return [name for name, meter in self._meters.items() if isinstance(meter, CounterMeter) and meter.is_stuck]

    def add(self, reading: Reading) -> None:
        """Take a reading.

        One that cannot count is dropped and counted: a snapshot of unknown age, or one older than what its sensor sent before the open step.
        """
        name, is_power = reading.sensor.removesuffix(POWER), reading.sensor.endswith(POWER)
        meter = self._meters.get(name)
        if meter is None or (is_power and not isinstance(meter, CounterMeter)):
            self.dropped[name, "not a sensor of this house"] += 1
        elif reading.retained:
            self.dropped[name, "snapshot of unknown age"] += 1
        elif is_power and isinstance(meter, CounterMeter):
            meter.add_power(reading.time, reading.value)
        elif not meter.add(reading.time, reading.value):
            self.dropped[name, "late"] += 1

    def close_until(self, now: float) -> list[ClosedStep]:
        """Every step that ended at least the grace time before `now` (unix s) and was not closed before, oldest first.

        The first call opens the step that `now` lies in.
        """
        if self.open_from is None:
            self.open_from = self._start_of(now)
        closed = []
        while self._is_over(now):
            closed.append(self._close())
        return closed

    def _is_over(self, now: float) -> bool:
        assert self.open_from is not None
        if now - self.open_from > CATCH_UP_S:
            known_from = min((meter.known_from(self.open_from) for meter in self._meters.values()), default=now)
            self.open_from = max(self.open_from, self._start_of(min(known_from, now - CATCH_UP_S)))
        return self.open_from + self.step_s + self.grace_s <= now

    def _start_of(self, time: float) -> int:
        return int(time // self.step_s) * self.step_s

    def _close(self) -> ClosedStep:
        assert self.open_from is not None
        start, self.open_from = self.open_from, self.open_from + self.step_s
        values = {name: meter.close(start, self.open_from) for name, meter in self._meters.items()}
        repairs = _taken([self._repairs, *(meter.repairs for meter in self._meters.values())])
        revisions = _taken([self._revisions, *(meter.revisions for meter in self._meters.values())])
        return ClosedStep(start, values, repairs, revisions)

    @classmethod
    def rebuilt(cls, house: HouseSpec, readings: Sequence[Reading], *, open_from: int, grace_s: float = 5.0) -> StepBuilder:
        """A builder whose first open step starts at `open_from` (unix s), from raw readings alone: of `WARM_UP_S` before it and since."""
        builder = cls(house, grace_s=grace_s)
        builder.close_until(open_from - WARM_UP_S)
        opens_at = open_from + grace_s
        for reading in sorted(readings, key=lambda reading: reading.time):
            builder.close_until(min(reading.time, opens_at))  # these steps are closed already: only what the meters learn of them counts
            builder.add(reading)
        builder.close_until(opens_at)
        builder.dropped.clear()
        builder._close_ledger()
        return builder

    def _close_ledger(self) -> None:
        """Forget repairs and revisions of steps that are not this builder's."""
        assert self.open_from is not None
        for meter in self._meters.values():
            meter.repairs.clear()
            meter.revisions.clear()
            meter.begin_at(self.open_from)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on after a restart, as JSON. Save it together with the steps closed before it was taken."""
        repairs = [*self._repairs, *(repair for meter in self._meters.values() for repair in meter.repairs)]
        return {
            "step_s": self.step_s,
            "open_from": self.open_from,
            "meters": {name: meter.state() for name, meter in self._meters.items()},
            "repairs": [astuple(repair) for repair in repairs],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`; then add the readings that came since: those with a time from `open_from` on. Adding one twice changes nothing.

        Raises:
            ConfigError: the house had another step then.
        """
        if not state or state["open_from"] is None:
            return
        if state["step_s"] != self.step_s:
            was = state["step_s"]
            raise ConfigError(
                f"house.toml has a step of {self.step_s} s, the agent's history one of {was} s: set step = {was}, or begin a new history"
            )
        self.open_from = int(state["open_from"])
        self._repairs = [Repair(*repair) for repair in state["repairs"]]
        for name, meter in self._meters.items():
            meter.restore(state["meters"].get(name, {}), open_from=self.open_from)


def _taken(lists: list[list[T]]) -> tuple[T, ...]:
    """What the lists hold; they are empty afterwards."""
    found = tuple(item for each in lists for item in each)
    for each in lists:
        each.clear()
    return found
