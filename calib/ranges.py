"""Ranges of activations, collected while the float32 network runs over calibration crops, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from ..runtime.errors import CalibrationError
from ..runtime.registry import unknown_name
from ..runtime.system.files import TemporaryFolder
from .clipping import find_range
from .graph import float_tensors
from .observers import Observer, Range

# Mean relative change. On photographs it is 0.02 to 0.05 from a dozen instances on, and four times as many lower no
# drift; ranges that are off by 0.26 or more do cost (docs/decisions.md, "Precision").
_SETTLED = 0.1
_CHUNK_BYTES = 16 << 20  # of observed tensors alive at once; larger ones are not faster


class Ranges(dict[str, Range]):
    """Ranges by tensor name, and how they converged.

    Attributes:
        curve: (crops, change) each time the number of crops had doubled: the mean relative change of the largest
            magnitudes since the previous point.
    """

    def __init__(self, ranges: Mapping[str, Range], curve: Sequence[tuple[int, float]] = ()) -> None:
        super().__init__(ranges)
        self.curve = list(curve)

    @property
    def settled(self) -> bool:
        """Whether the last doubling of the number of crops changed the ranges too little to be seen in the joints."""
        return bool(self.curve) and self.curve[-1][1] < _SETTLED

    def to_json(self) -> dict[str, Any]:
        """As JSON values, readable and exact: {"ranges": {tensor: [lo, hi]}, "curve": [[crops, change]]}."""
        return {"ranges": {name: [r.lo, r.hi] for name, r in self.items()}, "curve": [list(p) for p in self.curve]}


@dataclass
class CalibrationState:
    """The state of a calibration, enough to resume it or to merge it with another.

    Attributes:
        crops: how many were observed.
        chunk: batch size of the next run of the network.
        due: at how many crops the next point of the curve is.
        before: ranges at the curve's last point.
        curve: see `Ranges`.
        observers: by tensor.
    """

    crops: int = 0
    chunk: int = 1  # the first crop runs alone, to measure how many bytes a crop needs
    due: int = 1
    before: dict[str, Range] = field(default_factory=dict)
    curve: list[tuple[int, float]] = field(default_factory=list)
    observers: dict[str, Observer] = field(default_factory=dict)


def collect(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    tensors: Iterable[str],
    *,
    progress: Callable[[int], None] | None = None,
    threads: int = 0,
    state: CalibrationState | None = None,
) -> Ranges:
    """Run the float32 network over calibration crops and find the range of each wanted tensor, see clipping.py.

    Args:
        model: float32 graph with one input and a free batch size.
        batches: arrays for that input, (N, H, W, 3) uint8 crops for a bundle's graph, any N.
        tensors: names of the tensors to observe, as `Placement.tensors` lists them.
        progress: called with the number of crops observed so far.
        threads: of the float32 network; 0 uses all cores.
        state: of an interrupted call with the same arguments, whose crops are skipped. It is up to date whenever
            `progress` is called, and complete at the end.

    Raises:
        CalibrationError: there are no crops, a tensor is unknown, or a value is not finite (its node is named).
    """
    wanted = list(dict.fromkeys(tensors))
    known = float_tensors(model)
    for name in wanted:
        if name not in known:
            raise CalibrationError(unknown_name("float32 tensor", name, known))
    if len(model.graph.input) != 1:
        names = ", ".join(i.name for i in model.graph.input)
        raise CalibrationError(f"the graph has the inputs {names}; calibration feeds exactly one input of crops")
    source = model.graph.input[0].name
    state = state or CalibrationState()
    observers = state.observers = state.observers or {name: Observer() for name in wanted}
    for chunk, values in chunks(model, batches, wanted, threads, state.crops, state.chunk):
        for name in wanted:
            if not observers[name].update(values[name]):
                raise CalibrationError(_not_finite(model, source, chunk, state.crops, threads))
        state.crops += len(chunk)
        state.chunk = next_chunk(chunk, values)
        if state.crops >= state.due:
            now = {name: find_range(one) for name, one in observers.items()}
            if state.before:
                state.curve.append((state.crops, mean_change(state.before, now)))
            state.before, state.due = now, 2 * state.crops
        if progress is not None:
            progress(state.crops)
    if state.crops == 0:
        raise CalibrationError("the calibration set is empty: ranges need at least one crop; a few hundred are usual")
    return Ranges({name: find_range(one) for name, one in observers.items()}, state.curve)


def chunks(
    model: onnx.ModelProto,
    batches: Iterable[NDArray[Any]],
    tensors: Sequence[str],
    threads: int = 0,
    skip: int = 0,
    size: int = 1,
) -> Iterator[tuple[NDArray[Any], dict[str, NDArray[Any]]]]:
    """Run the network over crops, in chunks that hold few of the tensors' bytes at a time.

    Args:
        model, batches, threads: as for `collect`.
        tensors: that are wanted.
        skip: so many crops are not run.
        size: of the first chunk.

    Yields:
        A chunk, and the tensors' values for it by name.
    """
    source = model.graph.input[0].name
    outputs = [name for name in tensors if name != source]
    session = _session(model, outputs, threads)
    for batch in batches:
        start = min(skip, len(batch))
        skip -= start
        while start < len(batch):
            chunk = batch[start : start + size]
            values = dict(zip(outputs, session.run(outputs, {source: chunk}), strict=True)) if outputs else {}
            if source in tensors:
                values[source] = chunk
            start += len(chunk)
            size = next_chunk(chunk, values)
            yield chunk, values


def next_chunk(chunk: NDArray[Any], values: Mapping[str, NDArray[Any]]) -> int:
    """How many crops to run at once, from how many bytes the last ones took."""
    bytes_per_crop = sum(v.nbytes for v in values.values()) // len(chunk)
    return max(1, min(8, _CHUNK_BYTES // max(bytes_per_crop, 1)))


def mean_change(before: Mapping[str, Range], now: Mapping[str, Range]) -> float:
    """Mean relative change of the largest magnitudes."""
    return float(np.mean([abs(r.amax - before[name].amax) / r.amax if r.amax > 0 else 0.0 for name, r in now.items()]))


def _session(model: onnx.ModelProto, outputs: Sequence[str], threads: int) -> onnxruntime.InferenceSession:
    """The network with more tensors as outputs."""
    present = {o.name for o in model.graph.output}
    more = onnx.ModelProto()
    more.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs if n not in present
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # the arena would keep memory for the largest chunk of outputs
    # The next level stores every convolution's weights a second time, in a layout that is not faster here.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with TemporaryFolder("ranges") as folder:
        path = Path(folder, "model.onnx")  # a session made from bytes would keep them in memory
        with path.open("wb") as file:
            # Concatenated protobuf messages merge: this appends outputs without copying the network.
            file.write(model.SerializeToString())
            file.write(more.SerializeToString())
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _not_finite(model: onnx.ModelProto, source: str, chunk: NDArray[Any], done: int, threads: int) -> str:
    """Error message that names the node where a NaN or an infinity first appears; runs the crops again to find it."""
    known = float_tensors(model)
    if source in known and not np.isfinite(chunk).all():
        bad = next(i for i, crop in enumerate(chunk) if not np.isfinite(crop).all())
        return f"calibration crop {done + bad} holds NaN or infinity in the graph input {source!r}; fix that crop"
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
