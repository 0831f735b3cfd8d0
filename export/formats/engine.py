"""TensorRT engines as the library wrote them, each with its sidecar: for trtexec, Triton, DeepStream, and posert."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import Format, Write

if TYPE_CHECKING:
    from ...runtime.bundle.archive import Bundle


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    from ...runtime.cli import options

    add = parser.add_argument
    add(
        "--precision",
        type=options.comma_list,
        default=["fp16"],
        metavar="NAME,...",
        help="fp32, fp16, int8 (default: fp16)",
    )
    library = "tensorrt, tensorrt_rtx (default: the first that is installed and can build here)"
    add("--engine", choices=("auto", "tensorrt", "tensorrt_rtx"), default="auto", help=library)
    target = "GPUs to build for without having them, such as sm86,sm89: TensorRT-RTX (default: this machine's GPU)"
    add("--target", metavar="SM,...", help=target)


def _plan(bundle: Bundle, args: argparse.Namespace) -> Write:
    from ...runtime.backends import load_backend
    from ...runtime.compilation import check_precision, compile_engine, parse_targets
    from ...runtime.engines.builder import Options
    from ...runtime.engines.sidecar import write_engine
    from ...runtime.errors import BackendError
    from ..builder.engine_plan import plan_engines

    plan = plan_engines(args.engine, parse_targets(args.target), tuple(args.precision), bundle.path)
    if not plan.backend:
        raise BackendError(plan.note)
    spec = load_backend(plan.backend)
    for precision in plan.precisions:
        check_precision(bundle, spec, precision)

    def write(folder: Path) -> None:
        for precision in plan.precisions:
            for target in plan.targets or ("",):
                options = Options(targets=(target,) if target else ())
                engine = compile_engine(bundle, spec, precision, options)
                write_engine(folder / engine.metadata.name_beside(bundle.path.stem), engine)

    return write


FORMAT = Format("engine", "Write TensorRT engines as the library wrote them", _add_arguments, _plan)
