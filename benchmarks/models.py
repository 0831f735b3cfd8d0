"""Build every row of the catalog in every precision, with random weights: the table of docs/models.md.

    python -m posert.benchmarks.models --output out/models.jsonl

Each row is built in a process of its own, by the same code as `posert build`, and compared with the PyTorch model on
synthetic people.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from posert.benchmarks.child import ToolError, call
from posert.benchmarks.script import log, markdown, open_journal, parser, run
from posert.export import catalog
from posert.export.builder.model import PublishedModel
from posert.export.builder.pipeline import build_bundle
from posert.export.builder.plan import PRECISIONS, Plan
from posert.export.demo.frames import demo_frames
from posert.runtime.bundle.archive import Bundle
from posert.runtime.system.machine import processor, versions
from posert.runtime.system.memory import peak_mb
from posert.runtime.system.progress import track

SECONDS, GIGABYTES = 120.0, 4.0
"""What an fp32 build may take: export, TorchScript, gate on every backend, writing. Seconds of the processor, all
threads together, which hardly depend on what else runs."""

_IMAGES = 2  # of a dozen people in all: enough to compare heatmaps and to give every activation a range
_HALF = ("fp16", "int8", "calibration")  # steps whose name holds one of these are not of an fp32 build
_HEAD = "model | HxW | K | GMACs | nodes | fp32 MB | int8 MB | fp32 | TorchScript | fp16 | int8"
_HEAD += " | fp32 s | GB | all s | GB | "


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if a row failed or took more than it may."""
    arguments = parser(__doc__, "out/models.jsonl")
    arguments.add_argument("pattern", nargs="?", default="", help="only rows whose id contains this")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    wanted = [id for id in catalog.rows() if args.pattern in id]
    journal = open_journal(args.output, "models")
    built = {record["id"]: record for record in journal.records}
    for id in track([id for id in wanted if id not in built], "models"):
        try:
            built[id] = call(sys.executable, "posert.benchmarks.models:measure", {"id": id}).value
        except ToolError as error:  # the others can still be built; this one is tried again the next time
            log(f"{id} could not be built: {str(error).splitlines()[-1]}")
            continue
        journal.add(built[id])
    records = [built[id] for id in wanted if id in built]
    print(table(records, len(wanted)))
    return 1 if len(records) < len(wanted) or any(map(problems, records)) else 0


def measure(id: str) -> dict[str, Any]:
    """Build a row in this process; returns what it took and gave."""
    row, clock = catalog.row(id), _Clock()
    with tempfile.TemporaryDirectory() as folder:
        held_out = demo_frames(row.keypoints, "val", _IMAGES, "synthetic people")
        calibration = demo_frames(row.keypoints, "calib", _IMAGES, "synthetic people")
        path = Path(folder, "model.pose")
        built = build_bundle(
            Plan(PublishedModel(row, "random"), PRECISIONS, path, held_out, False, calibration), clock.step
        )
        clock.step("end", 0, 0)
        with Bundle(path) as bundle:
            nodes = len(onnx.load_from_string(bundle.read(bundle.artifacts["fp32"])).graph.node)
            sizes = {name: a.bytes / 1e6 for name, a in bundle.artifacts.items()}
            macs = bundle.manifest["model"]["macs"]
    errors: dict[str, float] = defaultdict(float)
    for r in built.parity.rows[1:]:
        name = "torchscript" if r.backend == "torchscript" else r.precision
        errors[name] = max(errors[name], r.heatmap_error)
    return {
        "id": row.id,
        "size": f"{row.height}x{row.width}",
        "keypoints": row.keypoints,
        "macs": macs,
        "macs_published": row.macs_test_path,
        "nodes": nodes,
        "megabytes": sizes,
        "errors": errors,
        "failed": [r.key for r in built.parity.rows if r.verdict == "failed"],
        **clock.result(),
        "machine": processor(),
        "versions": versions(),
    }


class _Clock:
    """Processor seconds and peak memory (Linux) of the steps that `build` reports."""

    def __init__(self) -> None:
        self.name, self.start = "weights", time.process_time()
        self.steps: list[tuple[str, float, float]] = []

    def step(self, name: str, done: int, total: int) -> None:
        """As `posert.export.builder.pipeline.Report`."""
        if name != self.name:
            now = time.process_time()
            self.steps.append((self.name, now - self.start, (peak_mb() or math.nan) / 1e3))
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            self.name, self.start = name, now

    def result(self) -> dict[str, float]:
        """Of the steps of an fp32 build, and of all."""
        fp32 = [step for step in self.steps if not any(word in step[0] for word in _HALF)]
        found: dict[str, float] = {}
        for suffix, steps in (("_fp32", fp32), ("", self.steps)):
            _, seconds, gigabytes = zip(*steps, strict=True)
            found |= {f"seconds{suffix}": sum(seconds), f"gigabytes{suffix}": max(gigabytes)}
        return found


def problems(record: Mapping[str, Any]) -> str:
    """What is wrong with a row; empty if nothing is."""
    found = [f"{key} differs from PyTorch" for key in record["failed"]]
    if record["macs"] != record["macs_published"]:
        found.append(f"{record['macs']} multiply-adds instead of {record['macs_published']}")
    if record["seconds_fp32"] > SECONDS:
        found.append(f"more than {SECONDS:.0f} s of the processor")
    if record["gigabytes_fp32"] > GIGABYTES:
        found.append(f"more than {GIGABYTES:.0f} GB")
    return "; ".join(found)


def table(records: Sequence[Mapping[str, Any]], wanted: int) -> str:
    """The rows as Markdown, with the machine and the versions of the last one."""
    if not records:
        return "No model was built."
    m, numbers = records[-1]["machine"], records[-1]["versions"]
    tools = ", ".join(f"{name} {number}" for name, number in numbers.items())
    facts = f"{len(records)} of {wanted} rows. Machine: {m['cpu']}, {m['cores']} cores. {tools}."
    return f"{facts}\n\n{markdown(_HEAD, map(_cells, records))}"


def _cells(r: Mapping[str, Any]) -> list[str]:
    mb, e = r["megabytes"], r["errors"]
    errors = [*(f"{e[name]:.1e}" for name in ("fp32", "torchscript", "fp16")), f"{e['int8']:.3f}"]
    costs = [f"{r['seconds_fp32']:.0f}", f"{r['gigabytes_fp32']:.1f}", f"{r['seconds']:.0f}", f"{r['gigabytes']:.1f}"]
    sizes = [f"{r['macs'] / 1e9:.2f}", str(r["nodes"]), f"{mb['fp32']:.0f}", f"{mb['int8']:.0f}"]
    return [r["id"], r["size"], str(r["keypoints"]), *sizes, *errors, *costs, problems(r) or "ok"]


if __name__ == "__main__":
    sys.exit(main())
