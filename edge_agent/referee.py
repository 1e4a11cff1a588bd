"""Once a day, lets the scores decide between each target's two models."""

from __future__ import annotations

from datetime import date

from edge_agent.comparison import Comparison
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import local_date
from edge_agent.contract.schema import HouseSpec
from edge_agent.health import Health
from edge_agent.keeping import Keeper
from edge_agent.lineup import Lineup, Place

WHAT = "models"
"""The name of all this in `health`."""


class Referee:
    """Compares live and shadow forecasts whose days have passed, and tells the lineup."""

    def __init__(self, house: HouseSpec, lineup: Lineup, keeper: Keeper, health: Health) -> None:
        self.house, self.lineup, self.keeper, self.health = house, lineup, keeper, health
        self.comparisons: dict[str, Comparison] = {}
        """The running ones, by target."""
        self._judged_on: date | None = None

    def judge_daily(self, end: int) -> bool:
        """Judge every contest, when the local day of `end` (of the last closed step, unix s) is a new one; whether there was any to judge."""
        today = local_date(end, self.house.zone)
        contests = [place for place in self.lineup.places if place.contest is not None]
        if today == self._judged_on or (contests and not self.keeper.save()):  # what is not on the disk cannot be compared
            return False
        self._judged_on = today
        self.comparisons = {place.target: self._compared(place) for place in contests}
        for place in contests:
            self._judge(place, now=end)
        return bool(contests)

    def _compared(self, place: Place) -> Comparison:
        """The running comparison, with the days that have passed since the last time."""
        assert place.contest is not None
        assert place.shadow is not None
        key = f"comparison {place.target}"
        new = Comparison(place.target, place.live.model_id, place.shadow.model_id, place.contest.since)
        known = new.continued(self.keeper.read(lambda history: history.state(key), None))
        extended = self.keeper.read(lambda history: known.extended(history, self.house), known)
        if extended != known:
            self.keeper.save_state(key, extended.to_json())
        return extended

    def _judge(self, place: Place, *, now: int) -> None:
        try:
            what = self.lineup.judge(place, self.comparisons[place.target].pairs, now=now)
        except ServiceError as err:
            self.health.fails(WHAT, err)
            self._judged_on = None  # at the next step again
            return
        self.health.works(WHAT)
        if what is not None:
            self.health.happened(f"{place.target}: {what}")
