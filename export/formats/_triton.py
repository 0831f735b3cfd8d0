"""What the format `triton` writes: a model for each of Triton's backends."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.bundle.archive import Bundle
from ...runtime.engines.engine_file import EngineFile
from ...runtime.errors import InputError
from ...runtime.selection import graph_verdict
from ...runtime.serving.model_config import CROPS, METADATA, ModelFacts, Name, type_of, warmup
from ...runtime.serving.repository import batching, golden_frame, model_name, write_config, write_frames_model
from . import Write
from ._golden import make_golden
from ._graph import (
    HEATMAPS,
    KEYPOINTS,
    Wanted,
    described_input,
    described_outputs,
    make_graph,
    onnx_artifact,
    sidecar,
    wanted_graph,
)

_SCRIPTS = Path(__file__).with_name("scripts")
MAX_CROPS = 8
"""Of one batch, except where an engine has a limit of its own: larger ones cost a person as much, see `batching`."""


def plan_repository(bundle: Bundle, args: argparse.Namespace) -> Write:
    """The work for the options of the format; see `Format.plan`."""
    name = model_name(bundle.path)
    if args.engines and args.backend != "tensorrt":
        raise InputError(f"--engines is for --backend tensorrt, not {args.backend}")
    if args.backend == "tensorrt":
        return _plan_engines(bundle, args, name)
    if args.backend == "python":
        return _plan_frames(bundle, args, name)
    artifact = onnx_artifact(bundle, args.precision or "fp32")
    if artifact.name == "int8_gpu":
        raise InputError("int8_gpu is the int8 graph for TensorRT: --precision int8, or --backend tensorrt")
    given = {"precision": artifact.name, "input": "uint8", "output_kind": args.output_kind or KEYPOINTS}
    wanted = wanted_graph(bundle, argparse.Namespace(**given))
    if args.backend == "openvino":
        import openvino  # noqa: F401  # before any work

    def write(folder: Path) -> None:
        model = make_graph(bundle, wanted)
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        if args.backend == "openvino":
            import openvino

            graph = openvino.Core().read_model(model.SerializeToString())
            openvino.save_model(graph, version / "model.xml", compress_to_fp16=False)
        else:
            (version / "model.onnx").write_bytes(model.SerializeToString())
        verdict = graph_verdict(bundle, artifact.name)
        _write_crops_model(folder, bundle, wanted, args.backend, verdict, args.queue_delay, {})
        (folder / "models" / name / "contract.json").write_text(json.dumps(sidecar(bundle, wanted), indent=1))
        np.savez_compressed(folder / "golden.npz", **make_golden(bundle, wanted, model))
        kind = "keypoints" if wanted.output == KEYPOINTS else "heatmaps"
        shutil.copyfile(_SCRIPTS / f"run_{kind}.py", folder / "run.py")
        _add_scripts(folder, wanted.output)

    return write


def _plan_engines(bundle: Bundle, args: argparse.Namespace, name: str) -> Write:
    """Plans of TensorRT, which give heatmaps, as `posert compile` builds them; one file for each kind of GPU."""
    if args.output_kind == KEYPOINTS:
        raise InputError("engines give heatmaps, which the client decodes: leave --output-kind out")
    if not args.engines:
        line = f"posert compile {bundle.path} --backend tensorrt --output engines, on each kind of GPU"
        raise InputError(f"--backend tensorrt needs --engines FILE ...: build them there ({line})")
    engines = [EngineFile(path) for path in args.engines]
    plans: dict[str, EngineFile] = {}
    for engine in engines:
        built = engine.metadata
        if built.backend != "tensorrt":
            raise InputError(f"{engine.path} is of {built.backend}; Triton's TensorRT backend runs plans of tensorrt")
        if engine.contract != bundle.contract or next(iter(engine.artifacts.values())) not in bundle.artifacts.values():
            raise InputError(f"{engine.path} was not built from {bundle.path}: build it again, posert compile")
        for architecture in built.architectures:
            capability = compute_capability(architecture)
            if capability in plans:
                raise InputError(f"{plans[capability].path} and {engine.path} are both for {architecture}: give one")
            plans[capability] = engine
    precisions = {engine.metadata.precision for engine in engines}
    if len(precisions) > 1 or (args.precision and {args.precision} != precisions):
        raise InputError(f"the engines are in {', '.join(sorted(precisions))}: give engines of one precision")
    (artifact,) = engines[0].artifacts.values()
    most = min(max(profile[2] for profile in engine.metadata.batch) for engine in engines)
    wanted = Wanted(artifact, "uint8", HEATMAPS)

    def write(folder: Path) -> None:
        version = folder / "models" / name / "1"
        version.mkdir(parents=True)
        names = {capability: f"model_sm{capability.replace('.', '')}.plan" for capability in plans}
        for capability, engine in plans.items():
            (version / names[capability]).write_bytes(engine.read().plan)
        more = {
            "max_batch_size": most,
            "default_model_filename": next(iter(names.values())),
            "cc_model_filenames": [{"key": key, "value": value} for key, value in names.items()],
        }
        verdicts = {engine.verdict for engine in engines}
        verdict = verdicts.pop() if len(verdicts) == 1 else "unproven"
        _write_crops_model(folder, bundle, wanted, "tensorrt", verdict, args.queue_delay, more)
        (folder / "models" / name / "contract.json").write_text(json.dumps(sidecar(bundle, wanted), indent=1))
        np.savez_compressed(folder / "golden.npz", **make_golden(bundle, wanted, make_graph(bundle, wanted)))
        _add_scripts(folder, HEATMAPS)

    return write


def _plan_frames(bundle: Bundle, args: argparse.Namespace, name: str) -> Write:
    if args.output_kind == HEATMAPS:
        raise InputError("the python backend gives keypoints: leave --output-kind out")
    precision = args.precision or "auto"
    held = [one for one in ("fp32", "fp16", "int8") if one in bundle.artifacts]
    if precision not in ("auto", *held):
        raise InputError(f"{bundle.name} has {', '.join(held)}, not {precision!r}")

    def write(folder: Path) -> None:
        write_frames_model(
            folder / "models" / name, bundle, name=name, precision=precision, queue_delay=args.queue_delay
        )
        allowed: dict[str, Any] = {}
        for one in held if precision == "auto" else [precision]:  # what may run there decides how far joints may be off
            wanted = Wanted(bundle.artifacts[one], "uint8", HEATMAPS)
            found = make_golden(bundle, wanted, make_graph(bundle, wanted))
            if not allowed or found["tolerance"] > allowed["tolerance"]:
                allowed = found
        frame, boxes = golden_frame(bundle.golden().crops[0], bundle.contract)
        arrays = {key: allowed[key][:1] for key in ("keypoints", "sure")}
        np.savez_compressed(
            folder / "golden.npz", frame=frame[None], boxes=boxes[None], tolerance=allowed["tolerance"], **arrays
        )
        _add_scripts(folder, KEYPOINTS)

    return write


def _write_crops_model(
    folder: Path, bundle: Bundle, wanted: Wanted, backend: str, verdict: str, queue_delay: int, more: dict[str, Any]
) -> None:
    """`config.pbtxt` and the warm-up of a model that takes what the network takes."""
    c, name = bundle.contract, model_name(bundle.path)
    given, outputs = described_input(c, wanted.input), described_outputs(c, wanted.output)
    most = int(more.get("max_batch_size", MAX_CROPS))
    names = tuple(output["name"] for output in outputs)
    facts = ModelFacts(c, CROPS, wanted.output, verdict, most, given, names)
    crop = bundle.golden().crops[0]
    config: dict[str, Any] = {
        "name": name,
        "backend": backend,
        "max_batch_size": most,
        "input": [_tensor(given)],
        "output": [_tensor(output) for output in outputs],
        "dynamic_batching": batching(queue_delay, most),
        "model_warmup": [warmup("golden", {given["name"]: crop})],
        "parameters": [{"key": METADATA, "value": {"string_value": facts.parameter()}}],
    }
    write_config(folder / "models" / name, {**config, **more}, {f"golden.{given['name']}": crop})


def _tensor(described: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": described["name"],
        "data_type": Name(type_of(described["type"])),
        "dims": [int(n) for n in described["shape"][1:]],
    }


def compute_capability(architecture: str) -> str:
    """ "8.9" for "sm89", as Triton writes it. Raises InputError: something else, such as the name of one GPU."""
    digits = architecture.removeprefix("sm")
    if not (architecture.startswith("sm") and digits.isdigit() and len(digits) >= 2):
        raise InputError(f"{architecture!r} is no compute capability such as sm89: build the engine anew")
    return f"{digits[:-1]}.{digits[-1]}"


def _add_scripts(folder: Path, output: str) -> None:
    for script in ("smoke.py" if output == KEYPOINTS else "smoke_heatmaps.py", "client.py"):
        shutil.copyfile(_SCRIPTS / f"triton_{script}", folder / script.replace("smoke_heatmaps", "smoke"))
