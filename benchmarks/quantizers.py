"""int8 graphs of one float32 graph side by side, by posert, ONNX Runtime and NNCF: the tables of docs/quantizers.md.

    python -m posert.benchmarks.quantizers
    python -m posert.benchmarks.quantizers --ablation
    python -m posert.benchmarks.quantizers -- --arch hrnet_demo --imgsz 256x256 --dataset-file mouse.yaml \\
        --weights mouse.pth --annotations test.json --images images --calib calib.json --calib-images images

Behind -- come the options of `posert build` that describe a model, its labelled images and its calibration images;
without them it is the demo's HRNet, judged on synthetic people. The same float32 graph (uint8 crops in, heatmaps out),
the same calibration crops, the same held-out people and the same OpenVINO for all; ours for GPUs runs in ONNX Runtime.
Each tool runs in a process of its own, other projects' in an environment of their own, which is made at the first use.
Drift is given by the model's own rule, which may move in steps of a quarter of a cell, and by DARK, which shows what
the graph does. With --ablation the rows are posert's own graphs with parts of the method left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from posert import calib
from posert.benchmarks.child import call, environment
from posert.benchmarks.quantizer_inputs import Inputs, read_inputs
from posert.benchmarks.quantizer_table import FLOAT, OURS, OURS_GPU, YARDSTICK, p95_ratio, table
from posert.benchmarks.script import log, open_journal, parser, run
from posert.runtime.accuracy.drift import dark
from posert.runtime.accuracy.gate import AccuracyGate, Candidate
from posert.runtime.accuracy.people import labelled_people
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

_ENTROPY_BINS = 2048  # with the default, as many bins as levels, entropy can only choose what min-max chooses
_NNCF = ("nncf==3.4.0", "openvino==2026.4.1", "numpy==2.4.6", "opencv-python-headless==4.14.0.94")
MAX_DROP = 0.002  # of AP: what NNCF's accuracy control is asked to hold
_TIMED_PEOPLE = 8
ABLATION: dict[str, dict[str, float]] = {
    "": {},
    ", normalised images quantised": {"pixels": 0},
    ", nearest level": {"rounding": 0},
    ", channels as they are": {"POWER": 0.0},
    ", channels fully equalised": {"POWER": 1.0},
    ", least squared error": {"CLIPPED_WEIGHT": 1.0},
    ", min-max": {"CLIPPED_WEIGHT": 1e9},
    ", nearest level, channels as they are": {"rounding": 0, "POWER": 0.0},
    ", all of these": {"pixels": 0, "rounding": 0, "POWER": 0.0, "CLIPPED_WEIGHT": 1.0},
}
"""What is changed of posert's method, by the end of a row's name; the last is the method up to 0.2."""
_FIGURES = (
    *("accuracy", "accuracy_drop", "accuracy_drop_interval"),
    *("pixel_drift_median", "pixel_drift_p95", "pixel_drift_p95_bounds", "heatmap_error"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a Markdown table and how ours ranks."""
    arguments = parser(__doc__, "out/quantizers.jsonl")
    arguments.add_argument("build", nargs="*", metavar="OPTION", help="of posert build, behind -- (the demo's HRNet)")
    arguments.add_argument("--ablation", action="store_true", help="leave out parts of posert's method, one by one")
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
    chosen = ablation(inputs.contract) if args.ablation else tools(inputs.contract, bench.validation)
    for name, tool in track(list({FLOAT: None, **chosen}.items()), "tools"):
        record = finished.get(bench.key(tool))
        if record is None or not all(Path(record[part]).exists() for part in ("file", "moved")):
            record = {"tool": name, "key": bench.key(tool), **bench.run(name, tool, args.memory)}
            if "failed" not in record:
                journal.add(record)
        rows[name] = record
    load = os.getloadavg()[0]
    timed = {name: r["file"] for name, r in rows.items() if "failed" not in r and OURS_GPU not in name}
    times = bench.time(timed, args.rounds)
    bench.compare(rows)
    m, v = processor(), versions()
    print(
        f"{inputs.title}; {bench.data['people']} held-out {bench.data['subjects']} ({bench.data['note']}), "
        f"{len(inputs.crops)} to calibrate on; {m['cpu']}, {m['cores']} cores, load {load:.1f} before timing; "
        f"OpenVINO {v['openvino']}, ONNX Runtime {v['onnxruntime']}, {_NNCF[0].replace('==', ' ')}\n"
    )
    print(table({name: {**r, **times.get(name, {})} for name, r in rows.items()}, str(bench.data["metric"])))
    return 0


