"""Tables from a folder that is given, or the public ones from where they are published."""

from __future__ import annotations

import hashlib
import io
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Console

from benchmarks.accuracy.houses import REFERENCE, SCEAUX, Home
from edge_agent.contract.errors import DataError

ENDINGS: Final = (".csv", ".csv.gz", ".parquet")
TIMEOUT_S: Final = 60
MIN_MINUTES: Final = 30
"""An hour with fewer measured minutes is unknown."""


@dataclass(frozen=True)
class Published:
    """A table that anybody may fetch."""

    url: str
    member: str
    """File inside the archive."""
    sha256: str | None
    """Of the member, as published; None where no sum is known: then the facts that its authors publish are checked instead."""


PUBLISHED: Final = {
    REFERENCE.file: Published(
        "https://archive.ics.uci.edu/static/public/374/appliances+energy+prediction.zip",
        "energydata_complete.csv",
        "2820bf712ad0275cb18b85a05250926100d8e65ebb9f4d2d016ca91ea152a25d",
    ),
    SCEAUX.file: Published(
        "https://archive.ics.uci.edu/static/public/235/individual+household+electric+power+consumption.zip", "household_power_consumption.txt", None
    ),
}
MINUTE_COLUMNS: Final = {
    "Global_active_power": "power_kw",
    "Global_reactive_power": "reactive_kvar",
    "Voltage": "voltage_v",
    "Global_intensity": "current_a",
    "Sub_metering_1": "kitchen_w",
    "Sub_metering_2": "laundry_w",
    "Sub_metering_3": "heater_ac_w",
}
SCEAUX_MINUTES: Final = 2_075_259
SCEAUX_KNOWN: Final = 2_049_280


def find(home: Home, folders: tuple[Path, ...]) -> Path | None:
    """The home's table in one of the folders, or below; None where there is none."""
    for folder in folders:
        for ending in ENDINGS:
            found = sorted(folder.rglob(f"{home.file}{ending}"))
            if found:
                return found[0]
    return None


def fetch(home: Home, folder: Path, console: Console) -> Path | None:
    """The home's table, downloaded into `folder`; None where it is not published as a plain file or cannot be reached.

    Raises:
        DataError: what was downloaded is not the published table.
    """
    published = PUBLISHED.get(home.file)
    if published is None:
        return None
    console.print(f"{home.name}: fetching {published.url}")
    try:
        with urllib.request.urlopen(published.url, timeout=TIMEOUT_S) as answer:
            archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    except (urllib.error.URLError, OSError, zipfile.BadZipFile) as err:
        console.print(f"{home.name}: cannot be fetched ({err}); download it from DOI {_doi(home)} and name its folder with --data")
        return None
    text = archive.read(published.member)
    check(home, text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{home.file}.csv"
    path.write_bytes(text if published.sha256 else hourly(text))
    return path


def check(home: Home, text: bytes) -> None:
    """Refuse a file that is not the published one.

    Raises:
        DataError: another sha256, or another number of minutes, or of measured minutes, than its authors publish.
    """
    wanted, found = PUBLISHED[home.file].sha256, hashlib.sha256(text).hexdigest()
    if wanted is not None and found != wanted:
        raise DataError(f"{home.file}: its sha256 is {found}, the published table's is {wanted}: it was changed or cut short, fetch it again")
    if wanted is None:
        minutes = _minutes(text)
        counts = len(minutes), int(minutes["Global_active_power"].notna().sum())
        if counts != (SCEAUX_MINUTES, SCEAUX_KNOWN):
            raise DataError(f"{home.file}: {counts[0]:,} minutes, {counts[1]:,} measured; {SCEAUX_MINUTES:,} and {SCEAUX_KNOWN:,} are published")


def hourly(text: bytes) -> bytes:
    """Minutes of the house in Sceaux, as published, as hourly means in the columns and units that `houses` describes."""
    minutes = _minutes(text)
    times = pd.to_datetime(minutes["Date"] + " " + minutes["Time"], format="%d/%m/%Y %H:%M:%S")
    grouped = minutes[list(MINUTE_COLUMNS)].groupby(times.dt.floor("h"))
    means, seen = grouped.mean(), grouped["Global_active_power"].count()
    means.iloc[:, 4:] *= 60.0  # Wh in a minute are 60 W
    means[seen < MIN_MINUTES] = float("nan")
    means.columns = pd.Index(MINUTE_COLUMNS.values())
    means["minutes_seen"] = seen
    buffer = io.StringIO()
    means.round(4).to_csv(buffer, index_label="date", date_format="%Y-%m-%d %H:%M:%S")
    return buffer.getvalue().encode()


def _minutes(text: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(text), sep=";", na_values="?", dtype=dict.fromkeys(MINUTE_COLUMNS, "float64"))


def _doi(home: Home) -> str:
    return home.source.partition("DOI ")[2].partition(",")[0]
