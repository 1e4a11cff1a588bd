"""The readings of many houses in the form that Spark shares out: a folder with each house's `house.toml` and its readings as Parquet.

    FLEET/houses/SITE.toml
    FLEET/readings/site=SITE/readings.parquet     time (start of the step, UTC), sensor (name in house.toml), value (canonical unit; energy: Wh)

Whoever has readings elsewhere writes this form with tools of their own; then the folder may be any address that Spark can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import track

from edge_agent.contract.errors import ConfigError, HearthcastError
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from trainer.datasets import ReadOptions, read_table
from trainer.readings import readings_of

HOUSES: Final = "houses"
READINGS: Final = "readings"


def gather(houses: Sequence[Path], tables: Sequence[Path], out: Path, *, options: ReadOptions, console: Console) -> dict[str, str]:
    """Write the fleet's folder from a table for each house; a house with a problem is named and left out.

    Returns:
        Problem by house.

    Raises:
        ConfigError: not one table for each house, or two houses with one site.
    """
    if len(houses) != len(tables):
        raise ConfigError(f"{len(houses)} houses and {len(tables)} tables: one --data for each --house is expected, in the same order")
    problems: dict[str, str] = {}
    written: dict[str, Path] = {}
    pairs = list(zip(houses, tables, strict=True))
    for path, table in track(pairs, "gathering", console=console, transient=True, disable=not console.is_terminal):
        try:
            house = read_house(path)
            if house.site in written:
                raise ConfigError(f"{path}: site {house.site!r} is that of {written[house.site]} too: give each house its own")
            read = read_table(house, [table], options=options)
            for target in house.targets:
                read.require(target.sensor)
            write_readings(out, house, path.read_text(encoding="utf-8"), read.series)
            written[house.site] = path
        except HearthcastError as err:
            problems[str(path)] = str(err)
    return problems


def write_readings(out: Path, house: HouseSpec, text: str, series: Series) -> None:
    """One house's part of the fleet's folder, in place of what was there."""
    (out / HOUSES).mkdir(parents=True, exist_ok=True)
    (out / HOUSES / f"{house.site}.toml").write_text(text, encoding="utf-8")
    folder = out / READINGS / f"site={house.site}"
    folder.mkdir(parents=True, exist_ok=True)
    readings_of(series).to_parquet(folder / "readings.parquet", index=False)
