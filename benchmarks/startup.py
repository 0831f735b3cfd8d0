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

from posert.benchmarks.harness.memory import peak_mb
from posert.benchmarks.harness.script import script

STAGES = ("python", "import", "libraries", "open", "first", "total")
"""The interpreter and this file; posert.runtime with numpy; OpenCV and the backend's library; the bundle and its
engine; the first frame; all of it."""


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
    command = [sys.executable, "-c", "from posert.benchmarks.startup import work; work()", json.dumps(job)]
    done = subprocess.run([*command, repr(time.monotonic())], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the process that was to be timed failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def work() -> None:
    """What the fresh process does; prints the seconds of each stage, which sum up to `total`."""
    job, start = json.loads(sys.argv[1]), float(sys.argv[2])
    laps, cpu = [time.monotonic()], time.process_time
    import numpy as np

    from posert.runtime import PoseEstimator
    from posert.runtime.backends import load_backend

    laps.append(time.monotonic())
    import cv2  # noqa: F401

    load_backend(job["backend"])
    laps.append(time.monotonic())
    pose = PoseEstimator(
        job["bundle"],
        backend=job["backend"],
        precision=job["precision"],
        threads=job["threads"],
        throughput=job["throughput"],
    )
    laps.append(time.monotonic())
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    boxes = [[200.0 * (i % 9) + 10, 100, 200 * (i % 9) + 200, 900] for i in range(99)]
    counts = job["people"]
    pose(frame, boxes[: counts[0]])
    laps.append(time.monotonic())
    used = cpu()
    later = [(frame, boxes[:n]) for n in counts[1:] * 4]  # for the peak alone
    for _ in pose.stream(later) if job["throughput"] else (pose(*pair) for pair in later):
        pass
    seconds = [b - a for a, b in zip([start, *laps], laps, strict=False)]
    found: dict[str, Any] = dict(zip(STAGES, [*seconds, laps[-1] - start], strict=True))
    found |= {"cpu": used, "peak_mb": peak_mb(), "engine": f"{pose.choice.backend} {pose.choice.precision}"}
    print(json.dumps(found))


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
