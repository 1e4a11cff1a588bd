"""Which forecasters are at work: for each target the one that is published, and one that is only compared. Follows the model store."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge_agent.config import Settings
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import ConfigError, HearthcastError, ServiceError
from edge_agent.contract.schema import HouseSpec
from edge_agent.forecaster import Forecaster, Model, base_forecaster, served_targets
from edge_agent.standing import SHIPPED, DayPair, Shadow, Standing
from edge_agent.store import ModelStore

log = logging.getLogger(__name__)

TRIES: Final = 3
"""To load what the store says while another program may be changing it."""


@dataclass(frozen=True)
class Place:
    """One target, and who forecasts it."""

    target: str
    live: Forecaster
    shadow: Forecaster | None = None
    standing: Standing | None = None
    """What the store says; None where a bundle of the settings forecasts, whatever it says."""
    problems: tuple[str, ...] = ()
    """Models that cannot be used, in words."""

    @property
    def contest(self) -> Shadow | None:
        """What the two forecasters compete for; None while they are not both those that the store means."""
        return None if self.standing is None or self.shadow is None or self.problems else self.standing.shadow


class Lineup:
    """A forecaster for each target: by a bundle of the settings, the store's current model, the model that ships or the climatology, in that order.

    A model of the store that cannot be used is named in `problems`, and the one before it, or what ships, takes its place.
    """

    def __init__(self, house: HouseSpec, settings: Settings) -> None:
        """Load everything.

        Raises:
            BundleError: a bundle of the settings is refused.
            ConfigError: it does not fit the house, or two forecast the same target.
        """
        self.house, self.settings = house, settings
        self.store = ModelStore(settings.state_dir)
        self._loaded: dict[tuple[str, str], Forecaster] = {}
        """Forecasters of the store's models, and of what ships, by target and model."""
        self._versions: dict[str, tuple[int, int]] = {}
        given = _given(house, settings)
        self.places = [given.get(target.name) or self._installed(target.name) for target in house.targets]

    @property
    def live(self) -> list[Forecaster]:
        """One a target, in the house's order."""
        return [place.live for place in self.places]

    @property
    def shadows(self) -> list[Forecaster]:
        """Those that are only compared."""
        return [place.shadow for place in self.places if place.shadow is not None]

    @property
    def problems(self) -> list[str]:
        """What the owner should look at, in words."""
        return [problem for place in self.places for problem in place.problems]

    # following the store

    @property
    def is_outdated(self) -> bool:
        """Whether something was installed, pinned or rolled back since; a few microseconds."""
        return any(place.standing and self._versions[place.target] != self.store.version(place.target) for place in self.places)

    def refresh(self) -> None:
        """Follow the store where it has changed."""
        for i, place in enumerate(self.places):
            if place.standing and self._versions[place.target] != self.store.version(place.target):
                self.places[i] = self._followed(place.target)

    def _installed(self, target: str) -> Place:
        self._bury(target)
        return self._followed(target)

    def _followed(self, target: str) -> Place:
        """What the store says of the target; looked at again when it changes meanwhile."""
        for _ in range(TRIES):
            version = self._versions[target] = self.store.version(target)
            place = self._filled(target)
            if not place.problems or self.store.version(target) == version:
                break
        for key in [key for key, forecaster in self._loaded.items() if key[0] == target and forecaster not in (place.live, place.shadow)]:
            del self._loaded[key]
        return place

    def _filled(self, target: str) -> Place:
        problems: list[str] = []
        try:
            standing = self.store.standing(target)
        except ServiceError as err:
            problems, standing = [str(err)], Standing()

        def load(model: str) -> Forecaster | None:
            try:
                return self._load(target, model, is_unsigned=model in standing.unsigned)
            except HearthcastError as err:
                problems.append(f"model {model} of {target} cannot be used: {err}")
                return None

        live = load(standing.current) or load(standing.previous or SHIPPED) or base_forecaster(self.house, target)
        shadow = load(standing.shadow.model) if standing.shadow else None
        stands_in = shadow is not None and shadow.model_id == live.model_id  # for a current one that cannot be used
        return Place(target, live, None if stands_in else shadow, standing, tuple(dict.fromkeys(problems)))

    def _load(self, target: str, model: str, *, is_unsigned: bool) -> Forecaster:
        """The forecaster by a model. Raises HearthcastError."""
        key = target, model
        if key not in self._loaded:
            if model == SHIPPED:
                self._loaded[key] = base_forecaster(self.house, target)
            else:
                with self.store.at_work(target, model):
                    loaded = Model(read_bundle(self.store.bundle(target, model), allow_unsigned=is_unsigned or self.settings.allow_unsigned))
                    loaded.check_golden()
                    self._loaded[key] = Forecaster(self.house, loaded, target=target)
        return self._loaded[key]

    # a model that takes the agent down

    @contextlib.contextmanager
    def at_work(self, forecaster: Forecaster) -> Iterator[None]:
        """While an installed model computes: should it take the agent down, the next start knows which one it was."""
        target, model = forecaster.plan.target, forecaster.model_id
        with self.store.at_work(target, model) if (target, model) in self._loaded else contextlib.nullcontext():
            yield

    def _bury(self, target: str) -> None:
        """Take note of a model under whose hands the agent died."""
        model = self.store.left_at_work(target)
        if model is not None:
            log.warning("the agent ended while model %s of %s was at work", model, target)
            with contextlib.suppress(ServiceError):  # cannot be written, or is in use: it will count if it happens again
                self._change(target, lambda standing: standing.with_death(model, now=int(time.time())))

    # the scores decide

    def judge(self, place: Place, pairs: Sequence[DayPair], *, now: int) -> str | None:
        """Let the scores of `place`'s contest decide; returns what happened, in words, if anything did. `refresh` then follows.

        Raises:
            ServiceError: it cannot be written, or another program is changing the store: try again later.
        """
        return self._change(place.target, lambda standing: standing.judged(pairs, now=now) if standing == place.standing else standing)

    def _change(self, target: str, change: Callable[[Standing], Standing]) -> str | None:
        with self.store.locked(wait=False):
            before = self.store.standing(target)
            after = change(before)
            if after == before:
                return None
            self.store.save(target, after)
        return after.events[-1][1] if after.events != before.events else None


def _given(house: HouseSpec, settings: Settings) -> dict[str, Place]:
    """Places of the settings' bundles, by target. Raises as `Lineup`."""
    places: dict[str, Place] = {}
    for path in settings.bundles:
        model = Model(read_bundle(path, allow_unsigned=settings.allow_unsigned))
        model.check_golden()
        for target in served_targets(house, model):
            if target in places:
                raise ConfigError(f"{path}: a second bundle for target {target!r}: give one bundle a target")
            places[target] = Place(target, Forecaster(house, model, target=target))
    return places
