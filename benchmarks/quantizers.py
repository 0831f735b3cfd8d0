"""int8 graphs of one float32 graph side by side, by posert, ONNX Runtime and NNCF: the tables of docs/quantizers.md.

    python -m posert.benchmarks.quantizers --arch hrnet_demo --output out/quantizers.jsonl

The same float32 graph (uint8 crops in, heatmaps out), the same calibration crops, the same held-out synthetic people
and the same OpenVINO for all. Each tool runs in a process of its own, other projects' in an environment of their own,
which is made at the first use. Joints are decoded with DARK, whatever the model's own rule: the quarter offset moves in
steps of a quarter of a cell, which hides most of the differences.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posert.benchmarks.quantizer_bench import MAX_DROP, QuantizerBench, Tool
from posert.benchmarks.script import markdown, open_journal, parser, run
from posert.export.build.int8 import METHOD
from posert.export.catalog import find
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import InputError
from posert.runtime.system.environment import machine, versions
from posert.runtime.system.progress import track

Rows = Mapping[str, Mapping[str, Any]]

OURS, FLOAT = "ours", "float32"
_SMALL_MACS = 1e9
_IMAGES = {"small": 1000, "large": 60}  # held-out images: 1000 tell differences of 0.002 of AP
_NNCF = ("nncf==3.4.0", "openvino==2026.4.1", "numpy==2.4.6", "opencv-python-headless==4.14.0.94")
_HEAD = "graph | AP lost (95 % interval) | drift median / p95, px | s | peak MB | ms per person | x fastest"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a Markdown table and how ours ranks."""
    arguments = parser(__doc__, "out/quantizers.jsonl")
    arguments.add_argument("--arch", default="hrnet_demo", help="an architecture (hrnet_demo)")
    arguments.add_argument("--weights", default="demo", help="demo, or a checkpoint file of synthetic people (demo)")
    arguments.add_argument("--people", type=int, default=128, help="people to calibrate on (128)")
    arguments.add_argument("--images", type=int, help="held-out images (1000; 60 for large networks)")
    arguments.add_argument("--rounds", type=int, default=30, help="rounds to time (30)")
    arguments.add_argument("--memory", type=float, default=8.0, help="GB above which a tool is ended (8)")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    row = find(args.arch)
    images = args.images or _IMAGES["small" if (row.macs_test_path or 0) < _SMALL_MACS else "large"]
    journal = open_journal(args.output, "quantizers")
    folder = args.output.with_suffix("") / row.id
    bench = QuantizerBench(row, args.weights, args.people, images, folder)
    if not bench.judgeable:
        raise InputError(f"--images {images}: {bench.note}")
    finished = {record["key"]: record for record in journal.records}
    rows: dict[str, dict[str, Any]] = {}
    for name, tool in track(list({FLOAT: None, **tools(bench.contract, folder / "validation")}.items()), "tools"):
        record = finished.get(bench.key(tool))
        if record is None or not Path(record["file"]).exists():
            record = {"tool": name, "key": bench.key(tool), **bench.run(name, tool, args.memory)}
            if "failed" not in record:
                journal.add(record)
        rows[name] = record
    times = bench.time({name: r["file"] for name, r in rows.items() if "failed" not in r}, args.rounds)
    m, tool_versions = machine(), versions()
    print(
        f"{row.id} ({args.weights} weights), {bench.people} held-out synthetic people, {args.people} to calibrate on; "
        f"{m['cpu']}, {m['cores']} cores, load {bench.load:.1f} before timing; OpenVINO {tool_versions['openvino']}, "
        f"ONNX Runtime {tool_versions['onnxruntime']}, {_NNCF[0].replace('==', ' ')}\n"
    )
    print(table({name: {**r, **times.get(name, {})} for name, r in rows.items()}))
    return 0


def tools(contract: Contract, validation: Path) -> dict[str, Tool]:
    """All tools by name; `validation` is the folder that accuracy control measures on."""
    found = {OURS: Tool("posert", {"contract": contract.to_json(), "method": METHOD})}
    for method, name in (("MinMax", "min-max"), ("Entropy", "entropy"), ("Percentile", "percentile")):
        for unsigned, kind in ((False, "int8 symmetric"), (True, "uint8")):
            arguments = {"method": method, "unsigned": unsigned}
            found[f"ONNX Runtime, {name}, {kind}"] = Tool("onnxruntime", arguments)
    for preset in ("performance", "mixed"):
        found[f"NNCF, {preset}"] = Tool("nncf", {"preset": preset.upper()}, _NNCF, "xml")
    arguments = {"validation": str(validation), "contract": contract.to_json(), "max_drop": MAX_DROP}
    found["NNCF, accuracy control"] = Tool("nncf_accuracy", arguments, _NNCF, "xml")
    return found


def table(rows: Rows) -> str:
    """A row for each tool as Markdown, then the ranks of ours."""
    cells = []
    for name, r in rows.items():
        if "failed" in r:
            cells.append([name, r["failed"].splitlines()[0], *[""] * 5])
            continue
        low, high = r["ap_drop_interval"]
        cells.append(
            [
                f"**{name}**" if name == OURS else name,
                f"{r['ap_drop']:+.4f} ({low:+.4f} to {high:+.4f})",
                f"{r['pixel_drift_median']:.3f} / {r['pixel_drift_p95']:.3f}",
                *([f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"] if "seconds" in r else ["", ""]),
                *(f"{r['ms_per_person']:.2f}", f"{r['ratio']['point']:.3f}"),
            ]
        )
    return "\n".join([markdown(_HEAD, cells), "", *ranks(rows)])


def ranks(rows: Rows) -> list[str]:
    """How ours ranks among the int8 graphs, a line for each figure. AP gained is chance and counts as none lost."""
    done = {name: r for name, r in rows.items() if "failed" not in r and name != FLOAT}
    if OURS not in done:
        return ["Ours failed: see its row."]
    figures: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        "AP lost": (".4f", lambda r: round(max(r["ap_drop"], 0.0), 4)),
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
    unclear = [name for name, r in done.items() if r["ap_drop_interval"][0] <= 0 <= r["ap_drop_interval"][1]]
    ours = "with ours" if OURS in unclear else "without ours"
    lines.append(f"- AP: the intervals of {len(unclear)} of {len(done)} graphs, {ours}, include no loss")
    return lines


if __name__ == "__main__":
    sys.exit(main())
