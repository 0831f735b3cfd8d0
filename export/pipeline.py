"""The road itself: row and weights -> reference -> graphs -> precisions -> gate -> bundle."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ..calib.fp16 import activations, overflows, to_fp16
from ..calib.images import crops_from_coco
from ..calib.leak import EvaluationSet
from ..calib.qdq import place, quantize
from ..calib.ranges import collect
from ..runtime.backends import installed_backends, load_backend
from ..runtime.bundle import Artifact, Bundle, Golden, describe, write_bundle
from ..runtime.choice import Choice, open_session
from ..runtime.contract import Contract
from ..runtime.errors import PosertError
from ..runtime.estimator import PoseEstimator
from ..runtime.files import whole_file
from ..runtime.frames import Frames
from ..runtime.parity import Candidate, Parity, judge
from . import macs
from .archs import build_arch
from .catalog import Row
from .memory import give_back
from .reference import Reference
from .to_onnx import OPSET, to_onnx, with_crops, with_free_size
from .to_torchscript import to_torchscript
from .weights import Provenance, load_weights

PRECISIONS = ("fp32", "fp16", "int8")
CALIBRATION_PEOPLE = 64
METHOD = "mse"
OVERFLOW_BATCHES = 2

# Told (what is being done, steps done, steps in all).
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """What to build.

    Attributes:
        row: the model's catalog row.
        weights: "auto", "demo", "random" or a file.
        precisions: of `PRECISIONS`; "fp32" is always built, the others come from it.
        output: the bundle to write.
        plain: where to write the plain ONNX graph (normalised images in), or None.
        opset: ONNX operator set.
        max_drop: AP may fall by this much.
        stages: stop a network of several stages after this one; None runs them all.
        dynamic_size: the plain graph takes any height and width.
        held_out: labelled frames to judge on.
        labelled: whether AP on them says something about these weights.
        calibration: labelled frames to calibrate on.
    """

    row: Row
    weights: str
    precisions: tuple[str, ...]
    output: Path
    held_out: Frames
    labelled: bool
    calibration: Frames
    plain: Path | None = None
    opset: int = OPSET
    max_drop: float = 0.005
    stages: int | None = None
    dynamic_size: bool = False


@dataclass(frozen=True)
class Built:
    """What a build left: the bundle's path and name, the gate's result and what the report says about its making."""

    path: Path
    parity: Parity
    contract: Contract
    meta: dict[str, Any]


# Artifact and bytes by name, as `write_bundle` takes them.
Graphs = dict[str, tuple[Artifact, bytes]]


def build(plan: Plan, report: Report = lambda what, done, total: None) -> Built:
    """Do the whole road. The bundle is written also when the gate fails, with that verdict in it.

    Raises:
        PosertError: any step that cannot be done; nothing has been written then.
    """
    plan.held_out.check_joints(plan.row.contract())
    report("weights", 0, 0)
    network = build_arch(plan.row.arch, plan.row.keypoints, plan.stages)
    provenance = load_weights(plan.row, network, plan.weights, lambda done, total: report("download", done, total or 0))
    if provenance.layout is not None:
        # Colour order and decode follow the file: MMPose's pose_resnet saw RGB, the HRNet repository's saw BGR.
        plan = replace(plan, row=plan.row.with_layout(provenance.layout))
    contract = plan.row.contract()
    reference = Reference(network, contract)
    reference.check_output()
    made = _graphs(plan, reference, report)
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        # The gate runs the very file that is shipped, through the same code as the user's.
        draft = _write(Path(folder, plan.output.name), plan, provenance, made, {"rows": []})
        parity = _gate(plan, reference, draft, report)
    report("bundle", 0, 0)
    published = provenance.published(plan.row, plan.stages)
    accuracy = {
        "verdict": parity.verdict,
        "max_drop": parity.max_drop,
        "data": parity.data,
        **published,
        "rows": [asdict(row) for row in parity.rows],
    }
    if plan.plain is not None:
        with whole_file(plan.plain) as file:
            file.write(made.plain)
    path = _write(plan.output, plan, provenance, made, accuracy)
    meta = {
        "bundle": path.name,
        "model": plan.row.id,
        "weights": provenance.to_json(),
        "versions": versions(),
        "machine": machine(),
        "calibration": made.calibration,
        **published,
    }
    return Built(path, parity, contract, meta)


def name_of(row: Row, stages: int | None = None) -> str:
    """The bundle's name, such as "hrnet_w32-coco-256x192" or "mspn_50_4-coco-256x192-stage2"."""
    return f"{row.arch}-{row.dataset}-{row.height}x{row.width}" + (f"-stage{stages}" if stages else "")


