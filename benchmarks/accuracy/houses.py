"""The homes that figures are made with: where their tables come from, by which clock they run, and their house.toml, written from the header."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from edge_agent.contract.errors import DataError

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE_TOML: Final = ROOT / "deploy" / "houses" / "uci_appliances.toml"

SENSORS: Final = (
    (r"mac\d+_kwh", "energy", "kWh"),
    (r"energy_kwh", "energy", "kWh"),
    (r"power_kw", "energy", "kW"),
    (r"(kitchen|laundry|heater_ac)_w", "energy_part", "W"),
    (r"t_(dining|room)_c", "indoor_temperature", "degC"),
    (r"rh_(dining|room)_pct", "indoor_humidity", "%"),
    (r"t_out_c", "outdoor_temperature", "degC"),
    (r"rh_out_pct", "outdoor_humidity", "%"),
    (r"rh_out_frac", "outdoor_humidity", "fraction"),
    (r"dewpoint_c", "dew_point", "degC"),
    (r"wind_m_s", "wind_speed", "m/s"),
    (r"pressure_hpa", "pressure", "hPa"),
    (r"visibility_km", "visibility", "km"),
    (r"irradiance_w_m2", "solar_radiation", "W/m2"),
)
"""Pattern of a column's name, role and unit; the first that matches holds, and a column that none matches is left out.

Daily weather repeated over its day (`t_out_avg_c` and its like) matches none on purpose: at noon it already knows the evening.
"""


@dataclass(frozen=True)
class Home:
    """A table of one or more homes, and what has to be known to read it."""

    name: str
    title: str
    file: str
    """Name of the table without `.csv` or `.csv.gz`."""
    zone: str
    clock: str
    """`table_clock` of house.toml."""
    step_s: int
    targets: str
    """Role of the columns that are forecast."""
    source: str
    """Who measured it, where it is published, and under which licence."""
    trained: bool = False
    """Whether a model that is scored here may have been trained on it."""
    daily_temperature: tuple[str, str] | None = None
    """Columns of each day's lowest and highest outdoor temperature, degC, where the table knows no more of the weather."""


LONDON: Final = Home(
    "london",
    "81 homes in London, 2013",
    "london_homes_2013_30min",
    "Europe/London",
    "utc",
    1800,
    "energy",
    "UK Power Networks, Low Carbon London, SmartMeter Energy Consumption Data in London Households, CC BY 4.0; weather: Dark Sky",
    trained=True,
)
SCEAUX: Final = Home(
    "sceaux",
    "Sceaux near Paris, 2006 to 2010",
    "uci_household_hourly",
    "Etc/GMT-1",  # wall time of a clock that does not jump: a zone without daylight saving keeps its evenings in place
    "standard",
    3600,
    "energy",
    "G. Hebrail and A. Berard, Individual Household Electric Power Consumption, UCI, DOI 10.24432/C58K54, CC BY 4.0",
    trained=True,
)
REFERENCE: Final = Home(
    "reference",
    "UCI reference house, Belgium",
    "energydata_complete",
    "Europe/Brussels",
    "standard",
    600,
    "energy",
    "L. M. Candanedo et al., Appliances Energy Prediction, UCI, DOI 10.24432/C5VC8G, CC BY 4.0",
)
HOUSTON: Final = Home(
    "houston",
    "Houston, Texas",
    "houston_home_hourly",
    "Etc/GMT+6",  # 24 rows every day, the clock changes smoothed over by the source
    "standard",
    3600,
    "energy",
    "one home of the Kaggle set 'Residential power usage, 3 years'; licence not stated",
    daily_temperature=("t_out_min_c", "t_out_max_c"),
)
VANCOUVER: Final = Home(
    "vancouver",
    "Vancouver, British Columbia",
    "vancouver_hue_house1_hourly",
    "America/Vancouver",
    "local",
    3600,
    "energy",
    "S. Makonin, HUE: the hourly usage of energy dataset for buildings in British Columbia, house 1, DOI 10.7910/DVN/N3HGRN",
)
CALIFORNIA: Final = Home(
    "california",
    "California",
    "pge_home_d202_hourly",
    "America/Los_Angeles",
    "local",
    3600,
    "energy",
    "one PG&E customer, D202 of the Kaggle set 'Household energy data'; licence not stated",
)
ROOMS: Final = Home(
    "rooms",
    "Rooms of the UCI reference house, hourly means",
    "energydata_complete",
    "Europe/Brussels",
    "standard",
    3600,
    "indoor",
    REFERENCE.source,
)
VALENCIA: Final = Home(
    "valencia",
    "Two rooms of a solar house in Valencia, hourly means",
    "sml2010",
    "Europe/Madrid",
    "utc",
    3600,
    "indoor",
    "F. Zamora-Martinez et al., SML2010, UCI, DOI 10.24432/C5RS3S, CC BY 4.0",
)
HOMES: Final = {home.name: home for home in (LONDON, SCEAUX, REFERENCE, HOUSTON, VANCOUVER, CALIFORNIA, ROOMS, VALENCIA)}
ENERGY: Final = (REFERENCE, HOUSTON, VANCOUVER, CALIFORNIA)
CLIMATE: Final = (ROOMS, VALENCIA)

