"""Ranges chosen by what they do to the keypoints.

A range is a trade: a wider one clips less, a narrower one has finer steps. The squared error of the values weighs both
sides alike wherever they fall, but not every value moves a joint. So each scale is tried on its own, all the rest of
the network in float32, and what is compared is where the decoder then finds the joints, on the scale on which OKS
judges them. Alone, because the errors of different tensors are independent and their squares add; on top of each other
they would hide what one scale does in the noise of all the others.

The search starts at the range of least squared error and walks wider and narrower until the joints get much worse.
Scales that hardly move any joint stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from ..runtime.bundle.contract import Contract
from ..runtime.pose.heads import Outputs
from .graph import Graph
from .histogram import Histogram, Range
from .methods import minmax, mse
from .placement import Placement, place
from .sensitivity import keypoint_loss

CROPS = 16  # to search on; 17 joints each
_FIRST = 4  # of them tell which scales matter
_MATTERS = 0.97  # of the loss is with the scales that are searched,
_MOST = 40  # but no more of them than this: hrnet_w32 has 272
_STEP = 2 ** (1 / 6)  # from one range to the next; finer ones cannot be told apart on so few crops
_HOPELESS = 1.5  # times the least loss: the search does not go on from there
_WORTH = 0.95  # of the first loss, or the range stays
_LEVELS = 255
# Errors of int8 are tenths of a pixel, of which OKS sees nothing on a person as large as the crop. As if people were
# this much smaller they count, and a joint that jumps between two peaks counts as one joint and not for all others.
_ZOOM = 20.0
_QUARTER_OFFSET = frozenset({"default", "none", "megvii", "megvii_original"})


class Sample:
    """A few crops of a stream, evenly spread over it, without knowing its length; iterating passes the stream on."""

    def __init__(self, batches: Iterable[NDArray[Any]]) -> None:
        self._batches = batches
        self._kept: list[NDArray[Any]] = []

    def __iter__(self) -> Iterator[NDArray[Any]]:
        self._kept, every, position = [], 1, 0
        for batch in self._batches:
            for crop in batch:
                if position % every == 0:
                    self._kept.append(crop.copy())
                position += 1
                if len(self._kept) == 2 * CROPS:
                    self._kept, every = self._kept[::2], 2 * every
            yield batch

    @property
    def crops(self) -> NDArray[Any]:
        """`(n, H, W, 3)`, n at most `CROPS`, of the stream as far as it was read."""
        spread = np.linspace(0, len(self._kept) - 1, min(CROPS, len(self._kept))).round().astype(int)
        return np.stack([self._kept[i] for i in spread])


def refine(
    model: onnx.ModelProto,
    seen: Mapping[str, Histogram],
    crops: NDArray[Any],
    contract: Contract,
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 0,
) -> dict[str, Range]:
    """The range of each tensor of `seen`, its group's scale being the one that moves the joints least.

    Args:
        model: float32 graph with uint8 crops as input.
        seen: histograms of at least `place(model).tensors`; others get the range of least squared error.
        crops: `(n, H, W, 3)` uint8 BGR to look for joints in, as `Sample` keeps them.
        contract: how heatmaps are decoded and joints are weighed.
        progress: called with (scales searched, scales to search).
        threads: of the network; 0 takes all cores.

    Raises:
        CalibrationError: as for `qdq.place`.
    """
    placed = place(Graph(model))
    full = [_union(minmax(seen[name]) for name in group) for group in placed.groups]
    start = [_union(mse(seen[name]) for name in group) for group in placed.groups]
    trial = _Trial(model, placed, full, contract, threads)

    trial.look_at(crops[:: max(1, len(crops) // _FIRST)])
    alone = np.array([trial.loss(k, start[k]) for k in range(len(start))])
    order = [int(k) for k in np.argsort(-alone, kind="stable")]
    matter = min(_MOST, 1 + int(np.searchsorted(np.cumsum(alone[order]), _MATTERS * alone.sum())))

    trial.look_at(crops)
    chosen = list(start)
    for done, k in enumerate(order[:matter]):
        chosen[k] = _walk(lambda r, k=k: trial.loss(k, r), start[k], full[k])  # type: ignore[misc]
        if progress is not None:
            progress(done + 1, matter)
    ranges = {name: mse(histogram) for name, histogram in seen.items()}
    for group, best in zip(placed.groups, chosen, strict=True):
        for name in group:
            own = minmax(seen[name])
            ranges[name] = Range(max(own.lo, best.lo), min(own.hi, best.hi))
    return ranges


def _walk(loss: Callable[[Range], float], start: Range, full: Range) -> Range:
    """The best range on the way from `start`, by steps wider up to `full` and narrower, until it gets much worse."""
    first = least = loss(start)
    best = start
    for factor in (_STEP, 1 / _STEP):
        here, found = start, first
        while 0 < found < _HOPELESS * least:
            there = Range(max(here.lo * factor, full.lo), min(here.hi * factor, full.hi))
            if there == here:
                break
            here, found = there, loss(there)
            if found < least:
                best, least = here, found
    return best if least < _WORTH * first else start


def _union(ranges: Iterable[Range]) -> Range:
    joined = Range(0.0, 0.0)
    for r in ranges:
        joined |= r
    return joined


class _Trial:
    """The float32 network with every placed Q/DQ pair as arithmetic whose scale is an input: one session for all."""

    def __init__(
        self, model: onnx.ModelProto, placed: Placement, full: list[Range], contract: Contract, threads: int
    ) -> None:
        # The quarter offset moves by a quarter of a cell or not at all, which hides all that there is to see.
        self._contract = replace(contract, decode="unbiased") if contract.decode in _QUARTER_OFFSET else contract
        # Steps of 2**-24 of the largest value, none of them out of reach: float32 as it is.
        self._through = np.array(
            [(2.0 ** np.ceil(np.log2(max(r.amax, 1e-30)) - 24), -np.inf, np.inf) for r in full], np.float32
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        graph = _with_scales(model, placed).SerializeToString()
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._crops: NDArray[Any] = np.empty(0)
        self._reference: Outputs = ()

    def look_at(self, crops: NDArray[Any]) -> None:
        self._crops = crops
        self._reference = self._run(self._through)

    def loss(self, group: int, r: Range) -> float:
        """What this range of this group alone costs."""
        if r.amax == 0:
            return 0.0
        step = (r.hi - r.lo) / _LEVELS
        below = np.rint(r.lo / step)
        scales = self._through.copy()
        scales[group] = step, below, below + _LEVELS
        return keypoint_loss(self._run(scales), self._reference, self._contract, _ZOOM)

    def _run(self, scales: NDArray[np.float32]) -> Outputs:
        step, low, high = (np.ascontiguousarray(column) for column in scales.T)
        parts = [
            self._session.run(None, {self._input: self._crops[i : i + 8], "step": step, "low": low, "high": high})[0]
            for i in range(0, len(self._crops), 8)
        ]
        return (np.concatenate(parts),)


def _with_scales(model: onnx.ModelProto, placed: Placement) -> onnx.ModelProto:
    """Inputs step, low and high `(groups,)` more: a tensor x becomes clip(round(x / step), low, high) * step."""
    graph = Graph(model)
    inputs = ("step", "low", "high")
    for name in inputs:
        graph.model.graph.input.append(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [len(placed.groups)])
        )
    graph.index()
    nodes = {n.name: n for n in graph.nodes}
    group = {name: k for k, names in enumerate(placed.groups) for name in names}
    added: list[onnx.NodeProto] = []

    def add(op: str, *sources: str) -> str:
        made = graph.fresh(f"{sources[0]}/{op.lower()}")
        added.append(helper.make_node(op, sources, [made], name=made))
        return made

    scalars: dict[int, list[str]] = {}
    rounded: dict[str, str] = {}
    for name, position in (*placed.edges, *placed.enlarged):
        tensor = nodes[name].input[position]
        if tensor not in rounded:
            k = group[tensor]
            if k not in scalars:
                index = graph.add_initializer(np.array(k, np.int64), f"group{k}")
                scalars[k] = [add("Gather", of, index) for of in inputs]
            step, low, high = scalars[k]
            rounded[tensor] = add("Mul", add("Clip", add("Round", add("Div", tensor, step)), low, high), step)
        nodes[name].input[position] = rounded[tensor]
    return graph.finish(added)
