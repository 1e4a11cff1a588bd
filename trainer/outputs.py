"""Files that appear whole or not at all, and places for them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from edge_agent.contract.errors import ConfigError


def write_whole(files: Sequence[tuple[str, Path, str]]) -> None:
    """Write texts to their paths, each named by its option; who reads one meanwhile, or after Ctrl-C, finds the old file or the new one.

    Raises:
        ConfigError: one cannot be written; then none is.
    """
    partials = [path.with_name(f".{path.name}.partial") for _, path, _ in files]
    try:
        for (option, path, text), partial in zip(files, partials, strict=True):
            with _named(option, path):
                partial.write_text(text, encoding="utf-8")
        move_whole([(option, partial, path) for (option, path, _), partial in zip(files, partials, strict=True)])
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def require_place(folder: Path, *, option: str) -> None:
    """Make sure, before the work, that files can be written in `folder`, which need not be there yet; nothing is left behind.

    Raises:
        ConfigError: they cannot; `option` names it.
    """
    made: list[Path] = []
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as err:
        raise ConfigError(f"{option} {folder}: cannot be made or written ({err.strerror}); name another folder") from err
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


@contextmanager
def staging(place: Path, *, option: str) -> Iterator[Path]:
    """A folder in `place` for files under way; it and what is still in it are gone in the end, and so is a `place` that was made for nothing.

    Raises:
        ConfigError: nothing can be written there; `option` names it.
    """
    is_new, partial = not place.exists(), place / f".partial-{uuid4().hex}"
    try:
        with _named(option, place):
            place.mkdir(exist_ok=True)
            partial.mkdir()
        yield partial
    finally:  # after Ctrl-C too, even right after a folder was made
        shutil.rmtree(partial, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it is not empty
                place.rmdir()


def move_whole(files: Sequence[tuple[str, Path, Path]]) -> None:
    """Move finished files, on one file system, to where they belong, each named by its option.

    Raises:
        ConfigError: one cannot be written.
    """
    for option, source, path in files:
        with _named(option, path):
            source.replace(path)


@contextmanager
def _named(option: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise ConfigError(f"{option} {path}: cannot be written ({err.strerror}); name another place") from err
