"""How people of a clip move: where they are on the floor, which way they face, and their joint angles, frame by frame.

Everything is a sum of sines of the frame's number, so a joint's path has no kink: positions, speeds and accelerations
are continuous, and any frame can be computed alone. Lengths are statures, angles radians, time is in frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from .mannequin import SIDES, Pose
from .stable_rng import StableRng

_LEG = 0.475  # thigh and shin
_WIDEST_STEP = 0.75  # of a thigh, from the vertical
_USUAL_STEP = 0.45


@dataclass(frozen=True)
class Standpoint:
    """Where somebody is in a frame.

    Attributes:
        x: to the right of the camera's axis.
        depth: distance from the camera.
        speed: per frame.
        yaw: which way the body faces; 0 towards the camera, positive to the right of the image.
    """

    x: float
    depth: float
    speed: float
    yaw: float


class Path(Protocol):
    def at(self, frame: float) -> Standpoint: ...


@dataclass(frozen=True)
class Ellipse:
    """A closed path, walked facing ahead.

    Attributes:
        x, depth: of the centre.
        across, along: radii to the side and away from the camera.
        period: frames of one turn.
        nearest: a frame in which the walker is nearest to the camera, and walks sideways.
        direction: 1 to the right in that frame, -1 to the left.
    """

    x: float
    depth: float
    across: float
    along: float
    period: float
    nearest: float
    direction: int

    def at(self, frame: float) -> Standpoint:
        rate = 2 * math.pi / self.period
        s, c = math.sin(rate * (frame - self.nearest)), math.cos(rate * (frame - self.nearest))
        dx, dz = self.direction * self.across * rate * c, -self.along * rate * s  # z towards the camera
        x, depth = self.x + self.direction * self.across * s, self.depth - self.along * c
        return Standpoint(x, depth, math.hypot(dx, dz), math.atan2(dx, dz))


@dataclass(frozen=True)
class Spot:
    """A place to stand on, turning to one side and the other by `turn` about `yaw`."""

    x: float
    depth: float
    yaw: float
    turn: float = 0.0
    period: float = 100.0

    def at(self, frame: float) -> Standpoint:
        return Standpoint(self.x, self.depth, 0.0, self.yaw + self.turn * math.sin(2 * math.pi * frame / self.period))


@dataclass(frozen=True)
class Gesture:
    """One arm's angles swing from `start` to `end` and back: flexion, abduction, elbow, twist."""

    start: tuple[float, ...]
    end: tuple[float, ...]
    period: float
    phase: float

    def at(self, frame: float) -> tuple[float, ...]:
        share = 0.5 - 0.5 * math.cos(2 * math.pi * frame / self.period + self.phase)
        return tuple(a + share * (b - a) for a, b in zip(self.start, self.end, strict=True))


@dataclass(frozen=True)
class Gait:
    """How one person walks and stands.

    Attributes:
        period: frames of two steps.
        phase: of the steps.
        arms: of somebody who stands, left first; a walker's swing is added.
        swing: of the arms, relative to the legs.
        spread: of the legs.
        lean: of the spine.
        look: how far the head turns to the sides, and in how many frames it comes back.
    """

    period: float
    phase: float
    arms: tuple[Gesture, Gesture]
    swing: float
    spread: float
    lean: float
    look: tuple[float, float]

    def pose(self, frame: float, standpoint: Standpoint, pitch: float) -> Pose:
        """Joint angles; `pitch` is how far the camera looks down."""
        # The foot on the floor stays where it is if half a step, a quarter of the period's way, is the leg's sine.
        wanted = standpoint.speed * self.period / (4 * _LEG)
        step = _WIDEST_STEP * math.tanh(wanted / _WIDEST_STEP)
        walk = 2 * math.pi * frame / self.period + self.phase
        effort = step / _USUAL_STEP
        arms, legs = [], []
        for (_, side), gesture in zip(SIDES, self.arms, strict=True):
            beat = walk if side > 0 else walk + math.pi
            flexion, abduction, elbow, twist = gesture.at(frame)
            swing = -self.swing * step * math.sin(beat)
            arms.append((flexion + swing, abduction, elbow + 0.3 * effort + 0.4 * swing, twist))
            lift = (0.5 + 0.5 * math.cos(beat + 0.3)) ** 2  # the leg that swings forward bends its knee
            legs.append((step * math.sin(beat) + 0.04, self.spread, 0.1 + 0.8 * effort * lift))
        turn, every = self.look
        gaze = turn * math.sin(2 * math.pi * frame / every + self.phase)
        sway = math.sin(walk)
        return Pose(
            facing=(standpoint.yaw, pitch, 0.0),
            spine=(self.lean + 0.06 * effort, 0.2 * step * sway, 0.0),
            head=(0.05 - 0.5 * self.lean, gaze, 0.0),
            arms=tuple(arms),
            legs=tuple(legs),
        )


def sample_gait(rng: StableRng, *, gestures: bool = True, look: float = 25.0) -> Gait:
    """A gait; with `gestures` the arms move on their own, too, and the head turns by up to `look` degrees."""
    return Gait(
        period=rng.uniform(24, 32),
        phase=rng.uniform(0, 2 * math.pi),
        arms=(_sample_gesture(rng, gestures), _sample_gesture(rng, gestures)),
        swing=rng.uniform(0.6, 1.1),
        spread=math.radians(rng.uniform(1, 6)),
        lean=math.radians(rng.uniform(0, 7)),
        look=(math.radians(rng.uniform(0, look)), rng.uniform(50, 140)),
    )


def _sample_gesture(rng: StableRng, moves: bool) -> Gesture:
    u = rng.uniform
    hanging = _radians(u(-10, 12), u(5, 18), u(5, 35), u(-20, 20))
    kind = rng.pick(("hang", "wave", "point"), (0.6, 0.2, 0.2))
    end = {
        "hang": (u(-5, 25), u(6, 30), u(20, 80), u(-25, 25)),
        "wave": (u(-10, 20), u(80, 150), u(10, 80), u(40, 80)),
        "point": (u(40, 100), u(0, 25), u(0, 60), u(-20, 20)),
    }[kind]
    period, phase = u(45, 110), u(0, 2 * math.pi)
    return Gesture(hanging, _radians(*end) if moves else hanging, period, phase)


def _radians(*degrees: float) -> tuple[float, ...]:
    return tuple(math.radians(d) for d in degrees)
