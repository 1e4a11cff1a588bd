"""Many houses at once on Apache Spark: forecasts for all of them, and a fine-tuning of each. Only this module knows Spark.

On one machine Spark runs inside this program; `spark-submit` runs the same commands on a cluster. The fleet's folder has the form that
`fleet_folder.py` describes, and each worker gets whole houses. A house with a problem is named and costs the others nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 (Spark's own way to write it)
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge_agent.contract.errors import ConfigError, DataError, HearthcastError
from edge_agent.contract.schema import parse_house
from trainer.fleet_folder import HOUSES, READINGS
from trainer.fleet_house import COLUMNS, TuneJob, fine_tune_house
from trainer.quiet import without_native_stderr
from trainer.registry import spark_forecaster

T = TypeVar("T")

LOCAL: Final = "127.0.0.1"
HOUSES_AT_ONCE: Final = 16
"""A worker's batch of houses to forecast: each is an array of all of its readings."""
POLL_S: Final = 0.5
PARTS_PER_CORE: Final = 4
"""So that a slow part does not keep the other cores waiting."""
QUIET: Final = {"TF_CPP_MIN_LOG_LEVEL": "3", "ABSL_MIN_LOG_LEVEL": "3", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
"""Environment of the workers: one core each, and no chatter."""


@contextlib.contextmanager
def spark_session(master: str | None) -> Iterator[SparkSession]:
    """A Spark session: that of `spark-submit` where this program was started by it, else one on this machine.

    Args:
        master: Spark's address of a cluster, or `local[2]` for two workers here; None: what `spark-submit` says, else every core here.

    Raises:
        ConfigError: there is no Java.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if not submitted and not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise ConfigError("Spark needs Java 17 or newer, and there is none: install it (Debian: openjdk-17-jre-headless)")
    # workers else take the first python on their PATH, which knows none of this
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")  # what is used here works, and is tested
    builder = SparkSession.builder.appName("hearthcast")
    for name, value in _settings(master, submitted=submitted).items():
        builder = builder.config(name, value)
    with without_native_stderr():  # Java's and the workers' notes to themselves; an error of a job comes back as an exception
        spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    try:
        yield spark
    finally:
        spark.stop()


def _settings(master: str | None, *, submitted: bool) -> dict[str, str]:
    settings = {f"spark.executorEnv.{name}": value for name, value in QUIET.items()} | {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",  # site 007 is not the number 7
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(HOUSES_AT_ONCE),
        "spark.ui.showConsoleProgress": "false",
    }
    if not submitted:
        settings["spark.master"] = master or "local[*]"
    if settings.get("spark.master", "").startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", LOCAL)
        settings |= {"spark.driver.host": LOCAL, "spark.driver.bindAddress": LOCAL, "spark.ui.enabled": "false"}
    return settings


@dataclass(frozen=True, eq=False)
class Fleet:
    """The houses of a fleet's folder that have readings."""

    houses: Mapping[str, str]
    """Text of the house.toml by site."""
    readings: DataFrame
    """`site`, `time` (unix s), `sensor`, `value`."""
    problems: dict[str, str] = field(default_factory=dict)
    """Of the houses that are left out, by name."""


def read_fleet(spark: SparkSession, folder: str) -> Fleet:
    """The fleet in the folder, which may be any address that Spark can read.

    Raises:
        DataError: there is no fleet, or no house in it that could be used.
    """
    try:
        texts = spark.read.text(f"{folder}/{HOUSES}", wholetext=True).select("value", "_metadata.file_path").collect()
        stored = spark.read.parquet(f"{folder}/{READINGS}")
        # whole seconds: workers see the same number whatever their time zone
        readings = stored.select("site", F.unix_timestamp("time").alias("time"), "sensor", F.col("value").cast("double"))
        with_readings = {row.site for row in readings.select("site").distinct().collect()}
    except Exception as err:  # Spark's errors come from three libraries
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise DataError(f"{folder} holds no fleet ({reason}): `hearthcast-train fleet gather` makes one") from err
    houses, problems = {}, {}
    for text, path in texts:
        try:
            houses[parse_house(text, source=str(path)).site] = str(text)
        except HearthcastError as err:
            problems[str(path)] = str(err)
    problems |= dict.fromkeys(houses.keys() - with_readings, "there are no readings of it")
    problems |= {site: f"there are readings but no {HOUSES}/{site}.toml" for site in with_readings - houses.keys()}
    usable = {site: houses[site] for site in sorted(houses.keys() & with_readings)}
    if not usable:
        raise DataError(f"{folder} has no house with readings: " + "; ".join(f"{name}: {text}" for name, text in problems.items()))
    return Fleet(usable, readings, problems)


def score(spark: SparkSession, fleet: Fleet, model: tuple[str, str], out: str, *, console: Console) -> dict[str, str]:
    """Write the forecast of each house after its last known reading, as Parquet; returns the problems by house.

    Args:
        spark: the session.
        fleet: the houses.
        model: MLflow's store and the URI in it of a model over many homes.
        out: folder, or any address that Spark can write: `site`, `time`, `mean`, `p10` … `p90`, and `problem`, with which a house has one row.
        console: where to show progress.

    Raises:
        ConfigError: the model is one house's.
        TrainingError: the store cannot be used.
    """
    forecast = spark_forecaster(spark, *model)
    houses = spark.createDataFrame(list(fleet.houses.items()), "site string, house string")
    rows = F.collect_list(F.struct("time", "sensor", "value")).alias("rows")
    tables = fleet.readings.groupBy("site").agg(rows).join(houses, "site")
    parts = min(len(fleet.houses), PARTS_PER_CORE * spark.sparkContext.defaultParallelism)
    cells = F.struct("house", *(F.col(f"rows.{name}").alias(name) for name in ("time", "sensor", "value")))
    answers = tables.repartition(parts).select("site", forecast(cells).alias("answer")).select("site", "answer.*")
    arrays = [name for name, kind in answers.dtypes if kind.startswith("array")]
    steps = answers.select("site", "problem", F.explode_outer(F.arrays_zip(*arrays)).alias("step")).select("site", "step.*", "problem")
    written = steps.withColumn("time", F.to_timestamp("time"))
    _watched(spark, lambda: written.write.mode("overwrite").parquet(out), "forecasting", console)
    failed = spark.read.parquet(out).where("problem != ''").select("site", "problem").collect()
    return {**fleet.problems, **{row.site: row.problem for row in failed}}


def fine_tune(spark: SparkSession, fleet: Fleet, job: TuneJob, *, console: Console) -> list[dict[str, Any]]:
    """Fine-tune the job's model on each house that has no finished run in the job's folder yet; returns what came of each.

    Args:
        spark: the session.
        fleet: the houses.
        job: what each worker does with a house; its paths mean the same on all of them.
        console: where to show progress.
    """
    todo = {site: text for site, text in fleet.houses.items() if not job.is_done(site)}
    if not todo:
        return []

    def one_house(key: tuple[Any, ...], rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame([fine_tune_house(job, str(key[0]), todo[str(key[0])], rows)])

    wanted = fleet.readings.where(F.col("site").isin(*todo))
    results = wanted.repartition(len(todo), "site").groupBy("site").applyInPandas(one_house, COLUMNS)
    return [row.asDict() for row in _watched(spark, results.collect, "fine-tuning", console)]


def _watched(spark: SparkSession, action: Callable[[], T], text: str, console: Console) -> T:
    """What `action` returns; meanwhile a bar shows how many of Spark's tasks are done."""
    tracker = spark.sparkContext.statusTracker()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with ThreadPoolExecutor(1, "spark") as pool, Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task, coming = bar.add_task(text, total=None), pool.submit(action)
        while True:
            stages = [stage for number in tracker.getActiveStageIds() if (stage := tracker.getStageInfo(number)) is not None]
            bar.update(task, completed=sum(s.numCompletedTasks for s in stages), total=sum(s.numTasks for s in stages) or None)
            with contextlib.suppress(TimeoutError):
                return coming.result(timeout=POLL_S)
