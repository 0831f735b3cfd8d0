"""Frames as a run gives them: several people, nobody, one that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.pose.keypoints import Keypoints
from posert.runtime.results import FORMATS, FrameResult, Subject


def contract_of(name: str = "coco", **changes: Any) -> Contract:
    d = dataset(name)
    values = {"dataset": name, "keypoints": d.keypoints, "flip_pairs": d.flip_pairs, "skeleton": d.skeleton}
    sizes = {"width": 192, "height": 256, "heatmap_width": 48, "heatmap_height": 64}
    return Contract(**{**values, "sigmas": d.sigmas, **sizes, **changes})


def people(count: int, names: tuple[str, ...], seed: int = 0, ids: bool = True, detected: bool = True) -> Keypoints:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 400, (count, 2))
    return Keypoints(
        rng.uniform(-5, 645, (count, len(names), 2)).astype(np.float32),
        rng.uniform(0, 1, (count, len(names))).astype(np.float32),
        np.concatenate([corner, corner + 200], axis=1).astype(np.float32),
        names,
        np.arange(count, dtype=np.int64) + 10 * seed if ids else None,
        rng.uniform(0.3, 1, count).astype(np.float32) if detected else None,
    )


def results(subject: Subject, counts: tuple[int | None, ...] = (2, 0, 1, None, 3), **how: bool) -> list[FrameResult]:
    """One frame per count; None failed."""
    found = []
    for index, count in enumerate(counts):
        key = subject.keys[index] if subject.keys else index
        if count is None:
            found.append(FrameResult(index, key, None, error="cannot be read as an image"))
        else:
            found.append(FrameResult(index, key, people(count, subject.contract.keypoints, index, **how), 640, 480))
    return found


SUMMARY = {"frames": 4, "people": 6, "failed": [{"frame": 3, "error": "cannot be read as an image"}]}
VIDEO = Subject("films/walk.mp4", contract_of(), {"backend": "openvino", "precision": "int8"})
IMAGES = Subject("pictures", contract_of(), keys=tuple(f"{i:06d}.png" for i in (7, 8, 9, 10, 12)))


class Make:
    """What the tests here are made of."""

    VIDEO, IMAGES, SUMMARY = VIDEO, IMAGES, SUMMARY
    contract = staticmethod(contract_of)
    people = staticmethod(people)
    results = staticmethod(results)

    @staticmethod
    def write(name: str, path: Path, subject: Subject, frames: list[FrameResult] | None = None) -> list[FrameResult]:
        """Write a file of a format; the frames are those of `results`."""
        frames = results(subject) if frames is None else frames
        with FORMATS.load(name).open(path, subject) as writer:
            for frame in frames:
                writer.add(frame)
            writer.finish(SUMMARY)
        return frames


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make
