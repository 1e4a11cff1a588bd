"""Every forecast of a home's backtest in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_agent.contract.errors import ConfigError
from trainer.rolling import Home, Part
from trainer.scorecard import NO_WEATHER
from trainer.scores import Predictions, concatenated


class Archive:
    """Keeps a home's own forecasts until all are there."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._parts: list[Predictions] = []

    def add(self, part: Part) -> None:
        """Keep one part."""
        self._parts.append(part.predictions[self.home.method])

    def write(self, folder: Path) -> None:
        """Write `SITE-TARGET.npz`.

        The file holds `origins` (int64 unix s), `quantile_levels`, `quantiles` (n_origins, horizon, n_levels), `mean` (n_origins, horizon),
        `actual` (n_origins, horizon, NaN unknown), in the target's unit, and `weather`, which forecast of it the model was given.

        Raises:
            ConfigError: it cannot be written.
        """
        own = concatenated(self._parts)
        path = folder / file_name(self.home.name)
        try:
            np.savez_compressed(
                path,
                origins=own.origins,
                quantile_levels=np.array(own.quantile_levels),
                quantiles=own.quantiles,
                mean=own.mean,
                actual=own.actual,
                weather=np.array(self.home.weather.label if self.home.weather else NO_WEATHER),
            )
        except OSError as err:
            raise ConfigError(f"--predictions: {path.name} cannot be written ({err.strerror}): name another place") from err


def file_name(name: str) -> str:
    """`SITE-TARGET.npz`, of a home's name."""
    return f"{name.replace(':', '-')}.npz"
