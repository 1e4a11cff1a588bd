"""One byte of the database flipped."""

import pytest

from benchmarks.soak import flips


@pytest.mark.broker
def test_agents_live_with_a_flipped_byte_and_keep_what_can_be_read(tmp_path, progress, failed):
    rows = flips.run(tmp_path, flips=4, watched_s=4.0, progress=progress)
    assert failed(rows) == []
    assert [row.passed for row in rows] == [True, None, None, True]  # the agent looks for hidden damage a minute after its start
