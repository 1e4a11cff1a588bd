"""Weather forecasts over MQTT: the two common forms of JSON, when they were issued, and what survives a restart."""

import json
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import parse_house
from edge_agent.contract.weather import WeatherForecast, WeatherForecasts
from edge_agent.history import History
from edge_agent.table import write_weather
from edge_agent.weather import WeatherDecoder, WeatherMemory, add_weather, stored_weather
from trainer.weather_table import read_weather

NOON = 1_780_315_200  # 2026-06-01T12:00Z
HOUR = 3600
HOUSE = parse_house(
    """
site = "home"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh"}]
weather = [
  {role = "outdoor_temperature", topic = "weather/ha", field = "temperature"},
  {role = "wind_speed", topic = "weather/ha", field = "wind_speed", unit = "km/h"},
  {role = "solar_radiation", topic = "weather/meteo", field = "shortwave_radiation"},
]
""",
    source="house.toml",
)
ROWS = [  # as Home Assistant 2026.11 answers weather.get_forecasts
    {"condition": "sunny", "datetime": "2026-06-01T12:00:00+00:00", "temperature": 20.5, "humidity": 40, "wind_speed": 18.0},
    {"condition": "sunny", "datetime": "2026-06-01T13:00:00+00:00", "temperature": 21.5, "humidity": 38, "wind_speed": 36.0},
]
COLUMNS = {  # as Open-Meteo answers, with timezone=Europe/Berlin
    "latitude": 50.5,
    "utc_offset_seconds": 7200,
    "hourly_units": {"time": "iso8601", "shortwave_radiation": "W/m²"},
    "hourly": {"time": ["2026-06-01T14:00", "2026-06-01T15:00", "2026-06-01T16:00"], "shortwave_radiation": [700, None, 500]},
}


def decoded(message, *, topic="weather/ha", retained=False, received_at=NOON + 300):
    decoder = WeatherDecoder(HOUSE)
    payload = message if isinstance(message, bytes) else json.dumps(message).encode()
    return decoder.decode(topic, payload, received_at=received_at, retained=retained), decoder.rejected


def facts(forecast):
    return forecast.role, forecast.issued_at, forecast.times.tolist(), forecast.values.tolist()


@pytest.mark.parametrize("wrap", [lambda r: r, lambda r: {"forecast": r}, lambda r: {"weather.home": {"forecast": r}}])
def test_rows_of_home_assistant_at_any_depth(wrap):
    found, rejected = decoded(wrap(ROWS))
    times = [NOON, NOON + HOUR]
    assert [facts(f) for f in found] == [("outdoor_temperature", NOON + 300, times, [20.5, 21.5]), ("wind_speed", NOON + 300, times, [5.0, 10.0])]
    assert not rejected


def test_columns_of_open_meteo_in_local_time():
    found, rejected = decoded(COLUMNS, topic="weather/meteo")
    assert [facts(f) for f in found] == [("solar_radiation", NOON + 300, [NOON, NOON + 2 * HOUR], [700.0, 500.0])]
    assert not rejected


def test_the_offset_holds_for_what_lies_in_the_same_object():
    found, _ = decoded([{"payload": COLUMNS}, {}], topic="weather/meteo")
    assert [f.times.tolist() for f in found] == [[NOON, NOON + 2 * HOUR]]


def test_a_first_row_without_a_value_hides_no_others():
    found, _ = decoded([{"datetime": "2026-06-01T12:00:00Z"}, ROWS[1]])
    assert [f.times.tolist() for f in found] == [[NOON + HOUR], [NOON + HOUR]]


def test_of_later_days_nothing_is_kept_and_of_hostile_messages_little():
    hours = {"time": [NOON + HOUR * hour for hour in range(240)], "shortwave_radiation": [1] * 240}
    assert decoded(hours, topic="weather/meteo")[0][0].times[-1] == NOON + 72 * HOUR
    seconds = {"time": list(range(NOON, NOON + 1001)), "shortwave_radiation": [1] * 1001}
    assert decoded(seconds, topic="weather/meteo") == ([], {("weather/meteo", "more than 1000 values of the next three days"): 1})
    years = {"time": [NOON + 400 * 24 * HOUR], "shortwave_radiation": [1]}
    assert decoded(years, topic="weather/meteo") == ([], {("weather/meteo", "only times more than three days ahead"): 1})


def test_a_message_of_many_columns_takes_no_memory_for_them():
    rows = [{"time": NOON, "temperature": 20.0, **dict.fromkeys(map(str, range(2000)), 0)}, *({} for _ in range(60_000))]
    tracemalloc.start()
    found, _ = decoded(json.dumps(rows, separators=(",", ":")).encode())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [f.role for f in found] == ["outdoor_temperature"]
    assert peak < 20_000_000


def test_times_without_an_offset_are_utc():
    message = {"time": ["2026-06-01T12:00"], "shortwave_radiation": [700]}
    assert decoded(message, topic="weather/meteo")[0][0].times.tolist() == [NOON]


