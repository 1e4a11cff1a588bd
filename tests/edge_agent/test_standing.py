"""Which model forecasts: take-over, step back, pin and roll back, with scores made by hand."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract.errors import ServiceError
from edge_agent.standing import MOST_DEATHS, MOST_EVENTS, PATIENCE, SHIPPED, DayPair, Shadow, Standing

OLD, NEW, NEXT = "0" * 16, "1" * 16, "2" * 16
NOW = 1_780_000_000


def days(*scores):
    """Scores of the current model and of the one in shadow, a pair a day."""
    return [DayPair(date(2026, 6, 1) + timedelta(i), current, shadow) for i, (current, shadow) in enumerate(scores)]


def candidate(standing=None, **options):
    return (standing or Standing()).with_installed(NEW, created_at="2026-11-01T00:00:00Z", now=NOW, **options)


def watched():
    """NEW has taken over from OLD."""
    return replace(Standing(current=NEW, previous=OLD), shadow=Shadow(OLD, NOW, 14, is_candidate=False))


def test_nothing_installed_is_what_ships():
    assert Standing() == Standing(current=SHIPPED, previous=None, shadow=None, pinned=False)
    assert Standing().models == set()
    assert Standing().judged(days(*[(1.0, 0.5)] * 50), now=NOW) == Standing()


def test_a_new_model_forecasts_in_shadow_first():
    standing = candidate()
    assert (standing.current, standing.shadow) == (SHIPPED, Shadow(NEW, NOW, 14, is_candidate=True))
    assert standing.models == {NEW}
    assert standing.events == ((NOW, f"{NEW} installed, in shadow"),)


def test_it_takes_over_when_it_was_no_worse_over_enough_days():
    standing = candidate(days=3)
    assert standing.judged(days((1.0, 0.1), (1.0, 0.1)), now=NOW) is standing
    after = standing.judged(days((1.0, 0.5), (1.0, 1.5), (1.0, 1.0)), now=NOW + 5)  # equal in the mean
    assert (after.current, after.previous) == (NEW, SHIPPED)
    assert after.shadow == Shadow(SHIPPED, NOW + 5, 3, is_candidate=False)
    assert after.events[-1] == (NOW + 5, f"{NEW} took over from shipped: its score is no worse, 1 beside 1 over 3 days")


def test_a_worse_one_goes_on_in_shadow_and_may_take_over_later_on_all_its_days():
    standing = candidate(days=2)
    assert standing.judged(days((1.0, 1.2), (1.0, 1.2)), now=NOW) is standing
    assert standing.judged(days((1.0, 1.2), (1.0, 1.2), (1.0, 0.7)), now=NOW) is standing  # its last two days alone would have been enough
    assert standing.judged(days((1.0, 1.2), (1.0, 1.2), (1.0, 0.6)), now=NOW).current == NEW


def test_a_candidate_that_stays_worse_is_given_up():
    standing = candidate(days=2)
    enough = 2 * PATIENCE
    assert standing.judged(days(*[(1.0, 1.01)] * (enough - 1)), now=NOW).shadow is not None
    after = standing.judged(days(*[(1.0, 1.01)] * enough), now=NOW)
    assert (after.current, after.shadow, after.models) == (SHIPPED, None, set())
    assert "given up: its score stayed worse, 1.01 beside 1 over 4 days" in after.events[-1][1]


@pytest.mark.parametrize(("days_behind", "score", "said"), [(7, 1.21, "1.21 beside 1 over 7 days"), (28, 1.03, "1.03 beside 1 over 28 days")])
def test_the_one_before_comes_back_when_the_new_one_falls_behind(days_behind, score, said):
    behind = [(score, 1.0)] * days_behind
    assert watched().judged(days(*behind[1:]), now=NOW) == watched()
    after = watched().judged(days(*behind), now=NOW)
    assert (after.current, after.previous, after.shadow) == (OLD, NEW, None)
    assert after.events[-1][1] == f"stepped back from {NEW} to {OLD}: its score fell behind, {said}"


def test_it_is_judged_by_the_last_days():
    good = [(1.0, 2.0)] * 30
    assert watched().judged(days(*good, *[(1.25, 1.0)] * 6), now=NOW).current == NEW
    assert watched().judged(days(*good, *[(1.25, 1.0)] * 7), now=NOW).current == OLD


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param([(1.19, 1.0)] * 27, id="by less than a fifth in some weeks"),
        pytest.param([(1.02, 1.0)] * 60, id="by no more than two percent ever"),
        pytest.param([(99.0, 1.0)] * 3 + [(1.0, 1.1)] * 4, id="on three bad days of a week"),
        pytest.param([(99.0, 1.0)] * 6, id="too few days"),
        pytest.param([(0.0, 0.0)] * 60, id="nothing used, nothing wrong"),
        pytest.param([], id="no day yet"),
    ],
)
def test_what_may_be_luck_is_no_reason_to_step_back(scores):
    assert watched().judged(days(*scores), now=NOW) == watched()


def test_the_one_before_is_watched_as_long_as_it_takes():
    assert watched().judged(days(*[(1.0, 1.01)] * 500), now=NOW) == watched()


def test_a_pinned_model_stays_whatever_the_scores():
    pinned = candidate(days=1).with_pin(pinned=True, now=NOW)
    assert pinned.judged(days((1.0, 0.1)), now=NOW) == pinned
    held = watched().with_pin(pinned=True, now=NOW)
    assert held.judged(days(*[(9.0, 1.0)] * 30), now=NOW) == held
    assert held.without(NEW, "it died", now=NOW) == held
    free = pinned.with_pin(pinned=False, now=NOW)
    assert free.judged(days((1.0, 0.1)), now=NOW).current == NEW
    assert [what for _, what in free.events[-2:]] == ["shipped pinned", "shipped no longer pinned"]


def test_by_hand_a_model_is_current_at_once():
    at_once = candidate(Standing(current=OLD), days=0)
    assert (at_once.current, at_once.previous, at_once.shadow) == (NEW, OLD, Shadow(OLD, NOW, 14, is_candidate=False))
    chosen = watched().with_current(OLD, now=NOW)
    assert (chosen.current, chosen.previous, chosen.shadow) == (OLD, NEW, None)
    assert chosen.with_current(OLD, now=NOW) is chosen
    assert chosen.with_current(NEW, now=NOW).current == NEW


def test_a_third_model_replaces_the_shadow():
    third = watched().with_installed(NEXT, created_at="2026-12-01T00:00:00Z", now=NOW + 9)
    assert (third.current, third.previous, third.shadow.model) == (NEW, OLD, NEXT)
    assert third.models == {OLD, NEW, NEXT}
    over = third.judged(days(*[(1.0, 0.9)] * 14), now=NOW)
    assert (over.current, over.previous, over.models) == (NEXT, NEW, {NEW, NEXT})


def dead(standing, model, times):
    for _ in range(times):
        standing = standing.with_death(model, now=NOW)
    return standing


def test_a_model_under_which_the_agent_dies_has_to_go():
    before = dead(watched(), NEW, MOST_DEATHS - 1)
    assert (before.current, before.deaths) == (NEW, {NEW: MOST_DEATHS - 1})
    after = dead(before, NEW, 1)
    assert (after.current, after.previous, after.shadow) == (OLD, NEW, None)
    assert "the agent died 3 times while it was at work" in after.events[-1][1]
    pinned = dead(watched().with_pin(pinned=True, now=NOW), NEW, MOST_DEATHS)
    assert (pinned.current, pinned.pinned) == (OLD, False)
    in_shadow = dead(candidate(days=3), NEW, MOST_DEATHS)
    assert (in_shadow.current, in_shadow.shadow) == (SHIPPED, None)


def test_the_first_model_steps_back_to_what_ships():
    only = Standing(current=NEW)
    assert only.without(NEW, "broken", now=NOW).current == SHIPPED
    assert Standing().without(SHIPPED, "broken", now=NOW).current == SHIPPED


def test_only_the_last_events_are_kept():
    standing = Standing()
    for i in range(2 * MOST_EVENTS):
        standing = standing.with_pin(pinned=i % 2 == 0, now=i)
    assert [time for time, _ in standing.events] == list(range(MOST_EVENTS, 2 * MOST_EVENTS))


SHADOWS = st.none() | st.builds(Shadow, st.sampled_from([SHIPPED, OLD, NEW]), st.integers(0, 2**40), st.integers(1, 99), st.booleans())
STANDINGS = st.builds(
    Standing,
    current=st.sampled_from([SHIPPED, OLD, NEW]),
    previous=st.sampled_from([None, SHIPPED, OLD]),
    shadow=SHADOWS,
    pinned=st.booleans(),
    newest=st.text(max_size=20),
    unsigned=st.lists(st.sampled_from([OLD, NEW])).map(tuple),
    deaths=st.dictionaries(st.sampled_from([OLD, NEW]), st.integers(0, 3)),
    events=st.lists(st.tuples(st.integers(0, 2**40), st.text(max_size=9)), max_size=3).map(tuple),
)


@settings(max_examples=100)
@given(STANDINGS)
def test_written_and_read_it_is_the_same(standing):
    assert Standing.from_json(json.loads(json.dumps(standing.to_json()))) == standing


@pytest.mark.parametrize(
    "change",
    [lambda d: d.pop("current"), lambda d: d.update(surprise=1), lambda d: d.update(current="../../etc"), lambda d: d.update(shadow={"model": OLD})],
)
def test_what_nobody_wrote_is_refused(change):
    data = watched().to_json()
    change(data)
    with pytest.raises(ServiceError):
        Standing.from_json(data)


@settings(max_examples=200)
@given(STANDINGS, st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e3)), max_size=40))
def test_whatever_the_scores_one_model_forecasts_and_none_is_lost_unnamed(standing, scores):
    after = standing.judged(days(*scores), now=NOW)
    assert after.current in {standing.current, standing.previous or SHIPPED, standing.shadow.model if standing.shadow else SHIPPED}
    assert after == standing or len(after.events) == len(standing.events) + 1
    assert not standing.pinned or after == standing
