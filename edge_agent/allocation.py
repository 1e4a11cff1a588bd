"""How the C library hands out memory: so that what is freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
LARGE: Final = 131_072
"""Bytes; glibc's own threshold, but it raises it with every large block that is freed, and keeps such blocks from then on."""


def give_back() -> None:
    """Give large blocks back as soon as they are freed, and share one heap among threads; see mallopt(3). Without glibc, nothing."""
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_ARENA_MAX, 1)
