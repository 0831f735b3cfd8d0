"""An ONNX file's own words: names and shapes of its inputs and outputs, and metadata. Weights are not loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError

CONTRACT_KEY = "posert.contract"
"""The metadata under which an ONNX file holds its contract: the fields as JSON. `posert build --onnx` writes it."""
_MAX_BYTES = 2 << 30  # protobuf's own limit

Shape = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Port:
    """An input or output.

    Attributes:
        name: its name.
        type: of its elements, as numpy names it.
        shape: a number, the name of an axis that may vary, or None where the file says nothing.
    """

    name: str
    type: str
    shape: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.type} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True)
class Interface:
    """What an ONNX file says about itself.

    Attributes:
        inputs, outputs: without initializers.
        metadata: the file's key-value texts.
        opset: version of the standard operators.
        producer: the program that wrote it.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: Mapping[str, str]
    opset: int
    producer: str


def read_interface(path: Path) -> Interface:
    """Read the names, shapes and metadata of an ONNX file, without external data.

    Raises:
        ConfigError: it is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path}: larger than 2 GiB, which no ONNX file can be")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ConfigError(f"{path} is no ONNX file, or a damaged one ({type(error).__name__})") from error
    if not model.graph.output:
        raise ConfigError(f"{path} is no ONNX file: it has no graph with outputs")
    held = {tensor.name for tensor in model.graph.initializer}

    def port(value: Any) -> Port:
        tensor = value.type.tensor_type
        known = onnx.TensorProto.DataType.items()
        kind = next((name.lower() for name, number in known if number == tensor.elem_type), "unknown")
        shape = tuple(
            int(d.dim_value) if d.HasField("dim_value") else str(d.dim_param) or None for d in tensor.shape.dim
        )
        return Port(value.name[:200], kind, shape)

    opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return Interface(
        tuple(port(v) for v in model.graph.input if v.name not in held),
        tuple(port(v) for v in model.graph.output),
        {p.key: p.value for p in model.metadata_props},
        int(opsets[0]) if opsets else 0,
        f"{model.producer_name} {model.producer_version}".strip()[:100],
    )
