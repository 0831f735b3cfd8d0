"""Decoding in the graph against decoding behind it, in OpenVINO and ONNX Runtime.

    python -m posert.benchmarks.decoding hrnet_w32.pose

The first table has each decode rule alone, on Gaussians over noise: as nodes of a graph, and as the runtime computes
it. The second has the bundle's own network and rule: the graph that gives keypoints, and the graph that gives
heatmaps with the runtime's rule behind it. Both sides are timed in turn, in CPU time of the process.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from posert.benchmarks.script import log, markdown, numbers, open_journal, parser, run
from posert.export.decoding import RULES, with_keypoints
from posert.runtime.backends import load_backend
from posert.runtime.bundle.archive import Bundle, output_names
from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.decode import decode
from posert.runtime.pose.heads import Outputs, head
from posert.runtime.system.machine import processor

LIBRARIES = ("openvino", "onnxruntime")
ROUNDS, BURST = 15, 0.05  # rounds of a row, and the least seconds of one turn
_COMBINED = ("udp_combined", "udp_heatmap_combined")
_SIMCC = ("simcc", "simcc_dark")
_MEGVII = ("megvii", "megvii_original")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    arguments = parser(__doc__, "out/decoding.jsonl")
    arguments.add_argument("bundle", type=Path, nargs="?", help="a .pose file for the second table")
    arguments.add_argument("--people", type=numbers, default=[1, 8], metavar="N,...", help="people per run (1,8)")
    arguments.add_argument("--rules", default=",".join(RULES.names()), metavar="NAME,...", help="default: all")
    return run(arguments, _work, argv)


def _work(args: argparse.Namespace) -> int:
    journal = open_journal(args.output, "decoding", bundle=str(args.bundle))
    rows = {row["key"]: row for row in journal.records}
    rules = args.rules.split(",")
    cells = [("alone", rule, library, n) for rule in rules for library in LIBRARIES for n in args.people]
    if args.bundle is not None:
        cells += [("network", "", library, n) for library in LIBRARIES for n in args.people]
    for kind, rule, library, people in cells:
        key = " ".join([kind, rule, library, str(people)])
        if key not in rows:
            log(key)
            pair = _alone(rule, library, people) if kind == "alone" else _network(args.bundle, library, people)
            rows[key] = {"key": key, "kind": kind, "rule": rule, "library": library, "people": people}
            rows[key] |= dict(zip(("inside_ms", "outside_ms"), in_turn(*pair), strict=True))
            journal.add(rows[key])
    print(f"{processor()['cores']} cores of {processor()['cpu']}; ms of CPU per person, median of {ROUNDS} rounds\n")
    head_line = "what | library | people per run | in the graph | behind it"
    print(markdown(head_line, [_cells(rows[" ".join([*cell[:3], str(cell[3])])]) for cell in cells]))
    return 0


def decoder(contract: Contract, opset: int) -> onnx.ModelProto:
    """A graph of the decode rule alone: its inputs `in_heatmaps`, ... are the network's outputs."""
    shapes = head(contract.decode).shapes(contract)
    names = output_names(len(shapes))
    nodes = [helper.make_node("Identity", [f"in_{name}"], [name]) for name in names]
    inputs, outputs = (
        [
            helper.make_tensor_value_info(f"{prefix}{name}", TensorProto.FLOAT, ["N", *shape])
            for name, shape in zip(names, shapes, strict=True)
        ]
        for prefix in ("in_", "")
    )
    graph = helper.make_graph(nodes, "decode", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return with_keypoints(model, contract)


def blobs(rng: np.random.Generator, people: int, channels: int, height: int, width: int) -> NDArray[np.float32]:
    """Maps as networks give them `(people, channels, height, width)`: Gaussians over noise.

    Some lie over the edge, some are faint; the first has no value above zero, and the last none at all.
    """
    x, y = rng.uniform(-2, width + 2, (people, channels)), rng.uniform(-2, height + 2, (people, channels))
    sigma, peak = rng.uniform(1.2, 4, (2, people, channels)) * [[[1]], [[0.25]]]
    rows, columns = np.mgrid[:height, :width]
    square = (columns - x[..., None, None]) ** 2 + (rows - y[..., None, None]) ** 2
    maps = peak[..., None, None] * np.exp(-square / (2 * sigma[..., None, None] ** 2))
    maps += rng.normal(0, 0.003, maps.shape)
    maps[0, 0] = -0.1 - np.abs(maps[0, 0])
    maps[-1, -1] = 0
    return np.asarray(maps, np.float32)


def contract_of(rule: str, joints: int, height: int, width: int, kernel: int = 11, **changes: Any) -> Contract:
    """A contract whose crop is four times as large as its map."""
    size = {"heatmap_width": width, "heatmap_height": height, "width": 4 * width, "height": 4 * height}
    names = tuple(map(str, range(joints)))
    return Contract("test", names, (), (), (), **{**size, "decode": rule, "kernel": kernel, **changes})


def _alone(rule: str, library: str, people: int) -> tuple[Callable[[], object], Callable[[], object], int]:
    contract = contract_of(rule, 17, 64, 48, 5 if rule in _MEGVII else 11)
    maps = blobs(np.random.default_rng(0), people, 17 * (3 if rule in _COMBINED else 1), 64, 48)
    outputs = (maps.max(axis=2), maps.max(axis=3)) if rule in _SIMCC else (maps,)
    inside = _runner(library, decoder(contract, 19).SerializeToString())
    return lambda: inside(outputs), lambda: decode(outputs, contract), people


def _network(path: Path, library: str, people: int) -> tuple[Callable[[], object], Callable[[], object], int]:
    with Bundle(path) as bundle:
        contract = bundle.contract
        plain = onnx.load_from_string(bundle.read(bundle.artifacts["fp32"]))
        crops = np.resize(bundle.golden().crops, (people, contract.height, contract.width, 3))
    backend = load_backend(library)
    sessions = [backend.open(model.SerializeToString(), "fp32") for model in (with_keypoints(plain, contract), plain)]
    return lambda: sessions[0].infer(crops), lambda: decode(sessions[1].infer(crops), contract), people


def _runner(library: str, graph: bytes) -> Callable[[Outputs], object]:
    """Runs a graph on several arrays, which the backends' sessions do not."""
    if library == "onnxruntime":
        import onnxruntime as ort

        session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        return lambda outputs: session.run(None, dict(zip(names, outputs, strict=True)))
    import openvino as ov

    core = ov.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda outputs: compiled(list(outputs), share_inputs=True, share_outputs=True)


def in_turn(inside: Callable[[], object], outside: Callable[[], object], people: int) -> tuple[float, float]:
    """Ms of CPU per person of both, the medians of rounds in which they take turns."""
    calls = []
    for call in (inside, outside):
        call()
        start = time.perf_counter()
        call()
        calls.append(max(1, round(BURST / max(time.perf_counter() - start, 1e-6))))
    seen: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for call, count, ms in zip((inside, outside), calls, seen, strict=True):
            start = time.process_time()
            for _ in range(count):
                call()
            ms.append(1e3 * (time.process_time() - start) / count / people)
    return float(np.median(seen[0])), float(np.median(seen[1]))


def _cells(row: dict[str, Any]) -> list[str]:
    what = row["rule"] or "network and rule"
    times = [f"{row[name]:.3f}" for name in ("inside_ms", "outside_ms")]
    return [what, row["library"], str(row["people"]), *times]


if __name__ == "__main__":
    sys.exit(main())
