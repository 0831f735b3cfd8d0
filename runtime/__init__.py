"""The edge runtime: bundle -> engine -> frame and boxes -> keypoints. Needs numpy and OpenCV, never torch or onnx.

>>> from posert.runtime import PoseEstimator
>>> pose = PoseEstimator("hrnet_w32-coco-256x192.pose")
>>> people = pose(frame_bgr, boxes_xyxy)

Only the names in `__all__` are public. They are imported when they are first used, so that `import posert.runtime`
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle.archive import Bundle as Bundle
    from .bundle.contract import Contract as Contract
    from .errors import BackendError as BackendError
    from .errors import BundleError as BundleError
    from .errors import InputError as InputError
    from .errors import PosertError as PosertError
    from .estimator import PoseEstimator as PoseEstimator
    from .pipeline import PosePipeline as PosePipeline
    from .pose.draw import draw as draw
    from .pose.keypoints import Keypoints as Keypoints

_HOME = {
    "BackendError": "errors",
    "Bundle": "bundle.archive",
    "BundleError": "errors",
    "Contract": "bundle.contract",
    "InputError": "errors",
    "Keypoints": "pose.keypoints",
    "PoseEstimator": "estimator",
    "PosePipeline": "pipeline",
    "PosertError": "errors",
    "draw": "pose.draw",
}
__all__ = [
    "BackendError",
    "Bundle",
    "BundleError",
    "Contract",
    "InputError",
    "Keypoints",
    "PoseEstimator",
    "PosePipeline",
    "PosertError",
    "draw",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
