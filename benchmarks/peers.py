"""Frame to keypoints, posert beside other tools: the same weights, frame and boxes, in turn in one run.

    python -m posert.benchmarks.peers out/w32.pose --people 1,8 --output out/peers.jsonl

Each tool runs in a process of its own, those of other projects in environments of their own, which are made under
out/environments. A tool that cannot run is a row that says why.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from posert.benchmarks.peer_tools.inputs import SDK_BATCHES
from posert.benchmarks.peer_tools.run import PeerTool, run_tools
from posert.benchmarks.script import digest, log, numbers, open_journal, parser, run
from posert.runtime.bench.statistics import per_round, ratio
from posert.runtime.errors import InputError
from posert.runtime.system.journal import Journal
from posert.runtime.system.machine import processor, versions

Records = Sequence[Mapping[str, Any]]
_OURS = ("posert fp32", "posert bf16", "posert int8")
_WIDTHS = (15, 9, 21, 21, 21)
# What mmpose and mmdet import; xtcocotools was compiled for numpy 1.
_MMPOSE = """mmengine==0.10.7 numpy==1.26.4 opencv-python==4.11.0.86 opencv-python-headless==4.11.0.86
    xtcocotools==1.14.3 json_tricks==3.17.3 munkres==3.0.0 scipy==1.17.1 pillow==13.0.0 six==1.17.0 setuptools==80.10.2
    pycocotools==2.0.11 shapely==2.2.0 terminaltables==3.1.10 tqdm==4.70.1"""
# mmpose requires chumpy, which no longer builds and is not imported; mmcv-lite is mmcv without compiled code.
_MMPOSE_BARE = ("mmcv-lite==2.1.0", "mmdet==3.3.0", "mmpose==1.3.2")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; prints a table."""
    arguments = parser(__doc__, "out/peers.jsonl")
    arguments.add_argument("bundle", type=Path)
    arguments.add_argument("--people", type=numbers, default=[1, 8], help="people per frame, comma list (1,8)")
    arguments.add_argument("--rounds", type=int, default=12, help="rounds to time (12); ratios need 6")
    arguments.add_argument("--only", metavar="TEXT,...", help="only rows whose name contains one of these")
    arguments.add_argument("--weights", help="file of the weights, if the bundle was built from one")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    tools = peer_tools()
    if args.only:
        tools = [t for t in tools if any(text in t.name for text in args.only.split(","))]
        if not tools:
            raise InputError(f"--only {args.only} matches none of {', '.join(t.name for t in peer_tools())}")
    if args.rounds < 1:
        raise InputError(f"--rounds {args.rounds}: expected 1 or more")
    journal = journal_of(args.bundle, args.output, tools)
    run_tools(args.bundle, journal, tools, args.people, args.rounds, args.weights, log)
    print(table(args.bundle.name, journal.records, args.people))
    return 0


def peer_tools() -> list[PeerTool]:
    """Ours first. Where a tool uses a library that we use, it has the same version of it."""
    package = "posert.benchmarks.peer_tools"
    ort, torch = (f"{name}=={version(name).split('+')[0]}" for name in ("onnxruntime", "torch"))  # without the build
    # OpenCV 5 cuts other crops than the models were trained on.
    rtmlib = ("rtmlib==0.0.16", ort, "opencv-python==4.14.0.94", "opencv-contrib-python==4.14.0.94")
    sdk = ("mmdeploy-runtime==1.3.1", "numpy==1.26.4")

    def ours(name: str, precision: str, mode: str) -> PeerTool:
        return PeerTool(f"posert {name}", f"{package}.projects:posert", {"precision": precision, "mode": mode})

    def plain(name: str, library: str, **options: str) -> PeerTool:
        return PeerTool(f"plain {name}", f"{package}.plain:{library}", options)

    return [
        *(ours(precision, precision, "latency") for precision in ("int8", "bf16", "fp16", "fp32")),
        *(ours(f"{precision}, video", precision, "throughput") for precision in ("int8", "bf16")),
        *(plain(f"OpenVINO {precision}", "openvino", precision=precision) for precision in ("bf16", "fp32")),
        plain("ONNX Runtime", "onnxruntime"),
        plain("PyTorch", "pytorch"),
        PeerTool("rtmlib", f"{package}.projects:rtmlib", requirements=rtmlib),
        *(
            PeerTool(name, f"{package}.projects:mmdeploy", {"batch": batch}, sdk)
            for name, batch in zip(("mmdeploy-runtime", "mmdeploy-runtime, batch"), SDK_BATCHES, strict=True)
        ),
        PeerTool("MMPose", f"{package}.projects:mmpose", requirements=(torch, *_MMPOSE.split()), bare=_MMPOSE_BARE),
    ]


