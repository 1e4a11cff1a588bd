"""Run -> bundle: converted, proven, signed and read back before anything that is there is replaced."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import platform
import statistics
import tempfile
import time
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.contract import signing
from edge_agent.contract.bundle import Bundle, Golden, read_bundle, read_files, write_bundle
from edge_agent.contract.errors import ExportError
from edge_agent.contract.manifest import Manifest, Tensor
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.weather import PerfectWeather
from edge_agent.forecaster import Model, golden_run
from export.convert import Converted, convert, load_model
from export.graph import operators
from export.quantize import Verdict, int8_graph, judge
from export.run_folder import MODEL, Run, Sample, read_run
from export.verify import Parity, parity
from export.worth import check_worth

LIBRARIES: Final = ("keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime", "numpy")
TIMED_RUNS: Final = 51


@dataclass(frozen=True)
class Report:
    """What was exported and how it was proven."""

    bundle: Path
    name: str
    version: str
    parities: list[Parity]
    operators: dict[str, int]
    model_bytes: int
    bundle_bytes: int
    latency_ms: float
    """Median time of one forecast's graph on this machine, one thread."""
    int8: Verdict | None
    """None when int8 was not asked for."""
    signer: str | None
    """Public key of the signature."""


def export_run(path: Path, out: Path, *, sign_key: Path | None, int8: bool = False, name: str | None = None, even_if_worse: bool = False) -> Report:
    """Export the run at `path` to a bundle at `out`, which is replaced as a whole, or left as it is when anything fails.

    Args:
        path: the run's folder.
        out: the bundle's folder, or its archive (`.tar`).
        sign_key: file of the private key; None for an unsigned bundle.
        int8: try an int8 graph, and ship it when it loses next to nothing and is faster here.
        name: the model's name; the run's when None.
        even_if_worse: export a model whose own scores are worse than the rolling climatology's or its base's.

    Raises:
        ExportError: the model cannot be exported faithfully, or is not worth it.
        BundleError: `out` is no bundle, or cannot be written.
        ConfigError: no readable signing key.
    """
    signer = None if sign_key is None else signing.public_text(signing.load_key(sign_key))
    run = read_run(path)
    if not even_if_worse:
        check_worth(run.scores, source=str(path))
    converted = convert(load_model(path / MODEL), run.plan, run.outputs)
    manifest = manifest_of(run, converted, name or run.name)
    graph = _with_properties(converted.graph, manifest)
    model = Model(bundle_in_memory(manifest, graph, run))
    parities = parity(model, converted.reference, run)
    verdict = None
    if int8:
        graph, model, verdict = _smaller(graph, model, converted, run)
    golden, keras_model = _golden(model, run), _deflated((path / MODEL).read_bytes())
    with tempfile.TemporaryDirectory() as rehearsal:  # a bundle that fails its own check must not replace one that works
        for written in (Path(rehearsal) / out.name, out):
            write_bundle(written, manifest, model=graph, golden=golden, sign_key=sign_key, keras_model=keras_model)
            _check_written(written, signer)
    return Report(
        bundle=out,
        name=manifest.name,
        version=manifest.version,
        parities=parities,
        operators=operators(graph),
        model_bytes=len(graph),
        bundle_bytes=sum(map(len, read_files(out).values())),
        latency_ms=_latency_ms(model, run),
        int8=verdict,
        signer=signer,
    )


