"""Presets: which features a model reads and how it is trained. Every value is a flag of `hearthcast-train fit`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final, Literal

from edge_agent.contract.errors import ConfigError, closest
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.plan import CALENDAR, LAG_DAYS, FeaturePlan
from edge_agent.contract.schema import ROLES, WEATHER_ROLES, HouseSpec

Schedule = Literal["constant", "cosine", "exponential", "plateau"]

PRESETS: Final = ("base", "seed", "finetune")
SCHEDULES: Final = ("constant", "cosine", "exponential", "plateau")
CONTEXT_STEP_S: Final = 3600
CONTEXT_DAYS: Final = 7
DAILY_LENGTH: Final = 56
SEED_CONTEXT_DAYS: Final = 6
"""864 steps of 10 minutes, as the article has it."""
COVARIATE_ROLES: Final = ("indoor_temperature", "indoor_humidity", *WEATHER_ROLES)


def _flag(default: Any, text: str) -> Any:
    """A field whose flag has this help text."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class HyperParameters:
    """How a network is built and trained; the defaults are those of `base` for one house."""

    epochs: int = _flag(30, "most epochs")
    batch_size: int = _flag(64, "windows in a batch")
    stride_s: int = _flag(1800, "seconds between training origins; 0: every step of the house")
    units: int = _flag(32, "LSTM units")
    leaky_slope: float = _flag(0.1, "slope of LeakyReLU below zero")
    dropout: float = _flag(0.3, "share of the LSTM's last state dropped in training")
    channel_dropout: float = _flag(0.2, "share of covariate channels dropped in training: a dead sensor must cost little")
    weather_dropout: float = _flag(
        0.3, "share of windows whose covariates, and whose weather forecast, are dropped as a whole in training: a house without any is served too"
    )
    l2: float = _flag(0.0, "L2 penalty of the LSTM's and the last layer's weights")
    learning_rate: float = _flag(2e-3, "learning rate at the start")
    weight_decay: float = _flag(1e-3, "AdamW's weight decay; 0: plain Adam")
    schedule: Schedule = field(
        default="cosine", metadata={"help": "learning rate over time: constant, cosine (to 0), exponential (to a tenth), plateau (halved on a stall)"}
    )
    patience: int = _flag(6, "epochs without a better validation loss before training stops")
    min_delta: float = _flag(1e-5, "by how much the validation loss must fall to count as better")
    mean_weight: float = _flag(0.05, "weight of the mean's squared error beside the quantiles' CRPS (base)")
    total_weight: float = _flag(0.3, "weight of the absolute error of the day's total beside the quantiles' CRPS (base)")
    members: int = _flag(1, "networks that are trained apart and averaged in one graph (base)")
    patch: int = _flag(4, "steps of the context that the LSTM reads at once (base)")
    mixed_precision: bool = _flag(False, "16-bit matrix products (for GPUs; on a CPU it is slower)")
    jit: bool = _flag(False, "compile the training step with XLA: half a minute once for each step of the data, then up to three times as fast")
    clip_norm: float = _flag(0.0, "a gradient longer than this is shortened to it: one odd home must not throw the model off; 0: never")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "units", "patience", "learning_rate", "members", "patch"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: a number above 0 is expected")
        for name in ("dropout", "channel_dropout", "weather_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: a share from 0 to below 1 is expected")
        for name in ("stride_s", "leaky_slope", "l2", "weight_decay", "min_delta", "mean_weight", "total_weight", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"--{name.replace('_', '-')} {getattr(self, name)}: a number of at least 0 is expected")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"--schedule {self.schedule!r}: {closest(self.schedule, SCHEDULES)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


SEED: Final = HyperParameters(
    epochs=200,
    batch_size=32,
    stride_s=0,
    units=128,
    leaky_slope=0.3,
    dropout=0.1,
    channel_dropout=0.0,
    weather_dropout=0.0,
    learning_rate=0.00144,
    weight_decay=0.0,
    schedule="constant",
    patience=50,
    min_delta=1e-5,
    mean_weight=1.0,
    total_weight=0.0,
    patch=1,
)
"""The source article's text, literally; what it leaves open (batch size, most epochs, slope) is Keras's or the usual value."""

MANY_HOMES: Final = HyperParameters(epochs=4, batch_size=256, units=64, dropout=0.2, jit=True, clip_norm=1.0)
"""`base` over many homes: what each has to teach is learnt in a few passes, later ones fit their noise."""

ROOMS: Final = HyperParameters(
    epochs=4,
    batch_size=128,
    stride_s=7200,
    channel_dropout=0.1,
    learning_rate=4e-3,
    mean_weight=0.0,
    total_weight=0.0,
    clip_norm=1.0,
)
"""`base` for what rooms are like: linear, so that a few passes over a few months teach all there is (LOG, 2026-11-26)."""

