"""Synthetic people in motion: labelled clips that anybody can make again, bit for bit, without a download.

    python -m posert.export.demo.videos --output clips --split val --clips 20 --frames 100

A frame is a pure function of (seed, split, clip, frame), so splits share nothing and any part can be made alone.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.system.files import atomic_write
from . import clip_labels
from .appearance import draw_person
from .clip_labels import Annotation
from .people import KEYPOINTS, SPLITS, Image
from .raster import Canvas
from .scenarios import NOISE, Actor, Scene, scene
from .stable_rng import StableRng
from .stage import HEIGHT, WIDTH, Layer, seen_by

FPS = 25.0


def clip(split: str, index: int, frames: int = 100, seed: int = 0) -> Iterator[tuple[Image, list[Annotation]]]:
    """The frames of a clip, BGR `(360, 480, 3)` uint8, each with its people; `clip_labels.annotate` lists the fields.

    A longer clip begins with the frames of a shorter one.
    """
    of = scene(split, index, seed)
    for number in range(frames):
        yield render(of, number)


def render(of: Scene, frame: int) -> tuple[Image, list[Annotation]]:
    """One frame of a scene."""
    canvas = Canvas(seen_by(of.camera, frame, of.layers[0].color), of.light)
    things: list[tuple[float, Actor | Layer]] = [(actor.path.at(frame).depth, actor) for actor in of.actors]
    things += [(layer.depth, layer) for layer in of.layers[1:]]
    drawn = []
    for _, thing in sorted(things, key=lambda entry: -entry[0]):
        if isinstance(thing, Layer):
            assert thing.coverage is not None  # it is no backdrop
            coverage = np.rint(seen_by(of.camera, frame, thing.coverage)).astype(np.uint8)
            canvas.flat(coverage, seen_by(of.camera, frame, thing.color), 0)
        else:
            figure = thing.figure(frame, of.camera)
            canvas.start_layer(thing.track_id)
            draw_person(canvas, figure.body, thing.appearance, figure.place, figure.size)
            drawn.append((thing.track_id, figure, canvas.depth))
    found = [
        clip_labels.annotate(track_id, figure, canvas.owner == track_id, depth)
        for track_id, figure, depth in sorted(drawn, key=lambda entry: entry[0])
    ]
    image = of.camera.photograph(StableRng(*of.key, NOISE + frame), canvas.image)
    return image, [annotation for annotation in found if annotation is not None]


def joints(split: str, index: int, frames: int = 100, seed: int = 0) -> NDArray[np.float64]:
    """Where the joints of a clip's people truly are, seen or not: `(P, T, 17, 2)` px of the frame, by track id."""
    of = scene(split, index, seed)
    truth = np.empty((len(of.actors), frames, len(KEYPOINTS), 2))
    for actor, paths in zip(of.actors, truth, strict=True):
        for frame in range(frames):
            figure = actor.figure(frame, of.camera)
            paths[frame] = [figure.place(figure.body.points[name])[:2] for name in KEYPOINTS]
    return truth


def write(
    folder: str | os.PathLike[str],
    split: str,
    clips: int,
    frames: int = 100,
    seed: int = 0,
    video: bool = False,
    first: int = 0,
) -> Path:
    """Write a split's clips and their labels; returns the path of the COCO file, which is written last and whole.

    Beside images/SPLIT/CLIP/*.png it writes coco_SPLIT.json (COCO keypoints, with `videos`, `video_id`, `frame_id` and
    `track_id`) and posetrack18/SPLIT/CLIP.json. With `video`, lossy videos/SPLIT/CLIP.mp4 replace the images.

    Raises:
        OSError: OpenCV cannot write a picture or a video there.
    """
    folder = Path(folder)
    every = []
    for index in range(first, first + clips):
        name = clip_labels.clip_name(split, index)
        annotations = []
        with _Frames(folder, split, index, video) as sink:
            for number, (image, found) in enumerate(clip(split, index, frames, seed)):
                sink.write(number, image)
                annotations.append(found)
        labels = clip_labels.Clip(split, index, scene(split, index, seed).name, annotations)
        _write_json(folder / "posetrack18" / split / f"{name}.json", clip_labels.posetrack18(labels))
        every.append(labels)
    path = folder / f"coco_{split}.json"
    _write_json(path, clip_labels.coco(every))
    return path


class _Frames:
    """Where the frames of one clip go: a folder of PNGs, or a video."""

    def __init__(self, folder: Path, split: str, index: int, video: bool) -> None:
        first = folder / clip_labels.frame_name(split, index, 0)
        self._target = folder / "videos" / split / f"{first.parent.name}.mp4" if video else first
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._writer = None
        if video:
            self._writer = cv2.VideoWriter(str(self._target), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT))
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write {self._target}")

    def __enter__(self) -> _Frames:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, number: int, image: Image) -> None:
        if self._writer is not None:
            self._writer.write(image)
        elif not cv2.imwrite(str(self._target.with_name(f"{number:06d}.png")), image):
            raise OSError(f"OpenCV cannot write a picture to {self._target.parent}")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(content).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write labelled clips of synthetic people in motion.")
    parser.add_argument(
        "--output", required=True, help="folder for images/ or videos/, coco_SPLIT.json and posetrack18/"
    )
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--frames", type=int, default=100, help="frames of each clip")
    parser.add_argument("--video", action="store_true", help="write .mp4 files in place of PNG files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(write(args.output, args.split, args.clips, args.frames, args.seed, args.video, args.first))


if __name__ == "__main__":
    main()
