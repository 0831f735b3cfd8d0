"""What a config may say beside what decides the network, and what is refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from posert.export.networks import network_of
from posert.runtime.errors import CatalogError

Edit = Callable[[dict[str, Any]], Any]


def stage(branches: int) -> dict[str, Any]:
    planes = [8, 16, 32, 64][:branches]
    return {
        "num_modules": 1,
        "num_branches": branches,
        "block": "BASIC",
        "num_blocks": [1] * branches,
        "num_channels": planes,
    }


HRNET = {
    "type": "TopdownPoseEstimator",
    "backbone": {"type": "HRNet", "extra": {f"stage{n}": stage(n) for n in (1, 2, 3, 4)}},
    "head": {"type": "HeatmapHead", "in_channels": 8, "out_channels": 3, "deconv_out_channels": None},
}
RESNET = {
    "type": "TopdownPoseEstimator",
    "backbone": {"type": "ResNet", "depth": 18},
    "head": {"type": "HeatmapHead", "in_channels": 512, "out_channels": 3},
}
OLD = {
    "type": "TopDown",
    "backbone": {"type": "ResNet", "depth": 50},
    "keypoint_head": {"type": "TopdownHeatmapSimpleHead", "in_channels": 2048, "out_channels": 3},
}
MSPN = {
    "type": "TopDown",
    "backbone": {"type": "MSPN", "num_stages": 1},
    "keypoint_head": {"type": "TopdownHeatmapMSMUHead", "num_stages": 1, "out_shape": [64, 48]},
}
POSE_RESNET = {"NAME": "pose_resnet", "NUM_JOINTS": 3, "EXTRA": {"NUM_LAYERS": 50}}


def edited(model: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of a model dict with another value at a dotted path."""
    copied = copy.deepcopy(model)
    *parents, last = path.split(".")
    inner = copied
    for parent in parents:
        inner = inner.setdefault(parent, {})
    inner[last] = value
    return copied


def keys(model: dict[str, Any], source: str) -> list[str]:
    with torch.device("meta"):
        return list(network_of(model, source).build().state_dict())