def versions() -> dict[str, str]:
    """Versions of the tools that shape a bundle."""
    found = {"python": platform.python_version()}
    for package in ("posert", "torch", "onnx", "onnxruntime", "openvino", "numpy", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The machine on which the figures were measured."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


@dataclass(frozen=True)
class _Made:
    """The graphs of a bundle, the golden crop, where the calibrated ranges come from, the plain graph if it is wanted,
    and the multiply-adds."""

    graphs: Graphs
    golden: Golden
    calibration: dict[str, Any] | None
    plain: bytes
    macs: int


def _graphs(plan: Plan, reference: Reference, report: Report) -> _Made:
    """All graphs. Copies of the weights are let go as soon as possible: they are most of what a build needs."""
    contract = reference.contract
    names = [record["file_name"] for record in plan.held_out.coco["images"]]
    measured = EvaluationSet(names, plan.held_out.read)
    crops = crops_from_coco(
        plan.calibration.coco, plan.calibration.read, contract, CALIBRATION_PEOPLE, evaluation=measured
    )
    golden_crops = next(iter(crops))[:1]
    golden = Golden(golden_crops, reference.infer(golden_crops))
    report("ONNX graph", 0, 0)
    model = to_onnx(reference, plan.opset)
    counted, wanted = macs.of_graph(model), b""
    if plan.plain is not None:
        wanted = (with_free_size(model, reference) if plan.dynamic_size else model).SerializeToString()
    fp32 = with_crops(model, contract)
    del model
    give_back()
    graphs: Graphs = {"fp32": _onnx_graph("fp32", fp32, "fp32", golden)}
    if "fp16" in plan.precisions:
        report("fp16 graph", 0, 0)
        # What float16 cannot hold, with room for pictures that calibration did not show, stays in float32.
        wide = overflows(fp32, collect(fp32, islice(crops, OVERFLOW_BATCHES), activations(fp32)))
        graphs["fp16"] = _onnx_graph("fp16", to_fp16(fp32, wide), "fp16", golden, wide)
    calibration = None
    if "int8" in plan.precisions:
        tensors = place(fp32).tensors
        ranges = collect(fp32, crops, tensors, METHOD, progress=lambda done: report("calibration", done, len(crops)))
        report("int8 graphs", 0, 0)
        # One calibration, two graphs: CPUs are fastest on unsigned activations, TensorRT takes signed ones only.
        for name, unsigned in (("int8", True), ("int8_gpu", False)):
            quantized = quantize(fp32, ranges, unsigned=unsigned)
            graphs[name] = _onnx_graph(name, quantized.model, "int8", golden, quantized.placement.left)
            del quantized
        calibration = {
            "method": METHOD,
            "data": plan.calibration.note,
            "curve": ranges.curve,
            "settled": ranges.settled,
            **crops.provenance(),
        }
    del fp32
    give_back()
    report("TorchScript", 0, 0)
    graphs["torchscript"] = _graph("torchscript", "torchscript", to_torchscript(reference), "fp32", golden)
    return _Made(graphs, golden, calibration, wanted, counted)


def _onnx_graph(
    name: str, model: onnx.ModelProto, precision: str, golden: Golden, float_nodes: dict[str, str] | None = None
) -> tuple[Artifact, bytes]:
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return _graph(name, "onnx", model.SerializeToString(), precision, golden, opset, float_nodes)


def _graph(
    name: str,
    format: str,
    data: bytes,
    precision: str,
    golden: Golden,
    opset: int | None = None,
    float_nodes: dict[str, str] | None = None,
) -> tuple[Artifact, bytes]:
    """An artifact with its error on the golden crop, as the library that owns the format computes it."""
    library, extension = {"onnx": ("onnxruntime", "onnx"), "torchscript": ("torchscript", "pt")}[format]
    seen = load_backend(library).Session(data, precision).infer(golden.crops)
    error = float(np.linalg.norm(seen - golden.heatmaps) / np.linalg.norm(golden.heatmaps))
    give_back()
    if not np.isfinite(error):
        raise PosertError(f"the {name} graph gives NaN or infinity on a real crop; build without it (--precision)")
    file = f"{name}.{extension}"
    record = Artifact(
        name,
        format,
        file,
        **describe(data),
        precision=precision,
        opset=opset,
        float_nodes=float_nodes or {},
        golden_error=error,
    )
    return record, data


def _gate(plan: Plan, reference: Reference, draft: Path, report: Report) -> Parity:
    """The PyTorch model, then every graph on every backend that is installed and can run it."""
    contract = reference.contract

    def open_reference() -> PoseEstimator:
        return PoseEstimator.from_session(contract, reference, Choice("pytorch", "fp32", "the reference"))

    size = sum(p.numel() * p.element_size() for p in reference.parameters()) / 1e6
    candidates = [Candidate("fp32", "pytorch", open_reference, size)]
    with Bundle(draft) as bundle:
        for backend, module in installed_backends().items():
            for precision, artifact in module.PRECISIONS.items():
                if artifact in bundle.artifacts:
                    candidates.append(_candidate(bundle, backend, precision, bundle.artifacts[artifact]))
        return judge(
            candidates,
            plan.held_out,
            max_drop=plan.max_drop,
            labelled=plan.labelled,
            advance=lambda name, done, total: report(f"gate: {name}", done, total),
        )


def _candidate(bundle: Bundle, backend: str, precision: str, artifact: Artifact) -> Candidate:
    def open_candidate() -> PoseEstimator:
        session = open_session(bundle, backend, precision)
        return PoseEstimator.from_session(bundle.contract, session, Choice(backend, precision, "under test"))

    return Candidate(precision, backend, open_candidate, artifact.bytes / 1e6, artifact.name)


def _write(
    path: Path,
    plan: Plan,
    provenance: Provenance,
    made: _Made,
    accuracy: dict[str, Any],
) -> Path:
    row = plan.row
    return write_bundle(
        path,
        name=name_of(row, plan.stages),
        model={
            "id": row.id,
            "arch": row.arch,
            "dataset": row.dataset,
            "source": row.source,
            "stages": plan.stages,
            "macs": made.macs,
            "checkpoint": provenance.to_json(),
        },
        contract=row.contract(),
        graphs=made.graphs,
        golden=made.golden,
        calibration=made.calibration,
        accuracy=accuracy,
        versions=versions(),
    )
