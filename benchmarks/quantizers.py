"""int8 graphs of one float32 graph side by side, by posert, ONNX Runtime and NNCF: the tables of docs/quantizers.md.

    python -m posert.benchmarks.quantizers
    python -m posert.benchmarks.quantizers -- --arch hrnet_demo --imgsz 256x256 --dataset-file mouse.yaml \\
        --weights mouse.pth --annotations test.json --images images --calib calib.json --calib-images images

Behind -- come the options of `posert build` that describe a model, its labelled images and its calibration images;
without them it is the demo's HRNet, judged on synthetic people. The same float32 graph (uint8 crops in, heatmaps out),
the same calibration crops, the same held-out people and the same OpenVINO for all; ours for GPUs runs in ONNX Runtime.
Each tool runs in a process of its own, other projects' in an environment of their own, which is made at the first use.
Where the model's own rule moves joints in steps of a quarter of a cell, which would hide most of the differences, they
are decoded with DARK.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posert import calib
from posert.benchmarks.child import call, environment
from posert.benchmarks.quantizer_inputs import Inputs, read_inputs
from posert.benchmarks.script import log, markdown, open_journal, parser, run
from posert.export.builder.int8 import METHOD
from posert.runtime.accuracy.gate import AccuracyGate, Candidate
from posert.runtime.backends import Session, load_backend
from posert.runtime.bench.statistics import per_round, ratio
from posert.runtime.bench.timing import interleave
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError, PosertError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.selection import Selection
from posert.runtime.system.files import atomic_write
from posert.runtime.system.machine import processor, versions
from posert.runtime.system.progress import track

Rows = Mapping[str, Mapping[str, Any]]

OURS, OURS_GPU, FLOAT = "ours", "ours, for GPUs", "float32"
_ENTROPY_BINS = 2048  # with the default, as many bins as levels, entropy can only choose what min-max chooses
_NNCF = ("nncf==3.4.0", "openvino==2026.4.1", "numpy==2.4.6", "opencv-python-headless==4.14.0.94")
_HEAD = "graph | {} lost (95 % interval) | drift median / p95, px | s | peak MB | ms per person | x fastest"
MAX_DROP = 0.002  # of AP: what NNCF's accuracy control is asked to hold
_TIMED_PEOPLE = 8
_FIGURES = (
    *("accuracy", "accuracy_drop", "accuracy_drop_interval"),
    *("pixel_drift_median", "pixel_drift_p95", "heatmap_error"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a Markdown table and how ours ranks."""
    arguments = parser(__doc__, "out/quantizers.jsonl")
    arguments.add_argument("build", nargs="*", metavar="OPTION", help="of posert build, behind -- (the demo's HRNet)")
    arguments.add_argument("--people", type=int, default=128, help="people to calibrate on (128)")
    arguments.add_argument("--images", type=int, default=1000, help="held-out synthetic images (1000)")
    arguments.add_argument("--rounds", type=int, default=30, help="rounds to time (30)")
    arguments.add_argument("--memory", type=float, default=8.0, help="GB above which a tool is ended (8)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    inputs = read_inputs(args.build, args.people, args.images)
    journal = open_journal(args.output, "quantizers")
    folder = args.output.with_suffix("") / inputs.name
    bench = QuantizerBench(inputs, folder)
    if not bench.data["labelled"]:
        raise InputError(bench.data["note"])
    finished = {record["key"]: record for record in journal.records}
    rows: dict[str, dict[str, Any]] = {}
    for name, tool in track(list({FLOAT: None, **tools(inputs.contract, bench.validation)}.items()), "tools"):
        record = finished.get(bench.key(tool))
        if record is None or not Path(record["file"]).exists():
            record = {"tool": name, "key": bench.key(tool), **bench.run(name, tool, args.memory)}
            if "failed" not in record:
                journal.add(record)
        rows[name] = record
    load = os.getloadavg()[0]
    timed = {name: r["file"] for name, r in rows.items() if "failed" not in r and name != OURS_GPU}
    times = bench.time(timed, args.rounds)
    m, v = processor(), versions()
    print(
        f"{inputs.title}; {bench.data['people']} held-out people ({bench.data['note']}), {len(inputs.crops)} to "
        f"calibrate on; {m['cpu']}, {m['cores']} cores, load {load:.1f} before timing; OpenVINO {v['openvino']}, "
        f"ONNX Runtime {v['onnxruntime']}, {_NNCF[0].replace('==', ' ')}\n"
    )
    print(table({name: {**r, **times.get(name, {})} for name, r in rows.items()}, str(bench.data["metric"])))
    return 0


def tools(contract: Contract, validation: Path | None) -> dict[str, Tool]:
    """All tools by name; `validation` is the folder that accuracy control measures on, None: leave it out."""
    ours = {"contract": contract.to_json(), "method": METHOD}
    found = {OURS: Tool("posert", ours), OURS_GPU: Tool("posert", {**ours, "gpu": True}, runs="onnxruntime int8_gpu")}
    for method, name, bins in (
        ("MinMax", "min-max", None),
        ("Entropy", f"entropy of {_ENTROPY_BINS} bins", _ENTROPY_BINS),
        ("Percentile", "percentile", None),
    ):
        for unsigned, kind in ((False, "int8 symmetric"), (True, "uint8")):
            arguments = {"method": method, "unsigned": unsigned, "bins": bins}
            found[f"ONNX Runtime, {name}, {kind}"] = Tool("onnxruntime", arguments)
    for preset in ("performance", "mixed"):
        found[f"NNCF, {preset}"] = Tool("nncf", {"preset": preset.upper()}, _NNCF, "xml")
    if validation is not None:
        controlled = {"preset": "PERFORMANCE", "accuracy": (str(validation), contract.to_json(), MAX_DROP)}
        found["NNCF, accuracy control"] = Tool("nncf", controlled, _NNCF, "xml")
    return found


def table(rows: Rows, metric: str) -> str:
    """A row for each tool as Markdown, then the ranks of ours."""
    cells = []
    for name, r in rows.items():
        if "failed" in r:
            cells.append([name, r["failed"].splitlines()[0], *[""] * 5])
            continue
        low, high = r["accuracy_drop_interval"]
        cells.append(
            [
                f"**{name}**" if name in (OURS, OURS_GPU) else name,
                f"{r['accuracy_drop']:+.4f} ({low:+.4f} to {high:+.4f})",
                f"{r['pixel_drift_median']:.3f} / {r['pixel_drift_p95']:.3f}",
                *([f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"] if "seconds" in r else ["", ""]),
                *([f"{r['ms_per_person']:.2f}", f"{r['ratio']['point']:.3f}"] if "ratio" in r else ["", ""]),
            ]
        )
    return "\n".join([markdown(_HEAD.format(metric), cells), "", *ranks(rows, metric)])


def ranks(rows: Rows, metric: str) -> list[str]:
    """How ours ranks among the int8 graphs for CPUs, a line for each figure. A gain is chance and counts as no loss."""
    done = {name: r for name, r in rows.items() if "failed" not in r and name not in (FLOAT, OURS_GPU)}
    if OURS not in done:
        return ["Ours failed: see its row."]
    figures: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        f"{metric} lost": (".4f", lambda r: round(max(r["accuracy_drop"], 0.0), 4)),
        "p95 drift, px": (".3f", lambda r: r["pixel_drift_p95"]),
        "peak memory, MB": (".0f", lambda r: r["peak_mb"]),
        "time per person, x fastest": (".3f", lambda r: r["ratio"]["point"]),
    }
    lines = []
    for what, (form, figure) in figures.items():
        value = figure(done[OURS])
        others = {name: figure(r) for name, r in done.items() if name != OURS}
        best = min(others, key=lambda name: others[name], default=OURS)
        rank = 1 + sum(other < value for other in others.values())
        lines.append(
            f"- {what}: ours {value:{form}}, rank {rank} of {len(done)}; best of the others: {best}, "
            f"{others.get(best, value):{form}}"
        )
    unclear = [
        name for name, r in done.items() if r["accuracy_drop_interval"][0] <= 0 <= r["accuracy_drop_interval"][1]
    ]
    ours = "with ours" if OURS in unclear else "without ours"
    lines.append(f"- {metric}: the intervals of {len(unclear)} of {len(done)} graphs, {ours}, include no loss")
    return lines


@dataclass(frozen=True)
class Tool:
    """A row of the table."""

    function: str  # of `quantizer_tools.py`
    arguments: Mapping[str, Any]  # of it, beside the graph, the crops and the target
    requirements: tuple[str, ...] = ()  # of its environment; none means that it runs in ours
    extension: str = "onnx"  # of the format that it writes
    runs: str = "openvino int8"  # backend and precision


class QuantizerBench:
    """The graph and crops that all tools are given, in files of a folder, and the measurements of their results.

    Args:
        inputs: what they are given.
        folder: for files.

    Attributes:
        data: whom graphs are judged on, see `AccuracyGate`.
        validation: folder of the people that a tool may measure AP on by itself, if there are any.
    """

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self._folder, self._contract = folder, inputs.contract
        folder.mkdir(parents=True, exist_ok=True)
        self._graph, self._crops = str(folder / "float32.onnx"), str(folder / "crops.npy")
        with atomic_write(self._graph) as file:
            file.write(inputs.graph().SerializeToString())
        with atomic_write(self._crops) as file:
            np.save(file, np.concatenate(list(inputs.crops)))
        self.validation = None if inputs.validation is None else folder / "validation"
        if inputs.validation is not None:
            with atomic_write(folder / "validation" / "annotations.json") as file:
                file.write(json.dumps(inputs.validation.coco).encode())
            for record in inputs.validation.coco["images"]:
                with atomic_write(folder / "validation" / "images" / record["file_name"]) as file:
                    file.write(inputs.validation.read(record["file_name"]))
        digest = hashlib.sha256(json.dumps(inputs.held_out.coco["annotations"]).encode())
        for path in (self._graph, self._crops):
            digest.update(Path(path).read_bytes())
        self._digest = digest.hexdigest()
        reference = inputs.reference
        candidate = Candidate("fp32", reference.backend, partial(self._estimator, reference, "fp32"), 0)
        self._gate = AccuracyGate(candidate, inputs.held_out, max_drop=MAX_DROP, labelled=True)
        self.data = self._gate.data

    def key(self, tool: Tool | None) -> str:
        """Changes when a finished row is no longer valid."""
        seen: list[Any] = [self._digest, tool and asdict(tool)]
        if tool is not None and not tool.requirements:
            seen.append(versions())
        if tool is not None and tool.function == "posert":
            seen += [p.read_text() for p in sorted(Path(str(calib.__file__)).parent.glob("*.py"))]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()

    def run(self, name: str, tool: Tool | None, memory_gb: float) -> dict[str, Any]:
        """Quantise and judge: "file", "seconds", "peak_mb", AP and drift against the PyTorch model; or "failed".

        Without a tool it is the float32 graph that is judged.
        """
        row: dict[str, Any] = {"file": self._graph}
        if tool is not None:
            target = self._folder / f"{name.replace(', ', '-').replace(' ', '-')}.{tool.extension}"
            arguments = {"model": self._graph, "crops": self._crops, "target": str(target), **tool.arguments}
            try:
                python = environment("nncf", tool.requirements) if tool.requirements else sys.executable
                function = f"posert.benchmarks.quantizer_tools:{tool.function}"
                answer = call(python, function, arguments, memory_gb=memory_gb)
            except PosertError as error:
                log(f"{name}: {error}")
                return {"failed": str(error)}
            log(f"{name}: {answer.value:.1f} s, {answer.peak_mb:.0f} MB")
            row = {"file": str(target), "seconds": answer.value, "peak_mb": answer.peak_mb}
        backend, precision = (tool.runs if tool else "openvino int8").split()

        def opened() -> PoseEstimator:
            return self._estimator(_session(row["file"], backend, precision), precision)

        judged = self._gate.evaluate(Candidate(precision, name, opened, 0))[0]
        if judged.reason:
            return {"failed": f"{backend}: {judged.reason}"}
        return row | {field: getattr(judged, field) for field in _FIGURES}

    def time(self, files: Mapping[str, str], rounds: int) -> dict[str, dict[str, Any]]:
        """By graph: milliseconds per person, and their ratio to the fastest one's."""
        crops = np.ascontiguousarray(np.load(self._crops)[:_TIMED_PEOPLE])
        calls = interleave({name: partial(_session(file).infer, crops) for name, file in files.items()}, rounds)
        times = {name: per_round(one) for name, one in calls.items()}
        # Compared within the rounds, as `ratio` does it: medians over all rounds mix slow and fast moments. The second
        # comparison is of the ratios that will be shown.
        typical = np.exp(np.mean([np.log(seconds) for seconds in times.values()], axis=0))
        fastest = min(times, key=lambda name: float(np.median(times[name] / typical)))
        base = times[fastest]
        fastest = min(times, key=lambda name: float(np.median(times[name] / base)))
        ms = {name: 1e3 * float(np.median(seconds)) / len(crops) for name, seconds in times.items()}
        return {name: {"ms_per_person": ms[name], "ratio": asdict(ratio(times[fastest], times[name]))} for name in ms}

    def _estimator(self, session: Session, precision: str) -> PoseEstimator:
        return PoseEstimator.from_session(self._contract, session, Selection("openvino", precision, "under test"))


def _session(file: str, backend: str = "openvino", precision: str = "int8") -> Session:
    """posert's own session; given a path, OpenVINO reads its own format as well as ONNX."""
    return load_backend(backend).open(file, precision)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
