"""`dets (1, N, 5)` and `labels (1, N)`: detectors of MMDetection as mmdeploy exports them, with NMS in the graph."""

from __future__ import annotations

import numpy as np

from . import Candidates, Graph, Outputs

SOURCE = "https://github.com/open-mmlab/mmdeploy, configs/mmdet/_base_/base_static.py and mmcv/ops/nms.py"


def reads(graph: Graph) -> bool:
    return set(graph.outputs) == {"dets", "labels"} and graph.has(dets=(1, None, 5), labels=(1, None))


def decode(outputs: Outputs, size: tuple[int, int], score: float) -> Candidates:
    dets, labels = outputs["dets"][0], outputs["labels"][0]
    found = (dets[:, 4] > score) & (labels >= 0)  # rows that fill up have the score 0 or the label -1
    return Candidates(
        dets[found, :4].astype(np.float32), dets[found, 4].astype(np.float32), labels[found].astype(np.int64)
    )
