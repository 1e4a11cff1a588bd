"""Many homes for one model: every energy target of every house is one, cut to what may be looked at, and some are set aside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, HouseSpec, Target, read_house
from edge_agent.contract.series import Series
from trainer.datasets import fingerprint, read_table

Floats = npt.NDArray[np.float64]

TARGET: Final = "energy"
"""What the target of a model over many homes is called, whatever the homes call theirs."""
HELD_OUT_SHARE: Final = 0.15
MIN_HOMES: Final = 3
"""One to train on, one that chooses the epoch, one that calibrates."""


@dataclass(frozen=True)
class Sources:
    """Which houses, and how much of each."""

    houses: tuple[Path, ...]
    data: tuple[Path, ...]
    """One file a house, or all files of a single house."""
    train_shares: tuple[float, ...] = ()
    """Share of each house's time, from its start, that may be looked at; all of every house when empty."""
    repair: bool = False


@dataclass(frozen=True)
class HomesRequest:
    """What a fit over many homes needs beside the `FitRequest`."""

    sources: Sources
    resolutions: tuple[int, ...]
    """Steps in s; each home is trained on at those that are multiples of its own."""
    augment: int
    """Changed copies of each training home."""
    days_share: float
    """Share of the days of each home that give a window."""


@dataclass(frozen=True, eq=False)
class Home:
    """One energy target of one house."""

    name: str
    """Site and target."""
    house: HouseSpec
    """With this one target, called TARGET."""
    series: Series
    """All sensors of the house that have this role or a state, for the time that may be looked at."""
    sensor: str
    """The target's."""
    temperature: Floats | None
    """Outdoors at each step of the series, degC, all known; None when no sensor knows it."""
    is_whole: bool
    """Whether all of the house's time may be looked at: only such a home can be set aside, the others keep a span of their own."""


def read_homes(sources: Sources, console: Console) -> list[Home]:
    """The homes of all houses.

    Raises:
        ConfigError: houses and files do not pair up, two houses have one name, a house without an energy target, a share outside (0, 1].
        DataError: as `read_table`.
    """
    shares = _shares(sources)
    homes: list[Home] = []
    for path, files, share in zip(sources.houses, files_by_house(sources), shares, strict=True):
        homes += _homes_of(read_house(path), files, share, repair=sources.repair, console=console)
    names = [home.name for home in homes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two homes are called {twice[0]!r}: give each house.toml its own site")
    return homes


def files_by_house(sources: Sources) -> list[list[Path]]:
    """The data files of each house.

    Raises:
        ConfigError: several houses, and not one file for each.
    """
    if len(sources.houses) == 1:
        return [list(sources.data)]
    if len(sources.houses) != len(sources.data):
        raise ConfigError(
            f"{len(sources.houses)} houses and {len(sources.data)} data files: with several houses, "
            f"one file for each is expected, in the same order (--house A.toml B.toml --data A.csv B.csv)"
        )
    return [[path] for path in sources.data]


def _shares(sources: Sources) -> tuple[float, ...]:
    shares = sources.train_shares or (1.0,) * len(sources.houses)
    if len(shares) != len(sources.houses) or not all(0 < share <= 1 for share in shares):
        given = " ".join(f"{share:g}" for share in shares)
        raise ConfigError(f"--train-share {given}: a share above 0 and up to 1 for each of the {len(sources.houses)} houses is expected")
    return shares


def _homes_of(house: HouseSpec, files: list[Path], share: float, *, repair: bool, console: Console) -> list[Home]:
    targets = [target for target in house.targets if ROLES[house.sensor(target.sensor).role].kind == "energy"]
    if not targets:
        raise ConfigError(f"house {house.site!r} has no energy target: add one to [[targets]], or leave the house out")
    table = read_table(house, files, repair=repair)
    for line in (*table.repairs, *table.notes):
        console.print(f"{house.site}: {line}")
    whole = table.series
    series = whole.between(whole.start, whole.start + round(share * len(whole)) * whole.step_s)
    return [_home(house, series, target, is_whole=share == 1.0) for target in targets]


def _home(house: HouseSpec, series: Series, target: Target, *, is_whole: bool) -> Home:
    states = tuple(feature.name for feature in series.features if feature.kind == "state" and feature.name != target.sensor)
    return Home(
        name=f"{house.site}:{target.name}",
        house=replace(house, targets=(Target(TARGET, target.sensor),)),
        series=series.select((target.sensor, *states)),
        sensor=target.sensor,
        temperature=_temperature(series),
        is_whole=is_whole,
    )


def _temperature(series: Series) -> Floats | None:
    """Mean over the outdoor sensors, straight lines over gaps."""
    columns = [i for i, feature in enumerate(series.features) if feature.role == "outdoor_temperature"]
    known = np.isfinite(series.values[:, columns])
    counts = known.sum(axis=1)
    rows = np.flatnonzero(counts)
    if not len(rows):
        return None
    means = np.where(known, series.values[:, columns], 0.0).sum(axis=1)[rows] / counts[rows]
    return np.interp(np.arange(len(series)), rows, means)


@dataclass(frozen=True)
class HomeSplit:
    """Homes to train on, and homes set aside wholly."""

    train: list[Home]
    stopping: list[Home]
    """Choose the epoch."""
    calibration: list[Home]
    """Correct the quantile levels."""


def split_homes(homes: list[Home], *, seed: int) -> HomeSplit:
    """A seeded choice of about HELD_OUT_SHARE of the homes, half of them for early stopping and half for calibration.

    Raises:
        DataError: too few homes of which all may be looked at.
    """
    whole = [i for i, home in enumerate(homes) if home.is_whole]
    n_held_out = max(2, round(HELD_OUT_SHARE * len(homes)))
    if len(homes) < MIN_HOMES or len(whole) < n_held_out:
        raise DataError(
            f"{len(homes)} homes, {len(whole)} of them with all of their time: at least {MIN_HOMES} homes are expected, and {n_held_out} whole ones "
            f"to set aside; add houses, or fit one house alone without --all-targets"
        )
    chosen = np.random.default_rng((seed, 1)).permutation(whole)[:n_held_out]
    stopping, calibration = sorted(chosen[: n_held_out // 2]), sorted(chosen[n_held_out // 2 :])
    train = [home for i, home in enumerate(homes) if i not in set(chosen.tolist())]
    return HomeSplit(train, [homes[i] for i in stopping], [homes[i] for i in calibration])


def seen(home: Home, plan: FeaturePlan) -> Series:
    """What training a model of the plan reads of the home."""
    return home.series.select(plan.training_sensors(home.house))


def fingerprint_of(homes: list[Home]) -> str:
    """sha256 over what all homes hold, as far as it may be looked at."""
    return hashlib.sha256("".join(home.name + fingerprint(home.series) for home in homes).encode()).hexdigest()
