"""Engine files: the plan exactly as the library wrote it, and a sidecar that says what it is.

`NAME.engine` is what TensorRT gave, so that trtexec, Triton or DeepStream load it too. `NAME.engine.json` beside it
names the graph, the library, the devices and the sha256 of the plan, and for a plan that leaves the cache the contract,
the accuracy and the golden crop of its bundle. A plan is machine code that a library runs unchecked: without a sidecar
of these very bytes posert does not load it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..bundle.archive import Golden, golden_bytes, golden_from
from ..bundle.contract import Contract
from ..bundle.manifest import Artifact
from ..bundle.schema import check_shape, shape_of
from ..bundle.signature import PublicKey, check_signature
from ..errors import BackendError, BundleError
from ..system.files import atomic_write
from ..system.json_text import parse_json
from ..system.text import check_text

SCHEMA = 2
"""Of sidecars. 1 was the header inside of the files that posert 0.2.0 wrote."""
SUFFIX = ".engine"
_PREFIX = b"posert engine 1\n"
_COMPUTING = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
_LARGEST = 256 << 20  # of a sidecar: far above any golden crop


@dataclass(frozen=True)
class EngineMetadata:
    """The graph, the library and the devices that an engine was built for.

    Attributes:
        model: sha256 of the ONNX graph.
        precision: of that graph.
        backend, version: of the library that built the engine; no other release runs it.
        devices: that it runs on: "sm86", ..., or the name of the one GPU or CPU that it was built on.
        batch: its optimisation profiles, smallest, best and largest batch.
        options: the other settings of the build.
        layers: how many layers of each type and output type the parser made of the graph, such as "CONVOLUTION HALF".
        timing_cache: sha256 of the timing cache that was used, "" for none.
        architecture: of the GPU that it was built on, such as "sm89"; "" where `devices` says it, or it was a CPU.
    """

    model: str
    precision: str
    backend: str
    version: str
    devices: tuple[str, ...]
    batch: tuple[tuple[int, int, int], ...]
    options: dict[str, Any]
    layers: dict[str, int]
    timing_cache: str = ""
    architecture: str = ""

    @property
    def architectures(self) -> tuple[str, ...]:
        """Of the GPUs that it was built for, such as "sm89"."""
        return (self.architecture,) if self.architecture else self.devices

    @property
    def computing(self) -> dict[str, int]:
        """Those of `layers` that do nearly all of the work."""
        return {kind: count for kind, count in self.layers.items() if kind.startswith(_COMPUTING)}

    @property
    def file_name(self) -> str:
        """Name of the file in the cache, the same for the same build."""
        key = json.dumps([self.devices, self.batch, self.options], sort_keys=True)
        parts = [self.model[:16], self.precision, self.backend, self.version, *self.devices]
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))
        return f"{slug[:160]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}{SUFFIX}"

    def name_beside(self, bundle: str) -> str:
        """Name of the file outside of the cache, such as "hrnet_w32.tensorrt.sm89.fp16.engine" for "hrnet_w32"."""
        built_for = re.sub(r"[^A-Za-z0-9_-]+", "_", "-".join(self.architectures))
        return f"{bundle}.{self.backend}.{built_for[:100]}.{self.precision}{SUFFIX}"


@dataclass(frozen=True)
class Origin:
    """What an engine has from its bundle: enough to run and to check it without the bundle.

    Attributes:
        name: the bundle's name.
        model: the network and its weights, as in the bundle's manifest.
        contract: what goes into the network and what its outputs mean.
        artifact: the bundle's graph that it was built from.
        accuracy: `verdict` of the accuracy gate, the `rows` that it rests on, and the `data` that they were judged on.
        golden: the golden crops and the reference's outputs.
    """

    name: str
    model: dict[str, Any]
    contract: Contract
    artifact: Artifact
    accuracy: dict[str, Any]
    golden: Golden


@dataclass(frozen=True)
class Engine:
    """A plan, what it was built for, and, unless it is of the cache, what it has from its bundle."""

    metadata: EngineMetadata
    plan: bytes | memoryview
    origin: Origin | None = None


def sidecar_of(path: Path) -> Path:
    """The sidecar of an engine file."""
    return path.with_name(f"{path.name}.json")


def write_engine(path: Path, engine: Engine) -> None:
    """Write a plan and then its sidecar.

    If it is cut off between the two, the plan has no sidecar, or one of other bytes, and is not loaded.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "plan": {"sha256": hashlib.sha256(engine.plan).hexdigest(), "bytes": len(engine.plan)},
        "engine": asdict(engine.metadata),
    }
    if engine.origin is not None:
        origin = engine.origin
        record |= {
            "name": origin.name,
            "model": origin.model,
            "contract": origin.contract.to_json(),
            "artifact": asdict(origin.artifact),
            "accuracy": origin.accuracy,
            "golden": base64.b64encode(golden_bytes(origin.golden)).decode(),  # last: it is long
        }
    text = json.dumps(record, indent=1, allow_nan=False)
    with atomic_write(path) as file:
        file.write(engine.plan)
    with atomic_write(sidecar_of(path)) as file:
        file.write(text.encode())


