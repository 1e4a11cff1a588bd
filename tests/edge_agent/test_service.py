"""The agent's loop, with a scripted broker and clock and a real history on disk."""

import contextlib
import json
import logging
import random
import re
import sqlite3
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, time
from threading import Event

import pytest

from edge_agent.config import read_settings
from edge_agent.contract import signing
from edge_agent.contract.bundle import read_bundle, read_files
from edge_agent.contract.errors import ConfigError, StorageError
from edge_agent.contract.schema import WeatherTopic, parse_house
from edge_agent.forecaster import Forecaster
from edge_agent.history import History
from edge_agent.issued import issued_between
from edge_agent.lineup import Lineup, Place
from edge_agent.mqtt import Message
from edge_agent.service import Service, subscriptions
from edge_agent.store import ModelStore

START = 1_780_264_800  # 2026-06-01 00:00 in Berlin
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}, {name = "warmth", sensor = "room"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh"},
  {name = "room", role = "indoor_temperature", topic = "zigbee2mqtt/room", field = "temperature"},
]
""",
    source="house.toml",
)


class ScriptedLink:
    """What the service sees of a broker: messages to come, and what was published."""

    problem = None
    is_drained = True
    n_unacknowledged = 0

    def __init__(self):
        self.connected = Event()
        self.incoming, self.published, self.republished, self.is_stopped = deque(), [], 0, False
        self.attempted = Event()
        self.attempted.set()

    def start(self):
        pass

    def stop(self):
        self.is_stopped = True

    def state(self):
        return {"refused_topics": []}

    def problems(self):
        return []

    def take(self, _timeout_s):
        if not self.incoming:
            return None
        self.n_unacknowledged += 1
        return self.incoming.popleft()

    def get(self, timeout_s):
        self.acknowledge()
        return self.take(timeout_s)

    def acknowledge(self):
        self.n_unacknowledged = 0

    def publish(self, topic, payload, **_options):
        self.published.append((topic, payload))

    def republish(self):
        self.republished += 1

    def subscribe(self, topics):
        self.subscribed = topics

    def unsubscribe(self, topics):
        self.unsubscribed = topics

    def on(self, topic):
        return [json.loads(payload) for seen, payload in self.published if seen == f"hearthcast/home/{topic}"]

    def origins(self, target="energy"):
        return [payload["origin"] for payload in self.on(f"forecast/{target}")]


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def agent(tmp_path):
    """Builds and starts services on one history; closes it at the end."""
    services = []

    def build(*, clock=None, lineup=None, **flags):
        settings = read_settings(None, flags={"state_dir": tmp_path, "replay_clock": clock is None, **flags})
        service = Service(
            HOUSE,
            settings,
            lineup=lineup or Lineup(HOUSE, settings),
            history=History(tmp_path / "history.db"),
            link=ScriptedLink(),
            wall=clock,
        )
        service.start()
        services.append(service)
        return service

    yield build
    for service in services:
        service.history.close()


def message(topic, unix_s, **fields):
    payload = {**fields, "last_seen": datetime.fromtimestamp(unix_s, UTC).isoformat()}
    return Message(f"zigbee2mqtt/{topic}", json.dumps(payload).encode(), retained=False, received_at=unix_s)


def hours(first, last):
    """A meter that counts 100 Wh an hour and a room at 20 degC, at the edges of these hours since START."""
    for hour in range(first, last + 1):
        yield message("meter", START + 3600 * hour, energy=round(500 + 0.1 * hour, 3))
        yield message("room", START + 3600 * hour, temperature=20.0)


def feed(service, messages):
    """Let the service work through `messages`."""
    service.link.incoming.extend(messages)
    while service.link.incoming:
        service.turn()


def utc(hour):
    return datetime.fromtimestamp(START + 3600 * hour, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_each_step_of_replayed_days_is_forecast(agent):
    service = agent()
    feed(service, hours(0, 50))
    assert service.link.origins() == [utc(hour) for hour in range(1, 50)]  # the 50th closes when something later is heard
    latest = service.link.on("forecast/energy")[-1]
    assert latest["grade"] == "baseline"
    assert [point["value"] for point in latest["forecast"]] == [pytest.approx(100.0)] * 24
    assert latest["totals"]["tomorrow"]["value"] == pytest.approx(2400.0)
    assert len(service.link.on("forecast/warmth")) == 49


def test_a_replayed_step_waits_for_the_grace_time(agent):
    service = agent()
    feed(service, [*hours(0, 1), message("room", START + 3600 + 4, temperature=20.0)])
    assert service.link.origins("warmth") == []
    feed(service, [message("room", START + 3600 + 5, temperature=20.0)])
    assert service.link.origins("warmth") == [utc(1)]


def test_forecasts_at_set_times_only(agent):
    service = agent(forecast_at=(time(6), time(18)))
    feed(service, hours(0, 49))
    assert service.link.origins() == [utc(hour) for hour in (6, 18, 30, 42)]
    assert len(service.link.on("health")) == 48


def test_live_steps_close_by_the_clock(agent):
    clock = Clock(START)
    service = agent(clock=clock)
    service.turn()
    feed(service, hours(0, 0))
    clock.now = START + 3600
    feed(service, hours(1, 1))
    assert service.link.origins() == []
    clock.now += 5
    service.turn()
    assert service.link.origins() == [utc(1)]
    assert service.link.on("health")[-1]["last_step"] == utc(1)


def test_the_broker_may_forget_a_message_only_when_its_reading_is_on_the_disk(agent, monkeypatch, tmp_path):
    service = agent(clock=Clock(START))
    link, forgotten = service.link, []

    def acknowledge():
        with contextlib.closing(sqlite3.connect(tmp_path / "history.db")) as other:
            forgotten.append((link.n_unacknowledged, other.execute("SELECT count(*) FROM readings").fetchone()[0]))
        link.n_unacknowledged = 0

    monkeypatch.setattr(link, "acknowledge", acknowledge)
    feed(service, hours(0, 0))
    assert forgotten == []  # more may come
    service.turn()
    assert forgotten == [(2, 2)]
    feed(service, [message("room", START - 60 * i, temperature=20.0) for i in range(1, 21)])
    assert forgotten == [(2, 2), (20, 22)]  # the broker would send no more


def test_of_overdue_live_forecasts_only_the_newest_is_made(agent):
    clock = Clock(START)
    service = agent(clock=clock)
    service.turn()
    feed(service, hours(0, 1))
    clock.now = START + 4 * 3600 + 10
    service.turn()
    assert service.link.origins() == [utc(4)]


def test_a_command_makes_a_forecast_now_and_a_retained_one_does_not(agent):
    service = agent(forecast_at=(time(23),))
    command = "hearthcast/home/cmd/forecast"
    feed(service, hours(0, 10))
    assert command in subscriptions(HOUSE, service.settings)
    feed(service, [Message(command, b"", retained=True, received_at=0.0)])
    assert service.link.origins() == []
    feed(service, [Message(command, b"please", retained=False, received_at=0.0)])
    assert service.link.origins() == [utc(9)]


def test_a_flood_of_commands_is_answered_together(agent, monkeypatch):
    monkeypatch.setattr("edge_agent.service.COMMAND_PACE_S", 3600.0)
    service = agent(forecast_at=(time(23),))
    feed(service, hours(0, 10))
    feed(service, [Message("hearthcast/home/cmd/forecast", b"", retained=False, received_at=0.0)] * 1000)
    assert service.link.origins() == [utc(9)]


def test_a_device_renamed_again_and_again_is_read_on_its_newest_topic_alone(agent):
    service = agent()
    for name in ("room", "lounge", "parlour"):
        devices = json.dumps([{"friendly_name": name, "ieee_address": "0x1"}]).encode()
        feed(service, [Message("zigbee2mqtt/bridge/devices", devices, retained=True, received_at=0.0)])
    assert "zigbee2mqtt/parlour" in service.link.subscribed
    assert {"zigbee2mqtt/lounge", "zigbee2mqtt/lounge/availability"} <= set(service.link.unsubscribed)
    assert not set(service.link.subscribed) & set(service.link.unsubscribed)


def test_a_command_before_the_first_step_changes_nothing(agent):
    service = agent()
    feed(service, [Message("hearthcast/home/cmd/forecast", b"", retained=False, received_at=0.0)])
    assert service.link.origins() == []


def test_a_forecaster_that_breaks_does_not_silence_the_others(agent, caplog, tmp_path):
    class Broken(Forecaster):
        def forecast(self, *_args, **_options):
            raise ValueError("no good")

    lineup = Lineup(HOUSE, read_settings(None, flags={"state_dir": tmp_path}))
    lineup.places[0] = Place("energy", Broken(HOUSE, None, target="energy"))
    service = agent(lineup=lineup)
    feed(service, hours(0, 5))
    assert service.link.origins("warmth") == [utc(hour) for hour in range(1, 5)]
    health = service.link.on("health")[-1]
    assert health["failures"] == {"forecast energy": 4}
    assert health["problems"] == ["forecast energy fails: ValueError: no good"]
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_nothing_known_of_a_target_is_no_failure(agent):
    service = agent()
    feed(service, [m for m in hours(0, 3) if m.topic.endswith("room")])
    health = service.link.on("health")[-1]
    assert service.link.origins("warmth") == [utc(1), utc(2)]
    assert service.link.origins("energy") == []
    assert "energy" in health["waiting"]
    assert health["failures"] == {}


def test_home_assistants_birth_is_answered_with_everything(agent, monkeypatch):
    monkeypatch.setattr("edge_agent.service.BIRTH_WAIT_S", (0.0, 0.0))
    service = agent()
    feed(service, [Message("homeassistant/status", b"offline", retained=False, received_at=0.0)])
    service.turn()
    assert service.link.republished == 0
    feed(service, [Message("homeassistant/status", b"online", retained=False, received_at=0.0)])
    service.turn()
    assert service.link.republished == 1


def test_a_restart_goes_on_where_the_last_run_stopped(agent):
    whole = agent()
    feed(whole, hours(0, 60))
    expected = {p["origin"]: p for p in whole.link.on("forecast/energy")}
    whole.history.close()
    whole.history.path.unlink()

    first = agent()
    feed(first, [*hours(0, 30), message("meter", START + 30 * 3600 + 600, energy=503.02)])
    first.stop()
    second = agent()
    feed(second, hours(31, 60))
    assert second.link.origins()[0] == utc(31)
    known = {p["origin"]: p for p in [*first.link.on("forecast/energy"), *second.link.on("forecast/energy")]}
    assert known[utc(60 - 1)]["forecast"] == expected[utc(60 - 1)]["forecast"]
    second.stop()
    with second.history as history:
        assert history.series(HOUSE.features, START, START + 59 * 3600, 3600).column("meter").tolist() == pytest.approx([100.0] * 59)


def test_a_live_restart_forecasts_at_once(agent):
    clock = Clock(START)
    first = agent(clock=clock)
    first.turn()
    for hour in range(1, 4):
        clock.now = START + 3600 * hour + 10
        feed(first, hours(hour - 1, hour))
    first.stop()
    second = agent(clock=clock)
    second.turn()
    assert second.link.origins() == [utc(3)]
    assert second.link.on("health")[-1]["forecasts"] == 2


def test_a_full_disk_stops_no_forecast_and_loses_nothing_when_it_has_room_again(agent, monkeypatch):
    service = agent()
    feed(service, hours(0, 4))
    monkeypatch.setattr("edge_agent.keeping.RETRY_SAVE_S", 0.0)
    monkeypatch.setattr("edge_agent.keeping.REPLAY_SAVE_EVERY_S", 0.0)
    service.keeper._save_at = 0.0
    with monkeypatch.context() as broken:

        def refuse(*_args, **_options):
            raise StorageError("disk full")

        broken.setattr(service.history, "close_steps", refuse)
        feed(service, hours(5, 10))
        assert service.link.origins()[-1] == utc(9)
        assert "history fails: StorageError: disk full" in service.link.on("health")[-1]["problems"]
    feed(service, hours(11, 12))
    assert service.history.series(HOUSE.features, START, START + 11 * 3600, 3600).column("meter").tolist() == pytest.approx([100.0] * 11)
    feed(service, hours(13, 13))
    assert service.link.on("health")[-1]["problem"] is False


def test_issued_forecasts_are_stored_by_the_hour(agent):
    service = agent()
    feed(service, hours(0, 30))
    service.stop()
    assert service.link.is_stopped
    with service.history as history:
        stored = history.forecasts("energy", START)
    assert [f.origin for f in stored] == [START + 3600 * hour for hour in range(1, 30)]
    assert (stored[-1].payload["unit"], stored[-1].payload["step_s"]) == ("Wh", 3600)


def test_issued_forecasts_are_stored_whole(agent):
    service = agent()
    feed(service, hours(0, 30))
    service.stop()
    with service.history as history:
        issued = issued_between(history, "energy", START, START + 30 * 3600)
    assert [f.origin for f in issued] == [START + 3600 * hour for hour in range(1, 30)]
    latest = issued[-1]
    assert (latest.model, latest.role, latest.grade, latest.quantiles.shape) == (service.lineup.live[0].model_id, "live", "baseline", (24, 9))
    assert latest.total.value == pytest.approx(2400.0)
    assert latest.mean.tolist() == pytest.approx([100.0] * 24)


def test_another_threads_death_ends_the_loop(agent):
    service = agent()
    service.crash = RuntimeError("network thread")
    with pytest.raises(RuntimeError, match="network thread"):
        service.run()
    assert not service.link.is_stopped  # so that the broker publishes the will


def test_what_an_earlier_configuration_announced_is_removed(agent):
    announced = {}
    for form in ("device", "device", "single", "off"):
        service = agent(discovery=form)
        announced = [(topic, payload) for topic, payload in service.link.published if topic.startswith("homeassistant/")]
        if form == "device":
            assert [(topic, bool(payload)) for topic, payload in announced] == [("homeassistant/device/hearthcast_home/config", True)]
        elif form == "single":
            assert announced[0] == ("homeassistant/device/hearthcast_home/config", b"")
            assert all(payload for _, payload in announced[1:])
        service.history.close()
    assert "homeassistant/sensor/hearthcast_home/energy_tomorrow/config" in dict(announced)
    assert not any(payload for _, payload in announced)


def test_two_bundles_for_one_target_are_refused(tmp_path, tiny_bundle):
    settings = read_settings(None, flags={"state_dir": tmp_path, "bundles": (tiny_bundle, tiny_bundle), "allow_unsigned": True})
    with pytest.raises(ConfigError, match="a second bundle for target 'energy'"):
        Lineup(HOUSE, settings)


def test_a_bundle_forecasts_its_target_and_what_ships_the_rest(tmp_path, tiny_bundle):
    settings = read_settings(None, flags={"state_dir": tmp_path, "bundles": (tiny_bundle,), "allow_unsigned": True})
    assert [f.identity["name"] for f in Lineup(HOUSE, settings).live] == ["tiny", "naive-mixture"]


class Asking(Forecaster):
    """Notes the first temperature of the weather forecast that it is given at each origin."""

    def forecast(self, series, origin, *, issued_at, weather):
        self.told = [*getattr(self, "told", []), weather.ahead([origin], horizon=1, step_s=3600, roles=["outdoor_temperature"])[0, 0, 0].item()]
        return super().forecast(series, origin, issued_at=issued_at, weather=weather)


def forecast_of(temperature, *, hour, retained=False):
    times = [utc(hour + ahead) for ahead in range(48)]
    payload = {"time": times, "temperature_2m": [temperature] * 48}
    return Message("weather/home", json.dumps(payload).encode(), retained=retained, received_at=START + 3600 * hour)


def test_the_weather_forecast_is_used_from_the_next_origin_on_and_after_a_restart(tmp_path):
    source = WeatherTopic("outdoor_temperature", "weather/home", "temperature_2m", "degC")
    house, settings = replace(HOUSE, weather=(source,)), read_settings(None, flags={"state_dir": tmp_path, "replay_clock": True})
    assert "weather/home" in subscriptions(house, settings)
    told = []
    for first, last in ((0, 4), (5, 8)):
        forecaster = Asking(house, None, target="energy")
        lineup = Lineup(house, settings)
        lineup.places[0] = Place("energy", forecaster)
        service = Service(house, settings, lineup=lineup, history=History(tmp_path / "history.db"), link=ScriptedLink())
        service.start()
        if first == 0:
            feed(service, [*hours(0, 2), forecast_of(5.0, hour=2), *hours(3, 4)])
        else:
            feed(service, [forecast_of(5.0, hour=2, retained=True), *hours(first, last)])
        service.stop()
        told += forecaster.told
    assert [value for value in told if value == value] == [5.0] * (len(told) - 1)  # nothing was known at the first origin
    assert len(told) >= 6


def test_a_damaged_weather_forecast_is_counted_and_harms_nothing(agent, tmp_path):
    source = WeatherTopic("outdoor_temperature", "weather/home", "temperature_2m", "degC")
    settings = read_settings(None, flags={"state_dir": tmp_path, "replay_clock": True})
    house = replace(HOUSE, weather=(source,))
    service = Service(house, settings, lineup=Lineup(house, settings), history=History(tmp_path / "history.db"), link=ScriptedLink())
    service.start()
    feed(service, [*hours(0, 1), Message("weather/home", b"no JSON", retained=False, received_at=0.0), *hours(2, 3)])
    assert service.link.on("health")[-1]["rejected"] == {"weather/home: not a JSON list or object": 1}
    assert len(service.link.origins()) == 2
    service.stop()


def test_bands_are_corrected_as_published_not_as_stored_and_after_a_restart(agent):
    dice, count = random.Random(2), 500_000
    service, uses = agent(), []
    for hour in range(24 * 12):
        count += dice.randrange(50, 150) if hour < 24 * 8 else dice.randrange(0, 400)  # the habits change
        uses.append(message("meter", START + 3600 * hour, energy=round(count / 1000, 3)))
    feed(service, uses)
    service.stop()
    published = service.link.on("forecast/energy")[-1]["forecast"]
    with service.history as history:
        stored = issued_between(history, "energy", START, START + 3600 * 24 * 13)[-1].quantiles
        assert history.state("correction energy")["looked_until"] == "2026-06-10"
    width = sum(row["p90"] - row["p10"] for row in published)
    assert width > 1.05 * float((stored[:, -1] - stored[:, 0]).sum())
    again = agent()
    again.link.incoming.append(Message("hearthcast/home/cmd/forecast", b"", retained=False, received_at=0.0))
    feed(again, uses[-2:])
    again._forecast_all(again.recent.end)
    assert again.link.on("forecast/energy")[-1]["forecast"] == published


def test_scores_are_published_when_their_day_has_passed_and_again_after_a_restart(agent):
    service = agent()
    assert service.link.on("score/energy")[-1]["days_7"] is None
    feed(service, hours(0, 24 * 4 + 2))  # three days and those after them have passed; half of the first has a yesterday
    score = service.link.on("score/energy")[-1]
    assert (score["last_day"], score["days_7"]["days"], score["days_7"]["mae"], score["days_7"]["coverage"]) == ("2026-06-03", 3, 0.0, 1.0)
    assert service.link.on("score/warmth")[-1]["unit"] == "degC"
    service.stop()
    assert agent().link.on("score/energy") == [score]


def test_a_new_house_is_told_at_once_what_it_waits_for_and_until_when(agent):
    service = agent(clock=Clock(START + 1800.0))
    service.turn()
    health = service.link.on("health")[-1]
    assert health["waiting"]["energy"] == f"no full step of meter is known yet: waiting until {utc(2)[:-3]}05Z"
    assert health["problem"] is False
    service.history.close()
    replayed = agent()
    feed(replayed, hours(0, 2))
    assert "only 1 full steps of meter are known" in replayed.link.on("health")[-1]["waiting"]["energy"]


# models over the air


@pytest.fixture
def put_in(tmp_path, make_bundle, monkeypatch, signing_key):
    """Installs a bundle that forecasts the climatology times `factor`, as another program would; returns its id."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    signing.trust(signing_key.with_suffix(".pub").read_text(), folder=signing.trusted_folders()[-1], name="workstation")
    store = ModelStore(tmp_path)

    def put(factor, *, days, hour=0):
        path = make_bundle(f"times {factor}", factor=factor)
        model = read_bundle(path).manifest.id
        with store.locked():
            standing = store.standing("energy").with_installed(model, created_at="2026-01-01T00:00:00Z", now=START + 3600 * hour, days=days)
            store.add("energy", model, read_files(path))
            store.save("energy", standing)
        return model

    return put


