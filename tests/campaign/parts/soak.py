"""Frames without end, of changing sizes and people, with errors in between: memory, files and threads stay level."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from posert.runtime.errors import PosertError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.system.memory import resident_mb, trim_heap
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run

_FRAMES = 1000  # in a case; all cases of a run use one estimator
_SETTLED = 10  # the case, at frame 10,000, from which nothing may grow
_SHARE = 1.02


def _used() -> dict[str, float]:
    trim_heap()
    return {
        "memory": resident_mb(os.getpid()) or 0.0,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def open_part(folder: Path) -> Run:
    estimators = [PoseEstimator(material.bundle(folder), backend=name) for name in ("openvino", "onnxruntime")]
    frames = [
        material.frame(i, width, height)
        for i, (width, height) in enumerate(((100, 110), (640, 480), (33, 400), (1280, 720)))
    ]
    known = [[e(frame, material.BOXES[:1]) for frame in frames[:2]] for e in estimators]
    settled: dict[str, float] = {}
    done = 0

    def run(case: Case) -> str:
        nonlocal done
        rng = case.rng

        def some() -> Iterator[tuple[object, object]]:
            for _ in range(50):
                frame = frames[int(rng.integers(len(frames)))]
                start = rng.uniform(0, 20, (int(rng.integers(0, 12)), 2))
                yield frame, np.concatenate([start, start + rng.uniform(5, 60, start.shape)], axis=1)
            if rng.random() < 0.5:
                yield None, None

        for number in range(_FRAMES // 50):
            estimator = estimators[number % 2]
            try:
                for i, _ in enumerate(estimator.stream(some())):  # type: ignore[arg-type]
                    if i > 40 and rng.random() < 0.02:
                        break
            except PosertError:
                pass
        for estimator, right in zip(estimators, known, strict=True):
            if not all(
                material.same(estimator(f, material.BOXES[:1]), r) for f, r in zip(frames[:2], right, strict=True)
            ):
                raise Defect("other joints in silence", f"after {done} frames")
        done += _FRAMES
        used = _used()
        case.done.append(f"frame {done}: {used}")
        if done == _SETTLED * _FRAMES:
            settled.update(used)
        for name, before in settled.items():
            if used[name] > before * _SHARE:
                raise Defect(f"{name} grow", f"{before:.0f} at frame {_SETTLED * _FRAMES}, {used[name]:.0f} at {done}")
        return "level" if settled else "before frame 10,000"

    return run


PART = Part("soak", "100,000 frames of changing sizes and people, errors in between", 100, 2, open_part, limit_s=300)
