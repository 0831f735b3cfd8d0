"""The gate: planted faults are found, and its figures are those of pycocotools and of plain geometry."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posert.runtime.accuracy.frames import Frames
from posert.runtime.accuracy.gate import HEATMAP_BOUND, Candidate, judge
from posert.runtime.accuracy.verdict import Parity
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import BackendError, InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.heads import Outputs
from posert.runtime.pose.preprocess import crop, crop_matrices, crop_regions
from posert.runtime.selection import Selection
from posert.tests.contracts import contract_of

IMAGES, WIDTH, HEIGHT = 30, 200, 160
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


CONTRACT = contract_of("coco", 96, 128)


def make_frames(joints: int = 17, category: int = 1) -> Frames:
    """Noise images with two people each; some joints are not labelled, some people not at all, some are crowds."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (IMAGES, HEIGHT, WIDTH, 3), np.uint8)
    annotations: list[dict[str, Any]] = []
    for image in range(IMAGES):
        for side in (0, 1):
            x, y = 20 + 80 * side + rng.uniform(0, 10), rng.uniform(5, 20)
            w, h = rng.uniform(40, 65), rng.uniform(80, 130)
            xy = np.array([x, y]) + np.array([w, h]) * rng.uniform(0.2, 0.8, (joints, 2))
            visible = rng.choice([0, 1, 2], joints, p=[0.2, 0.2, 0.6])
            if len(annotations) % 13 == 5:
                visible[:] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + image,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": 0.6 * w * h,
                    "iscrowd": int(len(annotations) % 17 == 6),
                    "keypoints": np.column_stack([xy, visible]).reshape(-1).tolist(),
                    "num_keypoints": int((visible > 0).sum()),
                }
            )
    records = [{"id": 100 + i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(IMAGES)]
    coco = {"images": records, "annotations": annotations, "categories": [{"id": category, "name": "person"}]}
    return Frames(coco, lambda record: pixels[record["id"] - 100], lambda name: b"", "user", "made up")


class Oracle:
    """A session that knows every person by the crop, and answers with Gaussians `error` px (of the frame) off."""

    def __init__(self, frames: Frames, contract: Contract, error: float, change: Change, seed: int = 0) -> None:
        c, rng = contract, np.random.default_rng(seed)
        self.answers: dict[bytes, NDArray[np.float32]] = {}
        grid_y, grid_x = np.mgrid[: c.heatmap_height, : c.heatmap_width]
        for a in frames.coco["annotations"]:
            x, y, w, h = a["bbox"]
            box = np.array([[x, y, x + w, y + h]])
            center, extent = crop_regions(box, c)
            record = next(r for r in frames.coco["images"] if r["id"] == a["image_id"])
            cut = crop(frames.load(record), crop_matrices(center, extent, c.width, c.height), c.width, c.height)
            joints = np.reshape(a["keypoints"], (-1, 3))[:, :2] + rng.normal(0, 1, (len(c.keypoints), 2)) * error
            cells = (joints - center + extent / 2) * [c.heatmap_width, c.heatmap_height] / extent
            dx, dy = grid_x - cells[:, 0, None, None], grid_y - cells[:, 1, None, None]
            self.answers[cut.tobytes()] = np.exp(-(dx**2 + dy**2) / 8).astype(np.float32) * rng.uniform(0.5, 1)
        self.change = change

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        return (self.change(np.stack([self.answers[one.tobytes()] for one in crops])),)


def candidate(
    frames: Frames,
    error: float = 1.0,
    change: Change = lambda maps: maps,
    *,
    name: str = "openvino int8",
    seed: int = 0,
    contract: Contract = CONTRACT,
) -> Candidate:
    backend, precision = name.split()
    session = Oracle(frames, contract, error, change, seed)

    def open_it() -> PoseEstimator:
        return PoseEstimator.from_session(contract, session, Selection(backend, precision, "under test"))

    return Candidate(precision, backend, open_it, 1.5)


def gate(
    frames: Frames,
    *candidates: Candidate,
    max_drop: float = 0.005,
    labelled: bool = True,
    max_drift: float | None = None,
) -> Parity:
    return judge(candidates, frames, max_drop=max_drop, labelled=labelled, max_drift=max_drift)


def coco_ap(frames: Frames, one: Candidate) -> float:
    """AP by pycocotools of what the estimator finds, written out anew."""
    pose, results = one.open(), []
    for a in frames.coco["annotations"]:
        if a["iscrowd"] or not a["num_keypoints"]:
            continue
        x, y, w, h = a["bbox"]
        record = next(r for r in frames.coco["images"] if r["id"] == a["image_id"])
        person = pose(frames.load(record), [[x, y, x + w, y + h]])
        high = [float(s) for s in person.score[0] if s > 0.2]
        keypoints = [float(v) for (px, py), s in zip(person.xy[0], person.score[0], strict=True) for v in (px, py, s)]
        score = sum(high) / len(high) if high else 0.0
        results.append({"image_id": a["image_id"], "category_id": 1, "keypoints": keypoints, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(frames.coco)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.fixture(scope="module")
def frames() -> Frames:
    return make_frames()


@pytest.fixture(scope="module")
def reference(frames: Frames) -> Candidate:
    return candidate(frames, name="pytorch fp32")


class TestAccuracy:
    def test_a_worse_candidate_fails_with_the_drop_of_pycocotools(self, frames: Frames, reference: Candidate) -> None:
        worse = candidate(frames, 2.5, seed=1)
        parity = gate(frames, reference, worse)
        first, second = parity.rows
        assert first.accuracy == pytest.approx(coco_ap(frames, reference), abs=1e-9)
        assert second.accuracy == pytest.approx(coco_ap(frames, worse), abs=1e-9)
        assert second.accuracy_drop == pytest.approx(coco_ap(frames, reference) - coco_ap(frames, worse), abs=1e-9)
        assert second.accuracy_drop > 0.05
        assert (first.verdict, second.verdict, parity.verdict) == ("reference", "failed", "failed")
        low, high = second.accuracy_drop_interval
        assert low < second.accuracy_drop < high and low > 0
        assert first.accuracy_drop == 0 and first.accuracy_drop_interval == (0, 0)

    def test_the_allowed_drop_decides(self, frames: Frames, reference: Candidate) -> None:
        worse = candidate(frames, 2.5, seed=1)
        row = gate(frames, reference, worse).rows[1]
        assert row.loss is not None and row.loss_bounds is not None and row.accuracy_drop_interval is not None
        low, high = row.loss_bounds
        assert low < row.loss < high
        assert gate(frames, reference, worse, max_drop=high + 1e-9).verdict == "passed"
        unsure = gate(frames, reference, worse, max_drop=high - 1e-9)
        assert unsure.verdict == "undecided" and unsure.rows[1].people_needed is not None
        certain = max(low, row.accuracy_drop_interval[0])
        assert gate(frames, reference, worse, max_drop=certain - 1e-9).verdict == "failed"

    def test_the_same_network_passes(self, frames: Frames, reference: Candidate) -> None:
        parity = gate(frames, reference, candidate(frames))
        row = parity.rows[1]
        assert (row.accuracy_drop, row.accuracy_drop_interval, row.pixel_drift_p95, row.heatmap_error) == (
            0,
            (0, 0),
            0,
            0,
        )
        assert row.verdict == parity.verdict == "passed"
        assert (row.backend, row.precision, row.key, row.size_mb) == ("openvino", "int8", "openvino int8", 1.5)
        assert row.ms_per_person > 0

    def test_a_better_candidate_passes_with_a_negative_drop(self, frames: Frames, reference: Candidate) -> None:
        row = gate(frames, reference, candidate(frames, 0.1, seed=2)).rows[1]
        assert row.accuracy_drop is not None and row.accuracy_drop < 0 and row.verdict == "passed"

    def test_one_failure_fails_all(self, frames: Frames, reference: Candidate) -> None:
        good, bad = candidate(frames, name="onnxruntime fp32"), candidate(frames, 4.0)
        parity = gate(frames, reference, good, bad, good)
        assert [r.verdict for r in parity.rows] == ["reference", "passed", "failed", "passed"]
        assert parity.verdict == "failed"

    def test_a_failure_in_bf16_is_one_of_this_cpu(self, frames: Frames, reference: Candidate) -> None:
        good, bad = candidate(frames, name="openvino fp32"), candidate(frames, 4.0, name="openvino bf16")
        parity = gate(frames, reference, bad, good)
        assert [r.verdict for r in parity.rows] == ["reference", "failed", "passed"]
        assert parity.verdict == "passed"

    def test_only_labelled_people_are_judged(self, frames: Frames, reference: Candidate) -> None:
        usable = [a for a in frames.coco["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
        parity = gate(frames, reference, candidate(frames))
        assert parity.data["people"] == len(usable) < len(frames.coco["annotations"])
        assert parity.data["images"] == len({a["image_id"] for a in usable})
        assert parity.drift["openvino int8"].shape == (len(usable), 17)

    def test_annotations_without_areas_are_judged_by_their_boxes(self, reference: Candidate) -> None:
        """AIC, CrowdPose and PoseTrack18 annotate no area."""
        frames = make_frames()
        boxed = [{**a, "area": 0.53 * a["bbox"][2] * a["bbox"][3], "id": a["id"]} for a in frames.coco["annotations"]]
        without = [{k: v for k, v in a.items() if k != "area"} for a in boxed]
        worse = candidate(frames, 2.5, seed=1)
        first, second = (
            gate(replace(frames, coco={**frames.coco, "annotations": one}), reference, worse).rows[1]
            for one in (boxed, without)
        )
        assert first.accuracy is not None and second.accuracy == pytest.approx(first.accuracy, abs=1e-12)

    def test_another_category_id(self) -> None:
        """People need not be category 1 in a file of one's own."""
        frames = make_frames(category=7)
        parity = gate(frames, candidate(frames, name="pytorch fp32"), candidate(frames))
        assert parity.verdict == "passed"

    def test_another_data_set_is_scored_with_its_own_constants(self) -> None:
        contract = contract_of("aic", 96, 128)
        frames = make_frames(joints=len(contract.keypoints))
        parity = gate(
            frames, candidate(frames, name="pytorch fp32", contract=contract), candidate(frames, 3.0, contract=contract)
        )
        assert parity.verdict == "failed" and parity.rows[0].accuracy is not None
        wide = replace(contract, sigmas=tuple(3 * s for s in contract.sigmas))
        looser = gate(frames, candidate(frames, 3.0, name="pytorch fp32", contract=wide))
        assert parity.rows[1].accuracy is not None and looser.rows[0].accuracy is not None
        assert looser.rows[0].accuracy > parity.rows[1].accuracy + 0.1


class TestUnproven:
    def test_without_labels_nothing_passes(self, frames: Frames, reference: Candidate) -> None:
        parity = gate(frames, reference, candidate(frames), labelled=False)
        assert parity.verdict == parity.rows[1].verdict == "unproven"
        assert all(
            r.accuracy is None and r.accuracy_drop is None and r.accuracy_drop_interval is None for r in parity.rows
        )
        assert parity.data["labelled"] is False

    @pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
    def test_without_labels_the_heatmaps_can_fail(self, frames: Frames, reference: Candidate, precision: str) -> None:
        bound = HEATMAP_BOUND[precision]
        for factor, verdict in ((1 + 0.9 * bound, "unproven"), (1 + 1.1 * bound, "failed")):
            scaled = candidate(frames, change=lambda m, f=factor: m * np.float32(f), name=f"openvino {precision}")
            row = gate(frames, reference, scaled, labelled=False).rows[1]
            assert row.heatmap_error == pytest.approx(factor - 1, rel=1e-3)
            assert row.verdict == verdict

    def test_too_few_people_leave_it_undecided(self, frames: Frames, reference: Candidate) -> None:
        """The same joints, from outputs that differ as int8's do: how often a joint jumps is not known yet."""
        scaled = candidate(frames, change=lambda maps: maps * np.float32(1.05))
        for count, verdict in ((1, "undecided"), (10, "undecided"), (len(frames.labelled()), "passed")):
            kept = replace(frames, coco={**frames.coco, "annotations": frames.labelled()[:count]})
            parity = gate(kept, reference, scaled, max_drop=0.01)
            assert parity.verdict == verdict and parity.data["labelled"]
            assert (parity.rows[1].people_needed is not None) is (count == 10)
            json.dumps(parity.rows[1].to_json(), allow_nan=False)

    def test_a_model_without_accuracy_proves_nothing(self, frames: Frames) -> None:
        """Its AP is 0, and so is that of anything: no drop, and still not passed."""
        blind = candidate(frames, 80.0, name="pytorch fp32")
        parity = gate(frames, blind, candidate(frames, 80.0))
        assert parity.verdict == "unproven" and parity.data["labelled"] is False
        assert "own AP here is 0.0" in parity.data["note"]

    def test_the_reference_alone(self, frames: Frames, reference: Candidate) -> None:
        assert gate(frames, reference).verdict == "unproven"


class TestDrift:
    def test_a_shift_by_one_cell_in_px_of_the_frame(self, frames: Frames, reference: Candidate) -> None:
        shifted = candidate(frames, change=lambda maps: np.roll(maps, 1, axis=3))
        parity = gate(frames, reference, shifted)
        # a crop shows the box, widened to 3:4 and then by 1.25, on 24 columns
        cells, labels = [], []
        for a in frames.coco["annotations"]:
            if a["num_keypoints"] and not a["iscrowd"]:
                cells.append(1.25 * max(a["bbox"][2], a["bbox"][3] * 96 / 128) / 24)
                labels.append(np.array(a["keypoints"][2::3]) > 0)
        expected = np.where(labels, np.array(cells)[:, None], np.nan)
        # float32 coordinates below 200 px; the reference stores extents in units of 200 px, which rounds them
        np.testing.assert_allclose(parity.drift["openvino int8"], expected, rtol=1e-3)
        row = parity.rows[1]
        assert row.pixel_drift_median == pytest.approx(np.nanmedian(expected), rel=1e-3)
        assert row.pixel_drift_p95 == pytest.approx(np.nanquantile(expected, 0.95), rel=1e-3)

    def test_dark_sees_the_same_shift_and_a_rule_that_is_dark_has_one_figure(self, frames: Frames) -> None:
        def shift(maps: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.roll(maps, 1, axis=3)

        row = gate(frames, candidate(frames, name="pytorch fp32"), candidate(frames, change=shift)).rows[1]
        # of noise near the edges DARK makes other steps, so the median and not every joint
        assert row.dark_drift_median == pytest.approx(row.pixel_drift_median, rel=0.02)
        own = replace(CONTRACT, decode="unbiased")
        judged = (candidate(frames, name="pytorch fp32", contract=own), candidate(frames, change=shift, contract=own))
        parity = gate(frames, *judged)
        assert parity.data["dark"] is None and parity.rows[1].dark_drift_p95 is None
        assert all(one.dark_p95 is None for one in parity.rows[1].drift_by_height)

    def test_dark_sees_what_a_quarter_cell_hides(self, frames: Frames, reference: Candidate) -> None:
        moved = candidate(frames, change=lambda m: 0.97 * m + 0.03 * np.roll(m, 1, axis=3))
        row = gate(frames, reference, moved).rows[1]
        assert row.pixel_drift_median == 0 and row.dark_drift_median is not None and row.dark_drift_median > 0.01

    def test_joints_that_go_to_a_second_peak_are_counted(self, frames: Frames) -> None:
        """Two peaks, the second as high but for a little: one joint of all people jumps."""

        def two_peaks(maps: NDArray[np.float32], second: float) -> NDArray[np.float32]:
            changed = maps.copy()
            changed[:, 3] = np.maximum(maps[:, 3], np.float32(second) * np.roll(maps[:, 3], 8, axis=1))
            return changed

        before = candidate(frames, change=lambda m: two_peaks(m, 0.9), name="pytorch fp32")
        parity = gate(frames, before, candidate(frames, change=lambda m: two_peaks(m, 1.1)))
        labels = np.array([np.array(a["keypoints"][2::3]) > 0 for a in frames.labelled()])
        assert parity.rows[1].jumps == pytest.approx(labels[:, 3].sum() / labels.sum())
        same = gate(frames, before, candidate(frames, change=lambda m: two_peaks(m, 0.95))).rows[1]
        assert same.jumps == 0

    def test_by_height_of_the_box(self, frames: Frames, reference: Candidate) -> None:
        parity = gate(frames, reference, candidate(frames, change=lambda maps: np.roll(maps, 1, axis=3)))
        heights = np.array([a["bbox"][3] for a in frames.labelled()])
        drift = parity.drift["openvino int8"].astype(np.float64)
        row = parity.rows[1]
        assert [one.below for one in row.drift_by_height] == [64, 128, 256, None]
        assert [one.people for one in row.drift_by_height] == [0, (heights < 128).sum(), (heights >= 128).sum(), 0]
        small = drift[heights < 128]
        assert row.drift_by_height[1].p95 == pytest.approx(np.percentile(small[np.isfinite(small)], 95))
        assert row.drift_by_height[2].people < 20 and row.drift_by_height[2].p95 is None, "too few for a figure"
        values = json.loads(json.dumps(row.to_json(), allow_nan=False))
        assert values["drift_by_height"][1]["people"] == (heights < 128).sum()

    def test_max_drift_decides_beside_the_drop(self, frames: Frames, reference: Candidate) -> None:
        noisy = candidate(frames, 1.1, name="openvino int8")  # 10 % farther from the labels than the reference
        row = gate(frames, reference, noisy, max_drop=0.5).rows[1]
        assert row.verdict == "passed" and row.pixel_drift_p95_bounds is not None
        low, high = row.pixel_drift_p95_bounds
        assert 0 < low <= row.pixel_drift_p95 <= high
        for limit, verdict in ((high + 1e-6, "passed"), (0.5 * (low + high), "undecided"), (low - 1e-6, "failed")):
            parity = gate(frames, reference, noisy, max_drop=0.5, max_drift=limit)
            assert parity.verdict == parity.rows[1].verdict == verdict and parity.max_drift == limit
        worse = candidate(frames, 2.5, seed=1)
        assert gate(frames, reference, worse, max_drift=1e3).verdict == "failed", "the drop still decides"

    def test_without_labels_drift_can_fail_and_not_pass(self, frames: Frames, reference: Candidate) -> None:
        same, shifted = candidate(frames), candidate(frames, change=lambda m: 0.9 * m + 0.1 * np.roll(m, 2, axis=3))
        assert gate(frames, reference, same, labelled=False, max_drift=1.0).verdict == "unproven"
        assert gate(frames, reference, shifted, labelled=False).verdict == "unproven"
        assert gate(frames, reference, shifted, labelled=False, max_drift=1e-3).verdict == "failed"

    def test_joints_without_a_label_do_not_count(self) -> None:
        frames = make_frames()
        for a in frames.coco["annotations"]:
            a["keypoints"][2 * 3 + 2] = 0
        elsewhere = candidate(frames, change=lambda m: np.concatenate([m[:, :2], m[:, 2:3, ::-1], m[:, 3:]], axis=1))
        row = gate(frames, candidate(frames, name="pytorch fp32"), elsewhere, max_drop=0.01).rows[1]
        assert row.pixel_drift_p95 == 0 and row.verdict == "passed"
        assert row.heatmap_error > 0  # the maps are compared whole

    def test_the_worst_person_comes_first(self, frames: Frames, reference: Candidate) -> None:
        usable = [a for a in frames.coco["annotations"] if a["num_keypoints"] and not a["iscrowd"]]
        victim = usable[20]
        bad = candidate(frames)
        session = bad.open().session
        assert isinstance(session, Oracle)
        keys = list(session.answers)
        key = keys[frames.coco["annotations"].index(victim)]
        session.answers[key] = np.roll(session.answers[key], 8, axis=1)
        worst = gate(frames, reference, bad).worst
        x, y, w, h = victim["bbox"]
        first = worst[0]
        assert first.key == "openvino int8" and len(worst) == 6
        assert first.drift == pytest.approx(8 * 1.25 * max(h, w * 128 / 96) / 32, rel=1e-2)
        assert all(w.drift <= 1e-6 for w in worst[1:])
        # coordinates are those of the picture that is shown, and the picture is cut from the frame around the person
        margin = 0.15 * max(w, h)
        assert first.image.shape[0] <= h + 2 * margin + 2 and first.image.shape[1] <= w + 2 * margin + 2
        assert first.truth is not None
        frame, box = frames.load({"id": victim["image_id"]}), [[x, y, x + w, y + h]]
        left = np.reshape(victim["keypoints"], (-1, 3))[:, :2] - first.truth[:, :2]
        np.testing.assert_allclose(first.reference_xy + left, reference.open()(frame, box).xy[0], atol=1e-3)
        np.testing.assert_allclose(first.candidate_xy + left, bad.open()(frame, box).xy[0], atol=1e-3)
        column, row = left[0].round().astype(int)
        size = first.image.shape
        np.testing.assert_array_equal(first.image, frame[row : row + size[0], column : column + size[1]])


class TestBrokenCandidates:
    @pytest.mark.parametrize("labelled", [True, False])
    def test_nan_fails_and_stops_no_other(self, frames: Frames, reference: Candidate, labelled: bool) -> None:
        def spoil(maps: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.where(maps > 0.9, np.nan, maps).astype(np.float32)

        broken = replace(candidate(frames, change=spoil, name="openvino fp16"), artifact="fp16")
        result = gate(frames, reference, broken, candidate(frames), labelled=labelled)
        assert [r.key for r in result.rows] == ["pytorch fp32", "openvino fp16", "openvino int8"]
        row = result.rows[1]
        assert result.verdict == row.verdict == "failed" and row.artifact == "fp16" and row.size_mb == broken.size_mb
        assert ".png, openvino fp16: the heatmaps" in row.reason and "NaN" in row.reason
        assert result.rows[2].verdict == ("passed" if labelled else "unproven") and not result.rows[2].reason
        assert list(result.drift) == ["openvino int8"] and {w.key for w in result.worst} == {"openvino int8"}
        values = json.loads(json.dumps(row.to_json(), allow_nan=False))
        assert [values[k] for k in ("accuracy", "pixel_drift_p95", "heatmap_error", "ms_per_person")] == [None] * 4

    def test_a_graph_that_the_backend_refuses(self, frames: Frames, reference: Candidate) -> None:
        def refuse() -> PoseEstimator:
            raise BackendError("OpenVINO refused the int8 graph: no")

        result = gate(frames, reference, replace(candidate(frames), open=refuse))
        assert (result.verdict, result.rows[1].reason) == ("failed", "OpenVINO refused the int8 graph: no")

    def test_a_reference_that_gives_nan_is_an_error(self, frames: Frames) -> None:
        with pytest.raises(InputError, match="pytorch fp32.*NaN"):
            gate(frames, candidate(frames, change=lambda maps: maps * np.nan, name="pytorch fp32"))


class TestRun:
    def test_progress_and_memory(self, frames: Frames) -> None:
        """The advance is told every frame of every candidate; an estimator lives no longer than it is judged."""
        alive: list[weakref.ref[PoseEstimator]] = []

        def watched(name: str) -> Candidate:
            inner = candidate(frames, name=name)

            def open_it() -> PoseEstimator:
                gc.collect()
                assert all(ref() is None for ref in alive)
                pose = inner.open()
                alive.append(weakref.ref(pose))
                return pose

            return replace(inner, open=open_it)

        told: list[tuple[str, int, int]] = []
        judge(
            [watched("pytorch fp32"), watched("openvino fp32")],
            frames,
            max_drop=0.1,
            labelled=True,
            advance=lambda *step: told.append(step),
        )
        images = told[0][2]
        steps = [(name, i + 1, images) for name in ("pytorch fp32", "openvino fp32") for i in range(images)]
        assert told == steps and len(alive) == 2

    def test_nobody_to_judge(self, reference: Candidate) -> None:
        frames = make_frames()
        for a in frames.coco["annotations"]:
            a["num_keypoints"] = 0
        with pytest.raises(InputError, match="60 annotations on 30 images hold no person"):
            gate(frames, reference)

    def test_a_box_outside_its_image_is_named(self, reference: Candidate) -> None:
        frames = make_frames()
        frames.coco["annotations"][4]["bbox"] = [500, 10, 20, 40]
        with pytest.raises(InputError, match=r"2\.png, pytorch fp32: box 0 of 1 .* outside the 200x160 frame"):
            gate(frames, reference)


def test_joints_without_sigmas_are_judged_by_pck() -> None:
    """A graph whose joints lie beside their labels fails as it does by AP; the note says by what it was judged."""
    frames, own = make_frames(), replace(CONTRACT, dataset="mine", sigmas=())
    reference = candidate(frames, 1.0, name="pytorch fp32", contract=own)
    same = candidate(frames, 1.0, contract=own)
    off = candidate(frames, 6.0, name="onnxruntime int8", seed=1, contract=own)
    parity = gate(frames, reference, same, off)
    assert parity.data["decode"] == CONTRACT.decode and parity.data["subjects"] == "instances"
    assert parity.metric == "PCK@0.05" and "PCK@0.05 of the box's longer side" in parity.data["note"]
    first, good, bad = parity.rows
    assert (good.verdict, good.accuracy_drop, good.accuracy_drop_interval) == ("passed", 0.0, (0.0, 0.0))
    assert bad.verdict == "failed" and bad.accuracy is not None and bad.accuracy_drop is not None
    # against a loop over the people, by what the estimator finds
    within = total = 0
    pose = off.open()
    for a in frames.coco["annotations"]:
        if a["iscrowd"] or not a["num_keypoints"]:
            continue
        x, y, w, h = a["bbox"]
        record = next(r for r in frames.coco["images"] if r["id"] == a["image_id"])
        found = pose(frames.load(record), [[x, y, x + w, y + h]]).xy[0]
        for (jx, jy, v), (px, py) in zip(np.reshape(a["keypoints"], (-1, 3)), found, strict=True):
            total += v > 0
            within += v > 0 and np.hypot(px - jx, py - jy) <= 0.05 * max(w, h)
    assert bad.accuracy == pytest.approx(within / total)
    assert first.accuracy == pytest.approx(bad.accuracy + bad.accuracy_drop)
