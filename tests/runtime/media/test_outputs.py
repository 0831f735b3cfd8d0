"""Which files a run writes, and drawn videos that are whole or absent."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from posert.runtime.errors import InputError
from posert.runtime.media.drawn import DrawnImages, DrawnVideo
from posert.runtime.media.outputs import output_files
from posert.runtime.media.sources import Source
from posert.runtime.results import formats

VIDEO = Source("walk.mp4", Path("in/walk.mp4"), video=True)
CAMERA = Source("camera 0", None, video=True)
IMAGES = Source("in", Path("in"), video=False, keys=("a.png", "b.gif"), total=2)
IMAGE = Source("a.png", Path("in/a.png"), video=False, keys=("a.png",), total=1)


@pytest.mark.parametrize(
    ("source", "target", "results", "form", "drawn"),
    [
        (VIDEO, "out", "out/keypoints.json", "json", ["out/walk.mp4"]),
        (CAMERA, "out", "out/keypoints.json", "json", ["out/camera.mp4"]),
        (IMAGES, "out", "out/keypoints.json", "json", ["out/a.png", "out/b.png"]),
        (VIDEO, "o/x.mp4", "o/x.json", "json", ["o/x.mp4"]),
        (IMAGE, "o/x.jpg", "o/x.json", "json", ["o/x.jpg"]),
        (VIDEO, "o/x.json", "o/x.json", "json", []),
        (VIDEO, "o/x.coco.json", "o/x.coco.json", "coco", []),
        (IMAGES, "x.CSV", "x.CSV", "csv", []),
        (IMAGES, "o/x.parquet", "o/x.parquet", "parquet", []),
        (VIDEO, "o/x.openpose", "o/x.openpose", "openpose", []),
        (VIDEO, "v1.2", "v1.2/keypoints.json", "json", ["v1.2/walk.mp4"]),  # a folder with a dot in its name
    ],
)
def test_the_output_says_what_is_written(
    source: Source,
    target: str,
    results: str,
    form: str,
    drawn: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = output_files(source, Path(target), [])
    assert (found.results, found.format.name) == (Path(results), form)
    assert [*([found.video] if found.video else []), *found.images.values()] == [Path(p) for p in drawn]
    assert found.results.parent.is_dir()


def test_an_ending_that_does_not_fit_names_those_that_do(tmp_path: Path) -> None:
    for source, ending in ((IMAGES, ".mp4"), (VIDEO, ".png"), (IMAGES, ".avi"), (VIDEO, ".mkv")):
        with pytest.raises(InputError) as error:
            output_files(source, tmp_path / f"x{ending}", [])
        assert all(one.ending in str(error.value) for one in formats())
        assert (".mp4," in str(error.value)) == source.video


def test_inputs_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "in.openpose").mkdir()
    source = Source("x", tmp_path / "in.openpose", video=False, keys=("a.png",), total=1)
    for target, inputs in (("in.openpose", []), ("boxes.csv", [tmp_path / "boxes.csv"])):
        with pytest.raises(InputError, match="would overwrite the input"):
            output_files(source, tmp_path / target, inputs)


def frame(value: int = 0) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (96, 128, 3), np.uint8)  # noise takes many bytes


def count(path: Path) -> int:
    capture, frames = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        frames += 1
    return frames


def test_a_video_gets_its_name_when_it_was_checked(tmp_path: Path) -> None:
    with DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video:
        for i in range(30):
            video.add(i, frame(i))
        assert not (tmp_path / "a.mp4").exists()
        video.check()
    assert video.whole and count(tmp_path / "a.mp4") == 30
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("frames", [0, 3])
def test_without_the_check_or_after_an_error_nothing_remains(frames: int, tmp_path: Path) -> None:
    with DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video:
        for i in range(frames):
            video.add(i, frame(i))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError), DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video:
        for i in range(frames):
            video.add(i, frame(i))
        video.check()
        raise ValueError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "another"])
def test_a_video_that_cannot_be_read_back_is_told(damage: str, tmp_path: Path) -> None:
    """OpenCV says nothing of a failed write; the file is what a full disk leaves."""
    with (
        pytest.raises(InputError, match=r"cannot write .*a\.mp4: .* of 30 frames"),
        DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as v,
    ):
        for i in range(30):
            v.add(i, frame(i))
        (part,) = tmp_path.glob(".*/a.mp4")
        v._writer.release()  # type: ignore[union-attr]
        if damage == "cut":
            os.truncate(part, part.stat().st_size // 2)
        elif damage == "empty":
            os.truncate(part, 0)
        elif damage == "gone":
            part.unlink()
        else:  # fewer frames than were given
            short = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*"mp4v"), 25, (128, 96))
            short.write(frame())
            short.release()
        v.check()
    assert not v.whole and list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from posert.runtime.media.drawn import DrawnVideo
with DrawnVideo(Path(sys.argv[1]), 25, "film.avi") as video:
    video.add(0, np.zeros((96, 128, 3), np.uint8))
    print("written", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_the_video_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "a.mp4"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"written\n"
        writer.kill()
    (part,) = tmp_path.iterdir()
    os.utime(part, (0, 0))  # written long ago
    with DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video:
        video.add(0, frame())
        video.check()
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_video_in_a_folder_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write .*No such file"):
        DrawnVideo(tmp_path / "no" / "a.mp4", 25, "film.avi").add(0, frame())


def test_a_limit_on_the_size_is_told(tmp_path: Path) -> None:
    """As `ulimit -f` sets it; Python ignores the signal, so that writes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with (
            pytest.raises(InputError, match="none of 60 frames"),
            DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video,
        ):
            for i in range(60):
                video.add(i, frame(i))
            video.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_video_keeps_the_size_of_its_first_frame(tmp_path: Path) -> None:
    rate = "makes no MP4 video of 64x48 px and 1e.12 frames/s here. The rate is what film.avi declares"
    with pytest.raises(InputError, match=rate), DrawnVideo(tmp_path / "b.mp4", 1e12, "film.avi") as video:
        video.add(0, np.zeros((48, 64, 3), np.uint8))
    with (
        pytest.raises(InputError, match="but the video began with"),
        DrawnVideo(tmp_path / "a.mp4", 25, "film.avi") as video,
    ):
        video.add(0, frame())
        video.add(1, np.zeros((10, 10, 3), np.uint8))


def test_images_are_written_by_their_names(tmp_path: Path) -> None:
    images = DrawnImages({"a.png": tmp_path / "a.png", "b.webp": tmp_path / "b.webp"})
    images.add("a.png", frame())
    assert images.written == [tmp_path / "a.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), frame())
    with pytest.raises(InputError, match=r"b\.webp: OpenCV cannot"):
        images.add("b.webp", np.zeros((8, 17000, 3), np.uint8))  # WebP ends at 16383 px
