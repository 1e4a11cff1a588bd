"""Files that appear whole or not at all, and places for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.contract.errors import ConfigError


def write_whole(path: Path, text: str, *, option: str) -> None:
    """Write `text` to `path`; who reads it meanwhile, or after Ctrl-C, finds the old file or the new one.

    Raises:
        ConfigError: it cannot be written; `option` names it.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as err:
        raise ConfigError(f"{option} {path}: cannot be written ({err.strerror}); name another file") from err
    finally:
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
    """A folder in `place` for files under way; it and what is still in it are gone in the end.

    Raises:
        ConfigError: nothing can be written there; `option` names it.
    """
    try:
        place.mkdir(exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".partial-", dir=place)
    except OSError as err:
        raise ConfigError(f"{option} {place}: cannot be written ({err.strerror}); name another place") from err
    with folder as name:
        yield Path(name)


def move_whole(pairs: Sequence[tuple[Path, Path]], *, option: str) -> None:
    """Move finished files, on one file system, to where they belong.

    Raises:
        ConfigError: one cannot be written; `option` names it.
    """
    for source, path in pairs:
        try:
            source.replace(path)
        except OSError as err:
            raise ConfigError(f"{option} {path}: cannot be written ({err.strerror}); name another place") from err
