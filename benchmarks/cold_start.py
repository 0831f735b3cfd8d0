"""From the start of a process to its first keypoints, with an empty cache and with a warm one.

`first_keypoints` is what the fresh process does. Nothing but the standard library is imported before its clock runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STAGES = ("python", "import", "libraries", "open", "first")
"""The interpreter and this file; posert.runtime with numpy; OpenCV and the backend's library; the bundle and its
engine; the first frame."""

_COMMAND = "from posert.benchmarks.cold_start import first_keypoints; first_keypoints()"


def measure(bundle: str, backend: str, precision: str, people: int, rounds: int = 5) -> dict[str, dict[str, Any]]:
    """Medians of the seconds by stage, in "total" and of "cpu", and the largest peak in MB; of "cold" and "warm"."""
    job = json.dumps({"bundle": bundle, "backend": backend, "precision": precision, "people": people})
    with tempfile.TemporaryDirectory(prefix="posert-") as folder:
        cold = [_start(job, Path(folder, str(i))) for i in range(max(1, rounds // 3))]
        _start(job, Path(folder, "0"))  # so that what was just written is in the page cache
        warm = [_start(job, Path(folder, "0")) for _ in range(rounds)]
    return {"cold": _medians(cold), "warm": _medians(warm)}


def _start(job: str, cache: Path) -> Any:
    env = {**os.environ, "POSERT_CACHE": str(cache)}
    command = [sys.executable, "-c", _COMMAND, job, repr(time.monotonic())]
    return json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {name: statistics.median(run[name] for run in runs) for name in (*STAGES, "total", "cpu")}
    return {**found, "peak_mb": max(run["peak_mb"] for run in runs)}


def first_keypoints() -> None:
    """Print the seconds of each stage as JSON, measured from the moment the parent started this process."""
    job, begin = json.loads(sys.argv[1]), float(sys.argv[2])
    laps = [begin, time.monotonic()]
    import numpy as np

    from ..runtime import PoseEstimator
    from ..runtime.backends import load_backend

    laps.append(time.monotonic())
    import cv2  # noqa: F401

    load_backend(job["backend"])
    laps.append(time.monotonic())
    pose = PoseEstimator(job["bundle"], backend=job["backend"], precision=job["precision"])
    laps.append(time.monotonic())
    frame = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8)
    pose(frame, [[200.0 * (i % 9) + 10, 100, 200 * (i % 9) + 200, 900] for i in range(job["people"])])
    laps.append(time.monotonic())
    found: dict[str, float] = {name: b - a for name, a, b in zip(STAGES, laps, laps[1:], strict=False)}
    from ..runtime.system.memory import peak_mb

    print(json.dumps({**found, "total": laps[-1] - begin, "cpu": time.process_time(), "peak_mb": peak_mb() or 0.0}))
