"""Hostile messages among those of 28 sensors."""

import pytest

from benchmarks.soak import hostile


@pytest.mark.broker
def test_hostile_messages_end_nothing_and_cost_no_reading(tmp_path, progress, monkeypatch):
    monkeypatch.setattr(hostile, "PIECE", 500)
    rows = hostile.run(tmp_path, messages=4_000, rate=180.0, progress=progress)
    assert [row for row in rows if not row.passed] == []
    assert len(rows) == 5
