"""The AP of what a top-down network says about labelled people."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.accuracy.people import People
from ....runtime.bundle.contract import Contract
from ....runtime.metrics.oks import evaluate_oks
from ....runtime.pose.decode import decode, to_frame
from ....runtime.pose.keypoints import person_scores

_FIGURES = {"AP": "AP", "AP50": "AP50", "AP75": "AP75", "AP (M)": "AP_M", "AP (L)": "AP_L", "AR": "AR"}


def average_precision(
    heatmaps: NDArray[np.float32], people: People, labels: dict[str, Any], contract: Contract
) -> dict[str, float]:
    """COCO AP of the heatmaps `(N, K, h, w)` of the ground-truth boxes."""
    xy, score = decode((heatmaps,), contract)
    xy = to_frame(xy, *people.regions(contract), heatmaps.shape[3], heatmaps.shape[2])
    joints = np.concatenate([xy, score[..., None]], axis=2).reshape(len(people), -1).tolist()
    scores = person_scores(score, people.box_score).tolist()
    results = [
        {"image_id": image, "category_id": 1, "keypoints": keypoints, "score": confidence}
        for image, keypoints, confidence in zip(people.image_ids, joints, scores, strict=True)
    ]
    metrics = evaluate_oks(labels, results, contract.sigmas).metrics
    return {name: round(metrics[metric], 4) for metric, name in _FIGURES.items()}
