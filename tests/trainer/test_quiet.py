import os

import pytest

from trainer.quiet import without_native_stderr


def test_native_notes_are_swallowed(capfd):
    with without_native_stderr():
        os.write(2, b"oneDNN custom operations are on")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_what_was_held_back_is_shown_when_the_block_fails(capfd):
    def fail():
        with without_native_stderr():
            os.write(2, b"libfoo.so is missing")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "libfoo.so is missing"
