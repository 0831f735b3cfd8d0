"""Synthetic people in COCO format: images that anybody can make again, bit for bit, without a download.

    python -m posert.export.demo.people --output people --split val --count 400

An image is a pure function of (seed, split, index), so splits cannot share one and any part can be made alone.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.datasets.coco import DATASET
from ...runtime.system.files import atomic_write
from .appearance import Appearance, draw_person, sample_appearance
from .mannequin import Body, Vector, build_body, sample_pose
from .raster import Canvas
from .scenery import background, draw_object
from .seen import OUTSIDE, SURFACE, VISIBLE, outline, visibility
from .stable_rng import StableRng

KEYPOINTS = DATASET.keypoints
FACE = 5  # the first five keypoints
SPLITS = {"train": 1, "val": 2, "calib": 3}
WIDTH, HEIGHT = 320, 240

Image = NDArray[np.uint8]
Annotation = dict[str, Any]

_TALLEST = {1: 0.97, 2: 0.9, 3: 0.75, 4: 0.62}  # image heights per stature, by people in the image
_LABELLED_IF_HIDDEN = 0.3


@dataclass
class _Person:
    body: Body
    appearance: Appearance
    size: float  # px per stature
    origin: Vector  # of the body, px of the frame
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 of the joints

    def place(self, point: Vector) -> Vector:
        return self.origin + point * self.size * (1, -1, 1)


def render(split: str, index: int, seed: int = 0) -> tuple[Image, list[Annotation]]:
    """One image, BGR `(240, 320, 3)` uint8, and its COCO annotations without `id` and `image_id`."""
    rng = StableRng(seed, SPLITS[split], index)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-1.0, -0.2), rng.uniform(0.5, 1.0)])
    canvas = Canvas(background(rng, WIDTH, HEIGHT), light)
    people = _sample_people(rng)
    depths = _draw_scene(canvas, rng, people)
    annotations = [_annotate(rng, canvas, owner, person, depth) for owner, person, depth in depths]
    return _photograph(rng, canvas.image), [annotation for annotation in annotations if annotation is not None]


def _sample_people(rng: StableRng) -> list[_Person]:
    """One to four people who overlap, but do not hide each other's boxes wholly."""
    people: list[_Person] = []
    count = rng.pick((1, 2, 3, 4), (0.34, 0.33, 0.2, 0.13))
    attempts = 8
    for _ in range(count):
        for attempt in range(attempts):
            body = build_body(sample_pose(rng), rng)
            person = _stand(rng, body, _TALLEST[count])
            limit = 0.45 if attempt < attempts - 1 else 0.2
            if all(_overlap(person.box, other.box) < limit for other in people):
                people.append(person)
                break
    return people


def _stand(rng: StableRng, body: Body, tallest: float) -> _Person:
    """Choose a size and a place: mostly wholly inside the image, sometimes larger than it or cut by its edge."""
    joints = np.stack([body.points[name] for name in KEYPOINTS])
    low, high = joints.min(0), joints.max(0)
    shortest = 0.42
    stature = shortest * (tallest / shortest) ** rng.uniform(0, 1) if rng.chance(0.85) else rng.uniform(1.0, 1.5)
    size = HEIGHT * stature
    margin = 0.12 if rng.chance(0.85) else -0.05
    half_width, half_height = (high[:2] - low[:2]) * size / 2
    x = rng.uniform(*sorted((half_width * (1 + margin), WIDTH - half_width * (1 + margin))))
    y = rng.uniform(*sorted((half_height + 0.06 * size, HEIGHT - half_height - 0.03 * size)))
    centre = (low + high) / 2
    origin = np.array([x - centre[0] * size, y + centre[1] * size, 0.0])
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    return _Person(body, sample_appearance(rng), size, origin, box)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over the smaller of two boxes x0, y0, x1, y1."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))


def _draw_scene(
    canvas: Canvas, rng: StableRng, people: list[_Person]
) -> list[tuple[int, _Person, NDArray[np.float32]]]:
    """Draw objects behind, people, the larger rather in front, and objects before; each person's depth."""
    layers: list[tuple[float, _Person | float]] = [(p.size * 0.01 + rng.uniform(0, 1.2), p) for p in people]
    layers += [(-1.0, rng.uniform(0.1, 0.4) * HEIGHT) for _ in range(rng.integer(0, 2))]
    layers += [(rng.uniform(1, 6), rng.uniform(0.08, 0.28) * HEIGHT) for _ in range(rng.integer(0, 2))]
    drawn = []
    for owner, (_, layer) in enumerate(sorted(layers, key=lambda entry: entry[0]), start=1):
        if isinstance(layer, _Person):
            canvas.start_layer(owner)
            draw_person(canvas, layer.body, layer.appearance, layer.place, layer.size)
            drawn.append((owner, layer, canvas.depth))
        else:
            draw_object(canvas, rng, layer, owner)
    return drawn


