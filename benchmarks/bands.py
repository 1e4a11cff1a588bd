"""What the agent's online correction does to the shipped model's bands: python -m benchmarks.bands house.toml table.csv [house.toml table.csv …]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from edge_agent.conformal import Offsets
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import base_forecaster
from edge_agent.plausibility import bounds
from trainer.datasets import read_table
from trainer.scores import pinball_losses

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def main() -> int:
    """Print one line a target: coverage of p10 to p90 over the last days, and CRPS, with and without the correction."""
    parser = argparse.ArgumentParser(description="Score the online correction of the bands over the last days of homes, origins an hour apart.")
    parser.add_argument("files", type=Path, nargs="+", metavar="HOUSE.toml TABLE", help="pairs of a house and its table")
    parser.add_argument("--days", type=int, default=28, help="last days to score (default: %(default)s)")
    parser.add_argument("--before", type=int, default=60, help="days of forecasts to learn from before them (default: %(default)s)")
    options = parser.parse_args()
    if len(options.files) % 2:
        parser.error("give a table after each house.toml")
    table = Table("target", "p10 to p90, stored", "published", "CRPS published / stored")
    for house_path, table_path in zip(options.files[::2], options.files[1::2], strict=True):
        house = read_house(house_path)
        series = read_table(house, [table_path], repair=True).series
        for target in house.targets:
            if house.unit_of[target.name] == "Wh":
                table.add_row(f"{house.site}:{target.name}", *judged(house, series, target.name, days=options.days, before=options.before))
    Console().print(table)
    return 0


def judged(house: HouseSpec, series: Series, target: str, *, days: int, before: int) -> list[str]:
    """A target's cells."""
    forecaster = base_forecaster(house, target)
    start = series.end - (days + before + 1) * DAY_S
    origins = np.arange(-(-start // 3600) * 3600, series.end - DAY_S + 1, 3600, dtype=np.int64)
    seen = series.between(int(origins[0]) - forecaster.history_s, series.end)
    stored, _ = forecaster.batch(forecaster.builder(seen, first_origin=int(origins[0])), origins)
    values = seen.select([house.target(target).sensor]).values[:, 0]
    horizon = stored.shape[1]
    actual = np.stack([values[row : row + horizon] for row in (origins - seen.start) // seen.step_s])
    possible = bounds(house.sensor(forecaster.target_sensor), house.step_s)
    published = followed(stored, actual, (origins - origins[0]) // DAY_S, forecaster.plan.quantile_levels, possible)
    last = origins > series.end - (days + 1) * DAY_S
    known = np.isfinite(actual[last])
    losses = [pinball_losses(q[last][known], actual[last][known], forecaster.plan.quantile_levels).mean() for q in (stored, published)]
    return [f"{coverage(stored[last], actual[last]):.3f}", f"{coverage(published[last], actual[last]):.3f}", f"{losses[1] / losses[0]:.4f}"]


def followed(stored: Floats, actual: Floats, day: Ints, levels: tuple[float, ...], possible: tuple[float, float]) -> Floats:
    """The quantiles as an agent would have published them, within what is `possible`: a day's forecasts teach when the day after it is over."""
    offsets, published = Offsets.none(levels, least=possible[0], most=possible[1]), stored.copy()
    for today in np.unique(day):
        taught = day == today - 2
        if taught.any():
            offsets = offsets.after(stored[taught], actual[taught])
        published[day == today] = offsets.apply(stored[day == today])
    return published


def coverage(quantiles: Floats, actual: Floats) -> float:
    """Share of the known steps within the outer quantiles."""
    known = np.isfinite(actual)
    return float(((quantiles[..., 0] <= actual) & (actual <= quantiles[..., -1]))[known].mean())


if __name__ == "__main__":
    sys.exit(main())
