"""The proofs of `make soak`, in small: the same code, a few faults instead of hundreds. What is timed is left to `make soak`."""

import pytest
from rich.progress import Progress

from benchmarks.mosquitto import executable


@pytest.fixture
def progress(paho_garbage):
    """What a proof shows its progress with, unseen; skips where there is no broker to prove anything with."""
    if executable() is None:
        pytest.skip("needs Mosquitto: apt-get install mosquitto")
    return Progress(disable=True)


@pytest.fixture
def failed():
    """`failed(rows)`: the rows that did not pass, but for those that are timed."""
    return lambda rows: [row for row in rows if row.passed is False and " s" not in row.wanted]
