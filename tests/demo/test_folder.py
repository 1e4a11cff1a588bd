import os
import subprocess
import sys

import pytest

from demo.folder import prepare_folder
from edge_agent.contract.errors import ConfigError


def test_new_folder_says_what_it_holds(tmp_path):
    folder = prepare_folder(tmp_path / "out")
    assert "forecast.png" in (folder.path / "README.txt").read_text()
    assert folder.data.is_dir()


def test_earlier_demo_is_replaced(tmp_path):
    first = prepare_folder(tmp_path / "out")
    first.picture.write_bytes(b"old")
    assert not prepare_folder(tmp_path / "out").picture.exists()


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="no demo wrote"):
        prepare_folder(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_folder_of_a_demo_that_still_runs_is_refused_with_how_to_end_it(tmp_path):
    prepare_folder(tmp_path / "out").kept.write_text(f"{os.getpid()}")
    with pytest.raises(ConfigError, match=f"kill {os.getpid()}"):
        prepare_folder(tmp_path / "out")


def test_folder_of_a_demo_that_has_ended_is_replaced(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    prepare_folder(tmp_path / "out").kept.write_text(f"{ended.pid}")
    assert not prepare_folder(tmp_path / "out").kept.exists()


def test_folder_that_cannot_be_written_is_a_configuration_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        prepare_folder(tmp_path / "file" / "out")


def test_keys_go_into_the_folder(tmp_path):
    folder = prepare_folder(tmp_path / "out")
    assert folder.environment["XDG_CONFIG_HOME"] == str(folder.path / "config")
