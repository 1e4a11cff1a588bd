"""`hearthcast-train tune`: its flags, and what it says. Imports Keras and Optuna only once the arguments are right."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.fit_command import add_shared_arguments, asked_for, stoppable, verdict_on
from trainer.outputs import require_place
from trainer.presets import HyperParameters
from trainer.search_space import SPACE, parse_search, space_for

if TYPE_CHECKING:
    from trainer.tune import Tuned

TRIALS: Final = 20
SHOWN: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `tune`: those of `fit`, and a few of its own."""
    parser.add_argument("--trials", type=int, default=TRIALS, metavar="N", help="finished trials wanted, with those of before (default: %(default)s)")
    parser.add_argument(
        "--search",
        nargs="+",
        default=[],
        metavar="NAME=LOW:HIGH|A,B",
        help=f"what to search, besides or instead of the usual ranges of {', '.join(SPACE)}; a hyper-parameter given by its flag is not searched",
    )
    parser.add_argument("--storage", metavar="URL", help="the study's database, for searches on several machines (default: a SQLite file in RUN)")
    add_shared_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="folder for the search and its best run; the same command goes on in it"
    )
    parser.set_defaults(resume=False, init=None, allow_unsigned=False)


def run(arguments: argparse.Namespace) -> int:
    """Search, and say what came of it; returns the exit code."""
    console = Console(highlight=False)
    if arguments.trials < 1:
        raise ConfigError(f"--trials {arguments.trials}: a number above 0 is expected")
    if arguments.preset == "finetune":
        raise ConfigError("preset finetune searches by itself, on the house's own held-out days: use hearthcast-train fit")
    if arguments.role:
        raise ConfigError("a model of all rooms has little to search: search on one of them with --target, or use hearthcast-train fit --role")
    asked = parse_search(arguments.search)
    given = [item.name for item in fields(HyperParameters) if getattr(arguments, item.name) is not None]
    request, homes = asked_for(arguments)
    space = space_for(request.hyper, given, asked)
    require_place(request.out, option="--out")
    from trainer.promotion import promote
    from trainer.tune import TuneRequest, tune

    wanted = TuneRequest(request, arguments.trials, space, storage=arguments.storage, homes=homes)
    try:
        with stoppable(console) as stop_asked:
            tuned = tune(wanted, console=console, stop_asked=stop_asked)
        console.print(_best_trials(tuned))
        for line in (*verdict_on(tuned.record, homes), *promote(wanted, tuned, console), escape(f"run: {arguments.out}")):
            console.print(line, soft_wrap=True)
    except KeyboardInterrupt:
        raise TrainingError("interrupted in the middle of a trial; the same command goes on after that trial's last complete epoch") from None
    return 0


def _best_trials(tuned: Tuned) -> Table:
    """The best trials and the preset's own values, which are those of the first."""
    names = list(tuned.best.values)
    table = Table(title="The best trials by validation loss; trial 0 has the preset's own values", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("trial", "loss", "epochs", *(name.replace("_", "\n") for name in names)):
        table.add_column(heading, justify="right", no_wrap=True)
    complete = sorted((trial for trial in tuned.trials if trial.state == "complete"), key=lambda trial: trial.loss)
    rows = [trial for place, trial in enumerate(complete) if place < SHOWN or trial.number == 0]
    for trial in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in trial.values.values()]
        style = "bold" if trial.number == tuned.best.number else None
        table.add_row(str(trial.number), f"{trial.loss:.4f}", str(trial.epochs), *cells, style=style)
    return table
