"""Forecasts of two machines are compared by each forecast's own size."""

import numpy as np
import pytest

from benchmarks.elsewhere import difference


def made(scale=1.0, grade="full"):
    values = np.array([[1.0, 2.0], [100.0, 400.0]])
    quantiles = np.stack([values, 2 * values], axis=2) * scale
    return {"quantiles": quantiles, "mean": values, "totals": values, "grades": np.array([grade, "baseline"])}


def test_the_same_differs_by_nothing():
    assert difference(made(), made()) == 0


def test_the_worst_forecast_counts_whatever_its_size():
    other = made()
    other["quantiles"][0, 1, 1] += 0.04  # of 4, in the smaller forecast
    assert difference(made(), other) == pytest.approx(0.01, rel=0.02)


def test_another_grade_is_another_forecast():
    assert difference(made(), made(grade="masked")) == float("inf")
