"""The bundle: a directory that travels from workstation to gateway and is replaced whole.

`manifest.json` holds the sha256 of every other file and of itself; `manifest.sig` signs it. Nothing is used before everything is checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract import signing
from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import BundleError, ConfigError, DataError, SignatureError
from edge_agent.contract.features import FeaturePlan
from edge_agent.contract.schema import ROLES, Feature
from edge_agent.contract.series import Series

SCHEMA_VERSION: Final = 1
MODEL, GOLDEN, MANIFEST, SIGNATURE = "model.onnx", "golden.npz", "manifest.json", "manifest.sig"
MAX_FILE_BYTES: Final = 64 * 2**20
TRAINER_HINT: Final = "copy the bundle again, or export it again"


@dataclass(frozen=True)
class Tensor:
    """Name, shape (without the batch axis) and dtype of one model input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Manifest:
    """What a bundle says of itself."""

    name: str
    """Of the model, such as `base` or the site's name."""
    version: str
    created_at: str
    """ISO 8601, UTC."""
    plan: FeaturePlan
    calibration: Calibration
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    training: dict[str, Any]
    """Houses, first and last time, data fingerprint."""
    scores: dict[str, Any]
    """Backtest scores beside the baselines."""
    versions: dict[str, str]
    """Libraries that made it."""
    git_commit: str
    mlflow_run_id: str
    features: tuple[dict[str, str], ...]
    """Every input channel in order, with its unit (`FeaturePlan.describe`)."""
    files: dict[str, str]
    """sha256 by file name."""
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> bytes:
        """The bytes of manifest.json: canonical, and holding their own sha256."""
        body = {
            "schema_version": self.schema_version,
            "name": self.name,
            "version": self.version,
            "created_at": self.created_at,
            "target": self.plan.target,
            "unit": self.plan.unit,
            "step_s": self.plan.step_s,
            "context_length": self.plan.context_length,
            "horizon": self.plan.horizon,
            "quantile_levels": list(self.plan.quantile_levels),
            "plan": self.plan.to_dict(),
            "features": list(self.features),
            "inputs": [_tensor_json(t) for t in self.inputs],
            "outputs": [_tensor_json(t) for t in self.outputs],
            "calibration": self.calibration.to_dict(),
            "training": self.training,
            "scores": self.scores,
            "versions": self.versions,
            "git_commit": self.git_commit,
            "mlflow_run_id": self.mlflow_run_id,
            "files": self.files,
        }
        return _canonical({**body, "manifest_sha256": _sha256(_canonical(body))})

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            BundleError: not the bytes that `to_json` wrote, or written by another schema version.
        """
        try:
            body = json.loads(data)
            version = body["schema_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise BundleError(f"{MANIFEST} is damaged ({err!r}): {TRAINER_HINT}") from err
        if version != SCHEMA_VERSION:
            raise BundleError(f"{MANIFEST} has schema_version {version!r}, this version reads {SCHEMA_VERSION}: upgrade the agent, or export again")
        if not _is_intact(body, data):
            raise BundleError(f"{MANIFEST} does not match its own checksum: {TRAINER_HINT}")
        try:
            manifest = cls._from_body(body)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as err:
            raise BundleError(f"{MANIFEST} is not of the expected form ({err}): export the bundle again with this version") from err
        if manifest.to_json() != data:
            raise BundleError(f"{MANIFEST} holds keys that this version does not know, or that contradict each other: export the bundle again")
        return manifest

    @classmethod
    def _from_body(cls, body: dict[str, Any]) -> Manifest:
        for key, kind in BODY_TYPES.items():
            if type(body[key]) is not kind:
                raise TypeError(f"{key} is {body[key]!r}: a {kind.__name__} is expected")
        manifest = cls(
            plan=FeaturePlan.from_dict(body["plan"]),
            calibration=Calibration.from_dict(body["calibration"]),
            inputs=tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in body["inputs"]),
            outputs=tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in body["outputs"]),
            features=tuple(body["features"]),
            **{key: body[key] for key in BODY_TYPES},
        )
        manifest._check()
        return manifest

    def _check(self) -> None:
        """Plan, tensors, channels and calibration must tell of one model.

        Raises:
            ValueError: they do not.
        """
        plan, n_levels = self.plan, len(self.plan.quantile_levels)
        inputs = {Tensor(name, shape, "float32") for name, shape in plan.input_shapes().items()}
        mean, quantiles = Tensor("mean", (plan.horizon,), "float32"), Tensor("quantiles", (plan.horizon, n_levels), "float32")
        if set(self.inputs) != inputs or len(self.inputs) != len(inputs):
            raise ValueError(f"inputs are {self.inputs}, its plan makes {inputs}")
        if set(self.outputs) not in ({mean}, {mean, quantiles}) or len(set(self.outputs)) != len(self.outputs):
            raise ValueError(f"outputs are {self.outputs}: {mean}, alone or with {quantiles}, is expected")
        if list(self.features) != plan.describe():
            raise ValueError("features are not the channels of its plan")
        if self.calibration.read_levels.shape[1] != n_levels or (quantiles not in self.outputs and self.calibration.residuals is None):
            raise ValueError("calibration is for other outputs")


BODY_TYPES: Final[dict[str, type]] = {
    "name": str,
    "version": str,
    "created_at": str,
    "training": dict,
    "scores": dict,
    "versions": dict,
    "git_commit": str,
    "mlflow_run_id": str,
    "files": dict,
    "schema_version": int,
}
"""Keys of manifest.json that are fields of Manifest as they stand."""


def _is_intact(body: dict[str, Any], data: bytes) -> bool:
    """Whether `data` are the bytes that were written for `body`."""
    bare = {key: value for key, value in body.items() if key != "manifest_sha256"}
    try:
        return _canonical(body) == data and body.get("manifest_sha256") == _sha256(_canonical(bare))
    except ValueError:  # a number that is not finite: nobody writes one
        return False


@dataclass(frozen=True, eq=False)
class Golden:
    """One worked example: a raw series in, published quantiles out."""

    series: Series
    target: str
    """Sensor that holds the target."""
    time_zone: str
    origin: int
    quantiles: npt.NDArray[np.float64]
    """`(horizon, n_levels)`, as published."""
    mean: npt.NDArray[np.float64]
    """`(horizon,)`."""

    def to_bytes(self) -> bytes:
        """The bytes of golden.npz."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            values=self.series.values,
            grid=np.array([self.series.start, self.series.step_s, self.origin], np.int64),
            features=np.array([[f.name, f.role] for f in self.series.features]),
            names=np.array([self.target, self.time_zone]),
            quantiles=self.quantiles,
            mean=self.mean,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """The inverse of `to_bytes`.

        Raises:
            BundleError: not such a file.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                if sum(item.file_size for item in archive.infolist()) > MAX_FILE_BYTES:
                    raise BundleError(f"{GOLDEN} unpacks to more than {MAX_FILE_BYTES >> 20} MiB: {TRAINER_HINT}")
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                start, step_s, origin = (int(v) for v in file["grid"])
                features = tuple(Feature(str(n), str(r)) for n, r in file["features"])
                target, time_zone = (str(v) for v in file["names"])
                values, quantiles, mean = (np.asarray(file[name], np.float64) for name in ("values", "quantiles", "mean"))
            return cls(Series(start, step_s, features, values), target, time_zone, origin, quantiles, mean)
        except BundleError:
            raise
        except Exception as err:  # zipfile, zlib and numpy raise a dozen unrelated types for bytes that were tampered with
            raise BundleError(f"{GOLDEN} is damaged ({err!r}): {TRAINER_HINT}") from err

    def check(self, plan: FeaturePlan) -> None:
        """See that a model of `plan` can run this example.

        Raises:
            BundleError: it cannot.
        """
        try:
            plan = plan.at_step(self.series.step_s)
            self.series.position(self.target)
            ZoneInfo(self.time_zone)
            row = self.series.index(self.origin)
        except (ConfigError, DataError, KeyError, ValueError, OSError) as err:
            raise BundleError(f"{GOLDEN} is no example for this model ({err}): export the bundle again") from err
        shapes = self.quantiles.shape, self.mean.shape
        known = {f.role for f in self.series.features} <= set(ROLES) and 0 <= row <= len(self.series)
        if not known or shapes != ((plan.horizon, len(plan.quantile_levels)), (plan.horizon,)):
            raise BundleError(f"{GOLDEN} is no example for this model (forecast of shape {shapes}, origin in row {row}): export the bundle again")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file has been checked."""

    path: Path
    manifest: Manifest
    model: bytes
    """model.onnx."""
    golden: Golden
    signer: str | None
    """File of the trusted key that signed it; None when unsigned and allowed."""


