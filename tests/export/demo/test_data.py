"""Generated data are kept on disk, whole, and where the user wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posert.export.demo import data, people


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSERT_CACHE", str(tmp_path))
    return tmp_path


def test_cached_people_are_the_generated_ones() -> None:
    images, labels = data.cached("val", 3)
    expected, expected_labels = people.generate("val", 3)
    assert labels == expected_labels and np.array_equal(images, expected)
    assert not np.array_equal(data.cached("calib", 1)[0][0], expected[0])


def test_a_second_use_draws_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = data.cached("val", 2)[0].copy()

    def fail(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(people, "generate", fail)
    assert np.array_equal(first, data.cached("val", 2)[0])
    folder = data.folder_of_images()
    assert folder.parent == cache
    assert sorted(path.name for path in folder.iterdir()) == ["val-0-2.json", "val-0-2.npy"]


@pytest.mark.parametrize("ending", [".npy", ".json"])
@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:200] + b"\xff" + d[201:], lambda d: b""])
def test_a_damaged_cache_is_drawn_again(ending: str, damage: Callable[[bytes], bytes]) -> None:
    first, labels = data.cached("val", 2)
    first = first.copy()
    (file,) = data.folder_of_images().glob(f"*{ending}")
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again, found = data.cached("val", 2)
    assert np.array_equal(first, again) and found == labels and file.read_bytes() == whole


def test_an_interrupted_run_leaves_nothing_that_a_later_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = people.generate
    monkeypatch.setattr(people, "generate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        data.cached("val", 2)
    assert not list(data.folder_of_images().glob("*"))
    monkeypatch.setattr(people, "generate", real)
    assert len(data.cached("val", 2)[0]) == 2


def test_two_at_once_both_get_whole_files() -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(data.cached("calib", 2)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and np.array_equal(*results)
