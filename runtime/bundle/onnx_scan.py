"""What an ONNX graph would do, read from its bytes before any library does: a pose network is arithmetic on one input.

OpenVINO and ONNX Runtime read weights from other files where a graph says so, run loops that do not end, and expand
functions that double at every level. Such graphs are refused here. The protobuf messages are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# What computes arrays from arrays. Left out are control flow, sequences, text, random numbers and recurrent networks.
_NAMES = """
    Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
    BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike CausalConvWithState
    Ceil Celu CenterCropPad Clip Col2Im Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos Cosh
    CumProd CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout DynamicQuantizeLinear Einsum Elu
    Equal Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow
    HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization LeakyRelu Less
    LessOrEqual LinearAttention Log LogSoftmax LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool
    MaxUnpool Mean MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Neg NegativeLogLikelihoodLoss Not
    OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Resize RoiAlign RotaryEmbedding Round STFT Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid
    Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub
    Sum SwiGLU Swish Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_NAMES.split())
_DOMAINS = ("", "ai.onnx")
_MOST = 1_000_000  # nodes, weights and attributes; the largest published network has 4,000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Fields by their numbers in onnx.proto3.
_MODEL = {"graph": 7, "opset_import": 8, "training_info": 20, "functions": 25}
_GRAPH = {"node": 1, "initializer": 5, "input": 11, "output": 12, "sparse_initializer": 15}
_NODE = {"input": 1, "output": 2, "op_type": 4, "attribute": 5, "domain": 7}
_ATTRIBUTE = {"t": 5, "g": 6, "tensors": 10, "graphs": 11, "sparse_tensor": 22, "sparse_tensors": 23}
_TENSOR = {"name": 8, "external_data": 13, "data_location": 14}
_NAME = 1  # of a ValueInfoProto
_SPARSE_VALUES = 1  # of a SparseTensorProto
_VERSION = 2  # of an OperatorSetIdProto
_NEWEST = 1000  # operator sets: ONNX is at 26

Field = tuple[int, int, memoryview]


@dataclass
class _Graph:
    """The parts of a graph; `weights` are the names of its initializers."""

    inputs: list[bytes]
    outputs: list[bytes]
    weights: dict[bytes, memoryview]
    nodes: list[memoryview]
    others: set[int]


def check_graph(data: bytes) -> None:
    """Check that a graph computes outputs from one input by known operators, and that its bytes hold all its weights.

    Raises:
        ValueError: it is no ONNX graph, or more than that; the message names the node or the weights.
    """
    model = list(_fields(memoryview(data)))
    for name in ("training_info", "functions"):
        if any(number == _MODEL[name] for number, _, _ in model):
            raise ValueError(f"it has {name}, expected a graph of plain operators")
    graph = _read(model)
    if _GRAPH["sparse_initializer"] in graph.others:
        raise ValueError("it has sparse weights, expected arrays")
    for weight in graph.weights.values():
        _check_tensor(weight)
    given = [name for name in graph.inputs if name not in graph.weights]
    if len(given) != 1 or not graph.outputs:
        raise ValueError(
            f"it has {len(given)} inputs and {len(graph.outputs)} outputs, expected one input and an output"
        )
    for node in graph.nodes:
        _check_node(node)
    _check_order(graph)


def check_order(data: bytes) -> None:
    """Check of a graph of any kind, such as a detector's, that reading it comes to an end.

    Raises:
        ValueError: it is no ONNX graph, a node reads what is not computed before it, or an operator set does not exist.
    """
    _check_order(_read(list(_fields(memoryview(data)))))


