"""Days on end in one run."""

import pytest

from benchmarks.soak import sixty_days


@pytest.mark.broker
def test_days_on_end_close_every_step_and_log_little(tmp_path, progress, monkeypatch):
    monkeypatch.setattr(sixty_days, "EVERY_S", 600)
    rows = sixty_days.run(tmp_path, days=2, warm_up_days=2, progress=progress)
    assert [row for row in rows if not row.passed] == []
    assert len(rows) == 5
