"""As many messages as the agent takes. How many a second stands in benchmarks/SOAK.md; here, that none is lost."""

import pytest

from benchmarks.soak import load


@pytest.mark.broker
def test_a_flood_of_messages_is_stored_whole(tmp_path, progress, monkeypatch):
    monkeypatch.setattr(load, "AHEAD", 1_000)
    rows = load.run(tmp_path, messages=5_000, rounds=1, progress=progress)
    assert [row.measured for row in rows if row.what == "messages lost"] == ["0"]
    assert len(rows) == 5
