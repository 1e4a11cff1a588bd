"""Opens CSV and Parquet files, gzipped or not, and gives their columns with the row numbers an editor would show."""

from __future__ import annotations

import csv
import gzip
import io
import re
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from edge_agent.contract.errors import DataError, closest
from trainer.findings import Findings, count

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LINE_END: Final = re.compile(rb"\r\n?|\n")
GZIP_MAGIC: Final = b"\x1f\x8b"
PARQUET_MAGIC: Final = b"PAR1"
UNKNOWN_WORDS: Final = ("", "unknown", "unavailable", "none", "null", "nan", "na", "n/a", "<na>")
"""Texts that mean "no value", in any case; `unknown` and `unavailable` are Home Assistant's."""
NAMES_SHOWN: Final = 8


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one file as they stand in it."""

    numbers: Ints
    """Row numbers, `(n,)`; the header is row 1."""
    times: pd.Series
    """The first column, `(n,)`, as text or as pandas timestamps."""
    values: dict[str, Floats]
    """By column name, `(n,)`, the file's units, NaN unknown."""


def read_rows(path: Path, columns: tuple[str, ...], findings: Findings) -> Rows:
    """The first column and `columns` of the CSV or Parquet file at `path`, told apart by their first bytes.

    Raises:
        DataError: unreadable file, a missing column (the message names the closest), or text where a number belongs and no repair is wanted.
    """
    data = read_bytes(path)
    frame = _read_parquet(data, columns, findings) if data.startswith(PARQUET_MAGIC) else _read_csv(data, columns, findings)
    return rows_of(frame, columns, findings)


def rows_of(frame: pd.DataFrame, columns: tuple[str, ...], findings: Findings) -> Rows:
    """The rows of a table in memory, whose first column is the time, numbered as if a header stood above them.

    Raises:
        DataError: no rows, or text where a number belongs and no repair is wanted.
    """
    frame = frame.reset_index(drop=True)
    frame = frame[frame.notna().any(axis=1)]  # wholly empty rows, such as a file's last line, say nothing
    if frame.empty:
        raise findings.error("no rows under the header", "a row for every step is expected")
    numbers = frame.index.to_numpy(np.int64) + 2
    values = {}
    for name in columns:
        values[name] = np.full(len(frame), np.nan)
        with findings.column(name):
            values[name] = _numbers(frame[name], numbers, findings)
    return Rows(numbers, frame.iloc[:, 0].reset_index(drop=True), values)


def read_bytes(path: Path) -> bytes:
    """What the file at `path` holds, gzipped or not.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as err:
        raise DataError(f"{path}: the gzip file is damaged or cut short ({err}): copy or download it again") from err
    except OSError as err:
        raise DataError(f"{path}: cannot be read ({err.strerror or err}): give the path of a CSV or Parquet file") from err


def _read_csv(data: bytes, columns: tuple[str, ...], findings: Findings) -> pd.DataFrame:
    header = _header(data, findings)
    positions = _positions(header, columns, findings)
    # all columns are read, also those not wanted: with usecols pandas accepts rows with too many fields, such as those of decimal commas;
    # and rows keep their numbers only when blank lines count
    layout = {"header": None, "names": range(len(header)), "skiprows": 1, "skip_blank_lines": False, "index_col": False}
    parsing = {"dtype": {0: str}, "na_values": ["unknown", "unavailable"], "low_memory": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(io.BytesIO(data), encoding="utf-8", **layout, **parsing)
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as err:
        raise findings.error(f"not a CSV table ({str(err).strip()})", "UTF-8 text with a comma between the fields is expected") from err
    return frame[[0, *positions]].set_axis([header[0], *columns], axis=1)


def _header(data: bytes, findings: Findings) -> list[str]:
    """Column names of the CSV table's first line."""
    try:
        line = LINE_END.split(data, maxsplit=1)[0].decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise findings.error("the first line is not UTF-8 text", "a CSV file in UTF-8, or a Parquet file, is expected") from err
    try:
        names = [name.strip() for name in next(csv.reader([line]), [])]
    except csv.Error as err:
        raise findings.error(f"the first line names no columns ({err})", "a CSV file in UTF-8, or a Parquet file, is expected") from err
    if len(names) < 2:
        separator = next((s for s in (";", "\t", "|") if s in line), None)
        found = f"columns are separated by {separator!r}" if separator else f"the first line {line[:60]!r} names no columns"
        raise findings.error(found, "a header is expected: names separated by commas, a time column first")
    return names


def _positions(header: list[str], columns: tuple[str, ...], findings: Findings) -> list[int]:
    """Where each of `columns` stands in `header`; what is left over is noted."""
    others = header[1:]
    for name in columns:
        if name not in others:
            missing = [c for c in columns if c not in others]
            raise findings.error(
                f"{count(len(missing), 'column')} missing, the first {name!r}",
                f"{closest(name, others) if others else 'it has a time column only'} "
                f"(correct 'column' in house.toml, or delete that key where the table has no such column)",
            )
        if others.count(name) > 1:
            raise findings.error(f"{others.count(name)} columns are called {name!r}", "one is expected: rename the others")
    extra = [name for name in others if name not in columns]
    if extra:
        shown = ", ".join(extra[:NAMES_SHOWN]) + (", …" if len(extra) > NAMES_SHOWN else "")
        findings.note(f"{count(len(extra), 'column')} that house.toml does not name ignored: {shown}")
    return [1 + others.index(name) for name in columns]


def _read_parquet(data: bytes, columns: tuple[str, ...], findings: Findings) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as err:  # pyarrow's errors are children of these
        raise findings.error(f"not a readable Parquet file ({err})", "write it again, or give CSV") from err
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index()
    header = [str(name).strip() for name in frame.columns]
    positions = _positions(header, columns, findings)
    return frame.iloc[:, [0, *positions]].set_axis([header[0], *columns], axis=1)


def _numbers(column: pd.Series, rows: Ints, findings: Findings) -> Floats:
    """The column as float64; text that is no number is unknown under repair."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    values = pd.to_numeric(text.where(~text.str.lower().isin(UNKNOWN_WORDS)), errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.isnan(values) & ~text.str.lower().isin(UNKNOWN_WORDS).to_numpy(bool)
    if bad.any():
        example = text[bad].iloc[0]
        findings.settle(
            f"column {column.name!r} has {count(int(bad.sum()), 'text')} where numbers belong, the first {example!r}",
            rows[bad],
            expected="numbers with a decimal point, or nothing, are expected: correct the file",
            repair="taken as unknown",
            kind="text",
        )
    return values
