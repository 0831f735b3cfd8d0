"""The tools that are compared, and what each needs to be installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..environments import environment
from .inputs import SDK_BATCHES


@dataclass(frozen=True)
class PeerTool:
    """One row.

    Attributes:
        name: of the row.
        module: of the adapter, ".name" in this package.
        options: added to the adapter's inputs.
        requirements: of an environment of its own, as pip takes them; None runs in ours.
        bare: packages without their dependencies, see `environments.environment`.
    """

    name: str
    module: str
    options: dict[str, Any] = field(default_factory=dict)
    requirements: Sequence[str] | None = None
    bare: Sequence[str] = ()

    def python(self) -> Path:
        """The interpreter it runs in; its environment is made if need be, which may raise `ToolError`."""
        if self.requirements is None:
            return Path(sys.executable)
        return environment(self.module.strip("."), self.requirements, bare=self.bare)


def peer_tools() -> list[PeerTool]:
    """Ours first. Where a tool uses a library that we use, it has the same version of it."""
    torch, ort = _same("torch"), _same("onnxruntime")
    # OpenCV 5 cuts other crops than the models were trained on.
    cv = ("opencv-python==4.14.0.94", "opencv-contrib-python==4.14.0.94")

    def ours(name: str, precision: str, mode: str) -> PeerTool:
        return PeerTool(name, ".posert_openvino", {"precision": precision, "mode": mode})

    def plain(name: str, library: str, precision: str = "fp32") -> PeerTool:
        return PeerTool(f"plain {name}", ".plain", {"library": library, "precision": precision})

    return [
        *(ours(f"posert {precision}", precision, "latency") for precision in ("int8", "bf16", "fp16", "fp32")),
        *(ours(f"posert {precision}, video", precision, "throughput") for precision in ("int8", "bf16")),
        *(plain(f"OpenVINO {precision}", "openvino", precision) for precision in ("bf16", "fp32")),
        plain("ONNX Runtime", "onnxruntime"),
        plain("PyTorch", "pytorch"),
        PeerTool("rtmlib", ".rtmlib", requirements=("rtmlib==0.0.16", ort, *cv)),
        *(
            PeerTool(name, ".mmdeploy", {"batch": batch}, ("mmdeploy-runtime==1.3.1", "numpy==1.26.4"))
            for name, batch in zip(("mmdeploy-runtime", "mmdeploy-runtime, batch"), SDK_BATCHES, strict=True)
        ),
        PeerTool("MMPose", ".mmpose", requirements=(torch, *_MMPOSE.split()), bare=_MMPOSE_BARE),
    ]


# What mmpose and mmdet import; xtcocotools was compiled for numpy 1.
_MMPOSE = """mmengine==0.10.7 numpy==1.26.4 opencv-python==4.11.0.86 opencv-python-headless==4.11.0.86
    xtcocotools==1.14.3 json_tricks==3.17.3 munkres==3.0.0 scipy==1.17.1 pillow==13.0.0 six==1.17.0 setuptools==80.10.2
    pycocotools==2.0.11 shapely==2.2.0 terminaltables==3.1.10 tqdm==4.70.1"""
# mmpose requires chumpy, which no longer builds and is not imported; mmcv-lite is mmcv without compiled code.
_MMPOSE_BARE = ("mmcv-lite==2.1.0", "mmdet==3.3.0", "mmpose==1.3.2")


def _same(package: str) -> str:
    """Requirement of the version installed here, without the label of its build."""
    return f"{package}=={version(package).split('+')[0]}"
