import io
from dataclasses import replace
from zoneinfo import ZoneInfo

import matplotlib.pyplot as plt
import numpy as np
import pytest

from edge_agent.contract.baseline import QUANTILE_LEVELS
from trainer import pictures
from trainer.scores import Predictions, coverage_by_level, leads, score_groups

BERLIN = ZoneInfo("Europe/Berlin")
LABEL = "energy (Wh in 10 min)"
SPRING = 1774738800  # 2026-03-28T23:00Z: the day of 23 hours begins in Berlin


@pytest.fixture
def model():
    """Ten daily origins whose errors grow from one to the next."""
    rng = np.random.default_rng(5)
    quantiles = np.sort(rng.gamma(2.0, 50.0, (10, 144, 9)), axis=2)
    actual = quantiles[:, :, 4] + 10.0 * np.arange(1, 11)[:, None]
    return Predictions(SPRING + 86_400 * np.arange(10), 600, QUANTILE_LEVELS, quantiles, quantiles.mean(axis=2), actual)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def line(axes, label):
    return next(one for one in axes.get_lines() if str(one.get_label()).startswith(label))


def test_quantity_names_target_unit_and_step():
    assert pictures.quantity("energy", "Wh", 600) == LABEL
    assert pictures.quantity("living_room", "degC", 600) == "living_room (degC)"


def test_every_picture_has_labelled_axes_and_renders(model):
    figures = [
        pictures.loss_curves([3, 2, 1], [3.5, 2.5, 2.6], best_epoch=2, loss="loss"),
        pictures.forecasts_against_actual(model, {"a day": 0, "another": 9}, zone=BERLIN, label=LABEL, baseline=model),
        pictures.error_by_lead_time({"model": model, "baseline": model}, label=LABEL),
        pictures.reliability({"model": model}),
        pictures.residuals_by_hour(model, zone=BERLIN, label=LABEL),
    ]
    for figure in figures:
        assert png(figure).startswith(b"\x89PNG")
        assert all(axes.get_ylabel() and axes.get_title(loc="left") for axes in figure.axes)
        assert figure.axes[-1].get_xlabel()
    assert plt.get_fignums() == []  # nothing is kept alive


def test_loss_curve_marks_the_epoch_that_is_kept():
    (axes,) = pictures.loss_curves([3, 2, 1], [3.5, 2.5, 2.6], best_epoch=2, loss="loss").axes
    assert line(axes, "kept: epoch 2").get_xydata().tolist() == [[2.0, 2.5]]


def test_forecast_picture_shows_what_happened_to_the_end_of_the_last_step(model):
    (axes,) = pictures.forecasts_against_actual(model, {"a day": 3}, zone=BERLIN, label=LABEL).axes
    shown = line(axes, "actual")
    assert shown.get_ydata().tolist() == [*model.actual[3], model.actual[3, -1]]
    assert (shown.get_xdata()[-1] - shown.get_xdata()[0]).total_seconds() == 86_400
    assert axes.get_title(loc="left") == "Wednesday 01 April 2026, from 01:00: a day"


def test_day_of_the_clock_change_has_no_two_o_clock(model):
    figure = pictures.forecasts_against_actual(model, {"spring": 0}, zone=BERLIN, label=LABEL)
    figure.draw_without_rendering()
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00"]


def test_temperatures_below_zero_are_shown(model):
    cold = replace(model, quantiles=model.quantiles - 200, mean=model.mean - 200, actual=model.actual - 200)
    (axes,) = pictures.forecasts_against_actual(cold, {"a day": 0}, zone=BERLIN, label="outside (degC)").axes
    assert axes.get_ylim()[0] < -150


def test_unknown_values_leave_gaps_and_no_failure(model):
    holes = model.actual.copy()
    holes[:, :30] = np.nan
    partly = replace(model, actual=holes)
    rows = pictures.typical_rows(partly)
    assert png(pictures.forecasts_against_actual(partly, rows, zone=BERLIN, label=LABEL))
    assert png(pictures.residuals_by_hour(partly, zone=BERLIN, label=LABEL))


def test_typical_rows_are_ordered_by_their_error(model):
    assert pictures.typical_rows(model) == {"easier than 9 in 10": 1, "typical": 4, "harder than 9 in 10": 8}


def test_lead_time_picture_shows_hourly_means(model):
    (axes,) = pictures.error_by_lead_time({"model": model}, label=LABEL).axes
    by_hour = score_groups(model, leads(model) // 6)
    assert line(axes, "model").get_ydata().tolist() == [s.mae for s in by_hour.values()]
    assert line(axes, "model").get_xdata().tolist() == [hour + 0.5 for hour in range(24)]


def test_reliability_picture_shows_coverage_by_level(model):
    (axes,) = pictures.reliability({"model": model}).axes
    assert line(axes, "model").get_ydata().tolist() == coverage_by_level(model).tolist()


def test_residual_picture_shows_the_mean_of_each_hour(model):
    biased = replace(model, actual=model.mean + 7.0)
    (axes,) = pictures.residuals_by_hour(biased, zone=BERLIN, label=LABEL).axes
    assert line(axes, "mean").get_ydata() == pytest.approx([7.0] * 24)
