"""`posert verify`: the hash of every member of a bundle, then its golden crops on every backend installed here."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...errors import BackendError
from .. import options
from ..command import Command

if TYPE_CHECKING:
    from ...bundle.archive import Bundle
    from ...engines.engine_file import EngineFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_model(parser)
    options.add_sessions(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 if an output differs from the golden one, or a graph cannot run."""
    from ...accuracy.golden import check_session
    from ...backends import load_backend
    from ...selection import open_model, open_session

    with open_model(args.bundle) as bundle:
        bundle.check()
        golden = bundle.golden()
        rows: list[dict[str, Any]] = []
        for backend, precision in _pairs(bundle, args.backend, args.precision):
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
        passed = all(row["passed"] for row in rows)
        if args.json:
            print(json.dumps({"bundle": str(bundle.path), "members": "intact", "passed": passed, "rows": rows}))
        else:
            print(f"{bundle.path}: intact. Error of the outputs on {len(golden.crops)} golden crop(s):")
            for r in rows:
                print(f"  {r['backend']:12} {r['precision']:5} {_findings(r)}")
            print(_verdict(passed))
    return 0 if passed else 1


def _pairs(bundle: Bundle | EngineFile, names: list[str], precisions: list[str]) -> list[tuple[str, str]]:
    """Backends and precisions to check; PosertError if one asked for by name cannot run here, or nothing can."""
    from ...backends import usable_backends
    from ...engines.engine_file import EngineFile
    from ...selection import select

    every = options.ALL
    if isinstance(bundle, EngineFile):
        for name, precision in ((n, p) for n in names for p in precisions):
            select(bundle, *(options.AUTO if one == every else one for one in (name, precision)))
        return [(bundle.metadata.backend, bundle.metadata.precision)]
    if every not in names and every not in precisions:
        for name, precision in (pairs := [(n, p) for n in names for p in precisions]):
            select(bundle, name, precision)
        return pairs
    found = [
        (spec.name, precision)
        for spec in usable_backends()
        for precision, artifact in spec.runnable().items()
        if (every in names or spec.name in names) and (every in precisions or precision in precisions)
        if artifact in bundle.artifacts
    ]
    for name in names:
        for precision in precisions:
            if not any(name in (every, n) and precision in (every, p) for n, p in found):
                select(bundle, *(options.AUTO if one == every else one for one in (name, precision)))
                raise BackendError(f"{bundle.name} contains {', '.join(bundle.artifacts)}; none of these can run here")
    return found


def _findings(r: dict[str, Any]) -> str:
    if "reason" in r:
        return f"cannot run: {r['reason']}"
    if r["error"] is None:
        return "gives NaN or infinity: DIFFERS"
    return (
        f"{r['error']:8.5f} (bound {r['bound']:.5f}), joints moved by up to {r['drift']:.2f} px of the crop, "
        f"load {r['load_ms']:.0f} ms, run {r['ms']:.1f} ms: {'ok' if r['passed'] else 'DIFFERS'}"
    )


def _verdict(passed: bool) -> str:
    if passed:
        return "This machine reproduces the results of the build."
    return (
        "This machine does NOT reproduce the results of the build: update the backend's library (posert inspect shows "
        "the versions the bundle was built with), or choose a row that is ok with --backend and --precision."
    )


COMMAND = Command("Check a bundle's integrity and its golden results on this machine", "check", add_arguments, run)
