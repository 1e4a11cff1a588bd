"""The log's lines, and what repeats."""

import io
import json
import logging
import os

import pytest

from edge_agent.logbook import Logbook

HOUR = 3600


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def written(clock):
    """`written(form)` gives a logger and the lines it has written."""
    made = []

    def begin(form="text"):
        stream = io.StringIO()
        book = Logbook(stream, form=form, clock=clock)
        log = logging.Logger("room")  # noqa: LOG001  of this test alone
        log.addHandler(book)
        made.append(book)
        return log, lambda: stream.getvalue().splitlines()

    yield begin
    for book in made:
        book.close()


def test_a_line_holds_what_is_told_and_its_fields(written):
    log, lines = written()
    log.warning("%d values", 3, extra={"fields": {"share": 0.5, "sensor": "living room"}})
    assert lines() == ['WARNING room: 3 values share=0.5 sensor="living room"']


def test_json_is_one_object_a_line_tracebacks_included(written):
    log, lines = written("json")
    try:
        raise ValueError("no\nnumber")
    except ValueError:
        log.exception("failed", extra={"fields": {"n": 2}})
    (line,) = map(json.loads, lines())
    assert (line["level"], line["logger"], line["message"], line["n"]) == ("error", "room", "failed", 2)
    assert line["traceback"].endswith("ValueError: no\nnumber")
    assert line["time"].endswith("Z")


def test_the_journal_is_told_the_priority_of_every_line(clock, tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        Logbook(stream, form="text", clock=clock).emit(logging.LogRecord("room", logging.ERROR, "", 1, "one\ntwo", (), None))
        stream.seek(0)
        assert stream.read() == "<3>ERROR room: one\n<3>two\n"


def test_ten_thousand_lines_alike_are_a_few_and_all_are_counted(written, clock):
    log, lines = written("json")
    for i in range(10_000):
        clock.now = 30.0 * i  # 3.5 days
        log.warning("closed after %d s", i)
    told = [json.loads(line) for line in lines()]
    assert len(told) == 3 + 7  # after 1, 3, 7, 15, 31, 55 and 79 h
    log.handlers[0].close()
    told = [json.loads(line) for line in lines()]
    assert sum(1 + line.get("repeated", 0) for line in told[:-1]) + told[-1]["repeated"] == 10_000


def test_what_was_kept_back_is_told_with_the_next_line_of_any_kind(written, clock):
    log, lines = written()
    for _ in range(5):
        log.warning("again")
    clock.now = HOUR
    log.info("another")
    assert lines() == ["WARNING room: again"] * 3 + ["WARNING room: again repeated=2", "INFO room: another"]


def test_a_rare_line_is_never_kept_back(written, clock):
    log, lines = written()
    for hour in range(48):
        clock.now = hour * HOUR
        log.warning("once an hour")
    assert len(lines()) == 48


def test_many_kinds_of_line_take_no_memory_without_end(written):
    log, lines = written()
    for i in range(1000):
        log.warning("kind %s", chr(200 + i))
    assert len(lines()) == 1000
    assert len(log.handlers[0]._seen) <= 200
