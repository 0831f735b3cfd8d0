"""Backgrounds, and things that hide people."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .appearance import sample_cloth
from .raster import Canvas, Floats
from .stable_rng import StableRng


def background(rng: StableRng, width: int, height: int) -> Floats:
    """Noise at three scales, sometimes a floor, and clutter; BGR `(height, width, 3)` float32, 0..255."""
    image = np.zeros((height, width, 3), np.float32)
    base = rng.array(1, 1, 3) * 160 + 40
    for cells, amplitude in ((3, rng.uniform(10, 55)), (9, rng.uniform(5, 35)), (33, rng.uniform(0, 28))):
        noise = rng.array(cells, cells + cells // 3, 3) - np.float32(0.5)
        if rng.chance(0.65):
            noise = noise.mean(2, keepdims=True).repeat(3, 2)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(2 * amplitude)
    image += base
    if rng.chance(0.6):
        floor = int(rng.uniform(0.45, 0.9) * height)
        image[floor:] = image[floor:] * np.float32(rng.uniform(0.5, 1.0)) + (rng.array(1, 1, 3) - 0.5) * 120
    for _ in range(rng.integer(2, 9)):
        _clutter(rng, image)
    return np.clip(image, 0, 255)


def _clutter(rng: StableRng, image: Floats) -> None:
    height, width = image.shape[:2]
    color = (rng.array(3) * 255).tolist()
    x, y = int(rng.uniform(0, width)), int(rng.uniform(0, height))
    kind, size = rng.integer(0, 4), rng.uniform(0.05, 0.3)
    a, b = int(size * width), int(size * height * rng.uniform(0.4, 2))
    if kind == 0:
        cv2.rectangle(image, (x, y), (x + a, y + b), color, -1 if rng.chance(0.7) else 2)
    elif kind == 1:
        angle = rng.uniform(0, 180)
        cv2.ellipse(image, (x, y), (a // 2, b // 2), angle, 0, 360, color, -1 if rng.chance(0.7) else 2)
    elif kind == 2:
        end = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.line(image, (x, y), end, color, rng.integer(1, 8))
    elif kind == 3:
        corners = rng.array(3, 2) * np.array([a * 2, b * 2], np.float32) + np.array([x - a, y - b], np.float32)
        cv2.fillPoly(image, [corners.astype(np.int32)], color)
    else:
        for bar in range(rng.integer(3, 8)):
            cv2.line(image, (x + bar * 9, y), (x + bar * 9, y + b), color, 3)


def draw_object(canvas: Canvas, rng: StableRng, size: float, owner: int) -> None:
    """A box, a disc, a pole or a polygon of about `size` px over all that is drawn so far."""
    width, height = canvas.width, canvas.height
    mask = np.zeros((height, width), np.uint8)
    x, y = rng.uniform(0.05, 0.95) * width, rng.uniform(0.1, 0.95) * height
    kind = rng.integer(0, 3)
    if kind == 0:
        sides = (size * rng.uniform(0.5, 1.2), size * rng.uniform(0.5, 1.2))
        box = cv2.boxPoints(((x, y), sides, rng.uniform(0, 90)))
        cv2.fillConvexPoly(mask, np.round(box).astype(np.int32), 255, cv2.LINE_AA)
    elif kind == 1:
        axes = (int(size * rng.uniform(0.3, 0.6)), int(size * rng.uniform(0.3, 0.6)))
        cv2.ellipse(mask, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
    elif kind == 2:
        angle = rng.uniform(-0.5, 0.5) + (math.pi / 2 if rng.chance(0.5) else 0)
        dx, dy = math.cos(angle) * size * 1.6, math.sin(angle) * size * 1.6
        ends = (int(x - dx), int(y - dy)), (int(x + dx), int(y + dy))
        cv2.line(mask, *ends, 255, max(2, int(size * 0.16)), cv2.LINE_AA)
    else:
        corners = rng.array(5, 2) * np.float32(size * 1.3) + np.array([x - size * 0.65, y - size * 0.65], np.float32)
        cv2.fillConvexPoly(mask, cv2.convexHull(corners.astype(np.int32)), 255, cv2.LINE_AA)
    color = sample_cloth(rng)
    noise = cv2.resize(rng.array(6, 8), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    canvas.flat(mask, color * (noise * np.float32(rng.uniform(0, 0.8)) + np.float32(0.6)), owner)
