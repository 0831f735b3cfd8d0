"""Images, folders and videos, damaged and named in every way: the good ones give the same joints."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posert.runtime.estimator import PoseEstimator
from posert.runtime.media.image_file import read_pixels
from posert.runtime.media.sources import IMAGES, open_source
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import Rng, change_bytes, pick

_GOOD = ("a.png", "m.png", "z.png")
_STEMS = (
    "0",
    "x" * 200,
    "x" * 248,
    "é",
    "caf\udce9",  # in Latin-1
    "日本語",
    "a b",
    "-x",
    "--output",
    "a\nb",
    "%d",
    "{0}",
    "$(id)",
    ".hidden",
    "CON",
    "a.json",
    "💥",
    "b\udcff",
    "q" * 250,
    "keypoints",
    "~",
    "a.tar",
)
_SIZES = (0, 1, 2, 65535, 65536, 17000, 30000, 100_000, 2**31 - 1, 2**31, 2**32 - 1)


def _encoded() -> dict[str, bytes]:
    """The same picture in every format that OpenCV writes."""
    frame = material.frame()
    kinds = {".jpg": [], ".png": [], ".bmp": [], ".tif": [], ".webp": [], ".tiff": [cv2.IMWRITE_TIFF_COMPRESSION, 1]}
    made = {suffix: cv2.imencode(suffix, frame, options)[1].tobytes() for suffix, options in kinds.items()}
    made[".jpeg"] = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    for suffix in (".jp2", ".ppm", ".pgm", ".gif", ".ras", ".hdr", ".pbm", ".avif"):
        try:
            good, data = cv2.imencode(suffix, frame.astype(np.float32) if suffix == ".hdr" else frame)
        except cv2.error:
            continue
        if good:
            made[suffix] = data.tobytes()
    return made


def _vast() -> dict[str, bytes]:
    """Little files of many pixels: two that are read, and take 0.4 GB each, and three that are refused."""

    def made(suffix: str, width: int, height: int) -> bytes:
        return cv2.imencode(suffix, np.full((height, width, 3), 90, np.uint8))[1].tobytes()

    boxed = made(".jp2", 8200, 8200)
    return {
        ".png": made(".png", 11600, 11500),
        ".jpg": made(".jpg", 11600, 11500),
        ".bmp": made(".png", 12000, 12000),
        ".jp2": boxed,
        ".j2k": boxed[boxed.index(b"\xff\x4f\xff\x51") :],
    }


def _declared(rng: Rng, suffix: str, data: bytes, done: list[str]) -> bytes:
    """A picture that says that it has another size."""
    width, height = pick(rng, _SIZES), pick(rng, _SIZES)
    done.append(f"declares {width}x{height}")
    out = bytearray(data)
    if data.startswith(b"\x89PNG"):
        out[16:24] = struct.pack(">II", width, height)
        out[29:33] = struct.pack(">I", zlib.crc32(bytes(out[12:29])))
    elif data.startswith(b"\xff\xd8"):
        at = next(i for i in range(len(data)) if data[i] == 0xFF and data[i + 1] in (0xC0, 0xC2))
        out[at + 5 : at + 9] = struct.pack(">HH", height % 65536, width % 65536)
    elif data.startswith(b"BM"):
        out[18:26] = struct.pack("<II", width, height)
    elif data.startswith(b"II*\0"):
        place = struct.unpack("<I", data[4:8])[0]
        for i in range(struct.unpack("<H", data[place : place + 2])[0]):
            entry = place + 2 + 12 * i
            if data[entry] in (0, 1, 22) and data[entry + 1] == 1:
                out[entry + 8 : entry + 12] = struct.pack("<I", pick(rng, (width, height)))
    elif suffix == ".webp":
        out[24:30] = struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]
    else:
        return change_bytes(rng, data, done, 0, 60)
    return bytes(out)


class _Uses:
    def __init__(self, folder: Path) -> None:
        self.encoded, self.vast = _encoded(), _vast()
        self.bundle = material.bundle(folder)
        self.pose = PoseEstimator(self.bundle, backend="onnxruntime")
        self.right = self.joints(material.frame())
        self.videos = {}
        for suffix, code in ((".avi", "MJPG"), (".mp4", "mp4v"), (".mkv", "MJPG")):
            path = folder / f"video{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10.0, (64, 48))
            for i in range(8):
                writer.write(material.frame(i, 64, 48))
            writer.release()
            if path.exists() and path.stat().st_size:
                self.videos[suffix] = path.read_bytes()

    def joints(self, frame: Any) -> list[Any]:
        return [[round(float(v), 2) for v in joint] for joint in self.pose(frame).xy[0]]

    def damaged(self, case: Case) -> tuple[str, bytes]:
        """Ending and bytes of a picture to which something was done."""
        rng, suffix = case.rng, pick(case.rng, list(self.encoded))
        if rng.random() < 0.02:
            suffix = pick(rng, list(self.vast))
            case.done.append(f"{suffix} vast")
            return suffix, self.vast[suffix]
        data = self.encoded[suffix]
        way = str(rng.choice(["bytes", "bytes", "head", "declares", "cut", "other", "odd", "fine"]))
        case.done.append(f"{suffix} {way}")
        if way == "bytes":
            data = change_bytes(rng, data, case.done)
        elif way == "head":
            data = change_bytes(rng, data, case.done, 0, 200)
        elif way == "declares":
            data = _declared(rng, suffix, data, case.done)
        elif way == "cut":
            data = data[: int(rng.integers(len(data)))]
        elif way == "other":  # another format under this name
            data = self.encoded[pick(rng, list(self.encoded))]
        elif way == "odd":
            data = pick(
                rng,
                (
                    b"",
                    b"\0" * 5000,
                    b"<svg/>",
                    b"#!/bin/sh\n",
                    rng.bytes(3000),
                    data + rng.bytes(300),
                    b"P6 99999 99999 255 ",
                ),
            )
        return suffix, data

    def one(self, case: Case) -> str:
        """A picture that is read as the product reads it; OpenCV reads it, too, for comparison."""
        suffix, data = self.damaged(case)
        path = case.write(f"case{suffix}", data)
        found = read_pixels(path)
        if found is None:
            return "not read"
        if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] != 3:
            raise Defect("a picture of another kind", f"{found.dtype} {found.shape}")
        again = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if not np.array_equal(found, again):
            raise Defect("other pixels than OpenCV's")
        return "equal"

    def folder(self, case: Case) -> str:
        """Good pictures and bad ones: the good ones' joints are those of the undisturbed run."""
        rng, images = case.rng, case.folder / "images"
        images.mkdir()
        for name in _GOOD:
            (images / name).write_bytes(self.encoded[".png"])
        for _ in range(int(rng.integers(1, 4))):
            suffix, data = self.damaged(case)
            name = f"{pick(rng, _STEMS)}{pick(rng, (suffix, suffix.upper()))}"
            kind = str(rng.choice(["file"] * 7 + ["folder", "link", "loop", "fifo", "device", "sparse"]))
            case.done.append(f"{kind} {name[:30]!r}")
            case.named += (name,)
            path = images / name
            try:
                if path.exists():
                    continue
                if kind == "file":
                    path.write_bytes(data)
                elif kind == "folder":
                    path.mkdir()
                elif kind == "link":
                    path.symlink_to(pick(rng, ("nowhere", "/", "a.png", "/proc/self/mem")))
                elif kind == "loop":
                    path.symlink_to(path.name)
                elif kind == "fifo":
                    os.mkfifo(path)
                elif kind == "device":
                    path.symlink_to("/dev/zero")
                else:
                    with path.open("wb") as file:
                        file.truncate(int(rng.choice([3 << 30, 1 << 40])))
            except OSError:  # a name that no file can have
                continue
        names = sorted(p.name for p in images.iterdir() if p.suffix.lower() in IMAGES and p.is_file())
        drawn = rng.random() < 0.5
        output = case.folder / ("out" if drawn else "out.json")
        case.named += (str(images),)
        result = posert("run", self.bundle, images, "--output", output, "--backend", "onnxruntime")
        written = json.loads((output / "keypoints.json" if drawn else output).read_text())
        if len(written["frames"]) != len(names):
            raise Defect("frames lost", f"{len(written['frames'])} of {len(names)}: {result}"[:500])
        for frame in written["frames"]:
            if frame["file"] in _GOOD:
                seen = [[round(float(v), 2) for v in joint[:2]] for joint in frame["people"][0]["keypoints"]]
                if np.abs(np.array(seen) - np.array(self.right)).max() > 0.02:
                    raise Defect("other joints in silence", frame["file"])
        if result["interrupted"]:
            raise Defect("a folder's run ends early", f"{result}"[:400])
        return "good ones equal"

    def video(self, case: Case) -> str:
        """A video to which something was done, as far as FFmpeg reads it."""
        rng, suffix = case.rng, pick(case.rng, list(self.videos))
        data = self.videos[suffix]
        data = (
            change_bytes(rng, data, case.done, 0, pick(rng, (len(data), 400, len(data))))
            if rng.random() < 0.9
            else data
        )
        # FFmpeg reads a video to its end, whatever its size: 3 GB take 30 s.
        path = case.write(f"case{pick(rng, (suffix, suffix, '.mov', '.bin'))}", data, holes=False)
        if rng.random() < 0.5:
            count = sum(1 for _ in open_source(str(path)))
            return "read" if count else "read, empty"
        output = case.folder / pick(rng, ("o.json", "out", "o.mp4"))
        result = posert("run", self.bundle, path, "--output", output, "--backend", "onnxruntime")
        for file in result["outputs"]:
            if file.endswith(".json"):
                if len(json.loads(Path(file).read_text())["frames"]) < result["frames"]:
                    raise Defect("frames lost", f"{result}"[:400])
            elif not cv2.VideoCapture(file).read()[0]:
                raise Defect("a video that cannot be played", file)
        return "ran"


def open_part(folder: Path) -> Run:
    uses = _Uses(folder)
    ways: tuple[Callable[[Case], str], ...] = (uses.one,) * 5 + (uses.folder,) * 3 + (uses.video,) * 2

    def run(case: Case) -> str:
        return pick(case.rng, ways)(case)

    return run


PART = Part("pictures", "images, folders and videos: damaged, huge, of odd names and kinds", 5000, 60, open_part)
