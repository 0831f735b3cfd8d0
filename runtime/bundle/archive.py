"""The pose bundle: one `.pose` file that holds a network in several precisions and everything needed to trust it.

A zip with stored (uncompressed) members: `manifest.json`, one graph per artifact, `golden.npz`. Opening it executes and
unpickles nothing; members are addressed by the manifest only, bounded in size and checked against its sha256. An ONNX
graph is arithmetic; the TorchScript artifact is a program for PyTorch, run only on the backends that are called so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from ..system.files import atomic_write
from .contract import Contract
from .hub import local_file
from .manifest import GOLDEN, MANIFEST, REQUIRES, SCHEMA, check_manifest, load_manifest, parse_artifacts
from .manifest import Artifact as Artifact  # part of this module's interface
from .members import open_zip, read_manifest, read_member, seal
from .onnx_scan import check_graph
from .signature import PublicKey

MAX_MEMBER = 4 << 30  # a zip without the 64-bit extension, and far above any pose network


@dataclass(frozen=True)
class Golden:
    """A real crop and what the PyTorch reference made of it.

    Attributes:
        crops: `(M, H, W, 3)` uint8 BGR, as the runtime cuts them.
        outputs: the reference's outputs, `(M, ...)` float32 each.
    """

    crops: NDArray[np.uint8]
    outputs: tuple[NDArray[np.float32], ...]


def output_names(count: int) -> list[str]:
    """What a network's outputs are called, in graphs and in the golden file: "heatmaps", "output_1", ..."""
    return ["heatmaps", *(f"output_{i}" for i in range(1, count))]


class Bundle:
    """An opened bundle. Reading is lazy: a member is read, and its hash checked, when it is asked for.

    Args:
        path: the file, or `hf://OWNER/NAME[@REVISION][/FILE.pose]`, which is downloaded from the Hugging Face Hub.
        trusted_keys: public keys, or files of them. One must have signed the bundle (`posert sign`), which is checked
            before anything of it is parsed; an empty list takes anybody's. None: the keys in `POSERT_TRUSTED_KEYS`,
            and anybody's bundle where that is not set.

    Raises:
        BundleError: the file is missing, truncated, no bundle, of another schema, not what its manifest says, or not
            signed by a trusted key; or it cannot be had from the hub.
        InputError: a trusted key cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        trusted_keys: Iterable[str | os.PathLike[str]] | None = None,
    ) -> None:
        self.path = local_file(path)
        keys = None if trusted_keys is None else [PublicKey.read(key) for key in trusted_keys]
        self._zip = open_zip(self.path, keys)
        try:
            self.manifest = read_manifest(self._zip, self.path)
            self.contract = self._contract()
            self.artifacts = parse_artifacts(self.manifest)
            self._check_members()
        except BaseException as error:
            self._zip.close()
            if isinstance(error, ValueError | RecursionError):
                raise BundleError(
                    f"{self.path}: {MANIFEST} is not usable: {error}; rebuild the bundle: posert build"
                ) from error
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
        """The gate's verdict and rows, as `posert build` wrote them (see `posert.runtime.accuracy.gate`)."""
        return dict(self.manifest["accuracy"])

    def read(self, artifact: Artifact) -> bytes:
        """The bytes of one graph, checked against the manifest; one in ONNX also for what it would do.

        Raises:
            BundleError: it is another one than the manifest says, or does more than arithmetic, see `onnx_scan`.
        """
        data = self._member(artifact.file, artifact.sha256, artifact.bytes)
        if artifact.format == "onnx":
            try:
                check_graph(data)
            except ValueError as error:
                raise BundleError(f"{self.path}: {artifact.file} is refused: {error}") from error
        return data

    def golden(self) -> Golden:
        """The golden crops and the reference's outputs.

        Raises:
            BundleError: they cannot be read, or the crops are not the contract's. Which shapes the outputs must have
                is up to the decode rule: `posert.runtime.pose.heads.check_outputs`.
        """
        record = self.manifest["golden"]
        data = self._member(GOLDEN, record["sha256"], record["bytes"])
        return golden_from(data, self.contract, str(self.path))

    def check(self) -> None:
        """Read every member once: whatever is damaged raises."""
        for artifact in self.artifacts.values():
            self.read(artifact)
        self.golden()

    def _contract(self) -> Contract:
        try:
            return Contract.from_json(self.manifest["contract"])
        except BundleError as error:
            raise BundleError(f"{self.path}: {error}") from error

    def _check_members(self) -> None:
        """The zip holds what the manifest lists, once, and nothing else."""
        expected = [MANIFEST, GOLDEN, *(artifact.file for artifact in self.artifacts.values())]
        seen = Counter(self._zip.namelist())
        missing, twice = sorted(set(expected) - set(seen)), sorted(n for n, count in seen.items() if count > 1)
        unlisted = sorted(set(seen) - set(expected))
        if missing or twice or unlisted:
            raise BundleError(
                f"{self.path}: members missing {missing}, there twice {twice}, not in the manifest {unlisted}: the "
                "bundle was damaged or changed; copy it again or rebuild it: posert build"
            )

    def _member(self, name: str, sha256: str, size: int) -> bytes:
        data = read_member(self._zip, self.path, name, MAX_MEMBER)
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise BundleError(
                f"{self.path}: {name} is not the file that the manifest describes (sha256 or size differs); "
                "it was damaged or exchanged: copy the bundle again or rebuild it: posert build"
            )
        return data


