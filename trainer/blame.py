"""Which windows made a loss that is no number: whose they are, and of what time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import keras
import numpy as np

from trainer.batches import Relative, Source, gather
from trainer.windows import Ints

NAMED: Final = 3
"""Windows at fault that are named."""


class Inquest:
    """Evaluates single windows. The weights must be from before the loss was lost: afterwards every window has none."""

    def __init__(self, core: keras.Model, source: Source, relative: Relative) -> None:
        """`core` is compiled with the loss in question."""
        self.core, self.source, self.relative = core, source, relative

    def verdict(self, picked: Ints, before: Ints) -> str:
        """What is to be said of a batch whose loss is no number.

        Args:
            picked: its windows.
            before: windows of the batch before, which may have spoilt the weights without a sign in its own loss; may be empty.

        Returns:
            The windows at fault or, where none is by itself, the one with the largest loss.
        """
        faulty = zip(self._faulty(picked, len(picked)), range(NAMED), strict=False)
        named = [self.source.describe(window) for window, _ in faulty]
        if named:
            return f"at fault is {'; '.join(named)}: look at the table there, mend it or leave that house out"
        batch = max((part for part in (picked, before) if len(part)), key=lambda part: self._loss(part, len(part)))
        worst = self.source.describe(self._worst(batch))
        return f"no window of the batch does that by itself, so the training ran away; the largest loss came from {worst}"

    def _faulty(self, picked: Ints, size: int) -> Iterator[int]:
        """Windows whose own loss is no number, by halving."""
        if np.isfinite(self._loss(picked, size)):
            return
        if len(picked) == 1:
            yield int(picked[0])
            return
        for half in np.array_split(picked, 2):
            yield from self._faulty(half, size)

    def _worst(self, picked: Ints) -> int:
        """The window with the largest loss, nearly: the larger of two halves, again and again."""
        size = len(picked)
        while len(picked) > 1:
            picked = max(np.array_split(picked, 2), key=lambda half: self._loss(half, size))
        return int(picked[0])

    def _loss(self, picked: Ints, size: int) -> float:
        """Mean loss of these windows, repeated to a batch of `size`: XLA compiles each size anew."""
        ((inputs, actual),) = gather(self.source, [np.resize(picked, size)], self.relative)
        return float(self.core.test_on_batch(inputs, actual, return_dict=True)["loss"])
