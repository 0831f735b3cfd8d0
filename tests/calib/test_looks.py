"""People before static backgrounds: different frames are told apart, changed copies are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.calib.looks import Facts, Moment, image_facts, moment_of
from posert.calib.overlap import EvaluationImages, Overlap
from posert.export.demo.appearance import draw_person, sample_appearance
from posert.export.demo.mannequin import build_body, sample_pose
from posert.export.demo.people import HEIGHT, KEYPOINTS, WIDTH
from posert.export.demo.raster import Canvas
from posert.export.demo.scenery import background
from posert.export.demo.stable_rng import StableRng

MOUSE = Path(__file__).parents[1] / "goldens" / "mirror_mouse"
Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def frame_of_camera(camera: int, pose: int, stature: float) -> tuple[Image, Box]:
    """The same person before the same background in one pose or another, with a sensor's noise; and the box."""
    rng, own = StableRng(7, 2, camera), StableRng(9, 2, pose)
    canvas = Canvas(background(rng, WIDTH, HEIGHT), np.array([0.3, -0.6, 0.8]))
    body, size = build_body(sample_pose(own), own), HEIGHT * stature
    joints = np.stack([body.points[name] for name in KEYPOINTS])
    low, high = joints.min(0), joints.max(0)
    half = (high - low)[:2] * size / 2 + 0.08 * size
    x, y = own.uniform(half[0], WIDTH - half[0]), own.uniform(half[1], HEIGHT - half[1])
    origin = np.array([x, y, 0.0]) - (low + high) / 2 * size * (1, -1, 0)
    canvas.start_layer(1)
    place = lambda point: origin + point * size * (1, -1, 1)  # noqa: E731
    draw_person(canvas, body, sample_appearance(StableRng(5, 2, camera)), place, size)
    noise = np.random.default_rng(pose).normal(0, 3, (HEIGHT, WIDTH, 1))
    box = (x - half[0], y - half[1], 2 * half[0], 2 * half[1])
    return np.clip(canvas.image + noise, 0, 255).astype(np.uint8), box


def mice() -> list[tuple[Image, Box]]:
    found = []
    for part in ("test", "calib"):
        content = json.loads((MOUSE / f"{part}.json").read_text())
        names = {record["id"]: record["file_name"] for record in content["images"]}
        for a in content["annotations"]:
            image = cv2.imread(str(MOUSE / "images" / names[a["image_id"]]))
            found.append((np.asarray(image, np.uint8), tuple(a["bbox"])))
    return found


SETS: dict[str, Callable[[], list[tuple[Image, Box]]]] = {
    "mice": mice,
    "small people": lambda: [frame_of_camera(1, pose, 0.3) for pose in range(16)],
    "large people": lambda: [frame_of_camera(2, pose, 0.7) for pose in range(16)],
}


def scaled(image: Image, box: Box, factor: float) -> tuple[Image, Box]:
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), tuple(v * factor for v in box)  # type: ignore[return-value]


def cut(image: Image, box: Box) -> tuple[Image, Box]:
    dx, dy = image.shape[1] // 50, image.shape[0] // 50
    return image[dy:-dy, dx:-dx], (box[0] - dx, box[1] - dy, box[2], box[3])


def jpeg(image: Image, quality: int) -> Image:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1), np.uint8)


CHANGES: dict[str, Callable[[Image, Box], tuple[Image, Box]]] = {
    "jpeg of quality 30": lambda image, box: (jpeg(image, 30), box),
    "half size": lambda image, box: scaled(image, box, 0.5),
    "larger": lambda image, box: scaled(image, box, 1.5),
    "brighter": lambda image, box: (np.clip(image * 1.1 + 8, 0, 255).astype(np.uint8), box),
    "darker": lambda image, box: ((image * 0.6).astype(np.uint8), box),
    "cut": cut,
    "box of another origin": lambda image, box: (
        jpeg(image, 85),
        (box[0] + 0.08 * box[2], box[1] - 0.08 * box[3], box[2] * 1.08, box[3]),
    ),
}


def png(image: Image) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def compared(held_out: list[tuple[Image, Box]], own: list[tuple[Image, Box]]) -> Overlap:
    """Names are the indices in the lists, and tell no video."""
    facts = [{str(i): Facts(np.array([box])) for i, (_, box) in enumerate(images)} for images in (held_out, own)]
    evaluation = EvaluationImages(facts[0], lambda name: png(held_out[int(name)][0]), facts[0])
    return evaluation.overlap(facts[1], lambda name: png(own[int(name)][0]), facts[1])


@pytest.mark.parametrize("kind", SETS)
def test_other_frames_of_a_fixed_camera_are_no_suspects(kind: str) -> None:
    images = SETS[kind]()
    assert compared(images[::2], images[1::2]) == Overlap({}, {})


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", SETS)
def test_changed_copies_are_suspects_and_of_the_right_image(kind: str, change: str) -> None:
    images = SETS[kind]()[:12]
    found = compared(images, [CHANGES[change](image, box) for image, box in images])
    assert found == Overlap({}, {str(i): str(i) for i in range(len(images))})


def test_frames_that_follow_each_other_are_compared_less_strictly() -> None:
    """A mouse of which a part is elsewhere is 40 to 60 bits apart: alike only where the names say it is one moment."""
    images = mice()
    near = Facts(np.array([images[0][1]]), Moment("v", 5))
    far = Facts(near.boxes, Moment("v", 500))
    other = images[0][0].copy()
    x, y, w, h = (int(v) for v in images[0][1])
    other[y : y + h // 3, x : x + w // 3] = other[y : y + h // 3, x + w // 2 : x + w // 2 + w // 3][:, ::-1]
    evaluation = EvaluationImages(["0"], lambda name: png(images[0][0]), {"0": near})
    for facts, expected in ((Facts(near.boxes, Moment("v", 8)), True), (far, False)):
        found = evaluation.overlap(["1"], lambda name: png(other), {"1": facts})
        assert bool(found.similar) is expected


@pytest.mark.parametrize(
    ("record", "moment"),
    [
        ({"file_name": "img07.png"}, None),
        ({"file_name": "000000000139.jpg"}, None),
        ({"file_name": "nose.png"}, None),
        ({"file_name": "labeled-data/m3/img0114.png"}, Moment("labeled-data/m3/img", 114)),
        ({"file_name": "m3_cam1_frame_0012.jpg"}, Moment("m3_cam1_frame_", 12)),
        ({"file_name": "img07.png", "video_id": 3}, Moment("3", 7)),
        ({"file_name": "a.png", "vid_id": "000342", "frame_id": 10003420001}, Moment("000342", 10003420001)),
    ],
)
def test_what_records_and_names_tell(record: dict[str, Any], moment: Moment | None) -> None:
    assert moment_of(record) == moment


def test_boxes_without_an_area_and_crowds_are_not_compared() -> None:
    people = [{"bbox": [1, 2, 30, 40]}, {"bbox": [1, 2, 30, 40], "iscrowd": 1}, {"bbox": [0, 0, 0, 0]}, {}]
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "camera": "left"}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"id": i, "image_id": 1, **a} for i, a in enumerate(people)],
    }
    facts = image_facts(coco)
    assert facts["a.png"].boxes.tolist() == [[1, 2, 30, 40]] and facts["a.png"].camera == "left"
    assert facts["b.png"].boxes.shape == (0, 4) and facts["b.png"].camera == ""
