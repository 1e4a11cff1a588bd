"""Rolling origins of one home or many: forecasts of the model and the baselines, block by block, with no sight past any origin.

The gateway's own forecaster makes them. Neighbouring origins share most of the climatology's rows, homes of one step share the graph's batches, and
the graph runs in a thread of its own while this one scores the block before and prepares the one after.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.calibration import publish
from edge_agent.contract.errors import DataError
from edge_agent.contract.features import ModelInputs
from edge_agent.contract.forecast import Grade
from edge_agent.contract.series import Series
from edge_agent.contract.weather import WeatherSource
from edge_agent.forecaster import Forecaster
from trainer.baselines import baseline_predictions, yardstick_of
from trainer.scores import Predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLOCK: Final = 256
"""Origins worked on together: fewer share less, more take memory and are no faster."""
NO_ORIGIN: Final = "no origin lies in this span with a whole day after it: widen --from and --to, or give a smaller --every"


@dataclass(frozen=True, eq=False)
class Weather:
    """The weather forecast that a model is given."""

    source: WeatherSource
    label: str
    """What it is, for people."""


@dataclass(frozen=True, eq=False)
class Home:
    """One target of one house, and the origins it is forecast from."""

    forecaster: Forecaster
    series: Series
    origins: Ints
    """Unix s, ascending, on the series' grid."""
    weather: Weather | None = None
    """For a model that reads one; without it the model is told nothing of the weather ahead."""

    @property
    def name(self) -> str:
        """Site and target."""
        return f"{self.forecaster.house.site}:{self.forecaster.plan.target}"

    @property
    def method(self) -> str:
        """What its own forecasts are called among the predictions."""
        return self.forecaster.identity["name"] if self.forecaster.model is not None else yardstick_of(self.forecaster.plan)


@dataclass(frozen=True, eq=False)
class Part:
    """Some origins of one home, in order, and all that is forecast from them."""

    home: Home
    predictions: dict[str, Predictions]
    """By label: the model's own first, the rolling climatology's last; without a model they are one."""
    grades: list[Grade]
    """Of each origin: where it is `baseline`, the model's row is the climatology's, as on the gateway."""
    is_last: bool
    """Whether no origin of the home follows."""


def forecasts(homes: Iterable[Home], *, block: int = BLOCK) -> Iterator[Part]:
    """Every home's forecasts, in the order of homes and origins; of the homes only one is held at a time.

    Raises:
        DataError: a home without origins, or with origins outside its series.
        BundleError: the graph fails.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="graph") as thread:
        before: tuple[list[_Piece], Future[tuple[Floats | None, Floats]]] | None = None
        for pieces in _blocks(homes, block):
            model = pieces[0].home.forecaster.model
            running = thread.submit(model.run, _joined(pieces)) if model is not None else None
            if before is not None:
                yield from _settled(*before)
            before = (pieces, running) if running is not None else None
            if running is None:
                yield from (piece.part(piece.baselines, ["baseline"] * len(piece.origins)) for piece in pieces)
        if before is not None:
            yield from _settled(*before)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A part that the graph has not seen yet."""

    home: Home
    origins: Ints
    baselines: dict[str, Predictions]
    inputs: ModelInputs | None
    grades: list[Grade]
    is_last: bool

    def part(self, predictions: dict[str, Predictions], grades: list[Grade]) -> Part:
        return Part(self.home, predictions, grades, self.is_last)


class _Preparation:
    """What the pieces of one home have in common."""

    def __init__(self, home: Home) -> None:
        self.home, forecaster = home, home.forecaster
        if not len(home.origins):
            raise DataError(f"{home.name}: no origin lies in this span with a whole day after it: widen --from and --to, or give a smaller --every")
        self.builder = self.anchored = forecaster.builder(home.series, weather=home.weather.source if home.weather else None)
        if not self.builder.plan.anchored:
            self.anchored = Forecaster(forecaster.house, None, target=forecaster.plan.target).builder(home.series)

    def piece(self, first: int, last: int) -> _Piece:
        """The origins with these numbers."""
        forecaster, origins = self.home.forecaster, self.home.origins[first:last]
        anchors = self.anchored.anchors(origins)
        baselines = baseline_predictions(self.anchored, origins, anchors=anchors)
        inputs = None if forecaster.model is None else self.builder.inputs(origins, anchors)
        grades = [grade for grade, _ in forecaster.grades(self.builder, origins)]
        return _Piece(self.home, origins, baselines, inputs, grades, is_last=last >= len(self.home.origins))


def _blocks(homes: Iterable[Home], size: int) -> Iterator[list[_Piece]]:
    """Pieces that one run of the graph can take, `size` origins together but for the last of a kind."""
    pieces: list[_Piece] = []
    room, kind = size, None
    for home in homes:
        if pieces and _kind(home) != kind:
            yield pieces
            pieces, room = [], size
        preparation, kind, done = _Preparation(home), _kind(home), 0
        while done < len(home.origins):
            last = min(done + room, len(home.origins))
            pieces.append(preparation.piece(done, last))
            room, done = room - (last - done), last
            if room == 0:
                yield pieces
                pieces, room = [], size
    if pieces:
        yield pieces


def _kind(home: Home) -> object:
    """Homes of one kind can share a run of the graph."""
    return id(home.forecaster.model), tuple(home.forecaster.plan.input_shapes().items())


def _joined(pieces: list[_Piece]) -> ModelInputs:
    inputs = [piece.inputs for piece in pieces if piece.inputs is not None]
    if len(inputs) == 1:
        return inputs[0]
    arrays = {name: np.concatenate([one.arrays[name] for one in inputs]) for name in inputs[0].arrays}
    return ModelInputs(np.concatenate([one.origins for one in inputs]), arrays)


def _settled(pieces: list[_Piece], running: Future[tuple[Floats | None, Floats]]) -> Iterator[Part]:
    """The parts that a run of the graph makes of the pieces."""
    quantiles, mean = running.result()
    first = 0
    for piece in pieces:
        rows = slice(first, first + len(piece.origins))
        first = rows.stop
        yield _published(piece, None if quantiles is None else quantiles[rows], mean[rows])


def _published(piece: _Piece, quantiles: Floats | None, mean: Floats) -> Part:
    """Calibrated, and the forecast without a model where the gateway would publish that: few inputs known, or the graph's output not finite."""
    forecaster = piece.home.forecaster
    usual = piece.baselines[yardstick_of(forecaster.plan)]
    quantiles, mean = publish(quantiles, mean, forecaster.calibration, forecaster.plan)
    failed = ~np.isfinite(mean).all(axis=1) | ~np.isfinite(quantiles.reshape(len(mean), -1)).all(axis=1)
    grades: list[Grade] = ["baseline" if bad else grade for grade, bad in zip(piece.grades, failed, strict=True)]
    fallback = np.array([grade == "baseline" for grade in grades])
    if fallback.any():
        quantiles = np.where(fallback[:, None, None], usual.quantiles, quantiles)
        mean = np.where(fallback[:, None], usual.mean, mean)
    own = replace(usual, quantiles=quantiles, mean=mean)
    return piece.part({piece.home.method: own, **piece.baselines}, grades)
