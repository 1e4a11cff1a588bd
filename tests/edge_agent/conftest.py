"""Fixtures of the agent's tests."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_bundle():
    """A signed bundle that forecasts `energy` of any house; see tests/fixtures/make_tiny_bundle.py."""
    return Path(__file__).parents[1] / "fixtures" / "tiny"