@pytest.mark.parametrize(
    ("model", "path", "value", "message"),
    [
        (RESNET, "type", "PoseLifter", "model (PoseLifter): type='PoseLifter', only TopdownPoseEstimator is known"),
        (RESNET, "surprise", 1, "model (TopdownPoseEstimator): surprise=1 is not known"),
        (RESNET, "backbone.type", "mmpretrain.VisionTransformer", "model.backbone (VisionTransformer): type="),
        (RESNET, "backbone.depth", 20, "model.backbone (ResNet): depth=20, only 18, 34, 50, 101, 152 is known"),
        (RESNET, "backbone.depth", True, "depth=True"),
        (RESNET, "backbone.dcn", {"type": "DCN"}, "model.backbone (ResNet): dcn={'type': 'DCN'} is not known"),
        (RESNET, "backbone.plugins", [], "plugins=[] is not known"),
        (RESNET, "backbone.dilations", [1, 1, 2, 4], "dilations=[1, 1, 2, 4], only 1 are known"),
        (RESNET, "backbone.strides", [1, 2, 2], "strides=[1, 2, 2], expected 4 integers"),
        (RESNET, "backbone.style", "tensorflow", "style='tensorflow', only 'pytorch', 'caffe' is known"),
        (RESNET, "backbone.in_channels", 1, "in_channels=1, only 3 is known"),
        (RESNET, "backbone.out_indices", [4], "out_indices=[4], expected some of 0 to 3"),
        (RESNET, "backbone.norm_cfg", {"type": "GN", "num_groups": 8}, "model.backbone.norm_cfg: type='GN'"),
        (RESNET, "backbone.norm_cfg", {"type": "BN", "eps": 0.001}, "model.backbone.norm_cfg: eps=0.001"),
        (RESNET, "backbone.conv_cfg", {"type": "ConvWS"}, "only plain convolutions are known"),
        (RESNET, "neck", {"type": "FPN"}, "model.neck (FPN): type='FPN' is not known behind ResNet"),
        (RESNET, "neck", {"type": "FeatureMapProcessor", "pool": 2}, "model.neck (FeatureMapProcessor): pool=2 is not"),
        (RESNET, "head.type", "SimCCHead", "model.head (SimCCHead): type='SimCCHead', behind ResNet only HeatmapHead"),
        (RESNET, "head.in_channels", 256, "in_channels=256, but what it reads has 512 channels"),
        (RESNET, "head.deconv_kernel_sizes", [4, 4, 5], "deconv_kernel_sizes=[4, 4, 5], only 2, 3, 4 are known"),
        (RESNET, "head.deconv_out_channels", [256, 256], "deconv_kernel_sizes=(4, 4, 4), expected 2 integers"),
        (RESNET, "head.final_layer", {"kernel_size": 3, "dilation": 2}, "model.head.final_layer: dilation=2"),
        (RESNET, "head.final_layer", None, "without a final layer there are 256 maps, but out_channels=3"),
        (HRNET, "backbone.type", "mmdet.HRNet", "mmdet's HRNet is not known, only MMPose's"),
        (HRNET, "backbone._scope_", "mmpretrain", "mmpretrain's HRNet is not known"),
        (RESNET, "backbone.type", "torchvision.ResNet", "torchvision's ResNet is not known, only MMPose's"),
        (RESNET, "backbone.type", "mmdet.ResNetV1d", "mmdet's ResNetV1d is not known, only MMPose's"),
        (HRNET, "backbone.extra.stage3.num_branches", 4, "model.backbone.extra.stage3: num_branches=4, only 3 is"),
        (HRNET, "backbone.extra.stage2.fuse_method", "SUM", "model.backbone.extra.stage2: fuse_method='SUM' is not"),
        (HRNET, "backbone.extra.stage2.multiscale_output", True, "multiscale_output=True is not known"),
        (HRNET, "backbone.extra.upsample", {"mode": "bicubic", "align_corners": False}, "mode='bicubic'"),
        (HRNET, "backbone.extra.stage4.multiscale_output", True, "in_channels=8, but what it reads has 64 channels"),
        (HRNET, "head.conv_out_channels", [9], "conv_kernel_sizes=(), expected 1 integers"),
        (OLD, "keypoint_head.input_transform", "multiple_select", "input_transform='multiple_select'"),
        (OLD, "keypoint_head.extra", {"final_conv_kernel": 5}, "model.keypoint_head.extra: final_conv_kernel=5"),
        (OLD, "keypoint_head.num_deconv_layers", 2, "num_deconv_filters=(256, 256, 256), expected 2 integers"),
        (OLD, "backbone.out_indices", [2, 3], "out_indices are 2"),
        (OLD, "neck", {"type": "FeatureMapProcessor"}, "model.neck (FeatureMapProcessor): type="),
        (MSPN, "keypoint_head.use_prm", True, "use_prm=True, only False is known"),
        (MSPN, "keypoint_head.num_stages", 2, "num_stages=2, only 1 is known"),
        (MSPN, "backbone.res_top_channels", 32, "res_top_channels=32, only 64 is known"),
        (POSE_RESNET, "NAME", "pose_vgg", "MODEL: NAME='pose_vgg', only 'pose_hrnet', 'pose_resnet' is known"),
        (POSE_RESNET, "EXTRA.DECONV_WITH_BIAS", True, "MODEL.EXTRA: DECONV_WITH_BIAS=True, only False is known"),
        (POSE_RESNET, "EXTRA.DILATION", 2, "MODEL.EXTRA: DILATION=2 is not known"),
        (POSE_RESNET, "WIDTH", 2, "MODEL: WIDTH=2 is not known"),
        (HRNET, "backbone.extra.stage2.num_modules", 10**9, "num_modules=1000000000, expected an integer from 1 to 64"),
        (HRNET, "backbone.extra.stage2.num_blocks", [10**9] * 2, "expected a list of integers from 1 to 64"),
        (OLD, "keypoint_head.num_deconv_layers", 10**12, "expected an integer from 0 to 64"),
        (RESNET, "head.out_channels", 10**12, "out_channels=1000000000000, expected an integer from 1 to 16384"),
        (RESNET, "head.conv_out_channels", [1] * 300, "conv_out_channels has 300 integers, expected at most 256"),
    ],
)
def test_what_is_not_known_is_refused_by_name(model: dict[str, Any], path: str, value: Any, message: str) -> None:
    source = "experiment" if "NAME" in model else "mmpose-0" if model["type"] == "TopDown" else "mmpose-1"
    network_of(model, source)
    with pytest.raises(CatalogError) as raised:
        network_of(edited(model, path, value), source)
    assert message in str(raised.value)
    assert "by ONNX (--network net.onnx) or as an nn.Module (posert.export.build)" in str(raised.value)


