"""What a network sees and finds, person by person: crops, heatmaps, joints, and the same of the mirror image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...runtime.accuracy.people import People
from ...runtime.pose.heads import Outputs
from ...runtime.pose.preprocess import crop_matrices
from .network import Float, Image, Subjects, turned_back

_SURE = 0.5  # of a person's highest peak: the faint map of a hidden joint has no place


@dataclass(frozen=True)
class Sight:
    """One person as a network sees it.

    Attributes:
        image: index of the photo.
        box: `(4,)` xyxy px of the frame.
        region: `(4,)` xyxy px of the frame that the crop shows.
        crop: `(H, W, 3)` uint8 BGR.
        maps: `(K, h, w)`; of a network that gives vectors the products of the two.
        vectors: `(K, w)` and `(K, h)`, of a network that gives these; else empty.
        swapped_maps: `maps` for the crop with red and blue exchanged.
        xy, xy_crop: `(K, 2)` px of the frame and of the crop.
        score: `(K,)` of the joints.
        twin_crop: `(K, 2)` px of the crop: the joints of the mirror image, turned back.
        twin_gap: mean distance of the two from each other, of the box's longer side, over the joints with a clear peak.
        labels: `(K, 3)` px of the frame and visibility; None without labels.
        labels_crop: `(K, 2)` px of the crop.
    """

    image: int
    box: NDArray[np.float64]
    region: Float
    crop: Image
    maps: Float
    vectors: tuple[Float, ...]
    swapped_maps: Float
    xy: Float
    xy_crop: Float
    score: Float
    twin_crop: Float
    twin_gap: float
    labels: NDArray[np.float64] | None
    labels_crop: Float | None


@dataclass(frozen=True)
class Twins:
    """How far the joints of mirror images, turned back, lie from those of the pictures: mean over all people.

    Attributes:
        gap: of the box's longer side, by the contract; only joints with a clear peak count.
        other_shift: the same with the other `flip_shift`; None of vectors, which are never moved.
        peak, swapped_peak: mean score of the joints, and with red and blue exchanged.
    """

    gap: float
    other_shift: float | None
    peak: float
    swapped_peak: float


def look(subjects: Subjects, chosen: NDArray[np.intp]) -> tuple[list[Sight], Twins]:
    """What the network sees and finds of some of the people.

    Raises InputError: a frame or a box cannot be used, or the outputs are not finite.
    """
    few = Subjects(subjects.reference, _some(subjects.people, chosen), subjects.load)
    c, people = few.contract, few.people
    crops = few.crops(c)
    other = replace(c, model_color="BGR" if c.model_color == "RGB" else "RGB")
    plain, swapped, mirrored = few.outputs(c, crops), few.outputs(other, crops), few.outputs(c, crops, mirrored=True)
    xy, score = few.joints(c, plain)
    twin = few.joints(c, turned_back(mirrored, c))[0]
    center, extent = people.regions(c)
    matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
    size = (people.xyxy[:, 2:] - people.xyxy[:, :2]).max(axis=1)
    sure = score >= _SURE * score.max(axis=1, keepdims=True)

    def gaps(other: Float) -> Float:
        distance = np.where(sure, np.linalg.norm(other - xy, axis=2), 0).sum(axis=1) / sure.sum(axis=1)
        return np.asarray(distance / size, np.float32)

    gap, joints = gaps(twin), len(c.keypoints)
    labels = people.joints
    labels_crop = None if labels is None else _moved(labels[..., :2], matrices)
    xy_crop, twin_crop = _moved(xy, matrices), _moved(twin, matrices)
    region = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
    maps, swapped_maps = maps_of(plain, joints), maps_of(swapped, joints)
    vectors = plain if len(plain) > 1 else ()
    sights = [
        Sight(
            int(people.image[i]),
            people.xyxy[i],
            region[i],
            crops[i],
            maps[i],
            tuple([vector[i] for vector in vectors]),
            swapped_maps[i],
            xy[i],
            xy_crop[i],
            score[i],
            twin_crop[i],
            float(gap[i]),
            None if labels is None else labels[i],
            None if labels_crop is None else labels_crop[i],
        )
        for i in range(len(people))
    ]
    shifted = replace(c, flip_shift=not c.flip_shift)
    other_gap = None if vectors else float(gaps(few.joints(c, turned_back(mirrored, shifted))[0]).mean())
    peaks = float(score.mean()), float(few.joints(c, swapped)[1].mean())
    return sights, Twins(float(gap.mean()), other_gap, *peaks)


def maps_of(outputs: Outputs, joints: int) -> Float:
    """One map per joint `(N, K, h, w)` to look at: of combined maps the class, of vectors their product."""
    if len(outputs) > 1:
        x, y = (np.maximum(vector, 0) for vector in outputs)
        return np.sqrt(y[..., :, None] * x[..., None, :])
    return outputs[0][:, :: outputs[0].shape[1] // joints]


def _moved(xy: NDArray[np.floating], matrices: NDArray[np.float64]) -> Float:
    """Points `(N, K, 2)` of the frame as px of the crops."""
    return np.asarray(np.einsum("nij,nkj->nki", matrices[:, :, :2], xy) + matrices[:, None, :, 2], np.float32)


def _some(people: People, chosen: NDArray[np.intp]) -> People:
    return replace(
        people,
        image=people.image[chosen],
        image_ids=tuple([people.image_ids[i] for i in chosen.tolist()]),
        source=people.source[chosen],
        xyxy=people.xyxy[chosen],
        box_score=people.box_score[chosen],
        joints=None if people.joints is None else people.joints[chosen],
        crops=None if people.crops is None else (people.crops[0][chosen], people.crops[1][chosen]),
    )
