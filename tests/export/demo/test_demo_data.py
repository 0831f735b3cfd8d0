"""Generated data are kept on disk, whole, and where the user wants them."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from posert.export.demo import calibration, data, held_out, people


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_held_out_images_come_in_the_order_of_their_labels() -> None:
    images, labels = held_out(3)
    pairs = list(images)
    assert [name for name, _ in pairs] == [image["file_name"] for image in labels["images"]]
    expected, expected_labels = people.generate("val", 3)
    assert labels == expected_labels
    assert all(np.array_equal(image, e) for (_, image), e in zip(pairs, expected, strict=True))


def test_calibration_images_are_others() -> None:
    (_, ours), *_ = calibration(1)[0]
    (_, measured), *_ = held_out(1)[0]
    assert np.array_equal(ours, people.render("calib", 0)[0])
    assert not np.array_equal(ours, measured)


def test_a_second_use_draws_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = [image.copy() for _, image in held_out(2)[0]]

    def fail(*_: object) -> None:
        raise AssertionError("drawn again")

    monkeypatch.setattr(people, "generate", fail)
    assert all(np.array_equal(a, b) for a, (_, b) in zip(first, held_out(2)[0], strict=True))
    folder = data.cache_folder()
    assert folder.parent == cache / "posert"
    assert sorted(path.name for path in folder.iterdir()) == ["val-0-2.json", "val-0-2.npy"]


def test_an_interrupted_run_leaves_nothing_that_a_later_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = people.generate
    monkeypatch.setattr(people, "generate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        held_out(2)
    assert not list(data.cache_folder().iterdir())
    monkeypatch.setattr(people, "generate", real)
    assert len(list(held_out(2)[0])) == 2


def test_two_at_once_both_get_whole_files() -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(data.cached("calib", 2)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and np.array_equal(*results)
