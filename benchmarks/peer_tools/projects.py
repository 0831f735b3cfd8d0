"""Adapters of posert itself and of other projects, a function each, which imports its library."""

from __future__ import annotations

import sys
import types
from collections import deque
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .adapter import Adapter, Boxes, Image, Inputs, Joints, UnavailableError, described

_FRAMES = 12
"""Of the video that one call of posert in throughput mode processes."""
_CONFIGS = "configs/body_2d_keypoint/topdown_heatmap/coco"
CONFIGS = {
    "mm_hrnet_w32_coco_256x192": f"{_CONFIGS}/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py",
    "mm_hrnet_w32_coco_384x288": f"{_CONFIGS}/td-hm_hrnet-w32_8xb64-210e_coco-384x288.py",
    "mm_hrnet_w48_coco_256x192": f"{_CONFIGS}/td-hm_hrnet-w48_8xb32-210e_coco-256x192.py",
    "mm_hrnet_w48_coco_384x288": f"{_CONFIGS}/td-hm_hrnet-w48_8xb32-210e_coco-384x288.py",
}
"""Models that MMPose can run with our weights, because these have the same names there."""


def posert(inputs: Inputs) -> Adapter:
    """The bundle on OpenVINO, in the options `precision` and `mode` ("latency" or "throughput")."""
    from ...runtime.errors import PosertError
    from ...runtime.estimator import PoseEstimator

    stream, precision = inputs["mode"] == "throughput", inputs["precision"]
    try:
        pose = PoseEstimator(inputs["bundle"], backend="openvino", precision=precision, throughput=stream)
    except PosertError as error:
        raise UnavailableError(str(error)) from error

    def call(frame: Image, boxes: Boxes) -> Joints:
        if stream:
            (found,) = deque(pose.stream((frame, boxes) for _ in range(_FRAMES)), maxlen=1)
        else:
            found = pose(frame, boxes)
        return found.xy, found.score

    tool = f"posert {version('posert')} on OpenVINO {version('openvino')}"
    pipeline = f"a video of {_FRAMES} frames, overlapped" if stream else "frame by frame"
    decode = f"the model's own, rule {pose.contract.decode}"
    return Adapter(call, described(tool, decode, pipeline, precision=precision), _FRAMES if stream else 1)


def rtmlib(inputs: Inputs) -> Adapter:
    """rtmlib, whose class for heatmap networks is ViTPose: its own crops, ONNX Runtime, and its own decoding."""
    import cv2
    import rtmlib as library

    if inputs["padding"] != 1.25:
        raise UnavailableError(f"rtmlib pads boxes by 1.25; this model needs {inputs['padding']}")
    size, mean, std = (inputs["width"], inputs["height"]), tuple(inputs["mean"]), tuple(inputs["std"])
    estimator = library.ViTPose(
        inputs["onnx"], model_input_size=size, mean=mean, std=std, backend="onnxruntime", device="cpu"
    )

    def call(frame: Image, boxes: Boxes) -> Joints:
        # It leaves the channels as they are.
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) if inputs["model_color"] == "RGB" else frame
        xy, score = estimator(image, boxes.tolist())
        return xy, score

    tool = f"rtmlib {version('rtmlib')} on ONNX Runtime {version('onnxruntime')}"
    return Adapter(call, described(tool, "DARK-UDP, the only one for heatmaps", "its own", people="one by one"))


def mmdeploy(inputs: Inputs) -> Adapter:
    """MMDeploy's C++ SDK on the folder that `inputs.write_sdk_folder` wrote for the option `batch`."""
    import mmdeploy_runtime

    folder = f"{inputs['sdk']}-{inputs['batch']}"
    detector = mmdeploy_runtime.PoseDetector(model_path=folder, device_name="cpu", device_id=0)

    def call(frame: Image, boxes: Boxes) -> Joints:
        # Its boxes include their last pixel.
        joints = detector(frame, (boxes - [0, 0, 1, 1]).tolist())
        return joints[..., :2], joints[..., 2]

    tool = f"mmdeploy-runtime {version('mmdeploy-runtime')}, its ONNX Runtime"
    people = "one by one" if inputs["batch"] == 1 else "a batch"
    return Adapter(call, described(tool, f"C++, rule {inputs['decode']}", "C++", people=people))


class _StandIn(types.ModuleType):
    """A module whose every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def mmpose(inputs: Inputs) -> Adapter:
    """MMPose's `inference_topdown` with its own configuration and network and the same weights, without flip test."""
    if inputs["row"] not in CONFIGS:
        raise UnavailableError(f"no MMPose configuration is known for {inputs['row']}, only for {', '.join(CONFIGS)}")
    # mmpose imports them at its start. There is no CPU build of mmcv's compiled operators for current PyTorch, and
    # torchvision must fit PyTorch's build; heatmap networks touch neither.
    for module in ("mmcv.ops", "torchvision", "torchvision.transforms"):
        sys.modules[module] = _StandIn(module)
    import mmpose as library
    import torch
    from mmpose.apis import inference_topdown, init_model

    config = str(Path(library.__file__).parent / ".mim" / CONFIGS[inputs["row"]])
    without = {"model.test_cfg.flip_test": False, "model.backbone.init_cfg": None}
    model = init_model(config, device="cpu", cfg_options=without)
    part = {True: "head", False: "backbone"}  # as MMPose 1.x names weights
    state = torch.load(inputs["weights"]).items()
    model.load_state_dict({f"{part[key.startswith('final_layer.')]}.{key}": value for key, value in state})

    def call(frame: Image, boxes: Boxes) -> Joints:
        found = [sample.pred_instances for sample in inference_topdown(model, frame, boxes)]
        xy, score = ([getattr(people, name) for people in found] for name in ("keypoints", "keypoint_scores"))
        return np.concatenate(xy), np.concatenate(score)

    tool = f"MMPose {version('mmpose')} on PyTorch {torch.__version__}"
    decode, pipeline = "its own, argmax and a quarter offset", "its own, inference_topdown, flip test off"
    return Adapter(call, described(tool, decode, pipeline, threads=torch.get_num_threads()))
