"""The folder of an annotation, its plan, journal and tables changed: it is continued and merged, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2

from posert.runtime.annotation.folder import FRAMES, JOB, JOURNAL, PEOPLE, PLAN
from posert.runtime.results import read
from posert.runtime.system.sealed_lines import line_of, parse
from posert.tests.campaign import material
from posert.tests.campaign.case import Case, Defect, Part, Run
from posert.tests.campaign.command import posert
from posert.tests.campaign.mutate import Rng, change_bytes, change_json, json_text, pick

_ONE = ("--shard-images", "2", "--devices", "cpu:0")  # shards of two images, and one worker
_ENDINGS = (".csv", ".json", ".coco.json", ".parquet")


def _json_lines(rng: Rng, data: bytes, sealed: bool, done: list[str]) -> bytes:
    """Lines of which one says something else, and has the right sum for it."""
    lines = data.splitlines()
    at = int(rng.integers(len(lines)))
    way = str(rng.choice(["value", "value", "value", "remove", "double", "swap"]))
    done.append(f"{way} line {at}")
    if way == "remove":
        del lines[at]
    elif way == "double":
        lines.insert(int(rng.integers(len(lines) + 1)), lines[at])
    elif way == "swap":
        other = int(rng.integers(len(lines)))
        lines[at], lines[other] = lines[other], lines[at]
    else:
        value = change_json(rng, parse(lines[at] + b"\n") if sealed else json.loads(lines[at]), done)
        lines[at] = line_of(value).rstrip(b"\n") if sealed else json.dumps(value).encode()
    return b"".join(line + b"\n" for line in lines)


def _tables(path: Path) -> Iterator[tuple[object, ...]]:
    """What `read` gives, row by row."""
    for batch in read(path):
        people = batch.people
        for i, name in enumerate(batch.source):
            person = people.xy[i].tolist(), people.score[i].tolist(), people.boxes[i].tolist()
            yield name, batch.file[i], int(batch.frame[i]), int(batch.person[i]), batch.size[i].tolist(), *person


class _Uses:
    def __init__(self, folder: Path) -> None:
        images, self._whole = folder / "images", folder / "whole"
        images.mkdir()
        for i in range(6):
            cv2.imwrite(str(images / f"{i}.png"), material.frame(i))
        self._bundle = bundle = material.bundle(folder)
        posert("annotate", images, "--bundle", bundle, "--output", self._whole, *_ONE)
        self._right = {ending: self._merged(self._whole, folder, ending) for ending in _ENDINGS}
        self._rows = list(_tables(self._whole))

    def _merged(self, archive: Path, folder: Path, ending: str) -> bytes:
        target = folder / f"merged{ending}"
        posert("annotate", "--output", archive, "--merge", target)
        return target.read_bytes()

    def run(self, case: Case) -> str:
        rng = case.rng
        archive = case.folder / "archive"
        shutil.copytree(self._whole, archive)
        name = pick(rng, (JOB, PLAN, JOURNAL, JOURNAL, PEOPLE, PEOPLE, FRAMES))
        path = archive / name
        if path.is_dir():
            path = pick(rng, sorted(path.iterdir()))
        data = path.read_bytes()
        case.done.append(str(path.relative_to(archive)))
        same = True  # what is taken must mean what it meant
        if path.suffix == ".parquet" or rng.random() < 0.4:
            data = change_bytes(rng, data, case.done)
            same = name != JOB and name != PLAN  # which have no sums: their bytes are text that may be right
        elif name == JOB:
            data, same = json_text(rng, change_json(rng, json.loads(data), case.done), case.done), False
        else:
            data, same = _json_lines(rng, data, name == JOURNAL, case.done), False
        path.write_bytes(data)
        case.named = (path.name, str(archive), *(f"shard {i}" for i in range(4)))
        if rng.random() < 0.05:
            case.done.append("continue")
            result = posert("annotate", "--bundle", self._bundle, "--output", archive, *_ONE)
            if result["shards"]["left"]:
                raise Defect("shards left", f"{result['shards']}")
        elif rng.random() < 0.3:
            case.done.append("read")
            rows = list(_tables(archive))
            if same and rows != self._rows:
                raise Defect("other results in silence")
            return "read"
        ending = pick(rng, _ENDINGS)
        case.done.append(ending)
        merged = self._merged(archive, case.folder, ending)
        if same and merged != self._right[ending]:
            raise Defect("other results in silence", f"{len(merged)} bytes of {len(self._right[ending])}")
        return "equal" if same else "merged"


def open_part(folder: Path) -> Run:
    return _Uses(folder).run


PART = Part(
    "archives", "the plan, the journal and the tables of an annotation", 3000, 40, open_part, starts_programs=True
)
