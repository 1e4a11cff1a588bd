"""kill -9 while 28 sensors report."""

import pytest

from benchmarks.soak import kills


@pytest.mark.broker
def test_kills_lose_no_step_and_double_none(tmp_path, progress, failed):
    rows = kills.run(tmp_path, kills=2, history_days=9, progress=progress)
    assert failed(rows) == []
    assert len(rows) == 6
