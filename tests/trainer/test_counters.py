import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import parse_house
from trainer.counters import believed, find_falls
from trainer.findings import Findings
from trainer.table_values import canonical_values

SENSOR = parse_house(
    'site = "t"\ntime_zone = "UTC"\ntargets = [{name = "x", sensor = "s"}]\n'
    '[[sensors]]\nname = "s"\nrole = "energy"\nunit = "kWh"\ncolumn = "c"\ncolumn_form = "counter"\n',
    source="house.toml",
).sensors[0]


def steps(readings, *, repair=True, cadence_s=3600):
    """Energy of each step in Wh, and the findings."""
    findings, readings = Findings("t.csv", repair=repair), np.asarray(readings, float)
    numbers = np.arange(2, len(readings) + 2)
    kept = believed(readings, SENSOR, cadence_s=cadence_s, numbers=numbers, findings=findings)
    return canonical_values(kept, SENSOR, cadence_s=cadence_s), findings


def kinds(findings):
    return [(found.kind, found.done, found.steps) for found in findings.found]


# 0.1 kWh in each step
BEFORE = 120 + 0.1 * np.arange(30)


def test_a_counter_that_rises_is_believed():
    energy, findings = steps(BEFORE, repair=False)
    np.testing.assert_allclose(energy[:-1], 100.0)
    assert findings.found == []


@pytest.mark.parametrize("first", [0.0, 3.2])
def test_a_new_meter_leaves_one_step_unknown(first):
    readings = [*BEFORE, *(first + 0.1 * np.arange(30))]
    with pytest.raises(DataError, match=r"falls 1 time to a new count \(row 32\): a counter that only rises is expected: was the meter replaced"):
        steps(readings, repair=False)
    energy, findings = steps(readings)
    assert np.flatnonzero(np.isnan(energy)).tolist() == [29, 59]
    np.testing.assert_allclose(np.delete(energy, [29, 59]), 100.0)
    assert kinds(findings) == [("reset", "masked", 1)]


def test_readings_sent_again_count_once():
    energy, findings = steps([*BEFORE[:20], *BEFORE[15:19], *BEFORE[24:]])  # over 4 steps the counter goes on, unseen
    assert kinds(findings) == [("replay", "masked", 4)]
    assert np.nansum(energy) == pytest.approx(1000 * (BEFORE[-1] - BEFORE[0]) - 500)  # 5 steps are more than the two hours that a gap may last
    assert np.isnan(energy[19:24]).all()


def test_a_reading_of_zero_is_left_out_and_its_energy_spread():
    readings = BEFORE.copy()
    readings[10] = 0.0
    energy, findings = steps(readings)
    np.testing.assert_allclose(energy[:-1], 100.0)
    assert kinds(findings) == [("replay", "masked", 1)]


def test_a_small_counter_that_drops_out_does_not_invent_energy():
    readings = 3 + 0.1 * np.arange(30)
    readings[10:12] = 0.0  # coming back would pass for 4 kWh in an hour
    assert np.nanmax(steps(readings)[0]) == pytest.approx(100.0)


def test_a_counter_of_the_day_needs_no_repair():
    readings = np.tile(0.1 * np.arange(1, 25), 10)
    energy, findings = steps(readings, repair=False)
    assert findings.found == []
    assert "starts anew every day" in findings.notes[0]
    assert np.isnan(energy.reshape(10, 24)[:, -1]).all()
    np.testing.assert_allclose(energy.reshape(10, 24)[:, :-1], 100.0)


def test_energy_of_the_step_is_no_counter():
    with pytest.raises(DataError, match=r'falls in 34% of the steps, which no counter does: .* set column_form = "interval"'):
        steps(np.tile([60.0, 900.0, 30.0], 50))


def test_a_count_begun_anew_may_later_pass_the_old_one():
    readings = np.array([5.0, 5.5, 6.0, 0.0, *(0.01 * np.arange(1, 1001))])
    falls = find_falls(readings, cadence_s=3600)
    assert falls.resets.tolist() == [3]
    assert not falls.stale.any()
