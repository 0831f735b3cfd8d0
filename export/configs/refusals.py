"""Networks that posert does not run, refused by name."""

from __future__ import annotations

import re
from typing import NoReturn

from ...runtime.errors import ConfigError

_KINDS = (
    ("Bottom|AssociativeEmbedding|AE|DEKR|Disentangled|CID|RTMO|EDPose|YOLOXPose|DetectAndRegress|Cuboid",
     "it finds all people of a picture at once (bottom-up or one stage), without boxes"),
    ("PoseLifter|3D|Motion|Trajectory|Temporal|Internet|Mesh|Interhand", "its joints are in three dimensions"),
    ("PoseWarper|Video", "it takes several frames"),
    ("RLE|DSNT|Regression|Regress|Integral|Deeppose|FcHead", "it gives coordinates (regression), not maps or vectors"),
    ("VisPredict", "it also gives a visibility, by a second output"),
    ("Detector|RCNN|RTMDet|YOLO|Classifier|Segmentor|Gesture", "it is no pose estimator"),
)  # fmt: skip


def refuse(label: str, path: str, name: str) -> NoReturn:
    """Raise the error for a kind of network that posert does not run.

    Raises:
        ConfigError: always; it says that another way of giving the same network does not help.
    """
    reason = next((why for names, why in _KINDS if re.search(names, name)), "")
    if not name:
        raise ConfigError(
            f"{label}: {path} is missing, so this is no config of a top-down pose estimator. Expected an MMPose 0.x or "
            "1.x config with a model, or an experiment file of the HRNet or simple-baselines repository"
        )
    help = (
        "An ONNX file or --contract do not help: posert runs top-down networks that give heatmaps or SimCC vectors"
        if reason
        else "posert knows top-down networks that give heatmaps or SimCC vectors. If yours does, build it from an ONNX "
        "file or a module, with --contract contract.yaml"
    )
    raise ConfigError(
        f"{label}: {path} is {name[:80]}{f': {reason}' if reason else ', which posert does not know'}. {help}"
    )
