"""What each way of calibrating costs: AP and joint drift of int8 graphs of a network, against PyTorch.

python -m posert.benchmarks.calibration --arch hrnet_demo

All graphs come from the same calibration crops, each made in a process of its own, and are judged on the same held-out
synthetic people in OpenVINO. Joints are decoded with DARK here, whatever the model's own rule: the quarter offset moves
in steps of a quarter of a cell, which hides most of what there is to see. (All but one row: the trap needs no lens.)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posert.benchmarks.harness.environments import call
from posert.benchmarks.harness.quantizing import Bench
from posert.benchmarks.harness.script import script
from posert.export.catalog import find
from posert.export.weights.load import DEMO_NOTE
from posert.runtime.errors import PosertError
from posert.runtime.registry import unknown_name
from posert.runtime.system.environment import machine

BASE = "ONNX Runtime, min-max symmetric"
TRAP = "mse, signed, heatmap output by entropy, the model's own decoding"
_METHODS = ("minmax", "percentile:99.99", "percentile:99.9", "entropy", "mse", "keypoints")


def settings(contract: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Function and arguments of each row of the table, beside the graph, the crops and the target."""
    found: dict[str, tuple[str, dict[str, Any]]] = {
        BASE: ("quantize:onnxruntime", {"method": "MinMax", "unsigned": False}),
        "fp16": ("ablation:float16", {}),
    }

    def ours(name: str, **arguments: Any) -> None:
        found[name] = ("ablation:int8", {"contract": dict(contract), **arguments})

    for method in _METHODS:
        ours(f"{method}, signed", method=method, unsigned=False)
        ours(f"{method}, unsigned", method=method, unsigned=True)
    for unsigned, kind in ((False, "signed"), (True, "unsigned")):
        ours(f"mse, {kind}, bias corrected", method="mse", unsigned=unsigned, bias=True)
        ours(f"mse, {kind}, channels equalised", method="mse", unsigned=unsigned, equal=True)
    ours("mse, unsigned, weights alone", method="mse", unsigned=True, only="weights")
    ours("mse, unsigned, activations alone", method="mse", unsigned=True, only="activations")
    ours(TRAP, method="mse", unsigned=False, output=True)
    return found


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a Markdown table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="hrnet_demo", help="an architecture with demo weights, or of random ones")
    parser.add_argument("--weights", default="demo", help="demo, or a checkpoint file of synthetic people (demo)")
    parser.add_argument("--images", type=int, default=1000, help="held-out images to judge on (1000); 0: do not judge")
    parser.add_argument("--people", type=int, default=128, help="people to calibrate on (128)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="rows by name, such as 'mse, unsigned' (all)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    result = measure(args)
    print(json.dumps(result) if args.json else table(result))
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Make and judge the graphs; a row for each."""
    row = find(args.arch)
    known = settings({**row.contract().to_json(), "decode": "unbiased"})
    for name in args.only or ():
        if name not in known:
            raise PosertError(unknown_name("row", name, known))
    folder = Path("out/calibration") / f"{row.id}-{args.people}"
    bench = Bench(row, args.weights, args.people, folder)
    rows: dict[str, dict[str, Any]] = {}
    files: dict[str, str] = {}
    for name in args.only or known:
        function, arguments = known[name]
        files[name] = str(folder / f"{len(files)}.onnx")
        given = {"model": bench.graph, "crops": bench.crops, "target": files[name], **arguments}
        answer = call(sys.executable, f"posert.benchmarks.harness.{function}", given)
        rows[name] = {"seconds": answer.value, "peak_mb": answer.peak_mb}
        print(f"{name}: {answer.value:.1f} s, {answer.peak_mb:.0f} MB", file=sys.stderr, flush=True)
    trap = {name: files.pop(name) for name in [TRAP] if name in files}
    for graphs, contract in ((files, bench.contract), (trap, row.contract())):
        # DARK would blur the maps first and so find the middle of a peak that was cut off.
        bench.contract = contract
        if graphs and args.images:
            for name, figures in bench.judge(graphs, args.images):
                rows[name] |= figures
                print(f"{name}: {figures}", file=sys.stderr, flush=True)
    return {"model": row.id, "calibration_people": args.people, "machine": machine(), "rows": rows}


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row for each setting; drift also as a share of ONNX Runtime's."""
    rows = result["rows"]
    people = next((r["people"] for r in rows.values() if "people" in r), 0)
    base = rows.get(BASE, {}).get("pixel_drift_p95")
    lines = [
        f"{result['model']} ({DEMO_NOTE}), {people} held-out people, {result['calibration_people']} to calibrate on; "
        f"{result['machine']['cpu']}, {result['machine']['cores']} cores\n",
        "| setting | AP lost (95 % interval) | drift median / p95, px | p95 by ONNX Runtime's | s | peak MB |",
        "|---|---|---|---|---|---|",
    ]
    for name, r in rows.items():
        cells = [name, r.get("failed", ""), "", ""]
        if "ap_drop" in r:
            low, high = r["ap_drop_interval"]
            cells[1] = f"{r['ap_drop']:+.4f} ({low:+.4f} to {high:+.4f})"
            cells[2] = f"{r['pixel_drift_median']:.3f} / {r['pixel_drift_p95']:.3f}"
            cells[3] = f"{r['pixel_drift_p95'] / base:.2f}" if base else ""
        lines.append(f"| {' | '.join(cells)} | {r['seconds']:.0f} | {r['peak_mb']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