MOST_ZEROS: Final = 0.05
"""A meter that reads zero more often is next to nobody's home: it teaches a model that nothing happens."""


def describe(home: Home, table: pd.DataFrame) -> str:
    """The house.toml of a home whose table is given.

    Raises:
        DataError: the table has no column that can be forecast.
    """
    if home.file == REFERENCE.file:
        return _reference(home)
    sensors = [(column, *known) for column in table.columns[1:] if (known := _sensor(str(column)))]
    targets = [column for column, role, _ in sensors if role.startswith(home.targets) and role != "energy_part" and not _is_empty(table[column])]
    if not targets:
        raise DataError(f"{home.file}: none of its columns {', '.join(map(str, table.columns))} can be forecast: is it the right table?")
    kept = [s for s in sensors if s[1] != "energy" or s[0] in targets]
    head = [f'site = "{home.name}"', f'time_zone = "{home.zone}"', f"step = {home.step_s}", f'table_clock = "{home.clock}"']
    # a home with one energy meter calls its target as everybody's house.toml does
    names = {column: "energy" if home.targets == "energy" and len(targets) == 1 else column for column in targets}
    lines = [*head, *(_table("targets", name=names[c], sensor=c) for c in targets)]
    return "\n".join([*lines, *(_table("sensors", name=c, role=role, unit=unit, column=c) for c, role, unit in kept)]) + "\n"


def _sensor(column: str) -> tuple[str, str] | None:
    return next(((role, unit) for pattern, role, unit in SENSORS if re.fullmatch(pattern, column)), None)


def _is_empty(values: pd.Series) -> bool:
    known = values.to_numpy(np.float64)
    known = known[np.isfinite(known)]
    return not known.size or float((known == 0).mean()) > MOST_ZEROS


def _table(kind: str, **pairs: str) -> str:
    return "\n".join([f"\n[[{kind}]]", *(f'{key} = "{value}"' for key, value in pairs.items())])


def _reference(home: Home) -> str:
    """The description that the project ships; for its rooms, with another step and the rooms as targets."""
    text = REFERENCE_TOML.read_text(encoding="utf-8")
    if home.targets == "energy":
        return text
    rooms = [name for i in (1, 2, 3, 4, 5, 7, 8, 9) for name in (f"T{i}", f"RH_{i}")]
    text = re.sub(r"^step = 600\b", f"step = {home.step_s}", text, flags=re.MULTILINE)
    text = re.sub(r'\[\[targets\]\]\nname = "energy"\nsensor = "Appliances"\n', "", text)
    return text + "\n".join(_table("targets", name=name, sensor=name) for name in rooms) + "\n"
