"""What a bundle's manifest says, checked value by value before anything uses it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from .schema import NUMBER_OR_NONE, check_shape

SCHEMA = 1
FORMATS = ("onnx", "torchscript")
PRECISIONS = ("fp32", "fp16", "int8")
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SHAPE: dict[str, Any] = {
    "schema": int,
    "name": str,
    "model": {"arch": str, "dataset": str, "checkpoint?": {"*": object}, "*": object},
    "contract": {"*": object},
    "artifacts": [
        {
            **dict.fromkeys(("name", "format", "file", "sha256", "precision"), str),
            "bytes": int,
            "opset": (int, type(None)),
            "float_nodes": {"*": str},
            "golden_error": NUMBER_OR_NONE,
        }
    ],
    "golden": {"file": str, "sha256": str, "bytes": int},
    "calibration": (dict, type(None)),
    "accuracy": {
        "verdict?": str,
        "data?": {"*": object},
        "rows": [
            {
                **dict.fromkeys(("precision", "backend", "verdict"), str),
                **dict.fromkeys(("ap", "ap_drop", "pixel_drift_p95", "ms_per_person"), NUMBER_OR_NONE),
                "*": object,
            }
        ],
        "*": object,
    },
    "versions": {"*": str},
}


@dataclass(frozen=True)
class Artifact:
    """One graph of the bundle.

    Attributes:
        name: what the user asks for: "fp32", "fp16", "int8" or "torchscript".
        format: "onnx" or "torchscript".
        file: member of the zip.
        sha256, bytes: of that member.
        precision: numeric precision of the graph.
        opset: ONNX operator set, None for TorchScript.
        float_nodes: nodes that stayed in float in an INT8 graph, each with the reason.
        golden_error: relative L2 error of the heatmap on the golden crop, as measured when the bundle was built.
    """

    name: str
    format: str
    file: str
    sha256: str
    bytes: int
    precision: str
    opset: int | None = None
    float_nodes: dict[str, str] = field(default_factory=dict)
    golden_error: float | None = None


def parse_manifest(data: bytes) -> dict[str, Any]:
    """The manifest as plain JSON values, of which every one that the runtime reads has the right type.

    Raises:
        ValueError: it is not JSON, of another schema, or a value is not what it must be; the message names it.
    """
    manifest = json.loads(data, parse_constant=_refuse_constant)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema!r}, this posert reads {SCHEMA}; use the posert that wrote it")
    check_shape(manifest, _SHAPE, "manifest")
    assert isinstance(manifest, dict)
    return manifest


def parse_artifacts(manifest: dict[str, Any]) -> dict[str, Artifact]:
    """The artifacts by name; ValueError for one that no bundle of this schema can hold."""
    artifacts: dict[str, Artifact] = {}
    for record in manifest["artifacts"]:
        artifact = Artifact(**record)
        checks = {
            "a plain file name of its own": _MEMBER_NAME.fullmatch(artifact.file)
            and artifact.file not in (MANIFEST, GOLDEN, *(a.file for a in artifacts.values())),
            "a name of its own": artifact.name not in artifacts,
            f"a format of {FORMATS}": artifact.format in FORMATS,
            f"a precision of {PRECISIONS}": artifact.precision in PRECISIONS,
            "an error of 0 or more": (artifact.golden_error or 0) >= 0,
        }
        broken = [text for text, holds in checks.items() if not holds]
        if broken:
            raise ValueError(f"artifact {artifact.name!r} in file {artifact.file!r} has not {' or '.join(broken)}")
        artifacts[artifact.name] = artifact
    if not artifacts:
        raise ValueError("it lists no graph")
    return artifacts


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is not JSON")