def _read(model: list[Field]) -> _Graph:
    graphs = [value for number, _, value in model if number == _MODEL["graph"]]
    for opset in (value for number, _, value in model if number == _MODEL["opset_import"]):
        for number, kind, value in _fields(opset):  # OpenVINO looks for an operator in every older set, one by one
            if (number, kind) == (_VERSION, _VARINT) and _varint(value, 0)[0] > _NEWEST:
                raise ValueError(f"it has an operator set above {_NEWEST}, which no release of ONNX has")
    if len(graphs) != 1:
        raise ValueError(f"it has {len(graphs)} graphs, expected one")
    graph = _Graph([], [], {}, [], set())
    for count, (number, _, value) in enumerate(_fields(graphs[0])):
        if count > _MOST:
            raise ValueError(f"it has more than {_MOST} nodes and weights")
        if number == _GRAPH["node"]:
            graph.nodes.append(value)
        elif number == _GRAPH["initializer"]:
            graph.weights[_name(value, _TENSOR["name"])] = value
        elif number == _GRAPH["sparse_initializer"]:
            sparse = b"".join(_name(v, _TENSOR["name"]) for n, _, v in _fields(value) if n == _SPARSE_VALUES)
            graph.weights[sparse] = value
        elif number in (_GRAPH["input"], _GRAPH["output"]):
            (graph.inputs if number == _GRAPH["input"] else graph.outputs).append(_name(value, _NAME))
        graph.others.add(number)
    return graph


def _check_order(graph: _Graph) -> None:
    """Nothing may depend on itself: OpenVINO would look for its beginning for ever."""
    known = {*graph.weights, *graph.inputs, b""}  # an input that is left out has no name
    for node in graph.nodes:
        fields = [(number, bytes(value)) for number, kind, value in _fields(node) if kind == _BYTES]
        kind = _text(b"".join(value for number, value in fields if number == _NODE["op_type"]))
        for name in (value for number, value in fields if number == _NODE["input"]):
            if name not in known:
                raise ValueError(f"its operator {kind} reads {_text(name)!r} before anything computes it")
        for name in (value for number, value in fields if number == _NODE["output"]):
            if name and name in known:
                raise ValueError(f"two of its operators or weights give {_text(name)!r}")
            known.add(name)
    if unknown := [name for name in graph.outputs if name not in known]:
        raise ValueError(f"nothing in it computes its output {_text(unknown[0])!r}")


def _check_node(node: memoryview) -> None:
    kinds, domains, attributes = [], [], []
    for number, _, value in _fields(node):
        if number == _NODE["op_type"]:
            kinds.append(_text(value))
        elif number == _NODE["domain"]:
            domains.append(_text(value))
        elif number == _NODE["attribute"]:
            attributes.append(value)
    kind = kinds[-1] if kinds else ""
    for domain in domains:
        if domain not in _DOMAINS:
            raise ValueError(f"its operator {kind[:60]!r} is of {domain[:60]!r}, expected ONNX's own operators")
    if len(kinds) != 1 or kind not in OPERATORS:
        raise ValueError(f"its operator {kind[:60]!r} is none that computes arrays from arrays")
    for attribute in attributes:
        for number, _, value in _fields(attribute):
            if number in (_ATTRIBUTE["t"], _ATTRIBUTE["tensors"]):
                _check_tensor(value)
            elif number in _ATTRIBUTE.values():
                raise ValueError(f"its operator {kind} holds a graph or sparse values, expected numbers")


def _check_tensor(tensor: memoryview) -> None:
    """The values of an array must be in it."""
    for number, _, value in _fields(tensor):
        if number == _TENSOR["external_data"] or (number == _TENSOR["data_location"] and any(value)):
            raise ValueError("weights lie in another file (external data), expected all of them in the graph")


def _name(message: memoryview, field: int) -> bytes:
    """The text in a field, of which protobuf's readers take the last."""
    return next((bytes(value) for number, _, value in reversed(list(_fields(message))) if number == field), b"")


def _text(value: memoryview | bytes) -> str:
    return bytes(value[:200]).decode(errors="replace")


def _fields(data: memoryview) -> Iterator[Field]:
    """Number, wire type and bytes of each field of a message; a number as its varint."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == _BYTES:
            size, start = _varint(data, at)
            at = start + size
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"it is no ONNX graph: a field of the kind {wire}")
        if at > end or number == 0:
            raise ValueError("it is no ONNX graph: a field reaches beyond its message")
        yield number, wire, data[start:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("it is no ONNX graph: a number that does not end")
