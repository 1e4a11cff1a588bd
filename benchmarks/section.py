"""A group's results: tables and claims, as data, as JSON and as Markdown; and the command line that every group has."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "NONE"}


@dataclass
class Claim:
    """What is wanted of a figure, and whether it holds."""

    what: str
    wanted: str
    measured: str
    met: bool


@dataclass
class Section:
    """One table of results."""

    title: str
    text: str
    """How it was measured, and what it is compared with."""
    columns: list[str]
    rows: list[list[str]]
    claims: list[Claim] = field(default_factory=list)
    n_text: int = 1
    """Leading columns that hold words, and are set to the left."""

    def markdown(self) -> str:
        """The section for RESULTS.md."""
        lines = [
            f"## {self.title}",
            "",
            self.text,
            "",
            _row(self.columns),
            _row(["---"] * self.n_text + ["---:"] * (len(self.columns) - self.n_text)),
        ]
        return "\n".join([*lines, *map(_row, self.rows), ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def claims_markdown(sections: list[Section]) -> str:
    """All claims in one table."""
    rows = [[c.what, c.wanted, c.measured, "yes" if c.met else "**no**"] for s in sections for c in s.claims]
    return "\n".join([_row(["figure", "wanted", "measured", "met"]), _row(["---"] * 4), *map(_row, rows), ""])


def to_json(sections: list[Section]) -> str:
    """The inverse of `from_json`."""
    return json.dumps([asdict(section) for section in sections], indent=1, ensure_ascii=False)


def from_json(text: str) -> list[Section]:
    """Sections as a group wrote them."""
    return [Section(**{**data, "claims": [Claim(**claim) for claim in data["claims"]]}) for data in json.loads(text)]


def run_group(measure: Callable[[bool], list[Section]], *, one_thread: bool = False) -> int:
    """Command line of a group: print its sections, or write them as JSON."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here instead of printing them")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it works, the figures are rough")
    options = parser.parse_args()
    wanted = QUIET | (ONE_THREAD if one_thread else {})
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        # libraries read these when they are imported, so the group starts over with them set
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | wanted)
    sections = measure(options.quick)
    if options.json is not None:
        options.json.write_text(to_json(sections), encoding="utf-8")
    else:
        print("\n".join([*(section.markdown() for section in sections), claims_markdown(sections)]))
    return 0
