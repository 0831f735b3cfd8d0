"""Ranges of activations, seen while the float32 network runs over calibration crops; memory does not grow with crops.

One observer per tensor: its extremes, and for methods that clip a histogram whose bins double in width whenever a
value falls outside. Bin widths are powers of two and bin edges multiples of them, so merging pairs is exact: the order
of the crops and their batches leave no trace, and the result equals that of all crops at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from .graph import float_tensors

_BINS = 8192  # per side of zero: a percentile is read to 1/4096 of the largest magnitude or better
_CHUNK_BYTES = 256 << 20  # of observed tensors alive at once; keeps hrnet_w48 at 384x288 under 1 GB
_CHUNK_VALUES = 1 << 23  # cv2.calcHist counts in float32, which is exact up to 2**24


@dataclass(frozen=True)
class Range:
    """The interval of values that a quantised tensor must be able to tell apart; always holds zero."""

    lo: float
    hi: float

    @property
    def amax(self) -> float:
        """The largest magnitude, on which a symmetric scale rests."""
        return max(-self.lo, self.hi)

    def __or__(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.lo, other.lo), max(self.hi, other.hi))


class Extremes:
    """Smallest and largest value of a stream; NaN and infinities come through as they are."""

    def __init__(self) -> None:
        self.lo = math.inf
        self.hi = -math.inf

    def update(self, values: NDArray[np.float32]) -> bool:
        """Take more values in; False, and nothing taken, when one of them is not finite."""
        lo, hi = float(values.min()), float(values.max())
        if not (math.isfinite(lo) and math.isfinite(hi)):
            return False
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)
        return True


class Histogram(Extremes):
    """Counts of a stream's values in equal bins around zero, exact for any order and batching.

    Attributes:
        counts: (2 * bins,) int64; the middle edge is zero.
        exponent: a bin is 2**exponent wide.
    """

    def __init__(self, bins: int = _BINS) -> None:
        super().__init__()
        self.bins = bins
        self.counts: NDArray[np.int64] = np.zeros(2 * bins, np.int64)
        self.exponent = -126

    def update(self, values: NDArray[np.float32]) -> bool:
        if not super().update(values):
            return False
        limit = max(-self.lo, self.hi)
        # frexp: limit < 2**power; the widest bin edge lies strictly outside every value.
        power = math.frexp(limit)[1] if limit > 0 else -126
        while self.exponent < power - int(math.log2(self.bins)):
            self._widen()
        edge = math.ldexp(self.bins, self.exponent)
        flat = values.reshape(-1)
        for k in range(0, flat.size, _CHUNK_VALUES):
            part = flat[k : k + _CHUNK_VALUES]
            counted = cv2.calcHist([part[None]], [0], None, [2 * self.bins], [-edge, edge])
            self.counts += counted.reshape(-1).astype(np.int64)
        return True

    def quantile(self, fraction: float) -> float:
        """The value below which `fraction` of the stream lies, linear within a bin."""
        wanted = fraction * self.counts.sum()
        below = np.concatenate([[0], np.cumsum(self.counts)])
        k = int(np.clip(np.searchsorted(below, wanted, side="left") - 1, 0, len(self.counts) - 1))
        inside = (wanted - below[k]) / max(int(self.counts[k]), 1)
        value = math.ldexp(k - self.bins + inside, self.exponent)
        return min(max(value, self.lo), self.hi)

    def _widen(self) -> None:
        """Double the width of every bin; zero stays an edge because the number of bins per side is even."""
        if not self.counts.any():
            self.exponent += 1
            return
        pairs = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts[:] = 0
        self.counts[self.bins // 2 : self.bins // 2 + self.bins] = pairs
        self.exponent += 1


def minmax(seen: Extremes) -> Range:
    """Everything seen; clips nothing, and is what the heatmap's rare peaks need."""
    return Range(min(seen.lo, 0.0), max(seen.hi, 0.0))


def percentile(seen: Histogram, percent: float) -> Range:
    """The values between the (100 - percent)th and the percent-th percentile."""
    return Range(min(seen.quantile(1 - percent / 100), 0.0), max(seen.quantile(percent / 100), 0.0))


_DEFAULT_PERCENT = 99.999
METHODS = ("minmax", "percentile")


