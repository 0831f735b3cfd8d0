"""Clips move smoothly, are the same on every run, and their labels are what the tools for such data read."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools.coco import COCO

from posert.export.demo import clip_data, clip_labels, people, videos
from posert.export.demo.scenarios import SCENARIOS, Scene, scene
from posert.export.demo.stage import HEIGHT, MARGIN, WIDTH
from posert.runtime.accuracy.results import person_scores
from posert.runtime.datasets import dataset
from posert.runtime.metrics.oks import evaluate_oks
from posert.runtime.metrics.poseval import POSEVAL, read_sequences

NUMBERS = range(len(SCENARIOS))
STILL = SCENARIOS.index("still")


def fingerprint(split: str, index: int, seed: int = 0, frames: int = 2) -> str:
    digest = hashlib.sha256()
    for image, found in videos.clip(split, index, frames, seed):
        digest.update(image.tobytes() + json.dumps(found).encode())
    return digest.hexdigest()


def joints_at(of: Scene, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(P, T, 17, 2)` at any times, also between frames."""
    figures = [[actor.figure(float(frame), of.camera) for frame in frames] for actor in of.actors]
    return np.array([[[f.place(f.body.points[k])[:2] for k in people.KEYPOINTS] for f in one] for one in figures])


def test_a_clip_depends_on_its_key_only() -> None:
    code = (
        "import hashlib, json; from posert.export.demo import videos; d = hashlib.sha256()\n"
        "for image, found in videos.clip('val', 4, 2): d.update(image.tobytes() + json.dumps(found).encode())\n"
        "print(d.hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == fingerprint("val", 4)


def test_a_frame_can_be_made_alone() -> None:
    *_, (image, found) = videos.clip("train", 5, 4)
    alone, same = videos.render(scene("train", 5), 3)
    assert np.array_equal(image, alone) and found == same


def test_splits_seeds_and_clips_differ() -> None:
    keys = [(split, index, seed) for split in people.SPLITS for index in (0, 8) for seed in (0, 1)]
    assert len({fingerprint(*key, frames=1) for key in keys}) == len(keys)


def test_the_generator_loads_no_torch() -> None:
    code = "import sys, posert.export.demo.clip_data; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("index", NUMBERS)
def test_the_truth_moves_without_kinks(index: int) -> None:
    of = scene("val", index)
    times = np.arange(20.0, 60.0)
    coarse = np.abs(np.diff(joints_at(of, times), 2, axis=1)).max()
    step = 1 / 16
    fine = max(np.abs(np.diff(joints_at(of, time + step * np.arange(-1, 2)), 2, axis=1)).max() for time in times + 0.3)
    # Of a path with a continuous second derivative, second differences fall with the square of the step, 1/256; of one
    # with a kink with the step, 1/16. Between frames a second derivative may be larger than in them.
    assert fine <= coarse * step**2 * 2 + 1e-9


@pytest.mark.parametrize("index", NUMBERS)
def test_people_move_at_a_human_pace(index: int) -> None:
    truth = videos.joints("val", index, 60)
    heights = truth[..., 1].max(2) - truth[..., 1].min(2)
    step = np.linalg.norm(np.diff(truth, axis=1), axis=-1).max(2) / heights[:, 1:]
    # A wrist of somebody who runs moves at about 10 m/s against the camera: 0.25 statures of 1.7 m in 1/25 s.
    assert step.max() < 0.25


def test_truth_and_labels_agree() -> None:
    truth = videos.joints("train", 2, 30)
    for frame in (0, 29):
        for person in videos.render(scene("train", 2), frame)[1]:
            expected = truth[person["track_id"] - 1, frame]
            assert np.abs(np.array(person["joints"]) - expected).max() <= 0.005 + 1e-9  # they are rounded to 0.01 px
            k = np.array(person["keypoints"]).reshape(17, 3)
            assert np.abs(k[:, :2] - expected)[k[:, 2] > 0].max(initial=0) <= 0.005 + 1e-9


def test_somebody_who_stands_still_differs_by_the_sensor_noise_alone() -> None:
    truth = videos.joints("val", STILL, 100)
    assert len(truth) == 1 and np.ptp(truth, axis=1).max() == 0
    of = scene("val", STILL)
    frames = np.array([image for image, _ in videos.clip("val", STILL, 16)], np.float32)
    # The noise is a sum of two uniform numbers: of the standard deviation grain / sqrt(6). Clipping lowers it.
    assert 0 < np.median(frames.std(0)) < 1.3 * of.camera.grain / np.sqrt(6) + 0.5
    assert np.ptp(frames.mean((1, 2, 3))) < 0.1


def test_the_camera_moves_people_and_room_alike() -> None:
    of = scene("val", SCENARIOS.index("handheld"))
    steady = replace(of, camera=replace(of.camera, sways=()))
    times = np.arange(0.0, 100.0, 7.0)
    shift = np.array([of.camera.turned(time) for time in times])
    assert np.ptp(shift, axis=0).max() > 8 and np.abs(shift).max() < MARGIN
    assert np.allclose(joints_at(of, times) - joints_at(steady, times), shift[None, :, None], atol=1e-9)
    # The room without people: by how much it moved, as phase correlation measures it.
    empty, still = (replace(one, actors=(), layers=of.layers[:1]) for one in (of, steady))
    quiet = [replace(one, camera=replace(one.camera, grain=0.0)) for one in (empty, still)]
    for time in (0, 31):
        moved, stood = (cv2.cvtColor(videos.render(one, time)[0], cv2.COLOR_BGR2GRAY) for one in quiet)
        window = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)
        found, _ = cv2.phaseCorrelate(stood.astype(np.float32), moved.astype(np.float32), window)
        assert np.abs(np.array(found) - of.camera.turned(time)).max() < 0.5


