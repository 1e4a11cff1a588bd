"""What a search for hyper-parameters may choose from: for each a range of numbers, or a few values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from edge_agent.contract.errors import ConfigError, closest
from trainer.presets import HyperParameters

LOG_FROM: Final = 10.0
"""A range whose end is this many times its start is searched by orders of magnitude."""
YARDSTICK: Final = ("mean_weight", "total_weight", "l2", "stride_s", "min_delta", "members")
"""Decide what the validation loss counts, over which windows: a search would choose what makes it small, not what makes forecasts good.

Members are trained once the others are chosen: more are always better, and take as many times longer.
"""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones when both are."""

    low: float
    high: float

    @property
    def is_log(self) -> bool:
        """Whether orders of magnitude count, and not differences."""
        return self.low > 0 and self.high / self.low >= LOG_FROM

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", by orders of magnitude" if self.is_log else "")


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


Space = Mapping[str, Range | Choice]

SPACE: Final[dict[str, Range | Choice]] = {
    "units": Range(8, 128),
    "dropout": Range(0.0, 0.6),
    "learning_rate": Range(2e-4, 2e-2),
    "weight_decay": Range(1e-5, 1e-1),
    "batch_size": Choice((32, 64, 128, 256)),
    "schedule": Choice(("constant", "cosine", "exponential")),
}
"""Searched when nothing else is asked for: few enough for twenty trials to say something.

Not `channel_dropout` and `weather_dropout`: the windows that trials are compared on have their sensors, so a search would drop none of them in
training, and a dead sensor would cost what it should not.
"""


class Suggests(Protocol):
    """What draws values; an Optuna trial does."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        """A whole number from `low` to `high`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """A number from `low` to `high`."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of `choices`."""


def space_for(hyper: HyperParameters, given: Sequence[str], asked: Space) -> dict[str, Range | Choice]:
    """What to search around `hyper`: SPACE and, over it, what was asked for.

    A hyper-parameter given by its flag stays as given; one whose preset's value lies outside its range stays as well (plain Adam stays plain Adam).

    Raises:
        ConfigError: the same hyper-parameter is given and asked for, or nothing is left to search.
    """
    for name in asked:
        if name in given:
            raise ConfigError(f"--search {name} and --{name.replace('_', '-')}: a hyper-parameter is either searched or given")
    space = {name: part for name, part in SPACE.items() if name not in given and getattr(hyper, name) in part}
    space |= asked
    if not space:
        raise ConfigError("nothing is left to search: leave out one of the hyper-parameters' flags, or name one with --search")
    return space


def draw(space: Space, trial: Suggests) -> dict[str, Any]:
    """A value for each hyper-parameter of the space."""
    return {name: _draw(name, part, trial) for name, part in space.items()}


def _draw(name: str, part: Range | Choice, trial: Suggests) -> Any:
    if isinstance(part, Choice):
        return trial.suggest_categorical(name, part.values)
    if isinstance(part.low, int) and isinstance(part.high, int):
        return trial.suggest_int(name, part.low, part.high, log=part.is_log)
    return trial.suggest_float(name, part.low, part.high, log=part.is_log)


def parse_search(words: Sequence[str]) -> dict[str, Range | Choice]:
    """Parts of a space as written on the command line: `units=16:64`, `learning_rate=1e-4:1e-2`, `schedule=cosine,constant`.

    Raises:
        ConfigError: no such hyper-parameter, one that must not be searched, or text that is neither a range nor values.
    """
    return dict(_parse(word) for word in words)


def _parse(word: str) -> tuple[str, Range | Choice]:
    name, _, text = word.partition("=")
    name, kinds = name.replace("-", "_"), {item.name: type(item.default) for item in fields(HyperParameters)}
    if name not in kinds:
        raise ConfigError(f"--search {word!r}: {closest(name, kinds)}")
    if name in YARDSTICK:
        flag = f"--{name.replace('_', '-')}"
        raise ConfigError(f"--search {word!r}: {name} decides how trials compare, so it cannot be searched; give {flag}")
    try:
        part = _part(kinds[name], text)
    except ValueError:
        raise ConfigError(f"--search {word!r}: a range such as {name}=LOW:HIGH or values such as {name}=A,B are expected") from None
    _require_valid(name, part)
    return name, part


def _part(kind: type, text: str) -> Range | Choice:
    if ":" in text:
        low, high = (kind(end) for end in text.split(":"))
        if kind not in (int, float) or not low < high:
            raise ValueError
        return Range(low, high)
    values = tuple(_value(kind, item) for item in text.split(","))
    if len(values) < 2:
        raise ValueError
    return Choice(values)


def _value(kind: type, text: str) -> Any:
    if kind is bool:
        return ("false", "true").index(text.lower()) == 1
    return kind(text)


def _require_valid(name: str, part: Range | Choice) -> None:
    """The ends of a range, and every value, must be ones that a flag would take."""
    for value in part.values if isinstance(part, Choice) else (part.low, part.high):
        HyperParameters(**{name: value})
