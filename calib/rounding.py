"""Weights rounded so that the errors of a layer's output cancel, and a bias that takes up their mean.

Neighbouring inputs of a convolution are alike. If one weight is rounded up, the next can be rounded down for it: the
error of the output is that of the weights times the inputs, and their covariance H over calibration crops says what
cancels.
The weights of an output channel are rounded one by one, and each error is taken up by those not yet rounded, as the
Cholesky factor of H says (GPTQ, Frantar et al., ICLR 2023; it is Babai's nearest plane, Chen et al. 2025). The rounding
noise of the inputs themselves is on H's diagonal.

No label is used, and nothing is fitted but the direction of roundings, with ranges and scales as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .graph import Graph
from .observers import Range
from .patches import Phase, gather, matrices, phases
from .placement import Placement, output_axis
from .ranges import chunks

_BLOCK = 576  # weights that are rounded together: 64 channels of a 3x3 kernel. Larger blocks gain little and cost much
_PATCHES = 16  # per weight of a block, over all crops
_DAMPING = 1e-3  # of the mean of H's diagonal: what so few patches cannot know
_MEMORY = 256 << 20  # of covariances at a time; deeper networks take more passes over the crops

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Rounded:
    """The rounding of a layer's weights.

    Attributes:
        change: int8, of the weights' shape: levels away from the nearest.
        scales: `(O,)` float32, one per output channel; exact in float16.
        shift: `(O,)` float32, to be added to the bias.
    """

    change: NDArray[np.int8]
    scales: NDArray[np.float32]
    shift: NDArray[np.float32]


def weight_scales(
    weights: NDArray[np.float32], axis: int, dtype: type[np.floating[Any]] = np.float16
) -> NDArray[np.float32]:
    """Scales `(O,)` that cover the weights of each output channel, rounded up to what `dtype` can hold."""
    others = tuple(k for k in range(weights.ndim) if k != axis)
    return representable(np.abs(weights).max(axis=others).astype(np.float64) / 127, dtype).astype(np.float32)


def representable(scales: Float, dtype: type[np.floating[Any]]) -> Float:
    """Scales as a graph of that type will store them, rounded up so that they cover the range; 1 where it is zero.

    In float16 a small scale has few bits: the weights must be rounded with the scale that will be used.
    """
    scales = np.where(scales == 0, 1.0, np.maximum(scales, float(np.finfo(np.float16).smallest_subnormal)))
    near = scales.astype(dtype)
    above = np.nextafter(near, np.array(np.inf, dtype)).astype(np.float64)
    return np.where(near < scales, above, near.astype(np.float64))


def nearest(weights: NDArray[np.float32], scales: NDArray[Any], axis: int) -> NDArray[np.int8]:
    """Each weight's nearest level, -127 to 127."""
    shape = [-1 if k == axis else 1 for k in range(weights.ndim)]
    return np.clip(np.rint(weights / scales.astype(np.float64).reshape(shape)), -127, 127).astype(np.int8)


def learn_rounding(
    graph: Graph,
    placement: Placement,
    ranges: Mapping[str, Range],
    crops: Sequence[NDArray[Any]],
    *,
    threads: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Rounded]:
    """The rounding of every layer that `placement` quantises, by its node's name.

    Args:
        graph: the float32 network, its channels equalised.
        placement: of it.
        ranges: of its tensors.
        crops: batches for its input; the same each time they are iterated over.
        threads: of the network; 0 uses all cores.
        progress: called with (layers done, layers in all).
    """
    nodes = [node for node in graph.nodes if node.name in placement.layers]
    found: dict[str, Rounded] = {}
    waiting, count = list(nodes), sum(len(batch) for batch in crops)
    while waiting:
        some: list[_Layer] = []
        held = 0
        while waiting and (not some or held < _MEMORY):
            some.append(_Layer(graph, waiting.pop(0)))
            held += some[-1].memory
        names = list(dict.fromkeys(layer.source for layer in some))
        done = 0
        for chunk, values in chunks(graph.model, crops, names, threads):
            for layer in some:
                for i, one in enumerate(values[layer.source]):
                    layer.observe(one, done + i, count)
            done += len(chunk)
        for layer in some:
            seen = ranges[layer.source]
            found[layer.node.name] = layer.round((seen.hi - seen.lo) / 255)
            progress(len(found), len(nodes))
    return found


