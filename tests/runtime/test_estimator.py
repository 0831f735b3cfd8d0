"""The estimator against a pipeline written out in the plainest way; its invariants; bad input."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from posert.export.graph.reference import Reference
from posert.runtime import PoseEstimator
from posert.runtime.backends import installed_backends
from posert.runtime.batching import MAX_BATCH
from posert.runtime.bundle.members import seal
from posert.runtime.errors import BackendError, BundleError, InputError

INSTALLED = list(installed_backends())

# Two float32 computations in another order give maps that differ by 1e-5 of their range; peaks stay in their cells,
# and a joint is a cell or a quarter of it, so what is left is the rounding of float32 coordinates below 1000 px.
PX = 1e-3


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    """A smooth picture: noise at several scales."""
    rng = np.random.default_rng(0)
    noise = sum(cv2.resize(rng.normal(0, 40, (size, size + 3, 3)), (240, 180)) for size in (4, 16, 64))
    return np.clip(128 + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def boxes() -> NDArray[np.float64]:
    """Tall, wide, tiny, over every edge, larger than the frame."""
    return np.array(
        [
            [20.3, 10.7, 80.2, 150.9],
            [50, 60, 200, 100],
            [100.5, 90.5, 109, 99],
            [-30, -20, 60, 70],
            [180, 120, 300, 260],
            [-500, -400, 700, 600],
            [0, 0, 240, 180],
        ]
    )


@pytest.fixture(scope="module")
def open_backend(narrow_bundle: Path) -> Callable[[str], PoseEstimator]:
    opened: dict[str, PoseEstimator] = {}

    def get(backend: str) -> PoseEstimator:
        if backend not in opened:
            opened[backend] = PoseEstimator(narrow_bundle, backend=backend, threads=1)
        return opened[backend]

    return get


@pytest.fixture(scope="module")
def pose(open_backend: Callable[[str], PoseEstimator]) -> PoseEstimator:
    return open_backend(INSTALLED[0])


def plain_pipeline(
    reference: Reference, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Top-down inference as the papers tell it, one person and one joint at a time."""
    c = reference.contract
    all_xy, all_scores = [], []
    for x1, y1, x2, y2 in boxes:
        width, height = x2 - x1, y2 - y1
        center = np.array([x1 + width / 2, y1 + height / 2])
        if width > c.width / c.height * height:
            height = width * c.height / c.width
        else:
            width = height * c.width / c.height
        extent = np.array([width, height]) * c.padding
        scale = c.width / extent[0]
        matrix = np.array([[scale, 0, c.width / 2 - scale * center[0]], [0, scale, c.height / 2 - scale * center[1]]])
        crop = cv2.warpAffine(frame, matrix, (c.width, c.height), flags=cv2.INTER_LINEAR)
        image = torch.from_numpy(np.ascontiguousarray(crop[:, :, ::-1])).float() / 255  # BGR to RGB
        image = (image - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
        with torch.inference_mode():
            maps = reference.network(image.permute(2, 0, 1)[None])[0].numpy()
        xy, scores = [], []
        for heatmap in maps:
            y, x = np.unravel_index(heatmap.argmax(), heatmap.shape)
            score = heatmap[y, x]
            if score <= 0:
                x = y = -1  # the convention of the HRNet repository and MMPose: nothing seen
            dx = dy = 0.0
            if 1 < x < c.heatmap_width - 1 and 1 < y < c.heatmap_height - 1:
                dx = 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
                dy = 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
            cell = extent / np.array([c.heatmap_width, c.heatmap_height])
            xy.append(np.array([x + dx, y + dy]) * cell + center - extent / 2)
            scores.append(score)
        all_xy.append(xy)
        all_scores.append(scores)
    return np.array(all_xy, np.float64), np.array(all_scores, np.float64)


def same(a: Any, b: Any, order: Any = slice(None)) -> None:
    np.testing.assert_allclose(a.xy, b.xy[order], rtol=0, atol=PX)
    np.testing.assert_allclose(a.score, b.score[order], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(a.boxes, b.boxes[order])


class TestTruth:
    @pytest.mark.parametrize("backend", INSTALLED)
    def test_equals_the_plain_pipeline(
        self,
        backend: str,
        open_backend: Callable[[str], PoseEstimator],
        narrow_reference: Reference,
        frame: NDArray[np.uint8],
        boxes: NDArray[np.float64],
    ) -> None:
        people = open_backend(backend)(frame, boxes)
        xy, score = plain_pipeline(narrow_reference, frame, boxes)
        # The crop matrix is float64 here and rounds as MMPose's float32 does there: a few pixels of a crop differ by
        # one grey level, which moves the noise-like maps of this untrained network by up to a percent of a score. The
        # cells stay, but for a peak between two nearly equal neighbours.
        distance = np.linalg.norm(people.xy - xy, axis=2)
        cell = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) * 1.25 / 24
        assert (distance < 0.01 * cell).mean() > 0.97
        assert (score > 0).sum() > 30  # enough joints that are seen
        np.testing.assert_allclose(people.score, score, rtol=0.02, atol=0.02)

    def test_all_backends_agree(
        self, open_backend: Callable[[str], PoseEstimator], frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        first = open_backend(INSTALLED[0])(frame, boxes)
        assert len(INSTALLED) > 1
        for backend in INSTALLED[1:]:
            same(open_backend(backend)(frame, boxes), first)

    def test_what_comes_back(self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]) -> None:
        people = pose(frame, boxes)
        assert len(people) == len(boxes)
        assert people.xy.shape == (7, 17, 2) and people.xy.dtype == np.float32
        assert people.score.shape == (7, 17) and people.score.dtype == np.float32
        np.testing.assert_array_equal(people.boxes, boxes.astype(np.float32))
        assert people.names == pose.contract.keypoints
        record = people.to_json()[2]
        assert np.allclose(record["box"], boxes[2], atol=1e-3)
        assert np.allclose(np.array(record["keypoints"])[:, :2], people.xy[2], atol=1e-3)
        assert np.allclose(np.array(record["keypoints"])[:, 2], people.score[2], atol=1e-3)

    def test_results_are_not_overwritten_by_the_next_call(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        first, maps = pose(frame, boxes[:2]), pose.heatmaps(frame, boxes[:2])
        kept = first.xy.copy(), first.score.copy(), maps.copy()
        pose(frame[::-1], boxes[2:4])
        for seen, before in zip((first.xy, first.score, maps), kept, strict=True):
            np.testing.assert_array_equal(seen, before)

    def test_no_boxes_means_the_whole_frame(self, pose: PoseEstimator, frame: NDArray[np.uint8]) -> None:
        same(pose(frame), pose(frame, [[0, 0, 240, 180]]))


class TestNumbers:
    @pytest.mark.parametrize("nobody", [[], np.empty((0, 4)), np.empty((0, 4), np.float32), ()])
    def test_nobody(self, pose: PoseEstimator, frame: NDArray[np.uint8], nobody: Any) -> None:
        people = pose(frame, nobody)
        assert len(people) == 0
        assert people.xy.shape == (0, 17, 2) and people.score.shape == (0, 17) and people.boxes.shape == (0, 4)
        assert people.to_json() == []
        assert pose.outputs(frame, nobody)[0].shape == (0, 17, 32, 24)

    def test_one_at_a_time_is_the_same_as_together(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        together = pose(frame, boxes)
        for i, box in enumerate(boxes):
            same(pose(frame, box[None]), together, slice(i, i + 1))

    def test_order_does_not_matter(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        order = np.random.default_rng(1).permutation(len(boxes))
        same(pose(frame, boxes[order]), pose(frame, boxes), order)

    def test_a_crowd_larger_than_one_batch(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        count = MAX_BATCH + 8
        many = np.resize(boxes, (count, 4)) + np.linspace(0, 3, count)[:, None]
        people = pose(frame, many)
        assert len(people) == count
        for i in (0, MAX_BATCH - 1, MAX_BATCH, count - 1):
            same(pose(frame, many[i : i + 1]), people, slice(i, i + 1))
        assert len(pose.outputs(frame, many)[0]) == count

    def test_integer_boxes_and_lists(self, pose: PoseEstimator, frame: NDArray[np.uint8]) -> None:
        same(pose(frame, [[20, 10, 80, 150]]), pose(frame, np.array([[20, 10, 80, 150]], np.int32)))


class TestFrames:
    @pytest.mark.parametrize(
        "view",
        [
            lambda f: f[::-1],
            lambda f: f[:, ::-1],
            lambda f: f[::2, 5::2],
            lambda f: f[:, :, ::-1],
            lambda f: f.transpose(1, 0, 2),
            lambda f: np.asfortranarray(f),
            lambda f: np.pad(f, ((7, 7), (5, 5), (0, 0)))[7:-7, 5:-5],
            lambda f: np.dstack([f, f])[:, :, 2:5],
        ],
        ids=[
            "flipped",
            "mirrored",
            "strided",
            "RGB view",
            "turned",
            "Fortran",
            "part of another",
            "channels of another",
        ],
    )
    def test_views_are_as_good_as_copies(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], view: Callable[[Any], Any]
    ) -> None:
        seen = view(frame)
        box = [[10, 10, 60, 80]]
        same(pose(seen, box), pose(np.ascontiguousarray(seen), box))

    def test_the_frame_is_not_modified_and_may_be_read_only(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        mine, before = frame.copy(), boxes.copy()
        mine.flags.writeable = False
        pose(mine, boxes)
        np.testing.assert_array_equal(mine, frame)
        np.testing.assert_array_equal(boxes, before)

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.zeros((180, 240), np.uint8), "COLOR_GRAY2BGR"),
            (np.zeros((180, 240, 1), np.uint8), "COLOR_GRAY2BGR"),
            (np.zeros((180, 240, 4), np.uint8), "COLOR_BGRA2BGR"),
            (np.zeros((180, 240, 3), np.float32), "float32.*astype"),
            (np.zeros((180, 240, 3), np.int64), "int64"),
            (np.zeros((180, 240, 3), bool), "bool"),
            (np.zeros((0, 240, 3), np.uint8), r"\(0, 240, 3\).*empty"),
            (np.array([]), "empty"),
            (None, "NoneType.*cv2.imread"),
            ("picture.jpg", "str.*cv2.imread"),
            (np.zeros((1, 180, 240, 3), np.uint8), r"\(1, 180, 240, 3\).*One frame at a time"),
            (np.zeros((3, 180, 240), np.uint8), "channels last"),
            ([[1, 2], [3]], "no array"),
        ],
        ids=lambda v: "" if isinstance(v, str) else None,
    )
    def test_bad_frames(self, pose: PoseEstimator, bad: Any, message: str) -> None:
        for method in (pose, pose.outputs):
            with pytest.raises(InputError, match=message):
                method(bad, [[0, 0, 50, 50]])

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ([[0, 0, 50, 50], [0, np.nan, 50, 50]], "box 1 .*nan"),
            ([[0, 0, np.inf, 50]], "box 0 .*inf"),
            ([[0, 0, 50, 50], [10, 10, 10, 60]], "box 1 .*x2 > x1"),
            ([[50, 50, 10, 10]], "box 0 .*x2 > x1"),
            ([[0, 0, 50, 50], [240, 0, 300, 50]], "box 1 of 2.*outside the 240x180 frame"),
            ([[-50, 0, 0, 50]], "outside"),
            ([[0, 181, 50, 300]], "outside"),
            ([0, 0, 50, 50], "4"),
            ([[0, 0, 50]], "4"),
            ([[0, 0, 50, 50, 0.9]], "4"),
            ([["a", "b", "c", "d"]], "numbers"),
            ("0 0 50 50", "numbers"),
            ([[0, 0, 50, 50], [0, 0]], "numbers|4"),
            (np.zeros((2, 2, 4)), "4"),
        ],
        ids=lambda v: "" if isinstance(v, str) else None,
    )
    def test_bad_boxes(self, pose: PoseEstimator, frame: NDArray[np.uint8], bad: Any, message: str) -> None:
        for method in (pose, pose.outputs):
            with pytest.raises(InputError, match=message):
                method(frame, bad)

    def test_after_bad_input_it_goes_on(
        self, pose: PoseEstimator, frame: NDArray[np.uint8], boxes: NDArray[np.float64]
    ) -> None:
        before = pose(frame, boxes)
        with pytest.raises(InputError):
            pose(frame, [[0, 0, 0, 0]])
        same(pose(frame, boxes), before)


