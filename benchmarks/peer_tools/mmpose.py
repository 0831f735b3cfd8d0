"""MMPose: `inference_topdown` in PyTorch, with the configuration that MMPose ships for the model."""

from __future__ import annotations

import sys
import types
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .adapter import Adapter, Inputs, Joints, UnavailableError

_CONFIGS = "configs/body_2d_keypoint/topdown_heatmap/coco"
CONFIGS = {
    "mm_hrnet_w32_coco_256x192": f"{_CONFIGS}/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py",
    "mm_hrnet_w32_coco_384x288": f"{_CONFIGS}/td-hm_hrnet-w32_8xb64-210e_coco-384x288.py",
    "mm_hrnet_w48_coco_256x192": f"{_CONFIGS}/td-hm_hrnet-w48_8xb32-210e_coco-256x192.py",
    "mm_hrnet_w48_coco_384x288": f"{_CONFIGS}/td-hm_hrnet-w48_8xb32-210e_coco-384x288.py",
}
"""Models that MMPose can run with our weights, because these have the same names there."""


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def open_adapter(inputs: Inputs) -> Adapter:
    """The same weights in MMPose's own network, without flip test."""
    if inputs["row"] not in CONFIGS:
        raise UnavailableError(f"no MMPose configuration is known for {inputs['row']}, only for {', '.join(CONFIGS)}")
    # mmpose imports them at its start. There is no CPU build of mmcv's compiled operators for current PyTorch, and
    # torchvision must fit PyTorch's build; heatmap networks touch neither.
    for module in ("mmcv.ops", "torchvision", "torchvision.transforms"):
        sys.modules[module] = _StandIn(module)
    import mmpose
    from mmpose.apis import inference_topdown, init_model

    config = Path(mmpose.__file__).parent / ".mim" / CONFIGS[inputs["row"]]
    model = init_model(
        str(config),
        device="cpu",
        cfg_options={"model.test_cfg.flip_test": False, "model.backbone.init_cfg": None},
    )
    state = {_name(key): value for key, value in torch.load(inputs["weights"]).items()}
    model.load_state_dict(state)

    def call(frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> Joints:
        found = [sample.pred_instances for sample in inference_topdown(model, frame, boxes)]
        return (
            np.concatenate([people.keypoints for people in found]),
            np.concatenate([people.keypoint_scores for people in found]),
        )

    description = {
        "tool": f"MMPose {version('mmpose')} on PyTorch {torch.__version__}",
        "precision": "fp32",
        "threads": torch.get_num_threads(),
        "people": "a batch",
        "decode": "its own, argmax and a quarter offset",
        "pipeline": "its own, inference_topdown, flip test off",
    }
    return Adapter(call, description)


def _name(key: str) -> str:
    """A weight's name in MMPose 1.x."""
    return f"head.{key}" if key.startswith("final_layer.") else f"backbone.{key}"
