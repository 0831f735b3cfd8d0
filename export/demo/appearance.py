"""What a mannequin wears, and how it is drawn.

Nothing is coloured by left or right: the side follows from face, hair, shirt front, feet and the bend of the joints,
so a mirrored image with exchanged labels is as valid as the original.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from .mannequin import SIDES, Body, Vector
from .raster import Canvas, Floats, Texture
from .stable_rng import StableRng

NOSE = np.array([50, 60, 225], np.float32)


@dataclass(frozen=True)
class Appearance:
    """BGR colours, 0..255, and the cut of the clothes."""

    skin: Floats
    hair: Floats
    shirt: Floats
    pants: Floats
    shoe: Floats
    trim: Floats
    pad: Floats
    stripe: Floats
    stripes: int  # 0 for a plain shirt
    long_sleeves: bool
    long_pants: bool
    long_hair: bool
    girth: float


def hsv(hue: float, saturation: float, value: float) -> Floats:
    """BGR 0..255 of a colour given by three numbers in [0, 1]."""
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value)[::-1], np.float32) * 255


def sample_cloth(rng: StableRng) -> Floats:
    if rng.chance(0.2):
        return hsv(0.6, 0.05, rng.uniform(0.12, 0.95))
    return hsv(rng.uniform(0, 1), rng.uniform(0.35, 0.95), rng.uniform(0.35, 0.95))


def sample_appearance(rng: StableRng) -> Appearance:
    hue, saturation, value = rng.pick(((0.06, 0.30, 0.95), (0.065, 0.42, 0.85), (0.06, 0.5, 0.65), (0.055, 0.55, 0.42)))
    skin = hsv(hue, saturation + rng.uniform(-0.05, 0.05), value + rng.uniform(-0.05, 0.05))
    hair = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.2, 0.8), rng.pick((0.12, 0.2, 0.35, 0.75)))
    shirt, pants = sample_cloth(rng), sample_cloth(rng) * np.float32(0.85)
    shoe = hsv(rng.uniform(0, 1), rng.uniform(0, 0.6), rng.uniform(0.1, 0.95))
    trim = 255 - shirt if rng.chance(0.6) else sample_cloth(rng)
    if float(np.abs(trim - shirt).sum()) < 150:
        trim = np.full(3, 245 if shirt.sum() < 380 else 25, np.float32)
    return Appearance(
        skin=skin,
        hair=hair,
        shirt=shirt,
        pants=pants,
        shoe=shoe,
        trim=trim,
        pad=np.full(3, 30 if pants.sum() + shirt.sum() > 500 else 225, np.float32),
        stripe=shirt * np.float32(0.6) if shirt.sum() > 300 else np.minimum(shirt * np.float32(1.3) + 50, 255),
        stripes=rng.integer(3, 5) if rng.chance(0.25) else 0,
        long_sleeves=rng.chance(0.5),
        long_pants=rng.chance(0.65),
        long_hair=rng.chance(0.35),
        girth=rng.uniform(1.0, 1.4),
    )


def draw_person(
    canvas: Canvas, body: Body, appearance: Appearance, place: Callable[[Vector], Vector], size: float
) -> None:
    """Draw in the current layer; `place` maps statures to x, y, z in px of the frame, of which one has `size`."""
    at = {name: place(point) for name, point in body.points.items()}
    mirror = np.diag([1.0, -1.0, 1.0])  # y is up in the body and down in the frame
    parts: list[tuple[float, Callable[[], None]]] = []  # far to near, so that soft edges blend with what is behind

    def limb(a: str, b: str, radius_a: float, radius_b: float, paint: Floats | Texture, girth: float = 1.0) -> None:
        draw = partial(canvas.capsule, at[a], at[b], radius_a * size * girth, radius_b * size * girth, paint)
        parts.append(((at[a][2] + at[b][2]) / 2, draw))

    def ball(a: str, radius: float, color: Floats, girth: float = 1.0, lift: float = 0.0) -> None:
        radius *= size * girth
        parts.append((at[a][2] + lift * size, partial(canvas.capsule, at[a], at[a], radius, radius, color)))

    def solid(centre: Vector, axes: Vector, radii: tuple[float, ...] | Vector, texture: Texture) -> None:
        parts.append((centre[2], partial(canvas.ellipsoid, centre, mirror @ axes, np.asarray(radii) * size, texture)))

    girth = appearance.girth
    neck, pelvis = body.points["neck"], body.points["pelvis"]
    shirt, pants = partial(_shirt, appearance), partial(_plain, appearance.pants)
    upper = place(neck * 0.66 + pelvis * 0.34 + body.chest @ np.array([0, 0, 0.005]))
    solid(upper, body.chest, (0.112 * girth, 0.125, 0.075 * girth), shirt)
    solid(place(neck * 0.34 + pelvis * 0.66), body.chest, (0.090 * girth, 0.125, 0.070 * girth), shirt)
    hips = place(pelvis + body.root @ np.array([0, 0.012, 0]))
    solid(hips, body.root, (0.098 * girth, 0.075, 0.075 * girth), pants)
    throat = partial(canvas.capsule, at["neck"], at["head"], 0.033 * size, 0.033 * size, appearance.skin)
    parts.append((at["neck"][2], throat))
    solid(at["head"], body.head, body.head_radii, partial(_head, appearance))
    ball("nose", 0.015, NOSE)
    outward, forward = mirror @ body.root[:, 0], mirror @ body.root[:, 2]
    sleeve = appearance.shirt if appearance.long_sleeves else appearance.skin
    trouser = appearance.pants if appearance.long_pants else appearance.skin
    for name, side in SIDES:
        ball(f"{name}_ear", 0.019, appearance.skin * np.float32(0.9))
        limb(f"{name}_shoulder", f"{name}_elbow", 0.038, 0.031, appearance.shirt, girth)
        limb(f"{name}_elbow", f"{name}_wrist", 0.030, 0.022, sleeve, girth)
        ball(f"{name}_elbow", 0.034, appearance.pad, girth, lift=0.004)
        ball(f"{name}_wrist", 0.0265, appearance.trim, girth, lift=0.004)
        limb(f"{name}_wrist", f"{name}_hand", 0.020, 0.024, appearance.skin)
        thigh = partial(_leg, appearance.pants, appearance.trim, side * outward, forward)
        shin = partial(_leg, trouser, appearance.trim, side * outward, forward)
        limb(f"{name}_hip", f"{name}_knee", 0.054, 0.041, thigh, girth)
        limb(f"{name}_knee", f"{name}_ankle", 0.039, 0.027, shin, girth)
        ball(f"{name}_knee", 0.0445, appearance.pad, girth, lift=0.004)
        ball(f"{name}_ankle", 0.032, appearance.trim, girth, lift=0.004)
        limb(f"{name}_heel", f"{name}_toe", 0.027, 0.022, appearance.shoe)
    for _, draw in sorted(parts, key=lambda part: part[0]):
        draw()


def _plain(color: Floats, x: Floats, y: Floats, z: Floats) -> Floats:
    return np.broadcast_to(color, (*x.shape, 3))


def _shirt(appearance: Appearance, x: Floats, y: Floats, z: Floats) -> Floats:
    """A placket in front and a dark back tell which way somebody faces."""
    colors = np.empty((*x.shape, 3), np.float32)
    colors[...] = appearance.shirt
    if appearance.stripes:
        colors[np.floor((y + 1) * appearance.stripes) % 2 == 0] = appearance.stripe
    colors[(z > 0) & (abs(x) < 0.28)] = appearance.trim
    colors[(z < -0.1) & (abs(x) < 0.72)] = appearance.shirt * np.float32(0.45)
    return colors


def _head(appearance: Appearance, x: Floats, y: Floats, z: Floats) -> Floats:
    colors = np.empty((*x.shape, 3), np.float32)
    colors[...] = appearance.skin
    hairline = -0.95 if appearance.long_hair else -0.45
    colors[(y > 0.58 - 0.12 * x * x) | ((z < 0.12) & (y > hairline))] = appearance.hair
    front = z > 0.2
    for eye in (-0.38, 0.38):
        distance2 = (x - eye) ** 2 + (y - 0.14) ** 2 * 1.6
        colors[front & (distance2 < 0.060)] = (250, 250, 250)
        colors[front & (distance2 < 0.026)] = (30, 20, 15)
    colors[front & (abs(x) < 0.30) & (abs(y + 0.52 - 0.25 * x * x) < 0.075)] = (60, 50, 170)
    return colors


def _leg(base: Floats, trim: Floats, outward: Vector, forward: Vector, nx: Floats, ny: Floats, nz: Floats) -> Floats:
    """A stripe on the outer face and a dark calf: cues for left and right that are the same on both legs."""
    out, front = outward.astype(np.float32), forward.astype(np.float32)
    colors = np.empty((*nx.shape, 3), np.float32)
    colors[...] = base
    colors[nx * front[0] + ny * front[1] + nz * front[2] < -0.1] = base * np.float32(0.5)
    colors[nx * out[0] + ny * out[1] + nz * out[2] > 0.55] = trim
    return colors
