"""Forward-chaining folds: train on what lies before a block of origins, look at the block, go on to the next."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S

Ints = npt.NDArray[np.int64]

HELD_OUT_SHARE: Final = 0.5
"""Of the origins, the last ones: each is held out once."""
MOST_FOLDS: Final = 4
LEAST_DAYS: Final = 7
"""Days with origins in a fold; with fewer than two such folds there is nothing to choose by."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Numbers of origins, ascending."""

    train: Ints
    held_out: Ints


def forward_folds(origins: Ints, *, horizon_s: int) -> list[Fold]:
    """Folds in time order; empty when there is too little.

    Between the last step that a fold trains on and the first that it holds out lies an embargo of one horizon; what is held out ends before the next
    fold's begins, so that a later fold may be decided by the outcomes of all earlier ones.

    Args:
        origins: unix s, `(n,)`, ascending; gaps are no matter.
        horizon_s: seconds forecast at each.
    """
    first = len(origins) - int(HELD_OUT_SHARE * len(origins))
    n_days = len(np.unique(origins[first:] // DAY_S))
    n_folds = min(MOST_FOLDS, n_days // LEAST_DAYS)
    if n_folds < 2:
        return []
    edges = np.append(origins[np.linspace(first, len(origins), n_folds + 1).astype(int)[:-1]], origins[-1] + horizon_s + 1)
    return [
        Fold(
            train=np.flatnonzero(origins <= start - 2 * horizon_s),
            held_out=np.flatnonzero((origins >= start) & (origins <= end - horizon_s)),
        )
        for start, end in pairwise(edges)
    ]
