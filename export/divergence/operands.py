"""What `posert compare` holds against each other: anything that turns crops into heatmaps, opened from a short text.

`BUNDLE:torch` the PyTorch model, `BUNDLE:int8` a graph of a bundle, `BUNDLE:fp16@tensorrt` the same on another backend,
or a file of its own: `model.onnx`, `model.pt`, `model.engine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.backends import Session, backends, load_backend
from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from ...runtime.engines.cache import read_engine
from ...runtime.engines.session import EngineSession
from ...runtime.errors import BackendError, InputError
from ...runtime.pose.heads import Outputs
from ...runtime.registry import unknown_name
from .. import catalog
from ..archs import build_arch
from ..graph.reference import Reference
from ..weights.load import load_weights

_FILES = {".onnx": "onnxruntime", ".pt": "torchscript"}


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        name: the text that it was opened from.
        precision: "fp32", "fp16", "int8" or "int8_gpu", which says how near the two can be.
        session: crops to heatmaps.
        contract: None for a file that belongs to no bundle.
        crops: `(M, H, W, 3)` uint8 BGR that belong to it; None as above.
        graph: the ONNX graph, whose tensors can be looked at; None if it is something else.
        reference: the PyTorch model, as above.
    """

    name: str
    precision: str
    session: Session
    contract: Contract | None = None
    crops: NDArray[np.uint8] | None = None
    graph: bytes | None = None
    reference: Reference | None = None


class PlainSession:
    """A plain graph, which takes normalised images, behind crops."""

    def __init__(self, session: Session, contract: Contract) -> None:
        self._session, self._contract = session, contract

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `backends.Session.infer`."""
        return self._session.infer(normalised(crops, self._contract))  # type: ignore[arg-type]  # its input is float


def normalised(crops: NDArray[np.uint8], contract: Contract) -> NDArray[np.float32]:
    """Crops `(N, H, W, 3)` as the network's input `(N, 3, H, W)` float32."""
    ordered = crops if contract.model_color == contract.color else crops[..., ::-1]
    mean, std = (np.array(v, np.float32) for v in (contract.mean, contract.std))
    images = (ordered.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def open_sides(first: str, second: str, weights: str | None = None) -> tuple[Side, Side]:
    """Open both; a bare file follows the contract of the other one's bundle.

    Args:
        first, second: the texts, see the head of this file.
        weights: the checkpoint of a PyTorch model whose bundle was built from a file.

    Raises:
        PosertError: one of them is no such thing, or cannot run here.
    """
    a, b = _open(first, None, weights), _open(second, None, weights)
    contract = a.contract or b.contract
    if contract is not None:
        a, b = (s if s.contract else _open(s.name, contract, weights) for s in (a, b))
    return a, b


def _open(text: str, contract: Contract | None, weights: str | None) -> Side:
    place, _, backend = text.partition("@")
    if backend and backend not in backends():
        raise InputError(f"{text}: {unknown_name('backend', backend, backends())}")
    path = Path(place)
    if path.suffix in (*_FILES, ".engine") and path.is_file():
        return _open_file(text, path, backend, contract)
    place, _, artifact = place.rpartition(":")
    file = str(path) if path.suffix in (*_FILES, ".engine") else place
    expected = "expected BUNDLE:GRAPH such as model.pose:int8 or model.pose:torch, or a file .onnx, .pt, .engine"
    if file and not Path(file).is_file():
        raise InputError(f"{text}: there is no file {file}; {expected}")
    if not place:
        raise InputError(f"{text}: {expected}")
    with Bundle(place) as bundle:
        if artifact == "torch":
            return _reference(text, bundle, weights)
        if artifact not in bundle.artifacts:
            raise InputError(f"{text}: {bundle.name} holds {', '.join(['torch', *bundle.artifacts])}, not {artifact!r}")
        record = bundle.artifacts[artifact]
        name = backend or _FILES[".onnx" if record.format == "onnx" else ".pt"]
        spec = load_backend(name)
        precision = next((p for p, a in spec.runnable().items() if a == artifact), None)
        if precision is None:
            runs = [p for p, a in spec.runnable().items() if a in bundle.artifacts]
            raise InputError(f"{text}: {name} runs {', '.join(runs) or 'nothing'} of this bundle")
        data = bundle.read(record)
        graph = data if record.format == "onnx" and name == "onnxruntime" else None
        session = spec.open(data, precision)
        return Side(text, record.precision, session, bundle.contract, bundle.golden().crops, graph)


def _open_file(text: str, path: Path, backend: str, contract: Contract | None) -> Side:
    if path.suffix == ".engine":
        try:
            engine = read_engine(path)
        except BackendError as error:
            raise BackendError(f"{error}. Delete it and rebuild it: posert compile BUNDLE") from error
        built = engine.metadata
        library = load_backend(built.backend).import_library()
        return Side(text, built.precision, EngineSession(library, b"", built.precision, engine), contract)
    data = path.read_bytes()
    name = backend or _FILES[path.suffix]
    precision = _precision(data) if path.suffix == ".onnx" else "fp32"
    session = load_backend(name).open(data, precision)
    if path.suffix == ".onnx" and not takes_crops(data) and contract is not None:
        session = PlainSession(session, contract)
    graph = data if path.suffix == ".onnx" and name == "onnxruntime" else None
    return Side(text, precision, session, contract, None, graph)


def takes_crops(graph: bytes) -> bool:
    """Whether a graph is a bundle's, with uint8 crops in front, and not a plain one."""
    return bool(onnx.load_from_string(graph).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _precision(graph: bytes) -> str:
    model = onnx.load_from_string(graph).graph
    if any(node.op_type == "DequantizeLinear" for node in model.node):
        return "int8"
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.initializer)
    return "fp16" if half else "fp32"


def _reference(text: str, bundle: Bundle, weights: str | None) -> Side:
    model = bundle.manifest["model"]
    if model.get("id") not in catalog.rows():
        raise InputError(f"{text}: {bundle.name} is of no model of the catalog, so its network cannot be built here")
    row, made = catalog.row(model["id"]), model["checkpoint"]
    if weights is None and made["source"] == "file":
        raise InputError(f"{text}: it was built from {made['file']}; say where that is: --weights {made['file']}")
    network = build_arch(row.arch, row.keypoints, model.get("stages"))
    found = load_weights(row, network, weights or made["source"])
    if found.sha256 != made["sha256"]:
        raise InputError(
            f"{text}: the weights have sha256 {found.sha256}, the bundle was built from "
            f"{made['sha256']}: give that file "
            "with --weights"
        )
    reference = Reference(network, bundle.contract)
    return Side(text, "fp32", reference, bundle.contract, bundle.golden().crops, None, reference)
