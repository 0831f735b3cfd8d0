"""An articulated 3-D mannequin: sampled joint angles and the points they lead to.

Body frame: x to the person's left, y up, z forward; lengths in statures. The camera is orthographic, looks along -z
and sees x to the right, so a person who faces it has their left side on the right of the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .stable_rng import StableRng

Vector = NDArray[np.float64]

SIDES = (("left", 1), ("right", -1))


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians; arms and legs left first."""

    facing: tuple[float, ...]  # yaw (0 = towards the camera), pitch, roll
    spine: tuple[float, ...]  # forward, twist, sideways
    head: tuple[float, ...]  # forward, twist, sideways
    arms: tuple[tuple[float, ...], ...]  # flexion, abduction, elbow, twist
    legs: tuple[tuple[float, ...], ...]  # flexion, abduction, knee


@dataclass(frozen=True)
class Body:
    """Points by name, `(3,)` each, in statures: the COCO keypoints and the ends of the other parts."""

    points: dict[str, Vector]
    root: Vector  # (3, 3) rotations, body part to camera
    chest: Vector
    head: Vector
    head_radii: Vector


def rotate(axis: str, angle: float) -> Vector:
    """About x, y or z."""
    c, s = math.cos(angle), math.sin(angle)
    plane = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    rotation = np.eye(3)
    rotation[np.ix_(plane, plane)] = [[c, -s], [s, c]]
    return rotation


def rotate_about(axis: Vector, angle: float) -> Vector:
    """Rodrigues' formula for a unit axis."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: Vector = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    return rotation


def sample_pose(rng: StableRng) -> Pose:
    """Angles of somebody who stands, walks, moves, sits or raises the arms, seen mostly from the front."""
    activity = rng.pick(("stand", "walk", "move", "sit", "raise"), (0.25, 0.25, 0.25, 0.12, 0.13))
    spine = (rng.bell(5, 6), rng.bell(0, 9), rng.bell(0, 5))
    head = (rng.bell(0, 10), rng.bell(0, 22), rng.bell(0, 7))
    stride = rng.uniform(-1, 1)
    limbs = [_sample_limbs(rng, activity, side * stride) for _, side in SIDES]
    view = rng.uniform(0, 1)
    yaw = rng.bell(0, 38) if view < 0.74 else rng.bell(180, 32) if view < 0.94 else rng.uniform(0, 360)
    pitch = rng.uniform(-6, 18)
    roll = rng.bell(0, 5) if rng.chance(0.88) else rng.uniform(-40, 40)
    return Pose(
        facing=_radians(yaw, pitch, roll),
        spine=_radians(*spine),
        head=_radians(*head),
        arms=tuple(_radians(*arm) for arm, _ in limbs),
        legs=tuple(_radians(*leg) for _, leg in limbs),
    )


def _radians(*degrees: float) -> tuple[float, ...]:
    return tuple(math.radians(d) for d in degrees)


def _sample_limbs(rng: StableRng, activity: str, stride: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Degrees of one side's arm and leg; a leg swings by `stride` and the arm of its side against it."""
    u, bell = rng.uniform, rng.bell
    if activity == "stand":
        return (bell(0, 15), u(4, 35), u(0, 70), bell(0, 30)), (bell(0, 7), u(0, 14), u(0, 14))
    if activity == "walk":
        arm = (-stride * u(20, 45), u(4, 25), u(10, 80), bell(0, 25))
        return arm, (stride * u(20, 42), u(0, 8), u(5, 30) + max(0.0, -stride) * u(20, 60))
    if activity == "move":
        return (u(-40, 120), u(5, 110), u(0, 120), bell(0, 45)), (u(-25, 75), u(0, 40), u(0, 95))
    if activity == "sit":
        return (u(-10, 60), u(5, 35), u(10, 100), bell(0, 30)), (u(65, 95), u(3, 25), u(55, 100))
    return (u(-20, 30), u(80, 170), u(0, 90), bell(60, 40)), (bell(0, 10), u(0, 22), u(0, 25))


def build_body(pose: Pose, rng: StableRng) -> Body:
    """Forward kinematics from the pelvis, with bone lengths that differ a little from person to person."""

    def bone(length: float, spread: float = 0.06) -> float:
        return length * (1 + rng.uniform(-spread, spread))

    yaw, pitch, roll = pose.facing
    root = rotate("z", roll) @ rotate("x", pitch) @ rotate("y", yaw)
    chest = root @ _bend(pose.spine)
    head = chest @ _bend(pose.head)
    hip, shoulder, torso = bone(0.058), bone(0.108), bone(0.285)
    upper_arm, forearm, thigh, shin = bone(0.165), bone(0.145), bone(0.24), bone(0.235)
    radii = np.array([0.061, 0.083, 0.072]) * bone(1.15, 0.08)

    pelvis = np.zeros(3)
    neck = chest @ np.array([0, torso, 0])
    skull = neck + head @ np.array([0, 0.055 + radii[1] * 0.95, 0.012])
    points = {"pelvis": pelvis, "neck": neck, "head": skull}
    points["nose"] = skull + head @ (radii * [0, -0.16, 1.12])
    for (name, side), (raise_, spread, elbow, twist) in zip(SIDES, pose.arms, strict=True):
        points[f"{name}_eye"] = skull + head @ (radii * [side * 0.38, 0.14, math.sqrt(1 - 0.38**2 - 0.14**2)])
        points[f"{name}_ear"] = skull + head @ (radii * [side, -0.03, -0.02])
        swing = rotate("z", side * spread)
        along = swing @ _down(raise_)
        bend = rotate_about(along, side * twist) @ swing @ _ahead(raise_)
        lower = chest @ (math.cos(elbow) * along + math.sin(elbow) * bend)
        at_shoulder = neck + chest @ np.array([side * shoulder, -0.028, 0])
        at_elbow = at_shoulder + chest @ along * upper_arm
        points[f"{name}_shoulder"] = at_shoulder
        points[f"{name}_elbow"] = at_elbow
        points[f"{name}_wrist"] = at_elbow + lower * forearm
        points[f"{name}_hand"] = at_elbow + lower * (forearm + 0.045)
    for (name, side), (raise_, spread, knee) in zip(SIDES, pose.legs, strict=True):
        swing = root @ rotate("z", side * spread)
        below = raise_ - knee
        at_hip = root @ np.array([side * hip, 0, 0])
        at_knee = at_hip + swing @ _down(raise_) * thigh
        at_ankle = at_knee + swing @ _down(below) * shin
        points[f"{name}_hip"] = at_hip
        points[f"{name}_knee"] = at_knee
        points[f"{name}_ankle"] = at_ankle
        points[f"{name}_toe"] = at_ankle + swing @ (_ahead(below) * 0.085 + _down(below) * 0.025)
        points[f"{name}_heel"] = at_ankle + swing @ _down(below) * 0.02
    return Body(points, root, chest, head, radii)


def _bend(angles: tuple[float, ...]) -> Vector:
    forward, twist, sideways = angles
    return rotate("y", twist) @ rotate("x", forward) @ rotate("z", sideways)


def _down(flexion: float) -> Vector:
    """Along a limb that hangs down at 0 and points forward at 90 degrees."""
    return np.array([0, -math.cos(flexion), math.sin(flexion)])


def _ahead(flexion: float) -> Vector:
    """Across the same limb, to where its next joint bends (an elbow) or its foot points."""
    return np.array([0, math.sin(flexion), math.cos(flexion)])
