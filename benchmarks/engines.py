"""Build engines of every family of networks with TensorRT-RTX, on a machine without a GPU, and write the table.

python -m posert.benchmarks.engines --output docs/engines.md

One network of each family, with random weights: fp16, and int8 with a float16 and with a float32 rest, in the newest
operator set that the bundles have and in the one that TensorRT 8 reads. Each engine is built in a process of its own,
for all targets, and the parsed network is audited. Finished rows are kept as JSON lines: the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx

from posert.benchmarks.harness.script import finished, keep, script
from posert.calib.fp16 import to_fp16
from posert.calib.qdq import place, quantize
from posert.calib.ranges import collect
from posert.export import catalog
from posert.export.archs import build_arch
from posert.export.graph.reference import Reference, random_crops
from posert.export.graph.to_onnx import OPSET, to_onnx, with_crops
from posert.export.weights.load import load_weights
from posert.runtime.bench.memory import peak_mb
from posert.runtime.errors import PosertError
from posert.runtime.system.environment import machine
from posert.runtime.system.files import atomic_write
from posert.runtime.system.progress import track

TARGETS = ("sm75", "sm86", "sm89", "sm120")
FAMILIES = (
    "hrnet_w32",
    "pose_resnet_50",
    "mspn_50_1",
    "hourglass_52",
    "pose_hourglass_2",
    "hourglass_2",
    "hourglass_8",
)
OLD_OPSET = 17  # the newest that TensorRT 8 reads
SECONDS, GIGABYTES = 20.0, 1.5
"""What building an engine of hrnet_w32 may take."""

_CROPS = 2  # of noise: what is asked is whether the builder takes the graph, not whether it is accurate


@script(goes_on=True)
def main() -> int:
    """Entry point; returns 1 if an engine could not be built, or one of hrnet_w32 took more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=FAMILIES, help=f"architectures (default: {' '.join(FAMILIES)})")
    parser.add_argument("--output", type=Path, help="the table as Markdown (default: standard output)")
    parser.add_argument(
        "--state", type=Path, default=Path("out/engines"), help="graphs and finished rows (out/engines)"
    )
    parser.add_argument("--graphs", help=argparse.SUPPRESS)  # what the process that writes graphs is told
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)  # and the one that builds an engine
    args = parser.parse_args()
    if args.build:
        print(json.dumps(measure(args.build)))
        return 0
    if args.graphs:
        write_graphs(args.graphs, args.state)
        return 0
    args.state.mkdir(parents=True, exist_ok=True)
    rows = {row["key"]: row for row in finished(args.state / "rows.jsonl")}
    stuck = False
    for family in track(list(args.families), "engines"):
        try:
            for row in _family(family, rows, args.state):
                rows[row["key"]] = row
                keep(args.state / "rows.jsonl", row)
                print(_summary(row), file=sys.stderr, flush=True)
        except PosertError as error:  # the others can still be built; this one is tried again the next time
            stuck = True
            print(error, file=sys.stderr, flush=True)
    shown = [rows[key] for family in args.families for name in names() if (key := f"{family}-{name}") in rows]
    if args.output is not None:
        with atomic_write(args.output) as file:
            file.write(table(shown).encode())
    else:
        print(table(shown))
    return 1 if stuck or any(trouble(row) for row in shown) else 0


