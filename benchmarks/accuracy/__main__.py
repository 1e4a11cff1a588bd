"""Write ACCURACY.md, its picture and its JSON: python -m benchmarks.accuracy --data FOLDER … [--bundles …] [--train] [--peers PYTHON]."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.accuracy import report
from benchmarks.accuracy.bundles import BundleMethod
from benchmarks.accuracy.cases import DEGRADED, FEW_STEPS, FEWEST, SOME, Case, thinned, with_perfect_weather
from benchmarks.accuracy.houses import CLIMATE, ENERGY, HOMES, LONDON, ROOT, SCEAUX
from benchmarks.accuracy.material import Prepared, prepare
from benchmarks.accuracy.peers import Peer
from benchmarks.accuracy.published import Published
from benchmarks.accuracy.rows import FINE_TUNED, ZERO_SHOT, Bundles, Rows, methods_of, read_rows, replaced
from benchmarks.accuracy.scoring import Row
from benchmarks.accuracy.store import Method, Result, Store
from benchmarks.accuracy.suite import peers
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, ROOM_NAIVE, YESTERDAY, Yardstick
from benchmarks.section import ONE_THREAD, QUIET
from edge_agent.contract.errors import ConfigError, HearthcastError
from trainer.baselines import LABELS

BUILD: Final = ROOT / "build" / "accuracy"
OUT: Final = ROOT / "benchmarks" / "ACCURACY.md"
ROWS: Final = Path(__file__).parent / "rows.toml"
DATA_VARIABLE: Final = "HEARTHCAST_ACCURACY_DATA"
NAIVE: Final = (YESTERDAY, LABELS["last_week"], LABELS["mean_28d"])


def arguments() -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Score the forecasts, and write benchmarks/ACCURACY.md.")
    parser.add_argument("--data", type=Path, nargs="+", default=[], metavar="FOLDER", help=f"where the homes' tables are (default: ${DATA_VARIABLE})")
    parser.add_argument("--download", action="store_true", help="fetch the public tables that are not there")
    parser.add_argument("--bundles", nargs="+", default=[], metavar="BUNDLE|RUN", help=f"models for the row '{ZERO_SHOT}', one for each seed")
    parser.add_argument(
        "--finetuned", nargs="+", default=[], metavar="HOME=BUNDLE[,BUNDLE…]", help=f"models for the row '{FINE_TUNED}', one for each seed"
    )
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="TOML", help="rows of our own and how they are trained (default: %(default)s)")
    parser.add_argument("--train", action="store_true", help="train what the rows' commands make and is not there yet: hours on a CPU")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="a Python with peers.txt installed; else peers' rows come from the cache alone")
    parser.add_argument("--homes", nargs="+", default=[h.name for h in (*ENERGY, *CLIMATE)], metavar="HOME", help="homes to score (default: all)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="compute only rows whose label holds one of these; the rest from the cache")
    parser.add_argument("--cached", action="store_true", help="compute nothing: rebuild the table from what is there")
    parser.add_argument("--build", type=Path, default=BUILD, metavar="FOLDER", help="downloads, runs and forecasts (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FILE.md", help="the table; its picture and JSON lie beside it (default: %(default)s)"
    )
    return parser


@dataclass(frozen=True)
class Work:
    """One case and the methods that are asked about it."""

    case: Case
    methods: tuple[Method, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit code."""
    options, console = arguments().parse_args(argv), Console(highlight=False, soft_wrap=True)
    wanted = QUIET | ONE_THREAD
    if argv is None and any(os.environ.get(name) != value for name, value in wanted.items()):
        # libraries read these when they are imported, so the program starts over with them set
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)
    try:
        prepared = prepare(_folders(options), options.build, download=options.download, console=console)
        own = _own_rows(options, prepared, console)
        work = _work(options, prepared, own)
        _name_unused(work, own, console)
        rows, failed = _rows(work, Store(options.build / "forecasts"), options, console)
        report.write(options.out, prepared, rows, absent=_absent(work, rows, read_rows(options.rows)))
    except HearthcastError as err:
        console.print(f"error: {err}", style="red")
        return err.exit_code
    console.print(f"{options.out}{f', {failed} rows failed and are left out' if failed else ''}")
    return 1 if failed else 0


def _folders(options: argparse.Namespace) -> tuple[Path, ...]:
    named = options.data or [Path(p) for p in os.environ.get(DATA_VARIABLE, "").split(os.pathsep) if p]
    for folder in named:
        if not folder.is_dir():
            raise ConfigError(f"--data {folder}: there is no such folder")
    if not named and not options.download:
        raise ConfigError(f"no tables: name their folder with --data or ${DATA_VARIABLE}, or fetch the public ones with --download")
    return tuple(named)


def _own_rows(options: argparse.Namespace, prepared: dict[str, Prepared], console: Console) -> list[Method]:
    given = [Bundles(ZERO_SHOT, tuple(options.bundles))] if options.bundles else []
    for text in options.finetuned:
        home, equals, paths = text.partition("=")
        if not equals or home not in HOMES:
            raise ConfigError(f"--finetuned {text!r}: HOME=BUNDLE is expected, HOME one of {', '.join(HOMES)}")
        given.append(Bundles(FINE_TUNED, tuple(paths.split(",")), (home,)))
    rows = replaced(read_rows(options.rows), given)
    return list(methods_of(rows, houses=options.build / "houses", build=options.build, train=options.train and bool(prepared), console=console))


