"""The cache of compiled graphs: found again, equal to the last bit, and compiled again where anything differs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.runtime import PoseEstimator
from posert.runtime.backends.openvino import BACKEND
from posert.runtime.bundle.archive import Bundle
from posert.runtime.engines import cache as engine_cache
from posert.runtime.engines import sidecar
from posert.runtime.selection import open_session
from posert.runtime.system import files

pytest.importorskip("openvino")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(files.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def expected(narrow_bundle: Path, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a graph gives that was compiled here and now."""
    with Bundle(narrow_bundle) as bundle:
        return open_session(bundle, "openvino", "fp32", threads=1).infer(crops)[0].copy()


@pytest.fixture
def open_cached(narrow_bundle: Path) -> Callable[..., tuple[NDArray[np.float32], bool]]:
    """Heatmaps through the cache, and whether the graph had to be read for them."""

    def run(crops: NDArray[np.uint8], throughput: bool = False, precision: str = "fp32") -> tuple[NDArray, bool]:
        seen = []
        with Bundle(narrow_bundle) as bundle:
            graph = bundle.artifacts["fp32"]

            def read() -> bytes:
                seen.append(graph)
                return bundle.read(graph)

            return BACKEND.open_cached(graph.sha256, read, precision, 1, throughput).infer(crops)[0].copy(), bool(seen)

    return run


def test_the_second_start_needs_no_graph(cache: Path, crops: NDArray, expected: NDArray, open_cached: Callable) -> None:
    for throughput, compiled in ((False, True), (False, False), (True, False)):
        heatmaps, read = open_cached(crops, throughput)
        assert read == compiled
        np.testing.assert_array_equal(heatmaps, expected)
    file, beside = sorted(cache.iterdir())
    assert "-fp32-openvino-" in file.name and beside.name == f"{file.name}.json"


def test_a_precision_has_its_own(cache: Path, crops: NDArray, expected: NDArray, open_cached: Callable) -> None:
    if "bf16" not in BACKEND.runnable():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    first = open_cached(crops, precision="bf16")
    assert open_cached(crops)[1]
    again = open_cached(crops, precision="bf16")
    assert (first[1], again[1], len(list(cache.glob("*.engine")))) == (True, False, 2)
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], expected)


@pytest.mark.parametrize(
    "damage", ["cut", "changed", "no sidecar", "empty", "old", "nonsense", "other CPU", "other graph"]
)
def test_what_does_not_match_is_compiled_again(
    damage: str,
    cache: Path,
    crops: NDArray,
    expected: NDArray,
    open_cached: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    open_cached(crops)
    (file,) = cache.glob("*.engine")
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        middle = len(data) // 2
        file.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif damage == "no sidecar":
        (cache / f"{file.name}.json").unlink()
    elif damage == "old":
        file.write_bytes(b"posert engine 1\n" + data)
    elif damage == "empty":
        file.write_bytes(b"")
    else:
        engine = sidecar.read_engine(file)
        other = {
            "nonsense": replace(engine, plan=b"not what OpenVINO wrote" * 99),
            "other CPU": replace(engine, metadata=replace(engine.metadata, devices=("6502",))),
            "other graph": replace(engine, metadata=replace(engine.metadata, model="0" * 64)),
        }
        sidecar.write_engine(file, other[damage])
    with caplog.at_level(logging.WARNING, "posert"):
        heatmaps, read = open_cached(crops)
    assert read and "the graph is compiled again" in caplog.text
    assert "posert compile" not in caplog.text, "which makes none of OpenVINO's"
    said = {"cut": "it is cut short: ", "changed": "its bytes were changed", "empty": "it is cut short: "}
    said |= {"no sidecar": "does not lie beside it", "old": "posert 0.2.0 wrote it"}
    assert said.get(damage, "") in caplog.text
    np.testing.assert_array_equal(heatmaps, expected)
    assert not open_cached(crops)[1]


def test_where_nothing_can_be_kept(
    tmp_path: Path, crops: NDArray, expected: NDArray, open_cached: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(files.CACHE, str(tmp_path / "file" / "cache"))
    for _ in range(2):
        heatmaps, read = open_cached(crops)
        assert read
        np.testing.assert_array_equal(heatmaps, expected)


def test_the_folder_is_never_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that are set to nothing, as `env -i`-like wrappers and unit files leave them, are not set."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(files.CACHE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert files.cache_folder() == tmp_path / ".cache/posert"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert files.cache_folder() == tmp_path / "xdg/posert"
    monkeypatch.setenv(files.CACHE, str(tmp_path / "own"))
    assert files.cache_folder() == tmp_path / "own"


def test_those_used_last_stay(cache: Path, crops: NDArray, open_cached: Callable) -> None:
    cache.mkdir()
    for i in range(engine_cache.MAX_CACHED_GRAPHS + 4):
        for name in (f"{i}-fp32-openvino-1.engine", f"{i}-fp16-tensorrt-1.engine"):
            (cache / name).write_bytes(b"")
            os.utime(cache / name, (1000 + i, 1000 + i))
    open_cached(crops)
    left = sorted(cache.glob("*-openvino-*.engine"))
    assert len(left) == engine_cache.MAX_CACHED_GRAPHS
    assert not {f"{i}-fp32-openvino-1.engine" for i in range(5)} & {p.name for p in left}
    assert len(list(cache.glob("*tensorrt*"))) == engine_cache.MAX_CACHED_GRAPHS + 4


def test_an_estimator_keeps_and_a_bare_session_does_not(cache: Path, narrow_bundle: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        open_session(bundle, "openvino", "fp32", threads=1)
        assert not cache.exists()
        PoseEstimator(bundle, backend="openvino", threads=1)
        assert len(list(cache.glob("*.engine"))) == 1
