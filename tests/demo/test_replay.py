import json
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from demo.replay import CLOSING_S, Connection, messages, replay
from demo.simulate import simulate_house, simulated_house
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.steps import StepBuilder
from edge_agent.zigbee import Decoder

START = 1_767_225_600
"""2026-01-01 00:00 UTC."""

HOUSE = """
site = "test"
time_zone = "Europe/Berlin"
[[targets]]
name = "energy"
sensor = "mains"
[[sensors]]
name = "mains"
role = "energy"
topic = "zigbee2mqtt/meter"
field = "energy"
topic_unit = "kWh"
[[sensors]]
name = "temperature"
role = "indoor_temperature"
topic = "zigbee2mqtt/room"
field = "temperature"
[[sensors]]
name = "humidity"
role = "indoor_humidity"
topic = "zigbee2mqtt/room"
field = "air.humidity"
[[sensors]]
name = "noise"
role = "other"
topic = "random/number"
"""


def house_and_series(values):
    house = parse_house(HOUSE, source="house.toml")
    return house, Series(START, 600, house.features, np.array(values, dtype=np.float64))


def sent(values, **options):
    house, series = house_and_series(values)
    return [(m.time - START, m.topic, json.loads(m.payload)) for m in messages(series, house, **options)]


def test_counter_rises_at_the_end_of_the_step_and_states_are_sent_at_its_start():
    heard = sent([[60.0, 20.5, 45.0, 7.0], [30.5, 21.0, 44.0, 8.0]])
    meter = [(time, payload["energy"]) for time, topic, payload in heard if topic == "zigbee2mqtt/meter"]
    room = [(time, payload["temperature"], payload["air"]["humidity"]) for time, topic, payload in heard if topic == "zigbee2mqtt/room"]
    assert meter[:3] == [(0, 1000.0), (600, 1000.06), (1200, 1000.0905)]
    assert room[:2] == [(0, 20.5, 45.0), (600, 21.0, 44.0)]


def test_message_looks_like_zigbee2mqtt_s():
    _, _, payload = next(m for m in sent([[60.0, 20.5, 45.0, 7.0]]) if m[1] == "zigbee2mqtt/room")
    assert payload["last_seen"] == "2026-01-01T00:00:00.000Z"
    assert 0 <= payload["linkquality"] <= 255
    assert {"temperature", "air", "linkquality", "last_seen"} == set(payload)


def test_topic_without_field_carries_the_bare_number_and_comes_last():
    heard = sent([[60.0, 20.5, 45.0, 7.0]])
    assert [m[1:] for m in heard if m[0] == 0][-1] == ("random/number", 7.0)


def test_counter_can_be_rounded_as_plugs_do():
    heard = sent([[64.0, 20.5, 45.0, 7.0], [30.0, 20.5, 45.0, 7.0]], counter_decimals=2)
    assert [p["energy"] for _, topic, p in heard if topic == "zigbee2mqtt/meter"][:3] == [1000.0, 1000.06, 1000.09]


def test_one_later_message_closes_the_last_step():
    time, _, payload = sent([[60.0, 20.5, 45.0, 7.0]])[-1]
    assert time == 600 + CLOSING_S
    assert payload["last_seen"] == "2026-01-01T00:10:30.000Z"


def test_device_of_which_nothing_is_known_is_silent():
    nan = np.nan
    heard = sent([[60.0, 20.5, 45.0, 7.0], [nan, nan, nan, nan], [30.0, 21.0, 44.0, nan]])
    assert [t for t, topic, _ in heard if topic == "zigbee2mqtt/room"] == [0, 1200, 1800]
    assert [(t, p["energy"]) for t, topic, p in heard if topic == "zigbee2mqtt/meter"][:3] == [(0, 1000.0), (600, 1000.06), (1800, 1000.09)]


def test_sensor_known_in_part_sends_null_for_the_rest():
    _, _, payload = next(m for m in sent([[60.0, 20.5, np.nan, 7.0]]) if m[1] == "zigbee2mqtt/room")
    assert payload["temperature"] == 20.5
    assert payload["air"]["humidity"] is None


def test_power_and_interval_topics_carry_watts_and_the_energy_of_the_step_before():
    house, series = house_and_series([[60.0, 20.5, 45.0, 7.0], [30.0, 21.0, 44.0, 8.0]])
    meter = house.sensor("mains")
    for form, unit, expected in (("power", "W", [360.0, 180.0, 180.0]), ("interval", "Wh", [60.0, 30.0])):
        changed = replace(house, sensors=(replace(meter, topic_form=form, topic_unit=unit),))
        heard = [json.loads(m.payload)["energy"] for m in messages(series, changed)]
        assert heard[: len(expected)] == expected


def test_messages_come_in_the_order_of_time():
    times = [m.time for m in messages(simulate_house(1, 2), simulated_house())]
    assert times == sorted(times)


def agent_sees(stream, house, *, wanted):
    """What the agent's decoder and step builder make of messages, as `wanted` is laid out."""
    decoder, builder, clock, steps = Decoder(house), StepBuilder(house), 0.0, []
    for message in stream:
        for reading in decoder.decode(message.topic, message.payload.encode(), received_at=None, retained=False):
            builder.add(reading)
            clock = max(clock, reading.time)
        steps += builder.close_until(clock)
    if len(steps) < len(wanted):  # a step's own energy is waited for until the next step is over
        steps += builder.close_until(clock + wanted.step_s)[:1]
    assert [step.time for step in steps] == wanted.times.tolist()
    assert not builder.dropped
    return np.array([[step.values[name] for name in wanted.names] for step in steps])


