"""PoseTrack18's frames as its evaluation kit (poseval) compares them: people, joints, and distances in head sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .coco_files import Entry, Index, check, images_of, joints_of, numbers, require
from .spec import Dataset

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

_HEAD_SIZE = 0.6  # of the diagonal of the head box
_NEAR = 0.5  # of the head size
_FARTHEST = 1e9  # px


@dataclass(frozen=True)
class Frame:
    """A frame with annotated people: G of them, P predictions, J evaluated joints.

    Attributes:
        image: its record.
        people: `(G,)` annotations, by their place in the file.
        predictions: `(P,)` results, likewise.
        there: `(G, J)` joints that are annotated, outside ignored regions.
        here: `(P, J)` joints that are predicted, outside ignored regions.
        score: `(P, J)` of the predicted joints.
        distance: `(P, G, J)` in sizes of the person's head; inf where one of the joints is missing.
    """

    image: Mapping[str, Any]
    people: Index
    predictions: Index
    there: Bool
    here: Bool
    score: Double
    distance: Double

    @property
    def match(self) -> Bool:
        """`(P, G, J)` predicted joints that are right for a person."""
        return np.asarray(self.distance <= _NEAR)


def frames(dataset: Dataset, coco: Mapping[str, Any], results: Sequence[Entry]) -> Iterator[Frame]:
    """The frames in the order of the file; those without annotated people are not evaluated.

    Raises InputError: a record that does not fit.
    """
    images = images_of(coco)
    annotations: Sequence[Entry] = coco["annotations"]
    fields = [("keypoints", len(dataset.keypoints))]
    require(annotations, "annotations", ("image_id", "bbox_head"))
    truth_image, truth = joints_of(annotations, "annotations", images, fields)
    found_image, found = joints_of(results, "results", images, fields)
    head_box = numbers(annotations, "annotations", "bbox_head", 4)
    empty = head_box[:, 2:].min(axis=1) <= 0
    check(annotations, "annotations", empty, lambda e: f"has the head box {e['bbox_head']}")
    head = _HEAD_SIZE * np.hypot(head_box[:, 2], head_box[:, 3])
    evaluated = list(dataset.evaluated)
    score = found[..., 2]
    if any("scores" in entry for entry in results):
        require(results, "results", ("scores",))
        score = numbers(results, "results", "scores", len(dataset.keypoints))
    truth, found = truth[:, evaluated], found[:, evaluated]
    truth_seen, found_seen = (truth != 0).any(axis=2), (found != 0).any(axis=2)  # a joint at 0, 0, 0 is absent
    for image in coco["images"]:
        index = images[image["id"]]
        people = np.flatnonzero(truth_image == index)
        if not len(people):
            continue
        found_here = np.flatnonzero(found_image == index)
        there, here = truth_seen[people], found_seen[found_here]
        regions = _regions(image)
        if regions:
            there &= ~_inside(regions, truth[people, :, :2])
            here &= ~_inside(regions, found[found_here, :, :2])
            people, there = people[there.any(axis=1)], there[there.any(axis=1)]
            found_here, here = found_here[here.any(axis=1)], here[here.any(axis=1)]
        distance = np.linalg.norm(found[found_here, None, :, :2] - truth[people, :, :2], axis=3)
        distance = np.where(here[:, None] & there[None], distance / head[people][None, :, None], np.inf)
        yield Frame(image, people, found_here, there, here, score[found_here][:, evaluated], distance)


def _regions(image: Mapping[str, Any]) -> list[Double]:
    """The ignored regions of an image, polygons `(V, 2)`."""
    xs, ys = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
    try:
        if len(xs) != len(ys):
            raise InputError(
                f"image {image['id']!r:.60} has ignore_regions_x of {len(xs)} polygons and ignore_regions_y of "
                f"{len(ys)}"
            )
        polygons = [np.array([x, y], np.float64).T.reshape(-1, 2) for x, y in zip(xs, ys, strict=True)]
        if not all((np.abs(polygon) <= _FARTHEST).all() for polygon in polygons):
            raise ValueError(f"they hold NaN or numbers beyond {_FARTHEST:g} px")
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"image {image['id']!r:.60} has ignore regions that are not polygons: {error}") from error
    return [polygon for polygon in polygons if len(polygon)]


def _inside(polygons: Sequence[Double], points: Double) -> Bool:
    """Which of the points `(..., 2)` lie inside a polygon; a point on the border does not (shapely's `contains`)."""
    x, y = points[..., 0, None], points[..., 1, None]
    inside = np.zeros(points.shape[:-1], np.bool_)
    for polygon in polygons:
        (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, 1, axis=0).T
        # Inside: a ray to the right crosses the border an odd number of times.
        straddles = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            crosses = straddles & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        on_line = (x2 - x1) * (y - y1) == (x - x1) * (y2 - y1)
        within = (np.minimum(x1, x2) <= x) & (x <= np.maximum(x1, x2))
        within &= (np.minimum(y1, y2) <= y) & (y <= np.maximum(y1, y2))
        inside |= (crosses.sum(axis=-1) % 2 == 1) & ~(on_line & within).any(axis=-1)
    return inside
