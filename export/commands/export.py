"""`posert export FORMAT BUNDLE --output DIR`: a bundle's network for other programs; see `posert.export.formats`."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

from ...runtime.cli import options
from ...runtime.cli.command import Command
from ...runtime.errors import InputError, naming
from ...runtime.registry import unknown_name
from ..formats import FORMATS, Format


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("format", help=", ".join(FORMATS.names()))
    options.add_bundle(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the files")


def run(args: argparse.Namespace) -> int:
    """A format that is known has a command of its own, `posert export FORMAT`; what comes here is none."""
    raise InputError(unknown_name("format", args.format, FORMATS.names()))


def _add_arguments(spec: Format, parser: argparse.ArgumentParser) -> None:
    options.add_bundle(parser)
    output = "folder for the files: a new one, or one that posert export wrote"
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help=output)
    spec.add_arguments(parser)


def _run(spec: Format, args: argparse.Namespace) -> int:
    from ...runtime.bundle.archive import Bundle
    from ..output_folder import check_folder, new_folder

    with Bundle(args.bundle) as bundle, naming(args.bundle):
        write = spec.plan(bundle, args)
        check_folder(args.output)
        about = {"format": spec.name, "bundle": bundle.name}
        with new_folder(args.output, about) as folder:
            write(folder)
    files = sorted(str(path.relative_to(args.output)) for path in args.output.rglob("*") if path.is_file())
    if args.json:
        print(json.dumps({"format": spec.name, "output": str(args.output), "files": files}))
    else:
        print("\n".join(f"{args.output / file}" for file in files))
    return 0


def _command(spec: Format) -> Command:
    return Command(spec.summary, "deploy", partial(_add_arguments, spec), partial(_run, spec), "export")


COMMAND = Command(
    "Write a network for other programs: ONNX, TorchScript, engines",
    "deploy",
    add_arguments,
    run,
    "export",
    subcommands={name: _command(spec) for name, spec in FORMATS.specs().items()},
)
