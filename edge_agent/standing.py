"""Where a target's models stand: which one forecasts, which one is watched beside it, and when they change places.

A new model forecasts in shadow first. It takes over when it was no worse over enough days; the one before is watched on, and comes back when the
new one falls behind. All of it is states in, states out; `store` keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Final

from edge_agent.contract.errors import ServiceError

SHIPPED: Final = "shipped"
"""In place of a model's id: what the agent forecasts by when nothing is installed, the base model in the package or the climatology."""
DAYS: Final = 14
"""Days that a candidate is compared over. In a trial on real homes a model that was 2.5 % worse took over after 14 days in 11 % of cases, after 7
in 23 %; one that was 2.4 % better in 89 % and 77 %."""
PATIENCE: Final = 2
"""A candidate that has not taken over after this many times its days is given up."""
WATCHES: Final = ((7, 0.20), (28, 0.02))
"""Days, and by what share a model's score may be worse over the last of them than the one before's. In the same trial a better model was never taken
back within a year; with 2 % over 7 days most were, sooner or later."""
MOST_DEATHS: Final = 3
"""A model under whose hands the agent died this often is not trusted any more."""
MOST_EVENTS: Final = 20
_ID: Final = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Shadow:
    """A model that forecasts beside the current one, unpublished."""

    model: str
    """Id, or `shipped`."""
    since: int
    """Unix s; days that begin later count."""
    days: int
    """Days that a candidate has to prove itself in."""
    is_candidate: bool
    """Whether it is a new model that may take over; else it is the one before, to step back to."""


@dataclass(frozen=True)
class DayPair:
    """Both models' scores of one local day, from forecasts of the same origins; lower is better."""

    day: date
    current: float
    shadow: float


