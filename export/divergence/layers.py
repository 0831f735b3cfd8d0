"""Where two networks diverge: their tensors compared layer by layer.

All graphs of a bundle name their tensors after the modules of the PyTorch model, so tensors match by name. ONNX Runtime
runs without graph optimisation, which would fuse tensors away. Tensors are compared some at a time to limit memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ..graph.reference import Reference
from ..graph.to_onnx import run
from .operands import ModelRef, normalised, takes_crops

CHUNK = 160  # tensors at a time; each chunk needs its own session
_CALL = re.compile(r"_\d+$")  # what the exporter appends where a module is called again

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """The error of one tensor that both networks have."""

    name: str  # of the node that produces it, such as "stage2.0.branches.1.0.conv2"
    op: str  # operator of that node, such as "Conv"
    error: float  # relative L2 error
    largest: float  # largest absolute difference
    inherited: float  # the largest error of the layers that it reads


@dataclass(frozen=True)
class LayerDivergence:
    """The errors of all tensors that both networks have, in the order of computation; `first` is above the bound."""

    layers: tuple[Layer, ...]
    first: Layer | None

    def jumps(self, count: int = 5) -> list[Layer]:
        """The layers that add most to the error of their inputs."""
        return sorted(self.layers, key=lambda layer: layer.inherited - layer.error)[:count]


class GraphLayers:
    """The tensors of an ONNX graph."""

    def __init__(self, graph: bytes, contract: Contract | None) -> None:
        self._model, self._contract = onnx.load_from_string(graph), contract
        self._plain = not takes_crops(graph)
        if self._plain and contract is None:
            raise InputError("a plain graph takes normalised images; compare it with a graph of its bundle")
        self.nodes = {name: node for node in self._model.graph.node for name in node.output}
        self.names = set(self.nodes)

    def run(self, wanted: Sequence[str], crops: NDArray[np.uint8]) -> Arrays:
        """The tensors of these names, computed from crops `(N, H, W, 3)` uint8 BGR."""
        graph = self._model.graph
        del graph.output[:]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)  # ONNX Runtime infers the type
        feed = normalised(crops, self._contract) if self._plain and self._contract else crops
        return dict(zip(wanted, run(self._model, {graph.input[0].name: feed}, optimised=False), strict=True))

    def sources(self, shared: set[str]) -> dict[str, set[str]]:
        """For each tensor its nearest predecessors that are in `shared`."""
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

    The exporter folds a batch-norm into the convolution before it, and the result has the convolution's name. So the
    norm's output replaces the convolution's here, unless the graph has the norm as well.
    """

    def __init__(self, reference: Reference, tensors: Mapping[str, str]) -> None:
        """`tensors`: name of each tensor of the graph by the name of the node that produces it."""
        self._reference, self._tensors = reference, tensors
        kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)
        self._modules: dict[nn.Module, str] = {
            m: n for n, m in reference.network.named_modules() if isinstance(m, kinds)
        }
        known = set(self._modules.values())
        self.names = {tensor for node, tensor in tensors.items() if _CALL.sub("", node) in known or node in known}

    def run(self, wanted: Sequence[str], crops: NDArray[np.uint8]) -> Arrays:
        """As `GraphLayers.run`."""
        kept: Arrays = {}
        calls: Counter[str] = Counter()
        made: dict[int, str] = {}
        alive: list[Tensor] = []  # keeps ids unique: they are reused when a tensor is freed

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            name = self._modules[module]
            calls[name] += 1
            node = name if calls[name] == 1 else f"{name}_{calls[name]}"
            if isinstance(module, nn.BatchNorm2d) and node not in self._tensors:
                node = made.get(id(inputs[0]), node)
            made[id(output)] = node
            alive.append(output)
            if self._tensors.get(node) in wanted:
                kept[self._tensors[node]] = output.numpy().copy()  # later modules may write into it

        hooks = [module.register_forward_hook(hook) for module in self._modules]
        try:
            with torch.inference_mode():
                self._reference(torch.from_numpy(crops))
        finally:
            for handle in hooks:
                handle.remove()
        return kept


def compare_layers(a: ModelRef, b: ModelRef, crops: NDArray[np.uint8], bound: float) -> LayerDivergence | None:
    """Compare all tensors that both networks have; None if one has no readable tensors (an engine, TorchScript).

    Args:
        a, b: the models; errors are relative to the first.
        crops: `(N, H, W, 3)` uint8 BGR to run.
        bound: relative L2 error above which a layer counts as diverged.
    """
    contract = a.contract or b.contract
    graphs = [GraphLayers(model.graph, contract) if model.graph else None for model in (a, b)]
    known = graphs[0] or graphs[1]
    if known is None:
        return None
    networks: list[GraphLayers | ModuleLayers] = []
    for model, graph in zip((a, b), graphs, strict=True):
        if graph is not None:
            networks.append(graph)
        elif model.reference is not None:
            networks.append(ModuleLayers(model.reference, {n.name: n.output[0] for n in known.nodes.values()}))
        else:
            return None
    shared = networks[0].names & networks[1].names
    order = [name for name in known.nodes if name in shared]
    errors: dict[str, tuple[float, float]] = {}
    for start in range(0, len(order), CHUNK):
        one, two = (network.run(order[start : start + CHUNK], crops) for network in networks)
        for name in one.keys() & two.keys():
            if one[name].dtype.kind == two[name].dtype.kind == "f" and one[name].shape == two[name].shape:
                errors[name] = _error(one[name], two[name])
    sources = known.sources(set(errors))
    layers = tuple(
        Layer(
            known.nodes[name].name or name,
            known.nodes[name].op_type,
            *errors[name],
            max((errors[s][0] for s in sources[name]), default=0.0),
        )
        for name in order
        if name in errors
    )
    return LayerDivergence(layers, next((layer for layer in layers if not layer.error <= bound), None))


def _error(one: NDArray[Any], two: NDArray[Any]) -> tuple[float, float]:
    wide, other = one.astype(np.float32), two.astype(np.float32)
    difference = other - wide
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(wide)), 1e-12)), float(np.abs(difference).max())
