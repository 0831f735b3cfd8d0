"""A trained network on labelled people: the graph that gives keypoints keeps the AP of the rule behind the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from posert.export import catalog
from posert.export.archs import build_arch
from posert.export.decoding import px_per_cell, with_keypoints
from posert.export.demo import demo_weights
from posert.export.demo.frames import demo_frames
from posert.export.graph.reference import Reference
from posert.export.graph.to_onnx import to_onnx, with_crops
from posert.runtime.accuracy.people import labelled_people
from posert.runtime.accuracy.scorer import Scorer
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.heads import Outputs
from posert.runtime.selection import Selection

IMAGES = 30


@pytest.fixture(scope="module")
def demo() -> tuple[Reference, onnx.ModelProto]:
    row = catalog.find("hrnet_demo")
    network = build_arch(row.arch, row.keypoints)
    network.load_state_dict(demo_weights("hrnet_demo"))
    reference = Reference(network.eval(), row.contract())
    return reference, with_crops(to_onnx(reference), reference.contract)


class Both:
    """A session that gives the heatmaps, and keeps the joints of the other graph on the same crops."""

    def __init__(self, maps: onnx.ModelProto, keypoints: onnx.ModelProto) -> None:
        providers = ["CPUExecutionProvider"]
        self.maps, self.keypoints = (
            ort.InferenceSession(model.SerializeToString(), providers=providers) for model in (maps, keypoints)
        )
        self.found: list[NDArray[np.float32]] = []

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        self.found.append(self.keypoints.run(None, {"crops": crops})[0])
        return tuple(self.maps.run(None, {"crops": crops}))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["default", "unbiased", "udp"])
def test_ap(demo: tuple[Reference, onnx.ModelProto], rule: str) -> None:
    contract = replace(demo[0].contract, decode=rule)
    session = Both(demo[1], with_keypoints(demo[1], contract))
    pose = PoseEstimator.from_session(contract, session, Selection("onnxruntime", "fp32", "test"))
    frames = demo_frames(17, "val", IMAGES, "")
    people = labelled_people(frames.coco)
    records = {record["file_name"]: record for record in frames.coco["images"]}
    xy = np.empty((2, len(people), 17, 2), np.float32)
    score = np.empty((2, len(people), 17), np.float32)
    center, extent = people.regions(contract)
    for image, rows in people.by_image():
        session.found.clear()
        frame = frames.load(records[people.files[image]])
        xy[0, rows], score[0, rows] = pose.estimate_regions(frame, center[rows], extent[rows])
        found = np.concatenate(session.found)
        px = extent[rows, None] / (np.array([contract.width, contract.height]) - contract.udp)
        xy[1, rows] = found[..., :2] * px + (center[rows] - extent[rows] / 2)[:, None]
        score[1, rows] = found[..., 2]
        # 0.001 px of the crop, and single precision of the coordinate in the frame
        assert np.abs(xy[1, rows] - xy[0, rows]).max() <= 1e-3 * px.max() + 1e-4
    np.testing.assert_array_equal(score[0], score[1])
    scorer = Scorer(frames.coco, people, contract)
    outside, inside = (scorer.evaluate(*one).metrics["AP"] for one in zip(xy, score, strict=True))
    assert len(people) > 60 and outside > 0.9 and abs(inside - outside) <= 1e-4
    assert px_per_cell(contract) == (4, 4)
