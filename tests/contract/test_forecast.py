"""Forecast: the payloads that controllers read."""

import json
from datetime import UTC, date, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.forecast import Forecast, Total

ORIGIN = "2026-11-23T23:00Z"  # midnight in Brussels
ATTRIBUTES_LIMIT = 16_384


def forecast(quantiles=None, mean=None, *, origin=ORIGIN, step_s=600, hours=24, zone="Europe/Brussels", unit="Wh"):
    horizon = hours * 3600 // step_s
    quantiles = np.tile(np.arange(1.0, 10.0), (horizon, 1)) if quantiles is None else quantiles
    origin_s = int(datetime.fromisoformat(origin).timestamp())
    return Forecast(
        site="house1",
        target="energy",
        unit=unit,
        issued_at=origin_s + 2,
        origin=origin_s,
        step_s=step_s,
        quantile_levels=QUANTILE_LEVELS,
        quantiles=quantiles,
        mean=quantiles[:, 4] if mean is None else mean,
        grade="masked",
        reasons=("T1 is known for 40% of the last 7 days",),
        model={"name": "base", "version": "1a2b3c4d"},
        totals={"tomorrow": Total(date(2026, 11, 24), 8123.4567, 6900.0, 9800.0, 2 / 3)} if unit == "Wh" else {},
        zone=ZoneInfo(zone),
    )


def times(payload):
    return [datetime.fromisoformat(row["time"]) for row in payload["forecast"]]


def test_the_payload_is_that_of_schema_1():
    payload = forecast(np.tile(np.arange(1.0, 10.0) + 1 / 3, (144, 1))).to_payload()
    rows = payload.pop("forecast")
    assert payload == {
        "schema": 1,
        "site": "house1",
        "target": "energy",
        "unit": "Wh",
        "issued_at": "2026-11-23T23:00:02Z",
        "origin": "2026-11-23T23:00:00Z",
        "step_s": 600,
        "grade": "masked",
        "reasons": ["T1 is known for 40% of the last 7 days"],
        "model": {"name": "base", "version": "1a2b3c4d"},
        "quantile_levels": [0.1, 0.5, 0.9],
        "totals": {"tomorrow": {"date": "2026-11-24", "value": 8123.46, "p10": 6900.0, "p90": 9800.0, "model_share": 0.667}},
    }
    assert len(rows) == 144
    assert rows[0] == {"time": "2026-11-24T00:00:00+01:00", "value": 5.33333, "p10": 1.33333, "p90": 9.33333}
    assert rows[-1]["time"] == "2026-11-24T23:50:00+01:00"


