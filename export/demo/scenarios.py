"""Who acts in a clip, and how: one of eight scenarios, by the clip's number."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .appearance import Appearance, sample_appearance
from .mannequin import Body, Vector, build_body, rotate
from .motion import Ellipse, Gait, Path, Spot, Standpoint, sample_gait
from .people import SPLITS
from .stable_rng import StableRng
from .stage import FOCAL, HEIGHT, WIDTH, Camera, Layer, sample_backdrop, sample_camera, sample_obstacle

SCENARIOS = ("walk", "turn", "cross", "return", "hide", "handheld", "crowd", "still")
"""walk: alone or two; turn: on the spot and round; cross: past each other; return: out of the picture and back, after 5
to 25 frames; hide: behind obstacles; handheld: a camera that shakes and pans; crowd: four or five people; still: one
person who does not move before a camera that does not."""

_SOFT = 0.012  # statures, of the minimum over the feet
_APART = 0.42  # statures, least distance between two people
_WATCHED = 400  # frames in which nobody walks through anybody
_ATTEMPTS = 200
_SCRIPT, _BONES, NOISE = 1, 2, 1000  # last word of a key; not 0, which would be a picture's key in `people`


@dataclass(frozen=True)
class Figure:
    """An actor in one frame; `place` maps points of the body to x, y, z in px of the frame."""

    body: Body
    size: float  # px per stature
    origin: Vector

    def place(self, point: Vector) -> Vector:
        return self.origin + point * self.size * (1, -1, 1)


@dataclass(frozen=True)
class Actor:
    """Somebody who keeps bones and clothes through a clip.

    Attributes:
        track_id: from 1.
        bones: the key of the random lengths.
        stature: relative to the others.
    """

    track_id: int
    path: Path
    gait: Gait
    appearance: Appearance
    bones: tuple[int, ...]
    stature: float

    def figure(self, frame: float, camera: Camera) -> Figure:
        spot = self.path.at(frame)
        body = build_body(self.gait.pose(frame, spot, camera.pitch), StableRng(*self.bones))
        size = FOCAL / spot.depth * self.stature
        up = rotate("x", camera.pitch)[:, 1]
        feet = [float(up @ point) for name, point in body.points.items() if name.endswith(("heel", "toe", "ankle"))]
        # A minimum without kinks: the pelvis goes up and down smoothly while the weight goes from foot to foot.
        height = _SOFT * math.log(sum(math.exp(-y / _SOFT) for y in feet))
        column, row = camera.floor(spot.x, spot.depth)
        x, y = camera.turned(frame)
        return Figure(body, size, np.array([column + x, row + y - height * math.cos(camera.pitch) * size, 0.0]))


@dataclass(frozen=True)
class Scene:
    """All of a clip that does not depend on the frame.

    Attributes:
        key: (seed, split, clip), of its random numbers.
        name: one of SCENARIOS.
        light: direction it comes from.
        layers: the backdrop first.
    """

    key: tuple[int, int, int]
    name: str
    camera: Camera
    actors: tuple[Actor, ...]
    layers: tuple[Layer, ...]
    light: Vector


def scene(split: str, index: int, seed: int = 0) -> Scene:
    """The scene of a clip, a function of (seed, split, index) only."""
    key = (seed, SPLITS[split], index)
    rng = StableRng(*key, _SCRIPT)
    name = SCENARIOS[index % len(SCENARIOS)]
    shake = rng.uniform(5, 14) if name == "handheld" else rng.uniform(1, 3) if rng.chance(0.3) else 0.0
    pan = rng.uniform(15, 40) if name == "handheld" else 0.0
    camera = sample_camera(rng, shake=0.0 if name == "still" else shake, pan=pan)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-1.0, -0.2), rng.uniform(0.5, 1.0)])
    paths = _sample_paths(rng, name)
    actors = tuple(
        Actor(
            track_id=number,
            path=path,
            gait=sample_gait(rng, gestures=name != "still", look=0.0 if name == "still" else 30.0),
            appearance=sample_appearance(rng),
            bones=(*key, _BONES + number),
            stature=rng.uniform(0.88, 1.06),
        )
        for number, path in enumerate(paths, start=1)
    )
    layers = [sample_backdrop(rng)]
    if name == "hide" or (name in ("walk", "crowd") and rng.chance(0.4)):
        nearest = min(path.at(0).depth for path in paths)
        for _ in range(2 if name == "hide" else 1):
            depth = rng.uniform(0.75, 0.95) * nearest
            x = rng.uniform(-0.35, 0.35) * WIDTH * depth / FOCAL
            layers.append(sample_obstacle(rng, camera, x, depth, rng.pick(("post", "crate", "bush"))))
    return Scene(key, name, camera, actors, tuple(layers), light)


def _sample_paths(rng: StableRng, name: str) -> list[Path]:
    """Paths of people who never come nearer to each other than _APART, sideways and in depth together."""
    count = {
        "walk": rng.integer(1, 2),
        "turn": rng.integer(1, 2),
        "cross": rng.integer(2, 3),
        "return": rng.integer(1, 2),
        "hide": rng.integer(1, 2),
        "handheld": rng.integer(1, 3),
        "crowd": rng.integer(4, 5),
        "still": 1,
    }[name]
    paths: list[Path] = []
    walked: list[list[Standpoint]] = []
    for _ in range(_ATTEMPTS):
        path = _sample_path(rng, name, len(paths))
        spots = [path.at(frame) for frame in range(0, _WATCHED, 4)]
        if all(_apart(spots, others) for others in walked):
            paths.append(path)
            walked.append(spots)
        if len(paths) == count:
            break
    return paths


def _sample_path(rng: StableRng, name: str, number: int) -> Path:
    u = rng.uniform
    depth = FOCAL / (HEIGHT * (u(0.38, 0.55) if name == "crowd" else u(0.42, 0.66)))
    half = WIDTH / 2 * depth / FOCAL  # of the picture's width, statures
    direction = rng.pick((-1, 1))
    if name == "still":
        return Spot(u(-0.3, 0.3) * half, depth, math.radians(u(-35, 35)))
    if name == "turn" and rng.chance(0.5) or name == "crowd" and rng.chance(0.5):
        yaw, turn = math.radians(u(-60, 60)), math.radians(u(30, 100))
        return Spot(u(-0.6, 0.6) * half, depth, yaw, turn, u(60, 130))
    if name == "turn":
        return Ellipse(u(-0.4, 0.4) * half, depth, u(0.3, 0.5), u(0.3, 0.5), u(75, 120), u(0, 100), direction)
    if name == "return" and number == 0:
        period, across = u(110, 160), u(0.7, 1.1)
        along = across * u(0.3, 0.6)
        border = WIDTH / 2 * (depth + along) / FOCAL + 0.22  # the body is out of the picture, too
        centre = border - across * math.cos(math.pi * u(5, 25) / period)  # beyond the border for so many frames
        middle = u(40, 60)  # of them
        return Ellipse(direction * centre, depth + along, across, along, period, middle - period / 4, direction)
    if name == "cross":
        across = u(0.6, 0.9) * half
        along = across * u(0.2, 0.35)
        direction = 1 if number % 2 else -1
        return Ellipse(u(-0.1, 0.1) * half, depth + along, across, along, u(130, 190), u(40, 60), direction)
    if name == "crowd":
        across, along = u(0.2, 0.45) * half, u(0.2, 0.4)
        return Ellipse(u(-0.6, 0.6) * half, depth + along, across, along, u(100, 160), u(0, 100), direction)
    across, along = u(0.25, 0.8) * half, u(0.3, 0.8)
    period = max(100.0, 2 * math.pi * max(across, along) / u(0.03, 0.045))
    return Ellipse(u(-0.3, 0.3) * half, depth + along, across, along, period, u(0, period), direction)


def _apart(spots: list[Standpoint], others: list[Standpoint]) -> bool:
    return all(math.hypot(a.x - b.x, a.depth - b.depth) >= _APART for a, b in zip(spots, others, strict=True))
