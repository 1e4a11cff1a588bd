"""Nights in which the clocks change."""

import pytest

from benchmarks.soak import nights


@pytest.mark.broker
def test_a_day_that_is_half_an_hour_shorter(tmp_path, progress):
    row = nights.run(tmp_path, "Australia/Lord_Howe", nights.NIGHTS["Australia/Lord_Howe"][0])
    assert row.passed, row.measured
