"""`posert compile`: build TensorRT and TensorRT-RTX engines before their first use, or for another machine."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...system.files import cache_folder
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...engines.builder import Options, Progress

BACKENDS = ("tensorrt_rtx", "tensorrt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    options.add_bundle(parser)
    backend = f"library that runs the engines (default: {BACKENDS[0]})"
    add("--backend", choices=BACKENDS, default=BACKENDS[0], help=backend)
    precisions = "fp32, bf16, fp16, int8 (default: fp16)"
    add("--precision", type=options.comma_list, default=["fp16"], metavar="NAME,...", help=precisions)
    batch = "optimization profiles: people per batch, smallest, typical and largest (default: 1:8:32)"
    add("--batch", default="1:8:32", metavar="MIN:OPT:MAX,...", help=batch)
    output = "folder for the engines, each with a .json that says what it is (default: posert's cache)"
    add("--output", type=Path, metavar="DIR", help=output)
    add("--workspace", metavar="SIZE", help="limit of scratch memory per engine, such as 512M or 2G")
    rtx = parser.add_argument_group("tensorrt_rtx, which builds without a GPU")
    target = "GPUs by compute capability, sm75 to sm121 (default: Ampere and later)"
    rtx.add_argument("--target", metavar="SM,...", help=target)
    full = parser.add_argument_group("tensorrt, which builds for the GPU of this machine")
    compatibility = "also run on other GPUs, more slowly: ampere_plus or same_compute_capability (default: none)"
    full.add_argument("--compatibility", default="none", metavar="NAME", help=compatibility)
    full.add_argument("--version-compatible", action="store_true", help="also run on later releases, more slowly")
    full.add_argument("--timing-cache", type=Path, metavar="FILE", help="read and extended (default: in the cache)")


def run(args: argparse.Namespace) -> int:
    """Build one engine per precision and write it."""
    from ...backends import load_backend
    from ...bundle.archive import Bundle
    from ...compilation import check_precision, compile_engine
    from ...engines.builder import memory_needed
    from ...engines.sidecar import write_engine

    built = []
    with Bundle(args.bundle) as bundle:
        settings = _settings(args)
        spec = load_backend(args.backend)  # last: wrong arguments are reported without the library too
        for precision in args.precision:
            check_precision(bundle, spec, precision)
        for precision in args.precision:
            size = bundle.artifacts[spec.precisions[precision]].bytes
            needed = memory_needed(spec.import_library(), size) / 1e9
            print(f"{bundle.name} {precision}: building needs about {needed:.1f} GB of memory", file=sys.stderr)
            start = time.perf_counter()
            engine = compile_engine(
                bundle,
                spec,
                precision,
                settings,
                timing_cache=args.timing_cache,
                progress=_progress(f"{bundle.name} {precision}"),
            )
            m = engine.metadata
            if args.output:
                path = args.output / m.name_beside(args.bundle.stem)
            else:  # the cache has the bundle for the rest
                path, engine = cache_folder() / m.file_name, replace(engine, origin=None)
            write_engine(path, engine)
            row = {"file": str(path), "precision": precision, "backend": args.backend, "version": m.version}
            row |= {"devices": list(m.devices), "batch": [":".join(map(str, b)) for b in m.batch]}
            row |= {"bytes": len(engine.plan), "timing_cache": m.timing_cache}
            built.append(row | {"seconds": round(time.perf_counter() - start, 2), "layers": m.layers})
    if args.json:
        print(json.dumps({"engines": built}))
        return 0
    print("\n".join(map(_line, built)))
    if args.output:
        print("Copy each with its .json; `posert run` and `PoseEstimator` take it as they take a bundle.")
    else:
        print("posert uses them on this machine from now on.")
    return 0


def _settings(args: argparse.Namespace) -> Options:
    from ...compilation import parse_targets
    from ...engines.builder import Options

    try:
        ranges = [tuple(int(n) for n in part.split(":")) for part in args.batch.split(",")]
    except ValueError:
        expected = "MIN:OPT:MAX such as 1:8:32, or a comma list of these"
        raise InputError(f"--batch {args.batch}: expected {expected}") from None
    return Options(
        batch=tuple(3 * b if len(b) == 1 else b for b in ranges),  # type: ignore[misc]  # Options checks: three each
        workspace=_bytes(args.workspace) if args.workspace else None,
        targets=parse_targets(args.target),
        compatibility=args.compatibility,
        version_compatible=args.version_compatible,
    )


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)([KMG]?)i?B?", text, re.IGNORECASE)
    if not match:
        raise InputError(f"--workspace {text}: expected a size such as 512M or 2G")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()]


def _progress(title: str) -> Progress | None:
    if not sys.stderr.isatty():
        return None

    def show(phase: str, step: int, steps: int) -> None:
        end = "\n" if step == steps else ""
        print(f"\r\033[K{title}: {phase} {step}/{steps}", end=end, file=sys.stderr, flush=True)

    return show


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['file']}\n  {row['precision']} for {', '.join(row['devices'])}, batch {', '.join(row['batch'])}, "
        f"{row['bytes'] / 1e6:.1f} MB in {row['seconds']:.1f} s, {row['backend']} {row['version']}"
    )


COMMAND = Command("Compile TensorRT engines ahead of time", "deploy", add_arguments, run)
