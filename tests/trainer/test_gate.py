import numpy as np
import pytest

from trainer.gate import MIN_DAYS, compare

DAY = 86_400


def origins(days, per_day=4):
    return np.arange(days * per_day) * (DAY // per_day)


def hard_and_easy_days(days, per_day=4, seed=0):
    return np.repeat(np.random.default_rng(seed).gamma(2.0, 10.0, days), per_day)


def test_a_tenth_less_on_every_day_is_certain():
    champion = hard_and_easy_days(60)
    found = compare(0.9 * champion, champion, origins(60))
    assert found.gain == pytest.approx(0.1)
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert (found.is_won, found.is_lost, found.days) == (True, False, 60)
    back = compare(champion, 0.9 * champion, origins(60))
    assert (back.is_won, back.is_lost) == (False, True)


def test_the_error_is_that_of_the_mean_over_independent_days():
    rng = np.random.default_rng(1)
    champion = np.full(2500, 100.0)
    challenger = champion - 1.0 + rng.normal(0.0, 5.0, 2500)
    assert compare(challenger, champion, origins(2500, per_day=1)).error == pytest.approx(0.001, rel=0.2)  # 5 % / 50


def test_weeks_that_go_together_make_it_larger():
    week = np.repeat(np.random.default_rng(2).normal(0.0, 5.0, 56), 7)
    champion, days = np.full(392, 100.0), origins(392, per_day=1)
    shuffled = np.random.default_rng(3).permutation(week)
    assert compare(champion + week, champion, days).error > 1.8 * compare(champion + shuffled, champion, days).error


def test_luck_does_not_pass():
    rng = np.random.default_rng(4)
    champion = np.full(30, 100.0)
    won = [compare(champion + rng.normal(0.0, 10.0, 30), champion, origins(30, per_day=1)).is_won for _ in range(100)]
    assert sum(won) < 30  # a sixth, were the error known exactly


@pytest.mark.parametrize("days", [0, 1, MIN_DAYS - 1])
def test_a_few_days_decide_nothing(days):
    champion = np.full(4 * days, 10.0)
    found = compare(0.5 * champion, champion, origins(days))
    assert not found.is_won
    assert not found.is_lost
    assert found.days == days


def test_unknown_losses_count_on_neither_side():
    champion = hard_and_easy_days(30)
    challenger = 0.8 * champion
    challenger[:8], champion[-4:] = np.nan, np.nan
    found = compare(challenger, champion, origins(30))
    assert (found.gain, found.days) == (pytest.approx(0.2), 27)


def test_a_house_without_use_has_nothing_to_gain():
    nothing = np.zeros(80)
    assert compare(nothing, nothing, origins(20)).gain == 0.0
