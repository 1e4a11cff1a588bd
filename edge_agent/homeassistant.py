"""Home Assistant MQTT discovery: pure functions that build its payloads. Checked against a real Home Assistant 2026.11.

Entities read the hourly topic of their target, because Home Assistant drops attributes above 16,384 bytes and the full series is larger.
"""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from edge_agent import __version__
from edge_agent.contract.schema import HouseSpec

Payload = dict[str, Any]

ATTRIBUTES_LIMIT: Final = 16_384
"""Bytes of attributes that Home Assistant's recorder keeps."""
DEVICE_CLASSES: Final = {"Wh": "energy", "degC": "temperature", "%": "humidity"}
UNITS: Final = {"Wh": "kWh", "degC": "°C"}
"""Units as Home Assistant spells them; energy in kWh, as its users read it."""


def hourly_topic(forecast_topic: str) -> str:
    """The topic that a target's entities read."""
    return f"{forecast_topic}/hourly"


def hourly_payload(hourly: Payload) -> Payload:
    """A forecast's hourly payload in the units of Home Assistant: energy in kWh, also in the totals."""
    unit = hourly["unit"]
    factor = 1e-3 if unit == "Wh" else 1.0

    def scaled(row: Payload) -> Payload:
        return {key: _rounded(value * factor) if key in ("value", "p10", "p90") else value for key, value in row.items()}

    return {
        **hourly,
        "unit": UNITS.get(unit, unit),
        "totals": {name: scaled(total) for name, total in hourly["totals"].items()},
        "forecast": [scaled(row) for row in hourly["forecast"]],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def discovery(house: HouseSpec, *, form: Literal["device", "single"], prefix: str, base: str, expire_after_s: int) -> dict[str, str]:
    """Retained discovery messages by topic: one for the whole device, or one an entity (openHAB and older readers).

    Args:
        house: whose targets become entities.
        form: `device` or `single`; never publish both, their unique ids are the same.
        prefix: Home Assistant's discovery prefix.
        base: the agent's own topics, `hearthcast/<site>`.
        expire_after_s: seconds without a new forecast after which the entities become unavailable.
    """
    identifier = f"hearthcast_{house.site}"
    shared = {"device": _device(house, identifier), "origin": _origin(), "availability": _availability(base), "qos": 1}
    entities = _entities(house, base=base, expire_after_s=expire_after_s)
    if form == "device":
        components = {key: _identified(identifier, key, entity) for key, entity in entities.items()}
        return {_device_topic(prefix, identifier): _dump({**shared, "components": components})}
    messages = {}
    for key, entity in entities.items():
        body = _identified(identifier, key, entity)
        topic = _single_topic(prefix, identifier, key, body.pop("platform"))
        messages[topic] = _dump({**shared, **body})
    return messages


def _device_topic(prefix: str, identifier: str) -> str:
    return f"{prefix}/device/{identifier}/config"


def _single_topic(prefix: str, identifier: str, key: str, platform: str) -> str:
    return f"{prefix}/{platform}/{identifier}/{key}/config"


def _device(house: HouseSpec, identifier: str) -> Payload:
    return {
        "identifiers": [identifier],
        "name": f"Hearthcast {house.site}",
        "manufacturer": "Hearthcast",
        "model": "Forecast agent",
        "sw_version": __version__,
    }


def _origin() -> Payload:
    return {"name": "Hearthcast", "sw_version": __version__}


def _availability(base: str) -> list[Payload]:
    # `stopped` must count as offline too, and Home Assistant ignores what is neither of its two words
    return [{"topic": f"{base}/status", "value_template": "{{ 'online' if value == 'online' else 'offline' }}"}]


def _identified(identifier: str, key: str, entity: Payload) -> Payload:
    """The entity with its ids. Home Assistant since 2025.10 reads `default_entity_id`, before it `object_id`."""
    object_id = f"{identifier}_{key}".lower().replace("-", "_")
    ids = {"unique_id": f"{identifier}_{key}", "default_entity_id": f"{entity['platform']}.{object_id}", "object_id": object_id}
    return {**ids, **entity}


def _entities(house: HouseSpec, *, base: str, expire_after_s: int) -> dict[str, Payload]:
    """Entities by key, with `platform` and without ids."""
    entities: dict[str, Payload] = {}
    for target, unit in house.unit_of.items():
        topic = hourly_topic(f"{base}/forecast/{target}")
        common = {"platform": "sensor", "state_topic": topic, "expire_after": expire_after_s}
        measured = {**common, "unit_of_measurement": UNITS.get(unit, unit), "suggested_display_precision": 2 if unit == "Wh" else 1}
        if unit in DEVICE_CLASSES:
            measured["device_class"] = DEVICE_CLASSES[unit]  # and no state_class: a forecast is no measurement, and goes into no statistics
        name = target.replace("_", " ").capitalize()
        entities |= _tomorrow(target, name, measured, topic) if unit == "Wh" else _next_hour(target, name, measured, topic)
        entities |= _diagnostics(target, name, common, topic)
        entities |= _scores(target, name, f"{base}/score/{target}", has_total=unit == "Wh")
    return {**entities, "problem": _problem(base)}


FORECAST_ATTRIBUTES: Final = (
    "{{ {'forecast': value_json.forecast, 'origin': value_json.origin, 'issued_at': value_json.issued_at,"
    " 'grade': value_json.grade, 'model': value_json.model, 'date': value_json.get('totals', {}).get('tomorrow', {}).get('date')} | tojson }}"
)


def _tomorrow(target: str, name: str, measured: Payload, topic: str) -> dict[str, Payload]:
    """Tomorrow's total with its band; the hourly forecast is an attribute of the total."""

    def total(field: str) -> Payload:
        return {**measured, "value_template": f"{{{{ value_json.totals.tomorrow.{field} }}}}"}

    attributes = {"json_attributes_topic": topic, "json_attributes_template": FORECAST_ATTRIBUTES}
    return {
        f"{target}_tomorrow": {**total("value"), **attributes, "name": f"{name} tomorrow", "icon": "mdi:home-lightning-bolt-outline"},
        f"{target}_tomorrow_p10": {**total("p10"), "name": f"{name} tomorrow, at least (10 %)"},
        f"{target}_tomorrow_p90": {**total("p90"), "name": f"{name} tomorrow, at most (90 %)"},
    }


def _next_hour(target: str, name: str, measured: Payload, topic: str) -> dict[str, Payload]:
    """The mean over the next full hour, for a target that does not add up over a day."""
    attributes = {"json_attributes_topic": topic, "json_attributes_template": FORECAST_ATTRIBUTES}
    template = "{{ value_json.forecast[0].value }}"
    return {f"{target}_next_hour": {**measured, **attributes, "name": f"{name} next hour", "value_template": template}}


def _diagnostics(target: str, name: str, common: Payload, topic: str) -> dict[str, Payload]:
    grade = {
        "name": f"{name} forecast grade",
        "value_template": "{{ value_json.grade }}",
        "device_class": "enum",
        "options": ["full", "masked", "baseline"],
        "json_attributes_topic": topic,
        "json_attributes_template": "{{ {'reasons': value_json.reasons} | tojson }}",
    }
    model = {"name": f"{name} model", "value_template": "{{ value_json.model.name }} {{ value_json.model.version }}"}
    return {f"{target}_{key}": {**common, **entity, "entity_category": "diagnostic"} for key, entity in (("grade", grade), ("model", model))}


def _scores(target: str, name: str, topic: str, *, has_total: bool) -> dict[str, Payload]:
    """How good the forecasts of the last 30 days were; unknown until the first day is scored."""

    def score(label: str, field: str, unit: str, factor: float) -> Payload:
        known = f"value_json.days_30 and value_json.days_30.get('{field}') is not none"
        template = f"{{{{ ({factor:g} * value_json.days_30.{field}) | round(2) if {known} else None }}}}"
        shown = {"unit_of_measurement": unit, "entity_category": "diagnostic"}
        return {"platform": "sensor", "state_topic": topic, "name": f"{name} {label}", "value_template": template, **shown}

    entities = {
        f"{target}_skill": score("forecast, smaller error than the plain average by", "skill_climatology", "%", 100),
        f"{target}_coverage": score("forecast, within the band", "coverage", "%", 100),
    }
    return entities | ({f"{target}_total_error": score("tomorrow, mean error", "day_total_error", "kWh", 1e-3)} if has_total else {})


def _problem(base: str) -> Payload:
    return {
        "platform": "binary_sensor",
        "name": "Problem",
        "state_topic": f"{base}/health",
        "value_template": "{{ 'ON' if value_json.problem else 'OFF' }}",
        "device_class": "problem",
        "entity_category": "diagnostic",
        "json_attributes_topic": f"{base}/health",
        "json_attributes_template": "{{ {'problems': value_json.problems} | tojson }}",
    }


def _dump(payload: Payload) -> str:
    return json.dumps(payload, separators=(",", ":"))
