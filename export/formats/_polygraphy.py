"""What the format `polygraphy` writes."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.bundle.archive import Bundle
from ...runtime.pose.decode import px_per_cell
from ..divergence.saved import check_polygraphy, write_run
from . import Write
from ._golden import make_golden
from ._graph import KEYPOINTS, described_input, described_outputs, make_graph, sidecar, wanted_graph

_SCRIPTS = Path(__file__).with_name("scripts")
_COSINE = 0.05
"""By which the cosine of the angle between heatmaps may fall short of one; a map of another picture is far below."""


def plan_files(bundle: Bundle, args: argparse.Namespace) -> Write:
    """The work for the options of the format; see `Format.plan`."""
    from ..given_images import check_calibration

    check_polygraphy()
    wanted = wanted_graph(bundle, args)
    check_calibration(args)
    crops = _calibration(bundle, args) if args.calib is not None else None

    def write(folder: Path) -> None:
        model = make_graph(bundle, wanted)
        golden = make_golden(bundle, wanted, model)
        given, outputs = (
            described_input(bundle.contract, wanted.input),
            described_outputs(bundle.contract, wanted.output),
        )
        name = f"{bundle.path.stem}.{wanted.artifact.name}.onnx"
        (folder / name).write_bytes(model.SerializeToString())
        (folder / f"{name}.json").write_text(json.dumps(sidecar(bundle, wanted), indent=1))
        if wanted.output == KEYPOINTS:
            expected = {KEYPOINTS: golden["keypoints"]}
        else:
            expected = {output["name"]: golden[f"outputs_{i}"] for i, output in enumerate(outputs)}
        write_run(folder, {given["name"]: golden["input"]}, expected)
        np.savez_compressed(folder / "golden.npz", **golden, px_per_cell=np.array(px_per_cell(bundle.contract)))
        for script in ("compare.py", "data_loader.py"):
            shutil.copyfile(_SCRIPTS / f"polygraphy_{script}", folder / script)
        shutil.copyfile(_SCRIPTS / f"run_{wanted.output}.py", folder / "run.py")
        if crops is not None:
            from ..graph.inputs import input_of

            arrays: dict[str, Any] = {given["name"]: input_of(crops, bundle.contract, wanted.input)}
            np.savez_compressed(folder / "calibration.npz", **arrays)
        _write_trtexec(folder, name, {given["name"]: golden["input"]}, expected, float(golden["tolerance"]))
        run = folder / "run.sh"
        text = commands(name, wanted.output, float(golden["tolerance"]), wanted.artifact.name == "int8_gpu")
        run.write_bytes(os.fsencode(text))  # the graph's file may have any name
        run.chmod(0o755)

    return write


def commands(graph: str, output: str, tolerance: float, tensorrt_only: bool) -> str:
    """The script with the commands: compare in px, or by polygraphy's own measures, and look for faulty nodes."""
    runner = "--trt" if tensorrt_only else "--onnxrt"
    if output == KEYPOINTS:  # half of the joints: those that the network is not sure of may be anywhere
        measure = f"--compare simple --check-error-stat median --rtol 0 --atol {tolerance:.4f}"
        again = f"--check-error-stat median --rtol 0 --atol {tolerance:.4f}"
    else:
        measure = f"--compare cosine_similarity --cosine-similarity-threshold {1 - _COSINE}"
        again = f"--compare cosine_similarity --cosine-similarity-threshold {1 - _COSINE}"
    return f"""#!/bin/sh
# Compare the graph with the PyTorch model on the golden crops: ./run.sh [{runner} | --trt]
set -e
cd "$(dirname "$0")"
runner=${{1:-{runner}}}
rm -f accuracy.json
polygraphy run {graph} "$runner" --load-inputs inputs.json --load-outputs outputs.json --compare-func-script compare.py
polygraphy run {graph} "$runner" --load-inputs inputs.json --load-outputs outputs.json \\
    {measure} --save-accuracy-results accuracy.json
polygraphy check accuracy accuracy.json {again}
if python3 -c 'import onnx_graphsurgeon' 2>/dev/null; then
    polygraphy check lint {graph}  # pip install onnx-graphsurgeon
fi
"""


def _write_trtexec(
    folder: Path, graph: str, inputs: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]], tolerance: float
) -> None:
    """The same arrays as raw bytes, and the line for trtexec 11, which compares without Python."""
    (folder / "trtexec").mkdir()
    files = {name: f"trtexec/{name}.bin" for name in (*inputs, *outputs)}
    for name, array in (*inputs.items(), *outputs.items()):
        (folder / files[name]).write_bytes(np.ascontiguousarray(array).tobytes())
    shapes = ",".join(f"{name}:{'x'.join(map(str, array.shape))}" for name, array in inputs.items())
    given = ",".join(f"{name}:{files[name]}" for name in inputs)
    expected = ",".join(f"{name}:{files[name]}" for name in outputs)
    measure = (
        f"l1 --accuracyThreshold={tolerance:.4f}" if KEYPOINTS in outputs else f"cos --accuracyThreshold={_COSINE}"
    )
    line = f"trtexec --onnx={graph} --noTF32 --shapes={shapes} --loadInputs={given} --loadRefOutputs={expected}"
    line += f" --accuracyAlgorithm={measure}"  # --refPair is for two pairs and more
    script = folder / "trtexec.sh"
    text = f'#!/bin/sh\n# With trtexec of TensorRT 11: ./trtexec.sh\ncd "$(dirname "$0")" && {line}\n'
    script.write_bytes(os.fsencode(text))
    script.chmod(0o755)


def _calibration(bundle: Bundle, args: argparse.Namespace) -> NDArray[np.uint8]:
    """Crops `(N, H, W, 3)` uint8 BGR of the people in --calib, those that posert itself would calibrate on."""
    from ...calib.images import crops_from_coco
    from ..builder.graphs import CALIBRATION_PEOPLE
    from ..builder.tuning import calibration_sample_size
    from ..given_images import calibration_frames

    c = bundle.contract
    frames = calibration_frames(args, len(c.keypoints)).with_joints_of(c)
    size = calibration_sample_size(frames, CALIBRATION_PEOPLE)
    return np.concatenate(list(crops_from_coco(frames.coco, frames.read, c, size)))
