"""MMPose 1.x: what is left out takes its default and is said; what no contract can say is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from posert.runtime.errors import ConfigError
from posert.tests.export.configs.made_up import contract, read

SIMCC = {"type": "SimCCLabel", "input_size": (192, 256), "sigma": (4.9, 5.66), "simcc_split_ratio": 2.0}


def version1(**changes: Any) -> dict[str, Any]:
    """A 1.x config as values; `changes` replace `codec`, `test_cfg`, ... or top-level names."""
    codec = changes.pop(
        "codec", {"type": "MSRAHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64), "sigma": 2}
    )
    pre = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "bgr_to_rgb": True}
    affine = dict(type="TopdownAffine", input_size=(192, 256), **changes.pop("affine", {}))
    pipeline = [{"type": "LoadImage"}, dict(type="GetBBoxCenterScale", **changes.pop("box", {})), affine]
    return {
        "model": {
            "type": changes.pop("type", "TopdownPoseEstimator"),
            "data_preprocessor": changes.pop("pre", pre),
            "backbone": {"type": "HRNet"},
            "head": dict(type="HeatmapHead", out_channels=17, decoder=codec, **changes.pop("head", {})),
            "test_cfg": changes.pop("test_cfg", {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": True}),
        },
        "train_dataloader": {"dataset": changes.pop("train", {"type": "CocoDataset"})},
        "test_dataloader": {"dataset": {"type": "CocoDataset", "pipeline": pipeline}},
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {},
            {
                "decode": "msra",
                "kernel": 11,
                "udp": False,
                "heatmap_udp": None,
                "padding": 1.25,
                "model_color": "RGB",
                "flip_shift": True,
            },
        ),
        (
            {"pre": {"mean": [103.53, 116.28, 123.675], "std": [57.375, 57.12, 58.395]}},
            {"model_color": "BGR", "mean": (0.406, 0.456, 0.485)},
        ),
        (
            {"pre": {"mean": [0] * 3, "std": [255] * 3, "bgr_to_rgb": False}},
            {"model_color": "BGR", "std": (1.0, 1.0, 1.0)},
        ),
        ({"pre": {"mean": [0] * 3, "std": [255] * 3, "rgb_to_bgr": True}}, {"model_color": "RGB"}),
        (
            {"pre": {"mean": [127.5], "std": [127.5], "bgr_to_rgb": True}},
            {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        ),
        ({"pre": {}}, {"mean": (0.0, 0.0, 0.0), "std": (1 / 255,) * 3}),
        ({"box": {"padding": 0.8}}, {"padding": 0.8}),
        ({"test_cfg": {}}, {"flip_shift": False}),
        (
            {"codec": {"type": "UDPHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64)}},
            {"decode": "udp_heatmap", "udp": False, "heatmap_udp": True},
        ),
        (
            {
                "codec": {"type": "UDPHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64)},
                "affine": {"use_udp": True},
            },
            {"udp": True, "heatmap_udp": None},
        ),
        ({"affine": {"use_udp": True}}, {"udp": True, "heatmap_udp": False}),
        (
            {
                "codec": [
                    [
                        {"type": "MegviiHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64), "kernel_size": k}
                        for k in (15, 5)
                    ]
                ]
            },
            {"decode": "megvii", "kernel": 5},
        ),
        (
            {
                "codec": {
                    "type": "MSRAHeatmap",
                    "input_size": (192, 256),
                    "heatmap_size": (24, 32),
                    "unbiased": True,
                    "blur_kernel_size": 17,
                }
            },
            {"decode": "unbiased", "kernel": 17, "heatmap_width": 24},
        ),
        ({"codec": SIMCC}, {"decode": "simcc", "heatmap_width": 384, "heatmap_height": 512, "flip_shift": False}),
        ({"codec": SIMCC | {"use_dark": True}}, {"decode": "simcc_dark", "kernel": 29, "kernel_y": 35}),
        (
            {"codec": SIMCC | {"simcc_split_ratio": 3.0, "sigma": 6.0}, "head": {"simcc_split_ratio": 3.0}},
            {"heatmap_width": 576, "heatmap_height": 768},
        ),
        (
            {"test_cfg": {"output_keypoint_indices": [0, 1, 2]}},
            {
                "keypoints": ("nose", "left_eye", "right_eye"),
                "flip_pairs": ((1, 2),),
                "sigmas": (0.026, 0.025, 0.025),
                "skeleton": ((1, 2), (0, 1), (0, 2)),
            },
        ),
        (
            {
                "type": "mmpose.models.TopdownPoseEstimator",
                "train": {"type": "mmpose.datasets.MpiiDataset"},
                "head": {"in_channels": 3},
            },
            None,
        ),
    ],
)
def test_version_1(tmp_path: Path, changes: dict[str, Any], fields: dict[str, Any] | None) -> None:
    if fields is None:  # 17 channels and MPII's 16 joints
        with pytest.raises(ConfigError, match="17 output channels, and the data set 'mpii' has 16 joints"):
            read(tmp_path, version1(**changes))
        return
    found = contract(tmp_path, version1(**changes))
    assert {name: getattr(found, name) for name in fields} == fields


COMBINED = {"type": "UDPHeatmap", "input_size": (192, 256), "heatmap_size": (48, 64), "heatmap_type": "combined"}


def test_combined_maps(tmp_path: Path) -> None:
    values = version1(codec=COMBINED, test_cfg={"flip_test": True, "flip_mode": "udp_combined"})
    values["model"]["head"]["out_channels"] = 51
    found = read(tmp_path, values)
    assert found.contract is not None
    assert (found.channels, found.contract.decode, len(found.contract.keypoints)) == (51, "udp_heatmap_combined", 17)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "BottomupPoseEstimator"}, "model.type is BottomupPoseEstimator.*do not help"),
        ({"type": "MyEstimator"}, "model.type is MyEstimator, which posert does not know.*--contract"),
        ({"type": "DWPoseDistiller"}, "trains one network by another"),
        ({"codec": {"type": "RegressionLabel", "input_size": (192, 256)}}, "decoder.type is RegressionLabel"),
        (
            {"codec": {"type": "MSRAHeatmap", "input_size": (192, 192), "heatmap_size": (48, 64)}},
            "decoder.input_size is",
        ),
        ({"codec": {"type": "MSRAHeatmap", "input_size": (192, 256)}}, "decoder.heatmap_size is missing"),
        ({"codec": {"type": "MSRAHeatmap", "input_size": (192, 256), "heatmap_size": (48,)}}, "a width and a height"),
        (
            {
                "codec": {
                    "type": "MSRAHeatmap",
                    "input_size": (192, 256),
                    "heatmap_size": (48, 64),
                    "blur_kernel_size": 10,
                }
            },
            "kernel",
        ),
        ({"codec": COMBINED | {"radius_factor": 0.1}, "test_cfg": {}}, "radius_factor is 0.1"),
        ({"codec": SIMCC, "head": {"simcc_split_ratio": 3.0}}, "simcc_split_ratio is 3.0"),
        ({"codec": SIMCC, "head": {"input_size": (256, 256)}}, "head.input_size"),
        ({"test_cfg": {"flip_test": True, "flip_mode": "offset"}}, "flip_mode is 'offset'"),
        ({"test_cfg": {"output_keypoint_indices": [0, 1]}}, "left_eye and right_eye swap"),
        ({"pre": {"bgr_to_rgb": True, "rgb_to_bgr": True}}, "one of bgr_to_rgb and rgb_to_bgr"),
        ({"pre": {"mean": [1, 2], "std": [1, 2]}}, "three numbers"),
        ({"pre": {"mean": [1, 2, 3]}}, "std is missing"),
        ({"train": {"type": "X", "metainfo": {"from_file": "nowhere.py"}}}, "nowhere.py.*--dataset-file"),
    ],
)
def test_version_1_refusals(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        read(tmp_path, version1(**changes))


def test_a_distillation_names_the_network_that_comes_out_of_it(tmp_path: Path) -> None:
    values = version1()
    values["model"] = {"type": "DWPoseDistiller", "student_cfg": "rtmpose/a.py", "teacher_cfg": "rtmpose/b.py"}
    told = "network of rtmpose/a.py: .*pth_transfer.py, or .*--network dw-ll_ucoco_384.onnx --config rtmpose/a.py"
    with pytest.raises(ConfigError, match=told):
        read(tmp_path, values)
    values["model"]["two_dis"] = True
    with pytest.raises(ConfigError, match="pth_transfer.py --two_dis, or"):
        read(tmp_path, values)


def test_what_version_1_leaves_out_is_said(tmp_path: Path) -> None:
    notes = " ".join(read(tmp_path, version1(pre={}, test_cfg={})).notes)
    for name in ("padding", "bgr_to_rgb", "mean", "flip_test"):
        assert name in notes
    assert "MMPose 1.x's default" in notes


def test_validation_data_stand_for_missing_test_data(tmp_path: Path) -> None:
    values = version1(box={"padding": 1.5})
    values["val_dataloader"] = values.pop("test_dataloader")
    found = read(tmp_path, values)
    assert found.fields["padding"] == 1.5 and any("val_dataloader" in note for note in found.notes)


def test_the_pipeline_of_wrapped_data(tmp_path: Path) -> None:
    values = version1(box={"padding": 1.5})
    inner = values["test_dataloader"]["dataset"]
    for wrapper in ({"type": "RepeatDataset", "dataset": inner}, {"type": "ConcatDataset", "datasets": [inner]}):
        values["test_dataloader"] = {"dataset": wrapper}
        assert read(tmp_path, values).fields["padding"] == 1.5


INFO = {
    "dataset_name": "mine",
    "keypoint_info": {
        0: {"name": "a_l", "swap": "a_r"},
        1: {"name": "a_r", "swap": "a_l"},
        2: {"name": "c", "swap": ""},
    },
    "skeleton_info": {0: {"link": ("a_l", "c")}},
    "sigmas": [0.1, 0.1, 0.2],
}


@pytest.mark.parametrize("where", ["inline", "file", "file above", "wrapped"])
def test_own_joints(tmp_path: Path, where: str) -> None:
    (tmp_path / "configs" / "inner").mkdir(parents=True)
    (tmp_path / "configs" / "inner" / "info.py").write_text(f"dataset_info = {INFO!r}")
    inline = {"type": "CocoDataset", "metainfo": INFO}
    train = {
        "inline": inline,
        "file": {"type": "CocoDataset", "metainfo": {"from_file": "info.py"}},
        "file above": {"type": "CocoDataset", "metainfo": {"from_file": "configs/inner/info.py"}},
        "wrapped": {"type": "RepeatDataset", "times": 2, "dataset": {"type": "ConcatDataset", "datasets": [inline]}},
    }[where]
    values = version1(train=train)
    values["model"]["head"]["out_channels"] = 3
    found = contract(tmp_path / "configs" / "inner", values)
    assert (found.dataset, found.keypoints, found.flip_pairs) == ("mine", ("a_l", "a_r", "c"), ((0, 1),))
    assert (found.skeleton, found.sigmas) == (((0, 2),), (0.1, 0.1, 0.2))


def test_a_swap_that_is_not_mutual(tmp_path: Path) -> None:
    info = INFO | {"keypoint_info": {0: {"name": "a", "swap": "b"}, 1: {"name": "b", "swap": ""}}, "sigmas": []}
    with pytest.raises(ConfigError, match="'a' swaps with 'b', which does not say so too"):
        read(tmp_path, version1(train={"type": "CocoDataset", "metainfo": info}))


def test_unknown_joints_leave_a_description(tmp_path: Path) -> None:
    found = read(tmp_path, version1(train={"type": "MyDataset"}, test_dataloader={"dataset": {"type": "MyDataset"}}))
    assert found.joints is None and found.contract is None
    assert "contract" in found.to_json() and "keypoints" not in found.to_json()["contract"]
