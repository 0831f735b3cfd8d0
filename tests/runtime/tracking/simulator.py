"""People that walk, cross, turn, leave and return, as joints and boxes alone; and what a network would find of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Double = NDArray[np.float64]

WIDTH, HEIGHT = 640, 360
# A standing person in the order of COCO's joints: x and y in statures from the middle of the hips, y down.
_BODY = np.array(
    [
        *([0, -0.42], [0.015, -0.44], [-0.015, -0.44], [0.035, -0.43], [-0.035, -0.43]),
        *([0.1, -0.3], [-0.1, -0.3], [0.13, -0.14], [-0.13, -0.14], [0.14, 0], [-0.14, 0]),
        *([0.06, 0], [-0.06, 0], [0.06, 0.22], [-0.06, 0.22], [0.06, 0.45], [-0.06, 0.45]),
    ]
)
# How far each joint swings while its owner walks, statures; left and right alternate.
_SWING = np.array([0, 0, 0, 0, 0, 0.01, -0.01, -0.06, 0.06, -0.12, 0.12, 0, 0, 0.08, -0.08, 0.18, -0.18])


@dataclass(frozen=True)
class Walker:
    """Somebody: where the hips are in each frame, and how tall, px."""

    path: Callable[[Double], Double]  # (T,) frames -> (T, 2)
    height: float = 150.0
    phase: float = 0.0
    pace: float = 0.35  # radians per frame

    def joints(self, frames: int) -> Double:
        """`(T, 17, 2)` px of the frame."""
        t = np.arange(frames, dtype=np.float64)
        body = np.repeat(_BODY[None], frames, axis=0)
        body[..., 0] += _SWING * np.sin(self.pace * t + self.phase)[:, None]
        return self.path(t)[:, None] + body * self.height


def walk(x: float, y: float, dx: float, dy: float = 0.0) -> Callable[[Double], Double]:
    """A straight line from (x, y), dx and dy px per frame."""
    return lambda t: np.stack([x + dx * t, y + dy * t], axis=1)


def boxes_of(joints: Double) -> Double:
    """`(..., 4)` what a detector would draw around the body: more than the joints at the head and at the hands."""
    first, last = joints.min(axis=-2), joints.max(axis=-2)
    height = (last - first)[..., 1:]
    return np.concatenate([first - height * (0.05, 0.1), last + height * (0.05, 0.04)], axis=-1)


@dataclass(frozen=True)
class Found:
    """Rows of one frame, as a detector and a pose network give them; `truth` `(N,)`: whose they are, -1: nobody's."""

    xy: Double
    score: Double
    boxes: Double
    detection_score: Double
    truth: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.intp]) -> Found:
        return Found(self.xy[rows], self.score[rows], self.boxes[rows], self.detection_score[rows], self.truth[rows])


@dataclass(frozen=True)
class Scene:
    """`(P, T, 17, 2)` true joints of P people, and `(P, T)` who is in the picture."""

    joints: Double
    present: NDArray[np.bool_]

    def frame(self, t: int) -> Found:
        """Frame t as it is: every person that is present, all joints certain."""
        who = np.flatnonzero(self.present[:, t])
        xy = self.joints[who, t]
        return Found(xy, np.full(xy.shape[:2], 0.9), boxes_of(xy), np.full(len(who), 0.9), who.astype(np.int64))

    def found(self, t: int, seed: int = 0, noise: float = 0.01, missed: float = 0.05, ghosts: float = 0.05) -> Found:
        """Frame t as a network finds it: noise in statures, people missed, boxes without anybody, any order."""
        rng = np.random.default_rng([seed, t])
        true = self.frame(t)
        height = np.ptp(true.xy[..., 1], axis=1)[:, None] if len(true.xy) else np.zeros((0, 1))
        xy = true.xy + rng.normal(size=true.xy.shape) * noise * height[..., None]
        boxes = true.boxes + rng.normal(size=true.boxes.shape) * 0.02 * height
        score = np.clip(true.score + rng.normal(size=true.score.shape) * 0.08, 0.05, 1)
        hidden = _hidden(true)
        score = np.where(hidden, score * 0.3, score)
        xy = np.where(hidden[..., None], xy + rng.normal(size=xy.shape) * 0.05 * height[..., None], xy)
        detection = np.clip(rng.normal(0.85, 0.1, len(xy)), 0.1, 1)
        rows = [np.flatnonzero((rng.random(len(xy)) >= missed) & (hidden.mean(axis=1) < 0.7))]
        seen = Found(xy, score, boxes, detection, true.truth)[rng.permutation(rows[0])]
        if rng.random() >= ghosts:
            return seen
        place = rng.uniform([0, 0], [WIDTH - 100, HEIGHT - 100])
        ghost = place + rng.uniform(0, 100, (1, 17, 2))
        nobody = (
            ghost,
            rng.uniform(0, 0.3, (1, 17)),
            np.r_[place, place + 100][None],
            np.array([0.55]),
            np.array([-1]),
        )
        return Found(*(np.concatenate(both) for both in zip(vars(seen).values(), nobody, strict=True)))


def _hidden(frame: Found) -> NDArray[np.bool_]:
    """`(N, K)` joints behind somebody taller, who is taken to be nearer."""
    height = np.ptp(frame.xy[..., 1], axis=1) if len(frame.xy) else np.zeros(0)
    hidden = np.zeros(frame.score.shape, np.bool_)
    for front in range(len(height)):
        x1, y1, x2, y2 = frame.boxes[front]
        inner = (x1 + (x2 - x1) * 0.25, x2 - (x2 - x1) * 0.25)
        x, y = frame.xy[..., 0], frame.xy[..., 1]
        hidden |= (x > inner[0]) & (x < inner[1]) & (y > y1) & (y < y2) & (height < height[front])[:, None]
    return hidden


def scene(walkers: list[Walker], frames: int = 100) -> Scene:
    """Everybody whose hips are in the picture is present."""
    joints = np.stack([walker.joints(frames) for walker in walkers])
    hips = joints[:, :, 11:13].mean(axis=2)
    present = ((hips > 0) & (hips < (WIDTH, HEIGHT))).all(axis=-1)
    return Scene(joints, present)


def without(scene: Scene, person: int, first: int, last: int) -> Scene:
    """The same, but one person is not in the picture from frame `first` to `last`, this one excluded."""
    present = scene.present.copy()
    present[person, first:last] = False
    return replace(scene, present=present)


def anywhere(seed: int, people: int = 6, frames: int = 100) -> Scene:
    """People of any height who walk about, turn round and stand, under a camera that shakes."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)
    shake = np.cumsum(rng.normal(0, 1.0, (frames, 2)), axis=0) * 0.5
    walkers = []
    for _ in range(people):
        speed = np.repeat(rng.normal(0, 3.5, frames // 20 + 1), 20)[:frames] * (
            rng.random(frames // 20 + 1).repeat(20)[:frames] > 0.2
        )
        x = rng.uniform(-50, WIDTH + 50) + np.cumsum(np.convolve(speed, np.ones(5) / 5, mode="same"))
        y = np.full(frames, rng.uniform(140, 240)) + 4 * np.sin(t * rng.uniform(0.02, 0.1))
        path = np.stack([x, y], axis=1) + shake
        walkers.append(
            Walker(lambda _, path=path: path, rng.uniform(90, 220), rng.uniform(0, 6), rng.uniform(0.2, 0.5))
        )
    return scene(walkers, frames)