@pytest.mark.parametrize("index", [SCENARIOS.index("cross"), SCENARIOS.index("crowd")])
def test_the_nearer_person_hides_the_other(index: int) -> None:
    of = scene("val", index)
    hidden = 0
    for frame in range(0, 100, 20):
        order = sorted(of.actors, key=lambda actor: actor.path.at(frame).depth)
        nearer: tuple[Any, ...] = ()
        everybody = {a["track_id"]: a for a in videos.render(of, frame)[1]}
        for actor in order:
            # Whoever is farther changes nothing.
            nearer = (*nearer, actor)
            found = videos.render(replace(of, actors=nearer), frame)[1]
            areas = {a["track_id"]: a["area"] for a in found}
            assert areas == {track: everybody[track]["area"] for track in areas}
            alone = videos.render(replace(of, actors=(actor,)), frame)[1]
            hidden += alone[0]["area"] > areas.get(actor.track_id, 0) if alone else 0
    assert hidden > 0


@pytest.mark.parametrize(("split", "index"), [("train", 3), ("val", 3), ("val", 11)])
def test_people_leave_and_return_under_their_own_number(split: str, index: int) -> None:
    of = scene(split, index)
    alone = replace(of, actors=of.actors[:1])
    there = [[a["track_id"] for a in videos.render(alone, frame)[1]] == [1] for frame in range(0, 100, 3)]
    gone = there.index(False)
    back = gone + there[gone:].index(True)
    assert of.name == "return" and all(there[:gone]) and all(there[back:])
    # The path is out of the picture for 5 to 25 frames; arms and legs leave later and come back earlier, or not.
    assert 1 <= back - gone <= 13


def test_what_hides_is_told_from_what_is_behind_the_body() -> None:
    states: set[int] = set()
    for index in (SCENARIOS.index("hide"), SCENARIOS.index("crowd")):
        of = scene("val", index)
        for frame in range(0, 100, 10):
            for person in videos.render(of, frame)[1]:
                states |= set(person["visibility"])
                for v, flag in zip(person["visibility"], person["keypoints"][2::3], strict=True):
                    assert flag in (0, {0: 0, 1: 0, 2: 1, 3: 2}[v])
    assert states >= {1, 2, 3}


def test_no_two_people_stand_in_one_place() -> None:
    for split in ("train", "val"):
        for index in range(20):
            of = scene(split, index)
            for frame in range(0, 100, 5):
                spots = [actor.path.at(frame) for actor in of.actors]
                for number, a in enumerate(spots):
                    assert all(np.hypot(a.x - b.x, a.depth - b.depth) > 0.3 for b in spots[:number])
                assert min(spot.depth for spot in spots) > 1


