"""Which topics are read, and which the broker refuses."""

import pytest

from edge_agent.reads import Reads


class Wire:
    """Numbers the requests."""

    def __init__(self):
        self.requests = []

    def __call__(self, topics):
        self.requests.append(list(topics))
        return len(self.requests)


@pytest.fixture
def wire():
    return Wire()


def test_each_answer_goes_to_the_topics_of_its_own_request(wire, caplog):
    reads = Reads(["a", "b", "a"], wire, user="agent")
    reads.ask(reads.topics)
    reads.ask(reads.add(["b", "c", "d"]))
    assert wire.requests == [["a", "b"], ["c", "d"]]
    reads.answered(2, [None, "Not authorized"])
    reads.answered(1, [None, None])
    words = (
        "broker refuses reading d (Not authorized): add 'topic read d' below 'user agent' in the broker's ACL file, and let the broker read it again"
    )
    assert reads.refused.words() == [words]
    assert [record.getMessage() for record in caplog.records] == [words]


def test_a_topic_that_is_allowed_later_is_no_problem_any_more(wire):
    reads = Reads(["a"], wire)
    for refusal in ("Unspecified error", None):
        reads.ask(reads.topics)
        reads.answered(len(wire.requests), [refusal])
        assert (reads.refused.words() == []) == (refusal is None)


def test_nothing_new_is_not_asked_for(wire):
    reads = Reads(["a"], wire)
    reads.ask(reads.add(["a"]))
    assert wire.requests == []


def test_an_answer_to_nothing_changes_nothing(wire):
    reads = Reads(["a"], wire)
    reads.answered(7, ["Not authorized"])
    assert reads.refused.words() == []


def test_what_is_read_no_longer_is_no_problem_either(wire):
    reads = Reads(["a", "b"], wire)
    reads.ask(reads.topics)
    reads.answered(1, ["Not authorized", None])
    assert reads.remove(["a", "c", "a"]) == ["a"]
    assert (reads.topics, reads.refused.words()) == (["b"], [])
