"""How far the joints of one network are from those of another, per joint, and on whom most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.estimation import Image, Members, estimate
from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.people import labelled_people
from ...runtime.bundle.contract import Contract
from ...runtime.pose.decode import decode, to_frame
from ...runtime.pose.draw import draw
from ...runtime.pose.heads import Outputs, head
from ...runtime.pose.keypoints import Keypoints
from ...runtime.pose.preprocess import crop, crop_matrices
from .operands import ModelRef

NUM_WORST = 6
_MARGIN = 0.15  # of a person's size, shown around them
_MIN_SIDE = 480  # px: smaller pictures are enlarged
_SURE = 0.5  # of a person's highest peak: the faint map of a hidden joint has no single maximum


@dataclass(frozen=True)
class Person:
    """One person as both networks see them; coordinates in px of the frame."""

    image: int  # its index in the annotations
    box: NDArray[np.float64]  # x1, y1, x2, y2
    xy: NDArray[np.float32]  # (2, K, 2)
    score: NDArray[np.float32]  # (2, K)
    drift: float  # mean distance of the joints that the first network is sure of


@dataclass(frozen=True)
class Drift:
    """Two networks on the same people."""

    people: int
    output: dict[str, float]  # error of the heatmaps: max, mean and p99 of the absolute differences, and relative (L2)
    joints: dict[str, NDArray[np.float32]]  # per decode rule distances (N, K), px of the frame; NaN: first not sure
    worst: list[Person]  # with the largest drift relative to their size


def measure(a: ModelRef, b: ModelRef, contract: Contract, frames: Frames) -> Drift:
    """Run both networks on the same crops of the labelled people.

    Raises:
        InputError: heatmaps are not finite, or a frame cannot be read.
    """
    c = contract
    # The contract's own decode rule, and DARK where it reads the same outputs.
    own, dark = head(c.decode), head("udp" if c.map_udp else "unbiased")
    rules = [own.name, dark.name] if dark.shapes(c) == own.shapes(c) else [own.name]
    distances: dict[str, list[NDArray[np.float32]]] = {rule: [] for rule in rules}
    sums = np.zeros(2)
    differences: list[NDArray[np.float32]] = []
    worst: list[Person] = []
    people = labelled_people(frames.coco)
    center, extent = people.regions(c)
    matrices = crop_matrices(center, extent, c.width, c.height, c.udp)

    def run(frame: Image, members: Members) -> list[Outputs]:
        crops = crop(frame, matrices[members], c.width, c.height)
        return [tuple(output.copy() for output in side.session.infer(crops)) for side in (a, b)]

    for step in estimate(people, frames.load_index, run):
        one, two = step.result
        for first, second in zip(one, two, strict=True):
            sums += float(np.square(second - first).sum()), float(np.square(first).sum())
            differences.append(np.abs(second - first).ravel())
        for rule in distances:
            found = [decode(outputs, replace(c, decode=rule)) for outputs in (one, two)]
            crops_of = center[step.members], extent[step.members]
            size = c.heatmap_width, c.heatmap_height
            xy = np.stack([to_frame(points, *crops_of, *size, c.map_udp) for points, _ in found], axis=1)
            score = np.stack([s for _, s in found], axis=1)
            sure = score[:, 0] >= _SURE * score[:, 0].max(axis=1, keepdims=True)
            moved = np.where(sure, np.linalg.norm(xy[:, 1] - xy[:, 0], axis=2), np.nan).astype(np.float32)
            distances[rule].append(moved)
            if rule == c.decode:
                means = np.nanmean(moved, axis=1).tolist()
                rows = zip(people.xyxy[step.members], xy, score, means, strict=True)
                worst += [Person(step.image, *row) for row in rows]
        worst = sorted(worst, key=lambda p: -p.drift / _size(p.box))[:NUM_WORST]
    every = np.concatenate(differences)
    output = {
        "max": float(every.max()),
        "mean": float(every.mean()),
        "p99": float(np.percentile(every, 99)),
        "relative": float(np.sqrt(sums[0] / max(sums[1], 1e-24))),
    }
    joined = {rule: np.concatenate(rows) for rule, rows in distances.items()}
    return Drift(len(joined[own.name]), output, joined, worst)


def picture(person: Person, frame: NDArray[np.uint8], contract: Contract, names: Sequence[str]) -> NDArray[np.uint8]:
    """A person drawn twice side by side: the joints of the first network left, of the second right."""
    margin = _MARGIN * _size(person.box)
    left, top = (max(0, int(v - margin)) for v in person.box[:2])
    right, bottom = (int(v + margin) + 1 for v in person.box[2:])
    part = frame[top:bottom, left:right]
    enlarge = max(1.0, _MIN_SIDE / max(part.shape[0], 1))
    part = cv2.resize(part, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    corner = np.array([left, top], np.float32)
    box = ((person.box - [*corner, *corner]) * enlarge).astype(np.float32)
    panels = []
    for xy, score, name in zip(person.xy, person.score, names, strict=True):
        panel = part.copy()
        found = Keypoints((xy - corner)[None] * enlarge, score[None], box[None], contract.keypoints)
        draw(panel, found, contract, threshold=_SURE * float(person.score[0].max()))
        _label(panel, name.rpartition(":")[2].rpartition("/")[2], 16)
        panels.append(panel)
    sure = person.score[0] >= _SURE * person.score[0].max()
    moved = np.where(sure, np.linalg.norm(person.xy[1] - person.xy[0], axis=1), 0)
    most = int(moved.argmax())
    _label(panels[1], f"mean {person.drift:.2f} px", panel.shape[0] - 26)
    _label(panels[1], f"{contract.keypoints[most]} {moved[most]:.2f} px", panel.shape[0] - 8)
    return np.hstack(panels)


def _label(panel: NDArray[np.uint8], text: str, row: int) -> None:
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(panel, text, (6, row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, width, cv2.LINE_AA)


def _size(box: NDArray[np.float64]) -> float:
    return float(max(box[2] - box[0], box[3] - box[1]))
