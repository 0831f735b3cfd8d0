"""What a clip shows beside its people: a camera that may shake or pan, a room larger than the picture, obstacles.

The camera stands still and turns a little, so that a turn moves all things in the picture by the same number of px.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .appearance import sample_cloth
from .raster import Canvas, Floats
from .scenery import background, draw_object
from .stable_rng import StableRng

WIDTH, HEIGHT = 480, 360
FOCAL = 1.6 * HEIGHT  # px of a stature that is a stature away
MARGIN = 64  # px of the room beyond each border of the picture, for the camera to turn to


@dataclass(frozen=True)
class Sway:
    """One sine of the camera's turning: px of the picture, and frames."""

    x: float
    y: float
    period: float
    phase: float

    def at(self, frame: float) -> tuple[float, float]:
        angle = 2 * math.pi * frame / self.period + self.phase
        return self.x * math.sin(angle), self.y * math.cos(angle)


@dataclass(frozen=True)
class Camera:
    """Where it looks, and what it does to a picture.

    Attributes:
        horizon: row of the picture, px.
        height: above the floor, statures.
        sways: their amplitudes sum up to less than MARGIN.
        gain, offset: of the brightness.
        blur: sigma in px, 0 for none.
        grain: amplitude of the sensor's noise, 0..255.
    """

    horizon: float
    height: float
    sways: tuple[Sway, ...]
    gain: float
    offset: float
    blur: float
    grain: float

    @property
    def pitch(self) -> float:
        """How far it looks down to people, radians."""
        return math.atan2((HEIGHT / 2 - self.horizon), FOCAL)

    def turned(self, frame: float) -> tuple[float, float]:
        """By how many px to the right and down all things are shifted in a frame."""
        shifts = [sway.at(frame) for sway in self.sways]
        return sum(x for x, _ in shifts), sum(y for _, y in shifts)

    def floor(self, x: float, depth: float) -> tuple[float, float]:
        """Picture of a point of the floor while the camera is not turned, px."""
        scale = FOCAL / depth
        return WIDTH / 2 + x * scale, self.horizon + self.height * scale

    def photograph(self, rng: StableRng, image: Floats) -> NDArray[np.uint8]:
        """The picture `(H, W, 3)` uint8 of an image 0..255; the noise is `rng`'s."""
        if self.blur:
            image = cv2.GaussianBlur(image, (3, 3), self.blur).astype(np.float32, copy=False)
        image = image * np.float32(self.gain) + np.float32(128 - 128 * self.gain + self.offset + 0.5)
        grain = rng.array(HEIGHT, WIDTH, 1) + rng.array(HEIGHT, WIDTH, 1) - 1
        image += grain * np.float32(self.grain)
        photograph: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
        return photograph


def sample_camera(rng: StableRng, *, shake: float = 0.0, pan: float = 0.0) -> Camera:
    """A camera at breast height; `shake` and `pan` are px."""
    u, turn = rng.uniform, 2 * math.pi
    sways = []
    if shake:
        periods = (u(45, 70), u(17, 27), u(7, 10))
        shares = (0.6, 0.3, 0.1)  # a hand's slow movements are the large ones
        sways = [
            Sway(shake * share, shake * share * u(0.5, 1), period, u(0, turn))
            for share, period in zip(shares, periods, strict=True)
        ]
    if pan:
        sways.append(Sway(pan * rng.pick((-1, 1)), pan * u(0, 0.1), u(150, 260), u(0, turn)))
    return Camera(
        horizon=u(0.24, 0.32) * HEIGHT,
        height=u(0.85, 0.95),
        sways=tuple(sways),
        gain=u(0.8, 1.15),
        offset=u(-22, 22),
        blur=u(0.4, 0.9) if rng.chance(0.35) else 0.0,
        grain=u(2, 12),
    )


@dataclass(frozen=True)
class Layer:
    """Something flat, painted on a room of MARGIN px more on each side than the picture.

    Attributes:
        depth: statures from the camera; infinite for the backdrop.
        color: BGR `(H + 2 MARGIN, W + 2 MARGIN, 3)` float32, 0..255.
        coverage: `(H + 2 MARGIN, W + 2 MARGIN)` float32, 0..255; None for the backdrop.
    """

    depth: float
    color: Floats
    coverage: Floats | None = None


def seen_by(camera: Camera, frame: float, room: Floats) -> Floats:
    """The part `(H, W, ...)` of a room that is in the picture, between pixels by bilinear weights."""
    x, y = camera.turned(frame)
    left, top = MARGIN - x, MARGIN - y
    column, row = math.floor(left), math.floor(top)
    right, below = np.float32(left - column), np.float32(top - row)
    part = room[row : row + HEIGHT + 1, column : column + WIDTH + 1]
    part = part[:, :-1] + (part[:, 1:] - part[:, :-1]) * right
    return part[:-1] + (part[1:] - part[:-1]) * below


def sample_backdrop(rng: StableRng) -> Layer:
    """A room with a few things in it that stand behind everybody."""
    image = background(rng, WIDTH + 2 * MARGIN, HEIGHT + 2 * MARGIN)
    canvas = Canvas(image, np.array([0.0, -1.0, 1.0]))
    for _ in range(rng.integer(0, 3)):
        draw_object(canvas, rng, rng.uniform(0.1, 0.35) * HEIGHT, 0)
    return Layer(math.inf, canvas.image)


def sample_obstacle(rng: StableRng, camera: Camera, x: float, depth: float, kind: str) -> Layer:
    """A `post`, a `crate` or a `bush` that stands on the floor and hides who passes behind it."""
    scale = FOCAL / depth
    column, row = camera.floor(x, depth)
    foot = np.array([column, row]) + MARGIN
    width, height = {
        "post": (rng.uniform(0.22, 0.4), rng.uniform(1.2, 2.2)),
        "crate": (rng.uniform(0.4, 0.8), rng.uniform(0.35, 0.6)),
        "bush": (rng.uniform(0.5, 0.9), rng.uniform(0.45, 0.8)),
    }[kind]
    mask = np.zeros((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), np.uint8)
    half, tall = width * scale / 2, height * scale
    if kind == "bush":
        for _ in range(7):
            centre = foot + np.array([rng.uniform(-0.6, 0.6) * half, -rng.uniform(0.3, 0.7) * tall])
            axes = (int(half * rng.uniform(0.35, 0.6)), int(tall * rng.uniform(0.25, 0.4)))
            spot = (int(centre[0]), int(centre[1]))
            cv2.ellipse(mask, spot, axes, rng.uniform(0, 90), 0, 360, 255, -1, cv2.LINE_AA)
        cv2.rectangle(mask, *_corners(foot, 0.7 * half, 0.35 * tall), 255, -1)
    else:
        cv2.rectangle(mask, *_corners(foot, half, tall), 255, -1)
    color = sample_cloth(rng)
    noise = cv2.resize(rng.array(18, 24), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    painted = np.minimum(color * (noise * np.float32(rng.uniform(0.2, 0.8)) + np.float32(0.5)), 255)
    return Layer(depth, painted.astype(np.float32), mask.astype(np.float32))


def _corners(foot: NDArray[np.float64], half: float, tall: float) -> tuple[tuple[int, int], tuple[int, int]]:
    return (int(foot[0] - half), int(foot[1] - tall)), (int(foot[0] + half), int(foot[1]))
