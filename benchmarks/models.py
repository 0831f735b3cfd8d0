"""Build every row of the catalog in every precision, with random weights, and write the table.

python -m posert.benchmarks.models --output docs/models.md

Each row is built in a process of its own, by the same code as `posert build`, and judged against the PyTorch model on
synthetic people. Finished rows are kept as JSON lines: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from posert.benchmarks.harness.script import finished, keep, script
from posert.export import catalog
from posert.export.build.pipeline import build_bundle
from posert.export.build.plan import PRECISIONS, Plan
from posert.export.demo.frames import demo_frames
from posert.runtime.bench.memory import peak_mb
from posert.runtime.bundle.archive import Bundle
from posert.runtime.errors import PosertError
from posert.runtime.system.environment import machine, versions
from posert.runtime.system.files import atomic_write
from posert.runtime.system.progress import track

SECONDS, GIGABYTES = 120.0, 4.0
"""What an fp32 build may take: export, TorchScript, gate on every backend, writing. The seconds are those of the
processor, all threads together: on a quiet machine it does not take longer, and what else runs hardly changes them."""

_IMAGES = 2  # of a dozen people in all: enough to compare heatmaps and to give every activation a range
_HALF = ("fp16", "int8", "calibration")  # steps whose name holds one of these are not of an fp32 build


@script(goes_on=True)
def main() -> int:
    """Entry point; returns 1 if a row failed or took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pattern", nargs="?", default="", help="only rows whose id contains this")
    parser.add_argument("--output", type=Path, help="the table as Markdown (default: standard output)")
    parser.add_argument("--state", type=Path, default=Path("out/models.jsonl"), help="finished rows (out/models.jsonl)")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # what the process of one row is told
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(catalog.row(args.row))))
        return 0
    wanted = [id for id in catalog.rows() if args.pattern in id]
    built = {record["id"]: record for record in finished(args.state)}
    troubles = {id: trouble(record) for id, record in built.items() if id in wanted}
    for id in track([id for id in wanted if id not in built], "models"):
        try:
            built[id] = _in_a_process(id)
        except PosertError as error:  # the others can still be built; this one is tried again the next time
            troubles[id] = str(error)
            print(error, file=sys.stderr, flush=True)
            continue
        keep(args.state, built[id])
        troubles[id] = trouble(built[id])
        print(_summary(built[id]), file=sys.stderr, flush=True)
        if args.output is not None:
            _write(args.output, table(wanted, built))
    if args.output is not None:
        _write(args.output, table(wanted, built))
    else:
        print(table(wanted, built))
    return 1 if any(troubles.values()) else 0


def measure(row: catalog.Row) -> dict[str, Any]:
    """Build a row in this process and say what it took and gave."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        held_out = demo_frames(row.keypoints, "val", _IMAGES, "synthetic people")
        calibration = demo_frames(row.keypoints, "calib", _IMAGES, "synthetic people")
        path = Path(folder, "model.pose")
        built = build_bundle(Plan(row, "random", PRECISIONS, path, held_out, False, calibration), clock.step)
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
        "machine": machine(),
        "versions": versions(),
    }


class _Clock:
    """Processor seconds and peak memory of the steps that `build` reports."""

    def __init__(self) -> None:
        self.name, self.start = "weights", time.process_time()
        self.steps: list[tuple[str, float, float]] = []

    def step(self, name: str, done: int, total: int) -> None:
        """As `posert.export.build.pipeline.Report`."""
        if name != self.name:
            now = time.process_time()
            self.steps.append((self.name, now - self.start, _peak()))
            self.name, self.start = name, now

    def result(self) -> dict[str, Any]:
        """Of the steps of an fp32 build, and of all."""
        fp32 = [s for s in self.steps if not any(word in s[0] for word in _HALF)]
        return {
            "seconds_fp32": sum(s[1] for s in fp32),
            "seconds": sum(s[1] for s in self.steps),
            "gigabytes_fp32": max(s[2] for s in fp32),
            "gigabytes": max(s[2] for s in self.steps),
            "steps": self.steps,
        }


def _peak() -> float:
    """Peak resident memory since the last call, GB (Linux)."""
    peak = peak_mb() or math.nan
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    return peak / 1e3


def _in_a_process(id: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "posert.benchmarks.models", "--row", id]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PosertError(f"{id} could not be built: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def trouble(record: Mapping[str, Any]) -> str:
    """What is wrong with a row, empty where nothing is."""
    found = [f"{key} differs from PyTorch" for key in record["failed"]]
    if record["macs"] != record["macs_published"]:
        found.append(f"{record['macs']} multiply-adds instead of {record['macs_published']}")
    if record["seconds_fp32"] > SECONDS:
        found.append(f"more than {SECONDS:.0f} s of the processor")
    if record["gigabytes_fp32"] > GIGABYTES:
        found.append(f"more than {GIGABYTES:.0f} GB")
    return "; ".join(found)


def _summary(record: dict[str, Any]) -> str:
    return (
        f"{record['id']}: fp32 {record['seconds_fp32']:.0f} s, {record['gigabytes_fp32']:.1f} GB, all "
        f"{record['seconds']:.0f} s, {record['gigabytes']:.1f} GB {trouble(record)}"
    )


def table(wanted: Sequence[str], built: Mapping[str, dict[str, Any]]) -> str:
    """The whole page; rows that are not finished are named."""
    records = [built[id] for id in wanted if id in built]
    if not records:
        return "No model was built.\n"
    missing = [id for id in wanted if id not in built]
    last = records[-1]
    page = _PAGE.format(
        rows=len(records),
        wanted=len(wanted),
        missing=f" Not built: {', '.join(missing)}." if missing else "",
        machine=f"{last['machine']['cpu']}, {last['machine']['cores']} cores",
        versions=", ".join(f"{name} {number}" for name, number in last["versions"].items()),
    )
    return page + "".join(_line(r) for r in records)


_PAGE = """# Every model, built

Made by `python -m posert.benchmarks.models --output docs/models.md`: each row of the catalog with random weights, in
a process of its own, to fp32, fp16, int8 and TorchScript. {rows} of {wanted} rows.{missing}
Machine: {machine}. {versions}.

- **GMACs**: counted on the exported graph. **nodes**: of the fp32 graph, the four that normalise the crop included.
- **errors**: relative L2 distance of the heatmaps from the PyTorch model's, the worst of all backends. Random weights
  lose more in int8 than trained ones: the figure says that the graph is right, not how good a trained one is.
- **fp32 s, GB**: a whole fp32 build: export, TorchScript, gate on every backend, bundle. Seconds of the processor, all
  threads together; peak of the resident memory.
  **all s, GB**: with fp16 and int8, calibrated on few people.

| model | HxW | K | GMACs | nodes | fp32 MB | int8 MB | fp32 | TorchScript | fp16 | int8 | fp32 s | GB | all s | GB | |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|
"""


def _line(r: Mapping[str, Any]) -> str:
    mb, e = r["megabytes"], r["errors"]
    return (
        f"| {r['id']} | {r['size']} | {r['keypoints']} | {r['macs'] / 1e9:.2f} | {r['nodes']} | {mb['fp32']:.0f} | "
        f"{mb['int8']:.0f} | {e['fp32']:.1e} | {e['torchscript']:.1e} | {e['fp16']:.1e} | {e['int8']:.3f} | "
        f"{r['seconds_fp32']:.0f} | {r['gigabytes_fp32']:.1f} | {r['seconds']:.0f} | {r['gigabytes']:.1f} | "
        f"{trouble(r) or 'ok'} |\n"
    )


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    sys.exit(main())
