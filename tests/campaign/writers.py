"""Commands that write: what they are given, what they write, and whether it is complete."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.signature import SecretKey
from posert.tests.campaign import material
from posert.tests.campaign.case import Defect

_TIMES = re.compile(
    r'"(seconds|frames_per_second|read|pose|draw|write|ms_per_person|ms_per_frame|total|report)": [-\d.e]+'
)
# These tell when and by whom, not what.
_CHANGING = {"shards", "run.json", "report.html", "report.json", "worker.log", "events"}
_UNLIKE = {".mp4", ".engine"}  # never the same bytes twice
_MEASURED = {"bench.json"}


@dataclass
class Command:
    """A command that writes: its arguments, in which {out} is where."""

    arguments: list[str]
    took: float = 0.0
    right: dict[str, bytes] | None = None

    def line(self, out: Path) -> list[str]:
        return [sys.executable, "-m", "posert.runtime.cli", *(a.format(out=out) for a in self.arguments)]


def contents(out: Path) -> dict[str, bytes]:
    """The files in a folder, without what tells times."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        if not _CHANGING & set(path.relative_to(out).parts):
            data = b"" if path.parts[-2] == "a" else path.read_bytes()  # annotate's own records tell the times
            if path.suffix == ".json":
                data = _TIMES.sub("", data.decode()).replace(str(out), "").encode()
            elif path.suffix == ".minisig":
                data = data.split(b"\n")[1][:20]
            elif path.suffix == ".pose":  # the accuracy in its manifest has times
                with Bundle(path) as bundle:
                    data = repr((bundle.contract, bundle.artifacts)).encode()
            found[str(path.relative_to(out))] = b"" if path.suffix in _UNLIKE or path.name in _MEASURED else data
    return found


def check_whole(out: Path) -> None:
    """Every file under its final name is complete."""
    for path in (p for p in out.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if _CHANGING & set(path.relative_to(out).parts):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".mp4":
                if not cv2.VideoCapture(str(path)).read()[0]:
                    raise ValueError("no frame of it can be read")
            elif path.suffix == ".png":
                if cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) is None:
                    raise ValueError("it is no picture")
            elif path.suffix == ".pose":
                with Bundle(path) as bundle:
                    bundle.check()
        except Exception as error:
            raise Defect(f"a half-written file: {path.suffix}", f"{path.name}: {error}") from error


def write_commands(folder: Path) -> dict[str, Command]:
    """Every command that writes and needs no GPU, with what it reads in a folder."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for i in range(12):
        cv2.imwrite(str(images / f"{i}.png"), material.frame(i))
    video = folder / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 80))
    for i in range(40):
        writer.write(material.frame(i % 7, 96, 80))
    writer.release()
    labels = folder / "labels.json"
    labels.write_text(json.dumps(material.labels_and_results("coco")["annotations"]))
    bundle = material.bundle(folder)
    key = folder / "owner"
    SecretKey.new().write(key)
    network, contract = folder / "network.onnx", folder / "contract.json"
    network.write_bytes(material.plain_network().SerializeToString())
    contract.write_text(json.dumps(material.contract().to_json()))
    annotated = folder / "annotated"
    known = Command(f"annotate {images} --bundle {bundle} --output {annotated} --shard-images 4".split())
    subprocess.run(known.line(folder), check=True, capture_output=True)
    own = f"--network {network} --contract {contract}"
    on = f"--annotations {labels} --images {images}"
    once = "--backend onnxruntime --people 1 --mode latency --rounds 1"
    lines = {
        "run folder": f"run {bundle} {images} --output {{out}}/o",
        "run video": f"run {bundle} {video} --output {{out}}/o --report {{out}}/r",
        "run csv": f"run {bundle} {images} --output {{out}}/o.csv",
        "run coco": f"run {bundle} {video} --output {{out}}/o.coco.json",
        "run openpose": f"run {bundle} {images} --output {{out}}/o.openpose",
        "evaluate": f"evaluate {bundle} {on} --output {{out}}/r.json",
        "export": f"export onnx {bundle} --output {{out}}/e",
        "sign": f"sign {{out}}/copy.pose --key {key}",
        "split": f"split {labels} --images {images} --output {{out}}/s",
        "card": f"card {bundle} --output {{out}}/README.md",
        "calibrate": f"calibrate {own} --calib {labels} --calib-images {images} --samples 3 --output {{out}}/c.json",
        "build": f"build {own} --precision fp32,fp16 {on} --output {{out}}/b.pose --report {{out}}/b",
        "annotate": f"annotate {images} --bundle {bundle} --output {{out}}/a --shard-images 4",
        "merge": f"annotate --output {annotated} --merge {{out}}/m.coco.json",
        "bench": f"bench {bundle} {once} --output {{out}}/bench.json",
        "compare": f"compare {bundle}:fp32 {bundle}:fp32@onnxruntime --output {{out}}/c --save {{out}}/s",
        "export polygraphy": f"export polygraphy {bundle} --output {{out}}/e",
        "export triton": f"export triton {bundle} --backend onnxruntime --output {{out}}/e",
    }
    if importlib.util.find_spec("tensorrt_rtx"):
        lines["compile"] = f"compile {bundle} --precision fp32 --target sm89 --batch 1:2:4 --output {{out}}/t"
    return {name: Command(line.split()) for name, line in lines.items()}
