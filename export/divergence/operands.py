"""The operands of `posert compare`: anything that turns crops into heatmaps, named by a short text.

`BUNDLE:torch` is the PyTorch model, `BUNDLE:int8` a graph of a bundle, `BUNDLE:fp16@tensorrt` a graph on another
backend. A file stands alone: `model.onnx`, `model.pt`, `model.engine`.
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
class ModelRef:
    """One model to compare."""

    name: str  # the text that names it
    precision: str  # "fp32", "fp16", "int8" or "int8_gpu", which bounds how similar two models can be
    session: Session  # crops to heatmaps
    contract: Contract | None = None  # of its bundle
    crops: NDArray[np.uint8] | None = None  # (M, H, W, 3) BGR, the bundle's golden crops
    graph: bytes | None = None  # an ONNX graph, whose tensors can be compared
    reference: Reference | None = None  # the PyTorch model


class PlainSession:
    """A session that takes crops and runs a plain graph, which takes normalised images."""

    def __init__(self, session: Session, contract: Contract) -> None:
        self._session, self._contract = session, contract

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `backends.Session.infer`."""
        return self._session.infer(normalised(crops, self._contract))  # type: ignore[arg-type]  # its input is float


def normalised(crops: NDArray[np.uint8], contract: Contract) -> NDArray[np.float32]:
    """Crops `(N, H, W, 3)` uint8 BGR as the network's input `(N, 3, H, W)` float32."""
    ordered = crops if contract.model_color == contract.color else crops[..., ::-1]
    mean, std = (np.array(v, np.float32) for v in (contract.mean, contract.std))
    images = (ordered.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def open_pair(first: str, second: str, weights: str | None = None) -> tuple[ModelRef, ModelRef]:
    """Open both, which are named as the module says; a file uses the contract of the other one's bundle.

    `weights` is the checkpoint for `BUNDLE:torch`, if the bundle was built from a file.

    Raises:
        PosertError: a name is not valid, or the model cannot run here.
    """
    a, b = _open(first, None, weights), _open(second, None, weights)
    contract = a.contract or b.contract
    if contract is not None:
        a, b = (s if s.contract else _open(s.name, contract, weights) for s in (a, b))
    return a, b


def _open(text: str, contract: Contract | None, weights: str | None) -> ModelRef:
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
        return ModelRef(text, record.precision, session, bundle.contract, bundle.golden().crops, graph)


def _open_file(text: str, path: Path, backend: str, contract: Contract | None) -> ModelRef:
    if path.suffix == ".engine":
        try:
            engine = read_engine(path)
        except BackendError as error:
            raise BackendError(f"{error}. Delete it and rebuild it: posert compile BUNDLE") from error
        built = engine.metadata
        library = load_backend(built.backend).import_library()
        return ModelRef(text, built.precision, EngineSession(library, b"", built.precision, engine), contract)
    data, name = path.read_bytes(), backend or _FILES[path.suffix]
    if path.suffix == ".pt":
        return ModelRef(text, "fp32", load_backend(name).open(data, "fp32"), contract)
    precision = _precision(data)
    session = load_backend(name).open(data, precision)
    if not takes_crops(data) and contract is not None:
        session = PlainSession(session, contract)
    return ModelRef(text, precision, session, contract, None, data if name == "onnxruntime" else None)


def takes_crops(graph: bytes) -> bool:
    """Whether a graph takes uint8 crops, as a bundle's graphs do, and not normalised images."""
    return bool(onnx.load_from_string(graph).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _precision(graph: bytes) -> str:
    model = onnx.load_from_string(graph).graph
    if any(node.op_type == "DequantizeLinear" for node in model.node):
        return "int8"
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.initializer)
    return "fp16" if half else "fp32"


def _reference(text: str, bundle: Bundle, weights: str | None) -> ModelRef:
    model = bundle.manifest["model"]
    if model.get("id") not in catalog.rows():
        raise InputError(
            f"{text}: the model of {bundle.name} is not in the catalog, so its network cannot be built here"
        )
    row, made = catalog.row(model["id"]), model["checkpoint"]
    if weights is None and made["source"] == "file":
        raise InputError(f"{text}: the bundle was built from {made['file']}; give that file: --weights {made['file']}")
    network = build_arch(row.arch, row.channels, model.get("stages"))
    found = load_weights(row, network, weights or made["source"])
    if found.sha256 != made["sha256"]:
        raise InputError(
            f"{text}: the weights have sha256 {found.sha256}, the bundle was built from {made['sha256']}; give that "
            "file with --weights"
        )
    reference = Reference(network, bundle.contract)
    return ModelRef(text, "fp32", reference, bundle.contract, bundle.golden().crops, None, reference)