@pytest.mark.parametrize("step_s", [600, 3600])
def test_agent_gets_back_the_series_that_was_sent(step_s):
    house = replace(simulated_house(), step_s=step_s)
    series = simulate_house(3, 12, step_s=step_s)
    np.testing.assert_allclose(agent_sees(messages(series, house), house, wanted=series), series.values, rtol=1e-9, atol=2e-9)


@pytest.mark.parametrize(("form", "unit"), [("power", "kW"), ("interval", "kWh")])
def test_agent_gets_back_energy_sent_as_power_or_by_interval(form, unit):
    whole = simulated_house()
    house = replace(whole, sensors=(replace(whole.sensor("energy"), topic_form=form, topic_unit=unit), *whole.sensors[2:]))
    series = simulate_house(3, 2).select(tuple(s.name for s in house.sensors))
    np.testing.assert_allclose(agent_sees(messages(series, house), house, wanted=series), series.values, rtol=1e-9, atol=2e-9)


def test_order_of_messages_at_one_instant_does_not_matter():
    house, series, dice = simulated_house(), simulate_house(3, 4), np.random.default_rng(0)
    shuffled = []
    for _, instant in groupby(messages(series, house), key=lambda m: m.time):
        together = list(instant)
        shuffled += [together[i] for i in dice.permutation(len(together))]
    np.testing.assert_allclose(agent_sees(shuffled, house, wanted=series), series.values, rtol=1e-9, atol=2e-9)


def test_rounded_counter_loses_no_energy_over_a_day():
    house, series = simulated_house(), simulate_house(3, 1)
    seen = agent_sees(messages(series, house, counter_decimals=2), house, wanted=series)[:, 0]
    assert abs(seen.sum() - series.column("energy").sum()) <= 10.0  # the counter's resolution, half of it at each end
    assert np.abs(seen - series.column("energy")).max() <= 10.0


def test_energy_unknown_for_longer_than_the_hold_time_stays_unknown():
    house, series = simulated_house(), simulate_house(3, 1)
    series.values[30:50, :2] = np.nan  # 200 minutes; the meter's silence counts as no energy for its first 120
    seen = agent_sees(messages(series, house), house, wanted=series)
    assert np.isnan(seen[42:49, 0]).all()
    np.testing.assert_allclose(seen[51:, 0], series.values[51:, 0], rtol=1e-9, atol=2e-9)


def check_every_message_arrives(host, port):
    house, series, heard = simulated_house(), simulate_house(1, 2), []
    expected = [(m.topic, m.payload) for m in messages(series, house)]
    with Connection(host, port) as listener, Connection(host, port) as speaker:
        for topic in {sensor.topic for sensor in house.sensors}:
            listener.listen(topic, lambda payload, topic=topic: heard.append((topic, payload)))
        assert replay(series, house, speaker) == len(expected)
        listener.wait(lambda: len(heard) >= len(expected), what="message")
    assert heard == expected


def test_every_message_arrives_through_the_embedded_broker(embedded):
    check_every_message_arrives(embedded.host, embedded.port)


@pytest.mark.broker
def test_every_message_arrives_through_mosquitto(make_broker):
    check_every_message_arrives("127.0.0.1", make_broker(extra=["max_queued_messages 0"]).port)


def test_replay_tells_each_step_edge_before_its_messages(embedded):
    series, edges = simulate_house(1, 1), []
    with Connection(embedded.host, embedded.port) as connection:
        replay(series, simulated_house(), connection, before_step=edges.append)
    assert edges == [*series.times.tolist(), series.end, series.end + CLOSING_S]


class Recorder:
    """Stands in for a connection, and notes what it is asked to do."""

    def __init__(self):
        self.rests, self.published = [], []

    def rest(self, seconds):
        self.rests.append(seconds)

    def publish(self, topic, payload):
        self.published.append((topic, payload))

    def flush(self):
        pass


def test_replay_keeps_the_speed_it_was_given(monkeypatch):
    monkeypatch.setattr("demo.replay.time.monotonic", lambda: 1000.0)
    house, series = house_and_series([[60.0, 20.5, 45.0, 7.0], [30.0, 21.0, 44.0, 8.0]])
    recorder = Recorder()
    replay(series, house, recorder, speed=100.0)
    assert recorder.rests == pytest.approx([0.0, 6.0, 12.0, 12.3])  # edges at 0, 600 and 1200 s, and the closing message at 1230 s


def test_connection_says_when_no_broker_answers():
    with pytest.raises(ServiceError, match=r"no broker answers at 127\.0\.0\.1:1"):
        Connection("127.0.0.1", 1)


def test_wait_says_what_it_waited_for(embedded):
    with Connection(embedded.host, embedded.port) as connection, pytest.raises(ServiceError, match=r"no forecast for 0\.2 s"):
        connection.wait(lambda: False, what="forecast", timeout_s=0.2)


def test_replay_says_when_the_broker_goes_away(embedded):
    series = simulate_house(1, 1)

    def stop_at_noon(time):
        if time == series.start + 12 * 3600:
            embedded.stop()

    with Connection(embedded.host, embedded.port) as connection, pytest.raises(ServiceError, match="closed the connection"):
        replay(series, simulated_house(), connection, before_step=stop_at_noon)