def _name_unused(work: Sequence[Work], own: Sequence[Method], console: Console) -> None:
    used = {method.label for task in work for method in task.methods}
    for label in dict.fromkeys(method.label for method in own if method.label not in used):
        console.print(f"{label}: fits none of the homes scored, so it has no row: is it a model for another role?", style="yellow")


def _work(options: argparse.Namespace, prepared: dict[str, Prepared], own: Sequence[Method]) -> list[Work]:
    unknown = set(options.homes) - set(HOMES)
    if unknown:
        raise ConfigError(f"--homes {' '.join(sorted(unknown))}: some of {', '.join(HOMES)} are expected")
    training = tuple(prepared[h.name] for h in (LONDON, SCEAUX) if h.name in prepared)
    others = peers((options.peers or Path("python")).absolute(), options.build.absolute() / "peers", training if len(training) == 2 else ())
    cases = [(prepared[name], case) for name in options.homes if name in prepared for case in prepared[name].cases()]
    return [work for home, case in cases for work in (_energy_work(home, case, own, others) if case.is_energy else _room_work(case, own))]


def _energy_work(home: Prepared, case: Case, own: Sequence[Method], others: Sequence[Peer]) -> list[Work]:
    yardsticks = [Yardstick(label) for label in (CLIMATOLOGY, *NAIVE)]
    peers_here = [peer for peer in others if peer.takes(case)]
    ours = [each for method in own for each in _with_published(method)]
    whole = Work(case, (*_taking(ours, case), *yardsticks, *(peer for peer in peers_here if not peer.few)))
    few = Work(thinned(case, max(FEW_STEPS // case.horizon, FEWEST)), tuple(peer for peer in peers_here if peer.few))
    return [
        whole,
        few,
        *(_with_less(change(thinned(case, SOME)), own) for change in DEGRADED.values()),
        _with_weather(home.with_all_weather(case), own),
    ]


def _with_published(method: Method) -> list[Method]:
    """A method, and behind it the row of what an agent makes of its bands."""
    is_ours = isinstance(method, BundleMethod) and method.label in (ZERO_SHOT, FINE_TUNED)
    return [method, Published(method)] if is_ours else [method]


def _room_work(case: Case, own: Sequence[Method]) -> list[Work]:
    yardsticks = [Yardstick(label) for label in (CLIMATOLOGY, *ROOM_NAIVE)]
    return [Work(case, (*_taking(own, case), *yardsticks)), _with_weather(case, own)]


def _with_weather(case: Case, own: Sequence[Method]) -> Work:
    perfect = with_perfect_weather(case)
    return Work(perfect, tuple(_taking(own, perfect)))


def _with_less(case: Case, own: Sequence[Method]) -> Work:
    """Other sensors change nothing about the climatology."""
    return Work(case, (*_taking(own, case), *([] if case.variant.startswith("missing") else [Yardstick(CLIMATOLOGY)])))


def _taking(methods: Sequence[Method], case: Case) -> list[Method]:
    return [method for method in methods if method.takes(case)]


def _rows(work: list[Work], store: Store, options: argparse.Namespace, console: Console) -> tuple[list[Row], int]:
    """All rows that are there or can be computed, and how many failed: one method's fault must not cost the others' hours."""
    rows, failed = [], 0
    for task in work:
        for method in task.methods:
            try:
                result = _result(method, task.case, store, options, console)
            except HearthcastError as err:
                console.print(f" failed\n{err}", style="red")
                failed += 1
                continue
            if result is not None:
                rows.append(Row(task.case, method, result))
    return rows, failed


def _absent(work: Sequence[Work], rows: Sequence[Row], described: Rows) -> list[str]:
    """Rows of whole cases that are wanted and not there, with the homes they lack: a table must not hide what it left out."""
    there = {(row.method.label, row.case.home) for row in rows}
    wanted = [(method.label, task.case.home) for task in work if task.case.variant == "full" for method in task.methods]
    homes = {task.case.home for task in work}
    # a recipe that has not been trained has no method yet
    wanted += [(recipe.label, home) for recipe in described.recipes for home in recipe.homes if home in homes]
    lacking: dict[str, list[str]] = {}
    for label, home in dict.fromkeys(wanted):
        if (label, home) not in there:
            lacking.setdefault(label, []).append(home)
    return [f"{label} ({', '.join(names)})" for label, names in lacking.items()]


def _result(method: Method, case: Case, store: Store, options: argparse.Namespace, console: Console) -> Result | None:
    known = store.get(method, case)
    wanted = options.only is None or any(text in method.label for text in options.only)
    can = method.kind != "peer" or not hasattr(method, "program") or options.peers is not None
    if known is not None or options.cached or not wanted or not can:
        return known
    seed = f", seed {method.seed}" if method.seed is not None else ""
    console.print(f"{case.home} {case.target} {case.variant}, {len(case.origins)} origins: {method.label}{seed} …", end="")
    result = store.make(method, case)
    console.print(f" {result.cpu_s:.0f} s")
    return result


if __name__ == "__main__":
    sys.exit(main())
