"""Sources, and a Ray cluster of two processors on this machine."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests here but one file start a cluster, which takes ten seconds and more."""
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name != "test_parcel.py":
            item.add_marker(pytest.mark.slow)
            if importlib.util.find_spec("ray") is None:
                item.add_marker(pytest.mark.skip(reason='needs Ray: pip install "posert[ray]"'))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray

    from posert.runtime.scale import Cluster

    # one that runs already starts the tests ten seconds earlier: ray start --head --num-cpus 2; RAY_ADDRESS=auto
    new = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": 2, "include_dashboard": False}
    ray.init(os.environ.get("RAY_ADDRESS", "local"), **new, log_to_driver=False, logging_level="ERROR")
    yield Cluster("auto", workers=2)
    ray.shutdown()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Images in one folder, one of them damaged, and two videos."""
    rng, root = np.random.default_rng(0), tmp_path / "in"
    (root / "images").mkdir(parents=True)

    def picture() -> Any:
        return cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (128, 96))

    for i in range(8):
        cv2.imwrite(str(root / "images" / f"{i:03d}.png"), picture())
    (root / "images" / "003.png").write_bytes(b"no image")
    for name in ("a", "b"):
        writer = cv2.VideoWriter(str(root / f"{name}.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (128, 96))
        for _ in range(6):
            writer.write(picture())
        writer.release()
    return root
