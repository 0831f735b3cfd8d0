"""Where two networks part: their tensors held against each other, layer by layer.

The graphs of a bundle name their tensors after the network's modules, and precisions keep the names; so do the modules
of the PyTorch model. ONNX Runtime computes the tensors without its own rewriting, which would merge them away: what is
compared is what each graph says. Some at a time, so that memory stays low.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ..graph.reference import Reference
from .operands import Side, normalised, takes_crops

CHUNK = 160  # tensors at a time: every chunk is a session of its own
_CALL = re.compile(r"_\d+$")  # what the exporter appends where a module is called again

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """One tensor of both networks.

    Attributes:
        name: of the node that makes it, such as "stage2.0.branches.1.0.conv2".
        op: of that node, "Conv".
        error: relative L2 error; `largest` the largest absolute difference.
        inherited: the largest error of the layers that it reads.
    """

    name: str
    op: str
    error: float
    largest: float
    inherited: float


@dataclass(frozen=True)
class Parting:
    """How two networks drift apart.

    Attributes:
        layers: all tensors that both have, in the order in which they are computed.
        first: the first whose error is above `bound`; None if there is none.
        bound: relative L2 error that the coarser of the two precisions explains.
    """

    layers: tuple[Layer, ...]
    first: Layer | None
    bound: float

    def jumps(self, count: int = 5) -> list[Layer]:
        """The layers that add most to the error of what they read."""
        return sorted(self.layers, key=lambda layer: layer.inherited - layer.error)[:count]


class Network(Protocol):
    """A network whose tensors can be asked for."""

    names: set[str]

    def run(self, wanted: Sequence[str], crops: NDArray[np.uint8]) -> Arrays:
        """The tensors of these names."""
        ...


class GraphLayers:
    """The tensors of an ONNX graph."""

    def __init__(self, graph: bytes, contract: Contract | None) -> None:
        self._model, self._contract = onnx.load_from_string(graph), contract
        self._plain = not takes_crops(graph)
        if self._plain and contract is None:
            raise InputError("a plain graph takes normalised images: compare it with a graph of its bundle")
        self.nodes = {name: node for node in self._model.graph.node for name in node.output}
        self.names = set(self.nodes)

    def run(self, wanted: Sequence[str], crops: NDArray[np.uint8]) -> Arrays:
        """See `Network.run`."""
        graph = self._model.graph
        kept = [onnx.ValueInfoProto.FromString(o.SerializeToString()) for o in graph.output]
        del graph.output[:]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)  # its type ONNX Runtime knows
        data = self._model.SerializeToString()
        del graph.output[:]
        graph.output.extend(kept)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        feed = normalised(crops, self._contract) if self._plain and self._contract else crops
        return dict(zip(wanted, session.run(list(wanted), {session.get_inputs()[0].name: feed}), strict=True))

    def sources(self, shared: set[str]) -> dict[str, set[str]]:
        """For each tensor the nearest ones before it that are in `shared`."""
        nearest: dict[str, set[str]] = {}
        found: dict[str, set[str]] = {}
        for node in self._model.graph.node:
            before: set[str] = set().union(*(nearest.get(i, set()) for i in node.input))
            for output in node.output:
                found[output] = before
                nearest[output] = {output} if output in shared else before
        return found


class ModuleLayers:
    """The outputs of the convolutions and norms of the PyTorch model, by the names of the graphs' tensors.

    The exporter folds a batch-norm into the convolution before it, whose name the result has: here the norm's output
    takes the place of the convolution's, unless the graph has the norm as well.
    """

    def __init__(self, reference: Reference, tensors: Mapping[str, str]) -> None:
        """`tensors`: of the graph, by the name of the node that makes it."""
        self._reference, self._tensors = reference, tensors
        kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
        self._modules: dict[nn.Module, str] = {
            m: n for n, m in reference.network.named_modules() if isinstance(m, kinds)
        }
        known = set(self._modules.values())
        self.names = {tensor for node, tensor in tensors.items() if _CALL.sub("", node) in known or node in known}

    def run(self, wanted: Sequence[str], crops: NDArray[np.uint8]) -> Arrays:
        """See `Network.run`."""
        kept: Arrays = {}
        calls: Counter[str] = Counter()
        made: dict[int, str] = {}
        alive: list[Tensor] = []  # an id is a tensor's own for as long as the tensor is there

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            name = self._modules[module]
            calls[name] += 1
            node = name if calls[name] == 1 else f"{name}_{calls[name]}"
            if isinstance(module, nn.BatchNorm2d) and node not in self._tensors:
                node = made.get(id(inputs[0]), node)
            made[id(output)] = node
            alive.append(output)
            if self._tensors.get(node) in wanted:
                kept[self._tensors[node]] = output.numpy().copy()  # what follows may write into it

        hooks = [module.register_forward_hook(hook) for module in self._modules]
        try:
            with torch.inference_mode():
                self._reference(torch.from_numpy(crops))
        finally:
            for handle in hooks:
                handle.remove()
        return kept


def part(a: Side, b: Side, crops: NDArray[np.uint8], bound: float) -> Parting | None:
    """Compare all tensors that both networks have; None where one shows none (an engine, TorchScript).

    Args:
        a, b: the two; errors are relative to the first.
        crops: `(N, H, W, 3)` uint8 BGR to run.
        bound: relative L2 error above which they have parted.
    """
    contract = a.contract or b.contract
    graphs = [GraphLayers(side.graph, contract) if side.graph else None for side in (a, b)]
    wired = graphs[0] or graphs[1]
    if wired is None:
        return None
    networks: list[Network] = []
    for side, graph in zip((a, b), graphs, strict=True):
        if graph is not None:
            networks.append(graph)
        elif side.reference is not None:
            networks.append(ModuleLayers(side.reference, {n.name: n.output[0] for n in wired.nodes.values()}))
        else:
            return None
    shared = networks[0].names & networks[1].names
    order = [name for name in wired.nodes if name in shared]
    errors: dict[str, tuple[float, float]] = {}
    for names in _chunks(order, CHUNK):
        one, two = (network.run(names, crops) for network in networks)
        errors.update({n: _error(one[n], two[n]) for n in names if n in one and n in two and _floats(one[n], two[n])})
    sources = wired.sources(set(errors))
    layers = tuple(
        Layer(
            wired.nodes[name].name or name,
            wired.nodes[name].op_type,
            *errors[name],
            max((errors[s][0] for s in sources[name]), default=0.0),
        )
        for name in order
        if name in errors
    )
    return Parting(layers, next((layer for layer in layers if not layer.error <= bound), None), bound)


def _chunks(names: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (names[i : i + size] for i in range(0, len(names), size))


def _floats(one: NDArray[Any], two: NDArray[Any]) -> bool:
    return one.dtype.kind == two.dtype.kind == "f" and one.shape == two.shape


def _error(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float]:
    wide, other = one.astype(np.float32), two.astype(np.float32)
    difference = other - wide
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(wide)), 1e-12)), float(np.abs(difference).max())