FINETUNE: Final = HyperParameters(epochs=6, stride_s=3600, learning_rate=2e-3, weight_decay=0.0, clip_norm=1.0)
"""The firmest training that is tried on a house; see `trainings`."""
TUNABLE: Final = ("epochs", "batch_size", "stride_s", "learning_rate", "weight_decay", "mean_weight", "total_weight", "jit", "clip_norm")
"""What fine-tuning may change; the rest lies in the base."""
GENTLER: Final = ((0.1, 1 / 3), (0.5, 2 / 3), (1.0, 1.0))
"""Shares of the firmest training's learning rate and epochs. The first suits a house of a few months, which the last would spoil, the last one of
years (LOG, 2026-11-26)."""


def trainings(hyper: HyperParameters) -> list[tuple[float, int]]:
    """Learning rates and numbers of epochs that fine-tuning tries, the gentlest first."""
    return [(rate * hyper.learning_rate, max(round(epochs * hyper.epochs), 1)) for rate, epochs in GENTLER]


def require_seed(seed: int) -> None:
    """Refuse a seed that numpy and TensorFlow do not take."""
    if not 0 <= seed < 2**32:
        raise ConfigError(f"--seed {seed}: a whole number from 0 to {2**32 - 1} is expected")


def hyper_parameters(preset: str, given: dict[str, Any], *, many_homes: bool = False, role: str = "energy") -> HyperParameters:
    """The preset's hyper-parameters for targets of this role, with those in `given` that are not None.

    Raises:
        ConfigError: unknown preset or a value out of range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: {closest(preset, PRESETS)}")
    chosen = {f.name: given[f.name] for f in fields(HyperParameters) if given.get(f.name) is not None}
    fixed = sorted(set(chosen) - set(TUNABLE)) if preset == "finetune" else []
    if fixed:
        raise ConfigError(f"--{fixed[0].replace('_', '-')} is decided by the model that preset finetune starts from: leave it out")
    base = ROOMS if ROLES[role].kind == "state" else MANY_HOMES if many_homes else HyperParameters()
    preset_values = {"seed": SEED, "finetune": FINETUNE, "base": base}
    return replace(preset_values[preset], **chosen)


def plan_for(preset: str, house: HouseSpec, target: str, covariates: tuple[str, ...] = (), weather: tuple[str, ...] = ()) -> FeaturePlan:
    """What the preset's model reads and forecasts in `house`: one day at the house's own step.

    Args:
        preset: `base` or `seed`; fine-tuning takes its plan from the model it starts from.
        house: the house.
        target: name of the target.
        covariates: roles whose mean over the house's sensors `base` reads beside the target; roles the house lacks stay unknown (masked). Of
            rooms, where none are given, all that the house has.
        weather: roles whose forecast over the horizon `base` reads, where there is one; of rooms as `covariates`.

    Raises:
        ConfigError: no such target or role; covariates or weather given to `seed`, which reads every sensor anyway.
    """
    role = house.sensor(house.target(target).sensor).role
    if preset == "seed":
        if covariates or weather:
            raise ConfigError("preset 'seed' reads every sensor of the house: --covariates and --weather are for preset 'base'")
        return _seed_plan(house, target, role)
    return _base_plan(house, target, role, covariates, weather)


def _seed_plan(house: HouseSpec, target: str, role: str) -> FeaturePlan:
    return FeaturePlan(
        target=target,
        role=role,
        step_s=house.step_s,
        horizon=DAY_S // house.step_s,
        context_step_s=house.step_s,
        context_length=SEED_CONTEXT_DAYS * DAY_S // house.step_s,
        context=tuple(f"sensor:{sensor.name}" for sensor in house.sensors),
    )


def _base_plan(house: HouseSpec, target: str, role: str, covariates: tuple[str, ...], weather: tuple[str, ...]) -> FeaturePlan:
    for name in covariates:
        if name not in COVARIATE_ROLES:
            raise ConfigError(f"--covariates {name!r}: {closest(name, COVARIATE_ROLES)}")
    for name in weather:
        if name not in WEATHER_ROLES:
            raise ConfigError(f"--weather {name!r}: {closest(name, WEATHER_ROLES)}")
    future: tuple[str, ...] = (*CALENDAR, "lead")
    if ROLES[role].kind == "state":
        covariates, weather = _of_room(house, covariates, weather)
    else:
        future += ("lag_1d", "lag_2d", "lag_7d", *(f"lag_{days}d_hour" for days in LAG_DAYS))
    return FeaturePlan(
        target=target,
        role=role,
        step_s=house.step_s,
        horizon=DAY_S // house.step_s,
        context_step_s=CONTEXT_STEP_S,
        context_length=CONTEXT_DAYS * DAY_S // CONTEXT_STEP_S,
        context=("target", *CALENDAR, *(f"role:{name}" for name in covariates)),
        future=future,
        anchored=True,
        daily_length=DAILY_LENGTH if ROLES[role].kind == "energy" else 0,
        weather=weather,
    )


def _of_room(house: HouseSpec, covariates: tuple[str, ...], weather: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a room's model reads where nothing is asked for: all that the house measures."""
    measured = {sensor.role for sensor in house.sensors}
    covariates = covariates or tuple(name for name in COVARIATE_ROLES if name in measured)
    return covariates, weather or tuple(name for name in covariates if name in WEATHER_ROLES and name in measured)
