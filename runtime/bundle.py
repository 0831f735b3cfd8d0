"""The pose bundle: one `.pose` file that holds a network in several precisions and everything needed to trust it.

A zip with stored (uncompressed) members: `manifest.json`, one graph per artifact, `golden.npz`. Nothing in it is
executed or unpickled; members are addressed by the manifest only, bounded in size and checked against its sha256.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contract import Contract
from .errors import BundleError
from .files import whole_file

SCHEMA = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
MAX_MANIFEST = 16 << 20
MAX_MEMBER = 4 << 30  # a zip without the 64-bit extension, and far above any pose network
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Artifact:
    """One graph of the bundle.

    Attributes:
        name: what the user asks for: "fp32", "fp16", "int8" or "torchscript".
        format: "onnx" or "torchscript".
        file: member of the zip.
        sha256, bytes: of that member.
        precision: numeric precision of the graph.
        opset: ONNX operator set, None for TorchScript.
        float_nodes: nodes that stayed in float in an INT8 graph, each with the reason.
        golden_error: relative L2 error of the heatmap on the golden crop, as measured when the bundle was built.
    """

    name: str
    format: str
    file: str
    sha256: str
    bytes: int
    precision: str
    opset: int | None = None
    float_nodes: dict[str, str] = field(default_factory=dict)
    golden_error: float | None = None


@dataclass(frozen=True)
class Golden:
    """A real crop and what the PyTorch reference made of it.

    Attributes:
        crops: `(M, H, W, 3)` uint8 BGR, as the runtime cuts them.
        heatmaps: `(M, K, h, w)` float32, the reference's output.
    """

    crops: NDArray[np.uint8]
    heatmaps: NDArray[np.float32]


class Bundle:
    """An opened bundle. Reading is lazy: a member is read, and its hash checked, when it is asked for.

    Raises:
        BundleError: the file is missing, truncated, no bundle, of another schema, or not what its manifest says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise BundleError(f"{self.path}: no such file; make one with `posert build --output {self.path}`") from None
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise BundleError(
                f"{self.path}: not a pose bundle, or cut short ({error}); copy it again or rebuild it: posert build"
            ) from error
        try:
            self.manifest = self._read_manifest()
            self.contract = Contract.from_json(self._get("contract", dict))
            self.artifacts = self._read_artifacts()
        except BundleError:
            self._zip.close()
            raise

    def close(self) -> None:
        """Close the file; members already read stay valid."""
        self._zip.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The model's name, such as "hrnet_w32-coco-256x192"."""
        return str(self.manifest["name"])

    @property
    def accuracy(self) -> dict[str, Any]:
        """The gate's verdict and rows, as `posert build` wrote them (see `posert.runtime.parity`)."""
        value: dict[str, Any] = self.manifest["accuracy"]
        return value

    def read(self, artifact: Artifact) -> bytes:
        """The bytes of one graph, checked against the manifest."""
        return self._member(artifact.file, artifact.sha256, artifact.bytes)

    def golden(self) -> Golden:
        """The golden crops and the reference's heatmaps."""
        record = self._get("golden", dict)
        data = self._member(GOLDEN, str(record.get("sha256")), int(record.get("bytes", -1)))
        c = self.contract
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                crops, heatmaps = arrays["crops"], arrays["heatmaps"]
        except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
            raise BundleError(f"{self.path}: {GOLDEN} cannot be read ({error}); rebuild the bundle") from error
        m = len(crops)
        if crops.shape != (m, c.height, c.width, 3) or crops.dtype != np.uint8 or not 1 <= m <= 64:
            raise BundleError(f"{self.path}: golden crops are {crops.dtype} {crops.shape}, not what the contract says")
        if heatmaps.shape != (m, len(c.keypoints), c.heatmap_height, c.heatmap_width):
            raise BundleError(f"{self.path}: golden heatmaps are {heatmaps.shape}, not what the contract says")
        return Golden(crops, heatmaps.astype(np.float32))

    def check(self) -> None:
        """Read every member once: whatever is damaged raises."""
        for artifact in self.artifacts.values():
            self.read(artifact)
        self.golden()

    def _read_manifest(self) -> dict[str, Any]:
        data = self._raw(MANIFEST, MAX_MANIFEST)
        if self._zip.comment != _seal(data):
            raise BundleError(
                f"{self.path}: {MANIFEST} was changed after the bundle was written; rebuild the bundle: posert build"
            )
        try:
            manifest = json.loads(data)
        except ValueError as error:
            raise BundleError(f"{self.path}: {MANIFEST} is not JSON ({error}); rebuild the bundle") from error
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        if schema != SCHEMA:
            raise BundleError(
                f"{self.path}: bundle schema {schema!r}, this posert reads {SCHEMA}; rebuild it with this version, "
                "or install the posert that wrote it"
            )
        assert isinstance(manifest, dict)
        return manifest

    def _get(self, key: str, kind: type) -> Any:
        value = self.manifest.get(key)
        if not isinstance(value, kind):
            raise BundleError(f"{self.path}: {MANIFEST} has no usable {key!r}; rebuild the bundle: posert build")
        return value

    def _read_artifacts(self) -> dict[str, Artifact]:
        self._get("name", str), self._get("model", dict), self._get("accuracy", dict)
        names = {f.name for f in fields(Artifact)}
        artifacts = {}
        for record in self._get("artifacts", list):
            if not isinstance(record, dict) or record.keys() != names:
                raise BundleError(f"{self.path}: unreadable artifact record {record!r}; rebuild the bundle")
            artifact = Artifact(**record)
            if not _MEMBER_NAME.fullmatch(str(artifact.file)) or artifact.format not in ("onnx", "torchscript"):
                raise BundleError(f"{self.path}: refused artifact {artifact.name!r} -> {artifact.file!r}")
            artifacts[artifact.name] = artifact
        if not artifacts:
            raise BundleError(f"{self.path}: the bundle holds no graph; rebuild it: posert build")
        return artifacts

    def _member(self, name: str, sha256: str, size: int) -> bytes:
        data = self._raw(name, MAX_MEMBER)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise BundleError(
                f"{self.path}: {name} is not the file that the manifest describes (sha256 or size differs); "
                "it was damaged or exchanged: copy the bundle again or rebuild it: posert build"
            )
        return data

    def _raw(self, name: str, limit: int) -> bytes:
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise BundleError(f"{self.path}: no {name} in it, so it is no pose bundle (or a cut one)") from None
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise BundleError(
                f"{self.path}: {name} is compressed or too large ({info.file_size} bytes, limit {limit}); "
                "a bundle's members are stored as they are: refused"
            )
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise BundleError(f"{self.path}: {name} is damaged ({error}); copy it again or rebuild it") from error


