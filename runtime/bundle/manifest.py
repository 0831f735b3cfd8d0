"""What a bundle's manifest says, checked value by value before anything uses it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from ..system.json_text import parse_json
from ..system.text import check_text
from .schema import NUMBER, NUMBER_OR_NONE, check_shape, shape_of

SCHEMA = 2
"""Number of the format that this posert writes. It reads this one and all lower ones."""
REQUIRES = "0.2.0"
"""The first posert that reads SCHEMA, which bundles state as `requires`. The two change together."""

FORMATS = ("onnx", "torchscript")
PRECISIONS = ("fp32", "fp16", "int8")
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
_MEMBER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_VERSION = re.compile(r"\d{1,4}(\.\d{1,4}){0,3}")


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
        golden_error: relative L2 error of the outputs on the golden crop, as measured when the bundle was built.
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


SHAPE: dict[str, Any] = {
    "schema": int,
    "requires?": str,
    "name": str,
    "model": {"arch": str, "dataset": str, "checkpoint?": {"license?": str, "*": object}, "*": object},
    "contract": {"*": object},
    "artifacts": [{**shape_of(Artifact), "*": object}],
    "golden": {"file": str, "sha256": str, "bytes": int, "*": object},
    "calibration?": (dict, type(None)),
    "accuracy": {
        "verdict?": str,
        "data?": {**dict.fromkeys(("metric?", "note?", "kind?", "subjects?"), str), "*": object},
        **dict.fromkeys(("max_drop?", "max_drift?"), NUMBER_OR_NONE),
        **dict.fromkeys(("published?", "published_elsewhere?"), {"*": NUMBER}),
        "rows": [
            {
                **dict.fromkeys(("precision", "backend", "verdict"), str),
                **dict.fromkeys(("accuracy", "accuracy_drop", "pixel_drift_p95", "ms_per_person"), NUMBER_OR_NONE),
                **dict.fromkeys(("dark_drift_p95?", "jumps?", "size_mb?"), NUMBER_OR_NONE),
                **dict.fromkeys(("artifact?", "reason?"), str),
                "*": object,
            }
        ],
        "*": object,
    },
    "versions?": {"*": str},
    "*": object,
}
"""Of a manifest, for `check_shape`, but for its contract and its calibration."""


def load_manifest(data: bytes) -> Any:
    """The manifest as plain JSON values, not yet checked. Raises ValueError: see `parse_json`; NaN is no JSON here."""
    return parse_json(data, constant=_refuse_constant)


def newer_posert(manifest: Any) -> str | None:
    """What to install, as pip names it, where the schema is higher than this posert reads; None where it is not."""
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int or schema <= SCHEMA:
        return None
    requires = manifest.get("requires")
    known = isinstance(requires, str) and _VERSION.fullmatch(requires)
    return f"posert>={requires}" if known else "posert"


def check_manifest(manifest: Any) -> dict[str, Any]:
    """The manifest, of which every value that the runtime reads has the right type and every field is there.

    Raises ValueError: it is of another schema, or a value is not what it must be; the message names it.
    """
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise ValueError(f"its schema is {schema!r}, expected a number from 1 to {SCHEMA}")
    if schema == 1:
        _renamed_rows(manifest)
    check_shape(manifest, SHAPE, "manifest")
    check_text(manifest)
    assert isinstance(manifest, dict)
    check_shape(manifest.get("calibration") or {}, {"verdict?": (str, type(None)), "*": object}, "manifest.calibration")
    return {"calibration": None, "versions": {}, **manifest}


def _renamed_rows(manifest: dict[str, Any]) -> None:
    """Schema 1 had AP alone in its rows, as `ap`, `ap_drop` and `ap_drop_interval`."""
    accuracy = manifest.get("accuracy")
    rows = accuracy.get("rows") if isinstance(accuracy, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict):
            for name in [name for name in row if name in ("ap", "ap_drop", "ap_drop_interval")]:
                row[name.replace("ap", "accuracy", 1)] = row.pop(name)


def parse_artifacts(manifest: dict[str, Any]) -> dict[str, Artifact]:
    """The artifacts by name; ValueError for one that no bundle of this schema can hold."""
    artifacts: dict[str, Artifact] = {}
    known = {f.name for f in fields(Artifact)}
    for record in manifest["artifacts"]:
        artifact = Artifact(**{name: value for name, value in record.items() if name in known})
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
