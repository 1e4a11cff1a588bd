"""Does the gateway forecast what the workstation's backtest does? A whole recorded house, replayed through a real broker, hour by hour.

python -m benchmarks.reference_replay --bundle BUNDLE --house house.toml --data FILE
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.progress import track

from benchmarks.broker import broker
from demo.replay import Connection, Message, messages
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import read_house
from edge_agent.forecaster import Forecaster, Model
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, issued_between
from trainer.backtest import backtest, choose_origins
from trainer.datasets import read_table
from trainer.scores import Predictions

Floats = npt.NDArray[np.float64]

HOURLY: Final = [f"{hour:02d}:00" for hour in range(24)]
KEYS: Final = ("p10", "value", "p90")
"""Of a published step, in the order of `IssuedForecast.published`."""


def compare(bundle: Path, house_path: Path, data: Path, *, counter_decimals: int | None, allow_unsigned: bool = False) -> dict[str, Any]:
    """Replay `data` through a broker into an agent and compare its forecasts with the backtest's at the same origins.

    Returns:
        Number of origins compared and of messages, messages a second, and the largest and the mean relative difference: of what the agent's model
        said to the backtest, or of what the agent published to what it stored of that, its correction of the bands included. A difference is
        relative to the mean value of that forecast: single steps may be next to nothing.
    """
    house = read_house(house_path)
    series = read_table(house, [data]).series
    forecaster = Forecaster(house, Model(read_bundle(bundle, allow_unsigned=allow_unsigned)))
    origins = choose_origins(series, forecaster.plan.horizon * house.step_s, start=None, end=None, every_s=3600)
    expected = backtest(forecaster, series, origins).of_model
    started = time.perf_counter()
    with _agent(bundle, house_path, allow_unsigned=allow_unsigned) as (port, folder), Connection("127.0.0.1", port) as connection:
        published: dict[int, dict[str, Any]] = {}
        connection.listen(f"hearthcast/{house.site}/forecast/{forecaster.plan.target}", lambda text: _keep(text, published))
        stream = list(messages(series, house, counter_decimals=counter_decimals))
        _replay(stream, connection, published, last_origin=int(origins[-1]))
        wall_s = time.perf_counter() - started
        stored = _stored(folder / "history.db", forecaster.plan.target, expected)
    difference = np.maximum(_of_model(expected, stored), _of_payload(published, stored))
    return {
        "origins": len(origins),
        "messages": len(stream),
        "messages_per_s": len(stream) / wall_s,
        "largest": float(difference.max()),
        "mean": float(difference.mean()),
    }


def _keep(text: str, published: dict[int, dict[str, Any]]) -> None:
    payload = json.loads(text)
    published[int(datetime.fromisoformat(payload["origin"]).timestamp())] = payload


def _replay(stream: Sequence[Message], connection: Connection, published: dict[int, dict[str, Any]], *, last_origin: int) -> None:
    """Publish all messages, at most a day ahead of the agent's forecasts."""
    # not more: the broker's acknowledgements to the agent wait behind all that it has yet to read
    first_day = today = stream[0].time // DAY_S
    for message in track(stream, description="replaying", transient=True):
        if message.time // DAY_S > today:
            today = message.time // DAY_S
            if today > first_day + 1:
                connection.wait(lambda: max(published, default=0) >= (today - 1) * DAY_S, what="forecast")  # noqa: B023  used at once
        connection.publish(message.topic, message.payload)
    connection.wait(lambda: last_origin in published, what="last forecast")


def _stored(path: Path, target: str, expected: Predictions) -> list[IssuedForecast]:
    """What the agent's history holds of its forecasts, one for each origin; the last ones are a second away from the disk."""
    first, last = int(expected.origins[0]), int(expected.origins[-1])
    found: dict[int, IssuedForecast] = {}

    def is_complete() -> bool:
        history = History(path)
        history.open_to_read()
        try:
            found.update({forecast.origin: forecast for forecast in issued_between(history, target, first, last + 1)})
        finally:
            history.close()
        return last in found

    _until(is_complete, lambda: f"the agent has stored no forecast at {last}")
    missing = [int(o) for o in expected.origins if int(o) not in found]
    if missing:
        raise ServiceError(f"the agent has stored no forecast at {len(missing)} origins, the first at {missing[0]}")
    return [found[int(o)] for o in expected.origins]


def _of_model(expected: Predictions, stored: Sequence[IssuedForecast]) -> Floats:
    """Largest difference of each origin's levels to the backtest's, `(n_origins,)`."""
    return _relative(np.stack([forecast.quantiles for forecast in stored]), expected.quantiles)


def _of_payload(published: dict[int, dict[str, Any]], stored: Sequence[IssuedForecast]) -> Floats:
    """Largest difference of what each origin's message says to what was stored of it, `(n_origins,)`."""
    said = [[[step[key] for key in KEYS] for step in published[forecast.origin]["forecast"]] for forecast in stored]
    return _relative(np.array(said), np.array([forecast.published for forecast in stored]))


def _relative(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.abs(found - wanted).max(axis=(1, 2)) / np.abs(wanted).mean(axis=(1, 2)))


@contextmanager
def _agent(bundle: Path, house: Path, *, allow_unsigned: bool) -> Iterator[tuple[int, Path]]:
    """A broker and an agent with its clock in the messages, forecasting every hour; yields the broker's port and the agent's folder."""
    with tempfile.TemporaryDirectory(prefix="hearthcast-replay-") as work, broker(Path(work)) as (_, port):
        config = Path(work) / "agent.toml"
        config.write_text(f"forecast_at = {json.dumps(HOURLY)}\n", encoding="utf-8")
        command = [sys.executable, "-m", "edge_agent", "run", "--house", str(house), "--bundle", str(bundle), "--config", str(config)]
        command += ["--broker", f"127.0.0.1:{port}", "--state-dir", work, "--replay-clock", *(["--allow-unsigned"] if allow_unsigned else [])]
        log = Path(work) / "agent.log"
        with log.open("wb") as output:
            agent = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _until(lambda: "ready" in log.read_text(), lambda: f"the agent did not start: {log.read_text()[-2000:]}")
            yield port, Path(work)
        finally:
            agent.terminate()
            try:
                agent.wait(10)
            except subprocess.TimeoutExpired:
                agent.kill()


def _until(claim: Any, otherwise: Any, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > end:
            raise ServiceError(otherwise())
        time.sleep(0.05)


def main() -> int:
    """Run both ways, every digit and 0.01 kWh, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bundle", "--house", "--data"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--allow-unsigned", action="store_true")
    args = parser.parse_args()
    for decimals in (None, 2):
        figures = compare(args.bundle, args.house, args.data, counter_decimals=decimals, allow_unsigned=args.allow_unsigned)
        print("every digit" if decimals is None else "kWh rounded to 0.01", json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
