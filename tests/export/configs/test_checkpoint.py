"""A checkpoint's own description, read without torch and without running anything of it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posert.export.configs import read_description
from posert.export.configs.checkpoint import read_meta
from posert.export.configs.pickles import plain
from posert.export.weights.training import read_weights
from posert.runtime.errors import CheckpointError, ConfigError

CONFIG = """
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
model = dict(type='TopdownPoseEstimator', data_preprocessor=dict(mean=[1, 2, 3], std=[1, 2, 3], bgr_to_rgb=True),
    backbone=dict(type='HRNet'), head=dict(type='HeatmapHead', out_channels=3, decoder=codec))
train_dataloader = dict(dataset=dict(type='CocoDataset'))
"""
DATASET_META = {
    "dataset_name": "mine",
    "num_keypoints": 3,
    "keypoint_id2name": {0: "nose", 1: "left", 2: "right"},
    "flip_indices": [0, 2, 1],
    "skeleton_links": [(0, 1), (0, 2)],
    "keypoint_colors": np.zeros((3, 3), np.uint8),
    "sigmas": np.array([0.025, 0.05, 0.05], np.float32),
}


class HistoryBuffer:
    """Like MMEngine's, which a training leaves in its checkpoints."""

    def __init__(self) -> None:
        self.values = np.arange(5.0)
        self.call = getattr


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def training(**meta: Any) -> dict[str, Any]:
    """What a training writes."""
    return {
        "meta": dict(cfg=CONFIG, dataset_meta=DATASET_META, epoch=np.int64(3), **meta),
        "state_dict": OrderedDict(a=torch.zeros(3), b=torch.ones(2, 2, dtype=torch.float16)),
        "message_hub": {"log": HistoryBuffer()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_training_checkpoint(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "epoch.pth"
    torch.save(training(), path, _use_new_zipfile_serialization=zipped)
    found = read_description(path)
    assert found.source == "MMPose 1.x checkpoint"
    assert found.contract is not None
    assert (found.contract.keypoints, found.contract.flip_pairs) == (("nose", "left", "right"), ((1, 2),))
    assert (found.contract.skeleton, found.contract.sigmas) == (((0, 1), (0, 2)), (0.025, 0.05, 0.05))
    assert (found.contract.dataset, found.channels, found.contract.decode) == ("mine", 3, "msra")


def test_version_0(tmp_path: Path) -> None:
    text = """
model = dict(type='TopDown', keypoint_head=dict(type='TopdownHeatmapSimpleHead', out_channels=17), test_cfg=dict())
data = dict(test=dict(type='TopDownCocoDataset', data_cfg=dict(image_size=[192, 256], heatmap_size=[48, 64])))
"""
    torch.save({"meta": {"config": text, "mmpose_version": "0.29.0"}, "state_dict": {}}, tmp_path / "v0.pth")
    found = read_description(tmp_path / "v0.pth")
    assert found.source == "MMPose 0.x checkpoint" and found.contract is not None
    assert found.contract.dataset == "coco"


@pytest.mark.parametrize(
    "content", [{"a": torch.zeros(2)}, {"state_dict": {}}, {"meta": {}}, {"meta": {"cfg": 5}}, [1, 2]]
)
def test_weights_alone_hold_no_description(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match="holds no description.*--config"):
        read_description(tmp_path / "weights.pth")


def test_nothing_is_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    torch.save(training(more=Evil(canary), eval=[Evil(canary)]), tmp_path / "evil.pth")
    assert read_description(tmp_path / "evil.pth").contract is not None
    assert not canary.exists()


def test_torch_is_not_imported(tmp_path: Path) -> None:
    torch.save(training(), tmp_path / "epoch.pth")
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom posert.export.configs import read_description\n"
        f"assert read_description({str(tmp_path / 'epoch.pth')!r}).contract"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


ARRAYS = [
    np.arange(6, dtype=np.int64).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
    np.array([1.5, 2.5], np.float32),
    np.array([1.5, 2.5], ">f8"),
    np.array([True, False]),
    np.array(["nose", "left eye"]),
    np.array([b"nose", b"x"]),
    np.array([], np.float64),
    np.array(3.0),
    np.array(["a", 1, None], dtype=object),
    np.float64(2.5),
    np.int32(7),
    np.bool_(True),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_numpy(tmp_path: Path, array: Any, protocol: int) -> None:
    save(tmp_path / "x.pth", pickle.dumps({"meta": {"value": array}}, protocol))
    meta = read_meta(tmp_path / "x.pth")
    assert meta is not None
    expected = array.astype(str) if array.dtype.kind == "S" else array
    if protocol == 5 and isinstance(array, np.ndarray) and array.dtype != object:
        return  # another function rebuilds it; torch writes protocol 2
    assert plain(meta["value"]) == expected.tolist()


def save(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)


DEEP = b"\x80\x04}" + b"\x8c\x04meta" + b")" + b"\x85" * 200_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of two thousand million places
        b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\x00\x00.",  # bytes that are not there
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\x00\x00.",
        b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x02}" + b"K\x01K\x02s" * 100 + b".",
        DEEP + b"s.",
        DEEP + b"K\x01s.",  # a deep tuple as a key, whose hash would exhaust the stack
        b"\x80\x02(" + b"K\x00" * 10 + b"u.",
        b"\x80\x02\x82\x01.",
        b"(lp0\n" + b"g0\na" * 60 + b".",
    ],
    ids=range(13),
)
def test_damaged_and_hostile_pickles(tmp_path: Path, data: bytes) -> None:
    save(tmp_path / "x.pth", data)
    with pytest.raises(ConfigError, match=r"x\.pth"):
        read_description(tmp_path / "x.pth")


def test_a_truncated_file(tmp_path: Path) -> None:
    torch.save(training(), tmp_path / "epoch.pth")
    data = (tmp_path / "epoch.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"cut\.pth"):
        read_description(tmp_path / "cut.pth")


def test_a_compressed_bomb(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (65 << 20))
    with pytest.raises(ConfigError, match="larger than"):
        read_description(tmp_path / "x.pth")


@pytest.mark.parametrize("signature", [b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"])
def test_headers_of_the_zip_that_say_something_else(tmp_path: Path, signature: bytes) -> None:
    """Other versions, flags, ways to compress, sizes and places: of a member, in the directory, at the end."""
    torch.save(training(), tmp_path / "epoch.pth")
    good = (tmp_path / "epoch.pth").read_bytes()
    path = tmp_path / "x.pth"
    begin = good.index(signature)
    refused = 0
    for place in range(begin, min(begin + 46, len(good))):
        for value in (0, 1, 8, 9, 12, 14, 20, 64, 255):
            path.write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            for reader, error in ((read_description, ConfigError), (read_weights, CheckpointError)):
                try:
                    reader(path)
                except error as told:
                    assert path.name in str(told)
                    refused += 1
    assert refused > 50
