"""Who takes part, and what each needs to be installed."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..harness.environments import environment
from .materials import SDK_BATCHES


@dataclass(frozen=True)
class Contender:
    """One row.

    Attributes:
        name: of the row.
        module: the one that opens it, ".name" in this package.
        options: what its `open` is given beside what all are given.
        requirements: of an environment of its own, as pip takes them; None runs in ours.
        bare: see `environments.environment`.
    """

    name: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] | None = None
    bare: tuple[str, ...] = ()

    def python(self) -> Path:
        """The Python that it runs in, made if need be.

        Raises:
            ToolError: its environment cannot be made.
        """
        if self.requirements is None:
            return Path(sys.executable)
        return environment(self.module.strip("."), self.requirements, bare=self.bare)


def contenders() -> list[Contender]:
    """Ours first, then peers. Where a peer uses a library that we use, it has the same version of it."""
    torch, ort = _same("torch"), _same("onnxruntime")
    # OpenCV 5 cuts other crops than the models were trained on.
    cv = ("opencv-python==4.14.0.94", "opencv-contrib-python==4.14.0.94")
    return [
        *(
            Contender(f"posert {precision}", ".ours", {"precision": precision, "mode": "latency"})
            for precision in ("int8", "bf16", "fp16", "fp32")
        ),
        *(
            Contender(f"posert {precision}, video", ".ours", {"precision": precision, "mode": "throughput"})
            for precision in ("int8", "bf16")
        ),
        Contender("plain OpenVINO bf16", ".openvino", {"precision": "bf16"}),
        Contender("plain OpenVINO fp32", ".openvino", {"precision": "fp32"}),
        Contender("plain ONNX Runtime", ".onnxruntime"),
        Contender("plain PyTorch", ".eager"),
        Contender("rtmlib", ".rtmlib", requirements=("rtmlib==0.0.16", ort, *cv)),
        *(
            Contender(name, ".mmdeploy", {"batch": batch}, ("mmdeploy-runtime==1.3.1", "numpy==1.26.4"))
            for name, batch in zip(("mmdeploy-runtime", "mmdeploy-runtime, batch"), SDK_BATCHES, strict=True)
        ),
        Contender("MMPose", ".mmpose", requirements=(torch, *_MMPOSE), bare=_MMPOSE_BARE),
    ]


# What mmpose and mmdet import; xtcocotools was compiled for numpy 1.
_MMPOSE = (
    "mmengine==0.10.7",
    "numpy==1.26.4",
    "opencv-python==4.11.0.86",
    "opencv-python-headless==4.11.0.86",
    "xtcocotools==1.14.3",
    "json_tricks==3.17.3",
    "munkres==3.0.0",
    "scipy==1.17.1",
    "pillow==13.0.0",
    "six==1.17.0",
    "setuptools==80.10.2",
    "pycocotools==2.0.11",
    "shapely==2.2.0",
    "terminaltables==3.1.10",
    "tqdm==4.70.1",
)
# mmpose asks for chumpy, which does not build any more and is not imported; mmcv-lite is mmcv without compiled code.
_MMPOSE_BARE = ("mmcv-lite==2.1.0", "mmdet==3.3.0", "mmpose==1.3.2")


def _same(package: str) -> str:
    """The requirement of the version that is installed here, without the build's label."""
    return f"{package}=={version(package).split('+')[0]}"
