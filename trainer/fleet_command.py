"""`hearthcast-train fleet`: many houses at once. Its flags, and what it says; imports Spark only where Spark is needed."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_agent.contract.errors import ConfigError, DataError
from trainer.findings import ACCEPT_HELP, DOUBTFUL
from trainer.outputs import require_place
from trainer.presets import require_seed

RESULTS: Final = "fleet.json"
SHOWN: Final = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The three things that can be done with a fleet, each with its flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    gather = actions.add_parser("gather", help="make a fleet's folder from a table of each house (without Spark)")
    gather.add_argument("--house", type=Path, nargs="+", required=True, metavar="TOML", help="each house's house.toml")
    gather.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="each house's table, in the same order")
    gather.add_argument("--repair", action="store_true", help="repair faulty tables where that is possible")
    gather.add_argument("--accept", nargs="+", default=[], choices=DOUBTFUL, metavar="KIND", help=ACCEPT_HELP)
    gather.add_argument("--out", type=Path, required=True, metavar="FLEET", help="folder of the fleet; houses that are there already are replaced")
    score = actions.add_parser("score", help="forecast every house after its last known reading")
    score.add_argument("--model", required=True, metavar="RUN|URI", help="run folder of a model over many homes, or models:/NAME@champion")
    score.add_argument("--out", required=True, metavar="FOLDER", help="where to write the forecasts (Parquet); what is there is replaced")
    tune = actions.add_parser(
        "finetune", help="fine-tune a model on every house, each with an MLflow run of its own; goes on where it was broken off"
    )
    tune.add_argument("--init", type=Path, metavar="BUNDLE|RUN", help="model to start from (default: the base model that ships)")
    tune.add_argument("--allow-unsigned", action="store_true", help="accept a bundle that nobody trusted has signed")
    tune.add_argument("--repair", action="store_true", help="repair faulty readings where that is possible")
    tune.add_argument("--accept", nargs="+", default=[], choices=DOUBTFUL, metavar="KIND", help=ACCEPT_HELP)
    tune.add_argument("--seed", type=int, default=0, help="of dropout and the order of windows (default: %(default)s)")
    tune.add_argument("--experiment", default="fleet", metavar="NAME", help="MLflow's experiment (default: %(default)s)")
    tune.add_argument("--out", type=Path, required=True, metavar="RUNS", help="folder of the run folders, one a house; every worker must see it")
    for action in (score, tune):
        action.add_argument("--fleet", required=True, metavar="FLEET", help="the fleet's folder, or any address of one that Spark can read")
        action.add_argument(
            "--master", metavar="URL", help="Spark's master, such as local[2] (default: what spark-submit says, else every core here)"
        )
        action.add_argument(
            "--tracking-uri", metavar="URI", help="MLflow's store (default: $MLFLOW_TRACKING_URI, else that of the run or beside RUNS)"
        )


def run(arguments: argparse.Namespace) -> int:
    """Do it, and name the houses that could not be done; fails only where none could."""
    console = Console(highlight=False)
    return {"gather": _gather, "score": _score, "finetune": _fine_tune}[arguments.action](arguments, console)


def _gather(arguments: argparse.Namespace, console: Console) -> int:
    from trainer.datasets import ReadOptions
    from trainer.fleet_folder import gather

    require_place(arguments.out, option="--out")
    options = ReadOptions(repair=arguments.repair, accept=tuple(arguments.accept))
    problems = gather(arguments.house, arguments.data, arguments.out, options=options, console=console)
    _say(problems, len(arguments.house), f"gathered in {arguments.out}", console)
    return 0


def _score(arguments: argparse.Namespace, console: Console) -> int:
    from trainer.registry import model_in

    model = model_in(arguments.model, arguments.tracking_uri)
    with _fleet(arguments, console) as (spark, session, fleet):
        problems = spark.score(session, fleet, model, arguments.out, console=console)
    _say(problems, len(fleet.houses) + len(fleet.problems), f"forecast in {arguments.out}", console)
    return 0


def _fine_tune(arguments: argparse.Namespace, console: Console) -> int:
    from trainer.fleet_house import TuneJob, summary
    from trainer.registry import prepare_experiment

    require_seed(arguments.seed)
    require_place(arguments.out, option="--out")
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = prepare_experiment(arguments.tracking_uri, beside=arguments.out, experiment=arguments.experiment)
    init = arguments.init and arguments.init.resolve()
    job = TuneJob(
        out=arguments.out.resolve(),
        init=init,
        tracking_uri=store,
        experiment=arguments.experiment,
        seed=arguments.seed,
        allow_unsigned=arguments.allow_unsigned,
        repair=arguments.repair,
        accept=tuple(arguments.accept),
    )
    with _fleet(arguments, console) as (spark, session, fleet):
        before = [summary(site, record) for site in fleet.houses if (record := job.record(site)) is not None]
        if before:
            console.print(f"{len(before)} of {len(fleet.houses)} houses are done already")
        rows = sorted([*before, *spark.fine_tune(session, fleet, job, console=console)], key=lambda row: str(row["site"]))
    (arguments.out / RESULTS).write_text(json.dumps({"houses": rows, "problems": fleet.problems}, indent=2) + "\n", encoding="utf-8")
    console.print(_table(rows))
    problems = {**fleet.problems, **{row["site"]: row["problem"] for row in rows if row["problem"]}}
    _say(problems, len(fleet.houses) + len(fleet.problems), f"fine-tuned in {arguments.out}", console)
    return 0


@contextlib.contextmanager
def _fleet(arguments: argparse.Namespace, console: Console) -> Iterator[tuple[Any, Any, Any]]:
    """The module that knows Spark, its session, and the fleet.

    Raises:
        ConfigError: Spark or Java is not installed.
        DataError: there is no fleet.
    """
    try:
        from trainer import fleet as spark
    except ImportError as err:
        raise ConfigError(f"Spark is not installed ({err}): install it with `pip install '.[spark]'`") from err
    with contextlib.ExitStack() as stack:
        with console.status("starting Spark"):
            session = stack.enter_context(spark.spark_session(arguments.master))
            fleet = spark.read_fleet(session, arguments.fleet)
        yield spark, session, fleet


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The first houses, one a row, and the mean of all."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("house", "kept", "CRPS\nskill", "beside\nbase", "seconds"):
        table.add_column(heading, justify="left" if heading in ("house", "kept") else "right")
    done = [row for row in rows if not row["problem"]]
    for row in done[:SHOWN]:
        table.add_row(row["site"], row["kept"], *map(_percent, (row["crps_skill"], row["beside_base"])), f"{row['seconds']:.0f}")
    if len(done) > 1:
        skill, gain = (np.nanmean([_number(row[name]) for row in done]) for name in ("crps_skill", "beside_base"))
        seconds = np.mean([row["seconds"] for row in done])
        table.add_section()
        table.add_row(f"mean of {len(done)}", "", _percent(skill), _percent(gain), f"{seconds:.0f}", style="bold")
    return table


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _percent(share: float | None) -> str:
    return "-" if share is None or not np.isfinite(share) else f"{share:+.1%}"


def _say(problems: Mapping[str, str], n_houses: int, done: str, console: Console) -> None:
    """How many were done, and what was wrong with the others.

    Raises:
        DataError: none could be done.
    """
    for name, text in problems.items():
        console.print(f"[yellow]skipped:[/] {escape(f'{name}: {text}')}", soft_wrap=True)
    n_done = n_houses - len(problems)
    if not n_done:
        raise DataError(f"none of {n_houses} houses could be {done.partition(' in ')[0]}: see what is said of each")
    console.print(escape(f"{n_done} of {n_houses} houses {done}"), soft_wrap=True)