def _deflated(archive: bytes) -> bytes:
    """The same zip archive, a quarter smaller: Keras stores what it writes as it is."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as given, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in given.infolist():
            packed.writestr(zipfile.ZipInfo(entry.filename, entry.date_time), given.read(entry), zipfile.ZIP_DEFLATED, compresslevel=9)
    return out.getvalue()


def _check_written(path: Path, signer: str | None) -> None:
    """Read the bundle as an agent that trusts its signer would."""
    trusted = {} if signer is None else {base64.b64decode(signer): "the key that signed it"}
    Model(read_bundle(path, trusted=trusted, allow_unsigned=signer is None)).check_golden()


def manifest_of(run: Run, converted: Converted, name: str) -> Manifest:
    made = datetime.now(UTC)
    plan = run.plan
    return Manifest(
        name=name,
        version=f"{made:%Y%m%d.%H%M}-{_weights_hash(converted.twin, run)}",
        created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        plan=plan,
        calibration=run.calibration,
        inputs=tuple(Tensor(n, shape, "float32") for n, shape in plan.input_shapes().items()),
        outputs=tuple(Tensor(n, _output_shape(plan, n), "float32") for n in run.outputs),
        training=run.training,
        scores=run.scores,
        versions=run.versions | {f"export:{library}": _version(library) for library in LIBRARIES} | {"export:python": platform.python_version()},
        git_commit=run.git_commit,
        mlflow_run_id=run.mlflow_run_id,
        features=tuple(plan.describe()),
        files={},
    )


def _output_shape(plan: FeaturePlan, output: str) -> tuple[int, ...]:
    return (plan.horizon, len(plan.quantile_levels)) if output == "quantiles" else (plan.horizon,)


def _weights_hash(twin: Any, run: Run) -> str:
    """Eight hex digits that change with weights, plan or calibration."""
    digest = hashlib.sha256(json.dumps([run.plan.to_dict(), run.calibration.to_dict()], sort_keys=True).encode())
    for weight in twin.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()[:8]


def _version(library: str) -> str:
    """Of an installed library; TensorFlow's distribution has several names."""
    if library == "tensorflow":
        import tensorflow as tf

        return str(tf.__version__)
    return version(library)


def _with_properties(graph: Any, manifest: Manifest) -> bytes:
    """model.onnx, with what a lone one should tell of itself."""
    import onnx

    properties = {
        "hearthcast.name": manifest.name,
        "hearthcast.version": manifest.version,
        "hearthcast.unit": manifest.plan.unit,
        "hearthcast.plan": json.dumps(manifest.plan.to_dict()),
    }
    onnx.helper.set_model_props(graph, properties)
    return bytes(graph.SerializeToString())


def bundle_in_memory(manifest: Manifest, model: bytes, run: Run) -> Bundle:
    """What the agent's code needs to run `model`; its golden sample is still unknown."""
    nothing = np.zeros((0, 0))
    sample = run.samples[0]
    return Bundle(run.path, manifest, model, Golden(sample.series, sample.target, sample.time_zone, 0, nothing, nothing), None)


def _smaller(graph: bytes, model: Model, converted: Converted, run: Run) -> tuple[bytes, Model, Verdict]:
    """The int8 graph and its model when they are worth it, else those given."""
    small = int8_graph(converted.graph)
    small_model = Model(replace(model.bundle, model=small))
    verdict = judge(model, small_model, run)
    return (small, small_model, verdict) if verdict.kept else (graph, model, verdict)


def _golden(model: Model, run: Run) -> Golden:
    """A worked example from the run's last real window."""
    sample = run.samples[0]
    plan = run.plan.at_step(sample.series.step_s)
    origin = int(sample.origins[-1])
    series = sample.series.select(_sensors_read(sample, plan)).between(origin - plan.history_s, origin)
    nothing = np.zeros((0, 0))
    golden = Golden(series, sample.target, sample.time_zone, origin, nothing, nothing, _weather(sample, plan, origin))
    quantiles, mean = golden_run(model, golden)
    if not (np.isfinite(quantiles).all() and np.isfinite(mean).all()):
        raise ExportError("the golden sample's forecast is not finite: the run's calibration is damaged; train again")
    return replace(golden, quantiles=quantiles, mean=mean)


def _weather(sample: Sample, plan: FeaturePlan, origin: int) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """What was measured after `origin`, as the golden sample's weather forecast."""
    if not plan.weather:
        return None
    ahead = PerfectWeather(sample.series).ahead(np.array([origin], np.int64), horizon=plan.horizon, step_s=plan.step_s, roles=plan.weather)
    return np.asarray(ahead[0], np.float64)


def _sensors_read(sample: Sample, plan: FeaturePlan) -> tuple[str, ...]:
    """Columns of the sample that the plan looks at."""
    wanted = {f"sensor:{sample.target}", *plan.context}
    return tuple(f.name for f in sample.series.features if {f"sensor:{f.name}", f"role:{f.role}"} & wanted)


def _latency_ms(model: Model, run: Run) -> float:
    sample = run.samples[0]
    inputs = sample.inputs(run.plan, sample.origins[-1:])
    times = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        model.run(inputs)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
