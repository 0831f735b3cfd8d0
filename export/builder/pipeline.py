"""From a plan to a bundle: weights -> graphs -> engines -> accuracy gate -> bundle; `build_bundle` is the whole way."""

from __future__ import annotations

from collections.abc import Callable
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
from ...runtime.system.files import TemporaryFolder, atomic_write
from ...runtime.system.machine import versions
from ...runtime.system.memory import trim_heap
from ...runtime.system.progress import Report
from .engines import leave_engines, make_engines, time_engines
from .graphs import make_graphs
from .model import Loaded
from .plan import Build, Plan
from .tuning import candidate


def build_bundle(
    plan: Plan,
    report: Report = lambda what, done, total: None,
    loaded: Callable[[Loaded], None] = lambda loaded: None,
) -> Build:
    """Make the graphs, judge them, and write the bundle.

    The bundle is written also when the gate fails, with that verdict in it. It then does not replace a bundle that did
    not fail, but is written beside it as NAME.failed.pose. `loaded` is called with the network before the first
    graph is made.

    Raises:
        PosertError: a step failed; nothing has been written then.
    """
    held_out = plan.held_out.with_joints_of(plan.model.contract)
    with TemporaryFolder("build") as folder:
        state = Build(plan, report, Path(folder))
        report("weights", 0, 0)
        state.loaded = plan.model.load(report)
        loaded(state.loaded)
        make_graphs(state, held_out)
        # The gate runs the very file that is shipped, through the same code as the user's.
        draft = _write(state, Path(folder) / plan.output.name, {"rows": []})
        state.engines = make_engines(state, draft)
        _judge(state, held_out, draft)
        trim_heap()
        timed = time_engines(state)
        report("bundle", 0, 0)
        if plan.plain is not None:
            with atomic_write(plan.plain) as file:
                file.write(state.plain)
        parity, output = state.parity, plan.output
        if parity.verdict == "failed" and _holds_a_good_one(output):
            output = output.with_suffix(f".failed{output.suffix}")
        accuracy = {
            "verdict": parity.verdict,
            "max_drop": parity.max_drop,
            "max_drift": parity.max_drift,
            "data": parity.data,
            **state.loaded.published,
            **({} if timed is None else {"timed": timed}),
        }
        state.path = _write(state, output, {**accuracy, "rows": [row.to_json() for row in parity.rows]})
        leave_engines(state)
    return state


def _judge(state: Build, held_out: Frames, draft: Path) -> None:
    """Compare every graph, on every installed backend that can run it, with the reference."""
    contract, reference = state.contract, state.reference
    candidates = [candidate(contract, reference.backend, "fp32", lambda: reference, reference.size)]
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
            max_drift=state.plan.max_drift,
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
    loaded = state.loaded
    known = {"license": state.plan.license} if state.plan.license else {}
    return write_bundle(
        path,
        name=state.plan.model.name,
        model={**loaded.facts, "macs": state.macs, "checkpoint": {**asdict(loaded.provenance), **known}},
        contract=state.contract,
        graphs=state.graphs,
        golden=state.golden,
        calibration=state.calibration,
        accuracy=accuracy,
        versions=versions(),
    )
