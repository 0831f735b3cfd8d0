"""`posert verify`: whose a bundle is, the hash of every member, then its golden crops on every backend installed here.

TorchScript is a program, and to verify a bundle that came from elsewhere must not run it: it is run only where its
backend is asked for by name.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...errors import BackendError, BundleError, CatalogError, InputError
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bundle.archive import Bundle
    from ...engines.engine_file import EngineFile


_PROGRAM = "TorchScript is a program; if you trust who made the bundle, run it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_model(parser)
    key = "public key, or its file, that must have signed the bundle (default: POSERT_TRUSTED_KEYS, if that is set)"
    parser.add_argument("--key", metavar="KEY", help=key)
    options.add_sessions(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if an output differs from the golden one, or a graph cannot run."""
    from ...accuracy.golden import check_session
    from ...backends import load_backend
    from ...bundle.signature import PublicKey
    from ...selection import open_model, open_session

    signed_by = PublicKey.read(args.key).id if args.key else None
    with open_model(args.bundle, trusted_keys=[args.key] if args.key else None) as bundle:
        bundle.check()
        golden = bundle.golden()
        rows: list[dict[str, Any]] = []
        pairs, programs = _pairs(bundle, args.backend, args.precision)
        for backend, precision in pairs:
            row: dict[str, Any] = {"backend": backend, "precision": precision}
            try:
                start = time.perf_counter()
                session = open_session(bundle, backend, precision, args.threads)
                load_ms = 1e3 * (time.perf_counter() - start)
                artifact = bundle.artifacts[load_backend(backend).precisions[precision]]
                check = check_session(session, artifact, golden, bundle.contract, precision)
                rows.append({**row, **asdict(check), "load_ms": load_ms})
            except BackendError as failure:  # the others may pass
                rows.append({**row, "passed": False, "reason": str(failure)})
            except CatalogError as error:  # a decode rule that there is not here
                raise BundleError(f"{bundle.path}: {error}") from error
            except InputError as error:
                raise BundleError(f"{bundle.path}: its golden outputs do not fit its contract: {error}") from error
        passed = all(row["passed"] for row in rows)
        if args.json:
            skipped = [{"backend": name, "reason": _PROGRAM} for name in programs]
            result = {"bundle": str(bundle.path), "members": "intact", "passed": passed, "rows": rows}
            print(json.dumps({**result, "skipped": skipped, "signed_by": signed_by}))
        else:
            if signed_by:
                print(f"{bundle.path}: signed by the key {signed_by}.")
            print(f"{bundle.path}: intact. Error of the outputs on {len(golden.crops)} golden crop(s):")
            for r in rows:
                print(f"  {r['backend']:12} {r['precision']:5} {_findings(r)}")
            for name in programs:
                print(f"  {name:18} not run: {_PROGRAM}, with --backend {name}")
            print(_verdict(rows))
    return 0 if passed else 1


def _pairs(
    bundle: Bundle | EngineFile, names: list[str], precisions: list[str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Backends and precisions to check, and the backends left out because they would run a program of the bundle.

    Raises PosertError: one asked for by name cannot run here, or nothing can.
    """
    from ...backends import usable_backends
    from ...engines.engine_file import EngineFile
    from ...selection import select

    every = options.ALL
    if isinstance(bundle, EngineFile):
        for name, precision in ((n, p) for n in names for p in precisions):
            select(bundle, *(options.AUTO if one == every else one for one in (name, precision)))
        return [(bundle.metadata.backend, bundle.metadata.precision)], []
    if every not in names and every not in precisions:
        for name, precision in (pairs := [(n, p) for n in names for p in precisions]):
            select(bundle, name, precision)
        return pairs, []
    found = [
        (spec.name, precision, artifact)
        for spec in usable_backends()
        for precision, artifact in spec.runnable().items()
        if (every in names or spec.name in names) and (every in precisions or precision in precisions)
        if artifact in bundle.artifacts
    ]
    for name in names:
        for precision in precisions:
            if not any(name in (every, n) and precision in (every, p) for n, p, _ in found):
                select(bundle, *(options.AUTO if one == every else one for one in (name, precision)))
                raise BackendError(f"{bundle.path} contains {', '.join(bundle.artifacts)}; none of these can run here")
    programs = [n for n, _, artifact in found if bundle.artifacts[artifact].format == "torchscript" and n not in names]
    pairs = [(n, p) for n, p, _ in found if n not in programs]
    if not pairs:
        raise BackendError(f"only {' and '.join(programs)} can run here: {_PROGRAM}, with --backend {programs[0]}")
    return pairs, programs


def _findings(r: dict[str, Any]) -> str:
    if "reason" in r:
        return f"cannot run: {r['reason']}"
    if r["error"] is None:
        return "gives NaN or infinity: DIFFERS"
    return (
        f"{r['error']:8.5f} (bound {r['bound']:.5f}), joints moved by up to {r['drift']:.2f} px of the crop, "
        f"load {r['load_ms']:.0f} ms, run {r['ms']:.1f} ms: {'ok' if r['passed'] else 'DIFFERS'}"
    )


def _verdict(rows: list[dict[str, Any]]) -> str:
    if all(row["passed"] for row in rows):
        return "This machine reproduces the results of the build."
    if all("reason" in row for row in rows):
        return "Nothing was compared: no row can run on this machine, for the reasons above."
    return (
        "This machine does NOT reproduce the results of the build: update the backend's library (posert inspect shows "
        "the versions the bundle was built with), or choose a row that is ok with --backend and --precision."
    )


COMMAND = Command("Check a bundle's integrity and its golden results on this machine", "check", add_arguments, run)
