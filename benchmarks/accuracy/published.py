"""What an agent would have published: a bundle's forecasts with the band that is corrected every day by how often it held."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from benchmarks.accuracy.bundles import BundleMethod
from benchmarks.accuracy.cases import HOUR_S, Case, at_origins
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.store import hash_of
from benchmarks.bands import followed
from edge_agent.contract.localtime import DAY_S
from edge_agent.plausibility import bounds
from trainer.scores import Predictions

SUFFIX: Final = ", as published"
"""Of the row's label."""
BEFORE_D: Final = 60
"""Days before the first origin that is scored, by whose forecasts the correction of energy has learnt."""
CODE: Final = (ROOT / "edge_agent" / "conformal.py", ROOT / "edge_agent" / "contract" / "calibration.py", ROOT / "benchmarks" / "bands.py")


@dataclass(frozen=True)
class Published:
    """Another row of a bundle: only its levels differ."""

    model: BundleMethod
    before_d: int = BEFORE_D
    """Days before the first origin from which on the agent is at work."""
    kind: str = "hearthcast"

    @property
    def label(self) -> str:
        """The row that it stands in."""
        return self.model.label + SUFFIX

    @property
    def seed(self) -> int | None:
        """The model's."""
        return self.model.seed

    def takes(self, case: Case) -> bool:
        """What the model takes."""
        return self.model.takes(case)

    def identity(self, case: Case) -> dict[str, Any]:
        """The model's, and the code of the correction."""
        return self.model.identity(case) | {"correction": hash_of(*CODE), "before_d": self.before_d}

    def predict(self, case: Case) -> Predictions:
        """The forecasts of every hour from some days before the first origin on, corrected as time goes by, at the case's origins."""
        begin = max(int(case.origins[0]) - self.before_d * DAY_S, -(-case.series.start // HOUR_S) * HOUR_S)
        earlier = np.arange(begin, case.origins[0], HOUR_S, dtype=np.int64)
        origins = np.concatenate([earlier, case.origins])
        rows = (origins - case.series.start) // case.series.step_s
        actual = np.stack([case.values[row : row + case.horizon] for row in rows])
        stored = self.model.predict(replace(case, origins=origins, actual=actual))
        possible = bounds(case.spec.sensor(case.sensor), case.spec.step_s)
        quantiles = followed(stored.quantiles, actual, (origins - origins[0]) // DAY_S, stored.quantile_levels, possible)
        return replace(at_origins(replace(stored, quantiles=quantiles), case.origins), actual=case.actual)
