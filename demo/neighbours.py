"""Simulated homes for a base model to learn from, each with its description and its table.

    python -m demo.neighbours FOLDER --homes 60 --days 240

writes FOLDER/home_NUMBER.toml and .csv.gz with every sensor that a simulated house has.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from rich.progress import track

from demo.simulate import HOUSE_TOML, simulate_house, write_csv
from edge_agent.contract.localtime import DAY_S

FIRST_DAY: Final = 1_577_836_800
"""2020-01-01: each home begins on some day of that year."""
FIRST_SEED: Final = 1000


def sensed_home(folder: Path, number: int, *, days: int) -> None:
    """A house with all of its sensors, in some climate, from some day of the year on; `number` decides everything."""
    start = FIRST_DAY + int(np.random.default_rng((99, number)).integers(0, 365)) * DAY_S
    plain = folder / f"home_{number}.csv"
    write_csv(simulate_house(number, days, start=start), plain)
    with plain.open("rb") as source, gzip.open(plain.with_suffix(".csv.gz"), "wb", compresslevel=1) as packed:
        shutil.copyfileobj(source, packed)
    plain.unlink()
    description = HOUSE_TOML.read_text(encoding="utf-8").replace('site = "demo"', f'site = "home_{number}"')
    plain.with_suffix(".toml").write_text(description, encoding="utf-8")


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
