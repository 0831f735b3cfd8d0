"""From the start of a process to its first keypoints, with an empty cache and with a warm one, and its peak memory.

python -m posert.benchmarks.startup hrnet_w32.pose --precision int8

Every figure is of a fresh process that does what an edge program does: import, open the bundle, look at a frame.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posert.benchmarks.harness.first import STAGES
from posert.benchmarks.harness.script import script


@script(goes_on=False)
def main() -> int:
    """Entry point; prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--precision", default="auto")
    parser.add_argument(
        "--people", default="1", help="comma list: people in the first frame, and in those after it (1)"
    )
    parser.add_argument("--threads", type=int, help="bound on CPU threads")
    parser.add_argument("--throughput", action="store_true", help="open the estimator for many frames")
    parser.add_argument("--rounds", type=int, default=5, help="processes with a warm cache; a third as many cold (5)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    asked = {k: v for k, v in vars(args).items() if k != "json"}
    result = measure(**asked | {"people": [int(n) for n in args.people.split(",")]})
    print(json.dumps(result) if args.json else "\n".join(_table(result)))
    return 0


def measure(
    bundle: str,
    backend: str,
    precision: str,
    people: Sequence[int],
    rounds: int,
    threads: int | None = None,
    throughput: bool = False,
) -> dict[str, Any]:
    """Start the processes; medians of the seconds by stage, the largest peak in MB, cold and warm."""
    asked = {"bundle": bundle, "people": list(people), "threads": threads, "throughput": throughput}
    job = {**asked, "backend": backend, "precision": precision}
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        cold = [_start(job, Path(folder, str(i))) for i in range(max(1, rounds // 3))]
        _start(job, Path(folder, "0"))  # files that were just written are in the page cache, libraries too
        warm = [_start(job, Path(folder, "0")) for _ in range(rounds)]
    return {**asked, "rounds": rounds, "engine": warm[0]["engine"], "cold": _median(cold), "warm": _median(warm)}


def _start(job: dict[str, Any], cache: Path) -> dict[str, Any]:
    environment = {**os.environ, "POSERT_CACHE": str(cache)}
    command = [sys.executable, "-c", "from posert.benchmarks.harness.first import work; work()", json.dumps(job)]
    done = subprocess.run([*command, repr(time.monotonic())], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the process that was to be timed failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: statistics.median(run[name] for run in runs) for name in (*STAGES, "cpu")}
    peaks = [run["peak_mb"] for run in runs if run["peak_mb"] is not None]
    return {**found, "slowest": max(run["total"] for run in runs), "peak_mb": max(peaks, default=None)}


def _table(result: dict[str, Any]) -> list[str]:
    people = ",".join(map(str, result["people"]))
    lines = [f"{result['bundle']}, {result['engine']}, {people} people, {result['rounds']} processes"]
    lines.append(f"{'':6}" + "".join(f"{name:>11}" for name in (*STAGES, "slowest", "cpu")) + f"{'peak':>11}")
    for kind in ("cold", "warm"):
        row = result[kind]
        seconds = "".join(f"{row[name]:9.2f} s" for name in (*STAGES, "slowest", "cpu"))
        peak = f"{row['peak_mb']:8.0f} MB" if row["peak_mb"] is not None else f"{'unknown':>11}"
        lines.append(f"{kind:6}{seconds}{peak}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
