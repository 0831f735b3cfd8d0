"""How code bases spell the keys of their checkpoints, and the same keys as the networks in `archs` spell them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...runtime.errors import CheckpointError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How a code base spells the keys of its checkpoints."""

    name: str  # family as in the catalog, and a version where it matters after a dash
    mark: str  # pattern that some key of this layout matches, and no key of the layouts after it
    # From its keys to those of the networks in `archs`: the first pattern that matches a key is replaced.
    rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()
    drop: str = r"$^"  # pattern of entries that are no weights
    whole_head: bool = False  # the convolutions of the head and its last layer are one sequence, final_layer
    biased: bool = False  # convolutions before a batch-norm have a bias; it is folded into the batch-norm's mean


def _megvii_head(m: re.Match[str]) -> str:
    """Stage S, unit U (from 1) and layer R (from 1) count on as heads 4 * S + U - 1 and layers R - 1."""
    stage, unit, layer = (int(g) for g in m.groups())
    return f"predict_layers.{4 * stage + unit - 1}.conv_layers.{layer - 1}."


LAYOUTS = (
    Layout(
        "mmpose-1.x-distiller",
        r"^student\.",
        ((r"^student\.(backbone|head)\.", ""),),
        drop=r"^(teacher|distill_losses)\.|^(student\.)?data_preprocessor\.",
    ),
    Layout("mmpose-1.x", r"^head\.", ((r"^(backbone|head)\.", ""),), drop=r"^data_preprocessor\."),
    Layout(
        "mmpose-0.x",
        r"^(backbone|keypoint_head)\.",
        ((r"^(backbone|keypoint_head)\.", ""),),
        drop=r"^ema_",  # copies for a moving average; the weights that count have their own names
        whole_head=True,
    ),
    Layout(
        "megvii",
        r"\.conv_bn_relu\d\.",
        (
            (r"^top\.conv\.", "top.top.0."),
            (r"^stage(\d+)\.(.*)\.conv_bn_relu(\d)\.(conv|bn)\.", r"multi_stage_mspn.\1.\2.\4\3."),
            (r"^stage(\d+)\.upsample\.up(\d)\.res_conv(\d)\.", _megvii_head),
            (r"^stage(\d+)\.(upsample\.up\d)\.u_skip\.", r"multi_stage_mspn.\1.\2.in_skip."),
            (r"^stage(\d+)\.(upsample\.up\d)\.skip(\d)\.", r"multi_stage_mspn.\1.\2.out_skip\3."),
            (r"^stage(\d+)\.", r"multi_stage_mspn.\1."),
        ),
        biased=True,
    ),
    Layout("original", ""),
)
"""MMPose 1.x (and what its distiller saves: of these the student), MMPose 0.x, Megvii's MSPN, and the repositories in
which the other architectures first appeared."""


def recognise(state: Mapping[str, Tensor]) -> tuple[State, Layout]:
    """The layout of a state dict, and its entries under the names that the networks in `archs` use.

    Raises CheckpointError: a distillation's, of which it is not clear what belongs to its result.
    """
    state = unwrap(state)
    _check_stage_of_distillation(state)
    layout = next(x for x in LAYOUTS if any(re.search(x.mark, key) for key in state) or not x.mark)
    kept = {key: value for key, value in state.items() if not re.search(layout.drop, key)}
    if layout.biased:
        for key in [key for key in kept if key.endswith(".conv.bias")]:
            mean = key.removesuffix("conv.bias") + "bn.running_mean"
            if mean in kept:
                kept[mean] = kept[mean] - kept.pop(key)
    kept = {_rename(key, layout): value for key, value in kept.items()}
    return _split_head(kept) if layout.whole_head else kept, layout


def _check_stage_of_distillation(state: Mapping[str, Tensor]) -> None:
    """DWPose's second stage trains the student's head on the teacher's backbone; the student's own is left random.

    Only the first stage compares features, by a layer with weights of its own.
    """
    prefixes = {key.partition(".")[0] for key in state}
    if {"student", "teacher"} <= prefixes and "distill_losses" not in prefixes:
        raise CheckpointError(
            "these are the weights of a distillation, whose second stage leaves the student's backbone random, and "
            "nothing here says which stage it was. Take the network's weights out with MMPose's "
            "tools/misc/pth_transfer.py, for the second stage with --two_dis"
        )


def _split_head(state: State) -> State:
    """The last entries of the sequence `final_layer` under this name, those before it as `conv_layers`."""
    numbered = {key: int(m[1]) for key in state if (m := re.match(r"final_layer\.(\d+)\.", key))}
    last = max(numbered.values(), default=0)

    def name(key: str) -> str:
        if key not in numbered:
            return key
        old, new = (f"final_layer.{last}", "final_layer") if numbered[key] == last else ("final_layer", "conv_layers")
        return key.replace(old, new, 1)

    return {name(key): value for key, value in state.items()}


def unwrap(state: Mapping[str, Tensor]) -> State:
    """Without what a training script puts around its network: DataParallel, or an attribute called model."""
    while state and (prefix := next((p for p in ("module.", "model.") if all(k.startswith(p) for k in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def _rename(key: str, layout: Layout) -> str:
    for pattern, replacement in layout.rules:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    return key