def journal_of(bundle: Path, output: Path, tools: Sequence[PeerTool]) -> Journal:
    """The journal of these tools, this bundle, machine and versions."""
    names = [tool.name for tool in tools]
    key = {"bundle": bundle.name, "sha256": digest(bundle), "machine": processor(), "versions": versions()}
    return open_journal(output, "peers", tools=names, **key)


def summary(records: Records, people: int) -> dict[str, dict[str, Any]]:
    """By tool: milliseconds per person, and their ratio to each of ours.

    A ratio is `[median, low, high]` over the rounds that both took part in, of which there must be 6.
    """
    rounds = [r["seconds"] for r in records if r.get("people") == people]
    found: dict[str, dict[str, Any]] = {}
    for name in _by_tool(records):
        calls = [r[name] for r in rounds if name in r]
        if calls:
            ms = 1e3 * np.concatenate([np.asarray(one) for one in calls]) / people
            found[name] = {
                "ms_per_person": float(np.median(1e3 * per_round(calls) / people)),
                "p95_ms_per_person": float(np.quantile(ms, 0.95)),
                "rounds": len(calls),
                "ratios": {o: r for o in _OURS if o != name and (r := _ratio(rounds, o, name)) is not None},
            }
    return found


def table(bundle: str, records: Records, people: Sequence[int]) -> str:
    """Figures for each number of people, distances from PyTorch's joints, and a description of each row."""
    tools, peaks, facts = _by_tool(records), dict[str, float](), processor()
    for record in records:
        peaks |= record.get("peak_mb", {})
    figures = {n: summary(records, n) for n in people}
    ours = [name for name in _OURS if any(name in rows for rows in figures.values())]
    lines = [f"{bundle}, frame to keypoints, {facts['cpu']} with {facts['cores']} cores"]
    for n, rows in figures.items():
        lines += ["", _line(f"{n} in a frame", ["ms per person", "p95", *(f"times {name}" for name in ours)])]
        for name, f in rows.items():
            ratios = (f["ratios"].get(other) for other in ours)
            cells = ("" if r is None else f"{r[0]:.2f} ({r[1]:.2f}-{r[2]:.2f})" for r in ratios)
            lines.append(_line(name, [f"{f['ms_per_person']:.1f}", f"{f['p95_ms_per_person']:.1f}", *cells]))
    lines += ["", _line("against PyTorch", ["px p50", "p95", "max", "OKS", "MB"])]
    for name, tool in tools.items():
        if "agreement" in tool:
            px, oks = tool["agreement"]["px"], tool["agreement"]["oks"]
            memory = f"{peaks[name]:.0f}" if name in peaks else ""
            lines.append(_line(name, [*(f"{px[q]:.3f}" for q in ("p50", "p95", "max")), f"{oks:.5f}", memory]))
    lines.append("")
    for name, tool in tools.items():
        if "description" in tool:
            lines.append(f"{name}: {'; '.join(f'{key} {value}' for key, value in tool['description'].items())}")
    lines += [f"{name}: missing: {_short(tool['missing'])}" for name, tool in tools.items() if "missing" in tool]
    return "\n".join(lines)


def _by_tool(records: Records) -> dict[str, dict[str, Any]]:
    """The records of each tool as one; a tool that was opened after it had been missing is no longer missing."""
    found: dict[str, dict[str, Any]] = {}
    for record in records:
        if "tool" in record:
            row = found.setdefault(record["tool"], {})
            if "agreement" in record:
                row.pop("missing", None)
            row.update({key: value for key, value in record.items() if key != "tool"})
    return found


def _ratio(rounds: Sequence[Mapping[str, list[float]]], a: str, b: str) -> list[float] | None:
    both = [r for r in rounds if a in r and b in r]
    if len(both) < 6:
        return None
    seen = ratio(per_round([r[a] for r in both]), per_round([r[b] for r in both]))
    return [seen.point, seen.low, seen.high]


def _line(name: str, cells: list[str]) -> str:
    return f"  {name:26}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=False))


def _short(reason: str) -> str:
    """The line of a longer message that says what happened."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.lower().startswith("error")), lines[0] if lines else reason)


if __name__ == "__main__":
    sys.exit(main())
