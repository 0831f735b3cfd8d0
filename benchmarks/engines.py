"""Build engines of every family of networks with TensorRT-RTX, without a GPU: the table of docs/engines.md.

    python -m posert.benchmarks.engines --output out/engines.jsonl

One network of each family, with random weights: fp16, and int8 with float16 and with float32 between its layers, in the
default operator set and in the oldest that `posert build --opset` takes. Families with matrix products are those of
`own_networks`; they are built in fp32, too. Each engine is built in a process of its own, for all targets, and the
parsed network is audited. Turing has no float32 matrix product in TensorRT-RTX: graphs with one are not built for it.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import onnx

from posert.benchmarks.child import ToolError, call
from posert.benchmarks.own_networks import networks
from posert.benchmarks.script import log, markdown, open_journal, parser, run
from posert.calib.fp16 import to_fp16
from posert.calib.qdq import place, quantize
from posert.calib.ranges import collect
from posert.export import catalog
from posert.export.archs import build_arch
from posert.export.graph.reference import Reference, random_crops
from posert.export.graph.to_onnx import OPSET, to_onnx, with_crops
from posert.export.weights.load import load_weights
from posert.runtime.engines.builder import Options, build
from posert.runtime.system.files import atomic_write
from posert.runtime.system.machine import processor
from posert.runtime.system.memory import peak_mb
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
    *networks(),
)
OLD_OPSET = 17  # the oldest that `posert build --opset` takes; its scales are float32
NAMES = ("fp16", "int8-half", "int8", f"int8-opset{OLD_OPSET}")
"""The graphs of a catalog's family; see `names_of`."""
TURING = "sm75"
LAYERS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
"""Layers of a parsed network that may compute in int8."""
SECONDS, GIGABYTES = 20.0, 1.5
"""What building an engine of hrnet_w32 may take."""

_HEAD = "network | graph | opset | graph MB | engine MB | seconds | CPU seconds | peak GB"
_HEAD += " | int8 of all | Q / DQ | activations | targets"
_CROPS = 2  # of noise: the question is whether the builder takes the graph, not how accurate it is


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if an engine could not be built, or one of hrnet_w32 took more than it may."""
    arguments = parser(__doc__, "out/engines.jsonl")
    arguments.add_argument("families", nargs="*", default=FAMILIES, help=f"architectures ({' '.join(FAMILIES)})")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    journal = open_journal(args.output, "engines")
    rows = {row["key"]: row for row in journal.records}
    wanted = [f"{family}-{name}" for family in args.families for name in names_of(family)]
    for family in track(list(args.families), "engines"):
        try:
            for row in _build_family(family, rows, args.output.with_suffix("")):
                rows[row["key"]] = row
                journal.add(row)
        except ToolError as error:  # the others can still be built; this one is tried again the next time
            log(f"{family}: {str(error).splitlines()[-1]}")
    shown = [rows[key] for key in wanted if key in rows]
    print(table(shown))
    return 1 if len(shown) < len(wanted) or any(map(problem, shown)) else 0


def names_of(family: str) -> tuple[str, ...]:
    """The graphs of a family. torch exports the squared lengths of `own_networks` from opset 18 on."""
    return ("fp32", *NAMES[:3]) if family in networks() else NAMES


def _build_family(family: str, rows: Mapping[str, Any], folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a family that are not finished."""
    wanted = [f"{family}-{name}" for name in names_of(family) if f"{family}-{name}" not in rows]
    if any(not (folder / f"{key}.onnx").exists() for key in wanted):
        arguments = {"family": family, "folder": str(folder)}
        call(sys.executable, "posert.benchmarks.engines:write_graphs", arguments)
    for key in wanted:
        graph = folder / f"{key}.onnx"
        yield {"key": key, **call(sys.executable, "posert.benchmarks.engines:measure", {"path": str(graph)}).value}
        graph.unlink()


def write_graphs(family: str, folder: str) -> None:
    """Export a network and write its graphs as `FAMILY-NAME.onnx`; runs in a process of its own."""
    title, reference = _network(family)
    opsets = {name: OLD_OPSET if name == NAMES[-1] else OPSET for name in names_of(family)}
    for opset in dict.fromkeys(opsets.values()):
        model = with_crops(to_onnx(reference, opset), reference.contract)
        ranges = collect(model, [random_crops(reference.contract, _CROPS)], place(model).tensors)
        for name in (n for n, its in opsets.items() if its == opset):
            if name in ("fp32", "fp16"):
                made, layers = to_fp16(model) if name == "fp16" else copy.deepcopy(model), 0
            else:
                quantized = quantize(model, ranges, fallback_dtype="float16" if name == "int8-half" else "float32")
                made, layers = quantized.model, len(quantized.placement.layers)
            made.metadata_props.add(key="row", value=json.dumps({"model": title, "opset": opset, "int8": layers}))
            with atomic_write(Path(folder, f"{family}-{name}.onnx")) as file:
                file.write(made.SerializeToString())


