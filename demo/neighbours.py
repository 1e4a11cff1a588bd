"""Simulated homes to train on, each with its description and its table: the demo's neighbours, and those that a base model learns from.

    python -m demo.neighbours FOLDER --homes 60 --days 240

writes FOLDER/home_NUMBER.toml and .csv.gz with every sensor that a simulated house has.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from demo.household import Household
from demo.simulate import HOUSE_TOML, simulate_house, write_csv
from edge_agent.contract.localtime import DAY_S

FIRST_DAY: Final = 1_577_836_800
"""2020-01-01: each home begins on some day of that year."""
FIRST_SEED: Final = 1000
NEIGHBOUR_TOML: Final = """\
site = "neighbour_{number}"
time_zone = "{zone}"
step = 600
table_clock = "utc"

[[targets]]
name = "energy"
sensor = "energy"

[[sensors]]
name = "energy"
role = "energy"
unit = "Wh"
column = "energy"
"""


@dataclass(frozen=True)
class Neighbour:
    """Another house to train on."""

    house: Path
    """Its description."""
    table: Path
    """Its history."""


def metered_neighbour(folder: Path, number: int, *, seed: int, start: int, days: int, household: Household, zone: str) -> Neighbour:
    """A house of which only the meter is known."""
    metered = simulate_house(seed, days, start=start, household=household).select(("energy",))
    neighbour = Neighbour(folder / f"neighbour_{number}.toml", folder / f"neighbour_{number}.csv")
    neighbour.house.write_text(NEIGHBOUR_TOML.format(number=number, zone=zone), encoding="utf-8")
    write_csv(metered, neighbour.table)
    return neighbour


def sensed_home(folder: Path, number: int, *, days: int) -> Neighbour:
    """A house with all of its sensors, in some climate, from some day of the year on; `number` decides everything."""
    start = FIRST_DAY + int(np.random.default_rng((99, number)).integers(0, 365)) * DAY_S
    home = Neighbour(folder / f"home_{number}.toml", folder / f"home_{number}.csv.gz")
    plain = folder / f"home_{number}.csv"
    write_csv(simulate_house(number, days, start=start), plain)
    with plain.open("rb") as source, gzip.open(home.table, "wb", compresslevel=1) as packed:
        shutil.copyfileobj(source, packed)
    plain.unlink()
    home.house.write_text(HOUSE_TOML.read_text(encoding="utf-8").replace('site = "demo"', f'site = "home_{number}"'), encoding="utf-8")
    return home


def main() -> None:
    """Write the homes that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m demo.neighbours", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--homes", type=int, default=60, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--days", type=int, default=240, metavar="N", help="days of each (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for number in track(range(FIRST_SEED, FIRST_SEED + arguments.homes), description="simulated homes"):
        sensed_home(arguments.folder, number, days=arguments.days)


if __name__ == "__main__":
    main()
