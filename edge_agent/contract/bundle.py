"""The bundle: a folder, or one archive (`.tar`), that travels from workstation to gateway and is replaced whole.

`manifest.json` holds the sha256 of every other file and of itself; `manifest.sig` signs it. Nothing is used before everything is checked.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract import archive, signing
from edge_agent.contract.errors import BundleError, ConfigError, DataError, SignatureError
from edge_agent.contract.manifest import MANIFEST, TRAINER_HINT, Manifest, sha256
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, Feature
from edge_agent.contract.series import Series

MODEL, GOLDEN, SIGNATURE = "model.onnx", "golden.npz", "manifest.sig"
KERAS_MODEL: Final = "model.keras"
"""What fine-tuning on a house starts from; signed like the rest, and of no use to the agent. A bundle may lack it."""


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
    weather: npt.NDArray[np.float64] | None = None
    """The forecast of each role that the plan reads, at the middle of each step, `(horizon, n_roles)`, NaN unknown; None for a plan without."""

    def to_bytes(self) -> bytes:
        """The bytes of golden.npz."""
        buffer = io.BytesIO()
        weather: dict[str, Any] = {} if self.weather is None else {"weather": self.weather}
        np.savez_compressed(
            buffer,
            values=self.series.values,
            grid=np.array([self.series.start, self.series.step_s, self.origin], np.int64),
            features=np.array([[f.name, f.role] for f in self.series.features]),
            names=np.array([self.target, self.time_zone]),
            quantiles=self.quantiles,
            mean=self.mean,
            **weather,
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Golden:
        """The inverse of `to_bytes`.

        Raises:
            BundleError: not such a file.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as file:
                if sum(item.file_size for item in file.infolist()) > archive.MAX_BYTES:
                    raise BundleError(f"{GOLDEN} unpacks to more than {archive.MAX_BYTES >> 20} MiB: {TRAINER_HINT}")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                start, step_s, origin = (int(v) for v in arrays["grid"])
                features = tuple(Feature(str(n), str(r)) for n, r in arrays["features"])
                target, time_zone = (str(v) for v in arrays["names"])
                values, quantiles, mean = (np.asarray(arrays[name], np.float64) for name in ("values", "quantiles", "mean"))
                weather = np.asarray(arrays["weather"], np.float64) if "weather" in arrays.files else None
            return cls(Series(start, step_s, features, values), target, time_zone, origin, quantiles, mean, weather)
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
        if (None if self.weather is None else self.weather.shape) != plan.input_shapes().get("weather"):
            raise BundleError(f"{GOLDEN} is no example for this model (it holds another weather forecast): export the bundle again")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle whose every file has been checked."""

    path: Path
    manifest: Manifest
    model: bytes
    """model.onnx; empty once it is loaded."""
    golden: Golden
    signer: str | None
    """File of the trusted key that signed it; None when unsigned and allowed."""


def write_bundle(path: Path, manifest: Manifest, *, model: bytes, golden: Golden, sign_key: Path | None, keras_model: bytes | None = None) -> None:
    """Write a bundle to `path`, replacing one that is there; a path that ends in `.tar` gets the archive.

    Raises:
        BundleError: `path` holds something that is not a bundle, or cannot be written.
        ConfigError: no readable signing key.
    """
    files = {MODEL: model, GOLDEN: golden.to_bytes(), **({} if keras_model is None else {KERAS_MODEL: keras_model})}
    data = replace(manifest, files={name: sha256(content) for name, content in files.items()}).to_json()
    files[MANIFEST] = data
    if sign_key is not None:
        files[SIGNATURE] = signing.sign(data, signing.load_key(sign_key))
    write_files(path, files)


def write_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle's files to the folder or archive `path`: filled and synced under another name, then renamed.

    Raises:
        BundleError: `path` holds something that is not a bundle, or cannot be written.
    """
    is_archive = path.suffix == archive.SUFFIX
    try:
        if path.exists() and not (path.is_file() if is_archive else (path / MANIFEST).is_file() or not any(path.iterdir())):
            raise BundleError(f"{path} exists and is no bundle: nothing was written; name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as work:
            fresh = Path(work) / "new"
            if is_archive:
                write_synced(fresh, archive.pack(files))
                fresh.replace(path)
            else:
                fill_folder(fresh, files)
                _swap(fresh, path, old=Path(work) / "old")
            sync_folder(path.parent)
    except OSError as err:
        raise BundleError(f"{path}: the bundle cannot be written ({err.strerror}); free some space or name another folder") from err


def fill_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder `path` and write `files` into it; all of it is on the disk afterwards. Raises OSError."""
    path.mkdir()
    for name, content in files.items():
        write_synced(path / name, content)
    sync_folder(path)


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
        path: the bundle's folder or archive.
        trusted: trusted public keys; those of this machine when None.
        allow_unsigned: accept a bundle without a signature, or signed by an unknown key; a signature that does not fit is refused all the same.

    Raises:
        BundleError: a file is missing, additional, too large, a link, or not what the manifest says; the message names it.
        SignatureError: unsigned, or signed by nobody trusted.
    """
    return open_bundle(path, read_files(path), trusted=trusted, allow_unsigned=allow_unsigned)


def open_bundle(path: Path, contents: Mapping[str, bytes], *, trusted: dict[bytes, str] | None = None, allow_unsigned: bool = False) -> Bundle:
    """As `read_bundle`, of files that were read already; `path` is for messages."""
    if MANIFEST not in contents:
        raise BundleError(f"{path} is no bundle: {MANIFEST} is missing")
    signer = _check_signature(path, contents, trusted=trusted, allow_unsigned=allow_unsigned)
    try:
        manifest = Manifest.from_json(contents[MANIFEST])
        _check_files(contents, manifest)
        golden = Golden.from_bytes(contents[GOLDEN])
        golden.check(manifest.plan)
    except BundleError as err:
        raise BundleError(f"{path}: {err}") from err
    return Bundle(path, manifest, contents[MODEL], golden, signer)


def read_files(path: Path) -> dict[str, bytes]:
    """The files of the folder or archive at `path`, by name, none of them checked.

    Raises:
        BundleError: unreadable, too large, or not plain files.
    """
    try:
        if path.is_file():
            return archive.unpack(path)
        entries = sorted(path.iterdir())
        if sum(entry.lstat().st_size for entry in entries) > archive.MAX_BYTES or len(entries) > archive.MAX_FILES:
            raise BundleError(f"{path} is larger than {archive.MAX_BYTES >> 20} MiB or {archive.MAX_FILES} files: this is no Hearthcast bundle")
        return {entry.name: _read_file(entry) for entry in entries}
    except OSError as err:
        raise BundleError(f"{path} is no readable bundle ({err.strerror}): a folder with {MANIFEST}, or its archive, is expected") from err


def _check_files(contents: Mapping[str, bytes], manifest: Manifest) -> None:
    """See that the folder holds the manifest's files, untouched, and nothing else."""
    expected = {MODEL, GOLDEN, MANIFEST, *manifest.files} | ({SIGNATURE} & set(contents))
    for name in sorted(expected ^ set(contents)):
        raise BundleError(f"{name} is {'missing' if name in expected else 'not part of the bundle'}: {TRAINER_HINT}")
    for name in sorted(expected - {MANIFEST, SIGNATURE}):
        if sha256(contents[name]) != manifest.files.get(name):
            raise BundleError(f"{name} does not match the manifest's sha256: {TRAINER_HINT}")


def _check_signature(path: Path, contents: Mapping[str, bytes], *, trusted: dict[bytes, str] | None, allow_unsigned: bool) -> str | None:
    if SIGNATURE not in contents:
        if allow_unsigned:
            return None
        raise SignatureError(f"{path} is not signed: sign it on export, or allow unsigned bundles with --allow-unsigned")
    public = signing.signer_of(contents[MANIFEST], contents[SIGNATURE])
    if public is None:
        raise SignatureError(f"{path}: {SIGNATURE} does not fit {MANIFEST}, one of them was changed: {TRAINER_HINT}")
    keys = signing.trusted_keys() if trusted is None else trusted
    if public not in keys and not allow_unsigned:
        raise SignatureError(
            f"{path} is signed by a key that this machine does not trust: add it with hearthcast-agent keys trust FILE.pub (--system for the service)"
        )
    return keys.get(public)


def _read_file(path: Path) -> bytes:
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path} is a link or no plain file: a bundle holds plain files only; {TRAINER_HINT}")
    try:
        return path.read_bytes()
    except OSError as err:
        raise BundleError(f"{path} cannot be read ({err.strerror}): look at its permissions; {TRAINER_HINT}") from err


def write_synced(path: Path, content: bytes) -> None:
    """Write a file; it is on the disk afterwards, its name in the folder not yet. Raises OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shipped_bundle() -> Path | None:
    """Where the base model for energy lies that ships inside the package; None in a build without one."""
    path = Path(__file__).parents[1] / "models" / "base-energy"
    return path if path.is_dir() else None


def read_shipped_bundle() -> Bundle | None:
    """The base model for energy, trusted by the key that ships beside it; None in a build without one. Raises as `read_bundle`."""
    path = shipped_bundle()
    return None if path is None else read_bundle(path, trusted=signing.trusted_keys((path.parent,)))
