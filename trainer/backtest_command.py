"""`hearthcast-train backtest`: its flags, what it reads and what it writes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge_agent.contract.bundle import Bundle, read_bundle, read_shipped_bundle
from edge_agent.contract.errors import ConfigError, DataError, HearthcastError
from trainer.archive import file_name
from trainer.backtest_plan import jobs_of, plans_of
from trainer.baselines import WITHOUT_MODEL
from trainer.crowd import pool_json, pools
from trainer.findings import ACCEPT_HELP, DOUBTFUL, Finding, count
from trainer.outputs import move_whole, staging, write_whole
from trainer.quality_report import print_findings, record_of, summary_table
from trainer.score_tables import homes_table, pool_table, score_table, spread_table
from trainer.scorecard import NO_WEATHER, Card, to_json
from trainer.workers import Job, OnProgress, Skipped, cards

OUTPUTS: Final = ("json", "html", "predictions")
ROWS_SHOWN: Final = 30
"""Homes in the terminal's table; the report and the JSON hold all."""
NAMES_SHOWN: Final = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hearthcast-train backtest`."""
    parser.add_argument("--bundle", type=Path, help="bundle to test (default: the model that ships with Hearthcast, or else the climatology alone)")
    parser.add_argument("--house", type=Path, nargs="+", required=True, metavar="TOML", help="house.toml; several: one batched run over all")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="CSV or Parquet files (.gz too): of one house any number, in any order; of several houses one each, in the order of --house",
    )
    parser.add_argument("--target", help="target of house.toml (default: the bundle's, or the first)")
    parser.add_argument("--all-targets", action="store_true", help="each target of a house is a home of its own (a table of many meters or rooms)")
    parser.add_argument("--from", dest="start", metavar="T", help="first origin, ISO time on the table's clock (default: the last 20 %% of the data)")
    parser.add_argument("--to", dest="end", metavar="T", help="end of the last day scored (default: the end of the data)")
    parser.add_argument("--every", default="1h", help="distance of origins, such as 10m, 1h or 1d (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--weather",
        type=Path,
        metavar="FILE",
        help="archived weather forecasts: columns issued, time (ISO 8601; UTC without an offset) and roles",
    )
    source.add_argument(
        "--perfect-weather", action="store_true", help="give the model what was measured later as its weather forecast: a bound, and labelled so"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores, by lead time, hour and day type too")
    parser.add_argument("--predictions", type=Path, metavar="FILE", help="write every forecast (.npz); of many homes SITE-TARGET.npz in this folder")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with pictures, in one file, for people")
    parser.add_argument("--price", type=float, default=0.30, metavar="X", help="of a kWh, for the report (default: %(default)s)")
    parser.add_argument("--currency", default="EUR", help="of the price (default: %(default)s)")
    parser.add_argument("--repair", action="store_true", help="repair what can be repaired in the data, and say what")
    parser.add_argument("--accept", nargs="+", default=[], choices=DOUBTFUL, metavar="KIND", help=ACCEPT_HELP)
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a bundle that nobody trusted has signed")
    parser.add_argument("--workers", type=int, metavar="N", help="processes for many homes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """`hearthcast-train backtest`."""
    console = Console(highlight=False)
    _check(args)
    # SIGTERM ends it as Ctrl-C does, so that nothing half written is left
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(args, console)
    except KeyboardInterrupt:
        raise HearthcastError("interrupted: no file was written") from None
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _run(args: argparse.Namespace, console: Console) -> None:
    bundle = read_bundle(args.bundle, allow_unsigned=args.allow_unsigned) if args.bundle else read_shipped_bundle()
    plans = plans_of(args, bundle, console)
    is_many = _is_many(args)
    skipped: list[Skipped] = []
    findings: list[Finding] = []
    notes: list[str] = []
    jobs = jobs_of(args, plans, bundle, findings=findings, notes=notes, skipped=skipped if is_many else None)
    with ExitStack() as stack:
        place = args.predictions if is_many or not args.predictions else args.predictions.absolute().parent
        archive = stack.enter_context(staging(place, option="--predictions")) if place else None
        made = _made(jobs, bundle, archive, args, n_homes=sum(len(plan.targets) for plan in plans), skipped=skipped, console=console)
        _say_findings(findings, notes, console, n_homes=sum(len(plan.targets) for plan in plans), is_many=is_many)
        for one in skipped:
            console.print(f"[yellow]left out:[/] {escape(f'{one.name}: {one.reason}')}", soft_wrap=True)
        _say(made, console, is_many=is_many)
        _say_weather(args, made, console)
        _write(args, made, skipped, findings, archive=archive)


def _check(args: argparse.Namespace) -> None:
    """Find mistakes before the work."""
    if args.all_targets and args.target:
        raise ConfigError("--all-targets and --target exclude each other: leave one out")
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers {args.workers}: at least 1 is expected")
    if not (np.isfinite(args.price) and args.price >= 0):
        raise ConfigError(f"--price {args.price:g}: the price of a kWh is expected, such as 0.30")
    for option in OUTPUTS:
        path = getattr(args, option)
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigError(f"--{option} {path}: there is no folder {path.parent}: make it, or name another place")
        is_folder = option == "predictions" and _is_many(args)
        if path is not None and path.exists() and path.is_dir() != is_folder:
            kind, wanted = ("file", "folder") if is_folder else ("folder", "file")
            raise ConfigError(f"--{option} {path}: this is a {kind}, a {wanted} is written: name another place")
    paths = {option: getattr(args, option).resolve() for option in OUTPUTS if getattr(args, option) is not None}
    if len(set(paths.values())) < len(paths):
        raise ConfigError(f"{', '.join(f'--{option} {getattr(args, option)}' for option in paths)}: a place of its own is expected for each")


def _is_many(args: argparse.Namespace) -> bool:
    return args.all_targets or len(args.house) > 1


def _made(
    jobs: Iterator[Job],
    bundle: Bundle | None,
    archive: Path | None,
    args: argparse.Namespace,
    *,
    n_homes: int,
    skipped: list[Skipped],
    console: Console,
) -> list[Card]:
    """All cards, with a bar while they are made; homes that cannot be scored go to `skipped`.

    Raises:
        DataError: there is no other.
    """
    columns = (
        TextColumn("forecasting"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} % of {task.fields[homes]}, {task.fields[forecasts]:,} forecasts, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
    )
    made: list[Card] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("forecasting", total=n_homes, homes=count(n_homes, "home"), forecasts=0, rate=0.0)
        on_progress = _counter(lambda homes, done, rate: progress.update(task, advance=homes, forecasts=done, rate=rate))
        for card in cards(jobs, bundle, archive=archive, n_workers=_workers(args.workers, n_homes), on_progress=on_progress):
            made += [card] if isinstance(card, Card) else []
            skipped += [card] if isinstance(card, Skipped) else []
    if not made:
        reason = f"{skipped[0].name}: {skipped[0].reason}"
        raise DataError(reason if n_homes == 1 else f"none of {n_homes} homes can be scored; {reason}")
    return made


def _counter(show: Callable[[float, int, float], None]) -> OnProgress:
    """Adds up the forecasts that are done, and shows them with their rate."""
    began, done = time.monotonic(), 0

    def add(n_origins: int, homes: float) -> None:
        nonlocal done
        done += n_origins
        show(homes, done, done / max(time.monotonic() - began, 1e-9))

    return add


def _workers(wanted: int | None, n_homes: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(wanted or cores, n_homes)


def _say_findings(findings: list[Finding], notes: list[str], console: Console, *, n_homes: int, is_many: bool) -> None:
    if not is_many:
        print_findings(console, findings, notes)
    elif findings:
        console.print(summary_table(findings, n_homes, where="with --json, in its file"))


def _say(made: list[Card], console: Console, *, is_many: bool) -> None:
    if not is_many:
        console.print(score_table(made[0]))
        return
    if len(made) <= ROWS_SHOWN:
        console.print(homes_table(made))
    for pool in pools(made):
        if len(pool.cards) == 1:
            console.print(score_table(pool.cards[0]))
        else:
            console.print(pool_table(pool))
            console.print(spread_table(pool))


def _say_weather(args: argparse.Namespace, made: list[Card], console: Console) -> None:
    """Name the homes whose model was given no weather although it was asked for."""
    if not (args.weather or args.perfect_weather):
        return
    without = [card.name for card in made if card.weather == NO_WEATHER and card.method not in WITHOUT_MODEL]
    if without:
        shown = ", ".join(without[:NAMES_SHOWN]) + (", …" if len(without) > NAMES_SHOWN else "")
        console.print(f"note: nothing was known of the weather ahead for {len(without)} of {count(len(made), 'home')}: {shown}", soft_wrap=True)


def _write(args: argparse.Namespace, made: list[Card], skipped: list[Skipped], findings: list[Finding], *, archive: Path | None) -> None:
    """Write what was asked for, when all of it is made."""
    is_many = _is_many(args)
    texts: list[tuple[str, Path, str]] = []
    if args.json:
        data = {**to_json(made[0]), "quality": record_of(findings)}
        if is_many:
            homes = {card.name: to_json(card) for card in made}
            data = {"homes": homes, "pools": [pool_json(pool) for pool in pools(made)], "skipped": {one.name: one.reason for one in skipped}}
            data["quality"] = record_of(findings)
        texts.append(("--json", args.json, json.dumps(data, indent=1) + "\n"))
    if args.html:
        from trainer.report import report  # matplotlib takes a second to load
        from trainer.report_words import Money

        texts.append(("--html", args.html, report(made, skipped, Money(args.price, args.currency), findings)))
    write_whole(texts)
    if archive is not None:
        names = [file_name(card.name) for card in made]
        move_whole([("--predictions", archive / name, args.predictions / name if is_many else args.predictions) for name in names])
