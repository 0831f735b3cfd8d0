"""`posert run` on real files: what it writes, what it says, and what is left when it is stopped."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posert.runtime import PoseEstimator
from posert.runtime.cli.main import main
from posert.runtime.results import read
from posert.runtime.system import files

FPS = 20.0


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Five frames `(120, 160, 3)` that a codec keeps apart: a square that moves over a grey ramp."""
    frames = []
    for i in range(5):
        frame = np.broadcast_to(np.linspace(40, 200, 160, dtype=np.uint8)[None, :, None], (120, 160, 3)).copy()
        frame[30:70, 20 * i + 10 : 20 * i + 40] = (30, 200, 90)
        frames.append(frame)
    return frames


@pytest.fixture
def folder(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    for i, picture in enumerate(pictures):
        assert cv2.imwrite(str(path / f"{i:06d}.png"), picture)
    return path


@pytest.fixture
def video(tmp_path: Path, pictures: list[np.ndarray]) -> Path:
    return write_video(tmp_path / "film.mp4", pictures)


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    size = (frames[0].shape[1], frames[0].shape[0])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def read_video(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def run(bundle: Path, source: object, *options: object) -> int:
    return main(["run", str(bundle), str(source), *map(str, options), "--threads", "1"])


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def hidden(folder: Path) -> list[str]:
    """Unfinished files."""
    return [p.name for p in folder.rglob(".*")]


def test_an_image_gives_the_joints_of_the_api(narrow_bundle: Path, folder: Path, tmp_path: Path) -> None:
    source, boxes = folder / "000002.png", [[40.0, 20.0, 100.0, 110.0], [0.0, 0.0, 50.0, 60.0]]
    (tmp_path / "boxes.json").write_text(json.dumps({"000002.png": boxes}))
    options = ("--boxes", tmp_path / "boxes.json", "--joint-score", "-9")
    assert run(narrow_bundle, source, "--output", tmp_path / "out" / "drawn.png", *options) == 0
    record = load(tmp_path / "out" / "drawn.json")
    picture = cv2.imread(str(source))
    expected = PoseEstimator(narrow_bundle, threads=1)(picture, boxes).to_json()
    (frame,) = record["frames"]
    assert (frame["file"], frame["width"], frame["height"]) == ("000002.png", 160, 120)
    assert [p["box"] for p in frame["people"]] == boxes
    for seen, person in zip(frame["people"], expected, strict=True):
        # Written with four digits; the backend may sum in another order in another session.
        np.testing.assert_allclose(seen["keypoints"], person["keypoints"], atol=2e-3)
    assert record["summary"]["people"] == 2
    assert record["keypoints"][0] == "nose"
    drawn = cv2.imread(str(tmp_path / "out" / "drawn.png"))
    assert drawn.shape == picture.shape
    assert (drawn != picture).any()
    assert hidden(tmp_path) == []


def test_a_folder_gives_every_image_drawn(narrow_bundle: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
    (folder / "notes.txt").write_text("not an image")
    assert run(narrow_bundle, folder, "--output", tmp_path / "out", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["frames"] == 5
    assert err.count("each frame is taken as one person") == 1
    record = load(tmp_path / "out" / "keypoints.json")
    assert [f["file"] for f in record["frames"]] == [f"{i:06d}.png" for i in range(5)]
    assert all(f["people"][0]["box"] == [0, 0, 160, 120] for f in record["frames"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(f"{i:06d}.png" for i in range(5)),
        "keypoints.json",
    ]


def test_unreadable_images_are_reported_and_the_rest_goes_on(
    narrow_bundle: Path, folder: Path, tmp_path: Path, capsys: Any
) -> None:
    (folder / "000001.png").write_bytes(b"not a picture")
    (folder / "000003.png").write_bytes(b"")
    assert run(narrow_bundle, folder, "--output", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "000001.png: cannot be read" in err and "000003.png: cannot be read" in err
    record = load(tmp_path / "out" / "keypoints.json")
    assert ["error" in f for f in record["frames"]] == [False, True, False, True, False]
    assert record["summary"]["frames"] == 3
    assert not (tmp_path / "out" / "000001.png").exists()


@pytest.mark.parametrize("box", [[500, 500, 600, 600], [50, 50, 50, 90], [float("nan"), 0, 9, 9]])
def test_a_bad_box_costs_its_own_image_only(
    narrow_bundle: Path, folder: Path, tmp_path: Path, box: list[float]
) -> None:
    boxes = {f"{i:06d}.png": [[10, 10, 90, 90]] for i in range(5)} | {"000001.png": [[10, 10, 90, 90], box]}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    options = ("--boxes", tmp_path / "boxes.json", "--output", tmp_path / "out.json")
    assert run(narrow_bundle, folder, *options) == 1
    frames = load(tmp_path / "out.json")["frames"]
    assert "box 1 " in frames[1]["error"]
    assert [len(f.get("people", [])) for f in frames] == [1, 0, 1, 1, 1]


def test_an_image_without_boxes_in_the_file_has_no_people(narrow_bundle: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"000000.png": [[10, 10, 90, 90]]}')
    options = ("--boxes", tmp_path / "boxes.json", "--output", tmp_path / "out.json")
    assert run(narrow_bundle, folder, *options) == 0
    assert [len(f["people"]) for f in load(tmp_path / "out.json")["frames"]] == [1, 0, 0, 0, 0]


def test_a_video_gives_a_video(narrow_bundle: Path, video: Path, tmp_path: Path) -> None:
    rows = "".join(f"{i},{20 * i + 5},20,{20 * i + 60},90\n" for i in (0, 1, 3))
    (tmp_path / "boxes.csv").write_text("frame,x1,y1,x2,y2\n" + rows)
    options = ("--boxes", tmp_path / "boxes.csv", "--joint-score", "-9")
    assert run(narrow_bundle, video, "--output", tmp_path / "out", *options) == 0
    frames = load(tmp_path / "out" / "keypoints.json")["frames"]
    assert [f["frame"] for f in frames] == list(range(5))
    assert [len(f["people"]) for f in frames] == [1, 1, 0, 1, 0]
    drawn, plain = read_video(tmp_path / "out" / "film.mp4"), read_video(video)
    assert len(drawn) == 5
    # Coding twice blurs, by 3 grey levels here; a box, lines and discs change by 5 and more.
    moved = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(drawn, plain, strict=True)]
    assert min(moved[0], moved[1], moved[3]) > 1.4 * max(moved[2], moved[4])
    assert cv2.VideoCapture(str(tmp_path / "out" / "film.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)


def test_a_bad_box_leaves_the_video_its_length(narrow_bundle: Path, video: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"1": [[0, 0, 0, 9]], "2": [[9, 9, 60, 60]]}')
    options = ("--boxes", tmp_path / "boxes.json", "--output", tmp_path / "drawn.mp4")
    assert run(narrow_bundle, video, *options) == 1
    assert len(read_video(tmp_path / "drawn.mp4")) == 5
    assert "box 0 " in load(tmp_path / "drawn.json")["frames"][1]["error"]


def test_exif_orientation_is_followed(narrow_bundle: Path, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    # One EXIF entry, Orientation (0x0112) = 6: to be turned by 90 degrees.
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    jpeg = cv2.imencode(".jpg", pictures[0])[1].tobytes()
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    assert cv2.imread(str(path)).shape == (160, 120, 3)
    assert run(narrow_bundle, path, "--output", tmp_path / "out.json") == 0
    (frame,) = load(tmp_path / "out.json")["frames"]
    assert (frame["width"], frame["height"]) == (120, 160)


@pytest.mark.parametrize("kind", ["grey", "alpha", "16 bit"])
def test_other_pictures_are_converted_as_opencv_does(narrow_bundle: Path, tmp_path: Path, kind: str) -> None:
    shape = {"grey": (50, 40), "alpha": (50, 40, 4), "16 bit": (50, 40, 3)}[kind]
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    cv2.imwrite(str(tmp_path / "a.png"), pixels.astype(np.uint16 if kind == "16 bit" else np.uint8))
    assert run(narrow_bundle, tmp_path / "a.png", "--output", tmp_path / "out") == 0


def test_names_that_are_not_ascii_work(narrow_bundle: Path, tmp_path: Path, pictures: list[np.ndarray]) -> None:
    source = tmp_path / "läufer 走.png"
    source.write_bytes(cv2.imencode(".png", pictures[0])[1].tobytes())
    assert run(narrow_bundle, source, "--output", tmp_path / "öut") == 0
    assert (tmp_path / "öut" / source.name).stat().st_size > 0


def test_what_cannot_be_run_ends_with_status_2(
    narrow_bundle: Path, folder: Path, video: Path, tmp_path: Path, capsys: Any
) -> None:
    empty, text, cut, broken = (tmp_path / n for n in ("empty", "text.txt", "cut.mp4", "broken.jpg"))
    empty.mkdir()
    text.write_text("words")
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    broken.write_bytes(cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))[1].tobytes()[:30])
    (tmp_path / "other.json").write_text('{"else.png": [[0, 0, 9, 9]]}')
    flat = tmp_path / "flat.json"
    flat.write_text(json.dumps({path.name: [[0, 50, 90, 50]] for path in folder.iterdir()}))
    out = ("--output", tmp_path / "out")
    cases: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.mp4", *out), "no such file or folder"),
        ((empty, *out), "no image in this folder"),
        ((text, *out), "neither an image nor a video"),
        ((cut, *out), "neither an image nor a video"),
        ((broken, *out), f"no frame could be used with {narrow_bundle}"),
        (("rtsp://127.0.0.1:9/none", *out), "cannot open the camera or stream"),
        ((folder, "--output", folder), "would overwrite"),
        ((video, "--output", video), "would overwrite"),
        ((folder, "--output", tmp_path / "film.mp4.avi"), "as .avi; expected a folder, .coco.json, .csv, .json"),
        ((folder, "--output", tmp_path / "one.png"), "as .png; expected a folder"),
        ((folder, "--boxes", tmp_path / "other.json", *out), "images go by file name"),
        ((folder, "--boxes", flat, *out), f"no frame could be used with {narrow_bundle} and {flat}"),
        ((video, "--boxes", tmp_path / "other.json", *out), "by number"),
        ((folder, "--backend", "openvimo", *out), "Did you mean openvino"),
        ((folder, "--precision", "int8", *out), "int8"),
    ]
    for arguments, message in cases:
        assert run(narrow_bundle, *arguments) == 2, arguments
        assert message in capsys.readouterr().err, arguments
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    assert len(read_video(video)) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's /dev/full")
@pytest.mark.parametrize("frames", [1, 300])  # in the buffer until the end, or written before
def test_nothing_is_left_where_the_disk_is_full(
    narrow_bundle: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, frames: int, pictures: list[Any]
) -> None:
    make = files._open_new

    def full(name: str, flags: int) -> int:
        return os.open("/dev/full", os.O_WRONLY) if Path(name).parent == tmp_path / "out" else make(name, flags)

    monkeypatch.setattr(files, "_open_new", full)
    source = write_video(tmp_path / "v.mp4", (pictures * frames)[:frames])
    assert run(narrow_bundle, source, "--output", tmp_path / "out") == 2
    assert "keypoints.json: the disk is full" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_video_that_a_limit_cuts_is_told_and_the_joints_are_kept(
    narrow_bundle: Path, tmp_path: Path, pictures: list[Any]
) -> None:
    rng = np.random.default_rng(0)  # noise, which takes many bytes
    frames = [rng.integers(0, 256, picture.shape, np.uint8) for picture in pictures * 8]
    source, out = write_video(tmp_path / "v.mp4", frames), tmp_path / "out"
    command = [sys.executable, "-m", "posert.runtime.cli", "run", narrow_bundle, source, "--output", out]
    line = " ".join(map(shlex.quote, map(str, [*command, "--threads", "1"])))
    done = subprocess.run(["bash", "-c", f"ulimit -f 200; {line}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert re.search(r"cannot write \S*v\.mp4: none of 40 frames can be read .*ulimit -f", done.stderr)
    assert [p.name for p in out.iterdir()] == ["keypoints.json"]
    record = load(out / "keypoints.json")
    assert len(record["frames"]) == 40 and record["summary"]["outputs"] == [str(out / "keypoints.json")]


ENDINGS = ["json", "coco.json", "csv", "parquet", "openpose"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_ending_of_the_output_is_the_format(
    narrow_bundle: Path, video: Path, tmp_path: Path, capsys: Any, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / "out" / f"walk.{ending}"
    assert run(narrow_bundle, video, "--output", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == [str(path)]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    if ending == "openpose":
        assert sorted(p.name for p in path.iterdir()) == [f"film_{i:012d}_keypoints.json" for i in range(5)]
    elif ending == "coco.json":
        assert [r["image_id"] for r in json.loads(path.read_text())] == list(range(5))
    elif ending == "parquet":
        (batch,) = read(path)
        assert batch.frame.tolist() == list(range(5)) and set(batch.source) == {str(video)}
        capture = cv2.VideoCapture(str(video))
        first = PoseEstimator(narrow_bundle, threads=1)(capture.read()[1])
        np.testing.assert_allclose(batch.people.xy[0], first.xy[0], atol=2e-3)  # sums in another order


def test_the_page_of_a_run(narrow_bundle: Path, video: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "boxes.json").write_text('{"1": [[0, 0, 0, 9]], "2": [[9, 9, 60, 60]]}')
    for output in ("drawn", "alone.csv"):
        options = ("--boxes", tmp_path / "boxes.json", "--output", tmp_path / output, "--report", tmp_path / "page")
        assert run(narrow_bundle, video, *options) == 1
        assert str(tmp_path / "page" / "report.html") in capsys.readouterr().out
        text = (tmp_path / "page" / "report.html").read_text()
        assert "1 person in 5 frames. 1 frame failed: box 0 " in text and text.count('"src": "data:image/jpeg') == 5
        assert [p.name for p in (tmp_path / "page").iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_told_before_the_run(
    narrow_bundle: Path, video: Path, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").write_text("")
    assert run(narrow_bundle, video, "--output", tmp_path / "o.json", "--report", tmp_path / "file") == 2
    assert "is not a folder" in capsys.readouterr().err and not (tmp_path / "o.json").exists()


def test_an_error_is_json_too(narrow_bundle: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(narrow_bundle, tmp_path / "none", "--json") == 2
    assert json.loads(capsys.readouterr().out)["kind"] == "InputError"


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)])
def test_a_stopped_video_is_playable_and_its_json_valid(
    narrow_bundle: Path, tmp_path: Path, pictures: list[np.ndarray], number: signal.Signals, times: int
) -> None:
    # Long enough not to end by itself before the signal; coded, it is small.
    source = write_video(tmp_path / "long.mp4", pictures * 600)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "posert.runtime.cli", "run", narrow_bundle, source, "--output", out, "--json"]
    process = subprocess.Popen(
        [*map(str, command), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while process.poll() is None and not any(p.stat().st_size > 20_000 for p in out.glob(".keypoints*")):
        assert time.monotonic() < deadline, "the run wrote nothing for a minute"
        time.sleep(0.02)
    for _ in range(times):  # `timeout` signals the process, and then its group
        process.send_signal(number)
        time.sleep(0.005)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr.decode()
    assert json.loads(stdout)["interrupted"] is True
    record = load(out / "keypoints.json")
    assert record["summary"]["interrupted"] is True
    assert 0 < len(record["frames"]) < 3000
    assert len(read_video(out / "long.mp4")) == len(record["frames"])
    assert hidden(out) == []


def test_a_signal_before_the_first_frame_leaves_nothing(
    narrow_bundle: Path, video: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, frames: Any, **_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return iter(())

    monkeypatch.setattr(PoseEstimator, "stream", stop)
    assert run(narrow_bundle, video, "--output", tmp_path / "out", "--json") == 143
    seen = capsys.readouterr()
    assert not seen.out and "terminated" in seen.err
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_done_before_an_error_is_complete(
    narrow_bundle: Path, folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = PoseEstimator.stream

    def fail(self: Any, frames: Any, **_: Any) -> Any:
        for i, people in enumerate(stream(self, frames)):
            if i == 2:
                raise MemoryError
            yield people

    monkeypatch.setattr(PoseEstimator, "stream", fail)
    assert run(narrow_bundle, folder, "--output", tmp_path / "out") == 70
    record = load(tmp_path / "out" / "keypoints.json")
    assert len(record["frames"]) == record["summary"]["frames"] == 2
    assert hidden(tmp_path) == []


def test_from_a_thread(narrow_bundle: Path, folder: Path, tmp_path: Path) -> None:
    """Python lets only the main thread set signal handlers."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(narrow_bundle, folder, "--output", tmp_path / "out")))
    thread.start()
    thread.join(timeout=60)
    assert statuses == [0]


def test_no_forty_frames_of_8k_wait_for_the_smoothing(
    narrow_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wide.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (7680, 4320))
    writer.write(np.zeros((4320, 7680, 3), np.uint8))
    writer.release()
    (tmp_path / "boxes.json").write_text('{"0": [[0, 0, 100, 200]]}')
    options = ["--boxes", tmp_path / "boxes.json", "--track", "--output", tmp_path / "o.json"]
    assert run(narrow_bundle, path, *options, "--smooth", "savitzky-golay") == 2
    assert "wide.avi: --smooth savitzky-golay keeps 40 frames, and these have 33.2 million" in capsys.readouterr().err
    assert run(narrow_bundle, path, *options, "--smooth", "one-euro") == 0