def meter_hours(first, last, *, count_wh, use_wh=100):
    """As `hours`, from another reading of the meter on."""
    for hour in range(first, last + 1):
        count_wh += use_wh
        yield message("meter", START + 3600 * hour, energy=round(count_wh / 1000, 3))
        yield message("room", START + 3600 * hour, temperature=20.0)


def test_a_model_takes_over_when_it_is_no_worse_and_the_one_before_comes_back_when_it_falls_behind(agent, put_in):
    doubling = put_in(2.0, days=0)
    honest = put_in(1.0, days=2)
    service = agent(forecast_at=(time(6), time(18)))
    feed(service, hours(0, 24 * 4 + 3))  # June 5, 03:00: June 2 and 3 have passed, and the day after each
    live = [forecast["forecast"][0]["value"] for forecast in service.link.on("forecast/energy")]
    assert live == [pytest.approx(100.0)] + [pytest.approx(200.0)] * 7  # by the climatology while too little is known
    assert service.lineup.live[0].model_id == honest
    assert service.link.on("model")[-1]["models"]["energy"]["id"] == honest
    assert service.link.on("model")[-1]["models"]["energy"]["shadow"]["id"] == doubling
    assert f"{honest} took over from {doubling}: its score is no worse, 0 beside 100 over 2 days" in service.link.on("health")[-1]["events"][-1]

    feed(service, hours(24 * 4 + 4, 24 * 20))
    assert service.lineup.live[0].model_id == honest
    told = service.link.on("model")[-1]["models"]["energy"]["shadow"]  # June 6 to 18 at the beginning of June 20
    assert (told["candidate"], told["days_compared"], told["score"], told["current_score"]) == (False, 13, pytest.approx(100.0), pytest.approx(0.0))
    feed(service, meter_hours(24 * 20 + 1, 24 * 30, count_wh=500 * 1000 + 100 * 24 * 20, use_wh=200))  # a heat pump moves in
    assert service.lineup.live[0].model_id == doubling
    assert service.lineup.shadows == []
    assert f"stepped back from {honest} to {doubling}: its score fell behind" in service.link.on("health")[-1]["events"][-1]
    assert "shadow" not in service.link.on("model")[-1]["models"]["energy"]