def write_bundle(
    path: str | os.PathLike[str],
    *,
    name: str,
    model: Mapping[str, Any],
    contract: Contract,
    graphs: Mapping[str, tuple[Artifact, bytes | Path]],
    golden: Golden,
    calibration: Mapping[str, Any] | None,
    accuracy: Mapping[str, Any],
    versions: Mapping[str, str],
) -> Path:
    """Write a bundle beside its final name, then rename it: a bundle is either whole or absent.

    A graph comes as its bytes or as the file that holds them. The same inputs give the same bundle, byte for byte.
    """
    path = Path(path)
    packed = golden_bytes(golden)
    manifest = {
        "schema": SCHEMA,
        "requires": REQUIRES,
        "name": name,
        "model": dict(model),
        "contract": contract.to_json(),
        "artifacts": [asdict(artifact) for artifact, _ in graphs.values()],
        "golden": {"file": GOLDEN, **describe(packed)},
        "calibration": calibration,
        "accuracy": dict(accuracy),
        "versions": dict(versions),
    }
    # A note may name a file whose name is not UTF-8: such bytes become question marks.
    manifest = json.loads(json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode(errors="replace"))
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode()
    parse_artifacts(check_manifest(load_manifest(text)))  # what could not be read back is not written
    members = {MANIFEST: text, **{a.file: data for a, data in graphs.values()}, GOLDEN: packed}
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            info = zipfile.ZipInfo(member)  # its fixed date keeps the file reproducible
            if isinstance(data, Path):
                info.file_size = data.stat().st_size
                with data.open("rb") as source, archive.open(info, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
            else:
                archive.writestr(info, data)
        archive.comment = seal(text)
    return path


def golden_bytes(golden: Golden) -> bytes:
    """Golden crops and outputs as bytes for a bundle, the same for the same arrays."""
    stream = io.BytesIO()
    names = output_names(len(golden.outputs))
    arrays: dict[str, Any] = {name: a.astype(np.float32) for name, a in zip(names, golden.outputs, strict=True)}
    np.savez(stream, crops=golden.crops, **arrays)
    return stream.getvalue()


def golden_from(data: bytes, contract: Contract, label: str) -> Golden:
    """The reverse of `golden_bytes`; `label` is the file, for messages.

    Raises:
        BundleError: they cannot be read, or the crops are not the contract's. Which shapes the outputs must have is up
            to the decode rule: `posert.runtime.pose.heads.check_outputs`.
    """
    try:
        crops, *outputs = _arrays(data)
    except Exception as error:  # numpy reads a hostile file with exceptions of every kind
        raise BundleError(f"{label}: {GOLDEN} cannot be read ({error}); rebuild the bundle") from error
    m = crops.shape[0] if crops.ndim else 0
    if crops.shape != (m, contract.height, contract.width, 3) or crops.dtype != np.uint8 or not 1 <= m <= 64:
        raise BundleError(f"{label}: golden crops are {crops.dtype} {crops.shape}, not what the contract says")
    for output in outputs:
        if output.shape[:1] != (m,) or output.dtype != np.float32 or not np.isfinite(output).all():
            raise BundleError(
                f"{label}: a golden output is {output.dtype} {output.shape}, expected finite float32 "
                f"({m}, ...); rebuild the bundle: posert build"
            )
    return Golden(crops, tuple(outputs))


def _arrays(data: bytes) -> list[NDArray[Any]]:
    """Crops and outputs of golden.npz, which holds nothing else, uncompressed and unpickled."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        names = ["crops", *output_names(max(len(members) - 1, 1))]
        if sorted(m.filename for m in members) != sorted(f"{name}.npy" for name in names):
            raise ValueError(f"it holds {[m.filename for m in members]}, expected {', '.join(names)}, .npy each")
        if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > len(data) for m in members):
            raise ValueError("an array is compressed")
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = [file[name] for name in names]
    if not all(isinstance(array, np.ndarray) for array in arrays):  # numpy gives the bytes of what is no .npy
        raise ValueError("a member is no array")
    return arrays


def describe(data: bytes) -> dict[str, Any]:
    """sha256 and size of a member, as the manifest records them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
