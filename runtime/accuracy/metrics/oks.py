"""Average precision by object keypoint similarity (OKS): COCO's protocol and its relatives.

The matching is COCO's: in each image the 20 best detections, best first, each take the free person that they resemble
most, at ten thresholds of similarity and in three ranges of person size. It is done once per evaluation and kept per
image, so that a part of the images, or a random draw of them (`bootstrap.py`), is scored without matching again.

Two sets of rules are in use. "pycocotools" are the original ones; "xtcocotools" are those of MMPose, which leave out
detections without a single positive joint score, count labelled joints instead of believing `num_keypoints`, and
survive an annotation whose id is 0. On COCO's own data both give the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets import dataset
from ...errors import InputError
from .coco_files import Entry, Images, check, check_unique, images_of, numbers, people_of, require

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = np.array([[0, 1e10], [32**2, 96**2], [96**2, 1e10]])
"""All people, medium and large ones, px^2."""
MAX_DETECTIONS = 20
_EPSILON = np.spacing(1)


@dataclass(frozen=True)
class OksEvaluation:
    """Matched detections of I images: all that any figure needs.

    The D detections are ordered by score; A = 3 ranges of area (all, medium, large), T = 10 thresholds.

    Attributes:
        images: ids of the I images.
        image: `(D,)` index of each detection's image.
        score: `(D,)`, descending.
        matched: `(A, T, D)` the detection took a person.
        ignored: `(A, T, D)` it counts neither as right nor as wrong.
        positives: `(A, I)` number of people to be found.
        left_out: detections without a positive joint score that the rules left out.
    """

    images: tuple[Any, ...]
    image: NDArray[np.intp]
    score: Double
    matched: Bool
    ignored: Bool
    positives: NDArray[np.int64]
    left_out: int = 0

    @cached_property
    def metrics(self) -> dict[str, float]:
        """AP, AP50, AP75, AP (M), AP (L), AR, AR50, AR75, AR (M), AR (L) as fractions; -1 where there is nobody."""
        curves = [self.curves(area) for area in range(len(AREAS))]
        figures = {}
        for name, kind in (("AP", 0), ("AR", 1)):
            everyone, medium, large = (curve[kind] for curve in curves)
            figures[name] = _mean(everyone)
            figures[f"{name}50"] = _mean(everyone[0])
            figures[f"{name}75"] = _mean(everyone[5])
            figures[f"{name} (M)"] = _mean(medium)
            figures[f"{name} (L)"] = _mean(large)
        return figures

    def curves(self, area: int = 0, weights: NDArray[np.integer] | None = None) -> tuple[Double, Double]:
        """Precision `(T, 101)` at each recall of RECALLS, and the recall `(T,)` that is reached.

        Args:
            area: index into AREAS.
            weights: `(I,)` how often each image counts; once if not given.

        Everything is -1 if nobody is to be found.
        """
        right = self.matched[area] & ~self.ignored[area]
        wrong = ~self.matched[area] & ~self.ignored[area]
        if weights is None:
            found, total = right.cumsum(axis=1), int(self.positives[area].sum())
            missed = wrong.cumsum(axis=1)
        else:
            times = weights[self.image]
            found, missed = (right * times).cumsum(axis=1), (wrong * times).cumsum(axis=1)
            total = int(self.positives[area] @ weights)
        precision, recall = np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
        if total == 0:
            return precision - 1, recall - 1
        if len(self.score) == 0:
            return precision, recall
        true, false = found.astype(np.float64), missed.astype(np.float64)
        reached = true / total
        height = true / (false + true + _EPSILON)
        height = np.maximum.accumulate(height[:, ::-1], axis=1)[:, ::-1]
        for t in range(len(THRESHOLDS)):
            index = np.searchsorted(reached[t], RECALLS, side="left")
            inside = index < len(self.score)
            precision[t, inside] = height[t, index[inside]]
        return precision, reached[:, -1]


def evaluate_oks(
    coco: Mapping[str, Any],
    results: Sequence[Entry],
    sigmas: Sequence[float] | None = None,
    *,
    fields: Sequence[tuple[str, int]] = (),
    use_area: bool = True,
    rules: str = "pycocotools",
    count_field: str = "",
) -> OksEvaluation:
    """Match the results to the annotated people.

    Args:
        coco: an annotation file's content: `images` and `annotations` with id, image_id, bbox (x, y, width, height),
            keypoints K x [x, y, v], area (with `use_area`), num_keypoints (with `count_field`), iscrowd if any.
        results: records with image_id, category_id, keypoints K x [x, y, score] and score.
        sigmas: K constants of the similarity; those of COCO if not given.
        fields: (field, joints in it) to look at, if the joints are not all in `keypoints`.
        use_area: compare with a person's `area`; if not, with 0.53 * width * height of the box.
        rules: "pycocotools" or "xtcocotools", see above.
        count_field: field whose being 0 makes a person one to be ignored; if empty, "num_keypoints" for pycocotools,
            and the number of labelled joints for xtcocotools.

    Raises:
        InputError: a record that does not fit, see `coco_files`.
    """
    if rules not in ("pycocotools", "xtcocotools"):
        raise InputError(f"unknown OKS rules {rules!r}; known: pycocotools, xtcocotools")
    original = rules == "pycocotools"
    constants = np.array(sigmas if sigmas is not None else dataset("coco").sigmas, np.float64)
    fields = list(fields) or [("keypoints", len(constants))]
    images = images_of(coco)
    truth = _Truth.read(coco, images, fields, use_area, count_field or ("num_keypoints" if original else ""), original)
    found, left_out = _Found.read(results, coco, images, fields, drop=not original)
    matched, ignored = _match(truth, found, constants)
    order = np.argsort(-found.score, kind="stable")
    positives = np.stack([np.bincount(truth.image[~i], minlength=len(images.ids)) for i in truth.ignored])
    return OksEvaluation(
        images.ids,
        found.image[order],
        found.score[order],
        matched[..., order],
        ignored[..., order],
        positives,
        left_out,
    )


@dataclass(frozen=True)
class _Truth:
    """Annotated people: G of them, in file order within an image."""

    image: NDArray[np.intp]
    joints: Double  # (G, K, 3)
    box: Double  # (G, 4)
    area: Double  # (G,)
    crowd: Bool  # (G,)
    ignored: Bool  # (A, G)
    countable: Bool  # (G,) a match with it is known to be one

    @classmethod
    def read(
        cls,
        coco: Mapping[str, Any],
        images: Images,
        fields: Sequence[tuple[str, int]],
        use_area: bool,
        count_field: str,
        original: bool,
    ) -> _Truth:
        entries: Sequence[Entry] = coco["annotations"]
        people = people_of(entries, "annotations", images, fields)  # first: its message tells a wrong data set
        require(
            entries,
            "annotations",
            ("id", "bbox", *(["area"] if use_area else []), *([count_field] if count_field else [])),
        )
        check_unique([entry["id"] for entry in entries], "annotations")
        box = numbers(entries, "annotations", "bbox", 4)
        area = numbers(entries, "annotations", "area", 0) if use_area else box[:, 2] * box[:, 3] * 0.53
        crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in entries], np.bool_)
        if count_field:
            empty = numbers(entries, "annotations", count_field, 0) == 0
        else:
            empty = (people.joints[..., 2] > 0).sum(axis=1) == 0
        outside = (area < AREAS[:, :1]) | (area > AREAS[:, 1:])
        # pycocotools marks a match by the person's id, so that 0 reads as no match
        countable = np.array([not original or entry["id"] != 0 for entry in entries], np.bool_)
        return cls(people.image, people.joints, box, area, crowd, outside | crowd | empty, countable)


@dataclass(frozen=True)
class _Found:
    """Detections that are looked at: the best of each image, by image and then by score."""

    image: NDArray[np.intp]
    joints: Double  # (D, K, 3)
    score: Double  # (D,)
    area: Double  # (D,)

    @classmethod
    def read(
        cls,
        results: Sequence[Entry],
        coco: Mapping[str, Any],
        images: Images,
        fields: Sequence[tuple[str, int]],
        drop: bool,
    ) -> tuple[_Found, int]:
        require(results, "results", ("category_id", "score"))
        known = {c["id"] for c in coco.get("categories", ()) if "id" in c} or {1}
        check(
            results,
            "results",
            (entry["category_id"] not in known for entry in results),
            lambda e: f"has the category {e['category_id']!r}, the annotations know {sorted(known)}",
        )
        people = people_of(results, "results", images, fields)
        score = numbers(results, "results", "score", 0)
        joints, image, area = people.joints, people.image, _extent(results, people.joints, fields[0][1])
        left_out = 0
        if drop:
            keep = (joints[..., 2] > 0).any(axis=1)
            left_out = int((~keep).sum())
            joints, image, area, score = joints[keep], image[keep], area[keep], score[keep]
        order = np.lexsort((-score, image))  # stable: equal scores stay in file order
        first = np.searchsorted(image[order], image[order], side="left")
        order = order[np.arange(len(order)) - first < MAX_DETECTIONS]
        return cls(image[order], joints[order], score[order], area[order]), left_out


def _extent(results: Sequence[Entry], joints: Double, body: int) -> Double:
    """Area of the detections: of their `bbox` if they have one (as COCO's loader does), else of their body's joints."""
    if results and "bbox" in results[0]:
        require(results, "results", ("bbox",))
        box = numbers(results, "results", "bbox", 4)
        return np.asarray(box[:, 2] * box[:, 3])
    if results and "keypoints" in results[0]:  # parts are measured by the body too
        joints = numbers(results, "results", "keypoints", len(results[0]["keypoints"])).reshape(len(results), -1, 3)
    return np.asarray(np.ptp(joints[..., 0], axis=1) * np.ptp(joints[..., 1], axis=1)) if results else np.zeros(0)


def similarity(person: Double, box: Double, area: float, detections: Double, sigmas: Double) -> Double:
    """OKS of D detections with one person.

    Args:
        person: `(K, 3)` x, y, v; only joints with v > 0 count. If there are none, all joints of the detection do, by
            their distance to the box enlarged by its own size on each side.
        box: `(4,)` x, y, width, height.
        area: px^2.
        detections: `(D, K, 3)`.
        sigmas: `(K,)`.

    Returns:
        `(D,)` in 0..1.
    """
    variance = (sigmas * 2) ** 2
    labelled = person[:, 2] > 0
    x, y = detections[..., 0], detections[..., 1]
    if labelled.any():
        dx, dy = x - person[:, 0], y - person[:, 1]
    else:
        labelled = np.ones(len(person), np.bool_)
        dx = np.maximum(0, box[0] - box[2] - x) + np.maximum(0, x - (box[0] + box[2] * 2))
        dy = np.maximum(0, box[1] - box[3] - y) + np.maximum(0, y - (box[1] + box[3] * 2))
    error = (dx**2 + dy**2) / variance / (area + _EPSILON) / 2
    # the joints in one piece, so that they are added in the same order as in COCO's code
    return np.asarray(np.exp(-np.ascontiguousarray(error[:, labelled])).sum(axis=1) / labelled.sum())


def _match(truth: _Truth, found: _Found, sigmas: Double) -> tuple[Bool, Bool]:
    """Which detections take a person, and which are ignored, both `(A, T, D)`."""
    areas, thresholds = len(AREAS), len(THRESHOLDS)
    matched = np.zeros((areas, thresholds, len(found.score)), np.bool_)
    ignored = np.zeros_like(matched)
    by_image = np.argsort(truth.image, kind="stable")
    people = np.split(by_image, np.flatnonzero(np.diff(truth.image[by_image])) + 1) if len(by_image) else []
    needed = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    a, t = np.ogrid[:areas, :thresholds]
    for group in people:
        first, last = np.searchsorted(found.image, truth.image[group[0]] + np.array([0, 1]))
        if first == last:
            continue
        alike = np.stack(
            [similarity(truth.joints[g], truth.box[g], truth.area[g], found.joints[first:last], sigmas) for g in group],
            axis=1,
        )
        # The best person to take, as a whole number: any that counts before any that is ignored, then the more alike,
        # then the later one.
        count = len(group)
        ignore = truth.ignored[:, group]
        rank = np.empty(alike.shape, np.intp)
        np.put_along_axis(rank, alike.argsort(axis=1, kind="stable"), np.arange(count)[None], axis=1)
        free = np.ones((areas, thresholds, count), np.bool_)
        for d in np.flatnonzero(alike.max(axis=1) >= needed[0, 0]):
            value = np.where(free & (alike[d] >= needed), rank[d] + count * ~ignore[:, None], -1)
            best = value.argmax(axis=2)
            hit = value[a, t, best] >= 0
            free[a, t, best] &= ~hit | truth.crowd[group[best]]
            matched[..., first + d] = hit & truth.countable[group[best]]
            ignored[..., first + d] = hit & ignore[a, best]
    outside = (found.area < AREAS[:, :1]) | (found.area > AREAS[:, 1:])
    ignored |= ~matched & outside[:, None]
    return matched, ignored


def _mean(values: Double) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
