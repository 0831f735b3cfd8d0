"""What network a state dict is of, by the names and shapes of its weights alone; for messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Blocks of the four layers of a ResNet -> its depth.
_DEPTHS = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
# A pattern of keys that only this kind of network has; the first that fits counts.
_KINDS = (
    (r"(^|\.)(rpn_head|roi_heads?|bbox_head|anchor_generator|detect)\.|^(model\.)?\d+\.(cv2|cv3|dfl)\.", "a detector"),
    (r"(^|\.)(cls_x|mlp_head_x)\.", "a SimCC network (RTMPose)"),
    (r"(^|\.)(patch_embed|pos_embed)|\.attn\.", "a transformer"),
    (r"^stage\d\.\d\.(main_conv|.*\.main_conv)\.", "a CSPNeXt"),
    (r"(^|\.)multi_stage_mspn\.", "an MSPN"),
    (r"(^|\.)(hourglass_modules|hgs?|hourglass)\.", "a stacked hourglass"),
    (r"(^|\.)fc\.weight$|_regression\.|\.flow\.", "a network that gives coordinates and no heatmaps"),
    (r"(^|\.)features\.\d+\.", "a network of one sequence of layers, such as VGG or MobileNet"),
)


@dataclass(frozen=True)
class Likeness:
    """What a state dict is of.

    Attributes:
        network: with its article, such as "an HRNet of width 32".
        outputs: maps or vectors that its last layer gives; None where that is not seen.
    """

    network: str
    outputs: int | None

    def __str__(self) -> str:
        return self.network + (f" with {self.outputs} outputs" if self.outputs is not None else "")


def likeness(state: Mapping[str, Tensor]) -> Likeness:
    """What network a state dict is of; its keys are those that `layouts.recognise` gives."""
    return Likeness(_hrnet(state) or _resnet(state) or _other(state), _outputs(state))


def _hrnet(state: Mapping[str, Tensor]) -> str:
    if "transition1.0.0.weight" not in state:
        return ""
    last = max((int(m[1]) for key in state if (m := re.match(r"stage4\.(\d+)\.", key))), default=0)
    concatenated = any(key.startswith(f"stage4.{last}.fuse_layers.3.") for key in state)
    head = " whose scales are concatenated" if concatenated else ""
    return f"an HRNet of width {state['transition1.0.0.weight'].shape[0]}{head}"


def _resnet(state: Mapping[str, Tensor]) -> str:
    layers = [{m[1] for key in state if (m := re.match(rf"layer{n}\.(\d+)\.", key))} for n in (1, 2, 3, 4)]
    one, two, three, four = map(len, layers)
    blocks = one, two, three, four
    if not all(blocks):
        return ""
    bottleneck = any(key.startswith("layer1.0.conv3.") for key in state)
    depth = 50 if blocks == (3, 4, 6, 3) and bottleneck else _DEPTHS.get(blocks, f"of {blocks} blocks")
    kind = "SE-ResNet" if any(".se_layer." in key for key in state) else "ResNet"
    raised = len({m[1] for key, v in state.items() if (m := re.match(r"deconv_layers\.(\d+)\.", key)) and v.ndim == 4})
    return f"a {kind} {depth}" + (f" with {raised} deconvolutions" if raised else "")


def _other(state: Mapping[str, Tensor]) -> str:
    for pattern, name in _KINDS:
        if any(re.search(pattern, key) for key in state):
            return name
    return f"a network that posert does not know (its first weights are {', '.join(list(state)[:3])})"


def _outputs(state: Mapping[str, Tensor]) -> int | None:
    names = (r"(^|\.)final_layer(\.\d+)*\.weight$", r"(^|\.)(score|out|predictor)(\.\d+)?\.weight$")
    for name in names:
        found = [value.shape[0] for key, value in state.items() if re.search(name, key) and value.ndim == 4]
        if found:
            return int(found[-1])
    return None
