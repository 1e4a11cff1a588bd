"""Homes made ready: tables found or fetched, described, read, and laid out as a user would have them, for the commands that train on them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.accuracy.cases import Case, whole
from benchmarks.accuracy.daily_weather import with_drawn_temperature
from benchmarks.accuracy.houses import HOMES, Home, describe
from benchmarks.accuracy.sources import fetch, find
from edge_agent.contract.localtime import utc_offsets_s
from edge_agent.contract.schema import HouseSpec, parse_house
from edge_agent.contract.series import Series
from trainer.datasets import ReadOptions, read_table
from trainer.findings import DOUBTFUL
from trainer.table_times import standard_offset_s

TRAIN: Final = "train.csv.gz"
TABLE: Final = "table.csv.gz"
NOTE: Final = "made_of.json"
AS_PUBLISHED: Final = ReadOptions(repair=True, accept=DOUBTFUL)
"""Every value that the table holds is scored, odd ones too: what a reader takes for a fault changes with its version, the yardstick must not."""
GZIP_MAGIC: Final = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A home whose table is there."""

    home: Home
    spec: HouseSpec
    folder: Path
    """Holds house.toml, the table, and its first 80 %."""
    sha256: str
    """Of the table's file, unpacked."""
    repairs: tuple[str, ...]

    @cached_property
    def series(self) -> Series:
        """What the table holds; read when it is asked for."""
        return read_table(self.spec, [self.folder / TABLE], options=AS_PUBLISHED).series

    def cases(self) -> list[Case]:
        """One for each target."""
        return [whole(self.home.name, self.spec, target.name, self.series) for target in self.spec.targets]

    def with_all_weather(self, case: Case) -> Case:
        """The case with what its table knows of each day's temperature as well, for forecasts of the weather that are perfect."""
        if self.home.daily_temperature is None:
            return case
        toml = (self.folder / "house.toml").read_text(encoding="utf-8")
        return with_drawn_temperature(case, toml, self.folder / TABLE, self.home.daily_temperature)


def prepare(folders: tuple[Path, ...], build: Path, *, download: bool, console: Console) -> dict[str, Prepared]:
    """All homes whose tables are in `folders`, or can be fetched; the others are named and left out."""
    out = {}
    for home in HOMES.values():
        path = find(home, (*folders, build / "downloads"))
        if path is None and download:
            path = fetch(home, build / "downloads", console)
        if path is None:
            console.print(f"{home.name}: no table {home.file}.csv[.gz] was given, so its rows are left out", style="yellow")
            continue
        out[home.name] = lay_out(home, path, build / "houses" / home.name)
    return out


def lay_out(home: Home, path: Path, folder: Path) -> Prepared:
    """Write house.toml, the table and its first 80 % into `folder`, unless they lie there, made of the same."""
    text = path.read_bytes()
    text = gzip.decompress(text) if text.startswith(GZIP_MAGIC) else text
    toml = describe(home, pd.read_csv(io.BytesIO(text)))
    spec, note = parse_house(toml, source=home.file), folder / NOTE
    made_of = {"table": hashlib.sha256(text).hexdigest(), "house": toml}
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    if known.get("made_of") != made_of:
        folder.mkdir(parents=True, exist_ok=True)
        known = {"made_of": made_of, "repairs": _write_tables(home, spec, text, folder)}
        _write(folder / "house.toml", toml.encode())
        _write(note, json.dumps(known).encode())
    return Prepared(home, spec, folder, made_of["table"], tuple(known["repairs"]))


def _write_tables(home: Home, spec: HouseSpec, text: bytes, folder: Path) -> list[str]:
    """Write the table and its first 80 %; returns what has to be repaired in it."""
    _write(folder / TABLE, gzip.compress(text, compresslevel=1, mtime=0))
    table = read_table(spec, [folder / TABLE], options=AS_PUBLISHED)
    train_end = table.series.start + int(len(table.series) * 0.8) * table.series.step_s
    first = first_part(pd.read_csv(io.BytesIO(text)), spec, train_end).to_csv(index=False)
    _write(folder / TRAIN, gzip.compress(first.encode(), compresslevel=1, mtime=0))
    return [found.replace(str(folder / TABLE), home.file) for found in table.repairs]


def first_part(frame: pd.DataFrame, spec: HouseSpec, end: int) -> pd.DataFrame:
    """The rows before `end` (unix s) of a table whose times have no offset."""
    clock = pd.to_datetime(frame.iloc[:, 0]).to_numpy("datetime64[s]").astype(np.int64)
    offset = {
        "utc": 0,
        "standard": standard_offset_s(clock[:1].astype(np.float64), spec.zone),
        "local": int(utc_offsets_s(np.array([end]), spec.zone)[0]),
    }[spec.table_clock]
    return frame[clock < end + offset]


def _write(path: Path, content: bytes) -> None:
    """Write the whole file or nothing: another run may be reading it."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
