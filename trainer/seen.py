"""Which of the days that a model is tested on it has looked at before: its scores there flatter it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import local_days
from edge_agent.contract.schema import HouseSpec

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """Days that are scored, and those of them that the model has looked at."""

    n_days: int
    """Local days with an origin."""
    n_seen: int
    """Those of them with an origin before the end of what the model has looked at."""

    def __str__(self) -> str:
        return f"{self.n_seen:,} of {self.n_days:,} days"

    def note(self, learnt_from: str) -> str:
        """The line to be read beside the scores; empty when no day was seen."""
        if not self.n_seen:
            return ""
        return f"the model has seen {self.n_seen:,} of the {self.n_days:,} scored days: it learnt from {learnt_from}, so these scores flatter it"


def looked_at_until(training: Mapping[str, Any]) -> dict[str, int]:
    """Unix s up to which a model has looked at each home, by `SITE:TARGET`, from what its run or bundle says of its training."""
    return {str(name): int(end) for name, end in (training.get("looked_at_until") or {}).items()}


def seen_until(looked_at: Mapping[str, int], site: str) -> int:
    """Unix s up to which a model has looked at a house; 0 when it never has."""
    return max((end for name, end in looked_at.items() if name.partition(":")[0] == site), default=0)


def seen_days(origins: Ints, house: HouseSpec, looked_at: Mapping[str, int]) -> Seen:
    """Of origins (unix s) in a house, by a model that has looked at what `looked_at_until` says."""
    seen = origins[origins < seen_until(looked_at, house.site)]
    return Seen(*(len(np.unique(local_days(times, house.zone))) for times in (origins, seen)))


def together(seen: Iterable[Seen]) -> Seen:
    """The sum over homes."""
    parts = list(seen)
    return Seen(sum(part.n_days for part in parts), sum(part.n_seen for part in parts))
