"""The metrics of the published figures: one module per protocol, each with its `Metric`.

A data set names its metric (`posert.runtime.datasets`): `oks.OKS` scores any data set in COCO's format, `oks.COCO_OKS`
COCO itself, `oks_parts.OKS_PARTS` COCO-WholeBody, `oks_crowd.OKS_CROWD` CrowdPose, `pckh.PCKH` MPII and
`poseval.POSEVAL` PoseTrack18. `pck.PCK` needs no sigmas.
"""

from .spec import PROTOCOLS, Centers, Dataset, Metric, check_protocol, flip_index

__all__ = [
    "PROTOCOLS",
    "Centers",
    "Dataset",
    "Metric",
    "check_protocol",
    "flip_index",
    "oks",
    "oks_crowd",
    "oks_parts",
    "pck",
    "pckh",
    "poseval",
]