@pytest.mark.parametrize(
    ("issued", "counts"), [("2026-06-01T11:00:00Z", NOON - HOUR), (NOON - HOUR, NOON - HOUR), ("2027-01-01T00:00:00Z", NOON + 300)]
)
def test_a_message_may_say_when_it_was_issued_and_never_later_than_it_came(issued, counts):
    assert {f.issued_at for f in decoded({"issued": issued, "forecast": ROWS})[0]} == {counts}


def test_a_kept_message_of_unknown_age_is_as_old_as_its_first_hour():
    assert {f.issued_at for f in decoded(ROWS, retained=True, received_at=NOON + 9 * HOUR)[0]} == {NOON + HOUR}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"\xff", "not a JSON list or object"),
        (b"12", "not a JSON list or object"),
        (b"[" * 9000, "not a JSON list or object"),
        ([{"datetime": "2026-06-01T12:00Z"}], "no forecast with times and 'temperature'"),
        ([{**ROWS[0], "datetime": "soon"}], "no time"),
        ([{**ROWS[0], "temperature": "warm"}], "temperature is no number"),
        ([{**ROWS[0], "temperature": 95}], "temperature outside the valid range"),
        (b'[{"datetime": "2026-06-01T12:00Z", "temperature": NaN}]', "temperature outside the valid range"),
    ],
)
def test_what_cannot_be_used_is_counted_by_reason(message, said):
    found, rejected = decoded(message)
    assert "outdoor_temperature" not in [f.role for f in found]
    assert rejected["weather/ha", said] > 0


LEAVES = st.none() | st.booleans() | st.floats() | st.text(max_size=9)
KEYS = st.sampled_from(("time", "datetime", "temperature", "x", "issued"))


@settings(max_examples=100)
@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)))
def test_no_message_is_an_error(message):
    for forecast in decoded(message)[0]:
        assert np.isfinite(forecast.values).all()


def test_other_topics_are_none_of_its_business():
    assert decoded(ROWS, topic="zigbee2mqtt/meter") == ([], {})


def issue(issued_at, value=20.0):
    return WeatherForecast("outdoor_temperature", issued_at, NOON + HOUR * np.arange(48), np.full(48, value))


def test_the_one_before_stays_because_the_newest_may_be_too_new_for_the_origin():
    memory = WeatherMemory(step_s=600)
    assert memory.take(issue(NOON), retained=False, now=NOON)
    assert memory.take(issue(NOON + 600, 22.0), retained=False, now=NOON + 600)
    forecasts = memory.forecasts()
    assert forecasts.newest("outdoor_temperature", NOON + 599).values[0] == 20.0
    assert forecasts.newest("outdoor_temperature", NOON + 600).values[0] == 22.0


def test_of_several_within_a_step_the_last_counts_and_no_origin_before_sees_it():
    memory = WeatherMemory(step_s=600)
    came = [memory.take(issue(NOON + s, value), retained=False, now=NOON + s) for s, value in ((0, 9.0), (1, 10.0), (2, 20.0), (599, 30.0))]
    assert [f.issued_at for f in came] == [NOON, NOON + 1, NOON + 1, NOON + 1]  # the last three are one row of the history
    forecasts = memory.forecasts()
    assert [forecasts.newest("outdoor_temperature", NOON + s).values[0] for s in (0, 600)] == [9.0, 30.0]
    assert memory.take(issue(NOON - 1), retained=False, now=NOON + 599) is None  # older by its own word


def test_within_a_step_an_older_one_by_its_own_word_takes_no_place():
    memory = WeatherMemory(step_s=HOUR)
    for issued_at in (NOON + 10, NOON + 1200):
        memory.take(issue(issued_at), retained=False, now=NOON + 1200)
    assert memory.take(issue(NOON + 600, 9.0), retained=False, now=NOON + 1300) is None


def test_nights_without_sun_do_not_make_two_days_the_same():
    sun = np.where(np.arange(48) % 24 < 4, 0.0, 300.0)  # both begin at midnight, two days apart but for the last night
    first = WeatherForecast("solar_radiation", NOON, NOON + HOUR * np.arange(52), np.append(sun, np.zeros(4)))
    last = WeatherForecast("solar_radiation", NOON + 48 * HOUR, NOON + HOUR * np.arange(48, 96), sun / 4)
    memory = WeatherMemory(step_s=HOUR)
    memory.take(first, retained=False, now=NOON)
    assert memory.take(last, retained=True, now=NOON + 48 * HOUR)


def test_what_the_broker_had_kept_is_not_made_young_by_a_restart():
    memory = WeatherMemory([issue(NOON)], step_s=600)
    longer = WeatherForecast("outdoor_temperature", NOON + 9 * HOUR, NOON + HOUR * np.arange(-3, 50), np.full(53, 20.0))
    assert memory.take(longer, retained=True, now=NOON + 9 * HOUR) is None
    assert memory.take(longer, retained=False, now=NOON + 9 * HOUR)


