"""`posert serve BUNDLE`: Triton Inference Server with the bundle as its one model."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ...errors import InputError, ServerError
from .. import options
from ..command import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    options.add_bundle(parser)
    options.add_session(parser, threads=False)
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine alone)")
    add("--port", type=options.positive, default=8000, metavar="N", help="for HTTP (default: 8000)")
    add("--queue-delay", type=options.positive, default=0, metavar="MS", help=options.QUEUE_DELAY)
    add("--grpc-port", type=options.positive, default=8001, metavar="N", help="for gRPC (default: 8001)")


def run(args: argparse.Namespace) -> int:
    """Serve until the process is told to stop."""
    from ...bundle.archive import Bundle
    from ...selection import select
    from ...serving.repository import model_name, write_frames_model
    from ...serving.server import Server, find_server
    from ...system.files import TemporaryFolder

    if args.port == args.grpc_port:
        raise InputError(f"--port and --grpc-port are both {args.port}: give two ports")
    find_server()
    name = model_name(args.bundle)
    with TemporaryFolder("serve") as folder:
        with Bundle(args.bundle) as bundle:
            chosen = select(bundle, args.backend, args.precision)
            given = {"backend": chosen.backend, "precision": chosen.precision}
            write_frames_model(Path(folder) / name, bundle, name=name, queue_delay=args.queue_delay, **given)
        with Server(folder, host=args.host, http_port=args.port, grpc_port=args.grpc_port) as server:
            at = {"http": f"{args.host}:{args.port}", "grpc": f"{args.host}:{args.grpc_port}"}
            if args.json:
                print(json.dumps({"model": name, **at, "backend": chosen.backend, "precision": chosen.precision}))
            else:
                print(f"{name}, {chosen.backend} {chosen.precision}: http {at['http']}, grpc {at['grpc']}")
            sys.stdout.flush()
            status = server.wait()
            raise ServerError(f"Triton ended with status {status}. It said:\n{server.tail()}")


COMMAND = Command("Serve a bundle with Triton Inference Server", "deploy", add_arguments, run, "triton")
