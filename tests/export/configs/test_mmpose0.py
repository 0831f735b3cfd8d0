"""MMPose 0.x, in its older spellings too: what is left out takes its default and is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posert.runtime.errors import ConfigError
from posert.tests.export.configs.made_up import contract, read


def version0(**changes: Any) -> dict[str, Any]:
    """A 0.x config as values."""
    pipeline = [
        dict(type="LoadImageFromFile", **changes.pop("load", {})),
        *([{"type": "TopDownGetBboxCenterScale", "padding": 1.25}] if changes.pop("boxed", True) else []),
        dict(type="TopDownAffine", **changes.pop("affine", {})),
        {"type": "ToTensor"},
        {"type": "NormalizeTensor", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    ]
    sizes = dict(image_size=[192, 256], heatmap_size=[48, 64], **changes.pop("sizes", {}))
    test = {"type": changes.pop("dataset", "TopDownCocoDataset"), "data_cfg": sizes, "pipeline": pipeline}
    head = {"type": changes.pop("head", "TopdownHeatmapSimpleHead"), "out_channels": changes.pop("channels", 17)}
    return {
        "model": {
            "type": "TopDown",
            "backbone": {"type": "HRNet"},
            "keypoint_head": head,
            "test_cfg": changes.pop("test_cfg", {"flip_test": True, "post_process": "default", "shift_heatmap": True}),
        },
        "data": {"test": test | changes.pop("test", {})},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {},
            {
                "decode": "default",
                "udp": False,
                "heatmap_udp": None,
                "padding": 1.25,
                "model_color": "RGB",
                "flip_shift": True,
                "heatmap_width": 48,
            },
        ),
        ({"load": {"channel_order": "bgr"}}, {"model_color": "BGR"}),
        (
            {"test_cfg": {"flip_test": True, "post_process": True, "unbiased_decoding": True, "modulate_kernel": 17}},
            {"decode": "unbiased", "kernel": 17, "flip_shift": False},
        ),
        (
            {"test_cfg": {"flip_test": True, "post_process": True, "unbiased_decoding": False, "shift_heatmap": True}},
            {"decode": "default"},
        ),
        ({"test_cfg": {"post_process": None}}, {"decode": "none"}),
        ({"test_cfg": {"post_process": False}}, {"decode": "none"}),
        ({"test_cfg": {}}, {"decode": "default", "flip_shift": False}),
        ({"test_cfg": {"post_process": "megvii", "modulate_kernel": 5}}, {"decode": "megvii", "kernel": 5}),
        (
            {
                "test_cfg": {
                    "post_process": "default",
                    "use_udp": True,
                    "target_type": "GaussianHeatMap",
                    "modulate_kernel": 11,
                },
                "affine": {"use_udp": True},
            },
            {"decode": "udp", "udp": True, "heatmap_udp": None},
        ),
        ({"test_cfg": {"use_udp": True}}, {"decode": "udp", "udp": False, "heatmap_udp": True}),
        ({"test_cfg": {"use_udp": True, "target_type": "CombinedTarget"}, "channels": 51}, {"decode": "udp_combined"}),
        ({"boxed": False}, {"padding": 1.25}),
        ({"boxed": False, "dataset": "TopDownFreiHandDataset", "channels": 21}, {"padding": 0.8}),
        (
            {"boxed": False, "dataset": "PanopticDataset", "channels": 21},
            {"padding": 1.76, "dataset": "panoptic_hand2d"},
        ),
        (
            {"boxed": False, "dataset": "AnimalFlyDataset", "channels": 32},
            {"padding": 0.8, "dataset": "fly", "sigmas": ()},
        ),
        ({"head": "TopDownSimpleHead"}, {"decode": "default"}),
        ({"sizes": {"inference_channel": [0, 1]}}, {"dataset": "coco"}),
    ],
)
def test_version_0(tmp_path: Path, changes: dict[str, Any], fields: dict[str, Any]) -> None:
    found = contract(tmp_path, version0(**changes))
    assert {name: getattr(found, name) for name in fields} == fields


def test_version_0_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, version0(test_cfg={}, boxed=False))
    assert found.flip_test
    notes = " ".join(found.notes)
    for name in ("flip_test", "post_process", "shift_heatmap", "padding", "channel_order"):
        assert name in notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "DeepposeRegressionHead"}, "DeepposeRegressionHead: it gives coordinates"),
        ({"test_cfg": {"post_process": "other"}}, "post_process is 'other'"),
        ({"test_cfg": {"post_process": "megvii", "use_udp": True}}, "post_process is 'megvii'"),
        ({"test_cfg": {"target_type": "CombinedTarget"}}, "use_udp"),
        ({"test_cfg": {"post_process": None, "unbiased_decoding": True}}, "unbiased_decoding"),
        ({"load": {"channel_order": "gray"}}, "channel_order is 'gray'"),
        ({"channels": 16}, "16 output channels"),
    ],
)
def test_version_0_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, version0(**changes))
