"""The agent when its clock is set, wrong or missing: no step twice, none left out, totals right. True time is what the boot clock counts."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge_agent.clock import CONFIRM_S
from edge_agent.config import read_settings
from edge_agent.contract.schema import WeatherTopic, parse_house
from edge_agent.contract.weather import WeatherForecast
from edge_agent.history import History
from edge_agent.lineup import Lineup
from edge_agent.mqtt import Message
from edge_agent.service import Service
from edge_agent.weather import WeatherMemory
from tests.edge_agent.test_service import ScriptedLink

STEP = 600
START = 1_780_264_800  # 2026-06-01 00:00 in Berlin
DAY = 86_400
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 600
targets = [{name = "energy", sensor = "meter"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh", resolution = 0},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature"},
]
""",
    source="house.toml",
)
"""360 W, 60 Wh a step, and a temperature that is the hour of true time."""


WEATHER = "weather/home"


class Home:
    """A machine with an agent, and sensors that send every minute of true time."""

    def __init__(self, folder, *, last_seen=None, house=HOUSE):
        self.house = house
        self.true, self.ahead, self.last_seen, self.folder = float(START), 0.0, last_seen, folder
        self.service = None

    def wall(self):
        return self.true + self.ahead

    def boot(self):
        return self.true - START + 5000.0

    def start(self):
        settings = read_settings(None, flags={"state_dir": self.folder})
        lineup = Lineup(self.house, settings)
        history = History(self.folder / "history.db")
        self.service = Service(self.house, settings, lineup=lineup, history=history, link=ScriptedLink(), wall=self.wall, boot=self.boot)
        self.service.start()

    def stop(self):
        self.service.stop()

    def say(self, topic, **fields):
        if self.last_seen is not None:
            seen = self.wall() if self.last_seen == "same machine" else self.true
            fields["last_seen"] = datetime.fromtimestamp(max(seen, 0), UTC).isoformat()
        payload = json.dumps(fields).encode()
        self.service.link.incoming.append(Message(f"zigbee2mqtt/{topic}", payload, retained=False, received_at=self.wall(), boot_s=self.boot()))

    def forecast_weather(self, temperature):
        """As a weather service on another machine forecasts it: its times are right."""
        times = [datetime.fromtimestamp(self.true // 3600 * 3600 + 3600 * hour, UTC).isoformat() for hour in range(48)]
        payload = json.dumps({"time": times, "temperature_2m": [temperature] * 48}).encode()
        self.service.link.incoming.append(Message(WEATHER, payload, retained=False, received_at=self.wall(), boot_s=self.boot()))
        self.run(1)

    def weather_now(self):
        """Temperature that is forecast for the next hour."""
        forecasts = self.service.weather.forecasts()
        return forecasts.ahead(np.array([int(self.true)]), horizon=1, step_s=3600, roles=["outdoor_temperature"])[0, 0, 0].item()

    def run(self, minutes, *, heard=True):
        for _ in range(minutes):
            self.true += 60.0
            if heard:
                self.say("meter", energy=500 + 0.36 * (self.true - START) / 3600)
                self.say("room", temperature=(self.true - START) / 3600)
            self.service.turn()
            while self.service.link.incoming:
                self.service.turn()

    def steps(self, n):
        """Energy and temperature of the first steps, as stored."""
        with History(self.folder / "history.db") as history:
            values = history.series(HOUSE.features, START, START + n * STEP, STEP).values
            (rows,) = history.rows("SELECT count(*) FROM steps WHERE time >= ?", START + n * STEP)
        return values, rows[0]


def assert_whole(home, n, *, unknown=()):
    """The first `n` steps are there, once each, and right; nothing is stored after them."""
    values, later = home.steps(n)
    known = np.array([i not in unknown for i in range(1, n)])
    assert values[1:][known, 0] == pytest.approx(60.0, abs=0.5)
    middles = (np.arange(1, n) * STEP + STEP / 2) / 3600
    assert np.abs(values[1:][known, 1] - middles[known]).max() < 0.02
    assert later <= 2  # the step that closed last


@pytest.fixture(params=[None, "same machine", "another machine"])
def home(request, tmp_path):
    home = Home(tmp_path, last_seen=request.param)
    home.start()
    home.run(70)
    return home


@pytest.mark.parametrize("by", [3600, -3600, DAY, -DAY, -START])
def test_a_clock_set_for_some_minutes_changes_nothing(home, by):
    home.ahead = by
    home.run(int(CONFIRM_S / 60) - 2)
    assert any("the clock was set by" in p for p in home.service.health.problems(home.true))
    home.ahead = 0
    home.run(60)
    home.stop()
    assert_whole(home, 13)
    assert not home.service.health.events


@pytest.mark.parametrize("by", [3600, DAY, 3 * DAY + 1234])
@pytest.mark.parametrize("minutes", [15, 200])
def test_what_a_clock_ahead_has_closed_is_closed_again_when_it_is_set_back(home, by, minutes):
    is_contradicted = home.last_seen == "another machine"
    home.ahead = by
    home.run(minutes)
    assert (home.service.builder.open_from > home.true) is not is_contradicted
    home.ahead = 0
    home.run(int(CONFIRM_S / 60) + 30)
    home.stop()
    assert_whole(home, int((home.true - START) // STEP) - 1)
    assert any("are closed again: the clock was ahead" in event for event in home.service.health.events) is not is_contradicted


@pytest.mark.parametrize("by", [-3600, -DAY])
def test_a_clock_set_back_for_hours_and_right_again_takes_no_step_back(home, by):
    home.stop()
    home.start()  # so that this run's beginning explains nothing
    home.run(2)
    home.ahead = by
    home.run(200)
    home.ahead = 0
    home.run(40)
    home.stop()
    assert_whole(home, int((home.true - START) // STEP) - 1)
    assert not home.service.health.events


def test_a_board_whose_clock_stood_still_waits_for_a_time_server_and_takes_no_step_back(tmp_path):
    home = Home(tmp_path)
    home.start()
    home.run(70)
    home.stop()
    home.ahead = -3600  # as it was when it last saved it; the router is not up yet
    home.start()
    home.run(90)
    assert home.service.clock.now() is None
    assert "before the last step in the history" in home.service.clock.problem
    home.ahead = 0
    home.run(30)
    home.stop()
    assert_whole(home, int((home.true - START) // STEP) - 1)


def test_a_clock_that_was_an_hour_ahead_from_the_start_is_mended_throughout(tmp_path):
    home = Home(tmp_path)
    home.ahead = 3600
    home.start()
    home.run(100)
    home.ahead = 0
    home.run(int(CONFIRM_S / 60) + 30)
    home.stop()
    assert_whole(home, int((home.true - START) // STEP) - 1)


def test_a_board_without_a_battery_begins_when_its_clock_is_set(tmp_path):
    home = Home(tmp_path, last_seen="same machine")
    home.ahead = -START
    home.start()
    home.run(35)
    assert home.service.builder.open_from is None
    assert "stands at 1970-01-01T00:01:00Z" in home.service.link.on("health")[0]["problems"][0]
    home.ahead = 0
    home.run(45)
    home.stop()
    values, _ = home.steps(7)
    assert values[4:, 0] == pytest.approx(60.0)
    assert home.service.link.on("health")[1]["problem"] is False


def test_what_came_before_the_clock_was_set_is_of_its_true_time(tmp_path):
    home = Home(tmp_path)
    home.start()
    home.run(25)
    home.stop()
    home.ahead = -START  # power fails; it comes back without a clock
    home.start()
    home.run(40)
    home.ahead = 0
    home.run(30)
    home.stop()
    assert_whole(home, 8)


def test_a_restart_in_the_future_waits_and_is_mended(tmp_path):
    home = Home(tmp_path)
    home.start()
    home.run(70)
    home.ahead = DAY
    home.run(30)
    home.stop()
    home.ahead = 0
    home.start()
    home.run(3)
    assert home.service.clock.now() is None
    home.run(int(CONFIRM_S / 60) + 30)
    home.stop()
    assert_whole(home, int((home.true - START) // STEP) - 1)


def test_a_restart_takes_what_the_broker_had_kept_before_it_closes_steps(tmp_path):
    home = Home(tmp_path, last_seen="another machine")
    home.start()
    home.run(70)
    home.stop()
    away = []
    for _ in range(45):  # QoS 1, and the agent is away
        home.true += 60.0
        seen = datetime.fromtimestamp(home.true, UTC).isoformat()
        for topic, fields in (("meter", {"energy": 500 + 0.36 * (home.true - START) / 3600}), ("room", {"temperature": (home.true - START) / 3600})):
            away.append((topic, {**fields, "last_seen": seen}))
    home.start()
    link = home.service.link
    link.is_drained = False
    home.service.turn()
    assert home.service.builder.open_from == START + 6 * STEP
    for topic, fields in away:
        link.incoming.append(
            Message(f"zigbee2mqtt/{topic}", json.dumps(fields).encode(), retained=False, received_at=home.wall(), boot_s=home.boot())
        )
    while link.incoming:
        home.service.turn()
    assert home.service.builder.open_from == START + 6 * STEP
    link.is_drained = True
    home.run(20)
    home.stop()
    assert_whole(home, 12)


def test_what_a_life_without_a_closed_step_has_heard_counts_in_the_next(tmp_path):
    home = Home(tmp_path)
    home.start()
    home.run(9)
    home.stop()
    home.start()
    home.run(3)
    home.stop()
    values, _ = home.steps(1)
    assert np.isnan(values).all()  # it was over before anybody could close it
    home.start()
    home.run(10)
    home.stop()
    values, _ = home.steps(2)
    assert values[1] == pytest.approx([60.0, 0.25], abs=0.02)


def back_after_an_hour_without_a_broker(tmp_path):
    """A home whose agent has just begun again, with steps that are overdue."""
    home = Home(tmp_path)
    home.start()
    home.run(30)
    home.stop()
    home.true += 3600
    home.start()
    home.service.link.is_drained = False
    home.service.link.connected.clear()
    return home


def test_the_first_forecast_waits_for_the_weather_that_the_broker_has_kept(tmp_path):
    home = Home(tmp_path, house=replace(HOUSE, weather=(WeatherTopic("outdoor_temperature", WEATHER, "temperature_2m", "degC"),)))
    home.start()
    home.run(30)
    home.stop()
    home.start()  # no step is overdue
    link = home.service.link
    link.is_drained = False
    home.service.turn()
    assert link.origins() == []
    home.forecast_weather(15.0)
    link.is_drained = True
    home.service.turn()
    assert link.origins()
    home.stop()


def test_steps_do_not_wait_for_ever_for_a_broker(tmp_path):
    home = back_after_an_hour_without_a_broker(tmp_path)
    home.service.turn()
    home.run(1, heard=False)
    assert home.service.link.origins() == []
    home.run(1, heard=False)
    assert len(home.service.link.origins()) >= 1


def test_a_broker_that_comes_late_is_given_time_to_hand_out_what_it_kept(tmp_path):
    home = back_after_an_hour_without_a_broker(tmp_path)
    link = home.service.link
    for _ in range(5):
        home.true += 10.0
        home.service.turn()
    link.connected.set()  # 50 s after the start
    home.true += 20.0
    home.service.turn()
    assert link.origins() == []
    home.true += 20.0
    home.service.turn()
    assert len(link.origins()) >= 1


@pytest.mark.parametrize("damage", ['{"open_from": "x"}', "[1]", '{"step_s": 600, "open_from": 1, "meters": 3, "repairs": []}', None])
def test_a_damaged_open_step_is_built_again_from_its_readings(tmp_path, damage):
    home = Home(tmp_path)
    home.start()
    home.run(74)
    home.stop()
    with History(tmp_path / "history.db") as history, history.transaction() as db:
        if damage is None:
            db.execute("DELETE FROM state WHERE key = 'builder'")
        else:
            db.execute("UPDATE state SET value = ? WHERE key = 'builder'", (damage,))
    home.start()
    home.run(60)
    home.stop()
    assert_whole(home, 12)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("by", [3600, 30 * DAY])
def test_weather_forecasts_that_came_while_the_clock_was_ahead_bar_no_later_ones(tmp_path, by, restarts):
    home = Home(tmp_path, house=replace(HOUSE, weather=(WeatherTopic("outdoor_temperature", WEATHER, "temperature_2m", "degC"),)))
    home.start()
    home.forecast_weather(5.0)
    home.run(30)
    home.ahead = by
    home.run(20)
    home.forecast_weather(15.0)  # issued in the future, says the clock
    home.run(20)
    home.ahead = 0
    home.run(int(CONFIRM_S / 60) + 2)
    if restarts:
        home.stop()
        home.start()
        home.run(1)
    assert home.weather_now() == 15.0
    home.run(20)
    home.forecast_weather(25.0)
    assert home.weather_now() == 25.0
    home.stop()


def test_weather_forecasts_of_a_clock_ahead_bar_no_later_ones_where_the_disk_takes_no_correction():
    memory = WeatherMemory([WeatherForecast("outdoor_temperature", START + 30 * DAY, np.array([START]), np.array([15.0]))], step_s=600)
    assert memory.take(WeatherForecast("outdoor_temperature", START, np.array([START]), np.array([25.0])), retained=False, now=START)
    assert memory.forecasts().newest("outdoor_temperature", START + 31 * DAY).values == [25.0]
