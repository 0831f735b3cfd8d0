"""The page of a run: what it says is what was added, in bounded memory, and it is safe and whole HTML."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.page import RunPage
from posert.runtime.page.pictures import FAILED, SIDE, SPREAD
from posert.runtime.page.series import INTERVALS, Lanes, Series
from posert.runtime.pose.keypoints import Keypoints

COCO = dataset("coco")
CONTRACT = Contract("coco", COCO.keypoints, COCO.flip_pairs, COCO.skeleton, COCO.sigmas, 192, 256, 48, 64)


def people(count: int, ids: list[int] | None = None, score: float = 0.8) -> Keypoints:
    rng = np.random.default_rng(count)
    return Keypoints(
        rng.uniform(20, 140, (count, 17, 2)).astype(np.float32),
        np.full((count, 17), score, np.float32),
        np.tile(np.array([[10, 10, 150, 110]], np.float32), (count, 1)),
        COCO.keypoints,
        None if ids is None else np.array(ids, np.int64),
    )


def grey(width: int = 160, height: int = 120) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def page(frames: int = 0, **how: Any) -> RunPage:
    made = RunPage(CONTRACT, "walk.mp4", {"bundle": "a.pose", "backend": "openvino"}, **how)
    for i in range(frames):
        made.add(i, grey(), False, people(2), {"read": 0.001, "pose": 0.004})
    return made


class Reader(HTMLParser):
    """Text by element, and whether every element is closed."""

    VOID = ("meta", "img", "input", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            self.texts.append((self.open[-1], data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for one, text in self.texts if one == tag]


def written(made: RunPage, folder: Path, **how: Any) -> tuple[str, Reader]:
    made.write(folder / "report.html", **how)
    text = (folder / "report.html").read_text()
    return text, Reader(text)


def pictures_of(text: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL)
    assert found
    listed: list[dict[str, Any]] = json.loads(found[1])
    return listed


@settings(deadline=None)
@given(st.integers(0, 3000), st.integers(0, 5))
def test_a_series_holds_sums_and_maxima_of_all_frames(frames: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 9, frames).astype(float)
    series = Series(1, 1)
    for value in values:
        series.add([value], [value])
    assert series.frames == frames and series.used <= INTERVALS
    length = 1
    while length * INTERVALS < frames:
        length *= 2
    assert series.length == length
    chunks = [values[i : i + length] for i in range(0, frames, length)]
    assert series.sums[:, 0].tolist() == [c.sum() for c in chunks]
    assert series.maxima[:, 0].tolist() == [c.max() for c in chunks]


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(0, 5))
def test_lanes_say_when_each_was_seen(frames: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    series, lanes, seen = Series(1, 1), Lanes(), np.zeros((4, frames), int)
    for i in range(frames):
        here = np.flatnonzero(rng.uniform(size=4) < (0.9, 0.5, 0.1, 0.01)).tolist()
        seen[here, i] = 1
        lanes.add(here, series.add([1], [0]), series.length)
    assert len(lanes) == int(seen.any(axis=1).sum())
    for number, counts in lanes.longest(4):
        chunks = [seen[number, i : i + series.length].sum() for i in range(0, frames, series.length)]
        assert counts[: series.used].tolist() == chunks


def test_a_stage_that_comes_late_keeps_its_place(tmp_path: Path) -> None:
    made = page(500)
    made.add(500, None, False, people(1), {"read": 0.001, "detect": 0.1})
    detect, read = made.stages["detect"], made.stages["read"]
    assert (detect.frames, detect.length) == (read.frames, read.length) == (501, 4)
    assert detect.sums[-1, 0] == pytest.approx(0.1) and not detect.sums[:-1].any()
    written(made, tmp_path)


def test_what_it_says_is_what_was_added(tmp_path: Path) -> None:
    made = page(fps=25.0)
    for i in range(50):
        made.add(i, grey(), False, people(i % 3, list(range(i % 3))), {"pose": 0.01, "write": 0.03})
    for i in range(50, 53):
        made.add(i, grey(), False, None, {"pose": 0.01}, "box 0 has no area")
    made.add_figure("jitter", "mean acceleration", "px per frame²", {"raw": 1.93, "smoothed": 0.71})
    text, reader = written(made, tmp_path, interrupted=True)
    tiles = dict(re.findall(r'<div class="tile"><b>(.*?)</b><span>(.*?)</span>', text))
    assert tiles["53"] == "frames, 2.1 s" and tiles["2"] == "identities" and tiles["3"] == "frames failed"
    assert tiles["1.0"] == "people per frame, 2 at most" and tiles["0.80"] == "mean score of the joints"
    assert tiles["26.1"] == "frames per second, 2.0 s in all"  # 53 frames, 50 * 0.04 + 3 * 0.01 s
    assert reader.of("span").count("failures") == 1
    headings = ["Frames", "People", "Joint scores", "Speed", "Figures", "Failures", "What was run"]
    assert reader.of("h2") == headings
    assert "50 to 52: 3 frames" in reader.of("th") and "box 0 has no area" in reader.of("td")
    assert "left shoulder" in reader.of("span") and "id 1" in reader.of("span")
    assert [t for t in reader.of("b") if t in ("1.93", "0.71")] == ["1.93", "0.71"]
    assert "mean acceleration, px per frame²" in reader.of("small")
    assert reader.of("dt") == ["bundle", "backend"] and reader.of("dd") == ["a.pose", "openvino"]
    shown = pictures_of(text)
    assert [p["at"] for p in shown] == list(range(53)) and [p["failed"] for p in shown] == [False] * 50 + [True] * 3
    assert shown[4]["said"] == "frame 4 · 0.2 s · 1 person · mean score 0.80"
    assert shown[51]["said"].endswith("failed: box 0 has no area")


def test_marks_of_the_three_endings(tmp_path: Path) -> None:
    for failed, interrupted, mark in ((False, False, "done"), (False, True, "interrupted"), (True, True, "failures")):
        made = page(2)
        if failed:
            made.add(2, None, False, None, {}, "cannot be read as an image")
        _, reader = written(made, tmp_path, interrupted=interrupted)
        assert mark in reader.of("span")


def test_pictures_show_the_joints_where_they_are(tmp_path: Path) -> None:
    made = page()
    xy = np.full((1, 17, 2), 100, np.float32)
    xy[0, :, 0] = np.linspace(300, 1500, 17)
    found = Keypoints(xy, np.ones((1, 17), np.float32), np.array([[0, 0, 1900, 1000]], np.float32), COCO.keypoints)
    frame = np.zeros((1080, 1920, 3), np.uint8)
    made.add("a.png", frame, False, found, {})
    assert not frame.any()  # it is the caller's
    made.add("b.png", frame, True, found, {})
    first, second = [
        cv2.imdecode(np.frombuffer(base64.b64decode(p["src"].partition(",")[2]), np.uint8), 1)
        for p in pictures_of(written(made, tmp_path)[0])
    ]
    assert first.shape == second.shape == (405, SIDE, 3)
    for x in xy[0, :, 0]:
        assert first[round(100 * 405 / 1080), round(x * 405 / 1080)].max() > 60
    assert not second.any()  # drawn by the caller: the page draws nothing


@pytest.mark.parametrize("frames", [1, 59, 60, 61, 121, 1000, 12345])
def test_pictures_are_spread_evenly(frames: int) -> None:
    made = page()
    tiny, nobody = np.zeros((4, 4, 3), np.uint8), people(0)
    for i in range(frames):
        made.pictures.add(i, i, tiny, True, nobody, "")
    kept = [p.index for p in made.pictures.all()]
    assert min(frames, SPREAD // 2) <= len(kept) <= SPREAD
    assert set(np.diff(kept).tolist()) <= {made.pictures.step} and kept[0] == 0
    assert frames - kept[-1] <= made.pictures.step


def test_the_first_failures_have_their_picture() -> None:
    made = page()
    for i in range(1000):
        made.add(i, grey(8, 8), True, None if i % 10 == 7 else people(0), {}, "odd")
    failed = [p.index for p in made.pictures.all() if p.failed]
    assert failed[:FAILED] == [7 + 10 * i for i in range(FAILED)]
    assert len(made.pictures.all()) <= SPREAD + FAILED and made.failed == 100


@pytest.mark.parametrize("frames", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_is_bounded_for_any_length(frames: int, tmp_path: Path) -> None:
    """Frames in which people come and go all the time, and one in a hundred fails in a way of its own."""
    made = page()
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
    found = people(3, [0, 1, 2])
    assert found.ids is not None

    def add(first: int, last: int) -> None:
        for i in range(first, last):
            if i % 100 == 50:
                made.add(i, noise, True, None, {"read": 0.001, "pose": 0.002}, f"odd {i}")
                continue
            found.ids[:] = (i // 20, i // 33, 7)  # type: ignore[index]
            made.add(i, noise, True, found, {"read": 0.001, "pose": 0.002})

    add(0, frames // 2)  # all is full
    tracemalloc.start()
    try:
        add(frames // 2, frames)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The pictures are exchanged for others, and so are at most 1000 lanes of 2 kB.
    assert grown < 5e6
    text, _ = written(made, tmp_path)
    assert len(text) < (SPREAD + FAILED) * 140_000 + 500_000
    assert made.frames == frames and made.failed == frames // 100 and len(made.lanes) >= frames // 20
    assert f"200 of {made.failed:,}; the results name all." in text or made.failed == 200


def test_the_size_of_a_picture_is_bounded() -> None:
    made = page()
    made.add(0, np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), np.uint8), True, people(0), {})
    (picture,) = made.pictures.all()
    assert len(picture.jpeg) < 150_000  # noise at the lowest quality; 100 kB for pictures of the world


def test_names_and_errors_are_text_and_no_html(tmp_path: Path) -> None:
    evil = '</script><script>alert("x")</script><b onload=a>&amp;$title'
    made = RunPage(CONTRACT, evil, {evil: evil})
    made.add(evil, grey(), False, people(1), {evil: 0.1})
    made.add(evil, grey(), False, None, {}, evil)
    made.add_figure(evil, evil, evil, {evil: 1.0})
    text, reader = written(made, tmp_path)
    assert reader.tags.count("script") == 2 and "onload" not in str(re.findall(r"<[^!>]*>", text))
    assert pictures_of(text)[1]["said"] == f"{evil} · failed: {evil}"
    assert any(evil in t for t in reader.of("title"))


def test_a_run_without_pictures_or_people(tmp_path: Path) -> None:
    made = page()
    made.add("a.png", None, False, None, {}, "cannot be read as an image")
    text, reader = written(made, tmp_path)
    assert "Joint scores" not in reader.of("h2") and "no frame could be read" in text
    made = page()
    made.add("b.png", grey(), False, people(0), {})
    assert written(made, tmp_path)[1].of("h2") == ["Frames", "People", "What was run"]


def test_many_joints_and_identities_show_those_that_matter(tmp_path: Path) -> None:
    whole = dataset("coco_wholebody")
    contract = Contract(
        "coco_wholebody", whole.keypoints, whole.flip_pairs, whole.skeleton, whole.sigmas, 192, 256, 48, 64
    )
    made = RunPage(contract, "v.mp4", {})
    score = np.linspace(0.9, 0.1, 133, dtype=np.float32)[None]
    for i in range(60):
        xy, box = np.zeros((1, 133, 2), np.float32), np.array([[0, 0, 9, 9]], np.float32)
        made.add(i, None, False, Keypoints(xy, score, box, whole.keypoints, np.array([i])), {})
    text, reader = written(made, tmp_path)
    assert "The 30 lowest of 133 joints." in text and whole.keypoints[-1].replace("_", " ") in reader.of("span")
    assert "the 40 seen longest of 60." in text


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        page(1).write(tmp_path / "file" / "report.html")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="a browser is needed: apt-get install chromium")
@pytest.mark.parametrize("width", [400, 1300])
def test_no_browser_has_to_scroll_sideways(width: int, tmp_path: Path) -> None:
    made = RunPage(CONTRACT, "a_long_name_of_a_video_without_a_single_space_in_it_0123456789.mp4", {"reason": "x" * 90})
    for i in range(300):
        made.add(i, grey(), False, people(2, [10_000_000 + i // 50, 3]), {"read": 0.1, "pose": 0.004}, "")
    made.add(300, grey(), False, None, {}, "a" * 200)
    made.write(tmp_path / "report.html")
    frame = f'<iframe id="f" src="report.html" style="width:{width}px;height:900px"></iframe><pre id="o"></pre>'
    script = "onload=()=>{let d=f.contentDocument.documentElement;o.textContent=d.scrollWidth+' '+d.clientWidth}"
    (tmp_path / "probe.html").write_text(f"<body>{frame}<script>{script}</script>")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
    command = ["chromium", *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "probe.html").as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r'<pre id="o">(\d+) (\d+)</pre>', seen)
    assert found and int(found[1]) == int(found[2]), seen[-500:]
