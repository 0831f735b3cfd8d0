"""Sources of all kinds, and `posert annotate` on them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.runtime.cli.main import main
from posert.runtime.system.machine import processors

FPS = 20.0


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Frames `(96, 128, 3)` that a codec keeps apart."""
    rng = np.random.default_rng(seed)
    return [cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (128, 96)) for _ in range(count)]


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (128, 96))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def write_images(folder: Path, frames: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{i:03d}.png"), frame)
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Five images of which one is damaged, a video of seven frames, and a tar file of three images and their labels."""
    root = tmp_path / "in"
    write_images(root / "images", pictures(5))
    (root / "images" / "003.png").write_bytes(b"no image")
    write_video(root / "films" / "walk.mp4", pictures(7, 1))
    packed = write_images(tmp_path / "packed", pictures(3, 2))
    with tarfile.open(root / "000.tar", "w") as tar:
        for path in sorted(packed.iterdir()):
            tar.add(path, path.name)
            (packed / "x.json").write_text("{}")
            tar.add(packed / "x.json", f"{path.stem}.json")
            (packed / "x.json").unlink()
    return root


Annotate = Callable[..., int]


@pytest.fixture
def annotate(narrow_bundle: Path, tmp_path: Path) -> Annotate:
    """`annotate(SOURCES and options...)` into the folder `out`, with one worker; returns the exit status."""

    def call(*arguments: Any, devices: str = f"cpu:{processors()[0]}", output: Path | str = tmp_path / "out") -> int:
        more = ["--bundle", narrow_bundle, "--output", output, "--devices", devices]
        return main(["annotate", *map(str, (*arguments, *more))])

    return call


class Make:
    """What the tests here are made of."""

    pictures = staticmethod(pictures)
    write_video = staticmethod(write_video)
    write_images = staticmethod(write_images)


@pytest.fixture
def make() -> type[Make]:
    return Make
