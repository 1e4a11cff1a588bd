import numpy as np
import pytest

from trainer.losses import losses_by_origin
from trainer.scores import Predictions, score

LEVELS = (0.1, 0.5, 0.9)


def predictions(actual, quantiles, mean):
    origins = 3600 * np.arange(len(actual))
    return Predictions(origins, 3600, LEVELS, np.asarray(quantiles, float), np.asarray(mean, float), np.asarray(actual, float))


def test_losses_worked_out_by_hand():
    found = losses_by_origin(predictions([[10.0, np.nan]], [[[8.0, 9.0, 12.0], [0.0, 0.0, 0.0]]], [[9.0, 5.0]]))
    # the pinball losses are 0.1 * 2, 0.5 * 1 and 0.1 * 2, their mean 0.3
    assert found.crps == pytest.approx([0.6])
    assert np.isnan(found.total).all()  # one of its steps is unknown


def test_they_are_what_scores_are_the_mean_of():
    rng = np.random.default_rng(0)
    quantiles = np.sort(rng.gamma(2.0, 10.0, (5, 4, 3)), axis=-1)
    table = predictions(rng.gamma(2.0, 10.0, (5, 4)), quantiles, quantiles[..., 1])
    found, whole = losses_by_origin(table), score(table)
    assert (found.crps.mean(), found.total.mean()) == (pytest.approx(whole.crps), pytest.approx(whole.total_mae))


def test_an_origin_of_which_nothing_is_known_has_no_loss():
    found = losses_by_origin(predictions([[np.nan], [1.0]], np.ones((2, 1, 3)), np.ones((2, 1))))
    assert np.isnan(found.crps[0])
    assert found.crps[1] == 0.0