@pytest.mark.parametrize("backend", INSTALLED)
def test_threads_share_one_estimator(
    backend: str,
    open_backend: Callable[[str], PoseEstimator],
    frame: NDArray[np.uint8],
    boxes: NDArray[np.float64],
) -> None:
    pose = open_backend(backend)
    jobs = [(np.roll(frame, 11 * i, axis=1), boxes[: 1 + i % len(boxes)]) for i in range(24)]
    alone = [pose(*job) for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        for seen, expected in zip(pool.map(lambda job: pose(*job), jobs), alone, strict=True):
            same(seen, expected)


@pytest.mark.parametrize("streamed", [False, True])
def test_an_error_of_the_library_names_the_file(
    narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    pose = PoseEstimator(narrow_bundle, backend="onnxruntime", threads=1)

    def fail(crops: object) -> None:
        raise BackendError("it failed while it ran")

    monkeypatch.setattr(pose.session, "infer", fail)
    frame = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(BackendError, match=rf"^{re.escape(str(narrow_bundle))}: it failed while it ran$"):
        list(pose.stream([(frame, None)])) if streamed else pose(frame)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such file"):
        PoseEstimator(tmp_path / "none.pose")


@pytest.mark.parametrize("item", [None, 5, (), (1, 2, 3), "frame.png"])
def test_a_stream_of_something_else(narrow_bundle: Path, item: object) -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    found = PoseEstimator(narrow_bundle).stream([(frame, None), item])  # type: ignore[list-item]
    assert len(next(found)) == 1
    with pytest.raises(InputError, match=f"not {type(item).__name__}$"):
        next(found)


def test_a_graph_that_is_refused_is_of_a_file(narrow_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "spoiled.pose"
    with zipfile.ZipFile(narrow_bundle) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(held["manifest.json"])
    record = next(r for r in manifest["artifacts"] if r["file"] == "fp32.onnx")
    model = onnx.load_from_string(held["fp32.onnx"])
    model.graph.initializer[0].dims[0] += 1
    data = model.SerializeToString()
    record.update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    text = json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in {**held, "manifest.json": text, "fp32.onnx": data}.items():
            archive.writestr(name, member)
        archive.comment = seal(text)
    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(BackendError, match=f"^{re.escape(str(path))}: .* refused the fp32 graph"):
            PoseEstimator(path, backend=backend)
