"""`posert.export.build`: networks that posert does not know, in memory and as ONNX, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posert.export import build
from posert.runtime import PoseEstimator
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError, PosertError
from posert.runtime.pose.preprocess import check_boxes, crop, crop_matrices, crop_regions

CONTRACT = Contract(
    "discs", ("red", "green", "blue"), (), (), (), 96, 128, 24, 32,
    mean=(0, 0, 0), std=(1, 1, 1), decode="none", flip_shift=False,
)  # fmt: skip
BOXES = [[20, 10, 68, 74], [80, 30, 140, 110]]


class Colours(nn.Module):
    """How much redder, greener or bluer than its other colours a cell is: it needs no training to find three discs."""

    def forward(self, images: Tensor) -> Tensor:
        cells = nn.functional.avg_pool2d(images, 4)
        return cells - (cells.sum(dim=1, keepdim=True) - cells) / 2


class Vectors(nn.Module):
    """The same as SimCC gives it."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = Colours()(images)
        return maps.amax(dim=2), maps.amax(dim=3)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """24 pictures of three discs each, on grey noise."""
    folder, rng = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    images, annotations = [], []
    for i in range(24):
        picture = cv2.GaussianBlur(rng.integers(80, 140, (120, 160, 1)).astype(np.uint8), (0, 0), 2)
        picture = np.repeat(picture[..., None] if picture.ndim == 2 else picture, 3, axis=2)
        joints = rng.uniform((35, 25), (110, 90), (3, 2))
        for channel, (x, y) in enumerate(joints):
            colour = [40, 40, 40]
            colour[2 - channel] = 230  # joints are red, green, blue; pictures BGR
            cv2.circle(picture, (round(x), round(y)), 4, colour, -1)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
        images.append({"id": i, "file_name": f"{i}.png"})
        points = [v for x, y in joints for v in (round(x), round(y), 2)]
        annotations.append({"id": i, "image_id": i, "keypoints": points, "bbox": [20, 10, 105, 95]})
    path = folder / "labels.json"
    category = {"id": 1, "name": "discs", "keypoints": ["red", "green", "blue"]}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path, folder


def test_a_network_in_memory(tmp_path: Path, labels: tuple[Path, Path]) -> None:
    built = build(Colours(), CONTRACT, output=tmp_path / "discs.pose", name="colours", labels=labels)
    assert built.path == tmp_path / "discs.pose" and built.parity.verdict == "passed"
    assert built.parity.metric == "PCK@0.05" and built.parity.rows[0].accuracy > 0.8
    with Bundle(built.path) as bundle:
        assert bundle.name == "colours-discs-128x96" and bundle.manifest["model"]["arch"] == "colours"
        assert {"fp32", "torchscript"} <= set(bundle.artifacts)
    picture = cv2.imread(str(labels[1] / "3.png"))
    truth = np.reshape(json.loads(labels[0].read_text())["annotations"][3]["keypoints"], (3, 3))[:, :2]
    found = PoseEstimator(built.path, backend="onnxruntime")(picture, [[20, 10, 125, 105]])
    assert np.abs(found.xy[0] - truth).max() < 6 and found.names == ("red", "green", "blue")


def test_a_network_of_two_outputs(tmp_path: Path, labels: tuple[Path, Path]) -> None:
    contract = Contract(**{**vars(CONTRACT), "decode": "simcc"})
    built = build(Vectors(), contract, output=tmp_path / "vectors.pose", precision=["fp16"], labels=labels)
    assert built.parity.verdict == "passed" and {"fp32", "fp16"} <= {row.precision for row in built.parity.rows}
    picture = cv2.imread(str(labels[1] / "3.png"))
    maps = build(Colours(), CONTRACT, output=tmp_path / "maps.pose", labels=labels)
    same = [PoseEstimator(one.path, backend="onnxruntime", flip_test=True)(picture, BOXES).xy for one in (built, maps)]
    # a peak of the maps is one of their vectors; a network may put two of them on one cell
    assert np.isfinite(same[0]).all() and np.median(np.abs(same[0] - same[1])) < 8


def test_an_onnx_file_is_its_own_reference(tmp_path: Path, labels: tuple[Path, Path]) -> None:
    images = torch.zeros(1, 3, 128, 96)
    torch.onnx.export(Colours().eval(), (images,), str(tmp_path / "net.onnx"), opset_version=13, dynamo=False)
    built = build(tmp_path / "net.onnx", CONTRACT, output=tmp_path / "net.pose", labels=labels)
    assert built.parity.verdict == "passed" and built.parity.rows[0].backend == "onnx"
    with Bundle(built.path) as bundle:
        assert "torchscript" not in bundle.artifacts
        assert "no PyTorch model was compared" in bundle.manifest["model"]["checkpoint"]["note"]
        bundle.check()
    picture = cv2.imread(str(labels[1] / "5.png"))
    center, extent = crop_regions(check_boxes(BOXES), CONTRACT)
    crops = crop(picture, crop_matrices(center, extent, 96, 128), 96, 128)
    seen = PoseEstimator(built.path, backend="onnxruntime").outputs(picture, BOXES)[0]
    with torch.inference_mode():  # the contract's colour order is RGB, without normalisation
        expected = Colours()(torch.from_numpy(crops[..., ::-1].transpose(0, 3, 1, 2) / np.float32(255)))
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)


def test_without_labels_outputs_alone_are_compared(tmp_path: Path) -> None:
    built = build(Colours(), CONTRACT, output=tmp_path / "discs.pose")
    assert built.parity.verdict == "unproven" and "unproven without labelled images" in built.parity.data["note"]


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path, labels: tuple[Path, Path]) -> None:
    output = tmp_path / "discs.pose"
    with pytest.raises(PosertError, match=r"the network gives \(1, 3, 32, 24\).*reads \(1, 3, 16, 12\)"):
        build(Colours(), Contract(**{**vars(CONTRACT), "heatmap_width": 12, "heatmap_height": 16}), output=output)
    with pytest.raises(
        PosertError, match=r"takes images of 1 channels .* networks of three.* grey images needs a first layer"
    ):
        build(nn.Conv2d(1, 3, 3, 4, 1), CONTRACT, output=output)
    with pytest.raises(InputError, match="precision 'int8': expected a list of fp32, fp16, int8"):
        build(Colours(), CONTRACT, output=output, precision="int8")
    with pytest.raises(InputError, match=r'int8 needs images of yours .*calib="demo" takes synthetic people'):
        build(Colours(), CONTRACT, output=output, precision=["int8"])
    with pytest.raises(InputError, match="there is no ONNX file"):
        build(tmp_path / "none.onnx", CONTRACT, output=output)
    other = Contract(**{**vars(CONTRACT), "keypoints": ("nose", "ear", "tail")})
    with pytest.raises(InputError, match="of the 3 joints red, green, blue, the model .discs. has the 3 joints nose"):
        build(Colours(), other, output=output, labels=labels)
    assert not output.exists()
