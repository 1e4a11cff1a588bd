"""Small runs, made once for a test session; every conversion takes seconds."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

import make_tiny_bundle as tiny


@pytest.fixture(scope="session")
def anchored_run(tmp_path_factory):
    """A finished run of an anchored model."""
    plan = tiny.tiny_plan()
    return tiny.write_run(tmp_path_factory.mktemp("runs") / "anchored", tiny.tiny_model(plan), plan)


@pytest.fixture(scope="session")
def fixed_run(tmp_path_factory):
    """A finished run of a model of one house that outputs a mean only."""
    plan = tiny.fixed_plan()
    return tiny.write_run(tmp_path_factory.mktemp("runs") / "fixed", tiny.fixed_model(plan), plan)


@pytest.fixture(scope="session")
def converted(anchored_run):
    """The anchored run's graph and twin."""
    from export.convert import convert, load_model

    return convert(load_model(anchored_run / "model.keras"), tiny.tiny_plan(), ("quantiles", "mean"))


@pytest.fixture
def own_keys(tmp_path, monkeypatch):
    """A user without keys."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "hearthcast"
