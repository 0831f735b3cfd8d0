"""From a plan to a bundle: weights -> graphs -> accuracy gate -> bundle; `build_bundle` is the whole way."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ...runtime.accuracy.frames import Frames
from ...runtime.accuracy.gate import judge
from ...runtime.backends import installed_backends
from ...runtime.bundle.archive import Bundle, write_bundle
from ...runtime.errors import PosertError
from ...runtime.selection import open_session
from ...runtime.system.files import atomic_write
from ...runtime.system.machine import versions
from ...runtime.system.memory import trim_heap
from ...runtime.system.progress import Report
from ..archs import build_arch
from ..catalog import Row
from ..graph.reference import Reference
from ..weights.load import Provenance, load_weights
from .graphs import make_graphs
from .plan import Build, Plan
from .tuning import candidate


def build_bundle(plan: Plan, report: Report = lambda what, done, total: None) -> Build:
    """Make the graphs, judge them, and write the bundle.

    The bundle is written also when the gate fails, with that verdict in it. It then does not replace a bundle that did
    not fail, but is written beside it as NAME.failed.pose.

    Raises:
        PosertError: a step failed; nothing has been written then.
    """
    held_out = plan.held_out.with_joints_of(plan.row.contract())
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        state = Build(plan, report, Path(folder))
        report("weights", 0, 0)
        state.row, state.reference, state.provenance = load_reference(plan.row, plan.weights, plan.stages, report)
        make_graphs(state, held_out)
        # The gate runs the very file that is shipped, through the same code as the user's.
        draft = _write(state, Path(folder) / plan.output.name, {"rows": []})
        _judge(state, held_out, draft)
        trim_heap()
        report("bundle", 0, 0)
        if plan.plain is not None:
            with atomic_write(plan.plain) as file:
                file.write(state.plain)
        parity, output = state.parity, plan.output
        if parity.verdict == "failed" and _holds_a_good_one(output):
            output = output.with_suffix(f".failed{output.suffix}")
        accuracy = {"verdict": parity.verdict, "max_drop": parity.max_drop, "data": parity.data, **state.published}
        state.path = _write(state, output, {**accuracy, "rows": [row.to_json() for row in parity.rows]})
    return state


def load_reference(row: Row, weights: str, stages: int | None, report: Report) -> tuple[Row, Reference, Provenance]:
    """The network with its weights; the row is what these weights were trained for.

    Raises:
        CheckpointError: the weights cannot be had, or do not fit.
        ExportError: the output of the network differs from what the catalog says.
    """
    network = build_arch(row.arch, row.channels, stages)
    provenance = load_weights(row, network, weights, lambda done, total: report("download", done, total or 0))
    if provenance.layout is not None:
        # Colour order and decode rule follow the file: MMPose's pose_resnet saw RGB, the HRNet repository's saw BGR.
        row = row.with_layout(provenance.layout)
    reference = Reference(network, row.contract())
    reference.check_output()
    return row, reference, provenance


def name_of(row: Row, stages: int | None = None) -> str:
    """The bundle's name, such as "hrnet_w32-coco-256x192" or "mspn_50_4-coco-256x192-stage2"."""
    return f"{row.arch}-{row.dataset}-{row.height}x{row.width}" + (f"-stage{stages}" if stages else "")


def _judge(state: Build, held_out: Frames, draft: Path) -> None:
    """Compare every graph, on every installed backend that can run it, with the PyTorch model."""
    contract, reference = state.contract, state.reference
    size = sum(p.numel() * p.element_size() for p in reference.parameters())
    candidates = [candidate(contract, "pytorch", "fp32", lambda: reference, size)]
    with Bundle(draft) as bundle:
        for backend, spec in installed_backends().items():
            for precision, artifact in spec.runnable().items():
                if record := bundle.artifacts.get(artifact):
                    opened = partial(open_session, bundle, backend, precision)
                    candidates.append(candidate(contract, backend, precision, opened, record.bytes, artifact))
        state.parity = judge(
            candidates,
            held_out,
            max_drop=state.plan.max_drop,
            labelled=state.plan.labelled,
            advance=lambda name, done, total: state.report(f"gate: {name}", done, total),
        )


def _holds_a_good_one(path: Path) -> bool:
    """Whether there is a bundle whose gate did not fail."""
    try:
        with Bundle(path) as bundle:
            return bool(bundle.accuracy["verdict"] != "failed")
    except PosertError:
        return False


def _write(state: Build, path: Path, accuracy: dict[str, Any]) -> Path:
    row, stages = state.row, state.plan.stages
    return write_bundle(
        path,
        name=name_of(row, stages),
        model={
            "id": row.id,
            "arch": row.arch,
            "dataset": row.dataset,
            "source": row.source,
            "stages": stages,
            "macs": state.macs,
            "checkpoint": asdict(state.provenance),
        },
        contract=state.contract,
        graphs=state.graphs,
        golden=state.golden,
        calibration=state.calibration,
        accuracy=accuracy,
        versions=versions(),
    )
