"""Files of a comparison for polygraphy: graphs, what goes in, what came out, and the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.bundle.contract import Contract
from ...runtime.errors import InputError
from ...runtime.system.files import atomic_write, check_writable
from .operands import ModelRef, normalised, takes_crops


def check_polygraphy() -> None:
    """Raise InputError: polygraphy, which writes its own files, is not installed."""
    from importlib.util import find_spec

    if find_spec("polygraphy") is None:
        raise InputError('polygraphy writes its own files, and is not installed: pip install "posert[polygraphy]"')


def write_run(
    folder: Path, inputs: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]], runner: str = "pytorch"
) -> None:
    """`inputs.json` and `outputs.json` of one iteration, as `--load-inputs` and `--load-outputs` read them."""
    from polygraphy.comparator import RunResults
    from polygraphy.json import to_json
    from polygraphy.logger import G_LOGGER

    with G_LOGGER.verbosity(G_LOGGER.ERROR):
        results = RunResults()
        results.add([outputs], runner_name=runner)
        texts = {"inputs.json": to_json([inputs]), "outputs.json": results.to_json()}
    for name, text in texts.items():
        _write(folder / name, text.encode())


def save_pair(
    folder: Path, a: ModelRef, b: ModelRef, contract: Contract, crops: NDArray[np.uint8], bound: float
) -> None:
    """Write what polygraphy needs to go on: graph `b`, on the crops, against what `a` gave for them.

    `bound` is for the relative error of the outputs, which polygraphy measures as an absolute one.

    Raises InputError: `b` is no ONNX graph, or the files cannot be written.
    """
    if b.graph is None:
        raise InputError(f"--save needs an ONNX graph as the second of the two, not {b.name}: exchange them")
    check_writable(folder / "second.onnx")
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load_from_string(b.graph)
    given = crops if takes_crops(b.graph) else normalised(crops, contract)
    names = [output.name for output in model.graph.output]
    outputs = {name: np.asarray(array) for name, array in zip(names, a.session.infer(crops), strict=True)}
    _write(folder / "second.onnx", b.graph)
    if a.graph is not None:
        _write(folder / "first.onnx", a.graph)
    write_run(folder, {model.graph.input[0].name: given}, outputs, a.name)
    script = folder / "run.sh"
    limits = {name: bound * float(np.linalg.norm(array)) for name, array in outputs.items()}
    _write(script, commands(limits, a.graph is not None).encode())
    script.chmod(0o755)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)


def commands(limits: dict[str, float], both: bool) -> str:
    """The commands with which polygraphy goes on."""
    tolerance = " ".join(f"{name}:{limit:.6g}" for name, limit in limits.items())
    lines = f"""#!/bin/sh
# The second graph against what the first gave: ./run.sh [--onnxrt | --trt]
set -e
cd "$(dirname "$0")"
runner=${{1:---onnxrt}}
polygraphy run second.onnx "$runner" --load-inputs inputs.json --load-outputs outputs.json \\
    --compare l2 --l2-tolerance {tolerance}
"""
    if both:
        lines += """
# The smallest part of the second that still differs (pip install onnx-graphsurgeon):
# polygraphy run first.onnx --onnxrt --onnx-outputs mark all --load-inputs inputs.json --save-outputs layers.json
# polygraphy debug reduce second.onnx -o reduced.onnx --load-inputs inputs.json \\
#     --check polygraphy run polygraphy_debug.onnx --onnxrt --load-inputs inputs.json --load-outputs layers.json
"""
    return lines