def read_engine(path: Path, whole: bool = True, keys: Sequence[PublicKey] = ()) -> Engine:
    """An engine whose plan was checked to be the one that its sidecar describes; without `whole` no plan is read.

    Where keys are trusted, one of them must have signed the sidecar, which is checked before it is parsed; the sidecar
    has the hash of the plan.

    Raises:
        BackendError: it has no sidecar, is another plan than that describes, or the sidecar is damaged.
        BundleError: no trusted key has signed the sidecar.
    """

    def unusable(why: str) -> BackendError:
        return BackendError(f"{path} is not a usable engine: {why}")  # what fixes it depends on who reads it

    sidecar = sidecar_of(path)
    try:
        with path.open("rb") as file:
            if file.read(len(_PREFIX)) == _PREFIX:
                raise unusable("posert 0.2.0 wrote it, with a header that no other program reads")
        if not sidecar.is_file():
            raise unusable(f"{sidecar.name}, which says what it was built for, does not lie beside it; copy both files")
        if sidecar.stat().st_size > _LARGEST:
            raise unusable(f"{sidecar.name} is too long")
        data = sidecar.read_bytes()
    except OSError as error:
        raise unusable(error.strerror or str(error)) from error
    if keys:
        check_signature(io.BytesIO(data), sidecar, keys)
    try:
        record = parse_json(data)
        check_text(record)
        metadata, origin = _parse(record)
        size, digest = record["plan"]["bytes"], record["plan"]["sha256"]
        there = path.stat().st_size
        if there < size:
            raise unusable(f"it is cut short: {there} of {size} bytes are there")
        plan = path.read_bytes() if whole else b""
        if there != size or (whole and hashlib.sha256(plan).hexdigest() != digest):
            raise unusable(f"it is not the plan that {sidecar.name} describes: its bytes were changed or exchanged")
        return Engine(metadata, plan, origin)
    except OSError as error:
        raise unusable(error.strerror or str(error)) from error
    except (ValueError, RecursionError, BundleError) as error:
        raise unusable(f"{sidecar.name} cannot be read ({error})") from error


def _parse(record: Any) -> tuple[EngineMetadata, Origin | None]:
    """What a sidecar says. Raises ValueError or BundleError: a value is not what it must be."""
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, expected {SCHEMA}")
    check_shape(record, SHAPE, "sidecar")
    values = dict(record["engine"])
    for name in ("devices", "batch"):
        values[name] = tuple(tuple(v) if isinstance(v, list) else v for v in values[name])
    metadata = EngineMetadata(**values)
    if any(len(profile) != 3 for profile in metadata.batch):
        raise ValueError(f"its batch is {metadata.batch}, expected three numbers for each profile")
    if "contract" not in record:
        return metadata, None
    missing = [name for name in _ORIGIN if name not in record]
    if missing:
        raise ValueError(f"it lacks {missing}")
    contract = Contract.from_json(record["contract"])
    golden = golden_from(base64.b64decode(record["golden"], validate=True), contract, "the sidecar")
    known = {field.name for field in fields(Artifact)}
    artifact = Artifact(**{name: value for name, value in record["artifact"].items() if name in known})
    return metadata, Origin(record["name"], record["model"], contract, artifact, record["accuracy"], golden)


_ORIGIN = ("name", "model", "contract", "artifact", "accuracy", "golden")
SHAPE: dict[str, Any] = {
    "schema": int,
    "plan": {"sha256": str, "bytes": int, "*": object},
    "engine": {
        **shape_of(EngineMetadata),
        "options": {"*": object},
    },
    "name?": str,
    "model?": {"*": object},
    "contract?": {"*": object},
    "artifact?": {**shape_of(Artifact), "*": object},
    "accuracy?": {"verdict": str, "rows": [{"*": object}], "*": object},
    "golden?": str,
    "*": object,
}
"""Of a sidecar, for `check_shape`, but for its contract."""
