"""Reference model -> ONNX: the plain graph that other tools can run, and the bundle's graph that takes crops."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from ...runtime.bundle.archive import output_names
from ...runtime.bundle.contract import Contract
from ...runtime.pose.heads import Outputs, head
from ...runtime.system.memory import trim_heap
from .reference import ExportError, Reference, arrays_of, compare, random_crops

# 19 is the first operator set in which Q/DQ scales may be float16, which the strongly typed GPU graphs need.
OPSET = 19
# Older ones lack what the exporter writes; 25 is the newest that torch 2.13 gives.
OPSETS = range(17, 26)


def check_opset(opset: int) -> None:
    """ExportError for an operator set that no graph can be exported to."""
    if opset not in OPSETS:
        raise ExportError(f"--opset {opset}: expected {OPSETS[0]} to {OPSETS[-1]}; {OPSET} serves every backend")


def to_onnx(reference: Reference, opset: int = OPSET) -> onnx.ModelProto:
    """Export the network as a plain graph: `images` (N, 3, H, W) float32, normalised, to `heatmaps` (N, K, h, w).

    The outputs of a network that has several are called `heatmaps`, `output_1`, ... Weights are embedded, batch-norm is
    folded into the convolutions, N is dynamic, H and W are static. The graph is compared with PyTorch on random input
    before it is returned. Raises ExportError: the exporter failed, or the graph does not compute what the network
    computes.
    """
    check_opset(opset)
    c = reference.contract
    images = torch.zeros(2, 3, c.height, c.width)
    with quiet():
        try:
            program = torch.onnx.export(
                reference.network,
                (images,),
                dynamo=True,
                opset_version=opset,
                input_names=["images"],
                output_names=output_names(len(head(c.decode).shapes(c))),
                dynamic_shapes=({0: torch.export.Dim("N")},),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"torch {torch.__version__} could not export the network: {error}") from error
    assert program is not None
    model = program.model_proto
    tidy(model, opset)
    # The exporter's program and the arenas in which it wrote the graph hold each weight three times: on with the bytes.
    data = model.SerializeToString()
    for value in program.model.graph.initializers.values():
        value.const_value = None  # the exporter's rewriting rules hold on to the program
    del program, model
    trim_heap()
    onnx.checker.check_model(data, full_check=True)
    crops = torch.from_numpy(random_crops(c, 2))
    with torch.inference_mode():
        inputs = reference.normalise(crops)
        compare("the ONNX graph", run(data, {"images": inputs.numpy()}), arrays_of(reference.network(inputs)))
    return onnx.load_from_string(data)


def with_free_size(model: onnx.ModelProto, reference: Reference) -> onnx.ModelProto:
    """A plain graph for images of any height and width that the network can halve often enough.

    Its nodes hold no sizes (convolution, pooling, and resizing by factors), so only the declared shapes of the input
    and the output change. The result is compared with PyTorch on larger images than the contract's. Raises ExportError:
    a node depends on the size.
    """
    c = reference.contract
    freed = copy.deepcopy(model)
    if len(freed.graph.output) > 1:
        raise ExportError("the network has several outputs, not one of maps: leave --dynamic-size out")
    mapped = (f"H/{c.height // c.heatmap_height}", f"W/{c.width // c.heatmap_width}")
    for value, names in ((freed.graph.input[0], ("H", "W")), (freed.graph.output[0], mapped)):
        for dim, name in zip(value.type.tensor_type.shape.dim[2:], names, strict=True):
            dim.dim_param = name
    # A Resize may read four inputs: X, roi, scales and sizes.
    sizes = {n.op_type for n in freed.graph.node if n.op_type == "Resize" and any(n.input[3:])}
    sized = sorted(sizes | {n.op_type for n in freed.graph.node if n.op_type == "Reshape"})
    if sized:
        raise ExportError(f"the graph has {', '.join(sized)} of a fixed size: leave --dynamic-size out")
    onnx.checker.check_model(freed, full_check=True)
    # 128 is the most that a known family halves
    images = torch.randn(1, 3, c.height + 128, c.width + 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        compare("the graph of free size", run(freed, {"images": images.numpy()}), arrays_of(reference.network(images)))
    return freed


def with_crops(model: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """The bundle's graph: `crops` (N, H, W, 3) uint8 BGR in front of a plain graph.

    Normalisation becomes one subtraction and one multiplication per channel. A BGR to RGB swap costs nothing: it is
    folded into the input channels of the first convolution. A network that begins with something else gets a Gather.
    """
    bundled = copy.deepcopy(model)
    graph = bundled.graph
    mean, std = np.array(contract.mean), np.array(contract.std)
    swap: list[onnx.NodeProto] = []
    if contract.model_color != contract.color:
        mean, std = mean[::-1], std[::-1]
        if not swap_first_convolution(graph):
            indices = numpy_helper.from_array(np.array([2, 1, 0]), "normalise.order")
            graph.initializer.append(indices)
            nhwc = ["normalise.nhwc", "normalise.order"]
            swap.append(helper.make_node("Gather", nhwc, ["normalise.swapped"], "normalise.swap", axis=3))
    for name, values in (("normalise.mean", 255.0 * mean), ("normalise.scale", 1.0 / (255.0 * std))):
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32).reshape(1, 1, 1, 3), name))
    nodes = [
        helper.make_node("Cast", ["crops"], ["normalise.float"], "normalise.cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["normalise.float", "normalise.mean"], ["normalise.centred"], "normalise.sub"),
        helper.make_node("Mul", ["normalise.centred", "normalise.scale"], ["normalise.nhwc"], "normalise.mul"),
        *swap,
        helper.make_node(
            "Transpose",
            ["normalise.swapped" if swap else "normalise.nhwc"],
            ["images"],
            "normalise.transpose",
            perm=[0, 3, 1, 2],
        ),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    shape: list[str | int | None] = ["N", contract.height, contract.width, 3]
    graph.input.append(helper.make_tensor_value_info("crops", TensorProto.UINT8, shape))
    onnx.checker.check_model(bundled, full_check=True)
    return bundled


def run(model: onnx.ModelProto | bytes, feeds: dict[str, np.ndarray], *, optimised: bool = True) -> Outputs:
    """Run a graph once in ONNX Runtime, if asked without its graph optimisation, and return its outputs."""
    data = model if isinstance(model, bytes) else model.SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    return tuple(session.run(None, feeds))


def swap_first_convolution(graph: onnx.GraphProto) -> bool:
    """Swap the input channels of the one convolution that reads the images; False where there is none such."""
    readers = [n for n in graph.node if "images" in n.input]
    weights = next((t for t in graph.initializer if len(readers) == 1 and t.name in readers[0].input[1:2]), None)
    if weights is None or readers[0].op_type != "Conv" or weights.dims[1] != 3:
        return False
    others = sum(weights.name in n.input for n in graph.node)
    if others > 1:
        return False
    swapped = np.ascontiguousarray(numpy_helper.to_array(weights)[:, ::-1])
    weights.CopyFrom(numpy_helper.from_array(swapped, weights.name))
    return True


def tidy(model: onnx.ModelProto, opset: int) -> None:
    """Names after the network's modules; no traces of the exporting machine; no leftovers of the exporter."""
    seen = next(o.version for o in model.opset_import if o.domain == "")
    if seen != opset:
        raise ExportError(f"asked for opset {opset}, the exporter gave {seen}; use --opset {seen}")
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], model.functions[:]
    model.producer_name, model.producer_version, model.doc_string = "posert", "", ""
    counts: Counter[str] = Counter()
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        weight = next((i for i in node.input if i.endswith(".weight")), None)
        stem = weight.removesuffix(".weight") if weight else re.sub(r"[^a-z0-9]", "", node.op_type.lower())
        counts[stem] += 1
        node.name = stem if weight and counts[stem] == 1 else f"{stem}_{counts[stem]}"
    kept = {value.name for value in graph.output}
    renamed = {node.output[0]: f"{node.name}.out" for node in graph.node if node.output[0] not in kept}
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports its own steps on every channel there is; a failure still raises."""
    loggers = [logging.getLogger(n) for n in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