def _annotate(
    rng: StableRng, canvas: Canvas, owner: int, person: _Person, depth: NDArray[np.float32]
) -> Annotation | None:
    """What COCO would say of a person: box, area and outline of what is seen, joints seen (2) or guessed (1)."""
    seen = canvas.owner == owner
    found = outline(seen)
    if found is None:
        return None
    points = [person.place(person.body.points[name]) for name in KEYPOINTS]
    keypoints: list[float | int] = []
    for joint, state in enumerate(visibility(points, SURFACE * person.size, seen, depth)):
        guess = rng.chance(_LABELLED_IF_HIDDEN) and joint >= FACE  # annotators do not guess faces
        flag = 2 if state == VISIBLE else int(guess and state != OUTSIDE)
        x, y, _ = points[joint]
        keypoints += [round(float(x), 2), round(float(y), 2), flag] if flag else [0.0, 0.0, 0]
    if keypoints[2::3].count(2) < 5:
        keypoints = [0.0, 0.0, 0] * len(KEYPOINTS)  # too hidden to label: COCO keeps such a person without keypoints
    return {
        "bbox": found["bbox"],
        "area": found["area"],
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
        "iscrowd": 0,
        "category_id": 1,
        "segmentation": found["segmentation"],
    }


def _photograph(rng: StableRng, image: NDArray[np.float32]) -> Image:
    """Blur, contrast, brightness and grain of a camera."""
    if rng.chance(0.35):
        image = cv2.GaussianBlur(image, (3, 3), rng.uniform(0.4, 0.9)).astype(np.float32, copy=False)
    image = (image - 128) * np.float32(rng.uniform(0.75, 1.15)) + np.float32(128 + rng.uniform(-25, 25))
    grain = rng.array(HEIGHT, WIDTH, 1) + rng.array(HEIGHT, WIDTH, 1) - 1
    image += grain * np.float32(rng.uniform(2, 16))
    photograph: Image = np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)
    return photograph


def coco(annotations: list[list[Annotation]]) -> dict[str, Any]:
    """The COCO file of images whose annotations are given, in order; ids count from 1."""
    person = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(KEYPOINTS),
        "skeleton": [[a + 1, b + 1] for a, b in DATASET.skeleton],
    }
    images = [
        {"id": i + 1, "file_name": f"{i:06d}.png", "width": WIDTH, "height": HEIGHT} for i in range(len(annotations))
    ]
    flat = [dict(one, image_id=i + 1) for i, several in enumerate(annotations) for one in several]
    return {
        "info": {"description": "synthetic mannequins"},
        "images": images,
        "annotations": [dict(one, id=n + 1) for n, one in enumerate(flat)],
        "categories": [person],
    }


def generate(split: str, count: int, seed: int = 0) -> tuple[Image, dict[str, Any]]:
    """The first `count` images of a split: BGR `(count, 240, 320, 3)` uint8, and their COCO annotations."""
    images, annotations = np.empty((count, HEIGHT, WIDTH, 3), np.uint8), []
    for index in range(count):
        images[index], found = render(split, index, seed)
        annotations.append(found)
    return images, coco(annotations)


def write(folder: str | os.PathLike[str], split: str, count: int, seed: int = 0) -> Path:
    """Write images/*.png and annotations.json; returns the path of the latter, which is written last and whole."""
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    annotations = []
    for index in range(count):
        image, found = render(split, index, seed)
        cv2.imwrite(str(folder / "images" / f"{index:06d}.png"), image)
        annotations.append(found)
    path = folder / "annotations.json"
    with atomic_write(path) as file:
        file.write(json.dumps(coco(annotations)).encode())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic people in COCO format.")
    parser.add_argument("--output", required=True, help="folder for images/ and annotations.json")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--count", type=int, default=400, help="images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(write(args.output, args.split, args.count, args.seed))


if __name__ == "__main__":
    main()
