"""Another agent under the same name is known by its mark; an earlier run of this one is none."""

import pytest

from edge_agent.rivals import MEMORY_S, Rivals

T = 1000.0


@pytest.fixture
def rivals():
    return Rivals("hearthcast-home")


def test_every_run_has_a_mark_of_its_own(rivals):
    assert rivals.mark != Rivals("hearthcast-home").mark


def test_what_an_earlier_run_left_is_no_rival(rivals):
    for status in (b"online", b"offline", b"stopped"):
        rivals.heard("other", status, T)
    rivals.heard(rivals.mark, b"online", T)
    assert not rivals.is_proven(T)
    assert rivals.words(T) == []


def test_the_late_will_of_an_earlier_run_is_no_rival(rivals):
    rivals.heard(rivals.mark, b"online", T)
    rivals.heard("other", b"offline", T + 45)
    assert not rivals.is_proven(T + 46)


def test_another_one_who_comes_online_is_a_rival(rivals):
    rivals.heard(rivals.mark, b"online", T)
    rivals.heard("other", b"online", T + 100)
    assert rivals.is_proven(T + 100)
    assert "'hearthcast-home'" in rivals.words(T + 100)[0]
    assert not rivals.is_proven(T + 101 + MEMORY_S)


def test_another_ones_will_again_and_again_is_a_rivals(rivals):
    rivals.heard(rivals.mark, b"online", T)
    for at in (T + 5, T + 10):
        rivals.heard("other", b"offline", at)
    assert rivals.is_proven(T + 10)


def test_unmarked_statuses_prove_nothing(rivals):
    rivals.heard(rivals.mark, b"online", T)
    for at in range(10):
        rivals.heard(None, b"online", T + at)
    assert not rivals.is_proven(T + 10)


def test_a_broker_that_says_so_is_believed(rivals):
    rivals.took_over(T)
    assert rivals.is_proven(T)
