"""One more decode rule is a file or a package. Networks with several outputs, and with several channels per joint."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from posert.export.graph.reference import ExportError, Reference, random_crops
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.export.graph.to_torchscript import to_torchscript
from posert.runtime.accuracy.golden import check_session
from posert.runtime.bundle.archive import Artifact, Bundle, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose import heads
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.heads import HEADS, head
from posert.runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions
from posert.runtime.selection import open_session

BACKENDS = ("openvino", "onnxruntime", "torchscript")
BOXES = [[10, 10, 60, 100], [40, 20, 90, 110], [-20, -10, 40, 60]]
CONTRACT = Contract(
    dataset="test", keypoints=("nose", "left", "right"), flip_pairs=((1, 2),), skeleton=(), sigmas=(0.1,) * 3,
    width=48, height=64, heatmap_width=6, heatmap_height=8, flip_shift=False,
)  # fmt: skip

# argmax of a vector per axis, as SimCC's decoder (MMPose `SimCCLabel`) has it
SIMCC = """
import numpy as np
from posert.runtime.pose.heads import Head

def shapes(contract):
    k = len(contract.keypoints)
    return ((k, contract.heatmap_width), (k, contract.heatmap_height))

def decode(outputs, contract):
    xy = np.stack([output.argmax(axis=2) for output in outputs], axis=2)
    return xy.astype(np.float32), np.minimum(*(output.max(axis=2) for output in outputs))

