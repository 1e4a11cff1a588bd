"""What the agent costs when nothing happens. How much that is stands in benchmarks/SOAK.md; here, that it can be measured and nothing spins."""

import pytest

from benchmarks.soak import idle


@pytest.mark.broker
def test_nothing_spins_while_nothing_happens(tmp_path, progress, monkeypatch):
    monkeypatch.setattr(idle, "SETTLE_S", 1.0)
    monkeypatch.setattr(idle, "EVERY_S", 7.5)
    rows = idle.run(tmp_path, minutes=0.05, history_days=9, progress=progress)
    assert [row.wanted for row in rows] == ["< 0.2 %", "< 80 MB", "<= 5 a second"]
    assert "forecasts" in rows[0].measured
    assert float(rows[1].measured.removesuffix(" MB")) < 120
    rates = [float(word.rpartition(" ")[2]) for word in rows[2].measured.split(", ")]
    assert max(rates) < 100  # a loop that spins has thousands
