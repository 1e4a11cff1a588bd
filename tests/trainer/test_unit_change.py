import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from trainer.findings import Findings
from trainer.unit_change import settle_units, unit_changes

HOUR = 3600


def found(energy, step_s=HOUR):
    return [(change.first, change.last, change.power) for change in unit_changes(energy, step_s)]


@pytest.mark.parametrize("power", [1, 2, 3, -1, -3])
@pytest.mark.parametrize("step_s", [600, 3600])
def test_a_change_of_unit_is_found_to_the_hour(lived_in, power, step_s):
    energy, per_day = lived_in(90, step_s), 86_400 // step_s
    energy[60 * per_day + 5 :] *= 10.0**power
    ((first, last, by),) = found(energy, step_s)
    assert (last, by) == (len(energy), power)
    assert abs(first - (60 * per_day + 5)) * step_s <= 2 * HOUR


def test_the_shorter_part_is_in_the_other_unit(lived_in):
    energy = lived_in(90)
    energy[24 * 20 :] *= 10.0
    ((first, last, by),) = found(energy)
    assert (first, by) == (0, -1)
    assert abs(last - 24 * 20) <= 2


def test_the_unit_that_no_home_has_is_the_other_one_however_long_it_lasts(lived_in):
    energy = lived_in(90)
    energy[24 * 20 :] *= 1000.0  # some 200 kW
    ((first, last, by),) = found(energy)
    assert (last, by) == (len(energy), 3)
    assert abs(first - 24 * 20) <= 2


def test_a_week_in_another_unit_is_found(lived_in):
    energy = lived_in(90)
    energy[480:648] *= 1000.0
    ((first, last, by),) = found(energy)
    assert by == 3
    assert abs(first - 480) <= 2 >= abs(last - 648)


def test_a_home_has_one_unit_whatever_its_people_do(lived_in):
    energy = lived_in(90)
    holiday = energy.copy()
    holiday[480:816] = 90.0
    moved_in = energy.copy()
    moved_in[:600] = 8.0
    heated = energy.copy()
    heated[900:] += 2500.0 * (np.arange(1260) % 24 < 8)
    assert [found(home) for home in (energy, holiday, moved_in, heated, np.zeros(2000), np.full(2000, np.nan))] == [[]] * 6


def test_a_change_of_unit_is_refused_repaired_or_accepted(lived_in):
    energy = lived_in(90)
    wrong = energy.copy()
    wrong[1440:] *= 10.0

    def settle(**options):
        findings = Findings("t.csv", **options)
        return settle_units(wrong, start=0, step_s=HOUR, sensor="mains", findings=findings), findings.found

    with pytest.raises(DataError, match=r"mains: energy is 10 times .* from 1970-03-02T00.*--accept unit if the home really is so"):
        settle(repair=False)
    mended, (finding,) = settle(repair=True)
    unknown = np.isnan(mended)
    assert unknown.sum() == 12
    np.testing.assert_allclose(mended[~unknown], energy[~unknown])
    assert (finding.kind, finding.done, finding.sensor) == ("unit", "repaired", "mains")
    left, (finding,) = settle(repair=False, accept=("unit",))
    assert left is wrong
    assert finding.done == "noted"