def _network(family: str) -> tuple[str, Reference]:
    """The name that the table shows, and the network with random weights."""
    if family in networks():
        return family, Reference(*networks()[family]())
    row = catalog.find(family)
    network = build_arch(row.arch, row.keypoints)
    load_weights(row, network, "random")
    return row.id, Reference(network, row.contract())


def measure(path: str) -> dict[str, Any]:
    """Build an engine of one graph in this process."""
    data = Path(path).read_bytes()
    (note,) = (json.loads(p.value) for p in onnx.load_from_string(data).metadata_props if p.key == "row")
    operators = [node.op_type for node in onnx.load_from_string(data).graph.node]
    products = sum(name in ("Gemm", "MatMul") for name in operators)
    half = Path(path).stem.endswith(("-fp16", "-int8-half"))
    targets = tuple(name for name in TARGETS if name != TURING or half or not products)
    library = importlib.import_module("tensorrt_rtx")
    start, busy = time.perf_counter(), time.process_time()
    engine = build(library, data, Path(path).stem, Options(targets=targets))
    return {
        **note,
        "layers_in_graph": products + sum(name in ("Conv", "ConvTranspose") for name in operators),
        "layers": engine.metadata.layers,
        "targets": engine.metadata.devices,
        "graph_mb": len(data) / 1e6,
        "engine_mb": len(engine.plan) / 1e6,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - busy,
        "peak_gb": (peak_mb() or math.nan) / 1e3,
        "version": engine.metadata.version,
        "date": date.today().isoformat(),
        "machine": processor(),
    }


def problem(row: Mapping[str, Any]) -> str:
    """What is wrong with a row; empty if nothing is."""
    if count(row, " of INT8") != row["int8"]:
        return f"{count(row, ' of INT8')} of {row['int8']} quantised layers are int8"
    if count(row, "") != row["layers_in_graph"]:
        return f"the parser kept {count(row, '')} of {row['layers_in_graph']} convolutions and matrix products"
    bounded = row["model"].endswith("hrnet_w32_coco_256x192")
    if bounded and row["cpu_seconds"] > SECONDS:
        return f"{row['cpu_seconds']:.0f} s of the processor, more than {SECONDS:.0f}"
    if bounded and row["peak_gb"] > GIGABYTES:
        return f"{row['peak_gb']:.1f} GB, more than {GIGABYTES}"
    return ""


def count(row: Mapping[str, Any], suffix: str) -> int:
    """Convolutions, including transposed ones, and matrix products whose kind ends with the suffix."""
    found = {k: n for k, n in row["layers"].items() if k.startswith(LAYERS)}
    return sum(n for kind, n in found.items() if kind.endswith(suffix))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown, with the machine and the versions."""
    if not rows:
        return "No engine was built."
    here, days = rows[0]["machine"], sorted({row["date"] for row in rows})
    builders = ", ".join(sorted({row["version"] for row in rows}))
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    facts = f"TensorRT-RTX {builders}, {when}, {here['cores']} cores of {here['cpu']}."
    bad = [f"* {row['key']}: {problem(row)}" for row in rows if problem(row)]
    return "\n\n".join([facts, markdown(_HEAD, map(_cells, rows)), *(["\n".join(bad)] if bad else [])])


def _cells(row: Mapping[str, Any]) -> list[str]:
    layers = row["layers"]
    q, dq = (sum(n for kind, n in layers.items() if kind.startswith(op)) for op in ("QUANTIZE", "DEQUANTIZE"))
    activations = {k.split()[1].lower(): n for k, n in layers.items() if k.startswith("ACTIVATION")}
    return [
        *(row["model"], row["key"].split("-", 1)[1], str(row["opset"])),
        *(f"{row[name]:.1f}" for name in ("graph_mb", "engine_mb", "seconds", "cpu_seconds")),
        *(f"{row['peak_gb']:.2f}", f"{count(row, ' of INT8')} of {row['layers_in_graph']}", f"{q} / {dq}"),
        ", ".join(f"{kind} ({n})" for kind, n in activations.items()),
        "all" if tuple(row["targets"]) == TARGETS else ", ".join(row["targets"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
