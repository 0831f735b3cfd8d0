"""Whether weights are of the code base that a description is of: names of layers show it, results depend on it."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import CheckpointError

_KEYS = {"mmpose-1.x": "backbone. and head.", "mmpose-0.x": "backbone. and keypoint_head."}
_NAMES = {"mmpose-1.x": "MMPose 1.x", "mmpose-0.x": "MMPose 0.x"}


def check_dialect(source: str, layout: str, file: Path) -> str:
    """What a reader must know about weights of one code base with a description of another; empty if nothing.

    Args:
        source: what the contract comes from, as `Description.source` says it; empty: not from a training's file.
        layout: of the weights, see `Checkpoint.layout`.
        file: of the weights.

    Raises:
        CheckpointError: the code base of the description could not have loaded these weights, and decodes otherwise
            than the one that saved them.
    """
    layout = layout.removesuffix("-distiller")
    old, new = source.startswith("MMPose 0.x"), source.startswith("MMPose 1.x")
    experiment = "experiment" in source
    if (old and layout == "mmpose-1.x") or (experiment and layout in _NAMES):
        raise CheckpointError(
            f"{file.name} is of {_NAMES[layout]} (its keys begin with {_KEYS[layout]}), and the given file is an "
            f"{source}, which decodes otherwise: give the config that these weights were trained with (--config)"
            + (", or the contract with --contract" if experiment else "")
        )
    if new and layout == "mmpose-0.x":  # MMPose 1.x loads such files, and its model zoo has many
        return f"{file.name} is of MMPose 0.x; it is decoded as the given {source} says"
    if (old or new) and layout == "original":
        return (
            f"the keys of {file.name} are without backbone. and head., so MMPose did not save it; weights of the HRNet "
            "repository need its YAML (--experiment), as colours and decoding differ"
        )
    return ""
