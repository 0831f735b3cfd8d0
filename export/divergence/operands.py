"""The operands of `posert compare`: anything that turns crops into heatmaps, named by a short text.

`BUNDLE:torch` is the PyTorch model, `BUNDLE:int8` a graph of a bundle, `BUNDLE:fp16@tensorrt` a graph on another
backend. A file stands alone: `model.onnx`, `model.pt`, `model.engine`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from ...runtime.backends import Session, backends, load_backend
from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from ...runtime.engines.session import EngineSession
from ...runtime.engines.sidecar import read_engine
from ...runtime.errors import BackendError, InputError, PosertError, naming
from ...runtime.pose.heads import Outputs
from ...runtime.registry import unknown_name
from ...runtime.system.input_file import read_file
from .. import catalog
from ..archs import build_arch
from ..builder.model import Loaded
from ..graph.from_onnx import from_onnx
from ..graph.read import check_names
from ..graph.reference import Reference
from ..graph.to_onnx import OPSETS
from ..weights.load import load_weights

_MAX_BYTES = 2 << 30  # of an ONNX or TorchScript file; the first has this limit itself
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


Own = Callable[[], Loaded]
"""Gives the model of the user's own that a bundle was built from."""


def open_pair(first: str, second: str, weights: str | None = None, own: Own | None = None) -> tuple[ModelRef, ModelRef]:
    """Open both, which are named as the module says; a file uses the contract of the other one's bundle.

    `weights` is the checkpoint for `BUNDLE:torch`, if the bundle was built from a file; `own` loads the model of one
    that the catalog does not have.

    Raises:
        PosertError: a name is not valid, or the model cannot run here.
    """
    a, b = _open(first, None, weights, own), _open(second, None, weights, own)
    contract = a.contract or b.contract
    if contract is not None:
        a, b = (s if s.contract else _open(s.name, contract, weights, own) for s in (a, b))
    return a, b


def _open(text: str, contract: Contract | None, weights: str | None, own: Own | None) -> ModelRef:
    with naming(text):
        return _opened(text, contract, weights, own)


def _opened(text: str, contract: Contract | None, weights: str | None, own: Own | None) -> ModelRef:
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
            known = bundle.manifest["model"].get("id") in catalog.rows()
            return _published(text, bundle, weights) if known else _own_reference(text, bundle, own)
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
        if record.format == "onnx":
            _check_input(data, Path(record.file))
        graph = data if record.format == "onnx" and name == "onnxruntime" else None
        session = spec.open(data, precision)
        return ModelRef(text, record.precision, session, bundle.contract, bundle.golden().crops, graph)


def _open_file(text: str, path: Path, backend: str, contract: Contract | None) -> ModelRef:
    if path.suffix == ".engine":
        try:
            engine = read_engine(path)
        except BackendError as error:
            raise BackendError(f"{error}. Delete it and rebuild it: posert compile BUNDLE") from error
        built, origin = engine.metadata, engine.origin
        library = load_backend(built.backend).import_library()
        opened = EngineSession(library, b"", built.precision, engine)
        if origin is not None:
            return ModelRef(text, built.precision, opened, origin.contract, origin.golden.crops)
        return ModelRef(text, built.precision, opened, contract)
    try:
        data, name = read_file(path, _MAX_BYTES), backend or _FILES[path.suffix]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if path.suffix == ".onnx":
        _check_input(data, path)
    if path.suffix == ".pt":
        return ModelRef(text, "fp32", load_backend(name).open(data, "fp32"), contract)
    precision = _precision(data)
    plain = contract is not None and not takes_crops(data)
    if contract is not None and plain and precision == "fp32":  # others keep their types and their Q/DQ
        data = from_onnx(path, contract, OPSETS[0]).model.SerializeToString()
    session = load_backend(name).open(data, precision)
    if contract is not None and plain:
        session = PlainSession(session, contract)
    return ModelRef(text, precision, session, contract, None, data if name == "onnxruntime" else None)


def _check_input(graph: bytes, path: Path) -> None:
    try:
        model = onnx.load_from_string(graph)
    except DecodeError as error:
        raise InputError(f"{path}: no ONNX graph: {error}") from error
    check_names(model, str(path))
    if not model.graph.input:
        raise InputError(f"{path}: the graph has no input")


def takes_crops(graph: bytes) -> bool:
    """Whether a graph takes uint8 crops, as a bundle's graphs do, and not normalised images."""
    return bool(onnx.load_from_string(graph).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _precision(graph: bytes) -> str:
    model = onnx.load_from_string(graph).graph
    if any(node.op_type == "DequantizeLinear" for node in model.node):
        return "int8"
    half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.initializer)
    return "fp16" if half else "fp32"


def _published(text: str, bundle: Bundle, weights: str | None) -> ModelRef:
    model = bundle.manifest["model"]
    row, made = catalog.row(model["id"]), model["checkpoint"]
    if weights is None and made["source"] == "file":
        raise InputError(f"{text}: the bundle was built from {made['file']}; give that file: --weights {made['file']}")
    network = build_arch(row.arch, row.channels, model.get("stages"))
    found = load_weights(row, network, weights or made["source"])
    _check_digest(text, found.sha256, made["sha256"])
    return _of(text, bundle, Reference(network, bundle.contract))


def _own_reference(text: str, bundle: Bundle, own: Own | None) -> ModelRef:
    made, place = bundle.manifest["model"].get("checkpoint", {}), text.rpartition(":")[0]
    if made.get("source") != "file" or made.get("layout") == "onnx":
        file = made.get("file")
        what = f"the ONNX file {file}, in which there is no PyTorch model" if file else "a network that was in memory"
        instead = f"{place}:fp32, or the file {file}," if file else f"{place}:fp32"
        raise InputError(f"{text}: the bundle was built from {what}; take {instead} in place of it")
    if own is None:
        raise InputError(f"{text}: {bundle.name} is not in the catalog: give what it was built from")
    try:
        loaded = own()
    except PosertError as error:
        raise InputError(
            f"{text}: {bundle.name} is not in the catalog, so its network is made from the files that it was built "
            f"from ({made['file']}): --weights FILE, and the --config, --experiment, or --arch and --contract of that "
            f"build. {error}"
        ) from error
    _check_digest(text, loaded.provenance.sha256, made["sha256"])
    reference = loaded.reference
    assert isinstance(reference, Reference)  # an ONNX file was refused
    if reference.contract != bundle.contract:
        raise InputError(f"{text}: {bundle.name} was built with another contract than these files state; give its own")
    return _of(text, bundle, reference)


def _check_digest(text: str, seen: str | None, expected: str | None) -> None:
    if seen != expected:
        raise InputError(
            f"{text}: the weights have sha256 {seen}, the bundle was built from {expected}; give that file with "
            "--weights"
        )


def _of(text: str, bundle: Bundle, reference: Reference) -> ModelRef:
    return ModelRef(text, "fp32", reference, bundle.contract, bundle.golden().crops, None, reference)