def collect(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    tensors: Iterable[str],
    method: str = "minmax",
    *,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
) -> dict[str, Range]:
    """Run the float32 network over calibration crops and find the range of each wanted tensor.

    Args:
        model: float32 graph with one input and a free batch size.
        batches: arrays for that input, (N, H, W, 3) uint8 crops for a bundle's graph, any N.
        tensors: names of the tensors to observe, as `qdq.Placement.tensors` lists them.
        method: "minmax", or "percentile" (99.999) or "percentile:99.99".
        progress: called with the number of crops done so far.
        threads: of the float32 network; 0 takes all cores.

    Raises:
        CalibrationError: no crops, an unknown tensor or method, or a value that is not finite (its node is named).
    """
    finish, observer = _method(method)
    observers = observe(model, batches, tensors, observer, progress=progress, threads=threads)
    return {name: finish(seen) for name, seen in observers.items()}


def observe(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    tensors: Iterable[str],
    observer: Callable[[], Extremes],
    *,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
) -> dict[str, Any]:
    """What `collect` rests on: one `observer()` per tensor, fed with every crop. Same arguments, same errors."""
    wanted = list(dict.fromkeys(tensors))
    known = float_tensors(model)
    for name in wanted:
        if name not in known:
            raise CalibrationError(unknown_name("float32 tensor", name, known))
    if len(model.graph.input) != 1:
        names = ", ".join(i.name for i in model.graph.input)
        raise CalibrationError(f"the graph has the inputs {names}; calibration feeds exactly one input of crops")
    source = model.graph.input[0].name
    session = _session(model, [name for name in wanted if name != source], threads)
    observers = {name: observer() for name in wanted}
    outputs = [name for name in wanted if name != source]
    done, size = 0, 1  # the first crop goes alone: it tells how many bytes a crop costs
    for batch in batches:
        start = 0
        while start < len(batch):
            chunk = batch[start : start + size]
            values = dict(zip(outputs, session.run(outputs, {source: chunk}), strict=True)) if outputs else {}
            if source in observers:
                values[source] = chunk
            for name in wanted:
                if not observers[name].update(values[name]):
                    raise CalibrationError(_not_finite(model, source, chunk, done, threads))
            start, done = start + len(chunk), done + len(chunk)
            bytes_per_crop = sum(v.nbytes for v in values.values()) // len(chunk)
            size = max(1, min(8, _CHUNK_BYTES // max(bytes_per_crop, 1)))
            if progress is not None:
                progress(done)
    if done == 0:
        raise CalibrationError("the calibration set is empty: ranges need at least one crop; a few hundred are usual")
    return observers


def _method(method: str) -> tuple[Callable[[Any], Range], Callable[[], Extremes]]:
    kind, _, argument = method.partition(":")
    if kind not in METHODS:
        raise CalibrationError(unknown_name("range method", kind, METHODS))
    if kind == "minmax":
        if argument:
            raise CalibrationError(f"the range method 'minmax' takes no argument, but {method!r} was asked for")
        return minmax, Extremes
    try:
        percent = float(argument) if argument else _DEFAULT_PERCENT
    except ValueError:
        percent = math.nan
    if not 50 < percent <= 100:
        raise CalibrationError(
            f"range method {method!r}: the percentile must be above 50 and at most 100, as in percentile:99.99"
        )
    return lambda seen: percentile(seen, percent), Histogram


def _session(model: onnx.ModelProto, outputs: Sequence[str], threads: int) -> onnxruntime.InferenceSession:
    """The network with further tensors as outputs."""
    present = {o.name for o in model.graph.output}
    more = onnx.ModelProto()
    more.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs if n not in present
    )
    # Concatenated protobuf messages merge: this appends outputs without a copy of the weights in memory.
    merged = model.SerializeToString() + more.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # the arena would keep the largest chunk of outputs ever seen
    return onnxruntime.InferenceSession(merged, options, providers=["CPUExecutionProvider"])


def _not_finite(model: onnx.ModelProto, source: str, chunk: NDArray[Any], done: int, threads: int) -> str:
    """Message that names the node where a NaN or an infinity first appears, by running the crops once more."""
    known = float_tensors(model)
    if source in known and not np.isfinite(chunk).all():
        bad = next(i for i, crop in enumerate(chunk) if not np.isfinite(crop).all())
        return f"calibration crop {done + bad} holds NaN or infinity in the graph input {source!r}; mend the crop"
    nodes = [n for n in model.graph.node if n.output[0] in known]
    names = [n.output[0] for n in nodes]
    session = _session(model, names, threads)
    for i in range(len(chunk)):
        for node, values in zip(nodes, session.run(names, {source: chunk[i : i + 1]}), strict=True):
            if not np.isfinite(values).all():
                kind = "NaN" if np.isnan(values).any() else "infinity"
                return (
                    f"node {node.name or node.output[0]!r} ({node.op_type}) gives {kind} for calibration crop "
                    f"{done + i}, from finite inputs. The float32 network is broken there: check its weights."
                )
    return f"calibration crops {done} to {done + len(chunk) - 1} give values that are not finite"
