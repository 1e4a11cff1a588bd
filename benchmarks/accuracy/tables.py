"""All rows by case, scored once."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy.cases import Case, at_origins
from benchmarks.accuracy.houses import ENERGY
from benchmarks.accuracy.scoring import Row, Scored, key_of, scored
from benchmarks.accuracy.store import Result
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, YESTERDAY
from trainer.scores import Predictions


class Tables:
    """Rows grouped by case and number of origins; the case with nothing taken away and every origin holds the yardsticks of all others."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Group and score."""
        self.groups: dict[tuple[str, str, str], dict[int, list[Row]]] = {}
        for row in rows:
            self.groups.setdefault(key_of(row.case), {}).setdefault(len(row.case.origins), []).append(row)
        self.scored: dict[tuple[str, str, str, int], list[Scored]] = {}
        for (home, target, variant), by_size in self.groups.items():
            yardsticks = self.yardsticks(home, target)
            if CLIMATOLOGY in yardsticks:
                for size, members in by_size.items():
                    self.scored[home, target, variant, size] = scored(members, yardsticks)

    def members(self, home: str, target: str, variant: str = "full") -> list[Row]:
        """Rows of a case at the most origins; none when it was not scored."""
        by_size = self.groups.get((home, target, variant), {})
        return by_size[max(by_size)] if by_size else []

    def yardsticks(self, home: str, target: str) -> dict[str, Predictions]:
        """The yardsticks with nothing taken away, at every origin."""
        return {r.method.label: r.result.predictions for r in self.members(home, target) if r.method.label in (CLIMATOLOGY, YESTERDAY)}

    def case(self, home: str, target: str, variant: str = "full") -> Case:
        """The case at the most origins."""
        return self.members(home, target, variant)[0].case

    @property
    def homes(self) -> list[str]:
        """Homes whose energy was scored, in order."""
        return [home.name for home in ENERGY if self.full(home.name)]

    def full(self, home: str, target: str = "energy", variant: str = "full") -> list[Scored]:
        """Scored rows at the most origins."""
        sizes = self.groups.get((home, target, variant))
        return self.scored.get((home, target, variant, max(sizes)), []) if sizes else []

    def row(self, home: str, label: str, target: str = "energy", variant: str = "full") -> Scored | None:
        """One of them."""
        return next((row for row in self.full(home, target, variant) if row.label == label), None)

    def targets(self, home: str) -> list[str]:
        """Targets scored in a home."""
        return list(dict.fromkeys(target for (h, target, variant) in self.groups if h == home and variant == "full" and self.full(h, target)))

    def few(self, home: str) -> tuple[int, list[Scored]] | None:
        """Methods that were asked at few origins, and all others at the same; None where there are none."""
        by_size = self.groups[home, "energy", "full"]
        size = min(by_size)
        if size == max(by_size):
            return None
        here = by_size[size]
        return size, scored([*self._cut(home, here[0].case), *here], self.yardsticks(home, "energy"))

    def like(self, home: str, variant: str) -> dict[str, Scored]:
        """Rows of a home's energy with nothing taken away, at the origins of a variant, by label."""
        rows = scored(self._cut(home, self.case(home, "energy", variant)), self.yardsticks(home, "energy"))
        return {row.label: row for row in rows}

    def _cut(self, home: str, case: Case) -> list[Row]:
        """The full case's rows at the origins of `case`."""
        return [
            Row(case, row.method, Result(at_origins(row.result.predictions, case.origins), row.result.cpu_s)) for row in self.members(home, "energy")
        ]
