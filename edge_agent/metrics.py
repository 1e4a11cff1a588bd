"""How the agent is, as Prometheus text. Computed when somebody asks, from what the loop counts anyway: nobody asking costs nothing.

By hand, because the text format is these few lines, and prometheus-client would keep every number a second time and bring a server of its own
that listens on the network and starts a thread for every client.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from edge_agent import __version__

if TYPE_CHECKING:
    from edge_agent.service import Service

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Metric:
    """One metric family (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

    name: str
    kind: Literal["counter", "gauge", "summary"]
    about: str
    samples: Mapping[Labels, float]
    """By labels."""
    suffix: str = ""
    """Of a summary's count or sum."""

    def __str__(self) -> str:
        """The family's samples, without its head."""
        return "".join(f"{self.name}{self.suffix}{_labels(labels)} {float(value)!r}\n" for labels, value in self.samples.items())

    @property
    def head(self) -> str:
        """What stands once before the samples of a name."""
        return f"# HELP {self.name} {self.about}\n# TYPE {self.name} {self.kind}\n"


def _labels(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def metrics_text(service: Service) -> str:
    """All metrics of `service`; may be called from another thread than its loop's, which it neither stops nor waits for."""
    parts: list[str] = []
    name = ""
    for metric in (*_connection(service), *_data(service), *_forecasts(service), *_process(service)):
        if metric.samples:
            parts += [metric.head if metric.name != name else "", str(metric)]
            name = metric.name
    return "".join(parts)


def _labelled(**labels: str) -> Labels:
    return tuple(labels.items())


def _one(name: str, kind: Literal["counter", "gauge"], about: str, value: float) -> Metric:
    return Metric(f"hearthcast_{name}", kind, about, {(): value})


def _by(label: str, values: Mapping[str, float]) -> dict[Labels, float]:
    return {_labelled(**{label: key}): value for key, value in values.items()}


def _connection(service: Service) -> Iterator[Metric]:
    link, health = service.link, service.health
    state = link.state()
    yield _one("mqtt_connected", "gauge", "Whether there is a connection to the broker.", link.connected.is_set())
    yield _one("mqtt_connect_failures_total", "counter", "Attempts to connect that failed, and connections that ended.", state["failed_attempts"])
    yield _one("mqtt_messages_received_total", "counter", "Messages taken from the broker.", health.messages)
    yield _one("mqtt_messages_dropped_total", "counter", "Own messages for which there was no room.", state["dropped"])
    yield _one("mqtt_queue_messages", "gauge", "Messages received that wait for the loop.", link.waiting)


def _data(service: Service) -> Iterator[Metric]:
    health, history = service.health, service.history
    yield _one("readings_stored_total", "counter", "Readings written to the history.", history.readings_written)
    rejected: Counter[str] = Counter()
    for what, n in health.rejected.copy().items():
        rejected[what.rpartition(": ")[2]] += n
    yield Metric("hearthcast_values_rejected_total", "counter", "Values that could not be used.", _by("reason", rejected))
    yield _one("steps_closed_total", "counter", "Steps closed.", health.steps)
    yield _one("repairs_total", "counter", "Repairs of what sensors sent.", health.repairs.copy().total())
    last = service.recent.end
    if last is not None:
        yield _one("last_step_timestamp_seconds", "gauge", "End of the last closed step.", last)
    seen = {name: at for name, at in health.watch.last_seen.items() if at is not None}
    yield Metric("hearthcast_sensor_last_reading_timestamp_seconds", "gauge", "Time of a sensor's newest reading.", _by("sensor", seen))
    yield _one("database_bytes", "gauge", "Size of the history's file and of SQLite's log beside it.", _size(history.path))


def _forecasts(service: Service) -> Iterator[Metric]:
    health = service.health
    live = [place.live for place in list(service.lineup.places)]
    models = {_labelled(target=f.plan.target, id=f.model_id, **f.identity): 1.0 for f in live}
    yield Metric("hearthcast_model_info", "gauge", "The model that forecasts a target.", models)
    by_grade = {_labelled(target=target, grade=grade): float(n) for (target, grade), n in health.graded.copy().items()}
    yield Metric("hearthcast_forecasts_total", "counter", "Forecasts published, by the grade of their inputs.", by_grade)
    latest = health.latest.copy()
    grades = {_labelled(target=t, grade=grade): float(grade == f.grade) for t, f in latest.items() for grade in ("full", "masked", "baseline")}
    yield Metric("hearthcast_forecast_grade", "gauge", "1 for the grade of a target's last forecast.", grades)
    issued = {target: float(forecast.issued_at) for target, forecast in latest.items()}
    yield Metric("hearthcast_last_forecast_timestamp_seconds", "gauge", "When a target's last forecast was issued.", _by("target", issued))
    duration, about = "hearthcast_forecast_duration_seconds", "Time to compute and hand over a forecast."
    seconds = health.forecast_seconds.copy()
    counts = {t: sum(n for labels, n in by_grade.items() if ("target", t) in labels) for t in seconds}
    yield Metric(duration, "summary", about, _by("target", seconds), suffix="_sum")
    yield Metric(duration, "summary", about, _by("target", counts), suffix="_count")
    yield Metric("hearthcast_failures_total", "counter", "Failed attempts, by what failed.", _by("what", health.failures.copy()))
    yield _one("problems", "gauge", "Things that the owner should look at, when the last step closed.", health.n_problems)


def _process(service: Service) -> Iterator[Metric]:
    info = _labelled(version=__version__, site=service.house.site)
    yield Metric("hearthcast_build_info", "gauge", "The agent's version.", {info: 1.0})
    yield Metric("process_start_time_seconds", "gauge", "When the agent began.", {(): service.began_at})
    yield Metric("process_cpu_seconds_total", "counter", "Time on a processor, of all threads.", {(): time.process_time()})
    yield Metric("process_resident_memory_bytes", "gauge", "Resident memory.", {(): resident_bytes()})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    yield Metric("process_resident_memory_max_bytes", "gauge", "The most resident memory so far.", {(): peak})


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _size(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
