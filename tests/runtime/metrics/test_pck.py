"""PCK against a plain loop over joints, and its interval against one over draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from posert.runtime.accuracy.score import dataset_of, score
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.metrics.pck import evaluate_pck, paired_interval

CONTRACT = Contract("mice", ("nose", "ear", "tail"), (), (), (), 32, 32, 8, 8)


def people(count: int = 30) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(0, 100, (count, 3, 2)), rng.integers(0, 3, (count, 3, 1))], axis=2)
    corner, size = rng.uniform(0, 20, (count, 2)), rng.uniform(50, 90, (count, 2))
    box, image = np.concatenate([corner, corner + size], axis=1), rng.integers(0, 12, count)
    return joints, box, image, joints[..., :2] + rng.normal(0, 5, (count, 3, 2))


def test_shares_are_those_of_a_loop() -> None:
    joints, box, image, xy = people()
    seen = evaluate_pck(joints, box, image, xy).metrics
    for name, threshold in {"PCK@0.05": 0.05, "PCK@0.1": 0.1, "PCK@0.2": 0.2}.items():
        right = total = 0
        for person in range(len(joints)):
            side = max(box[person, 2] - box[person, 0], box[person, 3] - box[person, 1])
            for joint in range(3):
                if joints[person, joint, 2] > 0:
                    total += 1
                    right += np.hypot(*(xy[person, joint] - joints[person, joint, :2])) <= threshold * side
        assert seen[name] == pytest.approx(right / total)
    assert 0 < seen["PCK@0.05"] < seen["PCK@0.1"] < seen["PCK@0.2"] <= 1


def test_the_interval_holds_the_difference() -> None:
    joints, box, image, xy = people()
    a = evaluate_pck(joints, box, image, xy)
    b = evaluate_pck(joints, box, image, xy + np.random.default_rng(1).normal(0, 4, xy.shape))
    lost, low, high = paired_interval(a, b)
    assert lost == pytest.approx(a.metrics["PCK@0.05"] - b.metrics["PCK@0.05"])
    assert low < lost < high
    assert paired_interval(a, a) == (0.0, 0.0, 0.0)


def test_a_data_set_without_sigmas_is_scored_by_it() -> None:
    joints, box, image, xy = people()
    joints[:, 0, 2] = 2  # everybody has a label
    coco = {
        "images": [{"id": int(i)} for i in np.unique(image)],
        "annotations": [
            {
                "id": i,
                "image_id": int(image[i]),
                "keypoints": joints[i].ravel().tolist(),
                "bbox": [*b[:2], *(b[2:] - b[:2])],
            }
            for i, b in enumerate(box)
        ],
    }
    found = np.concatenate([xy, np.ones((len(xy), 3, 1))], axis=2)
    results = [{"image_id": int(image[i]), "keypoints": found[i].ravel().tolist()} for i in range(len(xy))]
    which = dataset_of(CONTRACT)
    seen = score(which, coco, results[::-1], "legacy")
    assert seen == pytest.approx(evaluate_pck(joints, box, image, xy).metrics)
    first = int(image[0])
    fewer = score(which, coco, [r for r in results if r["image_id"] != first], "legacy")
    assert fewer["PCK@0.2"] < seen["PCK@0.2"]
    for a in coco["annotations"]:
        a["keypoints"] = [0] * 9
    with pytest.raises(InputError, match="label no joint"):
        score(which, coco, results, "legacy")
