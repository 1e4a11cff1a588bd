"""Homes whose tables know the weather by the day only: an hourly temperature drawn between each day's lowest and highest.

Repeated over its day, such a value tells the morning of the afternoon, so no method reads it as a sensor; a perfect weather forecast may.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.accuracy.cases import Case
from edge_agent.contract.localtime import DAY_S, utc_offsets_s
from edge_agent.contract.schema import Feature, parse_house

Floats = npt.NDArray[np.float64]

ROLE: Final = "outdoor_temperature"
LOWEST_H: Final = 6.0
HIGHEST_H: Final = 15.0
"""Local hours at which a day is usually coldest and warmest."""
SENSOR: Final = f'\n[[sensors]]\nname = "{ROLE}"\nrole = "{ROLE}"\nunit = "degC"\ncolumn = "{ROLE}"\n'


def with_drawn_temperature(case: Case, toml: str, table: Path, columns: tuple[str, str]) -> Case:
    """The case with an outdoor temperature drawn from a table's columns of each day's lowest and highest, degC.

    Args:
        case: one home's energy.
        toml: the home's description, which gets a sensor more.
        table: the home's table; its first column is the time by the home's clock.
        columns: names of the two columns.
    """
    rows = pd.read_csv(table, usecols=["date", *columns], parse_dates=["date"])
    by_day = rows.groupby(rows["date"].dt.floor("D")).first()
    day = by_day.index.to_numpy("datetime64[D]").astype(np.int64)
    spec, series = parse_house(toml + SENSOR, source=table.name), case.series
    lowest, highest = (by_day[column].to_numpy(np.float64) for column in columns)
    temperature = drawn(day, lowest, highest, times=series.times + utc_offsets_s(series.times, spec.zone))
    values = np.concatenate([series.values, temperature[:, None]], axis=1)  # noqa: PD011 (a Series of ours)
    return replace(case, spec=spec, series=replace(series, features=(*series.features, Feature(ROLE, ROLE)), values=values))


def drawn(day: npt.NDArray[np.int64], lowest: Floats, highest: Floats, *, times: npt.NDArray[np.int64]) -> Floats:
    """Half waves between each day's lowest value, at LOWEST_H, and its highest, at HIGHEST_H.

    Args:
        day: local days since 1970, ascending, `(n_days,)`.
        lowest: of each day.
        highest: of each day.
        times: local wall time in s, `(n,)`.

    Returns:
        `(n,)`, NaN where a neighbouring day is unknown.
    """
    at = np.column_stack([day * DAY_S + LOWEST_H * 3600, day * DAY_S + HIGHEST_H * 3600]).ravel()
    value = np.column_stack([lowest, highest]).ravel()
    left = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    inside = (times >= at[0]) & (times <= at[-1]) & ((at[left + 1] - at[left] < DAY_S) | (times == at[left]))
    share = np.clip((times - at[left]) / (at[left + 1] - at[left]), 0.0, 1.0)
    share = (1 - np.cos(np.pi * share)) / 2
    return np.where(inside, value[left] * (1 - share) + value[left + 1] * share, np.nan)
