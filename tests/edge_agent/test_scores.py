"""Scores of days, by hand: a house whose use is the same each day but for one."""

from datetime import date, timedelta

import numpy as np
import pytest

from edge_agent.config import HistoryLimits
from edge_agent.contract.forecast import Total
from edge_agent.contract.localtime import day_bounds
from edge_agent.contract.schema import parse_house
from edge_agent.health import Health
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, add_issued
from edge_agent.keeping import Keeper
from edge_agent.scoreboard import Scoreboard, score_lines, score_payload, stored_scores, summary
from edge_agent.scores import DayScore, score_day
from edge_agent.steps import ClosedStep

HOUR = 3600
LEVELS = (0.1, 0.5, 0.9)
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"}]
""",
    source="house.toml",
)
DAY = date(2026, 6, 22)
START = day_bounds(DAY, HOUSE.zone)[0]


@pytest.fixture
def history(tmp_path):
    """Three weeks of 100 Wh an hour, then on DAY and the day after 130."""
    with History(tmp_path / "history.db") as history:
        history.bind(HOUSE)
        steps = [ClosedStep(START + HOUR * hour, {"meter": 130.0 if hour >= 0 else 100.0}, ()) for hour in range(-24 * 21, 48)]
        history.close_steps(steps, {})
        yield history


def issued(history, hour, *, middle=120.0, band=(110.0, 120.0, 140.0), total=None, role="live"):
    origin = START + HOUR * hour
    quantiles = np.full((24, 3), middle, np.float32)
    published = np.tile(np.float32(band), (24, 1))
    add_issued(history, [IssuedForecast("energy", "m", role, origin, origin, HOUR, LEVELS, quantiles, quantiles[:, 1], "full", total, published)])


def score(day, *, mae=5.0, usual=10.0, total=None):
    return DayScore(day, mae, usual, 20.0, mae, usual, 0.8, 100.0, 1.0, total, total, total)


def test_a_days_scores_are_those_worked_out_by_hand(history):
    issued(history, -2, total=Total(DAY, 2880.0, 2000.0, 4000.0, 1.0))  # the day uses 24 x 130 = 3120 Wh
    issued(history, 0)
    issued(history, 12)  # in the shadow of the second day, yesterday is known to be 130 for half of its steps
    issued(history, 3, middle=1e6, role="shadow")
    found = score_day(history, HOUSE, "energy", DAY)
    assert (found.mae, found.used, found.coverage, found.full) == (10.0, 130.0, 1.0, 1.0)
    assert found.mae_climatology == pytest.approx(30.0)
    assert found.mae_yesterday == pytest.approx((24 * 30 + 12 * 30) / 48)
    assert found.crps == pytest.approx(2 * 10 * (0.1 + 0.5 + 0.9) / 3)
    assert found.crps_climatology == pytest.approx(30.0)
    assert found.total_error == 240.0
    assert found.total_error_climatology == pytest.approx(720.0)
    assert found.total_error_yesterday == pytest.approx(720.0)


def test_what_lies_outside_the_published_band_counts(history):
    issued(history, 0, band=(131.0, 132.0, 140.0))
    assert score_day(history, HOUSE, "energy", DAY).coverage == 0.0


def test_a_day_without_forecasts_or_knowledge_has_no_score(history):
    assert score_day(history, HOUSE, "energy", DAY) is None
    issued(history, 48)
    assert score_day(history, HOUSE, "energy", DAY + timedelta(days=2)) is None


def test_the_board_scores_each_day_once_and_goes_on_after_a_restart(history):
    issued(history, 0)
    keeper = Keeper(history, HistoryLimits(), Health(HOUSE), is_replay=True)
    board = Scoreboard(HOUSE, keeper)
    end = START + 48 * HOUR
    assert [board.score_daily(end) for _ in range(3)] == [True, False, False]
    assert [score.day for score in board.scores["energy"]] == [DAY]
    again = Scoreboard(HOUSE, keeper)
    again.restore()
    assert again.scores == board.scores == {"energy": stored_scores(history, "energy")}
    again.score_daily(end)
    assert again.scores == board.scores


def test_spans_are_means_over_their_days_and_skill_is_of_the_means():
    days = [score(DAY + timedelta(days=i), mae=8.0, usual=8.0) for i in range(10)] + [
        score(DAY + timedelta(days=20), mae=4.0, usual=8.0, total=500.0)
    ]
    payload = score_payload(HOUSE, "energy", days, price=0.4, currency="EUR")
    week, month = payload["days_7"], payload["days_30"]
    assert (week["days"], week["mae"], week["skill_climatology"], week["skill_yesterday"]) == (1, 4.0, 0.5, 0.8)
    assert (month["days"], month["skill_climatology"]) == (11, pytest.approx(1 - 84 / 88, abs=1e-4))
    assert (week["day_total_error"], week["day_total_error_money"], payload["currency"]) == (500.0, 0.2, "EUR")
    assert "day_total_error_money" not in summary(days, 30)


def test_nothing_scored_yet_is_said_so():
    payload = score_payload(HOUSE, "energy", [], price=None, currency="EUR")
    assert (payload["last_day"], payload["days_7"], payload["days_30"]) == (None, None, None)
    assert score_lines([], unit="Wh", price=None, currency="EUR") == []


def test_people_are_told_in_words():
    lines = score_lines([score(DAY, total=500.0)], unit="Wh", price=0.3, currency="EUR")
    assert "mean error 5 Wh a step, 50% better than the plain average, 75% better than yesterday again; 80% within the band" in lines[0]
    assert "off by 500 Wh a day on average (0.15 EUR), the plain average by 500 Wh" in lines[1]
