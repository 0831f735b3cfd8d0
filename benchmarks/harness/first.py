"""What `startup` times: a fresh process up to its first keypoints. Nothing but the standard library is imported before
the clock of the first stage has stopped."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ...runtime.bench.memory import peak_mb

STAGES = ("python", "import", "libraries", "open", "first", "total")
"""The interpreter and this file; posert.runtime with numpy; OpenCV and the backend's library; the bundle and its
engine; the first frame; all of it."""


def work() -> None:
    """What the fresh process does; prints the seconds of each stage, which sum up to `total`."""
    job, start = json.loads(sys.argv[1]), float(sys.argv[2])
    laps, cpu = [time.monotonic()], time.process_time
    import numpy as np

    from ...runtime import PoseEstimator
    from ...runtime.backends import load_backend

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
