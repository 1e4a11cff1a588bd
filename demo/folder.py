"""The demo's output folder: one place for everything it writes, keys included."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.contract.errors import ConfigError

GUIDE: Final = """\
Written by hearthcast-demo; the next run replaces this folder as a whole.

forecast.png      the forecast of the last day, what then happened, and the climatology
forecast.json     the same forecast as it was retained on the broker
scores.json       the agent's forecasts beside the baselines
house.toml        the house; data/ holds its tables
run/, bundle/     the training run and the bundle that the agent ran (absent where a shipped bundle was used)
mlflow.db         MLflow's store of the training run; its files are in mlflow-artefacts/
agent/            the agent's state: history.db
config/           the key that signed the bundle, and the agent's trust in it
logs/             what every program wrote
"""


@dataclass(frozen=True)
class Folder:
    """Paths under `--out`, absolute."""

    path: Path

    @property
    def house(self) -> Path:
        """The house's description."""
        return self.path / "house.toml"

    @property
    def data(self) -> Path:
        """Tables."""
        return self.path / "data"

    @property
    def run(self) -> Path:
        """The training run."""
        return self.path / "run"

    @property
    def bundle(self) -> Path:
        """The exported bundle."""
        return self.path / "bundle"

    @property
    def agent(self) -> Path:
        """The agent's state folder."""
        return self.path / "agent"

    @property
    def picture(self) -> Path:
        """The picture."""
        return self.path / "forecast.png"

    @property
    def forecast(self) -> Path:
        """The last forecast, as retained."""
        return self.path / "forecast.json"

    @property
    def scores(self) -> Path:
        """The scores."""
        return self.path / "scores.json"

    @property
    def kept(self) -> Path:
        """Process ids of a demo that was left running."""
        return self.path / "running.txt"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What child processes need to write here and nowhere else, at once, and in lines of a readable length where there is no terminal."""
        columns = str(shutil.get_terminal_size((120, 40)).columns or 120)
        return {"XDG_CONFIG_HOME": str(self.path / "config"), "PYTHONUNBUFFERED": "1", "COLUMNS": columns}

    def log(self, name: str) -> Path:
        """Where program `name` writes."""
        return self.path / "logs" / f"{name}.log"


def prepare_folder(path: Path) -> Folder:
    """An empty output folder at `path`, in place of an earlier demo's.

    Raises:
        ConfigError: there is something else, it cannot be written, or a demo kept by `--keep` still runs in it.
    """
    folder = Folder(path.resolve())
    guide = folder.path / "README.txt"
    try:
        if folder.path.exists() and any(folder.path.iterdir()) and not guide.exists():
            raise ConfigError(f"--out {path}: holds files that no demo wrote: name an empty or a new folder")
        running = [pid for pid in _kept(folder) if _is_alive(pid)]
        if running:
            raise ConfigError(f"--out {path}: a demo kept there still runs: end it by `kill {' '.join(map(str, running))}`, or name another folder")
        shutil.rmtree(folder.path, ignore_errors=True)
        for each in (folder.data, folder.agent, folder.path / "logs"):
            each.mkdir(parents=True)
        guide.write_text(GUIDE, encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"--out {path}: cannot be written ({err.strerror}): name another folder") from err
    return folder


def _kept(folder: Folder) -> list[int]:
    with suppress(OSError, ValueError):
        return [int(word) for word in folder.kept.read_text(encoding="utf-8").split()]
    return []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
