"""Waiting for the broker: what is said, how often, and how long each wait is."""

import logging

import pytest

from edge_agent.outage import LONGEST_WAIT_S, Outage


@pytest.fixture
def outage():
    return Outage("gateway:1883")


def waits(outage, n, **how):
    return [outage.wait_s(**how) for _ in range(n)]


def test_waits_double_up_to_two_seconds_so_that_a_broker_is_found_within_five(outage):
    outage.report("cannot be reached")
    for wait_s, top_s in zip(waits(outage, 6), [1, 2, 2, 2, 2, 2], strict=True):
        assert top_s / 2 <= wait_s <= top_s


def test_waits_are_random(outage):
    assert len(set(waits(outage, 20))) == 20


def test_a_broker_that_refuses_is_asked_once_a_minute_in_the_end(outage):
    outage.report("refuses user 'x'", "refused")
    assert 30 <= waits(outage, 12)[-1] <= 60


def test_rivals_leave_each_other_minutes(outage):
    outage.report("closed the connection")
    assert all(150 <= wait_s <= LONGEST_WAIT_S["contested"] for wait_s in waits(outage, 20, is_contested=True))


def test_after_a_connection_that_lasted_the_next_attempt_follows_at_once(outage):
    waits(outage, 9)
    assert outage.wait_s(after_stable=True) <= 1


def test_the_same_problem_is_logged_once_an_hour_and_its_end_only_when_it_was(outage, caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("edge_agent.outage.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO):
        for now[0] in (0.0, 10.0, 20.0, 3599.0, 3600.0):
            outage.report("closed the connection")
            outage.over()
    said = [record.getMessage() for record in caplog.records]
    assert said[::2] == ["broker gateway:1883 closed the connection; trying on"] * 2
    assert len(said) == 4
    assert (outage.attempts, outage.problem) == (5, None)