def test_a_running_agent_sees_what_is_installed_and_reads_what_it_needs_from_the_history(agent, put_in, caplog):
    service = agent()
    feed(service, hours(0, 30))
    assert [feature.name for feature in service.recent.features] == ["meter", "room"]  # the room is a target of its own
    model = put_in(1.5, days=7, hour=30)
    with caplog.at_level(logging.INFO):
        feed(service, hours(31, 33))
    assert any(re.match("the models changed: energy by .*, in shadow tiny", record.getMessage()) for record in caplog.records)
    assert service.link.on("model")[-1]["models"]["energy"]["shadow"]["id"] == model
    service.stop()
    with service.history as history:
        shadows = [f for f in issued_between(history, "energy", START, START + 40 * 3600) if f.role == "shadow"]
    assert [(f.origin, f.model, f.grade) for f in shadows] == [(START + 3600 * hour, model, "full") for hour in (30, 31, 32)]
    assert shadows[0].mean.tolist() == [pytest.approx(150.0)] * 24
    assert len(service.link.origins()) == 32


def test_a_sensor_that_only_the_new_model_reads_is_known_to_it_at_once(tmp_path, put_in, monkeypatch):
    monkeypatch.setattr("edge_agent.lineup.base_forecaster", lambda house, target: Forecaster(house, None, target=target))
    house = replace(HOUSE, targets=HOUSE.targets[:1])
    settings = read_settings(None, flags={"state_dir": tmp_path, "replay_clock": True})
    service = Service(house, settings, lineup=Lineup(house, settings), history=History(tmp_path / "history.db"), link=ScriptedLink())
    service.start()
    feed(service, hours(0, 30))
    assert [feature.name for feature in service.recent.features] == ["meter"]
    put_in(1.5, days=7)
    feed(service, hours(31, 32))
    after = service.recent.series()
    assert [feature.name for feature in after.features] == ["meter", "room"]
    assert after.column("room")[-31:].tolist() == [20.0] * 31
    assert after.column("meter")[-31:].tolist() == pytest.approx([100.0] * 31)
    service.stop()


def test_a_model_that_cannot_be_used_is_a_problem_and_costs_no_forecast(agent, put_in, tmp_path):
    service = agent()
    feed(service, hours(0, 4))
    model = put_in(1.5, days=0)
    (tmp_path / "models" / "energy" / model / "model.onnx").write_bytes(b"rot")
    feed(service, hours(5, 7))
    assert len(service.link.origins()) == 6
    (problem,) = service.link.on("health")[-1]["problems"]
    assert problem.startswith(f"model {model} of energy cannot be used: ")


def test_a_disk_that_takes_nothing_keeps_the_models_as_they_are(agent, put_in, monkeypatch):
    service = agent()
    feed(service, hours(0, 4))
    with monkeypatch.context() as broken:
        broken.setattr(service.keeper, "save", lambda: False)
        put_in(1.5, days=7)
        feed(service, hours(5, 7))
        assert (service.lineup.shadows, service.lineup.is_outdated, len(service.link.origins())) == ([], True, 6)
    feed(service, hours(8, 9))
    assert [f.identity["name"] for f in service.lineup.shadows] == ["tiny"]
