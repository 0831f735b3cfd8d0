"""`posert verify BUNDLE`: check every member's hash, then the golden crops on every backend that can run here."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import Any

from ...accuracy.golden import check_session
from ...backends import load_backend, usable_backends
from ...bundle.archive import Bundle
from ...errors import BackendError
from ...selection import open_session, select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("bundle", help="a .pose file")
    parser.add_argument("--backend", default="all", help="one backend instead of all that are installed")
    parser.add_argument("--precision", default="all", help="one precision instead of all that the bundle holds")
    parser.add_argument("--threads", type=int, help="bound on CPU threads")


def main(args: argparse.Namespace) -> int:
    """Returns 1 if any artifact's result moved, or an artifact could not be run."""
    with Bundle(args.bundle) as bundle:
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
            except BackendError as failure:  # the other rows are still measured
                rows.append({**row, "passed": False, "reason": str(failure)})
        passed = all(row["passed"] for row in rows)
        if args.json:
            print(json.dumps({"bundle": str(bundle.path), "members": "intact", "passed": passed, "rows": rows}))
        else:
            print(f"{bundle.path}: all members intact. {len(golden.crops)} golden crop(s), error of the heatmaps:")
            for r in rows:
                print(f"  {r['backend']:12} {r['precision']:5} {_findings(r)}")
            print(_verdict(passed))
    return 0 if passed else 1


def _pairs(bundle: Bundle, backend: str, precision: str) -> list[tuple[str, str]]:
    if backend != "all" and precision != "all":
        select(bundle, backend, precision)
        return [(backend, precision)]
    found = []
    for spec in usable_backends():
        if backend in ("all", spec.name):
            found += [
                (spec.name, p)
                for p, artifact in spec.runnable().items()
                if artifact in bundle.artifacts and precision in ("all", p)
            ]
    if not found:
        select(bundle, "auto" if backend == "all" else backend, "auto" if precision == "all" else precision)
        raise BackendError(f"{bundle.name} has the graphs {', '.join(bundle.artifacts)}: none of them can run here")
    return found


def _findings(r: dict[str, Any]) -> str:
    if "reason" in r:
        return f"cannot run: {r['reason']}"
    if r["error"] is None:
        return "gives NaN or infinity: MOVED"
    return (
        f"{r['error']:8.5f} (bound {r['bound']:.5f}), joints moved by at most {r['drift']:.2f} px of the crop, "
        f"load {r['load_ms']:.0f} ms, run {r['ms']:.1f} ms: {'ok' if r['passed'] else 'MOVED'}"
    )


def _verdict(passed: bool) -> str:
    if passed:
        return "This machine gives the trained result."
    return (
        "This machine does NOT give the trained result: update the backend's library (posert inspect shows the "
        "versions the bundle was built with), or use a row that is ok with --backend and --precision."
    )
