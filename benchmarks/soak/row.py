"""What a proof tells: rows of what was wanted and what was seen; and SOAK.md, made of the newest rows of every proof."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.mosquitto import executable
from benchmarks.timing import cpu_model

HEAD = """# Soak

What the agent was put through, and what came of it: the real program (`hearthcast-agent run`) and a real Mosquitto, written by `make soak`.
[docs/soak.md](../docs/soak.md) says what each proof does and how long it takes.

"""

ANSWER = {True: "yes", False: "**no**", None: "not measured"}


@dataclass(frozen=True)
class Row:
    """One thing that is wanted, and what was measured of it."""

    what: str
    wanted: str
    measured: str
    passed: bool | None
    """None: it could not be measured here; `measured` says why."""


@dataclass(frozen=True)
class Outcome:
    """All rows of one proof, and where they were measured."""

    title: str
    rows: list[Row]
    minutes: float
    date: str
    machine: str
    commit: str

    @classmethod
    def of(cls, title: str, rows: Sequence[Row], *, minutes: float, commit: str) -> Outcome:
        """What was measured here and now, with the code of `commit`."""
        return cls(title, list(rows), minutes, datetime.now(UTC).date().isoformat(), machine_text(), commit)


def machine_text() -> str:
    """Processor, system and the versions that matter here."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "paho-mqtt"))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return f"{cpu_model()}, {os.cpu_count()} cores, {system}, {mosquitto_version()}, {libraries}"


def mosquitto_version() -> str:
    """Name and version of the broker."""
    path = executable()
    if path is None:
        return "no Mosquitto"
    first = subprocess.run([path, "-h"], capture_output=True, text=True).stdout.splitlines()[:1]
    return first[0].replace("mosquitto version", "Mosquitto") if first else "Mosquitto"


def read(path: Path) -> dict[str, Outcome]:
    """The newest outcome of every proof, as `write` left them beside the Markdown at `path`."""
    file = _json(path)
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {name: Outcome(**{**data, "rows": [Row(**row) for row in data["rows"]]}) for name, data in found.items()}


def write(outcomes: dict[str, Outcome], path: Path) -> None:
    """The outcomes as Markdown at `path`, and as JSON beside it, for the next run."""
    text = json.dumps({name: asdict(outcome) for name, outcome in outcomes.items()}, indent=1, ensure_ascii=False)
    _json(path).write_text(text + "\n", encoding="utf-8")
    path.write_text(HEAD + "\n".join(map(markdown, outcomes.values())), encoding="utf-8")


def _json(path: Path) -> Path:
    return path.with_name(f"{path.stem.lower()}.json")


def markdown(outcome: Outcome) -> str:
    """One proof's section."""
    where = f"{outcome.date}, {outcome.minutes:.0f} minutes, commit {outcome.commit}; {outcome.machine}."
    rows = [f"| {r.what} | {r.wanted} | {r.measured} | {ANSWER[r.passed]} |" for r in outcome.rows]
    return "\n".join([f"## {outcome.title}", "", where, "", "| what | wanted | measured | passed |", "| --- | --- | --- | --- |", *rows, ""])
