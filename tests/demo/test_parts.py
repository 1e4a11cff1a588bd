import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from demo.folder import prepare_folder
from demo.material import simulated_material
from demo.outcome import MODEL, score_forecasts
from demo.parts import Listener, read_retained, replay_days, start_agent
from demo.replay import Connection
from edge_agent.commands import HISTORY
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import DAY_S
from edge_agent.history import History

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def folder(tmp_path):
    """A demo's folder in which the tiny bundle is trusted."""
    folder = prepare_folder(tmp_path / "out")
    trusted = Path(folder.environment["XDG_CONFIG_HOME"]) / "hearthcast" / "trusted"
    trusted.mkdir(parents=True)
    shutil.copy(FIXTURES / "tiny.pub", trusted)
    return folder


@pytest.fixture
def material(folder):
    """A simulated house of which two days are replayed."""
    whole = simulated_material(7, folder, quick=True)
    material = replace(whole, replay_from=whole.origin - 2 * DAY_S)
    with History(folder.agent / HISTORY) as history:
        history.import_series(material.earlier)
    return material


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
def address(request):
    """Host and port of a broker: ours, and a Mosquitto as Debian configures it, which drops what a slow reader leaves lying."""
    broker = request.getfixturevalue("embedded" if request.param == "embedded" else "broker")
    return "127.0.0.1", broker.port


@pytest.fixture
def agent(folder, address):
    """The agent, running the tiny bundle."""
    agent = start_agent(folder, FIXTURES / "tiny", broker=f"{address[0]}:{address[1]}", announced=False)
    yield agent
    agent.stop()


def test_replayed_days_give_a_forecast_at_every_step_and_the_last_one_is_retained(material, agent, address):
    with Connection(*address) as connection:
        listener = Listener(material, agent, connection)
        listener.wait_online()
        count = replay_days(material, listener, Console(quiet=True))
    assert count == 7 * (2 * 144 + 1) + 1  # seven devices at every step edge of two days, and the closing message
    assert sorted(listener.forecasts) == list(range(material.replay_from + 600, material.origin + 1, 600))
    with Connection(*address) as visitor:
        newest, hourly = read_retained(material, visitor)
    assert newest == listener.forecasts[material.origin]
    assert len(hourly["forecast"]) == 24
    outcome = score_forecasts(list(listener.forecasts.values()), material.series, material.house, material.target)
    assert (outcome.n_origins, outcome.n_days) == (48, 2)
    assert np.isfinite(outcome.lines[MODEL].crps)


def test_agent_that_dies_ends_the_wait(material, agent, address):
    with Connection(*address) as connection:
        listener = Listener(material, agent, connection)
        listener.wait_online()
        agent.process.kill()
        with pytest.raises(ServiceError, match="the agent ended with exit code -9"):
            listener.wait_forecast(material.origin)
