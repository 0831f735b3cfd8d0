"""Where the weights of a build come from: the publisher, a file, the demo, or chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..runtime.errors import CheckpointError
from . import checkpoint
from .catalog import Row
from .demo import demo_weights
from .download import Progress

DEMO_NOTE = "demo weights: a narrow network trained on synthetic people; its figures say nothing about real photographs"
RANDOM_NOTE = "random weights: the tools can be tried, the keypoints mean nothing"


@dataclass(frozen=True)
class Provenance:
    """What the manifest says about the weights.

    Attributes:
        source: "auto", "file", "demo" or "random".
        file: file name, None where there is none.
        sha256: of the file, None where there is none.
        layout: whose key names the file used.
        note: what a reader of its figures must know.
    """

    source: str
    file: str | None = None
    sha256: str | None = None
    layout: str | None = None
    note: str = ""

    @property
    def trained(self) -> bool:
        """Whether accuracy means anything for these weights."""
        return self.source != "random"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def load_weights(row: Row, network: nn.Module, weights: str, progress: Progress | None = None) -> Provenance:
    """Fill a network with the weights that `--weights` names: "auto", "demo", "random" or a file.

    Raises:
        CheckpointError: they cannot be had, or do not fit; the message says what else can be done.
    """
    if weights == "random":
        network.load_state_dict(checkpoint.random_weights(network))
        return Provenance("random", note=RANDOM_NOTE)
    if weights == "demo":
        if row.dataset != "coco":
            raise CheckpointError(
                f"demo weights have COCO's 17 joints, {row.id} has those of {row.dataset}: use a COCO row"
            )
        network.load_state_dict(demo_weights(row.arch))
        return Provenance("demo", note=DEMO_NOTE)
    path = checkpoint.fetch(row, progress) if weights == "auto" else Path(weights)
    found = checkpoint.load(path, network)
    network.load_state_dict(found.state_dict)
    return Provenance("auto" if weights == "auto" else "file", path.name, found.sha256, found.layout)
