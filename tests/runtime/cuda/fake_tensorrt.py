"""A stand-in for TensorRT on the stand-in GPU: its plan is the ONNX graph, which ONNX Runtime runs in the GPU's stream.

So a build, its gate and a start can be followed from the checkpoint to the keypoints without a GPU.
"""

from __future__ import annotations

import ctypes
import enum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

_KINDS = {
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "MatMul": "MATRIX_MULTIPLY",
    "Gemm": "MATRIX_MULTIPLY",
    "DequantizeLinear": "DEQUANTIZE",
    "QuantizeLinear": "QUANTIZE",
}


class Network:
    """What the parser makes of a graph: layers with their types."""

    def __init__(self) -> None:
        self.model = onnx.ModelProto()

    def read(self, data: bytes) -> bool:
        self.model = onnx.load_from_string(data)
        graph = self.model.graph
        half = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}

        def tensor(name: str, kind: str = "FLOAT") -> Any:
            return SimpleNamespace(name=name, dtype=SimpleNamespace(name=kind))

        def layer(node: onnx.NodeProto) -> Any:
            kind = "HALF" if half & set(node.input) else "FLOAT"
            return SimpleNamespace(
                type=SimpleNamespace(name=_KINDS.get(node.op_type, "ELEMENTWISE")),
                num_inputs=len(node.input),
                get_input=lambda k: tensor(node.input[k]),
                get_output=lambda k: tensor(node.output[k], kind),
            )

        self.layers = [layer(node) for node in graph.node]
        self.num_layers, self.num_inputs = len(self.layers), 1
        return True

    def get_layer(self, i: int) -> Any:
        return self.layers[i]

    def get_input(self, i: int) -> Any:
        dims = self.model.graph.input[0].type.tensor_type.shape.dim
        return SimpleNamespace(name="crops", shape=[-1, *(d.dim_value for d in dims[1:])])


class Config:
    """Takes what a builder is told, and does as if."""

    def __init__(self) -> None:
        self.profiles: list[Any] = []

    def clear_flag(self, flag: object) -> None: ...
    def set_flag(self, flag: object) -> None: ...

    def add_optimization_profile(self, profile: Any) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: b"timed")

    def set_timing_cache(self, cache: Any, ignore: bool) -> bool:
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"timed")


class Builder:
    def __init__(self, messages: Any) -> None: ...

    def create_builder_config(self) -> Config:
        return Config()

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda name, *shapes: None)

    def build_serialized_network(self, network: Network, config: Config) -> bytes:
        return network.model.SerializeToString()


class Parser:
    num_errors = 0

    def __init__(self, network: Network, messages: Any) -> None:
        self.parse = network.read


class Engine:
    """An engine for batches of 1 to 32."""

    device_memory_size_v2 = 1024
    num_optimization_profiles = 1

    def __init__(self, library: ctypes.CDLL, plan: bytes) -> None:
        self.library = library
        options = ort.SessionOptions()
        # quantised and dequantised nodes as they are written, as the accuracy gate runs them
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        self.session = ort.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        self.shapes = {v.name: tuple(v.shape[1:]) for v in (*self.session.get_inputs(), *self.session.get_outputs())}
        self.names = list(self.shapes)
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, i: int) -> str:
        return self.names[i]

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == "crops" else "OUTPUT"

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.shapes[name])

    def get_tensor_profile_shape(self, name: str, i: int) -> list[tuple[int, ...]]:
        return [(n, *self.shapes[name]) for n in (1, 8, 32)]

    def create_execution_context(self, strategy: str) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses, self.kept = engine, dict[str, int](), list[Any]()

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return profile == 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_device_memory(self, address: int, size: int) -> None: ...

    def execute_async_v3(self, stream: int) -> bool:
        shape, addresses, engine = self.shape, dict(self.addresses), self.engine

        def work() -> None:
            crops = np.ctypeslib.as_array(
                (ctypes.c_uint8 * int(np.prod(shape))).from_address(addresses["crops"])
            ).reshape(shape)
            outputs = [name for name in engine.names if name != "crops"]
            for name, found in zip(outputs, engine.session.run(outputs, {"crops": crops}), strict=True):
                ctypes.memmove(addresses[name], np.ascontiguousarray(found).ctypes.data, found.nbytes)

        callback = ctypes.CFUNCTYPE(None)(work)
        self.kept.append(callback)
        engine.library.fake_run(callback, ctypes.c_void_p(stream))
        return True


def module(library: ctypes.CDLL) -> ModuleType:
    """A module like `tensorrt` 10.9.0."""

    class Logger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    found = ModuleType("tensorrt")
    found.__spec__ = ModuleSpec("tensorrt", None)  # torch asks for it
    vars(found).update(
        __version__="10.9.0",
        ILogger=Logger,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=lambda messages: SimpleNamespace(deserialize_cuda_engine=lambda plan: Engine(library, bytes(plan))),
        ProfilingVerbosity=SimpleNamespace(DETAILED=1),
        BuilderFlag=SimpleNamespace(TF32=1, VERSION_COMPATIBLE=2),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=3),
        HardwareCompatibilityLevel=enum.IntEnum("Level", {"NONE": 0, "AMPERE_PLUS": 1}),
        TensorIOMode=SimpleNamespace(INPUT="INPUT"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="USER_MANAGED"),
    )
    return found