class TestFiles:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("clips")
        command = [sys.executable, "-m", "posert.export.demo.videos", "--output", str(folder)]
        subprocess.run([*command, "--clips", "2", "--first", "2", "--frames", "12"], check=True, capture_output=True)
        return folder

    def test_pictures_are_the_clips(self, folder: Path) -> None:
        for index in (2, 3):
            for number, (image, _) in enumerate(videos.clip("val", index, 12)):
                assert np.array_equal(cv2.imread(str(folder / clip_labels.frame_name("val", index, number))), image)

    def test_coco_reads_the_labels_and_scores_the_truth_with_one(self, folder: Path) -> None:
        truth = COCO(str(folder / "coco_val.json"))
        content = json.loads((folder / "coco_val.json").read_text())
        assert len(truth.imgs) == 24 and len(truth.anns) == len(content["annotations"])
        assert {i["video_id"] for i in truth.imgs.values()} == {v["id"] for v in content["videos"]} == {3, 4}
        assert all((folder / i["file_name"]).is_file() for i in truth.imgs.values())
        results = []
        for a in content["annotations"]:
            k = np.concatenate([a["joints"], np.ones((17, 1))], 1)
            score = float(person_scores(k[None, :, 2], np.ones(1))[0])
            results.append({**{f: a[f] for f in ("image_id", "category_id")}, "keypoints": k.reshape(-1).tolist()})
            results[-1]["score"] = score
        assert evaluate_oks(content, results, dataset("coco").sigmas).metrics["AP"] == pytest.approx(1)

    def test_poseval_reads_the_sequences_and_scores_the_truth_with_one(self, folder: Path) -> None:
        content = read_sequences(folder / "posetrack18" / "val")
        assert len(content["images"]) == 24
        assert all((folder / i["file_name"]).is_file() and i["is_labeled"] for i in content["images"])
        results = [{"image_id": a["image_id"], "keypoints": a["keypoints"]} for a in content["annotations"]]
        figures = POSEVAL.score(dataset("posetrack18"), content, results, "legacy")
        assert figures["Total"] == pytest.approx(1)

    def test_both_forms_tell_of_the_same_people(self, folder: Path) -> None:
        coco = json.loads((folder / "coco_val.json").read_text())
        tracked = read_sequences(folder / "posetrack18" / "val")
        names = dataset("posetrack18").keypoints
        assert [a["id"] for a in coco["annotations"]] == [a["id"] for a in tracked["annotations"]]
        for a, b in zip(coco["annotations"], tracked["annotations"], strict=True):
            assert (a["track_id"], a["image_id"], a["bbox"]) == (b["track_id"], b["image_id"], b["bbox"])
            there = dict(zip(names, np.array(b["keypoints"]).reshape(17, 3), strict=True))
            for name, (x, y), v in zip(people.KEYPOINTS, a["joints"], a["visibility"], strict=True):
                if name in there and "ear" not in name and v >= 2:
                    assert there[name].tolist() == [x, y, 1]
            assert not there["left_ear"].any() and not there["right_ear"].any()
            x, y, w, h = b["bbox_head"]
            # The head is between its ends, and an eighth of a stature high.
            if there["head_top"][2] and there["head_bottom"][2]:
                assert x <= there["head_top"][0] <= x + w and y - 0.5 <= there["head_top"][1] <= y + h
                assert there["head_top"][1] < there["head_bottom"][1]

    def test_videos(self, tmp_path: Path) -> None:
        videos.write(tmp_path, "val", 1, frames=10, video=True)
        capture = cv2.VideoCapture(str(tmp_path / "videos" / "val" / "000000_val.mp4"))
        assert capture.get(cv2.CAP_PROP_FPS) == videos.FPS
        for image, _ in videos.clip("val", 0, 10):
            there, frame = capture.read()
            # Lossy: the mean stays within a few of 255 levels, and the picture is the one of this frame.
            assert there and frame.shape == (HEIGHT, WIDTH, 3)
            assert np.abs(frame.astype(np.float32) - image).mean() < 12
        assert not capture.read()[0]

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "images").write_text("")
        with pytest.raises(OSError):
            videos.write(tmp_path, "val", 1, frames=1)


def test_cached_clips_are_the_generated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSERT_CACHE", str(tmp_path))
    images, found = clip_data.cached("val", 1, 3)
    expected = list(videos.clip("val", 1, 3))
    assert np.array_equal(images, np.array([image for image, _ in expected]))
    assert found == json.loads(json.dumps([labels for _, labels in expected]))
    monkeypatch.setattr(videos, "clip", lambda *_: (_ for _ in ()).throw(AssertionError("drawn again")))
    again, same = clip_data.cached("val", 1, 3)
    assert np.array_equal(again, images) and same == found


def test_every_scenario_is_in_each_half_of_the_clips() -> None:
    for split in ("train", "val"):
        assert {scene(split, index).name for index in range(20)} == set(SCENARIOS)
    counts = [len(scene("val", index).actors) for index in range(20)]
    assert min(counts) == 1 and max(counts) >= 4
    assert all(b > a for a, b in pairwise((0, sum(counts) / 20, 6)))
