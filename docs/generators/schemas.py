"""JSON Schemas of the manifest of a bundle and of the sidecar of an engine, from what the runtime itself checks.

`python -m posert.docs.generators.schemas` writes them into docs/reference. A test compares those files with this.
"""

from __future__ import annotations

import inspect
import json
import re
from types import NoneType
from typing import Any

from posert.docs.generators.links import ROOT
from posert.runtime.bundle import contract, manifest
from posert.runtime.engines import sidecar

FOLDER = ROOT / "docs" / "reference"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null", dict: "object"}
_HASH = {"pattern": "^[0-9a-f]{64}$"}
_SIZE = {"minimum": 1, "maximum": 4096}
_JOINTS = {"items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}}
_THREE = {"minItems": 3, "maxItems": 3}
_ODD = {"minimum": 1, "maximum": 99, "not": {"multipleOf": 2}}

# What the runtime checks beside the types. What depends on several fields is not here: docs/reference/bundle.md has it.
_CONTRACT: dict[str, dict[str, Any]] = {
    "keypoints": {"minItems": 1, "maxItems": 1000},
    "flip_pairs": _JOINTS,
    "skeleton": _JOINTS,
    "sigmas": {"items": {"type": "number", "exclusiveMinimum": 0}},
    **dict.fromkeys(("width", "height", "heatmap_width", "heatmap_height"), _SIZE),
    "mean": _THREE,
    "std": {"items": {"type": "number", "exclusiveMinimum": 0}, **_THREE},
    "model_color": {"enum": ["RGB", "BGR"]},
    "color": {"const": "BGR"},
    "enlarge": {"items": {"type": "number", "exclusiveMinimum": 0, "maximum": 10}, "minItems": 2, "maxItems": 2},
    "padding": {"exclusiveMinimum": 0, "maximum": 10},
    "decode": {"minLength": 1, "maxLength": 100},
    "kernel": _ODD,
    "kernel_y": {"anyOf": [{"const": 0}, _ODD]},
}
_ARTIFACT: dict[str, dict[str, Any]] = {
    "format": {"enum": list(manifest.FORMATS)},
    "file": {
        "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$",
        "not": {"enum": [manifest.MANIFEST, manifest.GOLDEN]},
    },
    "sha256": _HASH,
    "bytes": {"minimum": 0},
    "precision": {"enum": list(manifest.PRECISIONS)},
    "golden_error": {"minimum": 0},
}
_RENAMED = {"accuracy": "ap", "accuracy_drop": "ap_drop"}  # columns of schema 1


def bundle_schema() -> dict[str, Any]:
    """Of manifest.json in a bundle."""
    schema = _schema(manifest.SHAPE)
    parts = schema["properties"]
    parts["schema"] |= {"minimum": 1, "maximum": manifest.SCHEMA}
    parts["contract"] = contract_schema()
    parts["artifacts"] |= {"items": _artifact(manifest.SHAPE["artifacts"][0]), "minItems": 1}
    parts["golden"]["properties"]["file"] |= {"const": manifest.GOLDEN}
    parts["golden"]["properties"]["sha256"] |= _HASH
    parts["golden"]["properties"]["bytes"] |= {"minimum": 0}
    parts["calibration"] |= {"properties": {"verdict": {"type": ["string", "null"]}}}
    rows = parts["accuracy"]["properties"].pop("rows")
    old = json.loads(json.dumps(rows))
    for new, name in _RENAMED.items():
        old["items"]["properties"][name] = old["items"]["properties"].pop(new)
    old["items"]["required"] = [_RENAMED.get(name, name) for name in rows["items"]["required"]]
    either = {"anyOf": [rows["items"], old["items"]]}
    return {
        "$schema": _DIALECT,
        "$id": f"urn:posert:bundle:{manifest.SCHEMA}",
        "title": "The manifest of a pose bundle",
        **schema,
        "if": {"properties": {"schema": {"const": 1}}},
        "then": {"properties": {"accuracy": {"properties": {"rows": {"type": "array", "items": either}}}}},
        "else": {"properties": {"accuracy": {"properties": {"rows": rows}}}},
    }


def engine_schema() -> dict[str, Any]:
    """Of the sidecar of an engine."""
    schema = _schema(sidecar.SHAPE)
    parts = schema["properties"]
    parts["schema"] |= {"const": sidecar.SCHEMA}
    parts["plan"]["properties"]["sha256"] |= _HASH
    parts["plan"]["properties"]["bytes"] |= {"minimum": 0}
    parts["engine"] = _described(parts["engine"], sidecar.EngineMetadata)
    parts["engine"]["properties"]["batch"]["items"] |= _THREE
    parts["contract"] = contract_schema()
    parts["artifact"] = _artifact(sidecar.SHAPE["artifact?"], checked=False)
    parts["golden"] |= {"contentEncoding": "base64"}
    origin = [name.rstrip("?") for name in sidecar.SHAPE if name.endswith("?")]
    return {
        "$schema": _DIALECT,
        "$id": f"urn:posert:engine:{sidecar.SCHEMA}",
        "title": "The sidecar of a TensorRT engine",
        **schema,
        "dependentRequired": {"contract": [name for name in origin if name != "contract"]},
    }


def contract_schema() -> dict[str, Any]:
    """Of a contract, with the fields that it may leave out and their defaults."""
    schema = _described(_schema(contract.SHAPE), contract.Contract)
    for name, more in _CONTRACT.items():
        schema["properties"][name] |= more
    for field in inspect.signature(contract.Contract).parameters.values():
        if field.default is not field.empty:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
            schema["properties"][field.name]["default"] = default
    return schema


def _artifact(shape: Any, checked: bool = True) -> dict[str, Any]:
    schema = _described(_schema(shape), manifest.Artifact)
    if checked:
        for name, more in _ARTIFACT.items():
            schema["properties"][name] |= more
    return schema


def _schema(shape: Any) -> dict[str, Any]:
    """Of a shape as `posert.runtime.bundle.schema.check_shape` takes it."""
    if shape is object:
        return {}
    if isinstance(shape, dict):
        parts = {name.rstrip("?"): _schema(part) for name, part in shape.items() if name != "*"}
        required = [name for name in shape if name != "*" and not name.endswith("?")]
        more = _schema(shape["*"]) if "*" in shape else False
        return {
            "type": "object",
            **({"properties": parts} if parts else {}),
            **({"required": required} if required else {}),
            "additionalProperties": True if more == {} else more,
        }
    if isinstance(shape, list):
        return {"type": "array", "items": _schema(shape[0])}
    kinds = shape if isinstance(shape, tuple) else (shape,)
    names = [_TYPES[kind] for kind in kinds if kind is not int or float not in kinds]
    return {"type": names[0] if len(names) == 1 else names}


def _described(schema: dict[str, Any], record: type) -> dict[str, Any]:
    """A schema whose properties have the descriptions of a dataclass."""
    text = (inspect.getdoc(record) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    for names, description in re.findall(r"^    ([a-z_0-9, ]+): (.*(?:\n     .*)*)", text, re.MULTILINE):
        for name in names.split(", "):
            schema["properties"][name]["description"] = " ".join(description.split())
    return schema


FILES = {"bundle.schema.json": bundle_schema, "engine.schema.json": engine_schema}


def text(schema: dict[str, Any]) -> str:
    """A schema as its file holds it."""
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_text(text(make()), encoding="utf-8")
