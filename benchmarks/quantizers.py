"""Who quantises a pose network best: ours, ONNX Runtime's and NNCF's int8 of one graph, side by side.

python -m posert.benchmarks.quantizers --arch hrnet_demo --output out/quantizers.json

The same float32 graph (uint8 crops in, heatmaps out), the same calibration crops, the same held-out synthetic people
and the same OpenVINO for all. Each tool runs in a process of its own, foreign ones in an environment of their own,
which is made at the first use. Finished rows are kept in the output: the same command goes on where it was stopped, and
tries again what failed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from posert.benchmarks.harness.quantizing import MAX_DROP, Bench, Tool
from posert.benchmarks.harness.script import script
from posert.export.build.int8 import METHOD
from posert.export.catalog import Row, find
from posert.runtime.bundle.contract import Contract
from posert.runtime.errors import PosertError
from posert.runtime.system.environment import machine, versions
from posert.runtime.system.files import atomic_write, check_writable
from posert.runtime.system.progress import track

OURS, FLOAT = "ours", "float32"
_SMALL_MACS = 1e9
_IMAGES = {"small": 1000, "large": 60}  # held-out images: 1000 tell differences of 0.002 of AP
_NNCF = ("nncf==3.4.0", "openvino==2026.4.1", "numpy==2.4.6", "opencv-python-headless==4.14.0.94")

_PAGE = f"""# Quantisers, side by side

The int8 graphs of one float32 graph, by posert, ONNX Runtime's `quantize_static` and NNCF. Everybody has the same
graph (uint8 crops in, heatmaps out; all of them take it), the same calibration crops, cut as at run time from
synthetic people, and is judged on the same held-out synthetic people, who are others. Each table is printed by the
command above it.

- **ours** is the graph for CPUs that `posert build` writes: its method, its placement, unsigned activations.
- **ONNX Runtime** is prepared as its documentation says (`quant_pre_process`), then Q/DQ, int8 weights per channel,
  with its own defaults for the rest. Activations are symmetric int8, which GPUs take, or uint8 with a zero point,
  which CPU users take.
- **NNCF** quantises the OpenVINO model for CPUs: preset *performance* is symmetric, *mixed* is not. Its accuracy
  control measures AP itself, on labelled calibration people whom ranges do not rest on, and may lose {MAX_DROP} of
  it.
- **AP lost** against the PyTorch network, with the paired bootstrap interval over images; below zero is gained, by
  chance. **Drift** is how far joints moved from PyTorch's, in px of the frame; it tells graphs apart that AP cannot.
  Joints are decoded with DARK here, whatever the network's own rule.
- **s, peak MB** of a process that did nothing else, from reading the graph to having written the int8 one; tools
  whose documentation has no other way hold all their activations at once.
- **ms per person** in OpenVINO, eight people at once, all cores, in turn with all the others; **x fastest** is the
  median of the ratios within a round. With a load above 0.1 something else ran on the machine, and times are upper
  bounds.
"""


def tools(contract: Contract, validation: Path) -> dict[str, Tool]:
    """All rows by name; `validation` is the folder that accuracy control measures on."""
    found = {OURS: Tool("posert", {"contract": contract.to_json(), "method": METHOD})}
    for method, name in (("MinMax", "min-max"), ("Entropy", "entropy"), ("Percentile", "percentile")):
        for unsigned, kind in ((False, "int8 symmetric"), (True, "uint8")):
            arguments = {"method": method, "unsigned": unsigned}
            found[f"ONNX Runtime, {name}, {kind}"] = Tool("onnxruntime", arguments)
    for preset in ("performance", "mixed"):
        found[f"NNCF, {preset}"] = Tool("nncf", {"preset": preset.upper()}, _NNCF, "xml")
    arguments = {"validation": str(validation), "max_drop": MAX_DROP}
    found["NNCF, accuracy control"] = Tool("nncf_accuracy", arguments, _NNCF, "xml")
    return found


@script(goes_on=True)
def main() -> int:
    """Entry point; prints a Markdown table and who is first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="hrnet_demo", help="an architecture (hrnet_demo)")
    parser.add_argument("--weights", default="demo", help="demo, or a checkpoint file of synthetic people (demo)")
    parser.add_argument("--people", type=int, default=128, help="people to calibrate on (128)")
    parser.add_argument("--images", type=int, help="held-out images to judge on (1000; 60 for large networks)")
    parser.add_argument("--rounds", type=int, default=30, help="rounds that are timed (30)")
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a tool may take before it is ended (8)")
    parser.add_argument("--output", type=Path, default=Path("out/quantizers.json"))
    parser.add_argument("--page", type=Path, help="write the tables of all networks in the output there, as Markdown")
    args = parser.parse_args()
    for path in filter(None, (args.output, args.page)):
        check_writable(path)
    result = compare(find(args.arch), args)
    if args.page is not None:
        with atomic_write(args.page) as file:
            file.write(page(_read(args.output)).encode())
    print(table(result))
    return 0


