"""The road itself: row and weights -> reference -> graphs -> precisions -> gate -> bundle."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...runtime.accuracy.gate import Candidate, judge
from ...runtime.accuracy.verdict import Parity
from ...runtime.backends import installed_backends
from ...runtime.bundle.archive import Artifact, Bundle, write_bundle
from ...runtime.bundle.contract import Contract
from ...runtime.errors import PosertError
from ...runtime.estimator import PoseEstimator
from ...runtime.selection import Choice, open_session
from ...runtime.system.environment import machine, versions
from ...runtime.system.files import atomic_write
from ...runtime.system.memory import trim_heap
from ..archs import build_arch
from ..catalog import Row
from ..graph.reference import Reference
from ..weights.load import Provenance, load_weights
from .graphs import Made, make_graphs
from .plan import Plan, Report


@dataclass(frozen=True)
class Built:
    """What a build left: the bundle's path and name, the gate's result and what the report says about its making."""

    path: Path
    parity: Parity
    contract: Contract
    meta: dict[str, Any]


def build(plan: Plan, report: Report = lambda what, done, total: None) -> Built:
    """Do the whole road.

    The bundle is written also when the gate fails, with that verdict in it, but not in the place of one that did not
    fail: beside it then, as NAME.failed.pose.

    Raises:
        PosertError: any step that cannot be done; nothing has been written then.
    """
    plan = replace(plan, held_out=plan.held_out.with_joints_of(plan.row.contract()))
    report("weights", 0, 0)
    row, reference, provenance = load_reference(plan.row, plan.weights, plan.stages, report)
    plan, contract = replace(plan, row=row), reference.contract
    with tempfile.TemporaryDirectory(prefix="posert-") as name:
        folder = Path(name)  # graphs wait there and not in memory
        made = make_graphs(plan, reference, folder, report)
        # The gate runs the very file that is shipped, through the same code as the user's.
        draft = _write(folder / plan.output.name, plan, provenance, made, {"rows": []})
        parity = _gate(plan, reference, draft, report)
        trim_heap()
        report("bundle", 0, 0)
        published = provenance.published(plan.row, plan.stages)
        accuracy = {
            "verdict": parity.verdict,
            "max_drop": parity.max_drop,
            "data": parity.data,
            **published,
            "rows": [row.to_json() for row in parity.rows],
        }
        if plan.plain is not None:
            with atomic_write(plan.plain) as file:
                file.write(made.plain)
        output = plan.output
        if parity.verdict == "failed" and _holds_a_good_one(output):
            output = output.with_suffix(f".failed{output.suffix}")
        path = _write(output, plan, provenance, made, accuracy)
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


def load_reference(row: Row, weights: str, stages: int | None, report: Report) -> tuple[Row, Reference, Provenance]:
    """The network with its weights; the row is what these weights were trained for.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit.
        ExportError: the network gives something else than the catalog says.
    """
    network = build_arch(row.arch, row.keypoints, stages)
    provenance = load_weights(row, network, weights, lambda done, total: report("download", done, total or 0))
    if provenance.layout is not None:
        # Colour order and decode follow the file: MMPose's pose_resnet saw RGB, the HRNet repository's saw BGR.
        row = row.with_layout(provenance.layout)
    reference = Reference(network, row.contract())
    reference.check_output()
    return row, reference, provenance


def name_of(row: Row, stages: int | None = None) -> str:
    """The bundle's name, such as "hrnet_w32-coco-256x192" or "mspn_50_4-coco-256x192-stage2"."""
    return f"{row.arch}-{row.dataset}-{row.height}x{row.width}" + (f"-stage{stages}" if stages else "")


def _gate(plan: Plan, reference: Reference, draft: Path, report: Report) -> Parity:
    """The PyTorch model, then every graph on every backend that is installed and can run it."""
    contract = reference.contract

    def open_reference() -> PoseEstimator:
        return PoseEstimator.from_session(contract, reference, Choice("pytorch", "fp32", "the reference"))

    size = sum(p.numel() * p.element_size() for p in reference.parameters()) / 1e6
    candidates = [Candidate("fp32", "pytorch", open_reference, size)]
    with Bundle(draft) as bundle:
        for backend, spec in installed_backends().items():
            for precision, artifact in spec.runnable().items():
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


def _holds_a_good_one(path: Path) -> bool:
    """Whether there is a bundle whose gate did not fail."""
    try:
        with Bundle(path) as bundle:
            return bool(bundle.accuracy["verdict"] != "failed")
    except PosertError:
        return False


def _write(
    path: Path,
    plan: Plan,
    provenance: Provenance,
    made: Made,
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