def tools(contract: Contract, validation: Path | None) -> dict[str, Tool]:
    """All tools by name; `validation` is the folder that accuracy control measures on, None: leave it out."""
    ours = {"contract": contract.to_json()}
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


def ablation(contract: Contract) -> dict[str, Tool]:
    """Our graphs, for CPUs and for GPUs, with parts of the method left out; and the yardstick."""
    found = {YARDSTICK: tools(contract, None)[YARDSTICK]}
    for name, changed in ABLATION.items():
        for kind, runs in ((OURS, "openvino int8"), (OURS_GPU, "onnxruntime int8_gpu")):
            if kind == OURS_GPU and changed.keys() == {"pixels"}:
                continue  # pixels as they are: in the graph for CPUs alone
            arguments = {"contract": contract.to_json(), "gpu": kind == OURS_GPU, "changed": changed}
            found[f"{kind}{name}"] = Tool("posert", arguments, runs=runs)
    return found


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
        exact = dark(inputs.contract) or inputs.contract
        precise = reference.with_contract(exact)
        candidate = Candidate("fp32", reference.backend, partial(self._estimator, precise, "fp32", exact), 0)
        self._dark = AccuracyGate(candidate, inputs.held_out, max_drop=MAX_DROP, labelled=False)
        self._exact = exact
        self._image = labelled_people(inputs.held_out.coco).image

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

        def opened(contract: Contract) -> PoseEstimator:
            return self._estimator(_session(row["file"], backend, precision), precision, contract)

        judged = self._gate.evaluate(Candidate(precision, name, partial(opened, self._contract), 0))[0]
        if judged.reason:
            return {"failed": f"{backend}: {judged.reason}"}
        row |= {field: getattr(judged, field) for field in _FIGURES}
        precise, moved, _ = self._dark.evaluate(Candidate(precision, name, partial(opened, self._exact), 0))
        assert moved is not None  # it ran a moment ago
        row |= {"dark_drift_median": precise.pixel_drift_median, "dark_drift_p95": precise.pixel_drift_p95}
        row["moved"] = str(Path(row["file"]).with_suffix(".moved.npy"))
        with atomic_write(row["moved"]) as file:
            np.save(file, moved)
        return row

    def compare(self, rows: Mapping[str, dict[str, Any]]) -> None:
        """Add how far joints move under DARK, as ratios: to the yardstick, and of other graphs to ours."""
        moved = {name: np.load(r["moved"]) for name, r in rows.items() if "failed" not in r and name != FLOAT}
        for name, distances in moved.items():
            if YARDSTICK in moved and name != YARDSTICK:
                rows[name]["to_yardstick"] = p95_ratio(self._image, distances, moved[YARDSTICK])
            rows[name]["to_ours"] = {
                ours: p95_ratio(self._image, distances, moved[ours])
                for ours in (OURS, OURS_GPU)
                if ours in moved and name != ours
            }

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

    def _estimator(self, session: Session, precision: str, contract: Contract | None = None) -> PoseEstimator:
        selection = Selection("openvino", precision, "under test")
        return PoseEstimator.from_session(contract or self._contract, session, selection)


def _session(file: str, backend: str = "openvino", precision: str = "int8") -> Session:
    """posert's own session; given a path, OpenVINO reads its own format as well as ONNX."""
    return load_backend(backend).open(file, precision)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