@given(
    st.sampled_from(("UTC", "Europe/Brussels", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo")),
    st.sampled_from((300, 600, 900, 1800, 3600)),
    st.integers(0, 2 * 365 * 288),
    st.sampled_from((24, 48)),
)
def test_times_ascend_evenly_and_name_their_zone(zone, step_s, start, hours):
    origin = datetime.fromtimestamp(1_767_225_600 + start * 300 // step_s * step_s, UTC).isoformat()
    made = forecast(origin=origin, zone=zone, step_s=step_s, hours=hours)
    for payload in (made.to_payload(), made.to_hourly_payload()):
        moments = times(payload)
        assert all(moment.tzinfo is not None for moment in moments)
        assert {(b - a).total_seconds() for a, b in pairwise(moments)} == {payload["step_s"]}
        assert made.origin <= moments[0].timestamp() < made.origin + 3600
        assert moments[-1].timestamp() + payload["step_s"] <= made.origin + hours * 3600
        assert len(json.dumps(made.to_hourly_payload())) < ATTRIBUTES_LIMIT
        assert json.loads(json.dumps(payload, allow_nan=False)) == payload


@pytest.mark.parametrize(
    ("day", "first", "last"),
    [
        ("2016-03-26T23:00Z", "2016-03-27T00:00:00+01:00", "2016-03-28T00:00:00+02:00"),
        ("2016-10-29T22:00Z", "2016-10-30T00:00:00+02:00", "2016-10-30T22:00:00+01:00"),
    ],
)
def test_clock_changes_show_in_the_offsets(day, first, last):
    rows = forecast(origin=day, step_s=3600).to_payload()["forecast"]
    assert (rows[0]["time"], rows[-1]["time"]) == (first, last)
    assert len({row["time"] for row in rows}) == 24


def test_hours_are_full_local_hours():
    rows = forecast(origin="2026-11-23T23:20Z", step_s=600).to_hourly_payload()["forecast"]
    assert (rows[0]["time"], rows[-1]["time"], len(rows)) == ("2026-11-24T01:00:00+01:00", "2026-11-24T23:00:00+01:00", 23)


@pytest.mark.parametrize(
    ("zone", "step_s", "first"),
    [
        ("Australia/Lord_Howe", 600, "2026-06-02T10:00:00+10:30"),  # the origin is 09:40 there
        ("America/St_Johns", 900, "2026-06-01T21:00:00-02:30"),  # 20:45
        ("Asia/Kathmandu", 300, "2026-06-02T05:00:00+05:45"),  # 04:55
        ("Asia/Kathmandu", 1800, "2026-06-02T05:15:00+05:45"),  # half hours begin at a quarter past there
        ("Australia/Lord_Howe", 3600, "2026-06-02T09:30:00+10:30"),  # and hours at half past
    ],
)
def test_hours_of_zones_off_by_less_than_an_hour(zone, step_s, first):
    origin = {600: "2026-06-01T23:10Z", 900: "2026-06-01T23:15Z", 300: "2026-06-01T23:10Z", 1800: "2026-06-01T23:30Z", 3600: "2026-06-01T23:00Z"}[
        step_s
    ]
    rows = forecast(origin=origin, zone=zone, step_s=step_s).to_hourly_payload()["forecast"]
    assert rows[0]["time"] == first
    assert len(rows) == (24 if step_s >= 1800 else 23)


def test_energy_of_an_hour_adds_up_and_states_are_averaged():
    quantiles = np.arange(144.0)[:, None] + np.arange(9)
    energy = forecast(quantiles).to_hourly_payload()["forecast"][1]
    assert (energy["value"], energy["p10"], energy["p90"]) == (sum(range(6, 12)) + 24.0, sum(range(6, 12)), sum(range(6, 12)) + 48.0)
    state = forecast(quantiles, unit="degC").to_hourly_payload()
    assert state["totals"] == {}
    assert (state["forecast"][1]["value"], state["forecast"][1]["p10"]) == (12.5, 8.5)


def test_a_band_holds_the_mean_of_its_hour():
    quantiles, mean = np.tile([0.0] * 8 + [1.0], (144, 1)), np.full(144, 50.0)  # a kettle in one step of twenty
    row = forecast(quantiles, mean).to_hourly_payload()["forecast"][0]
    assert (row["p10"], row["value"], row["p90"]) == (0.0, 300.0, 300.0)


@given(hnp.arrays(np.float64, (144, 9), elements=st.floats(0, 1e7)), st.floats(0, 1e7))
def test_values_lie_in_their_bands(quantiles, mean):
    made = forecast(np.sort(quantiles, axis=-1), np.full(144, mean))
    for payload in (made.to_payload(), made.to_hourly_payload()):
        assert all(row["p10"] <= row["value"] <= row["p90"] for row in payload["forecast"])


def test_the_hourly_payload_stays_below_the_limit_with_long_numbers():
    made = forecast(np.tile(-np.arange(9.0, 0.0, -1.0) * 1.23456e-7, (48 * 12, 1)), step_s=300, hours=48, unit="degC")
    assert len(json.dumps(made.to_hourly_payload())) < ATTRIBUTES_LIMIT


def test_levels_are_found_by_their_value():
    assert forecast().at_level(0.5)[0] == 5.0
    assert forecast().at_level(0.9)[0] == 9.0
