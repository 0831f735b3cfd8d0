"""Layouts of detectors: what goes in and what comes out, one file for each form that projects export.

A `Layout` says which outputs it reads, how a frame becomes the input, and how outputs become boxes. To add one, add a
file with a `LAYOUT`, or install a package with an entry point of the group `posert.detectors`. `_boxes.py` has the
arithmetic that layouts share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...backends import Tensor
from ...errors import DetectorError
from ...registry import Registry
from ..picture import Picture

__all__ = ["LAYOUTS", "Candidates", "Graph", "Layout", "Outputs", "recognise"]

Outputs = Mapping[str, NDArray[Any]]
"""A graph's outputs by name, for one picture; the first axis is the batch of one."""


@dataclass(frozen=True)
class Candidates:
    """Boxes that scored enough, before duplicates are removed.

    Attributes:
        boxes: `(N, 4)` float32, xyxy px of the network's input. They may reach out of it.
        score: `(N,)` float32.
        label: `(N,)` integers, numbers of classes.
    """

    boxes: NDArray[np.float32]
    score: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Graph:
    """What a detector's file says of itself, and what it gives for a grey picture.

    Attributes:
        inputs: names, shapes and types.
        outputs: arrays by name; this is how sizes are known that the file leaves open.
        metadata: the file's `metadata_props`.
        size: (height, width) of the grey picture.
        mentions: whether the file holds this name, such as a part of a weight's name.
    """

    inputs: tuple[Tensor, ...]
    outputs: Outputs
    metadata: Mapping[str, str]
    size: tuple[int, int]
    mentions: Callable[[str], bool]

    def has(self, **shapes: tuple[int | None, ...]) -> bool:
        """Whether there are outputs of these names and shapes; None is any size, a dimension of 0 counts."""
        return all(
            name in self.outputs
            and len(self.outputs[name].shape) == len(shape)
            and all(want in (None, size) for size, want in zip(self.outputs[name].shape, shape, strict=True))
            for name, shape in shapes.items()
        )

    @property
    def only(self) -> tuple[int, ...]:
        """The shape of the output, where there is one; else ()."""
        return next(iter(self.outputs.values())).shape if len(self.outputs) == 1 else ()


@dataclass(frozen=True)
class Layout:
    """One form of detectors' inputs and outputs.

    Attributes:
        name: of its file or entry point; `Detector(layout=...)` takes it.
        summary: what it is, in one line.
        source: the project that exports it.
        picture: how a frame becomes the input.
        reads: whether `decode` can read such outputs.
        decode: from the outputs, the input's (height, width) and a score to the candidates above that score. It copies:
            the outputs are overwritten by the next run.
        classes: how many classes the network has; None where its outputs do not say it.
        fits: what tells it from other layouts that read the same outputs.
        nms: threshold of the IoU above which the less sure of two boxes is dropped; None where the network leaves no
            duplicates.
    """

    name: str
    summary: str
    source: str
    picture: Picture
    reads: Callable[[Graph], bool]
    decode: Callable[[Outputs, tuple[int, int], float], Candidates]
    classes: Callable[[Graph], int | None] = lambda graph: None
    fits: Callable[[Graph], bool] = lambda graph: True
    nms: float | None = None


LAYOUTS = Registry("detector layout", __name__, "LAYOUT", "posert.detectors", Layout, DetectorError)


def recognise(graph: Graph, name: str = "auto") -> Layout:
    """The layout of a graph, or the one that is named, checked against the graph's outputs.

    Raises DetectorError: the outputs fit no layout or several, the named one cannot read them, or its name is unknown.
    """
    if name != "auto":
        layout = LAYOUTS.load(name)
        if not layout.reads(graph):
            raise DetectorError(f"the layout {name!r} ({layout.summary}) cannot read this graph: {_described(graph)}")
        return layout
    readable = [layout for layout in LAYOUTS.specs().values() if layout.reads(graph)]
    fitting = [layout for layout in readable if layout.fits(graph)]
    if len(fitting) == 1:
        return fitting[0]
    seen = _described(graph)
    if fitting or readable:
        said = "\n".join(f"  layout={found.name!r}: {found.summary}" for found in fitting or readable)
        raise DetectorError(f"the detector is of one of several kinds; name the one that it is:\n{said}\nIt has {seen}")
    known = "\n".join(f"  {layout.name}: {layout.summary}" for layout in LAYOUTS.specs().values())
    raise DetectorError(f"this is none of the detectors that are known{_guess(graph)}. It has {seen}. Known:\n{known}")


def _described(graph: Graph) -> str:
    """Inputs and outputs, for messages."""
    inputs = ", ".join(f"{t.name} {_shape(t.shape)} {t.dtype}" for t in graph.inputs)
    outputs = ", ".join(f"{name} {_shape(array.shape)} {array.dtype}" for name, array in graph.outputs.items())
    height, width = graph.size
    return f"the input {inputs} and the output {outputs} for a picture of {width}x{height}"


def _shape(sizes: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in sizes)})"


def _guess(graph: Graph) -> str:
    """What a graph that is no detector may be."""
    task = graph.metadata.get("task", "detect")
    dimensions = {len(array.shape) for array in graph.outputs.values()}
    if task != "detect":
        return f": its metadata says that its task is {task!r}, so export a model for detection"
    if dimensions == {2}:
        return ": it may be a classifier"
    if 4 in dimensions:
        return ": it may be a network for segmentation, heatmaps or feature maps, or a detector without its decoding"
    return ""
