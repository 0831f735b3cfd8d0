"""The ONNX graph that formats write: of any precision, with another input or keypoints out, and its contract inside."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ...runtime.bundle.archive import Bundle, output_names
from ...runtime.bundle.contract import Contract
from ...runtime.bundle.manifest import Artifact
from ...runtime.datasets import DATASETS
from ...runtime.errors import InputError
from ...runtime.pose.heads import head
from ...runtime.registry import unknown_name
from ...runtime.selection import graph_verdict
from ..configs.onnx_file import CONTRACT_KEY
from ._arguments import HEATMAPS as HEATMAPS
from ._arguments import KEYPOINTS as KEYPOINTS

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Wanted:
    """Which graph to write.

    Attributes:
        artifact: the bundle's graph.
        input: see `posert.export.graph.inputs.INPUTS`.
        output: `KEYPOINTS` or `HEATMAPS`.
    """

    artifact: Artifact
    input: str
    output: str


def wanted_graph(bundle: Bundle, args: argparse.Namespace) -> Wanted:
    """What the options of `add_graph_arguments` ask for.

    Raises InputError: the bundle has no such graph, or its decode rule has no graph form.
    """
    artifact = onnx_artifact(bundle, args.precision)
    if args.output_kind == KEYPOINTS:
        from ..decoding import check_rule

        check_rule(bundle.contract)
    return Wanted(artifact, args.input, args.output_kind)


def onnx_artifact(bundle: Bundle, name: str) -> Artifact:
    """An ONNX graph of the bundle. Raises InputError: it has none of this name."""
    held = [known for known, artifact in bundle.artifacts.items() if artifact.format == "onnx"]
    if name not in held:
        raise InputError(f"{bundle.name}: {unknown_name('graph', name, held)}")
    return bundle.artifacts[name]


def make_graph(bundle: Bundle, wanted: Wanted) -> onnx.ModelProto:
    """The graph, with the contract in its metadata.

    Raises:
        InputError: ONNX's checker refuses it.
        ExportError: it does not begin as posert writes them.
    """
    from ..decoding import with_keypoints
    from ..graph.inputs import with_input
    from ..graph.read import read_graph

    contract = bundle.contract
    name = f"{bundle.path}: {wanted.artifact.file}"
    model = with_input(read_graph(bundle.read(wanted.artifact), name), contract, wanted.input)
    if wanted.output == KEYPOINTS:
        model = with_keypoints(model, contract)
    for key, value in metadata(bundle, wanted).items():
        model.metadata_props.add(key=key, value=value)
    return model


def metadata(bundle: Bundle, wanted: Wanted) -> dict[str, str]:
    """The contract as metadata of an ONNX file.

    "posert.contract" is the whole of it. The others have the names under which ultralytics and Model API keep the same
    facts, so that tools that look for those find them; texts are Python literals, as ultralytics reads them.
    """
    c = bundle.contract
    names = list(c.keypoints)
    ultralytics = {
        "task": "pose",
        "stride": str(max(1, c.width // c.heatmap_width)),
        "batch": "1",
        "channels": "3",
        "imgsz": str([c.height, c.width]),
        "names": str({0: "person" if c.dataset in DATASETS.names() else c.dataset}),
        "kpt_shape": str([len(names), 3]),
        "kpt_names": str({0: names}),
        "args": str({"batch": 1, "dynamic": True}),
    }
    labels = " ".join(name.replace(" ", "_") for name in names)
    model_api = {"model_info task": "keypoint_detection", "model_info labels": labels}
    posert = {
        CONTRACT_KEY: json.dumps(c.to_json()),
        "posert.bundle": bundle.name,
        "posert.graph": wanted.artifact.sha256,
        "posert.precision": wanted.artifact.name,
        "posert.input": json.dumps(described_input(c, wanted.input)),
        "posert.outputs": json.dumps(described_outputs(c, wanted.output)),
        "posert.verdict": graph_verdict(bundle, wanted.artifact.name),
        "posert.versions": json.dumps(bundle.manifest["versions"]),
    }
    return {"description": f"{bundle.name} {wanted.artifact.name}, by posert", **ultralytics, **model_api, **posert}


def described_input(c: Contract, kind: str) -> dict[str, Any]:
    """Name, type, shape and meaning of the graph's input."""
    if kind == "uint8":
        shape, values = ["N", c.height, c.width, 3], {"color": c.color, "range": [0, 255]}
        return {"name": "crops", "type": "uint8", "layout": "NHWC", "shape": shape, **values}
    planes = {"type": "float32", "layout": "NCHW", "shape": ["N", 3, c.height, c.width]}
    if kind == "float":
        return {"name": "crops", **planes, "color": c.color, "range": [0, 255]}
    return {"name": "images", **planes, "color": c.model_color, "mean": list(c.mean), "std": list(c.std)}


def described_outputs(c: Contract, kind: str) -> list[dict[str, Any]]:
    """Name, type, shape and meaning of the graph's outputs."""
    if kind == KEYPOINTS:
        meaning = "x and y in px of the crop, (0, 0) being the centre of its first pixel, and score"
        return [{"name": KEYPOINTS, "type": "float32", "shape": ["N", len(c.keypoints), 3], "meaning": meaning}]
    shapes = head(c.decode).shapes(c)
    return [
        {"name": name, "type": "float32", "shape": ["N", *shape], "decode": c.decode}
        for name, shape in zip(output_names(len(shapes)), shapes, strict=True)
    ]


def sidecar(bundle: Bundle, wanted: Wanted) -> dict[str, Any]:
    """What lies beside the graph as JSON: the same facts, and the gate's rows."""
    gate = bundle.accuracy
    rows = [row for row in gate["rows"] if row.get("artifact") == wanted.artifact.name]
    return {
        "schema": 1,
        "name": bundle.name,
        "model": bundle.manifest["model"],
        "contract": bundle.contract.to_json(),
        "artifact": asdict(wanted.artifact),
        "input": described_input(bundle.contract, wanted.input),
        "outputs": described_outputs(bundle.contract, wanted.output),
        "accuracy": {
            "verdict": graph_verdict(bundle, wanted.artifact.name),
            **{name: gate[name] for name in ("max_drop", "max_drift", "data") if name in gate},
            "rows": rows,
        },
        "versions": bundle.manifest["versions"],
    }
