"""What each subcommand does: a function of the parsed options that yields lines to print."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TextIO, cast

from edge_agent.allocation import give_back
from edge_agent.config import Settings, read_settings
from edge_agent.contract.errors import ConfigError, ServiceError
from edge_agent.contract.schema import HouseSpec, read_house
from edge_agent.lazily import put_off
from edge_agent.logbook import keep_log

HISTORY = "history.db"
SERVICE = Path("/etc/hearthcast")
"""Holds the service's house.toml and agent.toml."""
SETTING_FLAGS = (
    "broker",
    "username",
    "password_file",
    "state_dir",
    "log_level",
    "log_form",
    "bundles",
    "replay_clock",
    "allow_unsigned",
    "discovery",
)


def run(options: Namespace) -> Iterator[str]:
    """The service, until SIGTERM or SIGINT."""
    give_back()
    put_off("urllib.request")  # paho imports it for proxies: 2.4 MB and 20 ms, with all of http and email
    from edge_agent.history import History
    from edge_agent.lineup import Lineup
    from edge_agent.metrics import metrics_text
    from edge_agent.mqtt import BrokerLink
    from edge_agent.publisher import base_of
    from edge_agent.scrape import scraped
    from edge_agent.service import Service, subscriptions

    house, settings = _house_and_settings(options)
    if not any(sensor.topic for sensor in house.sensors):
        raise ConfigError(f"{options.house}: no sensor has a 'topic': the agent reads sensors over MQTT, give each its topic and field")
    link = BrokerLink(
        settings.broker,
        client_id=settings.broker.client_id or f"hearthcast-{house.site}",
        status_topic=f"{base_of(house, settings)}/status",
        subscriptions=subscriptions(house, settings),
        keep_session=not settings.replay_clock,  # what an earlier replay left over would set the clock to its end
        is_replay=settings.replay_clock,
    )
    service = Service(house, settings, lineup=Lineup(house, settings), history=History(settings.state_dir / HISTORY), link=link)

    def stop(*_: object) -> None:
        service.stop_requested = True

    def crashed(args: threading.ExceptHookArgs) -> None:
        service.crash = args.exc_value

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    threading.excepthook = crashed
    with scraped(settings, lambda: metrics_text(service)) as problem:
        service.health.notices["metrics"] = [] if problem is None else [problem]
        service.run()
    yield from ()


def doctor(options: Namespace) -> Iterator[str]:
    """Which sensors deliver, and what is wrong with them."""
    from edge_agent.doctor import examine

    house, settings = _house_and_settings(options)
    yield from examine(house, settings, history_path=settings.state_dir / HISTORY, seconds=options.seconds)


def report(options: Namespace) -> Iterator[str]:
    """The last forecasts and how they turned out, and what had to be repaired."""
    from edge_agent.history import History
    from edge_agent.repairs import repair_lines
    from edge_agent.report import report_lines

    house, settings = _house_and_settings(options)
    with History(_existing(settings)) as history:
        yield from report_lines(house, history, days=options.days, price=settings.price, currency=settings.currency)
        yield from repair_lines(history, days=options.days)


def history_export(options: Namespace) -> Iterator[str]:
    """Closed steps, or weather forecasts, as CSV."""
    from edge_agent.history import History
    from edge_agent.table import write_csv, write_weather

    house, settings = _house_and_settings(options)
    with History(_existing(settings)) as history, _output(options.out) as file:
        rows = write_weather(history, file) if options.weather else write_csv(house, history, file)
    if options.out is not None:
        yield f"{rows} {'rows of weather forecasts' if options.weather else 'steps'} written to {options.out}"


def history_import(options: Namespace) -> Iterator[str]:
    """Steps from a CSV table, wherever nothing is known yet."""
    from edge_agent.history import History
    from edge_agent.table import read_csv

    house, settings = _house_and_settings(options)
    with History(settings.state_dir / HISTORY) as history, _input(options.file) as file:
        history.bind(house)
        found = read_csv(house, history, file, source=str(options.file))
    yield f"{found.stored} values stored; {found.known - found.stored} of the table's {found.known} were known already"
    for sensor, n in found.rejected.items():
        yield f"{sensor}: {n} values outside its valid range left out"
    if found.stored:
        yield "an agent that is running uses them after its next start"


def backup(options: Namespace) -> Iterator[str]:
    """A copy of the history."""
    from edge_agent.backup import back_up

    _, settings = _house_and_settings(options)
    source = _existing(settings)
    copy = back_up(source, options.file, now=time.time())
    yield f"{copy}: {copy.stat().st_size / 1e6:.1f} MB, checked; to go back to it, stop the agent and run hearthcast-agent restore {copy}"


