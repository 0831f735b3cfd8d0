"""Every field of annotation and results files with every wrong value: an InputError, or figures that are numbers."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from posert.runtime.accuracy.frames import read_frames
from posert.runtime.accuracy.people import annotated_people, detected_people
from posert.runtime.accuracy.score import read_annotations, score_file
from posert.runtime.datasets import dataset, datasets
from posert.runtime.errors import InputError
from posert.runtime.metrics import pckh
from posert.runtime.metrics.pckh import read_arrays, read_centers, read_predictions
from posert.tests.campaign.material import labels_and_results

WRONG: list[Any] = [
    *(None, True, "", "1", "a\0b", [], {}, [[1]], {"a": 1}, -1, 0, 1.5, 1e300, 1e308, 10**200),
    *(float("nan"), float("inf"), [None], ["x"], [[[]]], "\ud800"),
]


def _labels(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    valid = labels_and_results(name)
    return valid["annotations"], valid["results"]


def _spoiled(value: Any) -> Iterator[tuple[str, Any]]:
    """A JSON value with one part at a time replaced or, in an object, left out; lists in their second element."""

    def places(node: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        if isinstance(node, dict):
            for key in node:
                yield from places(node[key], (*path, key))
        elif isinstance(node, list) and node:
            yield from places(node[min(1, len(node) - 1)], (*path, min(1, len(node) - 1)))

    for path in places(value, ()):
        for wrong in WRONG:
            whole = copy.deepcopy(value)
            at: Any = whole
            for step in path[:-1]:
                at = at[step]
            if path:
                at[path[-1]] = wrong
            yield f"{path} = {wrong!r:.20}", whole if path else wrong


class Judge:
    """Runs cases, and tells at the end which of them gave neither a result nor an InputError."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def __call__(self, what: str, run: Callable[[], Any]) -> None:
        try:
            found = run()
        except InputError as error:
            if len(str(error)) > 1000:
                self.wrong.append(f"{what}: a message of {len(str(error))} characters")
        except Exception as error:
            self.wrong.append(f"{what}: {type(error).__name__}: {error}")
        else:
            if isinstance(found, dict) and not all(map(math.isfinite, found["metrics"].values())):
                self.wrong.append(f"{what}: {found['metrics']}")


@pytest.fixture
def judge() -> Iterator[Judge]:
    one = Judge()
    yield one
    assert not one.wrong, "\n".join(one.wrong)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [name for name in datasets() if name not in ("mpii", "coco_wholebody")])
@pytest.mark.parametrize("side", [pytest.param("annotations", marks=pytest.mark.slow), "results"])
def test_score(tmp_path: Path, judge: Judge, name: str, side: str) -> None:
    files = {"annotations": tmp_path / "a.json", "results": tmp_path / "r.json"}
    good = dict(zip(files, _labels(name), strict=True))
    for key, path in files.items():
        path.write_text(json.dumps(good[key]))
    assert all(math.isfinite(value) for value in score_file(name, *files.values())["metrics"].values())
    for what, spoiled in _spoiled(good[side]):
        files[side].write_text(json.dumps(spoiled))
        for protocol in ("legacy", "v029"):
            judge(what, lambda protocol=protocol: score_file(name, *files.values(), protocol))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("reader", ["annotated", "detected", "frames"])
def test_people(tmp_path: Path, judge: Judge, reader: str) -> None:
    coco, (good, detections) = dataset("coco"), _labels("coco")
    path = tmp_path / "a.json"
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"x")

    def run() -> object:
        if reader == "frames":
            frames = read_frames(path, tmp_path)
            return len(frames.labelled())
        if reader == "detected":
            return len(detected_people(coco, good, json.loads(path.read_text())))
        return len(annotated_people(coco, read_annotations(coco, path), "legacy"))

    for what, spoiled in _spoiled(detections if reader == "detected" else good):
        path.write_text(json.dumps(spoiled))
        judge(what, run)


class TestMpii:
    TRUTH = {
        "pos_gt_src": np.random.default_rng(0).uniform(1, 99, (16, 2, 3)),
        "jnt_missing": np.zeros((16, 3)),
        "headboxes_src": np.stack([np.zeros((2, 3)), np.full((2, 3), 20.0)]),
    }
    PEOPLE = [{"image": "a.png", "center": [50, 40], "scale": 1.5}] * 2
    RESULTS = [{"image_id": i, "keypoints": [1.0] * 48} for i in range(3)]

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("side", ["truth", "results"])
    def test_score(self, tmp_path: Path, judge: Judge, side: str) -> None:
        good = {"truth": {name: array.tolist() for name, array in self.TRUTH.items()}, "results": self.RESULTS}
        files = {key: tmp_path / f"{key}.json" for key in good}
        for key, path in files.items():
            path.write_text(json.dumps(good[key]))
        assert len(score_file("mpii", *files.values())["metrics"]) == 9
        for what, spoiled in _spoiled(good[side]):
            files[side].write_text(json.dumps(spoiled))
            judge(what, lambda: score_file("mpii", *files.values()))

    @pytest.mark.filterwarnings("error")
    def test_centers(self, tmp_path: Path, judge: Judge) -> None:
        np.savez(tmp_path / "mpii_gt_val.npz", **self.TRUTH)
        path = tmp_path / "mpii_val.json"
        for what, spoiled in _spoiled(self.PEOPLE):
            path.write_text(json.dumps(spoiled))
            judge(what, lambda: bool(read_centers(path)))

    @pytest.mark.filterwarnings("ignore")  # numpy and scipy warn of what they then refuse
    @pytest.mark.parametrize("suffix", [".mat", ".npz"])
    def test_arrays(self, tmp_path: Path, judge: Judge, suffix: str) -> None:
        path = tmp_path / f"pred{suffix}"
        for value in (
            *(np.array("text"), np.array([[["a", "b"]]]), np.zeros((3, 16, 2), complex), np.full((3, 16, 2), np.nan)),
            *(np.full((3, 16, 2), 1e300), np.zeros((3, 16)), np.zeros((0, 16, 2)), np.zeros((3, 16, 1))),
            np.array([[1, "a"], [2.5, 3]], object),
        ):
            (savemat if suffix == ".mat" else _savez)(path, {"preds": value})
            judge(f"{value.dtype} {value.shape}", lambda: bool(np.size(read_predictions(path))))

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("suffix", [".mat", ".npz"])
    def test_damage(self, tmp_path: Path, judge: Judge, suffix: str, compressed: bool) -> None:
        path, rng = tmp_path / f"truth{suffix}", np.random.default_rng(0)
        if suffix == ".mat":
            savemat(path, self.TRUTH, do_compression=compressed)
        else:
            (np.savez_compressed if compressed else np.savez)(path, **self.TRUTH)
        good = path.read_bytes()
        for case in range(300):
            data = bytearray(good[: rng.integers(1, len(good))] if case % 3 == 0 else good)
            for _ in range(rng.integers(1, 5)):
                data[rng.integers(len(data) if case % 2 else min(400, len(data)))] = rng.integers(256)
            path.write_bytes(data)
            judge(f"case {case}", lambda: bool(read_arrays(path)))

    def test_arrays_that_would_fill_the_memory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pckh, "_MOST_BYTES", 8000)
        np.savez_compressed(tmp_path / "bomb.npz", preds=np.zeros(1001))
        savemat(tmp_path / "bomb.mat", {"preds": np.zeros(1001)}, do_compression=True)
        for name in ("bomb.npz", "bomb.mat"):
            with pytest.raises(InputError, match=f"cannot read .*{name}: its arrays have (more than )?8"):
                read_arrays(tmp_path / name)


def _savez(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)
