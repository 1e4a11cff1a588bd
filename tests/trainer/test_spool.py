import errno
import mmap
import os
from dataclasses import dataclass

import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from edge_agent.contract.series import Series
from trainer.spool import Spool


@dataclass
class Thing:
    name: str
    values: np.ndarray
    inner: list


def owner(array):
    """What an array's memory belongs to."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "run", segment=4096)


def test_what_is_kept_is_equal_and_lies_in_the_file(spool):
    thing = Thing("a", np.arange(10_000.0), [np.arange(7, dtype=np.int32), np.zeros((0, 3))])
    kept = spool.keep(thing)
    assert kept.name == "a"
    np.testing.assert_array_equal(kept.values, thing.values)
    np.testing.assert_array_equal(kept.inner[0], thing.inner[0])
    assert kept.inner[1].shape == (0, 3)
    assert isinstance(owner(kept.values), mmap.mmap)
    assert isinstance(owner(kept.inner[0]), mmap.mmap)


def test_each_thing_has_its_own_place(spool):
    kept = [spool.keep(Thing(str(i), np.full(1000 + i, float(i)), [])) for i in range(5)]
    for i, one in enumerate(kept):
        np.testing.assert_array_equal(one.values, np.full(1000 + i, float(i)))


def test_nothing_is_left_on_the_disk(spool, tmp_path):
    spool.keep(np.arange(100_000))
    assert list((tmp_path / "run").iterdir()) == []


def test_what_was_kept_outlives_the_spool(tmp_path):
    kept = Spool(tmp_path).keep(np.arange(100_000))
    assert kept.sum() == 4_999_950_000


def test_what_is_kept_cannot_be_written_to(spool):
    kept = spool.keep(np.arange(10))
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1


def test_a_selection_of_a_series_lies_in_the_file_too(spool, small_series):
    names = small_series.names[1:3]
    kept: Series = spool.keep(small_series.select(names))
    assert kept.names == names
    assert isinstance(owner(kept.values), mmap.mmap)


def test_a_full_disk_is_named(spool, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"no room for .* No space left on device; give another --out"):
        spool.keep(np.arange(10_000))
