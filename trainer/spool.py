"""Objects whose arrays lie in a file: what is kept of many homes must not fill the memory.

The arrays are read from the file when they are used. The operating system keeps in memory what there is room for, and takes back what it needs.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from pathlib import Path
from typing import Final, TypeVar

from edge_agent.contract.errors import DataError

Kept = TypeVar("Kept")

SEGMENT: Final = 1 << 28
"""Bytes of the file that are mapped together: each mapping takes a file descriptor, of which a process has a thousand or so."""
ALIGNED: Final = 64


class Spool:
    """A file without a name: it is gone when the last object that was kept in it is."""

    def __init__(self, folder: Path, *, segment: int = SEGMENT) -> None:
        """Keep things on the disk of `folder`, which is made too; where temporary files go may be memory."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._segment = folder, segment
        self._free = memoryview(b"")

    def keep(self, thing: Kept) -> Kept:
        """A copy of `thing`, all of whose contiguous numpy arrays lie in the file; they can be read and not written.

        Raises:
            DataError: the disk is full.
        """
        buffers: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
        kept: Kept = pickle.loads(frame, buffers=[self._put(buffer.raw()) for buffer in buffers])  # noqa: S301 - just made here
        return kept

    def _put(self, raw: memoryview) -> memoryview:
        size = -(-raw.nbytes // ALIGNED) * ALIGNED
        if size > len(self._free):
            self._free = memoryview(_mapped(self._folder, max(size, self._segment)))
        place, self._free = self._free[: raw.nbytes], self._free[size:]
        place[:] = raw
        return place.toreadonly()


def _mapped(folder: Path, size: int) -> mmap.mmap:
    """A new file's memory. Its place on the disk is taken at once: running out of it while writing to a mapping kills the process."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            _take_place(file.fileno(), size)
        except OSError as err:
            raise DataError(
                f"no room for {size >> 20} MiB of training windows on the disk of {folder}: {err.strerror}; give another --out, or fewer --per-day"
            ) from err
        return mmap.mmap(file.fileno(), size)


def _take_place(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS knows no such call
        os.ftruncate(file, size)
