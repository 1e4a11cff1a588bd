"""Discovery payloads."""

import json
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.forecast import Forecast, Total
from edge_agent.contract.schema import parse_house
from edge_agent.homeassistant import ATTRIBUTES_LIMIT, discovery, hourly_payload

HOUSE = parse_house(
    """
site = "House-1"
time_zone = "Europe/Berlin"
targets = [{name = "energy", sensor = "meter"}, {name = "bedroom_temperature", sensor = "bedroom"}]
sensors = [
  {name = "meter", role = "energy", topic = "zigbee2mqtt/meter", field = "energy", topic_unit = "kWh"},
  {name = "bedroom", role = "indoor_temperature", topic = "zigbee2mqtt/bedroom", field = "temperature"},
]
""",
    source="house.toml",
)


def found(form="device"):
    messages = discovery(HOUSE, form=form, prefix="homeassistant", base="hearthcast/House-1", expire_after_s=7200)
    return {topic: json.loads(payload) for topic, payload in messages.items()}


def components():
    return found()["homeassistant/device/hearthcast_House-1/config"]["components"]


def forecast(*, step_s=600, hours=24, unit="Wh"):
    n = hours * 3600 // step_s
    quantiles = np.tile(np.linspace(10.123456, 99.87654, len(QUANTILE_LEVELS)), (n, 1))
    zone = ZoneInfo("Europe/Berlin")
    totals = {"tomorrow": Total(date(2026, 6, 2), 8123.4567, 6900.0, 9800.0, 1.0)} if unit == "Wh" else {}
    model = {"name": "base", "version": "20261123.2113-1c9b26d0"}
    reasons = ("bedroom is known for 12% of the last 7 days",)
    return Forecast(
        "House-1",
        "energy",
        unit,
        1_780_000_200,
        1_780_000_200,
        step_s,
        QUANTILE_LEVELS,
        quantiles,
        quantiles[:, 4],
        "masked",
        reasons,
        model,
        totals,
        zone,
    )


def test_the_device_form_is_one_message():
    (payload,) = found().values()
    assert payload["device"]["identifiers"] == ["hearthcast_House-1"]
    assert payload["origin"]["name"] == "Hearthcast"
    assert {key for key, c in payload["components"].items() if c["platform"] == "binary_sensor"} == {"problem"}


def test_a_forecast_of_energy_has_no_state_class():
    total = components()["energy_tomorrow"]
    assert (total["device_class"], total["unit_of_measurement"], total["expire_after"]) == ("energy", "kWh", 7200)
    assert not [key for key, component in components().items() if "state_class" in component]


def test_entity_ids_are_given_for_old_and_new_home_assistants():
    total = components()["energy_tomorrow"]
    assert total["default_entity_id"] == "sensor.hearthcast_house_1_energy_tomorrow"
    assert total["object_id"] == "hearthcast_house_1_energy_tomorrow"
    assert total["unique_id"] == "hearthcast_House-1_energy_tomorrow"


def test_a_temperature_is_forecast_by_the_hour():
    hour = components()["bedroom_temperature_next_hour"]
    assert (hour["device_class"], hour["unit_of_measurement"]) == ("temperature", "°C")
    assert "bedroom_temperature_tomorrow" not in components()


def test_a_stopped_agent_is_not_available():
    (payload,) = found().values()
    assert payload["availability"] == [{"topic": "hearthcast/House-1/status", "value_template": "{{ 'online' if value == 'online' else 'offline' }}"}]


def test_both_forms_announce_the_same_entities():
    singles = found("single")
    assert {p["unique_id"] for p in singles.values()} == {c["unique_id"] for c in components().values()}
    assert singles["homeassistant/binary_sensor/hearthcast_House-1/problem/config"]["device"] == found().popitem()[1]["device"]
    assert not [p for p in singles.values() if "platform" in p]


def test_hourly_energy_is_told_in_kwh():
    payload = hourly_payload(forecast().to_hourly_payload())
    assert payload["unit"] == "kWh"
    assert payload["totals"]["tomorrow"] == {"date": "2026-06-02", "value": 8.12346, "p10": 6.9, "p90": 9.8, "model_share": 1.0}
    assert payload["forecast"][0] == {"time": "2026-05-28T23:00:00+02:00", "value": pytest.approx(0.33, abs=1e-6), "p10": 0.0607407, "p90": 0.599259}


def test_hourly_temperature_keeps_its_numbers():
    payload = hourly_payload(forecast(unit="degC").to_hourly_payload())
    assert payload["unit"] == "°C"
    assert payload["forecast"][0]["p10"] == 10.1235


@pytest.mark.parametrize("step_s", [300, 600, 900, 1800, 3600])
def test_attributes_fit_into_home_assistants_recorder(step_s):
    payload = hourly_payload(forecast(step_s=step_s, hours=48).to_hourly_payload())
    assert len(json.dumps(payload).encode()) < ATTRIBUTES_LIMIT
    assert 47 <= len(payload["forecast"]) <= 48
