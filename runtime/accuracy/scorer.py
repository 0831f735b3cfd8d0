"""How well joints agree with the labels of the people that they belong to, one result per labelled person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..metrics import oks, pck
from ..metrics.oks import OksEvaluation, evaluate_oks
from ..metrics.oks_matching import BOX_AREA, similarity
from ..metrics.pck import PckEvaluation, evaluate_pck
from ..pose.keypoints import person_scores
from .decision import Shares, oks_shares, pck_shares
from .people import People
from .verdict import AP, PCK

Evaluation = OksEvaluation | PckEvaluation
Array = NDArray[np.floating]


class Scorer:
    """Scores the joints of some labelled people.

    Args:
        coco: the annotations.
        people: from them, all with labelled joints.
        contract: its sigmas, or their absence, decide the metric.

    Attributes:
        metric: "AP" or "PCK@0.05".
    """

    def __init__(self, coco: Mapping[str, Any], people: People, contract: Contract) -> None:
        assert people.joints is not None  # labelled people have joints
        self._coco, self._people, self._joints = coco, people, people.joints
        self._sigmas = contract.sigmas
        self.metric = AP if contract.sigmas else PCK

    def evaluate(self, xy: Array, score: Array) -> Evaluation:
        """The data set's own evaluation of joints `(N, K, 2)`, px of the frame, and their scores `(N, K)`.

        Without OKS NMS: there is one result per annotated person, and nothing to suppress.
        """
        people, annotations = self._people, self._coco["annotations"]
        if self.metric == PCK:
            return evaluate_pck(self._joints, people.xyxy, people.image, xy)
        scores = person_scores(score, people.box_score)
        joints = np.concatenate([xy, score[..., None]], axis=2).astype(np.float64).reshape(len(people), -1)
        categories = [annotations[i].get("category_id", 1) for i in people.source]
        results = [
            {"image_id": image, "category_id": category, "keypoints": j.tolist(), "score": float(s)}
            for image, category, j, s in zip(people.image_ids, categories, joints, scores, strict=True)
        ]
        return evaluate_oks(self._coco, results, self._sigmas, use_area=any("area" in a for a in annotations))

    def shares(self, xy: Array) -> Shares:
        """What each person scores by the figure that decides, see `decision`. Joints `(N, K, 2)` in px of the frame."""
        people, joints = self._people, self._joints
        if self.metric == PCK:
            return pck_shares(people.image, evaluate_pck(joints, people.xyxy, people.image, xy).distance)
        sigmas, alike = np.array(self._sigmas), np.empty(len(people))
        for i, source in enumerate(people.source):
            record = self._coco["annotations"][source]
            box = np.array(record["bbox"], np.float64)
            area = record.get("area", BOX_AREA * box[2] * box[3])
            alike[i] = similarity(joints[i], box, area, xy[i : i + 1].astype(np.float64), sigmas)[0]
        return oks_shares(people.image, alike, len(self._sigmas))


def paired_interval(a: Evaluation, b: Evaluation, resamples: int = 1000) -> tuple[float, float, float]:
    """What `b` loses against `a`, and its 95 % interval by the paired bootstrap; both are of one metric."""
    if isinstance(a, PckEvaluation) and isinstance(b, PckEvaluation):
        return pck.paired_interval(a, b, resamples)
    assert isinstance(a, OksEvaluation) and isinstance(b, OksEvaluation)
    return oks.paired_interval(a, b, resamples)
