"""`hearthcast-train fit`: its flags, and what it says. Imports Keras only once the arguments are right."""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, RenderableType

from edge_agent.contract.errors import ConfigError, TrainingError
from edge_agent.contract.schema import ROLES, STEPS_S, WEATHER_ROLES, read_house
from trainer.findings import ACCEPT_HELP, DOUBTFUL
from trainer.outputs import require_place
from trainer.presets import COVARIATE_ROLES, PRESETS, SCHEDULES, HyperParameters, hyper_parameters, plan_for, require_seed
from trainer.quiet import without_native_stderr

if TYPE_CHECKING:
    from trainer.fit import FitRequest
    from trainer.homes import HomesRequest

RESOLUTIONS_MIN: Final = (10, 15, 30, 60)
AUGMENT: Final = 6
PER_DAY: Final = 2.0
HOME_FLAGS: Final = ("resolutions", "augment", "per_day", "extra", "train_share")
DISTRIBUTE: Final = ("mirrored", "multi-worker")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `fit`."""
    add_shared_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder for the run; must not hold one yet, except with --resume")
    parser.add_argument(
        "--init", type=Path, metavar="BUNDLE|RUN", help="model that preset finetune starts from (default: the base model that ships in the package)"
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="accept a bundle for --init that nobody trusted has signed")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out after its last complete epoch")
    parser.add_argument(
        "--distribute",
        choices=DISTRIBUTE,
        help="share each batch out: mirrored: over all GPUs here (or CPU devices); multi-worker: over the machines that TF_CONFIG names, each of "
        "which runs this command (default: one device)",
    )


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that `tune` has too."""
    parser.add_argument(
        "--house",
        type=Path,
        nargs="+",
        required=True,
        metavar="TOML",
        help="house.toml; several: one base model over all energy targets of all houses",
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="CSV or Parquet files (.gz too): of one house any number, in any order; of several houses one each, in the order of --house",
    )
    parser.add_argument("--preset", default="base", metavar="|".join(PRESETS), help="which network (default: %(default)s)")
    parser.add_argument("--target", metavar="NAME", help="which target of the house (default: its first)")
    parser.add_argument(
        "--covariates", nargs="+", default=[], metavar="ROLE", help=f"sensors that base reads beside the target: {', '.join(COVARIATE_ROLES)}"
    )
    parser.add_argument(
        "--weather",
        nargs="+",
        default=[],
        metavar="ROLE",
        help=f"weather whose forecast for the day ahead base reads where there is one: {', '.join(WEATHER_ROLES)}",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights, dropout and the order of windows (default: %(default)s)")
    parser.add_argument("--repair", action="store_true", help="repair a faulty table where that is possible, and say what was repaired")
    parser.add_argument("--accept", nargs="+", default=[], choices=DOUBTFUL, metavar="KIND", help=ACCEPT_HELP)
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow's store (default: $MLFLOW_TRACKING_URI, else mlflow.db beside RUN; off: none)")
    parser.add_argument("--experiment", metavar="NAME", help="MLflow's experiment, whose runs stand side by side (default: the house's name)")
    _add_home_arguments(parser.add_argument_group("many homes (preset base)"))
    group = parser.add_argument_group("hyper-parameters (the preset, and whether there are many homes, decide what is not given)")
    for item in fields(HyperParameters):
        _add_hyper_parameter(group, item.name, type(item.default), str(item.metadata["help"]))


def _add_home_arguments(group: Any) -> None:
    group.add_argument(
        "--all-targets",
        action="store_true",
        help="each energy target of a house is a home of its own (a table of many meters); implied by several houses",
    )
    group.add_argument(
        "--role",
        choices=sorted(name for name, role in ROLES.items() if role.kind == "state"),
        metavar="ROLE",
        help="one model over all targets of this role of one house, such as indoor_temperature: all of its rooms",
    )
    group.add_argument(
        "--resolutions",
        type=int,
        nargs="+",
        metavar="MIN",
        help=f"steps in minutes; each home is trained on at those that are multiples of its own (default: {' '.join(map(str, RESOLUTIONS_MIN))})",
    )
    group.add_argument(
        "--augment",
        type=int,
        metavar="N",
        help=f"changed copies of each home: other levels, weather-driven loads, finer steps, two homes on one meter (default: {AUGMENT})",
    )
    group.add_argument("--per-day", type=float, metavar="X", help=f"windows a day of each home at each of its steps (default: {PER_DAY:g})")
    group.add_argument(
        "--extra",
        type=Path,
        metavar="FOLDER",
        help="further homes, NAME.toml beside NAME.csv.gz, to train on and never to set aside (python -m demo.neighbours simulates some)",
    )
    group.add_argument(
        "--train-share",
        type=float,
        nargs="+",
        metavar="SHARE",
        help="for each house, the share of its time, from its start, that may be looked at; the rest is never read (default: all; --role too)",
    )


def _add_hyper_parameter(group: Any, name: str, kind: type, text: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    elif name == "schedule":
        group.add_argument(flag, choices=SCHEDULES, help=text)
    else:
        group.add_argument(flag, type=kind, metavar="N" if kind is int else "X", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Fit, and say what came of it; returns the exit code."""
    console = Console(highlight=False)
    if arguments.init and arguments.preset != "finetune":
        raise ConfigError(f"--init is for preset finetune: leave it out with --preset {arguments.preset}")
    if arguments.distribute and arguments.preset == "finetune":
        raise ConfigError("--distribute is for presets base and seed: fine-tuning on one house is done in minutes")
    asked, homes = asked_for(arguments)
    fit = fitter(asked, homes)
    with stoppable(console) as stop_asked, _placed(asked, arguments.distribute) as request:
        try:
            record = fit(request, console=console, stop_asked=stop_asked)
        except KeyboardInterrupt:
            raise TrainingError(_what_is_left(arguments.out)) from None
    for line in (*verdict_on(record, homes), f"run: {arguments.out}"):
        console.print(line, soft_wrap=True)
    if record["status"] == "interrupted":
        raise TrainingError(f"interrupted: {arguments.out} holds the best epoch so far and can be exported; go on with --resume")
    return 0


def _what_is_left(out: Path) -> str:
    """What to do after a run was ended at once."""
    from trainer.run_folder import RunFolder

    if RunFolder(out).is_empty:
        return "interrupted before there was anything to keep: start it again"
    return f"interrupted: go on after the last complete epoch in {out} with --resume"


def fitter(request: FitRequest, homes: HomesRequest | None) -> Callable[..., dict[str, Any]]:
    """What fits a model as it is asked for."""
    from trainer.finetune import fine_tune
    from trainer.fit import fit
    from trainer.fit_homes import fit_homes
    from trainer.fit_rooms import fit_rooms

    if request.preset == "finetune":
        return fine_tune
    if request.role:
        return fit_rooms
    return fit if homes is None else partial(fit_homes, homes=homes)


@contextmanager
def _placed(request: FitRequest, kind: str | None) -> Iterator[FitRequest]:
    """The request on the devices that `--distribute` names; on a machine that only helps, in a folder that is thrown away.

    Raises:
        ConfigError: there are no such devices, or the run's folder cannot be made.
    """
    from trainer.devices import device_for, is_chief
    from trainer.run_folder import CHECKPOINT
    from trainer.untracked import OFF

    device = device_for(kind, clip_norm=request.hyper.clip_norm, mixed_precision=request.hyper.mixed_precision)
    if is_chief(kind):
        require_place(request.out, option="--out")
        yield replace(request, device=device)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        if request.resume:
            shutil.copytree(request.out / CHECKPOINT, out / CHECKPOINT)
        yield replace(request, device=device, out=out, tracking_uri=OFF)


def asked_for(arguments: argparse.Namespace) -> tuple[FitRequest, HomesRequest | None]:
    """What is to be fitted, and over which homes where they are many; loads Keras once everything is right.

    Raises:
        ConfigError: a value, file or combination that cannot be.
    """
    many_homes = not arguments.role and (arguments.all_targets or len(arguments.house) > 1)
    require_seed(arguments.seed)
    _refuse_idle(arguments, many_homes=many_homes)
    hyper = hyper_parameters(arguments.preset, vars(arguments), many_homes=many_homes, role=_role(arguments, many_homes=many_homes))
    homes = _check_homes(arguments) if many_homes else None
    _check_early(arguments, many_homes=many_homes)
    with without_native_stderr():
        from trainer.fit import FitRequest

    request = FitRequest(
        house=arguments.house[0],
        data=tuple(arguments.data),
        out=arguments.out,
        preset=arguments.preset,
        hyper=hyper,
        target=arguments.target,
        role=arguments.role,
        share=arguments.train_share[0] if arguments.role and arguments.train_share else 1.0,
        covariates=tuple(arguments.covariates),
        weather=tuple(arguments.weather),
        seed=arguments.seed,
        repair=arguments.repair,
        accept=tuple(arguments.accept),
        resume=arguments.resume,
        tracking_uri=arguments.tracking_uri,
        experiment=arguments.experiment,
        init=arguments.init,
        allow_unsigned=arguments.allow_unsigned,
    )
    return request, homes


def verdict_on(record: dict[str, Any], homes: HomesRequest | None) -> Sequence[RenderableType]:
    """What a run is worth."""
    from trainer.fit import verdict
    from trainer.fit_homes import verdict_of_homes
    from trainer.fit_rooms import verdict_of_rooms
    from trainer.tuning_report import report

    if record["preset"] == "finetune":
        return report(record)
    if "rooms" in record:
        return verdict_of_rooms(record)
    return verdict(record) if homes is None else verdict_of_homes(record)


def _check_homes(arguments: argparse.Namespace) -> HomesRequest:
    """What a fit over many homes is asked for.

    Raises:
        ConfigError: another preset, a target, or a value out of range.
    """
    from trainer.homes import HomesRequest, Sources, extra_homes, files_by_house  # loads pandas, which help and mistakes need not wait for

    if arguments.preset != "base" or arguments.target:
        raise ConfigError("many homes make one model of preset base for all their energy targets: leave out --target and other presets")
    if arguments.stride_s is not None:
        raise ConfigError("--stride-s: of many homes windows are drawn at random: leave it out, --per-day says how many")
    minutes = arguments.resolutions or RESOLUTIONS_MIN
    augment = AUGMENT if arguments.augment is None else arguments.augment
    per_day = PER_DAY if arguments.per_day is None else arguments.per_day
    resolutions = sorted({60 * number for number in minutes})
    if not set(resolutions) <= set(STEPS_S):
        steps = ", ".join(str(step_s // 60) for step_s in STEPS_S)
        raise ConfigError(f"--resolutions {' '.join(map(str, minutes))}: minutes out of {steps} are expected")
    if augment < 0 or not 0 < per_day <= 24:
        raise ConfigError(f"--augment {augment} --per-day {per_day:g}: a number of at least 0, and one above 0 and up to 24 are expected")
    files, shares = (tuple(arguments.house), tuple(arguments.data)), tuple(arguments.train_share or ())
    sources = Sources(*files, shares, repair=arguments.repair, accept=tuple(arguments.accept), extra=arguments.extra)
    files_by_house(sources)
    extra_homes(sources.extra)
    return HomesRequest(sources, tuple(resolutions), augment, per_day)


def _refuse_idle(arguments: argparse.Namespace, *, many_homes: bool) -> None:
    """Refuse flags that would do nothing."""
    given = [name for name in HOME_FLAGS if getattr(arguments, name) is not None and not (arguments.role and name == "train_share")]
    if given and not many_homes:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{flags}: only for one model over many homes, that is with several --house or with --all-targets: leave it out")


def _role(arguments: argparse.Namespace, *, many_homes: bool) -> str:
    """Of the target, or of the targets of many homes."""
    if many_homes or arguments.role:
        return str(arguments.role or "energy")
    house = read_house(arguments.house[0])
    return house.sensor(house.target(arguments.target or house.targets[0].name).sensor).role


def _check_early(arguments: argparse.Namespace, *, many_homes: bool) -> None:
    """Find mistakes before the seconds that loading TensorFlow takes."""
    if arguments.role:
        _check_role(arguments)
    for path in arguments.house:
        house = read_house(path)
        if arguments.preset == "finetune":
            house.target(arguments.target or house.targets[0].name)
        elif not many_homes:
            plan_for(arguments.preset, house, arguments.target or house.targets[0].name, tuple(arguments.covariates), tuple(arguments.weather))
    if arguments.preset == "finetune" and (arguments.covariates or arguments.weather):
        raise ConfigError("preset finetune reads what the model reads that it starts from: leave out --covariates and --weather")
    for path in arguments.data:
        if not path.is_file():
            raise ConfigError(f"--data {path}: there is no such file")


def _check_role(arguments: argparse.Namespace) -> None:
    shares = arguments.train_share or []
    if len(arguments.house) > 1 or arguments.all_targets or arguments.target or arguments.preset != "base" or len(shares) > 1:
        raise ConfigError(
            "--role makes one model of preset base of all rooms of one house: leave out --target, --all-targets, further houses and other presets"
        )
    if not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"--train-share {shares[0]:g}: a share above 0 and up to 1 is expected")


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
