"""A detector in use: what it must not do in silence, what others got wrong, and how it fits the estimator."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from posert.runtime import PoseEstimator
from posert.runtime.backends import load_backend
from posert.runtime.detection import Detections, Detector
from posert.runtime.errors import BackendError, DetectorError, InputError
from posert.runtime.pose.preprocess import crop_regions

Give = Callable[..., bytes]
BACKENDS = ["onnxruntime", "openvino"]
BLACK = np.zeros((128, 128, 3), np.uint8)


def yolo(*rows: tuple[float, ...], classes: int = 1, cells: int = 336) -> NDArray[np.float32]:
    """ultralytics' output with these rows: cx, cy, w, h, scores."""
    output = np.zeros((1, 4 + classes, cells), np.float32)
    for i, row in enumerate(rows):
        output[0, : len(row), i] = row
    return output


def end2end(*rows: tuple[float, ...], count: int = 300) -> dict[str, NDArray[np.float32]]:
    output = np.zeros((1, count, 6), np.float32)
    output[0, : len(rows)] = rows or output[0, :0]
    return {"output0": output}


@pytest.mark.parametrize("backend", BACKENDS)
class TestNumbersOfPeople:
    def test_none(self, backend: str, give: Give) -> None:
        found = Detector(give({"output0": yolo()}), backend=backend)(BLACK)
        assert found.boxes.shape == (0, 4) and found.score.shape == found.label.shape == (0,) and len(found) == 0

    def test_no_rows_at_all(self, backend: str, give: Give) -> None:
        """mmdeploy's graphs give as many rows as there are boxes."""
        outputs = {"dets": np.zeros((1, 0, 5), np.float32), "labels": np.zeros((1, 0), np.int64)}
        if backend == "openvino":
            pytest.skip(
                "OpenVINO refuses constants without elements; NonMaxSuppression's outputs are tested in goldens"
            )
        assert len(Detector(give(outputs, mentions="rtm_cls"), backend=backend)(BLACK)) == 0

    def test_a_thousand(self, backend: str, give: Give) -> None:
        x, y = np.meshgrid(np.arange(40) * 3, np.arange(25) * 5)
        rows = [(a, b, a + 2.5, b + 4, 0.9 - i * 1e-4, 0) for i, (a, b) in enumerate(zip(x.flat, y.flat, strict=True))]
        found = Detector(give(end2end(*rows, count=1000)), backend=backend)(BLACK)
        assert len(found) == 1000 and (np.diff(found.score) < 0).all()
        np.testing.assert_allclose(found.boxes[[0, -1]], [rows[0][:4], rows[-1][:4]])

    def test_a_thousand_through_nms(self, backend: str, give: Give) -> None:
        x, y = np.meshgrid(np.arange(40) * 3 + 2, np.arange(25) * 5 + 3)
        rows = [(a, b, 2.5, 4, 0.9 - i * 1e-4) for i, (a, b) in enumerate(zip(x.flat, y.flat, strict=True))]
        output = yolo(*rows, cells=1344)  # cells of 256x256
        found = Detector(give({"output0": output}, shape=(1, 3, 256, 256)), backend=backend)(
            np.zeros((256, 256, 3), np.uint8)
        )
        assert len(found) == 1000


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
class TestNumbersThatAreNone:
    def test_in_a_score(self, backend: str, value: float, give: Give) -> None:
        detector = Detector(give({"output0": yolo((60, 60, 9, 9, value), (20, 20, 9, 9, 0.9))}), backend=backend)
        with pytest.raises(DetectorError, match="output0 holds NaN or infinity"):
            detector(BLACK)

    def test_in_a_box(self, backend: str, value: float, give: Give) -> None:
        detector = Detector(give(end2end((value, 0, 9, 9, 0.9, 0))), backend=backend)
        with pytest.raises(DetectorError, match="NaN or infinity"):
            detector(BLACK)

    def test_in_a_stream(self, backend: str, value: float, give: Give) -> None:
        detector = Detector(give(end2end((value, 0, 9, 9, 0.9, 0))), backend=backend)
        with pytest.raises(DetectorError):
            list(detector.stream([BLACK] * 3))


