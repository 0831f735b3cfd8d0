"""What a build starts from: a published row, a network with weights of your own, or an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...runtime.bundle.contract import Contract
from ...runtime.system.progress import Report
from ..archs import build_arch
from ..catalog import Row
from ..graph.from_onnx import from_onnx
from ..graph.onnx_reference import OnnxReference
from ..graph.reference import Reference
from ..graph.to_onnx import OPSET
from ..weights import checkpoint
from ..weights.dialect import check_dialect
from ..weights.load import Provenance, load_weights


@dataclass(frozen=True)
class Loaded:
    """A network with its weights.

    Attributes:
        reference: what every graph is compared with; its contract is the one of these weights.
        provenance: where the weights come from.
        facts: what the manifest says of the model: id, arch, dataset, source, stages.
        published: the published figures, and whether they are of these weights.
    """

    reference: Reference | OnnxReference
    provenance: Provenance
    facts: dict[str, Any]
    published: dict[str, Any] = field(default_factory=lambda: {"published": {}})


class Model(Protocol):
    """What a build starts from.

    Attributes:
        name: of the bundle.
        title: the model and its weights in a line, for the user.
        contract: as far as it is known without the weights.
        weights: "auto", "demo", "random", or the name of a file.
        note: what else the user should know.
    """

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def contract(self) -> Contract: ...
    @property
    def weights(self) -> str: ...
    @property
    def note(self) -> str: ...

    def load(self, report: Report) -> Loaded:
        """The network with its weights.

        Raises:
            PosertError: the weights cannot be had, or do not fit; the output differs from what the contract reads.
        """
        ...


@dataclass(frozen=True)
class PublishedModel:
    """A row of the catalog with `weights`, see `load_weights`; `stages`: stop after this one, None: run all."""

    row: Row
    weights: str = "auto"
    stages: int | None = None

    @property
    def name(self) -> str:
        """Such as "hrnet_w32-coco-256x192" or "mspn_50_4-coco-256x192-stage2"."""
        row = self.row
        return f"{row.arch}-{row.dataset}-{row.height}x{row.width}" + (f"-stage{self.stages}" if self.stages else "")

    @property
    def title(self) -> str:
        """See `Model`."""
        row, stage = self.row, f"stage {self.stages}, " if self.stages else ""
        size = f"{row.height}x{row.width} (height x width)"
        return f"{row.id}: {row.arch} on {row.dataset}, {stage}crop {size}, weights {self.weights}"

    @property
    def contract(self) -> Contract:
        """That of the row's own weights; others may change it, see `Row.with_layout`."""
        return self.row.contract()

    @property
    def note(self) -> str:
        """The row's."""
        return self.row.note

    def load(self, report: Report) -> Loaded:
        """See `Model`."""
        row = self.row
        network = build_arch(row.arch, row.channels, self.stages)
        if self.weights == "random":  # which are settled on an image of the row's size: it must be one that fits
            Reference(network, row.contract()).check_output()
        found = load_weights(row, network, self.weights, lambda done, total: report("download", done, total or 0))
        if found.layout is not None:
            # Colour order and decode rule follow the file: MMPose's pose_resnet saw RGB, the HRNet repository's BGR.
            row = row.with_layout(found.layout)
        reference = Reference(network, row.contract())
        reference.check_output()
        facts = {"id": row.id, "arch": row.arch, "dataset": row.dataset, "source": row.source, "stages": self.stages}
        return Loaded(reference, found, facts, found.published(row, self.stages))


@dataclass(frozen=True)
class OwnModel:
    """A network with a contract that no row describes.

    Attributes:
        build: makes the network, which maps normalised images `(N, 3, H, W)` to what the contract's rule reads.
        select: the channels that come out, of a network that has more joints than its contract; empty: all.
        file: its checkpoint; None: `build` gives it with its weights.
        arch, source: what the manifest says of the network and of where its contract comes from.
    """

    build: Callable[[], nn.Module]
    contract: Contract
    arch: str
    file: Path | None = None
    source: str = ""
    note: str = ""
    select: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Such as "hrnet-mouse-256x256"."""
        return _name(self.arch, self.contract)

    @property
    def title(self) -> str:
        """See `Model`."""
        return _title(self.arch, self.contract, self.weights)

    @property
    def weights(self) -> str:
        """See `Model`."""
        return self.file.name if self.file else "of the given network"

    def load(self, report: Report) -> Loaded:
        """See `Model`."""
        network, made = self.build().eval(), Provenance("network", note=self.note)
        if self.file is not None:
            found = checkpoint.load(self.file, network)
            network.load_state_dict(found.state_dict)
            note = "; ".join(filter(None, (self.note, check_dialect(self.source, found.layout, self.file))))
            made = Provenance("file", self.file.name, found.sha256, found.layout, note)
        reference = Reference(_Selected(network, self.select) if self.select else network, self.contract)
        reference.check_output()
        return Loaded(reference, made, _facts(self))


class _Selected(nn.Module):
    """A network of which some channels of each output come out."""

    channels: Tensor

    def __init__(self, network: nn.Module, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("channels", torch.tensor(channels), persistent=False)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs = self.network(images)
        if isinstance(outputs, Tensor):
            return outputs[:, self.channels]
        return tuple(output[:, self.channels] for output in outputs)


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file of a network; it is its own reference."""

    file: Path
    contract: Contract
    opset: int = OPSET
    source: str = ""
    note: str = ""
    arch = "onnx"

    @property
    def name(self) -> str:
        """Such as "network-mouse-256x256"."""
        return _name(self.file.stem, self.contract)

    @property
    def title(self) -> str:
        """See `Model`."""
        return _title("network", self.contract, self.weights)

    @property
    def weights(self) -> str:
        """See `Model`."""
        return self.file.name

    def load(self, report: Report) -> Loaded:
        """See `Model`."""
        graph = from_onnx(self.file, self.contract, self.opset)
        reference = OnnxReference(graph, self.contract)
        reference.check_output()
        notes = ["the reference is the ONNX file: no PyTorch model was compared", *graph.notes]
        note = "; ".join([*notes, self.note] if self.note else notes)
        made = Provenance("file", self.file.name, checkpoint.sha256(self.file), "onnx", note)
        return Loaded(reference, made, _facts(self))


def _name(arch: str, contract: Contract) -> str:
    return f"{arch}-{contract.dataset}-{contract.height}x{contract.width}"


def _title(arch: str, contract: Contract, weights: str) -> str:
    size = f"{contract.height}x{contract.width} (height x width)"
    return f"{arch} with the {len(contract.keypoints)} joints of {contract.dataset}, crop {size}, weights {weights}"


def _facts(model: OwnModel | OnnxModel) -> dict[str, Any]:
    dataset = model.contract.dataset
    return {"id": model.name, "arch": model.arch, "dataset": dataset, "source": model.source, "stages": None}
