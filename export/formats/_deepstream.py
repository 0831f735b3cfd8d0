"""What the format `deepstream` writes."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from ...runtime.bundle.archive import Bundle
from ...runtime.bundle.contract import Contract
from . import Write
from ._golden import make_golden
from ._graph import KEYPOINTS, Wanted, make_graph, sidecar, wanted_graph
from ._nvinfer import GEOMETRY, frames_of, measure

_SCRIPTS = Path(__file__).with_name("scripts")
_BATCH = 8


def plan_app(bundle: Bundle, args: argparse.Namespace) -> Write:
    """The work for the options of the format; see `Format.plan`."""
    from ..commands._arguments import check_pair

    check_pair(args, "annotations", "images")
    # nvinfer gives float planes of 0 to 255, less a mean, times one scale for all channels: the rest is in the graph.
    wanted = wanted_graph(bundle, argparse.Namespace(precision=args.precision, input="float", output_kind=KEYPOINTS))
    frames = frames_of(args, bundle.contract)

    def write(folder: Path) -> None:
        model = make_graph(bundle, wanted)
        facts = sidecar(bundle, wanted)
        facts["accuracy"]["nvinfer"] = measure(model, bundle.contract, frames)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "contract.json").write_text(json.dumps(facts, indent=1))
        np.savez_compressed(folder / "golden.npz", **make_golden(bundle, wanted, model))
        (folder / "config_infer_secondary.txt").write_text(config(bundle.contract))
        (folder / "labels_joints.txt").write_text("\n".join(bundle.contract.keypoints) + "\n")
        engine = folder / "build_engine.sh"
        engine.write_text(trtexec(bundle.contract, wanted))
        engine.chmod(0o755)
        shutil.copyfile(GEOMETRY, folder / "geometry.py")
        for script in ("probes.py", "app.py"):
            shutil.copyfile(_SCRIPTS / f"deepstream_{script}", folder / script)
        shutil.copyfile(_SCRIPTS / "run_keypoints.py", folder / "run.py")

    return write


def config(contract: Contract) -> str:
    """The configuration of Gst-nvinfer as a secondary inference on people."""
    return f"""# Gst-nvinfer, secondary: keypoints of the people that the detector (gie-unique-id 1, class 0) found.
# The graph holds normalisation and decoding. nvinfer gives it BGR planes from 0 to 255.
[property]
gpu-id=0
gie-unique-id=2
process-mode=2
operate-on-gie-id=1
operate-on-class-ids=0
batch-size={_BATCH}
onnx-file=model.onnx
model-engine-file=model.engine
# 0: float32, as decoding needs it. ./build_engine.sh builds an engine with the types of the graph, which is then used.
network-mode=0
network-type=100
output-tensor-meta=1
output-blob-names={KEYPOINTS}
infer-dims=3;{contract.height};{contract.width}
model-color-format=1
net-scale-factor=1
maintain-aspect-ratio=0
scaling-filter=1
"""


def trtexec(contract: Contract, wanted: Wanted) -> str:
    """The command that builds `model.engine` on the machine that runs it."""
    shapes = [f"crops:{n}x3x{contract.height}x{contract.width}" for n in (1, _BATCH, _BATCH)]
    line = "trtexec --onnx=model.onnx --saveEngine=model.engine --stronglyTyped --noTF32"
    for name, shape in zip(("min", "opt", "max"), shapes, strict=True):
        line += f" --{name}Shapes={shape}"
    about = f"# The engine of the {wanted.artifact.name} graph, by TensorRT 10 or 11 on the GPU that runs it."
    return f'#!/bin/sh\n{about}\ncd "$(dirname "$0")" && {line}\n'