class TestInputs:
    @pytest.mark.parametrize("backend", BACKENDS)
    @pytest.mark.parametrize("dtype", [onnx.TensorProto.FLOAT16, onnx.TensorProto.UINT8])
    @pytest.mark.parametrize("shape", [(1, 3, 128, 128), (1, 128, 128, 3), ("N", 3, 128, 128)])
    def test_types_and_orders(self, backend: str, dtype: int, shape: Any, give: Give) -> None:
        model = give({"output0": yolo((60, 60, 20, 30, 0.75))}, shape=shape, dtype=dtype)
        detector = Detector(model, backend=backend)
        assert ("uint8" if dtype == onnx.TensorProto.UINT8 else "float16") in detector.description
        found = detector(np.zeros((256, 256, 3), np.uint8))
        np.testing.assert_allclose(found.boxes, [[100, 90, 140, 150]])
        np.testing.assert_allclose(found.score, [0.75])

    @pytest.mark.parametrize("backend", BACKENDS)
    def test_half_precision_outputs(self, backend: str, give: Give) -> None:
        model = give({"output0": yolo((60, 60, 20, 30, 0.75)).astype(np.float16)})
        found = Detector(model, backend=backend)(BLACK)
        np.testing.assert_allclose(found.boxes, [[50, 45, 70, 75]])
        assert found.boxes.dtype == found.score.dtype == np.float32 and found.label.dtype == np.int64

    @pytest.mark.parametrize("frame", [None, np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
    def test_frames_that_are_none(self, frame: Any, give: Give) -> None:
        detector = Detector(give({"output0": yolo()}))
        with pytest.raises(InputError, match="frame"):
            detector(frame)
        with pytest.raises(InputError, match="frame"):
            list(detector.stream([frame]))

    def test_threads(self, give: Give) -> None:
        detector = Detector(give(end2end((3, 4, 50, 60, 0.9, 0))), threads=1)
        found: list[Detections] = []
        workers = [threading.Thread(target=lambda: found.append(detector(BLACK))) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [one.boxes.tolist() for one in found] == [[[3, 4, 50, 60]]] * 8


class TestStream:
    def test_an_error_comes_in_its_place(self, give: Give) -> None:
        detector = Detector(give(end2end((3, 4, 50, 60, 0.9, 0))))
        seen = 0
        with pytest.raises(InputError, match="frame is uint8"):
            for _ in detector.stream([BLACK, BLACK, np.zeros((4, 4), np.uint8), BLACK]):
                seen += 1
        assert seen == 2

    def test_an_error_of_the_source_comes_in_its_place(self, give: Give) -> None:
        def frames() -> Iterator[NDArray[np.uint8]]:
            yield BLACK
            yield BLACK
            raise OSError("the camera is gone")

        seen = 0
        with pytest.raises(OSError, match="the camera is gone"):
            for _ in Detector(give(end2end())).stream(frames()):
                seen += 1
        assert seen == 2

    def test_left_early(self, give: Give) -> None:
        detector = Detector(give(end2end((3, 4, 50, 60, 0.9, 0))))
        stream = detector.stream(BLACK for _ in range(100))
        next(stream)
        stream.close()
        assert len(detector(BLACK)) == 1

    def test_frames_are_taken_one_after_the_other(self, give: Give) -> None:
        """A video is not read ahead without bound."""
        detector, taken = Detector(give(end2end())), 0

        def frames() -> Iterator[NDArray[np.uint8]]:
            nonlocal taken
            for _ in range(50):
                taken += 1
                yield BLACK

        bound = len(detector.requests()) + 1
        for done, _ in enumerate(detector.stream(frames()), start=1):
            assert taken <= done + bound


class TestBugsOfOthers:
    """Found in other tools' code; none of them may come back here."""

    def test_the_score_is_not_compared_with_the_nms_threshold(self, give: Give) -> None:
        """rtmlib's YOLOX drops what scores less than `nms_thr`."""
        model = give({"output0": yolo((60, 60, 20, 30, 0.4))})
        assert len(Detector(model, score=0.3, nms=0.9)(BLACK)) == 1
        assert len(Detector(model, score=0.45, nms=0.1)(BLACK)) == 0

    def test_a_failed_run_is_no_empty_scene(self, give: Give) -> None:
        """rtmlib: `except: return [], []`."""
        model = onnx.load_from_string(give(end2end((3, 4, 50, 60, 0.9, 0))))
        helper = onnx.helper
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 0], np.float32), "three"))
        # a white picture asks for the element 255 of three
        model.graph.node.extend(
            [
                helper.make_node("ReduceMax", ["images"], ["whitest"], keepdims=0),
                helper.make_node("Cast", ["whitest"], ["place"], to=onnx.TensorProto.INT64),
                helper.make_node("Gather", ["three", "place"], ["none"]),
                helper.make_node("Add", ["output0", "none"], ["output"]),
            ]
        )
        model.graph.output[0].name = "output"
        detector = Detector(model.SerializeToString(), backend="onnxruntime", scale=1.0)
        assert len(detector(BLACK)) == 1
        with pytest.raises(BackendError, match="failed while it ran"):
            detector(np.full((128, 128, 3), 255, np.uint8))
        with pytest.raises(BackendError, match="failed while it ran"):
            list(detector.stream([BLACK, np.full((128, 128, 3), 255, np.uint8)]))
        assert len(detector(BLACK)) == 1  # and it goes on

    def test_boxes_are_padded_once(self, give: Give, narrow_bundle: Path) -> None:
        """rtmlib pads a box by 1.25 before RTMPose pads it by 1.25 again. Here a detector gives the box itself."""
        found = Detector(give(end2end((30, 20, 60, 100, 0.9, 0))))(BLACK)
        pose = PoseEstimator(narrow_bundle, threads=1)
        people = pose(BLACK, found.boxes)
        np.testing.assert_array_equal(people.boxes, [[30, 20, 60, 100]])
        _, extent = crop_regions(found.boxes, pose.contract)
        np.testing.assert_allclose(extent[0, 1], 1.25 * 80)

    def test_another_class_does_not_suppress_a_person(self, give: Give) -> None:
        """Class-agnostic NMS, as in the demo of YOLOX, lets the horse suppress its rider."""
        rows = [(60, 60, 40, 60, 0.0, 0.9), (60, 60, 40, 58, 0.8, 0.0)]
        names = {"names": "{0: 'person', 1: 'horse'}"}
        found = Detector(give({"output0": yolo(*rows, classes=2)}, metadata=names))(BLACK)
        np.testing.assert_allclose(found.score, [0.8])

    def test_boxes_do_not_leave_the_frame(self, give: Give, narrow_bundle: Path) -> None:
        """The estimator refuses a box outside of the frame; one in the padding of a letterbox is nobody."""
        rows = [(-20, -30, 60, 70, 0.9, 0), (5, 100, 60, 127, 0.8, 0), (60, 60, 60, 80, 0.7, 0)]
        found = Detector(give(end2end(*rows)), placement="top_left")(np.zeros((64, 128, 3), np.uint8))
        np.testing.assert_array_equal(found.boxes, [[0, 0, 60, 64]])