def write_bundle(
    path: str | os.PathLike[str],
    *,
    name: str,
    model: Mapping[str, Any],
    contract: Contract,
    graphs: Mapping[str, tuple[Artifact, bytes]],
    golden: Golden,
    calibration: Mapping[str, Any] | None,
    accuracy: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Path:
    """Write a bundle beside its final name, then rename it: a bundle is either whole or absent.

    The same inputs give the same bytes.
    """
    path = Path(path)
    stream = io.BytesIO()
    np.savez(stream, crops=golden.crops, heatmaps=golden.heatmaps.astype(np.float32))
    golden_bytes = stream.getvalue()
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "model": dict(model),
        "contract": contract.to_json(),
        "artifacts": [asdict(artifact) for artifact, _ in graphs.values()],
        "golden": {"file": GOLDEN, **describe(golden_bytes)},
        "calibration": calibration,
        "accuracy": dict(accuracy),
        "versions": dict(versions),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode()
    members = {MANIFEST: text, **{a.file: data for a, data in graphs.values()}, GOLDEN: golden_bytes}
    with whole_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)  # ZipInfo's fixed date keeps the file reproducible
        archive.comment = _seal(text)
    return path


def describe(data: bytes) -> dict[str, Any]:
    """sha256 and size of a member, as the manifest records them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _seal(manifest: bytes) -> bytes:
    """The zip's comment: a hash of the manifest, which in its turn holds the hashes of all members."""
    return b"posert " + hashlib.sha256(manifest).hexdigest().encode()
