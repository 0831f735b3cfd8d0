"""posert's own JSON: the bytes of posert 0.2, which other programs parse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posert.runtime.results import FrameResult, Subject


def as_before(subject: Subject, frames: list[FrameResult], summary: Any) -> str:
    """What `posert run` of version 0.2.0 wrote: one value of the head a line, then one frame a line."""
    records = []
    for frame in frames:
        record: dict[str, Any] = {"file" if subject.keys else "frame": frame.key}
        if frame.people is None:
            record["error"] = frame.error
        else:
            record |= {"width": frame.width, "height": frame.height, "people": frame.people.to_json()}
        records.append(json.dumps(record))
    head = {"source": subject.source, **subject.facts, "keypoints": subject.contract.keypoints}
    lines = "".join(f"{json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items())
    rows = ",\n".join(records)
    return f'{{{lines}"frames": [\n{rows}\n],\n"summary": {json.dumps(summary)}\n}}\n'


@pytest.mark.parametrize("kind", ["VIDEO", "IMAGES"])
def test_the_bytes_are_those_of_before(kind: str, tmp_path: Path, make: Any) -> None:
    subject = getattr(make, kind)
    frames = make.results(subject, ids=False, detected=False)
    make.write("json", tmp_path / "a.json", subject, frames)
    text = (tmp_path / "a.json").read_text()
    assert text == as_before(subject, frames, make.SUMMARY)
    assert [("error" in f) for f in json.loads(text)["frames"]] == [False, False, False, True, False]


def test_ids_and_detection_scores_are_there_if_they_are_known(tmp_path: Path, make: Any) -> None:
    frames = make.write("json", tmp_path / "a.json", make.VIDEO)
    people = json.loads((tmp_path / "a.json").read_text())["frames"][4]["people"]
    assert frames[4].people is not None and frames[4].people.ids is not None
    assert [p["id"] for p in people] == frames[4].people.ids.tolist() and "detection_score" in people[0]