def restore(options: Namespace) -> Iterator[str]:
    """A copy in the history's place."""
    from edge_agent.backup import put_back

    house, settings = _house_and_settings(options)
    target = settings.state_dir / HISTORY
    aside = put_back(options.file, target, house=house, now=time.time())
    yield f"{target} is what {options.file} was; start the agent again"
    if aside is not None:
        yield f"what was there before is kept as {aside}"


def install(options: Namespace) -> Iterator[str]:
    """A bundle into the model store."""
    from edge_agent.model_commands import install_lines

    house, settings = _house_and_settings(options)
    yield from install_lines(options, house, options.house.read_text(encoding="utf-8"), settings)


def models_list(options: Namespace) -> Iterator[str]:
    """What is installed."""
    from edge_agent.model_commands import list_lines

    yield from list_lines(_settings(options))


def models_check(options: Namespace) -> Iterator[str]:
    """Whether this machine reproduces what the models were exported with."""
    from edge_agent.model_commands import check_lines

    yield from check_lines(_settings(options), options.bundle)


def models_pin(options: Namespace) -> Iterator[str]:
    """Hold a model, whatever the scores."""
    from edge_agent.model_commands import pin_lines

    yield from pin_lines(_settings(options), options.target, options.model)


def models_unpin(options: Namespace) -> Iterator[str]:
    """Let the scores decide again."""
    from edge_agent.model_commands import unpin_lines

    yield from unpin_lines(_settings(options), options.target)


def models_rollback(options: Namespace) -> Iterator[str]:
    """Back to the model before."""
    from edge_agent.model_commands import rollback_lines

    yield from rollback_lines(_settings(options), options.target)


def keys_new(options: Namespace) -> Iterator[str]:
    """Make a signing key."""
    from edge_agent.contract import signing

    yield signing.create_key(options.file)


def keys_trust(options: Namespace) -> Iterator[str]:
    """Accept bundles signed by a key."""
    from edge_agent.contract import signing

    try:
        public = options.file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{options.file}: cannot be read ({err}); give the .pub file of the key that signs your bundles") from err
    folder = signing.SYSTEM_KEYS if options.system else signing.trusted_folders()[-1]
    yield f"trusted: {signing.trust(public, folder=folder, name=options.file.stem)}"


def keys_show(_options: Namespace) -> Iterator[str]:
    """The keys this machine trusts."""
    import base64

    from edge_agent.contract import signing

    keys = signing.trusted_keys()
    for key, path in keys.items():
        yield f"{base64.b64encode(key).decode()}  {path}"
    if not keys:
        folders = " and ".join(str(folder) for folder in signing.trusted_folders())
        yield f"no key is trusted: none lies in {folders}; add one with hearthcast-agent keys trust FILE.pub"


def _settings(options: Namespace) -> Settings:
    config, house = SERVICE / "agent.toml", getattr(options, "house", None)
    is_service = os.geteuid() == 0 if house is None else house == SERVICE / "house.toml"
    if options.config is None and is_service and config.is_file():
        options.config = config
    return read_settings(options.config, flags={name: getattr(options, name, None) for name in SETTING_FLAGS})


def _house_and_settings(options: Namespace) -> tuple[HouseSpec, Settings]:
    options.house = options.house or _default_house()
    settings = _settings(options)
    keep_log(sys.stderr, level=settings.log_level, form=settings.log_form)
    return read_house(options.house), settings


def _default_house() -> Path:
    """The house.toml of the working folder, else the service's.

    Raises:
        ConfigError: there is none.
    """
    for path in (Path("house.toml"), SERVICE / "house.toml"):
        if path.is_file():
            return path
    raise ConfigError(f"no house.toml lies in {Path.cwd()} or {SERVICE}: give its path with --house")


def _existing(settings: Settings) -> Path:
    """The history's path; opening it must not make an empty one."""
    path = settings.state_dir / HISTORY
    if not path.exists():
        raise ServiceError(f"{path}: there is no history yet; start the agent first, or name its folder with --state-dir")
    return path


def _input(path: Path) -> TextIO:
    try:
        return _text_file(path, "r")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror}); give a table as `history export` writes it") from err


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        file = _text_file(path, "w")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written ({err.strerror}); name another file with --out") from err
    with file:
        yield file


def _text_file(path: Path, mode: Literal["r", "w"]) -> TextIO:
    """A text file; packed, where its name says so."""
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, f"{mode}t", encoding="utf-8", newline=""))
    return cast("TextIO", path.open(mode, encoding="utf-8", newline=""))
