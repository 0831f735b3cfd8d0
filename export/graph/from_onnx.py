"""A foreign ONNX file -> the plain graph that `to_onnx` makes of a PyTorch network: images in, any batch size.

What a file may differ in is brought into one form: names, data types, layout, a fixed batch, an older operator set.
The result is compared with the file itself. What cannot be brought into it is refused by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, version_converter

from ...runtime.bundle.archive import output_names
from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.pose.heads import head
from .batch import free_batch
from .misfit import outputs_line
from .onnx_input import normal_input
from .read import check_names
from .reference import compare
from .to_onnx import OPSETS, run

_QUANTIZED = re.compile(r"QuantizeLinear|DequantizeLinear|DynamicQuantizeLinear|QLinear|ConvInteger|MatMulInteger")
_LARGEST = 2 << 30  # bytes of a protobuf message


@dataclass(frozen=True)
class ForeignGraph:
    """A plain graph, and what the reader of the report must know about how it was made from the file."""

    model: onnx.ModelProto
    notes: tuple[str, ...]


def from_onnx(path: Path, contract: Contract, opset: int) -> ForeignGraph:
    """Read an ONNX file as the plain graph of a contract: `images` `(N, 3, H, W)` float32, normalised.

    Args:
        path: the file; external data lie beside it.
        contract: size of the crop, and by its decode rule the outputs.
        opset: operator set of the result, where the file's is older.

    Raises:
        InputError: the file is no float ONNX network for such crops and outputs; the message names the node, input or
            output, and what mends it.
    """
    model = _load(path)
    notes: list[str] = []
    graph = model.graph
    _check_nodes(path, model)
    if any(t.data_type == TensorProto.FLOAT16 for t in graph.initializer):
        notes.append("the file's weights are float16: its fp32 graph has their values")
    original = _at_batch_one(_to_float32(model) if notes else model)
    normal_input(path, original, contract, notes)
    fixed = all(d.dim_value for d in original.graph.input[0].type.tensor_type.shape.dim[1:])
    _declare(original.graph.input[0], [1, 3, contract.height, contract.width])
    images = np.random.default_rng(0).standard_normal((3, 3, contract.height, contract.width)).astype(np.float32)
    found = _outputs_of(path, original, images[:1])
    names = _choose(path, contract, found, fixed, notes)
    _keep_outputs(original, names)
    plain = free_batch(path, _converted(path, original, opset))
    for value, name in zip(plain.graph.output, names, strict=True):
        _declare(value, ["N", *found[name]])
    _rename(plain, output_names(len(names)))
    onnx.checker.check_model(plain, full_check=True)
    parts = [run(original, {original.graph.input[0].name: images[i : i + 1]}) for i in range(len(images))]
    expected = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    compare("the graph of any batch size", run(plain, {"images": images}), expected)
    return ForeignGraph(plain, tuple(notes))


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise InputError(f"there is no ONNX file {path}")
    if path.stat().st_size >= _LARGEST:
        raise InputError(f"{path} has 2 GiB or more; ONNX Runtime reads such graphs with external data only")
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as ONNX ({error}); expected a file that torch.onnx wrote") from error
    check_names(model, str(path))
    if not model.graph.node:
        raise InputError(f"{path} holds no ONNX graph; expected a file that torch.onnx wrote")
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model, full_check=False)
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{path} is no complete ONNX graph: {reason}. External data must lie beside the file"
        ) from error
    return model


def _opset(model: onnx.ModelProto) -> int:
    return int(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    if _opset(model) > OPSETS[-1]:
        raise InputError(f"{path} has opset {_opset(model)}; posert reads up to {OPSETS[-1]}: export it with that")
    for node in model.graph.node:
        name = f"node {node.name or node.output[0]!r} ({node.op_type})"
        if node.domain not in ("", "ai.onnx"):
            raise InputError(
                f"{path}: {name} is an operator of {node.domain}, which OpenVINO and TensorRT do not have; export the "
                "network with the standard operators alone"
            )
        if _QUANTIZED.search(node.op_type):
            raise InputError(f"{path}: {name} is quantised already; give the float graph, posert build quantises it")
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(f"{path}: {name} is control flow; export the network for images of one size")
        if node.op_type == "NonMaxSuppression":
            raise InputError(f"{path}: {name}: this is a detector, expected a top-down pose network")


def _to_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with float32 in place of float16 everywhere."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph

    def widen(tensor: TensorProto) -> None:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))

    for tensor in graph.initializer:
        widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                widen(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    del graph.value_info[:]
    return changed


def _at_batch_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without declared shapes inside, whose one input is declared for one image."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:], copy.metadata_props[:], copy.functions[:]
    constants = {t.name for t in copy.graph.initializer}
    inputs = [value for value in copy.graph.input if value.name not in constants]
    del copy.graph.input[:]
    copy.graph.input.extend(inputs)
    return copy


def _declare(value: onnx.ValueInfoProto, dims: list[int | str]) -> None:
    value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, dims))


def _outputs_of(path: Path, model: onnx.ModelProto, images: np.ndarray) -> dict[str, tuple[int, ...]]:
    """The shape of each output for one image."""
    try:
        found = run(model, {model.graph.input[0].name: images})
    except Exception as error:  # the library's exceptions have no class in common
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{path} does not run on one image of {images.shape[1:]}: {reason}") from error
    return {value.name: output.shape[1:] for value, output in zip(model.graph.output, found, strict=True)}


def _choose(
    path: Path, contract: Contract, found: dict[str, tuple[int, ...]], fixed: bool, notes: list[str]
) -> list[str]:
    """The outputs that the contract's decode rule reads, in its order, recognised by shape and then by name.

    `fixed`: the file itself states the size of its images.
    """
    expected = head(contract.decode).shapes(contract)
    if (*found.items(),) == (*zip(output_names(len(expected)), expected, strict=True),):  # ours
        return list(found)
    chosen: list[str] = []
    for index, shape in enumerate(expected):
        fits = [name for name, seen in found.items() if seen == shape]
        if len(fits) > 1 and len(expected) == 2:  # SimCC of a square crop
            axis = [name for name in fits if re.search(rf"(^|[._]|\d){'xy'[index]}$", name, re.IGNORECASE)]
            fits = axis or fits
        if len(fits) != 1:
            shown = ", ".join(f"{name} {seen}" for name, seen in found.items())
            why = f"{len(fits)} of them have" if fits else "none of them has"
            two = len(expected) == 2
            mend = "rename them simcc_x and simcc_y" if two else "export the network with the one to decode"
            raise InputError(
                f"{path} gives {shown}; {why} the shape {shape} that the decode rule {contract.decode!r} reads with "
                f"{len(contract.keypoints)} joints: " + (mend if fits else outputs_line(contract, found))
            )
        chosen += fits
    _check_names(path, contract, chosen, fixed, notes)
    if unused := [name for name in found if name not in chosen]:
        notes.append(f"outputs that are not decoded were left out: {', '.join(unused)}")
    return chosen


def _check_names(path: Path, contract: Contract, chosen: list[str], fixed: bool, notes: list[str]) -> None:
    """Two vectors that are told apart by their lengths, and whose names say the opposite."""
    axes = [m[2].lower() for name in chosen if (m := re.search(r"(^|[._]|\d)([xy])$", name, re.IGNORECASE))]
    if axes != ["y", "x"]:
        return
    if not fixed:
        raise InputError(
            f"{path}: by its length {chosen[0]} would be along x and {chosen[1]} along y, so the contract's width and "
            f"height look swapped: width: {contract.height}, height: {contract.width}. Where the names are wrong, "
            "export the network for images of one size, or rename them"
        )
    notes.append(f"by their lengths {chosen[0]} is along x and {chosen[1]} along y, whatever their names say")


def _keep_outputs(model: onnx.ModelProto, names: list[str]) -> None:
    """Only these outputs, in this order, and only the nodes that they need."""
    graph = model.graph
    outputs = {value.name: value for value in graph.output}
    needed, kept = set(names), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    constants = [TensorProto.FromString(tensor.SerializeToString()) for tensor in constants]
    chosen = [onnx.ValueInfoProto.FromString(outputs[name].SerializeToString()) for name in names]
    for field in (graph.node, graph.initializer, graph.output):
        del field[:]
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    graph.output.extend(chosen)


def _converted(path: Path, model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    seen = _opset(model)
    if seen >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{path} has opset {seen}, and cannot be converted to {opset} ({reason}); export it with opset {opset}"
        ) from error


def _rename(model: onnx.ModelProto, outputs: list[str]) -> None:
    """The names of a plain graph: `images`, the outputs', and a name for every node."""
    graph = model.graph
    renamed = {graph.input[0].name: "images"} | {
        value.name: name for value, name in zip(graph.output, outputs, strict=True)
    }
    taken = set(renamed.values()) - set(renamed)
    inner = {name for node in graph.node for name in node.output} | {t.name for t in graph.initializer}
    renamed |= {name: f"{name}.inner" for name in taken & inner}
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for value in (*graph.input, *graph.output):
        value.name = renamed[value.name]
    used: set[str] = set()
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.doc_string = ""
        del node.metadata_props[:]
        stem = node.name or f"{node.op_type.lower()}.{node.output[0]}"
        node.name = stem if stem not in used else f"{stem}.{node.output[0]}"
        used.add(node.name)
    model.producer_name, model.producer_version, model.doc_string = "posert", "", ""
