"""Where the steps go on: after a restart, and after a clock that was ahead."""

from __future__ import annotations

from math import inf

from edge_agent.contract.schema import HouseSpec
from edge_agent.health import Health
from edge_agent.history import BUILDER
from edge_agent.keeping import Keeper
from edge_agent.leaps import Undo
from edge_agent.reading import Reading
from edge_agent.steps import WARM_UP_S, StepBuilder


def resume(house: HouseSpec, keeper: Keeper, health: Health) -> StepBuilder:
    """The builder as it was when its state was saved; or, where that is lost or damaged, built again from the readings.

    Raises:
        ConfigError: the house had another step then.
    """
    builder = StepBuilder(house)
    state = keeper.read(lambda history: history.state(BUILDER), None)
    try:
        if state:
            builder.restore(state)
            return builder
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        health.happened(f"the open step's state is damaged ({err!r}): it is built again from its readings")
    last = keeper.read(lambda history: history.last_closed(), None)
    return StepBuilder(house) if last is None else _rebuilt(house, keeper, last + house.step_s)


def begin(house: HouseSpec, keeper: Keeper, now: float) -> StepBuilder:
    """A builder that begins with the step that `now` lies in, and knows what was heard before: also by a life that closed no step."""
    return _rebuilt(house, keeper, int(now // house.step_s) * house.step_s, until=now)


def go_back(undo: Undo, house: HouseSpec, keeper: Keeper) -> tuple[StepBuilder, int]:
    """Take back the steps that a clock ahead had closed; returns a builder that goes on before them, and how many they were."""
    open_from = int(undo.since // house.step_s) * house.step_s
    n = keeper.withdraw(open_from, step_s=house.step_s, later_than=undo.later_than, by_s=undo.by_s)
    return _rebuilt(house, keeper, open_from), n


def _rebuilt(house: HouseSpec, keeper: Keeper, open_from: int, *, until: float = inf) -> StepBuilder:
    readings: list[Reading] = keeper.read(lambda history: history.readings_since(open_from - WARM_UP_S), [])
    return StepBuilder.rebuilt(house, [reading for reading in readings if reading.time <= until], open_from=open_from)