def hourly(n_hours, *, spacing=HOUR):
    """Forecasts of ten days each, as a service issues them for `n_hours`."""
    return [
        WeatherForecast("outdoor_temperature", issued, issued + HOUR * np.arange(240), np.arange(240.0))
        for issued in range(NOON, NOON + n_hours * HOUR, spacing)
    ]


def test_a_day_of_forecasts_is_kept_whole_and_the_first_hours_of_eight():
    memory = WeatherMemory(hourly(10 * 24), step_s=600)
    newest = NOON + 239 * HOUR
    kept = {issued: memory.forecasts().newest("outdoor_temperature", issued) for issued in range(NOON, newest + 1, HOUR)}
    ages = {(newest - issued) // HOUR: len(found.times) for issued, found in kept.items() if found is not None}
    assert ages == {**dict.fromkeys(range(24), 240), **dict.fromkeys(range(24, 192), 16)}


@pytest.mark.parametrize(("spacing", "half_an_hour"), [(HOUR, 0.0), (600, 0.5)])
def test_in_place_of_sensors_the_memory_says_what_all_forecasts_say_and_is_small(spacing, half_an_hour):
    issued = hourly(9 * 24, spacing=spacing)
    memory, now = WeatherMemory(issued, step_s=600), issued[-1].issued_at
    times = np.arange(now - 7 * 24 * HOUR, now, HOUR)
    said, whole = (w.before(times, step_s=HOUR, role="outdoor_temperature") for w in (memory.forecasts(), WeatherForecasts(issued)))
    np.testing.assert_allclose(said, whole, atol=half_an_hour)  # of forecasts every ten minutes one each half-hour stays
    n_bytes = sum(f.times.nbytes + f.values.nbytes for f in memory.forecasts()._issues["outdoor_temperature"])
    assert n_bytes < 700_000


def test_the_history_gives_back_what_it_was_given(tmp_path):
    with History(tmp_path / "history.db") as history:
        add_weather(history, [issue(NOON), issue(NOON + 48 * HOUR, 1.25)])
    with History(tmp_path / "history.db") as history:
        assert [facts(f) for f in stored_weather(history)] == [facts(issue(NOON)), facts(issue(NOON + 48 * HOUR, 1.25))]
        assert [f.issued_at for f in stored_weather(history, last_s=HOUR)] == [NOON + 48 * HOUR]


def test_a_damaged_row_is_passed_over(tmp_path):
    with History(tmp_path / "history.db") as history:
        add_weather(history, [issue(NOON)])
        with history.transaction() as db:
            db.execute("INSERT INTO weather VALUES ('wind_speed', 0, X'00', 'text'), ('wind_speed', 1, X'0000000000000000', X'0000C07F')")
            db.execute("INSERT INTO weather SELECT role, 'text', times, forecast FROM weather WHERE role = 'outdoor_temperature'")
        assert [facts(f) for f in stored_weather(history)] == [facts(f) for f in stored_weather(history, last_s=HOUR)] == [facts(issue(NOON))]


def test_an_empty_history_gives_nothing(tmp_path):
    with History(tmp_path / "history.db") as history:
        assert list(stored_weather(history, last_s=HOUR)) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "two forecasts of wind_speed"),
        ({"role": "co2"}, "'co2' is not valid"),
        ({"topic": "w/#"}, "wildcard"),
        ({"unit": "degC"}, "no unit of wind_speed"),
        ({"filed": "f"}, "did you mean 'field'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_reason(changes, said):
    text = 'site = "h"\ntime_zone = "UTC"\ntargets = [{name = "e", sensor = "m"}]\nsensors = [{name = "m", role = "energy", topic = "t"}]\n'
    source = {"role": "wind_speed", "topic": "w", "field": "f"}
    tables = ", ".join("{" + ", ".join(f'{k} = "{v}"' for k, v in table.items()) + "}" for table in (source, source | changes))
    with pytest.raises(ConfigError, match=said):
        parse_house(f"{text}weather = [{tables}]", source="house.toml")


def test_the_export_is_what_the_backtest_reads(tmp_path):
    with History(tmp_path / "history.db") as history, (tmp_path / "weather.csv").open("w") as file:
        add_weather(history, [issue(NOON + 0.5), WeatherForecast("wind_speed", NOON + 0.5, np.array([NOON]), np.array([3.0]))])
        assert write_weather(history, file) == 48
    forecasts = read_weather(tmp_path / "weather.csv")
    found = forecasts.newest("outdoor_temperature", NOON + 1)
    assert found.times.tolist() == issue(NOON).times.tolist()
    assert forecasts.newest("outdoor_temperature", NOON) is None  # half a second after noon is after noon
    assert forecasts.newest("wind_speed", NOON + 1).values.tolist() == [3.0]
    assert datetime.fromtimestamp(found.issued_at, UTC).second == 1
