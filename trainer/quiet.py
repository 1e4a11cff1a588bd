"""Loading TensorFlow without its notes to itself."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


def quiet_libraries() -> None:
    """Silence the native libraries' logs; whoever set these variables keeps them. To be called before Keras is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ABSL_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@contextmanager
def without_native_stderr() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and show it only when the block fails.

    TensorFlow 2.21 prints two oneDNN notes before its log level is read, so no variable silences them.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(before, held.read())
            raise
        finally:
            os.dup2(before, 2)
            os.close(before)