class TestFirstFrames:
    """A wrong guess is told once, with what to override."""

    def warned(self, detector: Detector, caplog: pytest.LogCaptureFixture, frames: int = 30) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "posert"):
            for _ in range(frames):
                detector(BLACK)
        return caplog.messages

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([(0.1 * i, 0.2, 0.3 + 0.1 * i, 0.7, 0.9, 0) for i in range(5)], "boxes are smaller than 2 px"),
            ([(400 + 9 * i, 10, 450 + 9 * i, 90, 0.9, 0) for i in range(5)], "5 of 5 boxes lie outside the picture"),
            ([(30 * i, 10, 40 + 30 * i, 90, 3.5 + i, 0) for i in range(3)], "scores reach 5.5, not 1"),
            ([(10, 10, 50, 90, 0.9, 0)] * 4, "all 4 boxes are equal"),
            ([], "nothing was found in the first 10 frames"),
        ],
    )
    def test_warns_once(
        self, rows: list[tuple[float, ...]], message: str, give: Give, caplog: pytest.LogCaptureFixture
    ) -> None:
        (told,) = self.warned(Detector(give(end2end(*rows))), caplog)
        assert message in told and "layout=, color=, placement=, scale=" in told

    def test_a_good_detector_is_not_blamed(self, give: Give, caplog: pytest.LogCaptureFixture) -> None:
        rows = [(5, 5, 50, 120, 0.9, 0), (-8, 30, 70, 140, 0.8, 0), (90, 10, 100, 40, 0.6, 2)]
        assert self.warned(Detector(give(end2end(*rows))), caplog) == []

    def test_one_person_in_every_frame_is_not_blamed(
        self, file: Callable[[str], Path], picture: Callable[[int], NDArray[np.uint8]], caplog: pytest.LogCaptureFixture
    ) -> None:
        detector = Detector(file("ultralytics"), classes=None)
        with caplog.at_level(logging.WARNING, "posert"):
            for seed in range(30):
                detector(picture(seed))
        assert caplog.messages == []


def test_backends_that_run_any_graph(give: Give) -> None:
    """Names, shapes and types are what the file says, whatever library reads it."""
    others = {"orig_target_sizes": (onnx.TensorProto.INT64, ("N", 2))}
    model = give(end2end(), shape=("N", 3, "h", 64), others=others, metadata={"stride": "32", "names": "{0: 'it''s'}"})
    for name in BACKENDS:
        spec = load_backend(name)
        assert spec.open_graph is not None
        session = spec.open_graph(model, threads=1)
        assert [(t.name, t.shape, t.dtype) for t in session.inputs] == [
            ("images", (None, 3, None, 64), "float32"),
            ("orig_target_sizes", (None, 2), "int64"),
        ]
        assert [(t.name, t.shape, t.dtype) for t in session.outputs] == [("output0", (1, 300, 6), "float32")]
        assert dict(session.metadata) == {"stride": "32", "names": "{0: 'it''s'}"}
        request = session.requests()[0]
        request.start([np.zeros((1, 3, 64, 64), np.float32), np.zeros((1, 2), np.int64)])
        assert request.wait()[0].shape == (1, 300, 6)
        request.start([np.zeros((1, 3, 64, 64), np.float32), np.zeros((1, 2), np.int64)])
        request.drop()
        with pytest.raises(BackendError, match="failed while it ran"):
            request.start([np.zeros((1, 4, 64, 64), np.float32), np.zeros((1, 2), np.int64)])
            request.wait()


def test_layouts_keep_their_promises() -> None:
    from posert.runtime.detection import LAYOUTS

    for name, layout in LAYOUTS.specs().items():
        assert layout.name == name and layout.summary and layout.source
        assert layout.nms is None or 0 < layout.nms < 1