def _family(family: str, rows: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a family that are not there yet."""
    wanted = [f"{family}-{name}" for name in names() if f"{family}-{name}" not in rows]
    if any(not (folder / f"{key}.onnx").exists() for key in wanted):
        _process("--graphs", family, "--state", str(folder))
    for key in wanted:
        graph = folder / f"{key}.onnx"
        yield {"key": key, **json.loads(_process("--build", str(graph)))}
        graph.unlink()


def names() -> Iterator[str]:
    """The graphs of a family."""
    yield from ("fp16", "int8-half", "int8", f"int8-opset{OLD_OPSET}")


def write_graphs(family: str, folder: Path) -> None:
    """Export a network and write its graphs as `FAMILY-NAME.onnx`."""
    row = catalog.find(family)
    network = build_arch(row.arch, row.keypoints)
    load_weights(row, network, "random")
    reference = Reference(network, row.contract())
    for opset, graphs in ((OPSET, ("fp16", "int8-half", "int8")), (OLD_OPSET, (f"int8-opset{OLD_OPSET}",))):
        model = with_crops(to_onnx(reference, opset), reference.contract)
        ranges = collect(model, [random_crops(reference.contract, _CROPS)], place(model).tensors)
        for name in graphs:
            if name == "fp16":
                made, layers = to_fp16(model), 0
            else:
                quantized = quantize(model, ranges, fallback_dtype="float16" if name == "int8-half" else "float32")
                made, layers = quantized.model, len(quantized.placement.layers)
            made.metadata_props.add(key="row", value=json.dumps({"model": row.id, "opset": opset, "int8": layers}))
            with atomic_write(folder / f"{family}-{name}.onnx") as file:
                file.write(made.SerializeToString())


def measure(path: Path) -> dict[str, Any]:
    """Build an engine of one graph in this process."""
    from posert.runtime.engines.builder import Options, build  # light: the library is imported below

    data = path.read_bytes()
    (note,) = (json.loads(p.value) for p in onnx.load_from_string(data).metadata_props if p.key == "row")
    convolutions = sum(n.op_type in ("Conv", "ConvTranspose") for n in onnx.load_from_string(data).graph.node)
    library = importlib.import_module("tensorrt_rtx")
    start, busy = time.perf_counter(), time.process_time()
    engine = build(library, data, path.stem, Options(targets=TARGETS))
    return {
        **note,
        "convolutions": convolutions,
        "layers": engine.metadata.layers,
        "targets": engine.metadata.devices,
        "graph_mb": len(data) / 1e6,
        "engine_mb": len(engine.plan) / 1e6,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - busy,
        "peak_gb": (peak_mb() or math.nan) / 1e3,
        "version": engine.metadata.version,
        "date": date.today().isoformat(),
        "machine": machine(),
    }


def trouble(row: Mapping[str, Any]) -> str:
    """What is wrong with a row; "" if nothing is."""
    if count(row, " of INT8") != row["int8"]:
        return f"{count(row, ' of INT8')} of {row['int8']} quantised convolutions are int8"
    if count(row, "") != row["convolutions"]:
        return f"the parser kept {count(row, '')} of {row['convolutions']} convolutions"
    if row["model"].endswith("hrnet_w32_coco_256x192") and row["cpu_seconds"] > SECONDS:
        return f"{row['cpu_seconds']:.0f} s of the processor, more than {SECONDS:.0f}"
    if row["model"].endswith("hrnet_w32_coco_256x192") and row["peak_gb"] > GIGABYTES:
        return f"{row['peak_gb']:.1f} GB, more than {GIGABYTES}"
    return ""


def count(row: Mapping[str, Any], suffix: str) -> int:
    """Convolutions, transposed ones too, whose kind ends so."""
    found = {k: n for k, n in row["layers"].items() if k.startswith(("CONVOLUTION", "DECONVOLUTION"))}
    return sum(n for kind, n in found.items() if kind.endswith(suffix))


_NOTE = f"""
`int8-half` is int8 with a float16 rest, which strongly typed TensorRT (10 and later) fuses; `int8` has a float32 rest,
and `int8-opset{OLD_OPSET}` is that for TensorRT 8. *int8 of all* are the convolutions, transposed ones too, that the
parsed network computes from int8 data and int8 weights; those of few channels stay as they are. *Q / DQ* are its layers
that quantise and dequantise, *rest* the type of its activation functions. Peak memory is that of the process, into
which PyTorch was imported too.

| network | graph | opset | graph MB | engine MB | seconds | CPU seconds | peak GB | int8 of all | Q / DQ | rest |
|---|---|---|---|---|---|---|---|---|---|---|"""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The document."""
    if not rows:
        return "no engine was built\n"
    first, days = rows[0], sorted({row["date"] for row in rows})
    versions = ", ".join(sorted({row["version"] for row in rows}))
    m, when = first["machine"], f"{days[0]} to {days[-1]}" if len(days) > 1 else days[0]
    head = (
        f"# Engines built without a GPU\n\nTensorRT-RTX {versions}, {when}, {m['cores']} cores of {m['cpu']}, "
        f"random weights. Every engine is for {', '.join(first['targets'])}.\n"
        "Made by `python -m posert.benchmarks.engines --output docs/engines.md`."
    )
    bad = [f"* {row['key']}: {trouble(row)}" for row in rows if trouble(row)]
    return "\n".join([head, _NOTE, *map(_line, rows), *(["", "Troubles:", "", *bad] if bad else [])]) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    layers = row["layers"]
    q, dq = (sum(n for kind, n in layers.items() if kind.startswith(op)) for op in ("QUANTIZE", "DEQUANTIZE"))
    rest = {k.split()[1].lower(): n for k, n in layers.items() if k.startswith("ACTIVATION")}
    cells = (
        row["model"],
        row["key"].split("-", 1)[1],
        row["opset"],
        f"{row['graph_mb']:.1f}",
        f"{row['engine_mb']:.1f}",
        f"{row['seconds']:.1f}",
        f"{row['cpu_seconds']:.1f}",
        f"{row['peak_gb']:.2f}",
        f"{count(row, ' of INT8')} of {row['convolutions']}",
        f"{q} / {dq}",
        ", ".join(f"{kind} ({n} activations)" for kind, n in rest.items()),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _summary(row: Mapping[str, Any]) -> str:
    state = trouble(row) or "ok"
    return f"{row['key']}: {row['seconds']:.1f} s, {row['cpu_seconds']:.1f} s CPU, {row['peak_gb']:.2f} GB: {state}"


def _process(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "posert.benchmarks.engines", *arguments], capture_output=True, text=True
    )
    if done.returncode:
        raise PosertError(f"{' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


if __name__ == "__main__":
    sys.exit(main())