@dataclass(frozen=True)
class Standing:
    """What is known of one target's models."""

    current: str = SHIPPED
    """Whose forecasts are published."""
    previous: str | None = None
    """What `rollback` returns to."""
    shadow: Shadow | None = None
    pinned: bool = False
    """Whether only its owner may change the current model."""
    newest: str = ""
    """`created_at` of the newest model that was installed: older ones are refused."""
    unsigned: tuple[str, ...] = ()
    """Ids that their owner let in without a trusted signature."""
    deaths: Mapping[str, int] = field(default_factory=dict)
    """How often the agent died while a model was at work."""
    events: tuple[tuple[int, str], ...] = ()
    """The last changes: unix s, and what happened in words."""

    @property
    def models(self) -> set[str]:
        """Ids of installed models that are still needed."""
        return {self.current, self.previous or SHIPPED, self.shadow.model if self.shadow else SHIPPED} - {SHIPPED}

    # by hand

    def with_installed(self, model: str, *, created_at: str, now: int, days: int = DAYS, is_unsigned: bool = False) -> Standing:
        """A new model: in shadow for `days` days, or current at once for 0."""
        known = replace(self, newest=created_at, unsigned=(*self.unsigned, model) if is_unsigned else self.unsigned)
        known = replace(known, shadow=Shadow(model, now, days or DAYS, is_candidate=True))
        return known.with_take_over("installed to forecast at once", now=now) if days == 0 else known.noted(now, f"{model} installed, in shadow")

    def with_current(self, model: str, *, now: int) -> Standing:
        """`model` is current because its owner says so."""
        if model == self.current:
            return self
        return replace(self, current=model, previous=self.current, shadow=None).noted(now, f"{model} is current, chosen by hand")

    def with_pin(self, *, pinned: bool, now: int) -> Standing:
        """Pinned or let go."""
        if pinned == self.pinned:
            return self
        return replace(self, pinned=pinned).noted(now, f"{self.current} {'pinned' if pinned else 'no longer pinned'}")

    # by itself

    def judged(self, pairs: Sequence[DayPair], *, now: int) -> Standing:
        """After another day: the same, a take-over, a step back, or a candidate given up.

        Args:
            pairs: days since the shadow began on which both models were scored, ascending.
            now: unix s.
        """
        if self.pinned or self.shadow is None:
            return self
        return self._tried(self.shadow, pairs, now) if self.shadow.is_candidate else self._watched(pairs, now)

    def _tried(self, shadow: Shadow, pairs: Sequence[DayPair], now: int) -> Standing:
        if len(pairs) < shadow.days:
            return self
        ours, theirs = _mean_scores(pairs)
        scores = f"{theirs:.4g} beside {ours:.4g} over {len(pairs)} days"
        if theirs <= ours:
            return self.with_take_over(f"its score is no worse, {scores}", now=now)
        if len(pairs) >= PATIENCE * shadow.days:
            return replace(self, shadow=None).noted(now, f"{shadow.model} given up: its score stayed worse, {scores}")
        return self

    def _watched(self, pairs: Sequence[DayPair], now: int) -> Standing:
        for days, margin in WATCHES:
            last = pairs[-days:]
            ours, theirs = _mean_scores(last) if last else (0.0, 0.0)
            is_mostly_worse = 2 * sum(pair.current > pair.shadow for pair in last) > days
            if len(last) == days and ours > (1 + margin) * theirs and is_mostly_worse:
                return self.without(self.current, f"its score fell behind, {ours:.4g} beside {theirs:.4g} over {days} days", now=now)
        return self

    def with_take_over(self, why: str, *, now: int) -> Standing:
        """The shadow becomes current, and the current one its shadow."""
        assert self.shadow is not None
        watched = Shadow(self.current, now, self.shadow.days, is_candidate=False)
        new = replace(self, current=self.shadow.model, previous=self.current, shadow=watched)
        return new.noted(now, f"{self.shadow.model} took over from {self.current}: {why}")

    def without(self, model: str, why: str, *, now: int) -> Standing:
        """`model` out of the way, whether current or in shadow; the same where it is neither or pinned."""
        if self.shadow is not None and model == self.shadow.model:
            return replace(self, shadow=None).noted(now, f"{model} no longer in shadow: {why}")
        if model != self.current or self.pinned:
            return self
        back = self.previous or SHIPPED
        return replace(self, current=back, previous=model, shadow=None).noted(now, f"stepped back from {model} to {back}: {why}")

    def with_death(self, model: str, *, now: int) -> Standing:
        """The agent died while `model` was at work; too often, and it has to go, pinned or not."""
        deaths = self.deaths.get(model, 0) + 1
        known = replace(self, deaths={**self.deaths, model: deaths})
        if deaths < MOST_DEATHS:
            return known
        return replace(known, pinned=False).without(model, f"the agent died {deaths} times while it was at work", now=now)

    def noted(self, now: int, what: str) -> Standing:
        """The same, with an event."""
        return replace(self, events=(*self.events, (now, what))[-MOST_EVENTS:])

    # as a file

    def to_json(self) -> dict[str, Any]:
        """The state file's content."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Standing:
        """The inverse of `to_json`.

        Raises:
            ServiceError: not of that form.
        """
        if not isinstance(data, dict) or set(data) != set(cls.__dataclass_fields__):
            raise ServiceError("has other keys than this version writes")
        try:
            shadow = None if data["shadow"] is None else Shadow(**data["shadow"])
            events = tuple((int(time), str(what)) for time, what in data["events"])
            standing = cls(**{**data, "shadow": shadow, "events": events, "unsigned": tuple(data["unsigned"])})
        except (TypeError, KeyError, ValueError) as err:
            raise ServiceError(f"is not of the expected form ({err!r})") from err
        if not all(_ID.fullmatch(str(model)) for model in standing.models):
            raise ServiceError(f"names models that cannot be ({sorted(standing.models)})")
        return standing


def _mean_scores(pairs: Sequence[DayPair]) -> tuple[float, float]:
    return sum(pair.current for pair in pairs) / len(pairs), sum(pair.shadow for pair in pairs) / len(pairs)
