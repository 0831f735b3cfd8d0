"""Ray data sets: every row once, with the people that `PoseEstimator` finds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.errors import InputError
from posert.runtime.media.image_file import UNREADABLE
from posert.runtime.scale import Cluster, annotate


@pytest.fixture
def pictures() -> list[np.ndarray]:
    """Of two sizes, RGB."""
    rng = np.random.default_rng(3)
    sizes = [(128, 96), (64, 80)] * 4
    return [cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), size) for size in sizes]


def test_every_row_has_its_people(cluster: Cluster, narrow_bundle: Path, pictures: list[Any], tmp_path: Path) -> None:
    import ray

    boxes = [[[0, 0, 40, 60], [40, 2, 64, 62]][: i % 3] for i in range(len(pictures))]
    rows = [{"id": i, "image": image, "box": boxes[i]} for i, image in enumerate(pictures)]
    done = annotate(ray.data.from_items(rows), narrow_bundle, boxes="box", batch_size=3, cluster=cluster)
    found = sorted(done.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(8))
    assert [row["people"] for row in found] == [0, 1, 2, 0, 1, 2, 0, 1]
    pose = PoseEstimator(narrow_bundle, threads=1)
    for row, image in zip(found, pictures, strict=True):
        assert "image" not in row and row["error"] == ""
        assert row["boxes"].shape == (row["people"], 4) and row["xy"].shape == (row["people"], 17, 2)
        if row["people"]:
            expected = pose(np.ascontiguousarray(image[..., ::-1]), np.float32(boxes[row["id"]]))
            # the order of sums may differ from session to session
            np.testing.assert_allclose(row["xy"], expected.xy, atol=2e-3)
            np.testing.assert_allclose(row["score"], expected.score, atol=1e-4)

    done.write_parquet(str(tmp_path / "out"))
    again = ray.data.read_parquet(str(tmp_path / "out")).sort("id").take_all()
    for row, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(row["xy"], other["xy"])


def test_bytes_are_decoded_and_errors_are_told(cluster: Cluster, narrow_bundle: Path, pictures: list[Any]) -> None:
    import ray

    data = [cv2.imencode(".png", image)[1].tobytes() for image in pictures[:3]] + [b"no image", b""]
    rows = [{"id": i, "bytes": one} for i, one in enumerate(data)]
    done = annotate(ray.data.from_items(rows), narrow_bundle, image="bytes", cluster=cluster)
    found = sorted(done.take_all(), key=lambda row: row["id"])
    assert [(row["people"], row["error"]) for row in found] == [(1, "")] * 3 + [(0, UNREADABLE)] * 2
    pose = PoseEstimator(narrow_bundle, threads=1)
    for row, image in zip(found[:3], pictures, strict=False):
        np.testing.assert_allclose(row["xy"], pose(image).xy, atol=2e-3)


def test_a_folder_of_images(cluster: Cluster, narrow_bundle: Path, pictures: list[Any], tmp_path: Path) -> None:
    import ray

    for i, image in enumerate(pictures[::2]):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    images = ray.data.read_images(str(tmp_path), include_paths=True)
    found = sorted(annotate(images, narrow_bundle, cluster=cluster).take_all(), key=lambda row: row["path"])
    pose = PoseEstimator(narrow_bundle, threads=1)
    for row, image in zip(found, pictures[::2], strict=True):
        np.testing.assert_allclose(row["xy"], pose(image).xy, atol=2e-3)


def test_images_of_another_kind(cluster: Cluster, narrow_bundle: Path, tmp_path: Path) -> None:
    import ray

    rows = [{"image": np.zeros((4, 4), np.uint8)}]
    with pytest.raises(Exception, match=r'column "image": an image is uint8 \(4, 4\); expected uint8 \(H, W, 3\)'):
        annotate(ray.data.from_items(rows), narrow_bundle, cluster=cluster).take_all()
    with pytest.raises(InputError, match="none.pose"):
        annotate(ray.data.from_items(rows), tmp_path / "none.pose", cluster=cluster)


def test_the_example_of_the_docs(narrow_bundle: Path, pictures: list[Any], tmp_path: Path) -> None:
    """In a program and a cluster of its own: its paths are relative to where both were started."""
    text = (Path(__file__).parents[3] / "docs" / "scale.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pictures[:2]):
        cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), image)
    shutil.copy(narrow_bundle, tmp_path / "hrnet_demo.pose")
    (tmp_path / "example.py").write_text(example)
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "people").glob("*.parquet"))
