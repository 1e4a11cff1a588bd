import pytest

from edge_agent.payload import number_in, unix_s_in

NOON = 1_780_315_200  # 2026-06-01T12:00Z


@pytest.mark.parametrize(
    ("raw", "number"), [(1, 1.0), ("2.5", 2.5), (' "3" ', 3.0), (True, None), ("1_000", None), (None, None), ([1], None), ("warm", None)]
)
def test_a_number_is_a_number_or_a_text_that_is_one(raw, number):
    assert number_in(raw) == number


@pytest.mark.parametrize("raw", [NOON, NOON * 1000, str(NOON), "2026-06-01T12:00:00Z", "2026-06-01T14:00+02:00"])
def test_a_time_in_every_form(raw):
    assert unix_s_in(raw) == NOON


@pytest.mark.parametrize("raw", ["2026-06-01T12:00", "noon", None, {}, float("nan"), float("inf")])
def test_what_is_no_moment_is_none(raw):
    assert unix_s_in(raw) is None


def test_a_time_without_an_offset_is_on_the_clock_that_is_given():
    assert unix_s_in("2026-06-01T14:00", naive_offset_s=7200) == NOON
