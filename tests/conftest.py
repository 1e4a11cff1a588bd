"""Fixtures that several folders share: the reference house, and a real Mosquitto on a random loopback port."""

import gc
import os
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from benchmarks.mosquitto import Mosquitto, executable
from edge_agent.contract.schema import read_house

ROOT = Path(__file__).parents[1]

# The same cases in every run, and no failure because the machine was busy.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))


@pytest.fixture(scope="session")
def reference_house():
    """The reference house as shipped."""
    return read_house(ROOT / "deploy" / "houses" / "uci_appliances.toml")


@pytest.fixture(scope="session")
def reference_csv():
    """The reference house's published table, which is not part of the project."""
    path = Path(os.environ.get("HEARTHCAST_REFERENCE_CSV", "no such file"))
    if not path.is_file():
        pytest.skip("set HEARTHCAST_REFERENCE_CSV to the path of energydata_complete.csv[.gz] (UCI, DOI 10.24432/C5VC8G) to run this test")
    return path


@pytest.fixture
def paho_garbage():
    """For every fixture that makes paho clients: paho leaves its wake-up sockets to the collector, in an order that warns at random."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def make_broker(tmp_path, paho_garbage):
    """Starts Mosquittos: `make_broker(users={"name": "password"}, acl="…", extra=["conf line"])`; skips where there is none."""
    if executable() is None:
        pytest.skip("needs Mosquitto: apt-get install mosquitto")
    started = []

    def make(**options):
        folder = tmp_path / f"broker{len(started)}"
        folder.mkdir()
        started.append(Mosquitto(folder, **options))
        return started[-1].start()

    yield make
    for broker in started:
        broker.stop()


@pytest.fixture
def broker(make_broker):
    """A Mosquitto that lets everybody do everything."""
    return make_broker()


@pytest.fixture
def eventually():
    """`eventually(claim)` waits until `claim()` holds and returns its value; the time limit only ends a hang."""

    def wait(claim, timeout_s=30):
        end = time.monotonic() + timeout_s
        while not (value := claim()):
            assert time.monotonic() < end, "this never happened"
            time.sleep(0.02)
        return value

    return wait
