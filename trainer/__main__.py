"""`hearthcast-train`: the workstation's program."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Final

from edge_agent.contract.errors import HearthcastError
from trainer.quiet import quiet_libraries

COMMANDS: Final = {
    "fit": ("trainer.fit_command", "train a model on a house's history"),
    "tune": ("trainer.tune_command", "search for a model's hyper-parameters, and keep the champion"),
    "fleet": ("trainer.fleet_command", "forecast or fine-tune many houses at once, on Apache Spark"),
    "backtest": ("trainer.backtest_command", "score a bundle at rolling origins beside the baselines"),
}
"""Module (with `add_arguments` and `run`) and purpose by command; loaded only when asked for."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, str]:
    """Arguments, and the module that runs them."""
    parser = argparse.ArgumentParser(prog="hearthcast-train", description="Train and score forecasters of a home's next day.")
    parser.add_argument("--verbose", action="store_true", help="log details")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = [word for word in (sys.argv[1:] if argv is None else argv) if word in COMMANDS][:1]
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        if name in wanted:
            importlib.import_module(module).add_arguments(command)
    arguments = parser.parse_args(argv)
    return arguments, COMMANDS[arguments.command][0]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; exit code 0 done, 1 the run failed, 2 bad arguments or configuration."""
    try:
        quiet_libraries()
        arguments, module = parse(argv)
        logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
        return int(importlib.import_module(module).run(arguments))
    except HearthcastError as err:
        print(f"error: {err}", file=sys.stderr)
        return err.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