class _Layer:
    """A layer's weights, and the covariances of what they are multiplied with."""

    def __init__(self, graph: Graph, node: onnx.NodeProto) -> None:
        self.node, self.source = node, node.input[0]
        self.weights = graph.array(node.input[1])
        self.axis = output_axis(node)
        self.blocks: list[_Block] = []
        self._phases: list[Phase] | None = None
        taps = int(np.prod(self.weights.shape[2:]))
        inputs = self.weights.shape[1 - self.axis]
        self.memory = 4 * inputs * taps * min(inputs * taps, _BLOCK)

    def observe(self, values: NDArray[np.float32], index: int, crops: int) -> None:
        """Add patches of the layer's input for one crop."""
        if self.weights.ndim == 2:
            values = values.reshape(-1, values.shape[-1]).T[:, None]  # rows as the columns of a map
        if self._phases is None:
            self._phases = phases(self.node, self.weights.shape[2:], values.shape[1:]) or []
            self.blocks = [
                _Block(p, channels, index)
                for p in self._phases
                for channels, index in _blocks(self.node, self.weights, p)
            ]
        drawn: dict[int, NDArray[np.intp]] = {}
        for block in self.blocks:
            size = (1, values.shape[2]) if self.weights.ndim == 2 else block.phase.size
            wanted = -(-_PATCHES * min(_BLOCK, block.width) // crops)
            if id(block.phase) not in drawn:
                rng = np.random.default_rng([zlib.crc32(self.node.name.encode()), index])
                total = size[0] * size[1]
                drawn[id(block.phase)] = np.sort(rng.choice(total, min(total, wanted), replace=False))
            positions = drawn[id(block.phase)]
            part = values[block.channels]
            if self.weights.ndim == 2:
                block.add(part[:, 0, positions].T)
            else:
                block.add(gather(part, block.phase, positions))

    def round(self, step: float) -> Rounded:
        """Round the weights for inputs that are quantised in this step."""
        scales = weight_scales(self.weights, self.axis)
        levels = nearest(self.weights, scales, self.axis)
        plain = levels.copy()
        shift = np.zeros(len(scales))
        broadcast = scales.astype(np.float64).reshape([-1 if k == self.axis else 1 for k in range(self.weights.ndim)])
        exact = self.weights / broadcast
        scale = np.broadcast_to(broadcast, self.weights.shape)
        for block in self.blocks:
            target = exact[block.index]
            rounded = _nearest_plane(target.reshape(len(target), -1), block.covariance(step))
            levels[block.index] = rounded.reshape(target.shape)
            error = (target - levels[block.index]) * scale[block.index]
            moved = error.reshape(len(target), -1) @ block.mean
            shift[block.index[self.axis].reshape(-1)] += moved / len(self._phases or [1])
        return Rounded(levels - plain, scales, shift.astype(np.float32))


def _blocks(
    node: onnx.NodeProto, weights: NDArray[np.float32], phase: Phase
) -> Iterable[tuple[slice, tuple[NDArray[np.intp], ...]]]:
    """Cut the matrices of a phase into blocks of input channels."""
    taps = len(phase.taps[0]) * len(phase.taps[1])
    for channels, index in matrices(node, weights, phase):
        at_once = max(1, _BLOCK // taps)
        count = channels.stop - channels.start
        for first in range(0, count, at_once):
            part = slice(first, min(first + at_once, count))
            # the input channel is the second axis of every index array that varies along it
            cut = tuple(k[:, part] if k.ndim > 1 and k.shape[1] == count else k for k in index)
            yield slice(channels.start + part.start, channels.start + part.stop), cut


class _Block:
    """Mean and covariance of the patches of some input channels."""

    def __init__(self, phase: Phase, channels: slice, index: tuple[NDArray[np.intp], ...]) -> None:
        self.phase, self.channels, self.index = phase, channels, index
        self.width = (channels.stop - channels.start) * len(phase.taps[0]) * len(phase.taps[1])
        self.count = 0
        self._origin: NDArray[np.float32] | None = None

    def add(self, patches: NDArray[np.float32]) -> None:
        if self._origin is None:  # sums of squares of centred values keep small variances apart from large means
            self._origin = patches.mean(axis=0, dtype=np.float32)
            self._sum: Float = np.zeros(self.width)
            self._squares: NDArray[np.float32] = np.zeros((self.width, self.width), np.float32)
        centred = patches - self._origin
        self.count += len(centred)
        self._sum += centred.sum(axis=0, dtype=np.float64)
        self._squares += centred.T @ centred

    @property
    def mean(self) -> Float:
        assert self._origin is not None
        return self._origin + self._sum / self.count

    def covariance(self, step: float) -> Float:
        """With the rounding noise of inputs in steps of `step`, damped."""
        mean = self._sum / self.count
        found = self._squares.astype(np.float64) / self.count - np.outer(mean, mean)
        variance = np.maximum(np.diagonal(found), 0) + step**2 / 12
        np.fill_diagonal(found, variance + _DAMPING * max(float(variance.mean()), 1e-30))
        return found


def _nearest_plane(weights: Float, covariance: Float) -> NDArray[np.int8]:
    """Round weights `(O, d)` to integers from -127 to 127 so that their errors cost little under `(d, d)`."""
    order = np.argsort(np.diagonal(covariance), kind="stable")  # the largest is rounded first, with all others free
    factor = np.linalg.cholesky(covariance[np.ix_(order, order)])
    factor = np.ascontiguousarray((factor / np.diagonal(factor)).T)  # row j: the shares of j's error in those after it
    target = np.ascontiguousarray(weights[:, order].T)
    rounded, error = np.empty_like(target), np.zeros_like(target)
    for j in range(len(target) - 1, -1, -1):
        wanted = target[j] + factor[j, j + 1 :] @ error[j + 1 :]
        rounded[j] = np.clip(np.rint(wanted), -127, 127)
        error[j] = target[j] - rounded[j]
    result = np.empty_like(rounded)
    result[order] = rounded
    return result.T.astype(np.int8)
