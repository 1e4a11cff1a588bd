"""`hearthcast-demo`: from simulated (or recorded) sensors to a retained forecast on a real broker, with every part real."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console

from demo.broker import start_broker
from demo.folder import Folder, prepare_folder
from demo.material import Material, recorded_material, simulated_material
from demo.outcome import Outcome, Payload, forecast_table, score_forecasts, score_table
from demo.parts import Listener, read_retained, replay_days, start_agent, tune_and_export
from demo.picture import draw_forecast
from demo.replay import Connection
from edge_agent.commands import HISTORY
from edge_agent.config import host_and_port
from edge_agent.contract.bundle import read_shipped_bundle, shipped_bundle
from edge_agent.contract.errors import ConfigError, HearthcastError
from edge_agent.history import History

N_PARTS: Final = 6
MQTT_PORT: Final = 1883
EMBEDDED: Final = "embedded"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code: 0 done, 1 a part failed, 2 bad arguments, 130 interrupted."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that agent and broker are stopped on the way out
    try:
        run(options, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    except HearthcastError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("interrupted: agent and broker are stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hearthcast-demo", description="Forecast a house end to end: tune the model that ships, export it, run the agent, replay its sensors."
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="CSV or Parquet of a real house (default: a simulated one)")
    parser.add_argument("--house", type=Path, metavar="TOML", help="describes the house of --data (default: the reference house)")
    parser.add_argument("--broker", metavar="HOST:PORT", default=EMBEDDED, help="an MQTT broker that allows anonymous clients (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave broker and agent running")
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), metavar="DIR", help="folder for everything the demo writes (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="which house is simulated (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="replay three days only, and take the model that ships as it is")
    return parser


def run(options: argparse.Namespace, console: Console) -> None:
    """All parts in order; what runs beside is stopped at the end, unless it is to be kept.

    Raises:
        HearthcastError: a part failed; the message names it.
    """
    begun = time.monotonic()
    if options.house is not None and options.data is None:
        raise ConfigError("--house describes the house of --data: give both, or none for a simulated house")
    if options.broker != EMBEDDED:  # minutes pass before it is needed
        Connection(*host_and_port(options.broker, default_port=MQTT_PORT)).close()
    folder = prepare_folder(options.out)
    with part(console, 1, "the house"):
        material = _material(options, folder)
        console.print(material.story)
    with part(console, 2, "the model"):
        bundle = _bundle(folder, quick=options.quick, console=console)
    with ExitStack() as running:
        with part(console, 3, "broker and agent"):
            (host, port), pids = _broker(options.broker, folder, running)
            connection = running.enter_context(Connection(host, port))
            agent = start_agent(folder, bundle, broker=f"{host}:{port}", announced=options.keep)
            running.callback(agent.stop)
            pids = (agent.process.pid, *pids)
            listener = Listener(material, agent, connection)
            listener.wait_online()
            console.print(f"broker at {host}:{port}; the agent is online (process {agent.process.pid})")
        with part(console, 4, "replay of the last days as Zigbee2MQTT messages"):
            count = replay_days(material, listener, console)
            console.print(f"{count:,} messages sent, {len(listener.forecasts):,} forecasts received")
        with part(console, 5, "tomorrow, as the broker retains it"), Connection(host, port) as visitor:
            newest, hourly = read_retained(material, visitor)
            console.print(forecast_table(hourly, material.series, material.house, material.target))
        with part(console, 6, "how good was it?"):
            outcome = score_forecasts(list(listener.forecasts.values()), material.series, material.house, material.target)
            _save(folder, newest, outcome)
            draw_forecast(newest, material.series, material.house, material.target, path=folder.picture)
            console.print(score_table(outcome, material.house.unit_of[material.target]))
        if options.keep:
            running.pop_all()
            folder.kept.write_text(" ".join(map(str, pids)), encoding="utf-8")
            console.print(f"{'agent and broker go' if len(pids) > 1 else 'the agent goes'} on running until  kill {' '.join(map(str, pids))}")
            console.print(f"look with  mosquitto_sub -h {host} -p {port} -v -t 'hearthcast/#'")
    _farewell(console, folder, bundle, seconds=time.monotonic() - begun)


@contextmanager
def part(console: Console, number: int, name: str) -> Iterator[None]:
    """One part of the demo: a heading before it, and its name in front of whatever goes wrong in it."""
    console.print()
    console.rule(f"[bold]{number}/{N_PARTS} {name}[/]", align="left")
    begun = time.monotonic()
    try:
        yield
    except HearthcastError as err:
        err.args = (f"part {number} of {N_PARTS} ({name}) failed: {err}",)
        raise
    console.print(f"[dim]{time.monotonic() - begun:.0f} s[/]")


def _material(options: argparse.Namespace, folder: Folder) -> Material:
    """The house, its earlier weeks imported into the agent's history."""
    if options.data is not None:
        material = recorded_material(options.data, options.house, folder, quick=options.quick)
    else:
        material = simulated_material(options.seed, folder, quick=options.quick)
    with History(folder.agent / HISTORY) as history:
        history.bind(material.house)
        history.import_series(material.earlier)
    return material


def _bundle(folder: Folder, *, quick: bool, console: Console) -> Path | None:
    """A bundle tuned here; in a hurry None, which means the one that ships, as it is."""
    shipped = read_shipped_bundle()
    if shipped is None:
        raise ConfigError("the model that ships is not in this installation: install Hearthcast as a whole")
    manifest = shipped.manifest
    console.print(f"the model that ships: {manifest.name} {manifest.version}, trained over {len(manifest.training['houses'])} homes")
    return None if quick else tune_and_export(folder)


def _broker(wanted: str, folder: Folder, running: ExitStack) -> tuple[tuple[str, int], tuple[int, ...]]:
    """Address of the broker, and its process ids where it is ours."""
    if wanted != EMBEDDED:
        return host_and_port(wanted, default_port=MQTT_PORT), ()
    broker = start_broker(folder.log("broker"))
    running.callback(broker.stop)
    return (broker.host, broker.port), (broker.process.pid,)


def _save(folder: Folder, newest: Payload, outcome: Outcome) -> None:
    """The forecast and the scores as JSON."""
    folder.forecast.write_text(json.dumps(newest, indent=1) + "\n", encoding="utf-8")
    scores = {"origins": outcome.n_origins, "days": outcome.n_days, "scores": {label: asdict(line) for label, line in outcome.lines.items()}}
    folder.scores.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


def _farewell(console: Console, folder: Folder, bundle: Path | None, *, seconds: float) -> None:
    """Where everything lies."""
    console.print()
    console.rule(f"[bold]done in {seconds / 60:.1f} minutes[/]", align="left")
    places: dict[str, object] = {
        "picture": folder.picture,
        "forecast": folder.forecast,
        "scores": folder.scores,
        "bundle": bundle or shipped_bundle(),
        "agent's memory": folder.agent / HISTORY,
        "logs": folder.log("agent").parent,
    }
    if folder.run.exists():
        places["training run"] = folder.run
        places["MLflow"] = f"mlflow ui --backend-store-uri {folder.tracking_uri}"
    for name, place in places.items():
        console.print(f"{name:>15}  {place}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
