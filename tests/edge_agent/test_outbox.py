"""Own messages on their way to the broker."""

import pytest

from edge_agent.outbox import Outbox


class Wire:
    """A connection that records what is handed to it; takes nothing while it is full."""

    def __init__(self):
        self.sent, self.is_full = [], False
        self.outbox = Outbox(self)

    def __call__(self, topic, data, *, retain, lifetime_s):
        if self.is_full:
            return None
        self.sent.append((topic, data.decode(), retain, lifetime_s))
        return len(self.sent)

    def values(self):
        return [(topic, data) for topic, data, _, _ in self.sent]

    def answer(self, *message_ids, refusal=None):
        for message_id in message_ids:
            self.outbox.answered(message_id, refusal)
        self.outbox.settle()


@pytest.fixture
def wire():
    return Wire()


def test_retained_values_wait_for_a_connection_and_others_are_dropped(wire):
    wire.outbox.put("kept", b"1", retain=True)
    wire.outbox.put("passing", b"1")
    wire.outbox.put("kept", b"2", retain=True)
    assert wire.sent == []
    wire.outbox.open()
    wire.outbox.put("passing", b"2")
    assert wire.sent == [("kept", "2", True, None), ("passing", "2", False, None)]


def test_each_connection_gets_all_retained_values_in_their_first_order(wire):
    wire.outbox.open()
    for topic, data in (("a", b"1"), ("b", b"1"), ("a", b"2")):
        wire.outbox.put(topic, data, retain=True)
    wire.outbox.close()
    wire.sent.clear()
    wire.outbox.open()
    assert wire.values() == [("a", "2"), ("b", "1")]


def test_a_value_past_its_lifetime_is_not_sent_again(wire):
    wire.outbox.put("old", b"1", retain=True, lifetime_s=0)
    wire.outbox.put("young", b"1", retain=True, lifetime_s=100.5)
    wire.outbox.open()
    assert wire.sent == [("young", "1", True, 100)]


def test_an_old_value_answered_after_the_new_one_brings_the_new_one_again(wire):
    wire.outbox.open()
    wire.outbox.put("a", b"old", retain=True)
    wire.outbox.put("a", b"new", retain=True)
    wire.answer(2, 1)
    assert wire.values() == [("a", "old"), ("a", "new"), ("a", "new")]
    wire.answer(3)
    assert len(wire.sent) == 3
    assert wire.outbox.waiting == 0


def test_a_removed_topic_is_forgotten_once_the_broker_knows(wire):
    wire.outbox.open()
    wire.outbox.put("a", b"", retain=True)
    wire.outbox.send_all()
    wire.answer(1)
    wire.outbox.send_all()
    assert wire.values() == [("a", ""), ("a", "")]


def test_a_refusal_is_logged_once_and_counted(wire, caplog):
    wire.outbox.open()
    for _ in range(3):
        wire.outbox.put("a", b"1", retain=True)
    wire.answer(1, 2, 3, refusal="Not authorized")
    assert wire.outbox.refused.counts == {"a": 3}
    (words,) = wire.outbox.refused.words()
    assert [record.getMessage() for record in caplog.records] == [words]
    assert words.startswith("broker refuses writing a (Not authorized): add 'topic write a' above the first 'user' line in the broker's ACL file")


def test_what_was_refused_is_tried_again_and_forgotten_when_it_is_taken(wire, monkeypatch):
    monkeypatch.setattr("edge_agent.outbox.TRY_AGAIN_S", 0.0)
    wire.outbox.open()
    wire.outbox.put("a", b"1", retain=True)
    wire.outbox.put("b", b"1", retain=True)
    wire.answer(1, refusal="Not authorized")
    wire.answer(2)
    assert wire.values() == [("a", "1"), ("b", "1"), ("a", "1")]
    wire.answer(3)
    assert wire.outbox.refused.words() == []
    wire.outbox.settle()
    assert len(wire.sent) == 3


def test_a_refusal_that_is_no_matter_of_rights_does_not_send_to_the_acl(wire):
    wire.outbox.open()
    wire.outbox.put("a", b"1", retain=True)
    wire.answer(1, refusal="Quota exceeded")
    assert wire.outbox.refused.words() == ["broker refuses writing a (Quota exceeded): look into the broker's log and limits"]


def test_what_a_full_connection_does_not_take_is_counted(wire):
    wire.outbox.open()
    wire.is_full = True
    wire.outbox.put("a", b"1")
    assert (wire.outbox.dropped, wire.outbox.waiting) == (1, 0)
