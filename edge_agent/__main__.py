"""The command `hearthcast-agent`. What a subcommand needs is imported when it runs: start-up time is a measured figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent import __version__
from edge_agent.contract.errors import HearthcastError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the run failed, 2 bad arguments or configuration."""
    options = _parser().parse_args(arguments)
    try:
        from edge_agent import commands

        for line in getattr(commands, options.command)(options):
            print(line, flush=True)
    except HearthcastError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `hearthcast-agent report | head`
        sys.stderr.close()
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hearthcast-agent", description="Forecasts this home's next day from its sensors, over MQTT.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="read sensors and publish forecasts until stopped")
    _add_common(run, command="run")
    run.add_argument("--bundle", dest="bundles", type=Path, nargs="+", metavar="DIR", help="model bundles, one a target (default: the installed)")
    run.add_argument("--replay-clock", action="store_true", default=None, help="take the time from the messages: recorded days at any speed")
    run.add_argument("--allow-unsigned", action="store_true", default=None, help="accept bundles that nobody trusted has signed")
    run.add_argument("--discovery", choices=("device", "single", "off"), help="form of Home Assistant discovery (default: device)")

    doctor = commands.add_parser("doctor", help="listen for a while and tell which sensors deliver, and what is wrong with them")
    _add_common(doctor, command="doctor")
    doctor.add_argument("--seconds", type=float, default=60.0, help="how long to listen at most (default: 60)")

    report = commands.add_parser("report", help="the last forecasts and how they turned out")
    _add_common(report, command="report")
    report.add_argument("--days", type=int, default=7, help="how many days back (default: 7)")

    history = commands.add_parser("history", help="what the agent remembers").add_subparsers(required=True, metavar="WHAT")
    export = history.add_parser("export", help="closed steps as CSV, in the form that hearthcast-train --data reads")
    _add_common(export, command="history_export")
    export.add_argument("--weather", action="store_true", help="instead, the weather forecasts that came, as backtest --weather reads them")
    export.add_argument("--out", type=Path, metavar="FILE", help="write here (.gz: packed) instead of to standard output")

    bring_in = history.add_parser("import", help="steps from such a CSV table (also .gz), wherever nothing is known yet")
    _add_common(bring_in, command="history_import")
    bring_in.add_argument("file", type=Path, metavar="FILE", help="the table: times with an offset, columns and units as house.toml says")

    backup = commands.add_parser("backup", help="copy the history, also while the agent runs")
    _add_common(backup, command="backup")
    backup.add_argument("file", type=Path, metavar="FILE", help="the copy, replaced only by a whole one; or a folder")

    restore = commands.add_parser("restore", help="put a copy that backup made in the history's place, while the agent is stopped")
    _add_common(restore, command="restore")
    restore.add_argument("file", type=Path, metavar="FILE", help="the copy; it stays as it is")

    _add_install(commands.add_parser("install", help="check a model bundle, and forecast by it in shadow until it has proved itself"))
    _add_models(commands.add_parser("models", help="which models are installed, and which one forecasts"))
    _add_keys(commands.add_parser("keys", help="keys that sign bundles, and keys that are trusted"))
    return parser


def _add_common(parser: argparse.ArgumentParser, *, command: str) -> None:
    parser.set_defaults(command=command)
    _add_house(parser)
    _add_config(parser)
    parser.add_argument("--broker", metavar="HOST:PORT", help="MQTT broker (default: 127.0.0.1:1883)")
    parser.add_argument("--username", help="user name at the broker")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="file that holds the broker's password")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--log-form", choices=("text", "json"), help="text for people, json for programs (default: text)")


def _add_house(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--house", type=Path, metavar="FILE", help="house.toml (default: ./house.toml, else /etc/hearthcast/house.toml)")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="agent.toml: broker, topics, schedule; flags override it (default: the service's, with its house)",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where history and models lie (default: $STATE_DIRECTORY, the service's for root, or ~/.local/state/hearthcast)",
    )


def _add_install(install: argparse.ArgumentParser) -> None:
    install.set_defaults(command="install")
    install.add_argument("source", metavar="BUNDLE", help="a bundle's folder, its archive (.tar), or an https:// address of one")
    _add_house(install)
    _add_config(install)
    install.add_argument("--target", metavar="NAME", help="the target to forecast, where the bundle fits several")
    install.add_argument("--shadow-days", type=int, default=14, metavar="N", help="days to prove itself in (default: 14); 0: current at once")
    install.add_argument("--allow-unsigned", action="store_true", default=None, help="accept a bundle that nobody trusted has signed")
    install.add_argument("--allow-downgrade", action="store_true", help="accept a bundle that is older than one installed before")
    install.add_argument("--any-house", action="store_true", help="accept a bundle that was trained for another house")


def _add_models(parser: argparse.ArgumentParser) -> None:
    models = parser.add_subparsers(required=True, metavar="WHAT")
    commands = {
        "list": "each target's models, and how they came to be",
        "check": "whether this machine reproduces the forecast that each was exported with",
        "pin": "hold a model, whatever the scores",
        "unpin": "let the scores decide again",
        "rollback": "back to the model before",
    }
    for name, text in commands.items():
        command = models.add_parser(name, help=text)
        command.set_defaults(command=f"models_{name}")
        if name == "check":
            command.add_argument("bundle", type=Path, nargs="?", help="a bundle's folder or archive (default: all in use, and what ships)")
        elif name != "list":
            command.add_argument("target", help="as in house.toml")
        if name == "pin":
            command.add_argument("model", nargs="?", help="its id or the beginning of it, or 'shipped' (default: the current one)")
        _add_config(command)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    keys = parser.add_subparsers(required=True, metavar="WHAT")
    new = keys.add_parser("new", help="make a signing key; prints its public half")
    new.set_defaults(command="keys_new")
    new.add_argument("file", type=Path, help="the private key; its public half goes beside it (.pub)")
    trust = keys.add_parser("trust", help="accept bundles signed by this key")
    trust.set_defaults(command="keys_trust")
    trust.add_argument("file", type=Path, help="a .pub file")
    trust.add_argument("--system", action="store_true", help="for every user of this machine, the service included (needs root)")
    keys.add_parser("show", help="the keys this machine trusts").set_defaults(command="keys_show")


if __name__ == "__main__":
    sys.exit(main())
