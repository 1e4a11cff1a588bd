"""What a worker does with one house of a fleet: fine-tune a model on its readings, and say what came of it. Knows no Spark."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from rich.console import Console

from edge_agent.contract.errors import HearthcastError
from edge_agent.contract.schema import HouseSpec, parse_house
from trainer.clock_shift import settle_clock
from trainer.datasets import Table, fingerprint
from trainer.findings import Findings, at_times
from trainer.presets import hyper_parameters
from trainer.quality import check
from trainer.quiet import without_native_stderr
from trainer.readings import in_readings, series_of_readings

COLUMNS: Final = "site string, kept string, crps_skill double, beside_base double, run_id string, seconds double, problem string"
"""Of what comes of a house, in Spark's words."""
EXPERIMENT: Final = "fleet"


@dataclass(frozen=True)
class TuneJob:
    """What is done with each house."""

    out: Path
    """Folder of the run folders, one a site; the same for all workers."""
    init: Path | None
    """Bundle or run to start from; the bundle that ships when None."""
    tracking_uri: str
    """MLflow's store, or `off`."""
    experiment: str = EXPERIMENT
    seed: int = 0
    allow_unsigned: bool = False
    repair: bool = False
    """Whether faulty readings are repaired where that is possible."""
    accept: tuple[str, ...] = ()
    """Kinds of findings that are true of the houses."""

    def is_done(self, site: str) -> bool:
        """Whether the house has a finished run."""
        return self.record(site) is not None

    def record(self, site: str) -> dict[str, Any] | None:
        """What `run.json` of the house's finished run holds."""
        try:
            record = dict(json.loads((self.out / site / "run.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
        return record if record["status"] == "finished" else None


def fine_tune_house(job: TuneJob, site: str, house_text: str, readings: pd.DataFrame) -> dict[str, Any]:
    """Fine-tune on one house, in a run folder and an MLflow run of its own; its fault is told, never raised.

    Args:
        job: what to do.
        site: the house's.
        house_text: its house.toml.
        readings: `time` (unix s), `sensor`, `value` (canonical unit).
    """
    started = time.perf_counter()
    try:
        record = _fine_tune(job, site, house_text, readings)
        came_of_it = summary(site, record)
    except HearthcastError as err:
        came_of_it = {**summary(site, {}), "problem": str(err)}
    except Exception as err:  # noqa: BLE001 (one house must not end the others' work; its name and the fault are told)
        came_of_it = {**summary(site, {}), "problem": f"{type(err).__name__}: {err}"}
    return {**came_of_it, "seconds": time.perf_counter() - started}


def checked_table(house: HouseSpec, readings: Mapping[str, Any], *, repair: bool = False, accept: tuple[str, ...] = ()) -> Table:
    """A house's readings by the same checks as a table's.

    Raises:
        DataError: what would be refused in a table; it names the house.
    """
    findings = Findings(house.site, repair=repair, accept=accept, place=at_times)
    series = series_of_readings(house, readings, findings)
    house = in_readings(house)
    checked = check(settle_clock(series, house, findings), house, source=house.site, accept=accept)
    return Table(checked.series, (*findings.found, *checked.findings), findings.notes, fingerprint(checked.series))


def _fine_tune(job: TuneJob, site: str, house_text: str, readings: pd.DataFrame) -> dict[str, Any]:
    # Keras takes ten seconds to load: once for each worker, and not where the fleet is looked after
    with without_native_stderr():
        import keras

        from trainer.finetune import fine_tune
        from trainer.fit import FitRequest
        from trainer.run_folder import HOUSE, RunFolder
    keras.backend.clear_session()  # a worker does one house after another
    house = parse_house(house_text, source=f"{site}.toml")
    table = checked_table(house, readings, repair=job.repair, accept=job.accept)
    table.require(house.targets[0].sensor)
    folder = RunFolder(job.out / site)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_house(house_text)
    request = FitRequest(
        house=folder.path / HOUSE,
        data=(),
        out=folder.path,
        preset="finetune",
        hyper=hyper_parameters("finetune", {}),
        seed=job.seed,
        resume=not folder.is_empty,
        tracking_uri=job.tracking_uri,
        experiment=job.experiment,
        init=job.init,
        allow_unsigned=job.allow_unsigned,
    )
    return fine_tune(request, console=Console(quiet=True), table=table)


def summary(site: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a house, as COLUMNS has it; `record` is empty where nothing did."""
    test = record.get("scores", {}).get("test", {}).get("model", {})
    gain = record.get("beside_base", {}).get("test", {}).get("crps", {})
    return {
        "site": site,
        "kept": record["training"]["fine_tuning"]["kept"] if record else "",
        "crps_skill": test.get("skill", {}).get("crps"),
        "beside_base": gain.get("gain"),
        "run_id": record.get("mlflow_run_id", ""),
        "seconds": record.get("wall_time_s", 0.0),
        "problem": "",
    }