def merge(outputs, contract):
    halves = [(o[: len(o) // 2], o[len(o) // 2 :, list(contract.flip_index)]) for o in outputs]
    (x, mirrored_x), (y, mirrored_y) = halves
    return (x + mirrored_x[..., ::-1]) / 2, (y + mirrored_y) / 2

HEAD = Head("toy_simcc", "argmax of a vector per axis", "these tests", decode, shapes, merge)
"""


class Vectors(nn.Module):
    """Normalised images to two outputs: a vector along x and one along y, twice as fine as the crop, per joint."""

    def __init__(self, joints: int, width: int, height: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, joints, 3, 2, 1), nn.ReLU(), nn.Conv2d(joints, joints, 3, 1, 1))
        cells = width * height // 4
        self.x, self.y = nn.Linear(cells, 2 * width), nn.Linear(cells, 2 * height)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images).flatten(2)
        return self.x(features), self.y(features)


class Maps(nn.Module):
    """Normalised images to `channels` maps of an eighth of their size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        halves = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, channels, 3, 2, 1)
        self.layers = nn.Sequential(halves[0], nn.ReLU(), halves[1], nn.ReLU(), halves[2])

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.layers(images)
        return maps


def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)


def bundle_of(network: nn.Module, contract: Contract, folder: Path) -> Path:
    """The fp32 and the TorchScript graph of a network, and a golden crop."""
    reference = Reference(network, contract)
    reference.check_output()
    model = with_crops(to_onnx(reference), contract)
    to_torchscript(reference, folder / "torchscript.pt")
    graphs: dict[str, Any] = {}
    for name, file, data in (
        ("fp32", "fp32.onnx", model.SerializeToString()),
        ("torchscript", "torchscript.pt", (folder / "torchscript.pt").read_bytes()),
    ):
        form = "onnx" if file.endswith("onnx") else "torchscript"
        graphs[name] = (Artifact(name, form, file, precision="fp32", **describe(data)), data)
    crops = random_crops(contract, 2)
    return write_bundle(
        folder / "toy.pose",
        name="toy",
        model={"arch": "toy", "dataset": "test"},
        contract=contract,
        graphs=graphs,
        golden=Golden(crops, reference.infer(crops)),
        calibration=None,
        accuracy={"verdict": "unproven", "rows": []},
        versions={},
    )


def crops_of(contract: Contract) -> tuple[NDArray[np.uint8], Any]:
    """The crops of BOXES, and their regions."""
    c = contract
    regions = crop_regions(check_boxes(BOXES), c)
    return crop(frame(), crop_matrices(*regions, c.width, c.height, c.udp), c.width, c.height), regions


def in_frame(xy: NDArray[np.floating], contract: Contract, regions: Any) -> NDArray[np.float32]:
    c = contract
    return to_frame(xy.astype(np.float32), *regions, c.heatmap_width, c.heatmap_height, c.udp)


@pytest.fixture
def simcc(install_plugin: Callable[..., Path]) -> Iterator[None]:
    """A package with a decode rule, installed for the length of a test."""
    install_plugin("posert-toy", SIMCC, "posert.heads", toy_simcc="posert_toy:HEAD")
    yield
    head.cache_clear()


def test_a_rule_of_another_package(simcc: None) -> None:
    assert "toy_simcc" in HEADS.names() and head("toy_simcc").cuda is None
    assert HEADS.plugin_failures() == {}


def test_a_rule_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the folder, and nothing else is touched."""
    monkeypatch.setattr(heads, "__path__", [*heads.__path__, str(tmp_path)])
    (tmp_path / "toy_simcc.py").write_text(SIMCC)
    contract = replace(CONTRACT, heatmap_width=96, heatmap_height=128, decode="toy_simcc")
    x, y = np.zeros((1, 3, 96), np.float32), np.zeros((1, 3, 128), np.float32)
    x[0, :, 7], y[0, :, 9] = 0.5, 0.25
    try:
        assert "toy_simcc" in HEADS.names()
        xy, score = decode((x, y), contract)
    finally:
        head.cache_clear()
        sys.modules.pop("posert.runtime.pose.heads.toy_simcc")
    assert xy[0].tolist() == [[7, 9]] * 3 and score[0].tolist() == [0.25] * 3


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_network_with_two_outputs_from_bundle_to_keypoints(simcc: None, tmp_path: Path, flip_test: bool) -> None:
    contract = replace(CONTRACT, heatmap_width=96, heatmap_height=128, decode="toy_simcc")
    torch.manual_seed(0)
    network = Vectors(3, 48, 64)
    path = bundle_of(network, contract, tmp_path)
    crops, regions = crops_of(contract)

    def vectors(images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        with torch.inference_mode():
            return [output.numpy() for output in Reference(network, contract)(torch.from_numpy(images))]

    x, y = vectors(crops)
    if flip_test:
        mirrored_x, mirrored_y = vectors(np.ascontiguousarray(crops[:, :, ::-1]))
        order = [0, 2, 1]
        x, y = (x + mirrored_x[:, order, ::-1]) / 2, (y + mirrored_y[:, order]) / 2
    expected = in_frame(np.stack([x.argmax(2), y.argmax(2)], axis=2), contract, regions)
    score = np.minimum(x.max(2), y.max(2))
    for backend in BACKENDS:
        pose = PoseEstimator(path, backend=backend, precision="fp32", threads=1, flip_test=flip_test)
        for people in (pose(frame(), BOXES), *pose.stream([(frame(), BOXES)] * 3)):
            np.testing.assert_allclose(people.xy, expected, atol=1e-3, err_msg=backend)
            np.testing.assert_allclose(people.score, score, atol=1e-5, err_msg=backend)
        outputs = pose.outputs(frame(), BOXES)
        assert [output.shape for output in outputs] == [(3, 3, 96), (3, 3, 128)]
        with pytest.raises(InputError, match="2 outputs, not one of heatmaps: use `outputs`"):
            pose.heatmaps(frame(), BOXES)
        with Bundle(path) as bundle:
            session = open_session(bundle, backend, "fp32", threads=1)
            artifact = next(iter(bundle.artifacts.values()))
            assert check_session(session, artifact, bundle.golden(), bundle.contract).passed


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_network_with_combined_maps_from_bundle_to_keypoints(tmp_path: Path, flip_test: bool) -> None:
    """Three channels per joint, and maps of an eighth of the crop."""
    contract = replace(CONTRACT, decode="udp_combined", kernel=3, udp=True)
    torch.manual_seed(0)
    network = Maps(9)
    path = bundle_of(network, contract, tmp_path)
    crops, regions = crops_of(contract)
    with torch.inference_mode():
        doubled = np.concatenate([crops, crops[:, :, ::-1]])
        maps = Reference(network, contract)(torch.from_numpy(doubled)).numpy()
    ours, mirrored = maps[:3], maps[3:].reshape(3, 3, 3, 8, 6)[:, [0, 2, 1], :, :, ::-1].copy()
    if flip_test:
        mirrored[:, :, 1] *= -1  # the offset along x
        ours = (ours + mirrored.reshape(3, 9, 8, 6)) / 2
    cells, score = decode((ours,), contract)
    for backend in BACKENDS:
        pose = PoseEstimator(path, backend=backend, precision="fp32", threads=1, flip_test=flip_test)
        people = pose(frame(), BOXES)
        np.testing.assert_allclose(people.score, score, atol=1e-5, err_msg=backend)
        # cells of some 20 px; the offsets are sums in another order
        np.testing.assert_allclose(people.xy, in_frame(cells, contract, regions), atol=1e-3, err_msg=backend)
        np.testing.assert_allclose(pose.outputs(frame(), BOXES)[0], maps[:3], atol=1e-5, err_msg=backend)


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (Maps(9), {}, r"gives \(1, 9, 8, 6\); the decode rule 'default' reads \(1, 3, 8, 6\): .*UDP's combined maps"),
        (Maps(3), {"decode": "udp_combined"}, r"gives \(1, 3, 8, 6\).* reads \(1, 9, 8, 6\)"),
        (Maps(3), {"heatmap_width": 12}, r"reads \(1, 3, 8, 12\)"),
        (Vectors(3, 48, 64), {}, r"gives \(1, 3, 96\), \(1, 3, 128\); .*: these are SimCC vectors"),
    ],
    ids=["channels", "combined", "size", "two outputs"],
)
def test_networks_that_do_not_fit_their_rule_are_not_exported(
    network: nn.Module, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        Reference(network, replace(CONTRACT, **changes)).check_output()
