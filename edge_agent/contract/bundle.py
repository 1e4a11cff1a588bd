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
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract import signing
from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import BundleError, ConfigError, SignatureError
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
        except (ValueError, KeyError, TypeError) as err:
            raise BundleError(f"{MANIFEST} is damaged ({err!r}): {TRAINER_HINT}") from err
        if version != SCHEMA_VERSION:
            raise BundleError(f"{MANIFEST} has schema_version {version!r}, this version reads {SCHEMA_VERSION}: upgrade the agent, or export again")
        claimed = body.pop("manifest_sha256", None)
        if claimed != _sha256(_canonical(body)) or _canonical({**body, "manifest_sha256": claimed}) != data:
            raise BundleError(f"{MANIFEST} does not match its own checksum: {TRAINER_HINT}")
        return cls._from_body(body)

    @classmethod
    def _from_body(cls, body: dict[str, Any]) -> Manifest:
        try:
            plan = FeaturePlan.from_dict(body["plan"])
            manifest = cls(
                plan=plan,
                calibration=Calibration.from_dict(body["calibration"]),
                inputs=tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in body["inputs"]),
                outputs=tuple(Tensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in body["outputs"]),
                features=tuple(body["features"]),
                **{f.name: body[f.name] for f in fields(cls) if f.name not in ("plan", "calibration", "inputs", "outputs", "features")},
            )
        except (KeyError, TypeError, ConfigError) as err:
            raise BundleError(f"{MANIFEST} is not of the expected form ({err}): export the bundle again with this version") from err
        expected = tuple(Tensor(name, shape, "float32") for name, shape in plan.input_shapes().items())
        if sorted(expected, key=lambda t: t.name) != sorted(manifest.inputs, key=lambda t: t.name):
            raise BundleError(f"{MANIFEST}: the model's inputs {manifest.inputs} are not those of its plan {expected}: export the bundle again")
        return manifest


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
                if not {f.role for f in features} <= set(ROLES):
                    raise BundleError(f"{GOLDEN} names roles that this version does not know: upgrade the agent, or export again")
                target, time_zone = (str(v) for v in file["names"])
                return cls(Series(start, step_s, features, file["values"]), target, time_zone, origin, file["quantiles"], file["mean"])
        except (ValueError, KeyError, OSError, zipfile.BadZipFile, EOFError) as err:
            raise BundleError(f"{GOLDEN} is damaged ({err}): {TRAINER_HINT}") from err


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
    if path.exists() and not (path / MANIFEST).is_file():
        raise BundleError(f"{path} exists and is no bundle: nothing was written; name another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work:
            fresh = Path(work) / "new"
            fresh.mkdir()
            for name, content in files.items():
                _write_synced(fresh / name, content)
            if path.exists():
                path.rename(Path(work) / "old")
            fresh.rename(path)
            _sync_folder(path.parent)
    except OSError as err:
        raise BundleError(f"{path}: the bundle cannot be written ({err.strerror}); free some space or name another folder") from err


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
    if not path.is_dir():
        raise BundleError(f"{path} is no bundle: a folder with {MANIFEST} is expected")
    contents = {entry.name: _read_file(entry) for entry in sorted(path.iterdir())}
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
    return Bundle(path, manifest, contents[MODEL], Golden.from_bytes(contents[GOLDEN]), signer)


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
        raise BundleError(f"{path} cannot be read ({err.strerror}): {TRAINER_HINT}") from err


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
