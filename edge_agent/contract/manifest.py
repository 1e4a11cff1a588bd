"""The manifest: what a bundle says of itself. It holds the sha256 of every other file and of itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import BundleError, ConfigError
from edge_agent.contract.plan import FeaturePlan

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
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

    @property
    def id(self) -> str:
        """16 hex digits that no other bundle has: of the sha256 of manifest.json, which holds those of the other files."""
        return sha256(self.to_json())[:16]

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
        return _canonical({**body, "manifest_sha256": sha256(_canonical(body))})

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
        return _canonical(body) == data and body.get("manifest_sha256") == sha256(_canonical(bare))
    except ValueError:  # a number that is not finite: nobody writes one
        return False


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _canonical(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode("ascii")


def sha256(data: bytes) -> str:
    """Of `data`, in hex digits."""
    return hashlib.sha256(data).hexdigest()