def write_bundle(path: Path, manifest: Manifest, *, model: bytes, golden: Golden, sign_key: Path | None) -> None:
    """Write a bundle to `path`, replacing one that is there: a temporary folder beside it is filled, synced and renamed.

    Raises:
        BundleError: `path` holds something that is not a bundle, or cannot be written.
        ConfigError: no readable signing key.
    """
    files = {MODEL: model, GOLDEN: golden.to_bytes()}
    data = replace(manifest, files={name: _sha256(content) for name, content in files.items()}).to_json()
    files[MANIFEST] = data
    if sign_key is not None:
        files[SIGNATURE] = signing.sign(data, signing.load_key(sign_key))
    try:
        if path.exists() and not (path / MANIFEST).is_file() and any(path.iterdir()):
            raise BundleError(f"{path} exists and is no bundle: nothing was written; name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work:
            fresh = Path(work) / "new"
            fresh.mkdir()
            for name, content in files.items():
                _write_synced(fresh / name, content)
            _sync_folder(fresh)
            _swap(fresh, path, old=Path(work) / "old")
            _sync_folder(path.parent)
    except OSError as err:
        raise BundleError(f"{path}: the bundle cannot be written ({err.strerror}); free some space or name another folder") from err


def _swap(fresh: Path, path: Path, *, old: Path) -> None:
    """Put `fresh` at `path`, and what was there at `old`; when that fails, put it back."""
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise


def read_bundle(path: Path, *, trusted: dict[bytes, str] | None = None, allow_unsigned: bool = False) -> Bundle:
    """The bundle at `path`, with every file checked.

    Args:
        path: the bundle's folder.
        trusted: trusted public keys; those of this machine when None.
        allow_unsigned: accept a bundle without a signature, or signed by an unknown key; a signature that does not fit is refused all the same.

    Raises:
        BundleError: a file is missing, additional, too large, a link, or not what the manifest says; the message names it.
        SignatureError: unsigned, or signed by nobody trusted.
    """
    try:
        contents = {entry.name: _read_file(entry) for entry in sorted(path.iterdir())}
    except OSError as err:
        raise BundleError(f"{path} is no readable bundle ({err.strerror}): a folder with {MANIFEST} is expected") from err
    if MANIFEST not in contents:
        raise BundleError(f"{path} is no bundle: {MANIFEST} is missing")
    signer = _check_signature(path, contents, trusted=trusted, allow_unsigned=allow_unsigned)
    manifest = Manifest.from_json(contents[MANIFEST])
    expected = {MANIFEST, *manifest.files} | ({SIGNATURE} & set(contents))
    for name in sorted(expected ^ set(contents)):
        raise BundleError(f"{path}: {name} is {'missing' if name in expected else 'not part of the bundle'}: {TRAINER_HINT}")
    for name, digest in manifest.files.items():
        if _sha256(contents[name]) != digest:
            raise BundleError(f"{path}: {name} does not match the manifest's sha256: {TRAINER_HINT}")
    if not {MODEL, GOLDEN} <= set(manifest.files):
        raise BundleError(f"{path}: {MODEL} or {GOLDEN} is missing: {TRAINER_HINT}")
    golden = Golden.from_bytes(contents[GOLDEN])
    golden.check(manifest.plan)
    return Bundle(path, manifest, contents[MODEL], golden, signer)


def _check_signature(path: Path, contents: dict[str, bytes], *, trusted: dict[bytes, str] | None, allow_unsigned: bool) -> str | None:
    if SIGNATURE not in contents:
        if allow_unsigned:
            return None
        raise SignatureError(f"{path} is not signed: sign it on export, or allow unsigned bundles with --allow-unsigned")
    public = signing.signer_of(contents[MANIFEST], contents[SIGNATURE])
    if public is None:
        raise SignatureError(f"{path}: {SIGNATURE} does not fit {MANIFEST}, one of them was changed: {TRAINER_HINT}")
    keys = signing.trusted_keys() if trusted is None else trusted
    if public not in keys and not allow_unsigned:
        raise SignatureError(f"{path} is signed by a key that this machine does not trust: add it with hearthcast-agent keys trust FILE.pub")
    return keys.get(public)


def _read_file(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path} is a link or no plain file: a bundle holds plain files only; {TRAINER_HINT}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BundleError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MiB: this is no Hearthcast bundle")
    try:
        return path.read_bytes()
    except OSError as err:
        raise BundleError(f"{path} cannot be read ({err.strerror}): look at its permissions; {TRAINER_HINT}") from err


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def shipped_bundle() -> Path | None:
    """The base model that ships inside the package; None in a build without one."""
    path = Path(__file__).parent.parent / "models" / "base-energy"
    return path if path.is_dir() else None
