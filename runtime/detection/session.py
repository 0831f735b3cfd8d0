"""A detector's graph on a backend: opened, looked at, and run once on a grey picture."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend, GraphSession, Tensor, load_backend, usable_backends
from ..bundle.onnx_scan import check_order
from ..errors import BackendError, DetectorError, InputError
from .layouts import Graph
from .picture import PADDING

_TYPES = ("float32", "float16", "uint8")
_SIZE = (640, 640)  # of an input whose size the file leaves open, as nearly all detectors are trained
_MAX_BYTES = 1 << 30  # of a detector's file; the largest that is known has a tenth
_MAX_PIXELS = 4096 * 4096  # of its input, which the file declares; detectors are trained with 1536x1536 at most


@dataclass(frozen=True)
class PictureInput:
    """The input that takes the picture.

    Attributes:
        index: its place among the graph's inputs.
        size: (height, width).
        channels_last: `(1, H, W, 3)` in place of `(1, 3, H, W)`.
    """

    index: int
    size: tuple[int, int]
    dtype: str
    channels_last: bool


def open_graph(
    model: str | os.PathLike[str] | bytes, backend: str, threads: int | None, throughput: bool
) -> tuple[str, GraphSession]:
    """Compile a detector's file; the backend's name and the session.

    Raises:
        InputError: there is no such file, it is not ONNX, or `threads` is below 1.
        BackendError: no backend that is installed runs it, or the backend refused it.
        DetectorError: it cannot be read as ONNX.
    """
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads: expected 1 or more, or None to let the backend choose")
    source = model if isinstance(model, bytes) else Path(model)
    if isinstance(source, Path):
        if not source.is_file():
            raise InputError(f"{source}: there is no such file; a detector is an ONNX file")
        if source.suffix.lower() != ".onnx":
            raise InputError(f"{source}: expected an ONNX file (.onnx); export it with the tools of its project")
    _check(source)
    spec = _select(backend)
    assert spec.open_graph is not None
    try:
        return spec.name, spec.open_graph(source, threads, throughput)
    except BackendError as error:
        others = [other.name for other in usable_backends() if other.open_graph and other.name != spec.name]
        hint = f". Another backend may run it: {' or '.join(others)}" if others else ""
        raise BackendError(f"{str(error).rstrip()}{hint}") from error


def _check(source: Path | bytes) -> None:
    """Raise DetectorError for a graph that no library would come to an end with."""
    name = "the detector" if isinstance(source, bytes) else f"{source}"
    try:
        if (len(source) if isinstance(source, bytes) else source.stat().st_size) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES >> 30} GiB")
        check_order(source if isinstance(source, bytes) else source.read_bytes())
    except (OSError, ValueError) as error:
        raise DetectorError(f"{name}: cannot be read as ONNX: {error}") from error


def _select(backend: str) -> Backend:
    if backend != "auto":
        spec = load_backend(backend)
        if spec.open_graph is None:
            able = ", ".join(other.name for other in usable_backends() if other.open_graph)
            raise BackendError(f"the backend {backend!r} does not run detectors; these can here: {able or 'none'}")
        return spec
    for spec in usable_backends():
        if spec.open_graph is not None:
            return spec
    raise BackendError('no backend that runs detectors is installed: pip install "posert[openvino]"')


def picture_input(session: GraphSession, size: int | tuple[int, int] | None) -> PictureInput:
    """The input for the picture, with the size that the file or the caller gives.

    Raises DetectorError: there is none, it has another type or number of channels, or the sizes disagree.
    """
    pictures = [i for i, tensor in enumerate(session.inputs) if len(tensor.shape) == 4]
    if len(pictures) != 1:
        seen = ", ".join(f"{tensor.name} {tensor.shape} {tensor.dtype}" for tensor in session.inputs)
        raise DetectorError(f"the detector's inputs are {seen}; expected one picture (1, 3, H, W) or (1, H, W, 3)")
    index = pictures[0]
    tensor = session.inputs[index]
    batch, *rest = tensor.shape
    said = f"the detector's input {tensor.name} is {tensor.shape} {tensor.dtype}"
    if batch not in (None, 1):
        raise DetectorError(f"{said}: it takes {batch} pictures at a time. Export it for one, or for any number")
    if tensor.dtype not in _TYPES:
        raise DetectorError(f"{said}; expected {', '.join(_TYPES)}")
    if 3 not in (rest[0], rest[2]):
        raise DetectorError(f"{said}; expected 3 channels, (1, 3, H, W) or (1, H, W, 3)")
    channels_last = rest[0] != 3
    height, width = rest[:2] if channels_last else rest[1:]
    asked = (size, size) if isinstance(size, int) else size
    default = asked or _declared(session) or _SIZE
    given = (height or default[0], width or default[1])
    if asked is not None and asked != given:
        raise DetectorError(f"size={asked} (height, width), and {said}: leave size out, or export it for that size")
    if min(given) < 1:
        raise DetectorError(f"size={given}; expected a height and a width, px")
    if given[0] * given[1] > _MAX_PIXELS:
        raise DetectorError(f"{said}, a picture of {given[1]}x{given[0]} px; expected at most {_MAX_PIXELS} px")
    return PictureInput(index, given, tensor.dtype, channels_last)


def _declared(session: GraphSession) -> tuple[int, int] | None:
    """The (height, width) that ultralytics writes into files whose input is of any size."""
    try:
        size = ast.literal_eval(session.metadata.get("imgsz", ""))
    except (ValueError, SyntaxError):
        return None
    sizes = isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size)
    return (size[0], size[1]) if sizes else None


def other_inputs(session: GraphSession, picture: PictureInput) -> dict[int, NDArray[Any]]:
    """What goes into the inputs beside the picture, by their place.

    Raises DetectorError: it has an input that posert does not know.
    """
    found = {}
    for index, tensor in enumerate(session.inputs):
        if index != picture.index:
            found[index] = _constant(tensor, picture.size)
    return found


def _constant(tensor: Tensor, size: tuple[int, int]) -> NDArray[Any]:
    if tensor.name == "orig_target_sizes":  # RT-DETR: the (width, height) in whose px boxes come back
        return np.array([[size[1], size[0]]], tensor.dtype)
    if tensor.name == "pixel_mask":  # DETR: 1 where the picture is not padded
        shape = [want or have for want, have in zip(tensor.shape, (1, *size), strict=False)]
        if math.prod(shape) > _MAX_PIXELS:
            raise DetectorError(f"the detector's pixel_mask is {tensor.shape}; expected at most {_MAX_PIXELS} px")
        return np.ones(shape, tensor.dtype)
    raise DetectorError(
        f"the detector has the input {tensor.name} {tensor.shape} {tensor.dtype} beside its picture, which posert does "
        "not know; export it without, or with orig_target_sizes or pixel_mask"
    )


def described(
    model: str | os.PathLike[str] | bytes, session: GraphSession, picture: PictureInput, others: dict[int, NDArray[Any]]
) -> Graph:
    """What the graph is, with its outputs for a grey picture."""
    pixels = np.full(picture_shape(picture), PADDING, np.uint8)
    grey = pixels if picture.dtype == "uint8" else (pixels / 255).astype(picture.dtype)
    request = session.requests()[0]
    inputs = others | {picture.index: grey}
    request.start([inputs[i] for i in range(len(inputs))])
    names = [tensor.name for tensor in session.outputs]
    outputs = {name: output.copy() for name, output in zip(names, request.wait(), strict=True)}
    return Graph(session.inputs, outputs, session.metadata, picture.size, _mentions(model))


def picture_shape(picture: PictureInput) -> tuple[int, ...]:
    """Shape of the picture's array."""
    return (1, *picture.size, 3) if picture.channels_last else (1, 3, *picture.size)


def _mentions(model: str | os.PathLike[str] | bytes) -> Callable[[str], bool]:
    held = model if isinstance(model, bytes) else Path(model).read_bytes()
    return lambda name: name.encode() in held
