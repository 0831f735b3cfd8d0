"""A narrow, shallow network inside a wide, deep one of the same family, which then computes the same function.

Training hrnet_w32 takes days on a GPU; training a narrow HRNet takes an hour on a CPU core. Embedded, its weights give
a network of full size, cost and topology that really finds (synthetic) people: added channels are zero, and added
residual blocks and exchange modules pass on what they get, which is never negative, so their ReLUs change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ...runtime.errors import CheckpointError
from ..archs import build_arch

_MODULE = re.compile(r"(stage\d)\.(\d+)\.(.*)")


def embed(narrow: Mapping[str, Tensor], arch: str) -> dict[str, Tensor]:
    """Weights of `arch` that compute what the network with the state dict `narrow` computes.

    It is of the same family, nowhere wider or deeper than `arch`. Raises CheckpointError: a weight has no place there.
    """
    with torch.device("meta"):
        wide = build_arch(arch, keypoints=len(narrow["final_layer.weight"])).state_dict()
    # A variance of one keeps the batch-norms of added channels finite; with all else zero, so is what they give out.
    state = {
        key: torch.ones(value.shape) if key.endswith("running_var") else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in wide.items()
    }
    later = {stage: count - _modules(narrow)[stage] for stage, count in _modules(wide).items()}
    for key, value in narrow.items():
        if match := _MODULE.fullmatch(key):
            # The last module of a network is the one that gives out a single branch: keep last what was last.
            stage, number, rest = match.groups()
            key = f"{stage}.{int(number) + later[stage]}.{rest}"
        shape = tuple(state[key].shape) if key in state else None
        if shape is None or len(shape) != value.dim() or any(a > b for a, b in zip(value.shape, shape, strict=True)):
            raise CheckpointError(
                f"{key} {tuple(value.shape)} does not fit into {arch}, which has {shape or 'no such weight'}: "
                "the embedded network must be of the same family, and nowhere wider or deeper"
            )
        state[key][tuple(slice(n) for n in value.shape)] = value
    return state


def _modules(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Exchange modules per stage of an HRNet; nothing for other families."""
    counts: dict[str, int] = {}
    for key in state:
        if match := _MODULE.fullmatch(key):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    return counts
