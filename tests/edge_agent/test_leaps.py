"""How far back a clock that was ahead must be undone."""

import json

from edge_agent.clock import ClockSet
from edge_agent.leaps import Leaps, Undo

T = 1_772_359_200.0
HOUR, DAY = 3600.0, 86_400.0


def test_a_leap_that_is_taken_back_is_undone_from_where_it_was_made():
    leaps = Leaps(began_at=T - DAY)
    leaps.note(ClockSet(T, T + DAY))
    assert leaps.undo(ClockSet(T + DAY + 5 * HOUR, T + 5 * HOUR)) == Undo(T, T + DAY - 60, DAY)
    assert leaps.forward == []


def test_the_leap_of_the_same_size_is_undone():
    leaps = Leaps(began_at=T - DAY)
    leaps.note(ClockSet(T, T + HOUR))
    leaps.note(ClockSet(T + 2 * HOUR, T + 2 * DAY))
    assert leaps.undo(ClockSet(T + 5 * HOUR, T + 4 * HOUR)).since == T
    assert leaps.forward == [(T + 2 * HOUR, T + 2 * DAY)]


def test_a_time_within_what_was_leapt_over_undoes_the_leap_after_a_restart_too():
    leaps = Leaps()
    leaps.note(ClockSet(T, T + DAY))
    again = Leaps(known_until=T + DAY + HOUR)
    again.restore(json.loads(json.dumps(leaps.state())))
    assert again.undo(ClockSet(T + DAY + HOUR, T + 3 * HOUR)) == Undo(T, T + DAY - 60, DAY)


def test_without_a_leap_the_clock_was_ahead_since_this_run_began():
    leaps = Leaps(known_until=T, began_at=T + 2 * HOUR)
    assert leaps.undo(ClockSet(T + 3 * HOUR, T + 2 * HOUR)) == Undo(T, T + 2 * HOUR - 60, HOUR)
    assert Leaps(began_at=T).undo(ClockSet(T + 3 * HOUR, T + 2 * HOUR)).since == T - HOUR


def test_a_clock_that_was_ahead_before_this_run_leaves_the_past_alone():
    leaps = Leaps(known_until=T, began_at=T + 600)
    assert leaps.undo(ClockSet(T + 900, T + 900 - DAY)) == Undo(T + 900 - DAY, T + 900 - DAY, None)


def test_a_leap_back_is_explained_by_one_forward_or_by_a_wrong_beginning():
    back = ClockSet(T + 5 * HOUR, T + 4 * HOUR)
    leaps = Leaps(known_until=T, began_at=T + 600)
    assert not leaps.explains(back)
    leaps.note(ClockSet(T + HOUR, T + 2 * HOUR))
    assert leaps.explains(back)
    assert Leaps(known_until=T, began_at=T + HOUR + 600).explains(back)
    assert not Leaps(known_until=T).explains(back)


def test_nothing_is_restored_from_nothing():
    leaps = Leaps()
    leaps.restore(None)
    assert leaps.forward == []


def test_few_leaps_are_remembered():
    leaps = Leaps()
    for i in range(50):
        leaps.note(ClockSet(T + i, T + i + HOUR))
    assert len(leaps.state()) == 10
