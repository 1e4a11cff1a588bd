"""The parts of the demo that run other programs: training and export, the agent, the replay, and a last look at the broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from demo.folder import Folder
from demo.material import Material
from demo.outcome import Payload, unix_s
from demo.programs import Agent, run_program
from demo.replay import Connection, replay
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import iso_local, iso_utc
from edge_agent.homeassistant import hourly_topic

MESSAGES_AHEAD: Final = 400
"""How far the replay may run ahead of the agent: Mosquitto keeps 1,000 messages for a slow reader and drops the rest."""
START_TIMEOUT_S: Final = 60.0


def tune_and_export(folder: Folder) -> Path:
    """Let the model that ships learn from what the agent remembers, export what came of it, and return the signed bundle.

    Raises:
        ServiceError: a program failed; the message names it and its log.
    """
    history = folder.data / "history.csv"
    agent_flags = ("--house", folder.house, "--state-dir", folder.agent)
    run_program("edge_agent", ("history", "export", *agent_flags, "--out", history), log=folder.log("history"), environment=folder.environment)
    fit = ("fit", "--preset", "finetune", "--house", folder.house, "--data", history, "--out", folder.run, "--tracking-uri", folder.tracking_uri)
    run_program("trainer", fit, log=folder.log("train"), environment=folder.environment)
    # it is a demo: it shows what came of the training, and its scores, whatever they are
    run_program("export", (folder.run, "--out", folder.bundle, "--even-if-worse"), log=folder.log("export"), environment=folder.environment)
    return folder.bundle


def start_agent(folder: Folder, bundle: Path | None, *, broker: str, announced: bool) -> Agent:
    """The agent on the replay's clock, with the model that ships where there is no `bundle`; `announced` to Home Assistant, if somebody will look."""
    flags = ("--house", folder.house, "--broker", broker, "--state-dir", folder.agent, "--replay-clock")
    model = () if bundle is None else ("--bundle", bundle)
    discovery = () if announced else ("--discovery", "off")
    return Agent((*flags, *model, *discovery), log=folder.log("agent"), environment=folder.environment)


class Listener:
    """Hears what the agent publishes while its days are replayed."""

    def __init__(self, material: Material, agent: Agent, connection: Connection) -> None:
        """Subscribe to the agent's status and forecasts. Raises as `Connection.listen`."""
        self.agent, self.connection = agent, connection
        self.status = ""
        self.forecasts: dict[int, Payload] = {}
        """Full forecasts by origin."""
        topic = f"hearthcast/{material.house.site}"
        connection.listen(f"{topic}/status", self._on_status)
        connection.listen(f"{topic}/forecast/{material.target}", self._on_forecast, retained=False)

    def _on_status(self, payload: str) -> None:
        self.status = payload

    def _on_forecast(self, payload: str) -> None:
        forecast = json.loads(payload)
        self.forecasts[unix_s(forecast["origin"])] = forecast

    @property
    def newest(self) -> int:
        """The latest origin heard of; 0 before the first."""
        return max(self.forecasts, default=0)

    def wait_online(self) -> None:
        """Wait until the agent reads its topics.

        Raises:
            ServiceError: it ended, or was not there in time.
        """
        self._wait(lambda: self.status == "online", "status 'online' of the agent")

    def wait_forecast(self, origin: int) -> None:
        """Wait until the agent has forecast at `origin` or later. Raises as `wait_online`."""
        self._wait(lambda: self.newest >= origin, f"forecast at {origin} or later by the agent")

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        def done_or_dead() -> bool:
            self.agent.check()
            return done()

        self.connection.wait(done_or_dead, what=what, timeout_s=START_TIMEOUT_S)


def replay_days(material: Material, listener: Listener, console: Console) -> int:
    """Replay the material's days, never far ahead of the agent, and wait for the last forecast; returns how many messages there were.

    Raises:
        ServiceError: the broker or the agent failed.
    """
    topics = {sensor.topic for sensor in material.house.sensors if sensor.topic is not None}
    ahead_s = max(MESSAGES_AHEAD // len(topics), 1) * material.house.step_s
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=material.origin - material.replay_from)

        def keep_step(edge: int) -> None:
            progress.update(task, completed=edge - material.replay_from, description=iso_local(edge, material.house.zone)[:16].replace("T", " "))
            if edge - ahead_s > material.replay_from:
                listener.wait_forecast(edge - ahead_s)

        count = replay(material.replayed, material.house, listener.connection, before_step=keep_step)
    listener.wait_forecast(material.origin)
    return count


def read_retained(material: Material, connection: Connection) -> tuple[Payload, Payload]:
    """The retained forecast and its hourly form, as a controller that connects now would find them.

    Raises:
        ServiceError: there are none.
    """
    topic = f"hearthcast/{material.house.site}/forecast/{material.target}"
    found: dict[str, Payload] = {}

    def keep(name: str) -> Callable[[str], None]:
        return lambda payload: found.update({name: json.loads(payload)})

    connection.listen(topic, keep("steps"))
    connection.listen(hourly_topic(topic), keep("hours"))
    # the agent publishes one after the other: wait until both are of one origin
    connection.wait(
        lambda: len(found) == 2 and found["steps"]["origin"] == found["hours"]["origin"], what=f"retained pair on {topic}", timeout_s=START_TIMEOUT_S
    )
    if unix_s(found["steps"]["origin"]) != material.origin:
        raise ServiceError(f"the retained forecast has origin {found['steps']['origin']}, not the last one's {iso_utc(material.origin)}")
    return found["steps"], found["hours"]
