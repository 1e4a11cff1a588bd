"""The agent's time: what a set clock does to it, and when."""

import pytest

from edge_agent.clock import CONFIRM_BACK_S, CONFIRM_S, CONFIRM_YOUNG_S, YOUNG_S, Clock, ClockSet, boottime

T = 1_772_359_200.0


class Machine:
    """A machine's clocks: one that runs, and one that is set."""

    def __init__(self, wall=T):
        self.boot, self.ahead = 100.0, wall - 100.0
        self.clock = Clock(self.wall, lambda: self.boot)

    def wall(self):
        return self.boot + self.ahead

    def run(self, seconds, *, every=1.0):
        """Leaps that the agent's time makes meanwhile."""
        leaps = []
        for _ in range(int(seconds / every)):
            self.boot += every
            leaps.append(self.clock.look())
        return [leap for leap in leaps if leap is not None]


def test_it_is_the_wall_clocks_time():
    machine = Machine()
    assert machine.clock.now() is None
    machine.run(10)
    assert machine.clock.now() == machine.wall() == T + 10
    assert machine.clock.at(50.0) == T - 50


def test_a_clock_that_is_kept_is_followed():
    machine = Machine()
    machine.run(1)
    for _ in range(100):
        machine.ahead += 0.5
        assert machine.run(1) == []
    assert machine.clock.now() == machine.wall()


@pytest.mark.parametrize("by", [3600, -3600, 86_400, -86_400, -T + 5000])
def test_a_clock_that_is_set_and_set_back_is_not_noticed(by):
    machine = Machine()
    machine.run(YOUNG_S + 10)
    expected = machine.wall()
    machine.ahead += by
    assert machine.run(CONFIRM_S - 10) == []
    assert machine.clock.now() == expected + CONFIRM_S - 10
    assert machine.clock.wall_ahead_s == by
    assert f"set by {by:+.0f} s" in machine.clock.problem
    machine.ahead -= by
    assert machine.run(100) == []
    assert machine.clock.problem is None
    assert machine.clock.now() == machine.wall()


@pytest.mark.parametrize("by", [3600, -3600, 86_400])
def test_a_clock_that_stays_set_is_believed(by):
    machine = Machine()
    machine.run(YOUNG_S + 10)
    before = machine.wall()
    machine.ahead += by
    (leap,) = machine.run(CONFIRM_S + 5)
    assert leap == ClockSet(before + CONFIRM_S + 1, before + CONFIRM_S + 1 + by)
    assert machine.clock.now() == machine.wall()


@pytest.mark.parametrize("by", [-3600, -86_400])
def test_a_clock_set_back_that_nobody_knows_to_have_been_ahead_is_believed_after_hours(by):
    machine = Machine()
    machine.clock.explains = lambda _leap: False
    machine.run(YOUNG_S + 10)
    machine.ahead += by
    assert machine.run(CONFIRM_BACK_S - 10, every=10) == []
    assert len(machine.run(20)) == 1


def test_soon_after_the_start_a_clock_set_forward_is_believed_soon():
    machine = Machine()
    machine.run(30)
    machine.ahead += 40_000
    assert len(machine.run(CONFIRM_YOUNG_S + 2)) == 1
    machine.ahead -= 40_000
    assert machine.run(CONFIRM_YOUNG_S + 2) == []


def test_a_clock_set_again_and_again_is_believed_when_it_rests():
    machine = Machine()
    machine.run(YOUNG_S + 10)
    for _ in range(20):
        machine.ahead += 100
        assert machine.run(CONFIRM_S / 2) == []
    assert len(machine.run(CONFIRM_S)) == 1


def test_a_clock_that_others_contradict_is_not_believed_meanwhile():
    machine = Machine()
    machine.run(YOUNG_S + 10)
    machine.ahead += 3600
    for _ in range(20):
        assert machine.run(CONFIRM_S / 2) == []
        machine.clock.contradict()
    assert len(machine.run(CONFIRM_S + 5)) == 1


def test_in_1970_there_is_no_time_until_it_is_set():
    machine = Machine(wall=30.0)
    assert machine.run(5000, every=10) == []
    assert machine.clock.now() is None
    assert "stands at 1970-01-01T01:23:50Z" in machine.clock.problem
    heard = machine.boot - 60
    machine.ahead += T
    assert machine.run(1) == []
    assert machine.clock.now() == machine.wall()
    assert machine.clock.at(heard) == machine.wall() - 61
    assert machine.clock.problem is None


def test_a_clock_that_falls_to_1970_is_never_believed():
    machine = Machine()
    machine.run(10)
    machine.ahead -= T
    assert machine.run(10 * CONFIRM_S, every=10) == []
    assert machine.clock.now() == machine.wall() + T


def test_a_clock_behind_what_was_known_waits_to_be_set():
    machine = Machine()
    machine.clock.known_until = T + 5000
    machine.run(60)
    assert machine.clock.now() is None
    assert "before the last step in the history" in machine.clock.problem
    machine.ahead += 5000
    assert machine.run(1) == []
    assert machine.clock.now() == machine.wall()


def test_a_clock_that_stays_behind_what_was_known_is_believed_at_last():
    machine = Machine()
    machine.clock.known_until = T + 50_000
    (leap,) = machine.run(CONFIRM_S + 5)
    assert (leap.before, leap.after) == (T + 50_000, T + CONFIRM_S + 1)


def test_the_machines_own_clock_runs_on():
    first = boottime()
    assert 0 < first <= boottime()
