import numpy as np

from trainer.search_pictures import SPREAD, importance_bars, parallel_coordinates
from trainer.search_space import Choice, Range
from trainer.study import Trial

SPACE = {"units": Range(8, 128), "schedule": Choice(("cosine", "constant"))}


def trial(number, loss, *, units=32, schedule="cosine", state="complete"):
    return Trial(number, state, {"units": units, "schedule": schedule}, loss, 3, "", 1.0)


def lines(figure):
    return [line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 3]


def test_each_trial_that_learnt_is_a_line_and_the_best_lies_on_top():
    shown = [trial(0, 0.4, units=8), trial(1, 0.3, units=128, schedule="constant"), trial(2, 0.5, state="pruned"), trial(3, np.inf, state="fail")]
    figure = parallel_coordinates(shown, SPACE)
    heights = lines(figure)
    assert len(heights) == 3
    np.testing.assert_allclose(heights[-1][0], 1.0)
    np.testing.assert_allclose(heights[-1][1], 1.0, atol=SPREAD)
    np.testing.assert_allclose(heights[-1][2], 0.0)
    assert "3 trials, 1 of them pruned" in figure.axes[0].get_title(loc="left")


def test_ranges_by_orders_of_magnitude_are_drawn_so():
    heights = lines(parallel_coordinates([trial(0, 0.4, units=32), trial(1, 0.3, units=8)], SPACE))
    np.testing.assert_allclose(heights[0][0], 0.5)


def test_trials_that_are_all_alike_can_be_drawn():
    heights = lines(parallel_coordinates([trial(0, 0.3), trial(1, 0.3)], SPACE))
    assert np.isfinite(heights).all()


def test_importances_are_bars_the_longest_at_the_top():
    axes = importance_bars({"units": 0.25, "schedule": 0.75}, n_trials=9).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.25, 0.75]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["units", "schedule"]
