"""Run all groups and write RESULTS.md: python -m benchmarks [GROUP …] [--quick] [--keep]."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import material
from benchmarks.section import Section, claims_markdown, from_json
from benchmarks.timing import machine_text

GROUPS = ("exporting", "features", "forecasting", "backtesting", "replaying", "training", "pipeline", "installing", "agent")
RESULTS = Path(__file__).parent / "RESULTS.md"
HEAD = """# Results

What Hearthcast costs, each figure beside what it is compared with and the floor it could reach. Written by `make bench`; compare ratios, not
milliseconds: everything in one table was measured in turns in one run. MB are 10^6 bytes.

Machine: {machine}. {load}. Measured on {date} in {minutes:.0f} minutes{quick}.

"""


def main() -> int:
    """Run the groups given, or all, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and write benchmarks/RESULTS.md.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(GROUPS)} (default: all); only a full run writes RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="few repetitions: shows that it works, the figures are rough")
    parser.add_argument("--keep", action="store_true", help="use the runs, bundles and environment of an earlier run")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where to write (default: %(default)s)")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}: {', '.join(GROUPS)} are there")
    if not options.keep:
        material.clear()
    start, load = time.monotonic(), os.getloadavg()[0]
    sections = [section for group in options.groups or GROUPS for section in _run(group, quick=options.quick)]
    minutes = (time.monotonic() - start) / 60
    text = HEAD.format(
        machine=machine_text(),
        load=f"Load average before: {load:.1f}",
        date=datetime.now(UTC).date(),
        minutes=minutes,
        quick=" with --quick: rough figures" if options.quick else "",
    )
    text += claims_markdown(sections) + "\n" + "\n".join(section.markdown() for section in sections)
    if options.groups:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        print(f"{claims_markdown(sections)}\nall figures: {options.out}")
    return 0


def _run(group: str, *, quick: bool) -> list[Section]:
    print(f"{group} …", file=sys.stderr, flush=True)
    results = material.BUILD / f"{group}.json"
    material.BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"benchmarks.{group}", "--json", str(results), *(["--quick"] if quick else [])]
    finished = subprocess.run(command, stderr=subprocess.PIPE, text=True)  # TensorFlow's notes are worth a look only when something failed
    if finished.returncode:
        raise SystemExit(f"{finished.stderr}\nerror: group {group} failed; run it alone: python -m benchmarks {group} --keep")
    return from_json(results.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