def compare(row: Row, args: argparse.Namespace) -> dict[str, Any]:
    """Quantise, judge and time what the output does not have yet; returns what it has then."""
    result = _read(args.output).get(row.id, {"rows": {}})
    folder = args.output.with_suffix("") / row.id
    bench = Bench(row, args.weights, args.people, folder)
    rows: dict[str, Any] = result["rows"]
    result |= {
        "model": row.id,
        "arch": row.arch,
        "command": _command(),
        "weights": args.weights,
        "calibration_people": args.people,
        "tool_gb": args.memory,
    }
    keep = partial(_write, args.output, row.id, result)
    wanted = {FLOAT: None, **tools(row.contract(), folder / "validation")}
    for name in set(rows) - set(wanted):
        del rows[name]
    for name, tool in track(list(wanted.items()), "tools"):
        key = bench.key(tool)
        if rows.get(name, {}).get("key") != key or "failed" in rows[name] or not Path(rows[name]["file"]).exists():
            rows[name] = {"key": key, **(bench.quantize(name, tool, args.memory) if tool else {"file": bench.graph})}
            keep()
    images = (
        args.images
        or _IMAGES["small" if row.macs_test_path is not None and row.macs_test_path < _SMALL_MACS else "large"]
    )
    files = {name: r["file"] for name, r in rows.items() if "failed" not in r}
    judged = {"images": images, "reference": bench.digest}
    missing = {name: file for name, file in files.items() if rows[name].get("judged") != judged}
    if missing:
        for name, accuracy in track(bench.judge(missing, images), "judged", len(missing)):
            rows[name] |= {"judged": judged, **accuracy}
            keep()
        files = {name: file for name, file in files.items() if "failed" not in rows[name]}
    timed = {"rows": {name: rows[name]["key"] for name in files}, "rounds": args.rounds}
    if result.get("timed") != timed:
        result |= {"timed": timed, "machine": machine(), "versions": versions(), **bench.time(files, rows, args.rounds)}
        keep()
    return result


def table(result: Mapping[str, Any]) -> str:
    """Markdown: a row for each tool, then where ours stands."""
    rows = result["rows"]
    people = next(r["people"] for r in rows.values() if "people" in r)
    head = ("graph", "AP lost (95 % interval)", "drift median / p95, px", "s", "peak MB", "ms per person", "x fastest")
    lines = [
        f"{result['model']} ({result['weights']} weights), {people} held-out synthetic people, "
        f"{result['calibration_people']} to calibrate on; {result['machine']['cpu']}, {result['machine']['cores']} "
        f"cores, load {result['load_before_timing']:.1f} before timing; OpenVINO {result['versions']['openvino']}, "
        f"ONNX Runtime {result['versions']['onnxruntime']}, {_NNCF[0].replace('==', ' ')}\n",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for name, r in rows.items():
        cells = [f"**{name}**" if name == OURS else name]
        if "failed" in r:
            lines.append(f"| {name} | {r['failed'].splitlines()[0]} {'| ' * (len(head) - 1)}")
            continue
        low, high = r["ap_drop_interval"]
        cells.append(f"{r['ap_drop']:+.4f} ({low:+.4f} to {high:+.4f})")
        cells.append(f"{r['pixel_drift_median']:.3f} / {r['pixel_drift_p95']:.3f}")
        cells += [f"{r['seconds']:.0f}", f"{r['peak_mb']:.0f}"] if "seconds" in r else ["", ""]
        cells += [f"{r['ms_per_person']:.2f}", f"{r['ratio']['point']:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *standing(rows)])


def page(results: Mapping[str, Any]) -> str:
    """The tables of all networks that are finished, with what they rest on."""
    done = [result for result in results.values() if "timed" in result]
    return "\n".join([_PAGE, *(f"## {r['arch']}\n\n`{r['command']}`\n\n{table(r)}\n" for r in done)])


def standing(rows: Mapping[str, Any]) -> list[str]:
    """Where ours stands among the int8 graphs, one sentence for each figure. AP gained is chance, and counts as none
    lost."""
    done = {name: r for name, r in rows.items() if "failed" not in r and name != FLOAT}
    if OURS not in done:
        return ["Ours failed: see its row."]
    figures: dict[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
        "AP lost": (".4f", lambda r: round(max(r["ap_drop"], 0.0), 4)),
        "p95 drift, px": (".3f", lambda r: r["pixel_drift_p95"]),
        "peak memory, MB": (".0f", lambda r: r["peak_mb"]),
        "time of a person, x fastest": (".3f", lambda r: r["ratio"]["point"]),
    }
    lines = []
    for what, (form, figure) in figures.items():
        value = figure(done[OURS])
        others = {name: figure(r) for name, r in done.items() if name != OURS}
        best = min(others, key=lambda name: others[name], default=OURS)
        place = 1 + sum(other < value for other in others.values())
        lines.append(
            f"- {what}: ours {value:{form}}, place {place} of {len(done)}; best of the others: {best}, "
            f"{others.get(best, value):{form}}"
        )
    unclear = [name for name, r in done.items() if r["ap_drop_interval"][0] <= 0 <= r["ap_drop_interval"][1]]
    ours = "ours" if OURS in unclear else "not ours"
    lines.append(
        f"- {len(unclear)} of {len(done)} graphs, {ours} among them, lose so little AP that its interval holds zero: "
        "their order is chance"
    )
    return lines


def _command() -> str:
    return shlex.join(["python", "-m", "posert.benchmarks.quantizers", *sys.argv[1:]])


def _read(output: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    except ValueError as error:
        raise PosertError(
            f"{output} is no table of quantizers ({error}): remove it or name another --output"
        ) from error
    return found


def _write(output: Path, id: str, result: Mapping[str, Any]) -> None:
    with atomic_write(output) as file:
        file.write(json.dumps({**_read(output), id: result}, indent=1).encode())


if __name__ == "__main__":
    sys.exit(main())