def test_a_network_of_more_memory_than_there_is() -> None:
    with pytest.raises(CatalogError, match="would have .* weights; the largest have 100 million"):
        network_of(edited(RESNET, "head.deconv_out_channels", [16384] * 3), "mmpose-1").check_size()


def test_what_is_missing_is_refused_by_name() -> None:
    with pytest.raises(CatalogError, match=r"model \(TopDown\): backbone is missing"):
        network_of({"type": "TopDown"}, "mmpose-0")
    with pytest.raises(CatalogError, match="model.backbone: expected a dict, found 'ResNet'"):
        network_of(edited(RESNET, "backbone", "ResNet"), "mmpose-1")
    with pytest.raises(CatalogError, match="unknown source 'mmpose-2' of a config: expected mmpose-1, mmpose-0"):
        network_of(RESNET, "mmpose-2")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pretrained", "torchvision://resnet18"),
        ("data_preprocessor", {"type": "PoseDataPreprocessor", "bgr_to_rgb": True}),
        ("test_cfg", {"flip_test": True}),
        ("backbone.init_cfg", {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}),
        ("backbone.norm_cfg", {"type": "SyncBN", "requires_grad": True, "momentum": 0.01}),
        ("backbone.norm_eval", True),
        ("backbone.frozen_stages", 1),
        ("backbone.with_cp", True),
        ("backbone.zero_init_residual", False),
        ("backbone.drop_path_rate", 0.2),
        ("backbone._scope_", "mmdet"),
        ("backbone.type", "mmdet.ResNet"),
        ("backbone.type", "mmpretrain.ResNet"),
        ("backbone.type", "mmcls.ResNet"),
        ("backbone.type", "mmpose.ResNet"),
        ("backbone.conv_cfg", None),
        ("head.loss", {"type": "KeypointMSELoss", "use_target_weight": True}),
        ("head.decoder", {"type": "MSRAHeatmap", "sigma": 2}),
        ("head.final_layer", {"kernel_size": 1}),
    ],
)
def test_what_changes_nothing_at_inference_is_accepted(path: str, value: Any) -> None:
    assert keys(edited(RESNET, path, value), "mmpose-1") == keys(RESNET, "mmpose-1")


@pytest.mark.parametrize(
    ("model", "source", "name"),
    [
        (edited(RESNET, "backbone.deep_stem", True), "mmpose-1", "resnet_18"),
        (edited(OLD, "backbone.style", "caffe"), "mmpose-0", "resnet_50_caffe"),
        (HRNET, "mmpose-1", "hrnet_w8"),
        (MSPN, "mmpose-0", "mspn_26_1"),
        (edited(POSE_RESNET, "STYLE", "caffe"), "experiment", "resnet_50_caffe"),
    ],
)
def test_names(model: dict[str, Any], source: str, name: str) -> None:
    built = network_of(model, source)
    assert built.name == name and built.outputs == 1
