"""The broker killed, cut off, robbed of its memory."""

import pytest

from benchmarks.soak import brokers


@pytest.mark.broker
def test_what_the_broker_kept_is_not_lost_and_what_it_forgot_is_restored(tmp_path, progress, failed):
    rows = brokers.run(tmp_path, faults=brokers.QUICK, away_s=dict.fromkeys(brokers.QUICK, brokers.QUICK_AWAY_S), progress=progress)
    assert failed(rows) == []
    assert [row.what.partition(":")[0] for row in rows[:3]] == ["cut off, no RST", "killed", "restarted without its memory"]
