"""Models of MMPose 1.3.2 through `posert build`, held against the joints that MMPose itself finds with them.

The goldens were made by mmpose 1.3.2, mmengine 0.10.7 and mmcv-lite 2.1.0 on two pictures, with and without flip test.
`steady` marks joints that move by less than 0.1 px where noise of 2e-5 of the maximum is added to the maps.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.bundle.archive import Bundle
from posert.runtime.cli.main import main

GOLDENS = Path(__file__).parents[2] / "goldens/own_models"
# Float32 in another order: 0.009 px at most was measured here. A wrong decode rule is off by 0.25 px and more.
TOLERANCE = 0.02

CASES = {
    "a training's checkpoint alone": ("hrnet_k5", ["--weights", "weights.pth"]),
    "a config of the new style": ("hrnet_k5", ["--weights", "weights.pth", "--config", "config_newstyle.py"]),
    "a ViT with UDP": ("vit_onnx", ["--network", "network.onnx", "--config", "config.py"]),
    "RTMPose": ("rtmpose_onnx", ["--network", "network.onnx", "--config", "config.py"]),
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The case's folder and its bundle."""
    name, arguments = CASES[request.param]
    folder, output = GOLDENS / name, tmp_path_factory.mktemp("own") / "own.pose"
    given = [a if a.startswith("--") else str(folder / a) for a in arguments]
    assert main(["build", *given, "--output", str(output), "--limit", "2"]) == 0
    return folder, output


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("flip", [False, True], ids=["plain", "flip"])
def test_joints_are_those_of_mmpose(case: tuple[Path, Path], backend: str, flip: bool) -> None:
    folder, bundle = case
    golden = json.loads((folder / "golden.json").read_text())
    pose = PoseEstimator(bundle, backend=backend, precision="fp32", flip_test=flip)
    for image in golden["images"]:
        frame = cv2.imread(str(GOLDENS / Path(image["file"]).name))
        assert frame is not None
        boxes = np.array(image["boxes"], np.float64)
        people = pose(frame, boxes)
        expected = image["flip" if flip else "plain"]
        steady = np.array(expected["steady"], bool)
        size = np.maximum(
            boxes[:, 2] - boxes[:, 0], (boxes[:, 3] - boxes[:, 1]) * pose.contract.width / pose.contract.height
        )
        scale = pose.contract.width / (size * pose.contract.padding)  # px of the crop per px of the frame
        off = np.linalg.norm(people.xy - np.array(expected["keypoints"]), axis=2) * scale[:, None]
        assert steady.mean() > 0.5 and off[steady].max() < TOLERANCE
        np.testing.assert_allclose(people.score[steady], np.array(expected["scores"])[steady], rtol=1e-3, atol=1e-4)


def test_joints_and_boxes_come_from_the_file(case: tuple[Path, Path]) -> None:
    with Bundle(case[1]) as bundle:
        contract = bundle.contract
    assert contract.padding == 1.25 and contract.model_color == "RGB"
    if case[0].name == "hrnet_k5":
        assert contract.keypoints == ("nose", "left_wing", "right_wing", "left_tail", "right_tail")
        assert contract.flip_pairs == ((1, 2), (3, 4)) and contract.sigmas == (0.025, 0.05, 0.05, 0.08, 0.08)
        assert contract.decode == "msra"
    else:
        assert len(contract.keypoints) == 17
        assert contract.decode == {"vit_onnx": "udp_heatmap", "rtmpose_onnx": "simcc"}[case[0].name]
