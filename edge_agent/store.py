"""The models that were installed, on disk: `models/<target>/<id>/` holds a bundle, `models/<target>/standing.json` says which one forecasts.

A bundle's folder is complete on the disk before it gets its name, and its name is there before the state file speaks of it. The state file is
replaced whole. So whatever is cut off, and wherever, either the old standing holds or the new one does; what nobody speaks of is swept away later.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from edge_agent.contract.bundle import fill_folder, read_files, sync_folder, write_synced
from edge_agent.contract.errors import BundleError, ServiceError
from edge_agent.standing import Standing

FOLDER: Final = "models"
STANDING: Final = "standing.json"
LOCK: Final = ".lock"
AT_WORK: Final = ".at-work"
_UNFINISHED: Final = ".new-"


class ModelStore:
    """Below the agent's state folder. Agent and command line may use it at the same time: changes are made under `locked`."""

    def __init__(self, state_dir: Path) -> None:
        """Know the folder; nothing is opened or made."""
        self.path = state_dir / FOLDER

    def targets(self) -> list[str]:
        """Targets for which models were installed."""
        return sorted(file.parent.name for file in self.path.glob(f"*/{STANDING}"))

    def standing(self, target: str) -> Standing:
        """Of `target`; the usual one where nothing was ever installed.

        Raises:
            ServiceError: the state file cannot be read or is damaged.
        """
        path = self.path / target / STANDING
        try:
            return Standing.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return Standing()
        except (OSError, ValueError, ServiceError) as err:
            raise ServiceError(f"{path}: cannot be read ({err}): remove it to forecast by what ships, then install the models again") from err

    def bundle(self, target: str, model: str) -> Path:
        """Where the bundle with the id `model` lies."""
        return self.path / target / model

    def version(self, target: str) -> tuple[int, int]:
        """What changes whenever the state file does."""
        try:
            found = (self.path / target / STANDING).stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    @contextlib.contextmanager
    def at_work(self, target: str, model: str) -> Iterator[None]:
        """While a model computes, a file says so; what is left of it after a death accuses the model. Not synced: a power cut accuses nobody."""
        mark = self.path / target / AT_WORK
        with contextlib.suppress(OSError):  # a disk that takes nothing must not cost a forecast
            mark.write_text(model, encoding="ascii")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)

    def left_at_work(self, target: str) -> str | None:
        """The model that was computing when the agent ended; asked once."""
        mark = self.path / target / AT_WORK
        try:
            model = mark.read_text(encoding="ascii")
            mark.unlink()
        except (OSError, UnicodeDecodeError):
            return None
        return model or None

    @contextlib.contextmanager
    def locked(self, *, wait: bool = True) -> Iterator[None]:
        """Nobody else changes the store meanwhile.

        Raises:
            ServiceError: another program does, and `wait` is false; or the folder cannot be written.
        """
        with self._writing():
            self._make_folder(self.path)
            file = (self.path / LOCK).open("ab")
        with file:
            with self._writing():
                self._give(self.path / LOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as err:
                raise ServiceError(f"{self.path}: another program is changing the models: try again later") from err
            yield

    def add(self, target: str, model: str, files: Mapping[str, bytes]) -> None:
        """Keep a bundle's files, which were checked; call it under `locked`. Nothing speaks of it until `save` does.

        Raises:
            ServiceError: they cannot be written.
        """
        folder, place = self.path / target, self.bundle(target, model)
        with self._writing():
            self._make_folder(folder)
            self._sweep(target, self.standing(target))
            if _holds(place, files):
                return
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as work:
                fresh = Path(work) / "bundle"
                fill_folder(fresh, files)
                self._give(fresh, *fresh.iterdir())
                if place.exists():  # damaged: no loss when the power fails now
                    place.rename(Path(work) / "damaged")
                fresh.rename(place)
            sync_folder(folder)

    def save(self, target: str, standing: Standing) -> None:
        """Replace what is known of `target`, then sweep away bundles that are no longer needed; call it under `locked`.

        Raises:
            ServiceError: it cannot be written; the old standing holds.
        """
        folder = self.path / target
        with self._writing():
            self._make_folder(folder)
            fresh = folder / f"{_UNFINISHED}{STANDING}"
            write_synced(fresh, json.dumps(standing.to_json(), indent=1).encode())
            self._give(fresh)
            fresh.replace(folder / STANDING)
            sync_folder(folder)
            self._sweep(target, standing)

    def _sweep(self, target: str, standing: Standing) -> None:
        """Remove what no standing speaks of: bundles that were replaced, and what a killed program left."""
        for entry in sorted((self.path / target).iterdir()):  # leftovers first, their names begin with a dot
            if not entry.is_dir() or entry.name in standing.models:
                continue
            # a bundle loses its name first: half of one must not be found under it
            gone = entry if entry.name.startswith(_UNFINISHED) else entry.rename(entry.with_name(f"{_UNFINISHED}{entry.name}"))
            shutil.rmtree(gone)

    def _make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._give(path)
        sync_folder(path.parent)

    @property
    def is_anothers(self) -> bool:
        """Whether the state folder belongs to another user: root installs for the service."""
        try:
            return self.path.parent.stat().st_uid != os.geteuid()
        except OSError:
            return False

    def _give(self, *paths: Path) -> None:
        """To whoever owns the state folder."""
        if self.is_anothers and os.geteuid() == 0:
            owner = self.path.parent.stat()
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise ServiceError(f"{self.path}: cannot be written ({err}): check the disk, its space and the folder's owner") from err


def _holds(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return read_files(folder) == files
    except BundleError:
        return False
