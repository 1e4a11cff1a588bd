"""`hearthcast-train fit`: its flags, and what it says. Imports Keras only once the arguments are right."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from edge_agent.contract.errors import ConfigError, TrainingError
from edge_agent.contract.schema import read_house
from trainer.presets import COVARIATE_ROLES, PRESETS, SCHEDULES, HyperParameters, hyper_parameters, plan_for
from trainer.quiet import without_native_stderr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `fit`."""
    parser.add_argument("--house", type=Path, required=True, help="house.toml")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="the house's CSV or Parquet files (.gz too), any order")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for the run; must not hold one yet, except with --resume")
    parser.add_argument("--preset", default="base", metavar="|".join(PRESETS), help="which network (default: %(default)s)")
    parser.add_argument("--init", type=Path, metavar="BUNDLE|RUN", help="model to start from (preset finetune)")
    parser.add_argument("--target", metavar="NAME", help="which target of the house (default: its first)")
    parser.add_argument(
        "--covariates", nargs="+", default=[], metavar="ROLE", help=f"sensors that base reads beside the target: {', '.join(COVARIATE_ROLES)}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and the order of windows (default: %(default)s)")
    parser.add_argument("--repair", action="store_true", help="repair a faulty table where that is possible, and say what was repaired")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out after its last complete epoch")
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow's store (default: $MLFLOW_TRACKING_URI, else mlflow.db beside RUN; off: none)")
    parser.add_argument("--experiment", metavar="NAME", help="MLflow's experiment, whose runs stand side by side (default: the house's name)")
    group = parser.add_argument_group("hyper-parameters (the preset decides what is not given)")
    for item in fields(HyperParameters):
        _add_hyper_parameter(group, item.name, type(item.default), str(item.metadata["help"]))


def _add_hyper_parameter(group: Any, name: str, kind: type, text: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        group.add_argument(flag, action="store_true", default=None, help=text)
    elif name == "schedule":
        group.add_argument(flag, choices=SCHEDULES, help=text)
    else:
        group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Fit, and say what came of it; returns the exit code."""
    console = Console(highlight=False)
    hyper = hyper_parameters(arguments.preset, vars(arguments))
    if arguments.init:
        raise ConfigError(f"--init is for preset finetune: leave it out with --preset {arguments.preset}")
    _check_early(arguments)
    with without_native_stderr():
        from trainer.fit import FitRequest, fit, verdict

    request = FitRequest(
        house=arguments.house,
        data=tuple(arguments.data),
        out=arguments.out,
        preset=arguments.preset,
        hyper=hyper,
        target=arguments.target,
        covariates=tuple(arguments.covariates),
        seed=arguments.seed,
        repair=arguments.repair,
        resume=arguments.resume,
        tracking_uri=arguments.tracking_uri,
        experiment=arguments.experiment,
    )
    with stoppable(console) as stop_asked:
        record = fit(request, console=console, stop_asked=stop_asked)
    console.print(f"kept epoch {record['training']['best_epoch']} of {record['training']['epochs']}")
    console.print(verdict(record))
    console.print(f"run: {arguments.out}")
    if record["status"] == "interrupted":
        raise TrainingError(f"interrupted: {arguments.out} holds the best epoch so far and can be exported; go on with --resume")
    return 0


def _check_early(arguments: argparse.Namespace) -> None:
    """Find mistakes before the seconds that loading TensorFlow takes."""
    house = read_house(arguments.house)
    plan_for(arguments.preset, house, arguments.target or house.targets[0].name, tuple(arguments.covariates))
    for path in arguments.data:
        if not path.is_file():
            raise ConfigError(f"--data {path}: there is no such file")


@contextmanager
def stoppable(console: Console) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C (or SIGTERM) asks to stop after the current batch; the second ends the program at once."""
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        console.print("stopping after this batch; once more ends at once and keeps the last checkpoint only")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
