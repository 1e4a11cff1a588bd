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
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, HouseSpec, Target, read_house
from edge_agent.contract.series import Series
from trainer.datasets import ReadOptions, fingerprint, read_table
from trainer.display import counting
from trainer.findings import Finding
from trainer.quality_report import print_summary
from trainer.spool import Spool

Floats = npt.NDArray[np.float64]

TARGET: Final = "energy"
"""What the target of a model over many homes is called, whatever the homes call theirs."""
HELD_OUT_SHARE: Final = 0.15
MIN_KNOWN_DAYS: Final = 21
"""Of less, no window remains after the days that give a home's scale and a model's context."""
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
    accept: tuple[str, ...] = ()
    """Kinds of findings that are true of these houses."""
    extra: Path | None = None
    """Folder of further homes, NAME.toml beside NAME.csv or NAME.csv.gz, that are trained on and never set aside: simulated ones, say."""


@dataclass(frozen=True)
class HomesRequest:
    """What a fit over many homes needs beside the `FitRequest`."""

    sources: Sources
    resolutions: tuple[int, ...]
    """Steps in s; each home is trained on at those that are multiples of its own."""
    augment: int
    """Changed copies of each training home."""
    per_day: float
    """Windows a day of each home at each of its steps; its changed copies and further homes give a share of that."""


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
    is_changed: bool = True
    """Whether changed copies of it are trained on too."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The homes that can be used, and what was found in all of them."""

    homes: list[Home]
    findings: list[Finding]
    """Their source is the house's site, their sensor the home's target."""


def read_homes(sources: Sources, console: Console) -> list[Home]:
    """The homes of all houses that can be used. Raises as `survey`."""
    return survey(sources, console).homes


def survey(sources: Sources, console: Console, spool: Spool | None = None) -> Survey:
    """The homes of all houses; one that cannot be used is left out and named, which ends nothing. Their tables lie in the `spool`, if one is given.

    Raises:
        ConfigError: houses and files do not pair up, two houses have one name, a house without an energy target, a share outside (0, 1].
    """
    shares = _shares(sources)
    further = [(read_house(path), [table], 1.0) for path, table in extra_homes(sources.extra)]
    given = [(read_house(path), files, share) for path, files, share in zip(sources.houses, files_by_house(sources), shares, strict=True)]
    names = [f"{house.site}:{target.name}" for house, *_ in (*given, *further) for target in _targets(house)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two homes are called {twice[0]!r}: give each house.toml its own site")
    surveys = []
    with counting(console, "reading and checking houses", len(given) + len(further)) as advance:
        for number, (house, files, share) in enumerate((*given, *further)):
            one = _survey_house(house, files, sources, share)
            one = one if spool is None else replace(one, homes=[spool.keep(home) for home in one.homes])
            surveys.append(one if number < len(given) else replace(one, homes=[replace(h, is_whole=False, is_changed=False) for h in one.homes]))
            advance(1)
    whole = Survey([home for one in surveys for home in one.homes], [finding for one in surveys for finding in one.findings])
    print_summary(console, whole.findings, len(names))
    return whole


def extra_homes(folder: Path | None) -> list[tuple[Path, Path]]:
    """Descriptions and tables in `folder`, by name.

    Raises:
        ConfigError: no such folder, nothing in it, or a description without a table.
    """
    if folder is None:
        return []
    pairs = []
    for house in sorted(folder.glob("*.toml")):
        tables = [table for ending in (".csv.gz", ".csv", ".parquet") if (table := house.with_suffix(ending)).is_file()]
        if not tables:
            raise ConfigError(f"--extra {folder}: {house.name} has no table: {house.stem}.csv.gz, .csv or .parquet is expected beside it")
        pairs.append((house, tables[0]))
    if not pairs:
        raise ConfigError(f"--extra {folder}: no house descriptions (*.toml) there: make some with python -m demo.neighbours, or leave it out")
    return pairs


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


def _targets(house: HouseSpec) -> list[Target]:
    targets = [target for target in house.targets if ROLES[house.sensor(target.sensor).role].kind == "energy"]
    if not targets:
        raise ConfigError(f"house {house.site!r} has no energy target: add one to [[targets]], or leave the house out")
    return targets


def _survey_house(house: HouseSpec, files: list[Path], sources: Sources, share: float) -> Survey:
    options = ReadOptions(repair=sources.repair, accept=sources.accept, leave_out=True, share=share)
    try:
        table = read_table(house, files, options=options)
    except DataError as err:
        return Survey([], [Finding(house.site, "table", str(err), "refused", "left out")])
    findings = [replace(finding, source=house.site) for finding in table.findings]
    refused = {finding.sensor for finding in findings if finding.done == "refused"}
    homes = []
    for target in _targets(house):
        known_days = int(np.isfinite(table.series.column(target.sensor)).sum()) * table.series.step_s / DAY_S
        if target.sensor not in refused and known_days < MIN_KNOWN_DAYS:
            what = f"known for {known_days:.3g} days, {MIN_KNOWN_DAYS} are expected"
            findings.append(Finding(house.site, "short", what, "refused", "left out", target.sensor, len(table.series)))
        elif target.sensor not in refused:
            homes.append(_home(house, table.series, target, is_whole=share == 1.0))
    return Survey(homes, findings)


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
    """A seeded choice of about HELD_OUT_SHARE of the homes that may be looked at as a whole: half for early stopping, half for calibration.

    Raises:
        DataError: too few homes of which all may be looked at.
    """
    whole = [i for i, home in enumerate(homes) if home.is_whole]
    n_held_out = max(2, round(HELD_OUT_SHARE * len(whole)))
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
