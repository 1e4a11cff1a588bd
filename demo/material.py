"""What the demo works on: a simulated house, or a real one's table, cut into what the model may see, what is replayed, and one day held back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np

from demo.folder import Folder
from demo.household import Household, draw_household
from demo.simulate import HOUSE_TOML, simulate_house, simulated_house, write_csv
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import DAY_S, day_bounds, local_date
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from trainer.datasets import read_table

WEEKS: Final = 10
REPLAY_DAYS: Final = 9
QUICK_REPLAY_DAYS: Final = 3
EARLIER_DAYS: Final = 42
"""Least history before the replay: what training needs for its four spans."""
REFERENCE_HOUSE: Final = Path(__file__).parents[1] / "deploy" / "houses" / "uci_appliances.toml"


@dataclass(frozen=True, eq=False)
class Material:
    """A house and its time line: earlier weeks, replayed days, one day held back."""

    house: HouseSpec
    target: str
    series: Series
    """Everything, the held-back day included."""
    replay_from: int
    """Unix s of a local midnight."""
    origin: int
    """Unix s of the local midnight at which the held-back day begins: origin of the last forecast."""
    story: str
    """What this house is, for the reader."""

    @property
    def earlier(self) -> Series:
        """What the model may be trained on, and the agent's history before the replay."""
        return self.series.between(self.series.start, self.replay_from)

    @property
    def replayed(self) -> Series:
        """What is sent as messages."""
        return self.series.between(self.replay_from, self.origin)


def simulated_material(seed: int, folder: Folder, *, quick: bool) -> Material:
    """Ten weeks of a simulated house."""
    shutil.copyfile(HOUSE_TOML, folder.house)
    house, series = simulated_house(), simulate_house(seed, 7 * WEEKS)
    household = draw_household(np.random.default_rng(seed))
    write_csv(series, folder.data / "house.csv")
    return _material(house, series, f"Simulated house {seed}: {_in_words(household)}", quick=quick)


def recorded_material(data: Path, house_file: Path | None, folder: Folder, *, quick: bool) -> Material:
    """A real house's table.

    Raises:
        ConfigError: no description of the house.
        DataError: the table cannot be read, or is too short.
    """
    path = house_file or REFERENCE_HOUSE
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file: describe the house of --data with --house")
    house = read_house(path)
    shutil.copyfile(path, folder.house)
    series = read_table(house, [data]).series
    return _material(house, series, f"House {house.site} as recorded in {data.name}", quick=quick)


def _material(house: HouseSpec, series: Series, about: str, *, quick: bool) -> Material:
    last_day = local_date(series.end, house.zone) - timedelta(days=1)  # the last one that is there as a whole
    first_day = last_day - timedelta(days=QUICK_REPLAY_DAYS if quick else REPLAY_DAYS)
    replay_from, origin = (day_bounds(day, house.zone)[0] for day in (first_day, last_day))
    if (replay_from - series.start) / DAY_S < EARLIER_DAYS:
        days = (series.end - series.start) / DAY_S
        raise DataError(f"the table covers {days:.1f} days: at least {EARLIER_DAYS + REPLAY_DAYS + 2} are expected; give a longer --data")
    earlier_days = (first_day - local_date(series.start, house.zone)).days
    story = (
        f"{about}\n{len(series):,} steps of {house.step_s // 60} minutes, {len(house.sensors)} sensors\n"
        f"{earlier_days} days of history, then {(last_day - first_day).days} days to replay; {last_day} is held back"
    )
    return Material(house, house.targets[0].name, series, replay_from, origin, story)


def _in_words(house: Household) -> str:
    heating = {"heat_pump": "a heat pump", "resistive": "electric heaters", "none": "no electric heating"}[house.heating]
    cooling = "an air conditioner" if house.has_cooling else "no air conditioner"
    people = "1 person" if house.people == 1 else f"{house.people} people"
    return f"{people} in {house.floor_m2:.0f} m2, {house.climate} climate, {heating}, {cooling}"
