"""The estimator against a pipeline written out in the plainest way; its invariants; bad input; what `auto` picks."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sys
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
from posert.runtime.backends import installed_backends, load_backend
from posert.runtime.batching import MAX_BATCH
from posert.runtime.bundle.archive import Artifact, Bundle, Golden, describe, write_bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.bundle.members import seal
from posert.runtime.errors import BackendError, BundleError, InputError
from posert.runtime.selection import Selection, select

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


CONTRACT = Contract(
    dataset="coco", keypoints=("a",), flip_pairs=(), skeleton=(), sigmas=(0.1,),
    width=8, height=8, heatmap_width=2, heatmap_height=2,
)  # fmt: skip


def bundle_of(
    path: Path, verdicts: dict[tuple[str, str], str], artifacts: str = "fp32 fp16 int8 torchscript"
) -> Bundle:
    """A bundle of empty graphs, for what is decided before a graph is compiled."""
    graphs = {
        name: (Artifact(name, "onnx", f"{name}.onnx", precision="fp32", opset=19, **describe(b"")), b"")
        for name in artifacts.split()
    }
    rows = [
        {
            **{"backend": backend, "precision": precision, "verdict": verdict, "accuracy": None, "accuracy_drop": None},
            **{"pixel_drift_p95": 0.0, "ms_per_person": 1.0, "artifact": {"bf16": "fp32"}.get(precision, precision)},
        }
        for (backend, precision), verdict in verdicts.items()
    ]
    golden = Golden(np.zeros((1, 8, 8, 3), np.uint8), (np.zeros((1, 1, 2, 2), np.float32),))
    write_bundle(
        path,
        name="decide",
        model={"arch": "x", "dataset": "coco"},
        contract=CONTRACT,
        graphs=graphs,
        golden=golden,
        calibration=None,
        accuracy={"rows": rows},
        versions={},
    )
    return Bundle(path)


def hide(monkeypatch: pytest.MonkeyPatch, **libraries: str) -> None:
    for backend, library in libraries.items():
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"posert.runtime.backends.{backend}", raising=False)


P, F, U = "passed", "failed", "unproven"
OV, ORT, TS = "openvino", "onnxruntime", "torchscript"
REFERENCE = {("pytorch", "fp32"): "reference"}
BF16 = pytest.mark.skipif(
    OV not in INSTALLED or "bf16" not in load_backend(OV).runnable(), reason="this CPU has no bfloat16 arithmetic"
)


class TestSelection:
    @pytest.mark.parametrize(
        ("verdicts", "expected"),
        [
            ({(OV, "int8"): P, (OV, "fp32"): P, (OV, "fp16"): P}, (OV, "int8")),
            ({(OV, "int8"): F, (OV, "fp32"): P, (OV, "fp16"): P}, (OV, "fp32")),
            ({(OV, "int8"): U, (OV, "fp32"): U, (OV, "fp16"): U}, (OV, "fp32")),
            ({(OV, "int8"): F, (OV, "fp32"): F, (OV, "fp16"): P}, (OV, "fp16")),
            ({(OV, "int8"): U, (OV, "fp32"): F, (OV, "fp16"): F}, (OV, "int8")),
            # int8 was fine on one backend and not on the other: it must not be taken where it failed
            ({(OV, "int8"): F, (ORT, "int8"): P, (OV, "fp32"): P}, (OV, "fp32")),
            # everything failed on the preferred backend: the next one
            ({**{(OV, p): F for p in ("fp32", "fp16", "int8")}, (ORT, "fp32"): P}, (ORT, "fp32")),
            # a bundle that was built where this backend was not installed
            ({(ORT, "int8"): P, (ORT, "fp32"): P}, (OV, "int8")),
            ({(ORT, "int8"): F, (ORT, "fp32"): P}, (OV, "fp32")),
            # bf16 is proven by its own row only, and proves nothing about the graph that it computes
            pytest.param({(OV, "int8"): F, (OV, "bf16"): P, (OV, "fp32"): P}, (OV, "bf16"), marks=BF16),
            pytest.param({(OV, "int8"): F, (OV, "bf16"): F, (OV, "fp32"): P}, (OV, "fp32"), marks=BF16),
            ({(OV, "int8"): F, (OV, "fp32"): P}, (OV, "fp32")),
            ({(ORT, "int8"): F, (ORT, "fp32"): P, ("elsewhere", "bf16"): F}, (OV, "fp32")),
            ({}, (OV, "fp32")),
        ],
    )
    def test_auto(self, tmp_path: Path, verdicts: dict[tuple[str, str], str], expected: tuple[str, str]) -> None:
        selected = select(bundle_of(tmp_path / "b.pose", REFERENCE | verdicts))
        assert (selected.backend, selected.precision) == expected
        proven = {v for (_, p), v in verdicts.items() if p == expected[1]} == {P} or verdicts.get(expected) == P
        assert ("passed the accuracy gate" in selected.reason) == proven
        assert "the first backend that can run here" in selected.reason

    @pytest.mark.parametrize(("verdict", "expected"), [(P, "fp32"), (F, "fp32")])
    def test_bf16_tells_nothing_about_the_fp32_graph(self, tmp_path: Path, verdict: str, expected: str) -> None:
        selected = select(bundle_of(tmp_path / "b.pose", REFERENCE | {("elsewhere", "bf16"): verdict}))
        assert (selected.precision, "no precision is proven" in selected.reason) == (expected, True)

    def test_the_reference_proves_nothing(self, tmp_path: Path) -> None:
        assert "no precision is proven" in select(bundle_of(tmp_path / "b.pose", REFERENCE)).reason

    def test_everything_failed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        pairs = [(b, p) for b in (OV, ORT) for p in ("fp32", "fp16", "int8")] + [(TS, "fp32")]
        bundle = bundle_of(tmp_path / "b.pose", dict.fromkeys(pairs, F))
        with pytest.raises(BackendError, match="openvino int8, .*failed the accuracy gate.*backend= and precision="):
            select(bundle)
        with caplog.at_level(logging.WARNING, "posert"):
            selected = select(bundle, OV, "int8")
        assert selected == Selection(OV, "int8", "as asked, although it failed the accuracy gate")
        assert "failed the accuracy gate" in caplog.text

    def test_what_is_asked_for_is_what_runs(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {(OV, "int8"): P})
        assert select(bundle, ORT, "fp16") == Selection(ORT, "fp16", "as asked")
        assert select(bundle, precision="fp16").backend == OV
        assert select(bundle, TS) == Selection(
            TS, "fp32", "as asked; no precision is proven in this bundle, so the widest"
        )

    def test_what_the_bundle_lacks(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {}, "fp32")
        with pytest.raises(BackendError, match=r"no int8 graph \(it has fp32\)\. Rebuild with: .*--precision int8"):
            select(bundle, precision="int8")
        with pytest.raises(BackendError, match="fp32 does not run on torchscript. It runs with the backend openvino"):
            select(bundle, TS)

    def test_a_precision_that_there_is_not(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {})
        for backend in ("auto", OV):
            with pytest.raises(BackendError, match=r"^unknown precision 'int4'\. Did you mean int8\?") as caught:
                select(bundle, backend, "int4")
            assert "posert build" not in str(caught.value), "which would refuse it too"

    def test_another_backend_runs_it(self, tmp_path: Path) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {})
        with pytest.raises(
            BackendError, match="fp16 does not run on torchscript. It runs with the backend openvino or"
        ):
            select(bundle, TS, "fp16")

    def test_unknown_backend(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="Did you mean onnxruntime"):
            select(bundle_of(tmp_path / "b.pose", {}), "onnx_runtime")

    def test_missing_backends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bundle = bundle_of(tmp_path / "b.pose", {(OV, "int8"): P, (ORT, "int8"): P, (ORT, "fp32"): P})
        hide(monkeypatch, openvino="openvino")
        assert select(bundle).backend == ORT
        with pytest.raises(BackendError, match=r"posert\[openvino\]"):
            select(bundle, OV)
        hide(monkeypatch, onnxruntime="onnxruntime")
        assert select(bundle) == Selection(
            TS, "fp32", "the first backend that can run here; no precision is proven in this bundle, so the widest"
        )
        hide(monkeypatch, torchscript="torch")
        with pytest.raises(BackendError, match=r"no backend can run here.*pip install .posert\[openvino\]"):
            select(bundle)

    def test_it_says_which_and_why(self, narrow_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "posert"):
            pose = PoseEstimator(narrow_bundle, threads=1)
        assert pose.selection.backend == INSTALLED[0]
        assert f"narrow-coco-128x96: {INSTALLED[0]} fp32, the first backend" in caplog.text

    def test_it_is_shown_by_its_name_and_choice(self, narrow_bundle: Path) -> None:
        pose = PoseEstimator(narrow_bundle, threads=1)
        assert repr(pose) == f"PoseEstimator('narrow-coco-128x96', {INSTALLED[0]} fp32)"
        again = PoseEstimator.from_session(pose.contract, pose.session, pose.selection)
        assert repr(again) == f"PoseEstimator({INSTALLED[0]} fp32)"

    def test_a_bundle_that_is_already_open_stays_open(self, narrow_bundle: Path) -> None:
        with Bundle(narrow_bundle) as bundle:
            PoseEstimator(bundle, threads=1)
            bundle.check()

    @pytest.mark.parametrize("streamed", [False, True])
    def test_an_error_of_the_library_names_the_file(
        self, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch, streamed: bool
    ) -> None:
        pose = PoseEstimator(narrow_bundle, backend="onnxruntime", threads=1)

        def fail(crops: object) -> None:
            raise BackendError("it failed while it ran")

        monkeypatch.setattr(pose.session, "infer", fail)
        frame = np.zeros((64, 64, 3), np.uint8)
        with pytest.raises(BackendError, match=rf"^{re.escape(str(narrow_bundle))}: it failed while it ran$"):
            list(pose.stream([(frame, None)])) if streamed else pose(frame)

    def test_no_bundle(self, tmp_path: Path) -> None:
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
