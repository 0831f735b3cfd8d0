"""Box files of every format, changed in their values and their text: all boxes are used, or the file is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posert.runtime.media.box_file import BoxFile
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import NUMBERS, TEXTS, change_bytes, change_json, json_text, pick

_NAMES = ("0.png", "1.png", "2.png")
_PEOPLE = [[[10.0, 10.0, 50.0, 90.0]], [[5, 5, 40, 80], [30.5, 20.25, 80.0, 90.0]], [[1, 2, 30, 40, 0.9]]]


def _valid() -> dict[str, Any]:
    """The same boxes in each format of JSON."""
    records = [
        {"image_id": i, "category_id": 1, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": 0.75}
        for i, boxes in enumerate(_PEOPLE) for b in boxes
    ]  # fmt: skip
    images = [{"id": i, "file_name": name, "width": 100, "height": 110} for i, name in enumerate(_NAMES)]
    annotations = [{**r, "id": i + 1, "iscrowd": int(i == 3)} for i, r in enumerate(records)]
    return {
        "names": dict(zip(_NAMES, _PEOPLE, strict=True)),
        "detections": records,
        "coco": {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]},
    }


def _expected(kind: str, data: bytes) -> int | None:
    """How many boxes are in a file that was taken; None where this cannot be said."""
    if kind == "csv":
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        return sum(bool(row) for row in rows[1:])
    value = json.loads(data)
    if isinstance(value, dict) and "annotations" not in value:
        return sum(map(len, value.values()))
    records = value if isinstance(value, list) else value["annotations"]
    return sum(r.get("category_id", 1) == 1 and not r.get("iscrowd", 0) for r in records)


def _csv(case: Case) -> bytes:
    """A table whose header, cells or marks are other ones."""
    rng = case.rng
    key = pick(rng, ("file", "frame"))
    header = [key, "x1", "y1", "x2", "y2", *pick(rng, ((), ("score",), ("label",)))]
    rows = [
        [name if key == "file" else str(i), *map(str, box[:4]), *(["0.5"] if len(header) == 6 else [])]
        for i, (name, boxes) in enumerate(zip(_NAMES, _PEOPLE, strict=True)) for box in boxes
    ]  # fmt: skip
    table = [header, *rows]
    for _ in range(int(rng.choice([0, 1, 1, 2, 4]))):
        row = pick(rng, table)
        at = int(rng.integers(len(row))) if row else 0
        way = str(rng.choice(["cell", "cell", "number", "add", "remove", "swap", "double", "empty"]))
        case.done.append(f"{way} {','.join(row)[:60]} {at}")
        if way in ("cell", "number") and row:
            row[at] = (
                pick(rng, TEXTS)
                if way == "cell"
                else str(pick(rng, (*NUMBERS, "1_0", "0x10", "1e5", " 7 ", "１", "1,5")))
            )
        elif way == "add":
            row.insert(at, pick(rng, ("", "1", "x")))
        elif way == "remove" and row:
            del row[at]
        elif way == "swap":
            other = int(rng.integers(len(table)))
            table[0], table[other] = table[other], table[0]
        elif way == "double":
            table.append(list(row))
        else:
            table.insert(int(rng.integers(len(table) + 1)), [""] * int(rng.integers(3)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=pick(rng, ("\n", "\r\n", "\r")), delimiter=pick(rng, ",,,,,;\t"),
                        quoting=pick(rng, (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))  # fmt: skip
    writer.writerows(table)
    data = text.getvalue().encode(pick(rng, ("utf-8", "utf-8", "utf-8-sig", "utf-16")), "surrogatepass")
    return change_bytes(rng, data, case.done) if rng.random() < 0.3 else data


def open_part(folder: Path) -> Run:
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for i, name in enumerate(_NAMES):
        cv2.imwrite(str(images / name), material.frame(i))
    valid = _valid()
    bundle = material.bundle(folder)

    def run(case: Case) -> str:
        rng = case.rng
        kind = str(rng.choice(["csv", *valid]))
        case.done.append(kind)
        if kind == "csv":
            path = case.write("boxes.csv", _csv(case))
        else:
            value = valid[kind] if rng.random() < 0.2 else change_json(rng, valid[kind], case.done)
            path = case.write("boxes.json", json_text(rng, value, case.done))
        if rng.random() < 0.1:
            result = posert("run", bundle, images, "--boxes", path, "--output", case.folder / "o.json",
                            "--backend", "onnxruntime")  # fmt: skip
            written = json.loads((case.folder / "o.json").read_text())
            if len(written["frames"]) != len(_NAMES) or result["frames"] + len(result["failed"]) != len(_NAMES):
                raise Defect("frames lost", f"{result}"[:400])
            return "ran"
        boxes = BoxFile(path)
        held = list(boxes._boxes.values())
        found, expected = sum(map(len, held)), _expected(kind, path.read_bytes())
        if expected is not None and found != expected:
            raise Defect("boxes lost or invented", f"{found} of {expected}")
        if any(box.dtype != np.float32 or box.shape[1:] != (4,) for box in held):
            raise Defect("boxes of another shape")
        boxes.check(list(_NAMES))
        for name in _NAMES:
            boxes.of(name)
        return "all boxes"

    return run


PART = Part("boxes", "box files: JSON, COCO, CSV", 4000, 80, open_part)
