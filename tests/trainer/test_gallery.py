import math

import numpy as np
import pytest

from trainer.baselines import baseline_predictions
from trainer.gallery import forecast_pictures, loss_picture, save_pictures
from trainer.loop import Epoch
from trainer.scores import point_predictions
from trainer.windows import Windows

HOUR = 3600
HISTORY = [Epoch(n, loss, validation, 0.001, 0.0, 0.0) for n, loss, validation in [(0, math.nan, 0.5), (1, 0.4, 0.45), (2, 0.3, 0.47)]]


def test_the_untrained_network_is_part_of_the_loss_picture():
    axes = loss_picture(HISTORY, 0, loss="CRPS")["loss"].axes[0]
    training, validation, kept = axes.lines
    assert training.get_xdata().tolist() == validation.get_xdata().tolist() == [0, 1, 2]
    assert (list(kept.get_xdata()), list(kept.get_ydata())) == ([0], [0.5])


def test_without_an_epoch_there_is_no_loss_picture():
    assert loss_picture(HISTORY[:1], 0, loss="CRPS") == {}


@pytest.mark.parametrize("preset", ["base", "seed"])
def test_every_picture_is_written(small_builder, tmp_path, preset):
    builder = small_builder(preset)
    windows = Windows(builder, builder.series.start + HOUR * np.arange(1000, 1030))
    predictions = baseline_predictions(builder, windows.origins)
    model = point_predictions(windows.origins, predictions["persistence"].mean, predictions["persistence"].actual, step_s=HOUR)
    figures = forecast_pictures({"model": model, **predictions}, "model", plan=builder.plan, zone=builder.zone)
    save_pictures(figures, tmp_path)
    names = {"forecasts", "error_by_lead_time", "coverage_by_level", "residuals_by_hour"}
    assert {path.stem for path in (tmp_path / "pictures").glob("*.png")} == names
