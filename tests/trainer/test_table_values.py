import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import parse_house
from trainer.findings import Findings
from trainer.table_values import canonical_values, check_form, check_unit, within_range


def sensor(role="energy", unit="Wh", extra=""):
    text = f"""
site = "t"
time_zone = "UTC"
targets = [{{name = "x", sensor = "s"}}]
[[sensors]]
name = "s"
role = "{role}"
unit = "{unit}"
column = "c"
{extra}
"""
    return parse_house(text, source="house.toml").sensors[0]


def refuse(values, spec, match):
    with pytest.raises(DataError, match=match):
        check_unit(canonical_values(np.asarray(values, float), spec, cadence_s=600), spec, cadence_s=600, findings=Findings("t", repair=True))


def accept(values, spec):
    check_unit(canonical_values(np.asarray(values, float), spec, cadence_s=600), spec, cadence_s=600, findings=Findings("t", repair=False))


# 60 Wh in ten minutes are 360 W; peaks of 900 Wh are 5.4 kW
HOUSE_WH = np.tile([60.0, 60.0, 900.0, 60.0, 60.0], 20)


def test_energy_of_a_house_is_accepted():
    accept(HOUSE_WH, sensor())
    accept(HOUSE_WH / 1000, sensor(unit="kWh"))
    accept(np.zeros(100), sensor())
    accept(np.full(100, np.nan), sensor())


def test_kilowatthours_given_as_watthours_are_refused():
    refuse(HOUSE_WH / 1000, sensor(), "its peaks are only 5.4 W: looks like kWh given as Wh")


def test_watthours_given_as_kilowatthours_are_refused():
    refuse(HOUSE_WH, sensor(unit="kWh"), "its median is 3.6e.05 W, valid is 0 to 50,000 W: looks like Wh given as kWh")


def test_kilowatts_given_as_watts_are_refused():
    refuse(HOUSE_WH * 6e-3, sensor(unit="W"), "looks like kW given as W")


def test_small_load_is_accepted_once_its_valid_range_says_so():
    router_w = np.full(100, 8.0)
    refuse(router_w, sensor(unit="W"), "peaks are only 8 W")
    accept(router_w, sensor(unit="W", extra="valid = [0, 100]"))
    accept(router_w, sensor(role="energy_part", unit="W"))


def test_charger_that_mostly_idles_is_accepted():
    accept(np.array([0.3] * 97 + [1200.0] * 3), sensor())


def test_fahrenheit_and_kelvin_are_recognised():
    refuse(np.full(50, 70.0), sensor("indoor_temperature", "degC"), "looks like degF given as degC")
    refuse(np.full(50, 293.0), sensor("indoor_temperature", "degC"), "looks like K given as degC")


def test_fraction_given_as_percent_is_recognised():
    refuse(np.linspace(0.3, 0.6, 50), sensor("indoor_humidity", "%"), "never passes 0.6 %: looks like fraction given as %")


def test_pressure_in_inches_given_as_hectopascal_is_recognised():
    refuse(np.full(50, 29.9), sensor("pressure", "hPa"), "looks like inHg given as hPa")


def test_counter_given_as_energy_of_the_step_is_recognised():
    for first in (0, 12_000):
        with pytest.raises(DataError, match='it never falls, as a cumulative counter: set column_form = "counter"'):
            check_form(np.linspace(first, first + 400, 200), sensor(unit="kWh"), Findings("t", repair=True))


def test_energy_that_hardly_ever_changes_is_no_counter():
    for values in (np.zeros(200), np.append(np.zeros(199), 5.0), np.arange(40.0), HOUSE_WH):
        check_form(values, sensor(), Findings("t", repair=False))


def test_unit_that_nothing_explains_still_says_what_to_check():
    refuse(np.full(50, -999.0), sensor("indoor_temperature", "degC"), "correct the sensor's unit, column_form or valid")


def test_counter_leaves_gaps_longer_than_the_hold_time_unknown():
    readings = np.array([0.0, 1.0, np.nan, np.nan, np.nan, 5.0, 6.0])
    steps = canonical_values(readings, sensor(extra='column_form = "counter"\nhold = 1800'), cadence_s=600)
    assert steps[[0, 5]].tolist() == [1.0, 1.0]
    assert np.isnan(steps[[1, 2, 3, 4, 6]]).all()


def test_counter_without_two_readings_says_nothing():
    assert np.isnan(canonical_values(np.array([np.nan, 4.0]), sensor(extra='column_form = "counter"'), cadence_s=600)).all()


def test_value_out_of_range_is_named_with_its_row():
    values = np.array([20.0, 85.0, 20.0, -127.0])
    spec, numbers = sensor("indoor_temperature", "degC"), np.array([2, 3, 5, 6])
    with pytest.raises(DataError, match=r"column 'c' has 2 values outside -20 to 60 degC, the first 85 \(rows 3, 6\)"):
        within_range(values, spec, start=0, cadence_s=600, numbers=numbers, findings=Findings("t", repair=False))
    findings = Findings("t", repair=True)
    repaired = within_range(values, spec, start=0, cadence_s=600, numbers=numbers, findings=findings)
    assert np.isnan(repaired).tolist() == [False, True, False, True]
    assert findings.repairs[0].endswith("(rows 3, 6): taken as unknown")


NET_W = np.tile([500.0, 300.0, -1200.0, 800.0], 12)
"""A home with solar cells: what it feeds into the grid is negative."""


def ranged(values, spec, *, repair):
    findings = Findings("t", repair=repair)
    values = np.asarray(values)
    return within_range(values, spec, start=0, cadence_s=3600, numbers=np.arange(2, len(values) + 2), findings=findings), findings


@pytest.mark.parametrize("extra", ["", "valid = [-50_000, 50_000]"])
def test_solar_export_is_refused_with_a_hint_or_set_to_nothing_drawn(extra):
    with pytest.raises(DataError, match=r"12 negative values, down to -1,200 W, as .* solar export \(rows 4, .*give the import register"):
        ranged(NET_W, sensor(extra=extra), repair=False)
    values, findings = ranged(NET_W, sensor(extra=extra), repair=True)
    assert values[:4].tolist() == [500, 300, 0, 800]
    (found,) = findings.found
    assert (found.kind, found.done, found.steps, found.start, found.end) == ("negative", "repaired", 12, 2 * 3600, 47 * 3600)


def test_a_negative_value_now_and_then_is_a_fault_of_the_meter():
    values = np.full(3000, 400.0)
    values[7] = -5.0
    repaired, findings = ranged(values, sensor(extra="valid = [-10, 50_000]"), repair=True)
    assert np.flatnonzero(np.isnan(repaired)).tolist() == [7]
    assert findings.found[0].kind == "range"


def test_below_zero_degrees_is_fine():
    ranged([-5.0] * 100, sensor("outdoor_temperature", "degC"), repair=False)
