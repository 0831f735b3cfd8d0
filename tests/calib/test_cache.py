"""The calibration cache: reads back what was written, merges to what one run finds, refuses what does not belong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from posert.calib.cache import CalibrationCache, read_cache, write_cache
from posert.calib.calibrated import calibrate, with_channels
from posert.calib.merging import merge_caches
from posert.calib.observers import Observer
from posert.calib.overlap import EvaluationImages
from posert.calib.qdq import quantize
from posert.calib.ranges import CalibrationState
from posert.runtime.errors import CalibrationError


def described(name, people, files=None):
    return {
        "sha256": name * 64,
        "data": "made up",
        "kind": "user",
        "people": people,
        "images": people,
        "strata": {"large/most/clear": people},
        "files": files or {f"{name}.png": {"sha256": name * 64, "people": []}},
    }


def calibrated(model, crops, name="a"):
    state = CalibrationState()
    found = calibrate(model, [crops], state=state, threads=1)
    return CalibrationCache("net", "0" * 64, (described(name, len(crops)),), state, found)


@pytest.fixture
def model(build):
    return build("residual")


def test_what_was_written_is_read_and_the_same_content_gives_the_same_bytes(model, crops, tmp_path):
    cache = calibrated(model, crops)
    write_cache(tmp_path / "a.json", cache)
    again = read_cache(tmp_path / "a.json")
    assert again.ranges == cache.ranges and again.ranges.curve == cache.ranges.curve
    assert replace(again, calibrated=cache.calibrated, state=cache.state) == cache
    assert again.calibrated.signed == cache.calibrated.signed
    for variant in (True, False):
        made = [quantize(model, one.calibrated, unsigned=variant).model for one in (cache, again)]
        assert made[0] == made[1]
    write_cache(tmp_path / "b.json", again)
    write_cache(tmp_path / "c.json", calibrated(model, crops))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["graph"] == "0" * 64 and values["crops"] == len(crops)
    assert values["ranges"]["relu0.out"] == {"lo": 0.0, "hi": cache.ranges["relu0.out"].hi}
    assert "method" not in values


def test_merging_gives_what_one_run_over_all_crops_gives(model, crops, tmp_path):
    whole = calibrated(model, crops)
    parts = []
    for name, some in (("a", crops[:3]), ("b", crops[3:10]), ("c", crops[10:])):
        write_cache(tmp_path / f"{name}.json", calibrated(model, some, name))
        parts.append((name, read_cache(tmp_path / f"{name}.json")))
    merged = merge_caches(parts)
    state = {name: one.to_json() for name, one in merged.state.observers.items()}
    assert state == {name: one.to_json() for name, one in whole.state.observers.items()}
    largest = parts[1][1].calibrated
    assert merged.calibrated.channels is largest.channels and merged.calibrated.rounded is largest.rounded
    expected = with_channels(whole.state.observers, largest.channels, ())
    assert (merged.ranges, merged.calibrated.signed) == (expected.ranges, expected.signed)
    assert [s["sha256"][0] for s in merged.sets] == ["a", "b", "c"] and merged.state.crops == len(crops)
    ((count, change),) = merged.ranges.curve
    first = with_channels(parts[0][1].state.observers, largest.channels, ()).ranges
    moved = [abs(r.amax - first[n].amax) / r.amax for n, r in merged.ranges.items()]
    assert count == len(crops) and change == pytest.approx(np.mean(moved))
    write_cache(tmp_path / "abc.json", merged)
    assert read_cache(tmp_path / "abc.json").ranges == merged.ranges


def test_what_cannot_be_merged(model, crops):
    a, b = calibrated(model, crops[:6]), calibrated(model, crops[6:], name="b")
    for other, message in (
        (replace(b, graph="1" * 64), "b.json is the calibration cache of another graph.*1111.*expected 0000"),
        (replace(b, state=CalibrationState(6, observers={"x": Observer()})), "holds 1 tensors, .* of the same tensors"),
        (replace(b, calibrated=None), r"b.json is unfinished \(6 crops\)"),
        (a, "set aaaa.* is already in another file"),
    ):
        with pytest.raises(CalibrationError, match=message):
            merge_caches([("a.json", a), ("b.json", other)])
    # The same people under another sha256: a box more, or another draw, and the images are there twice.
    c = replace(
        calibrated(model, crops[6:], name="c"),
        sets=(described("c", 6, {f"{i}.png": {"sha256": i * 64, "people": []} for i in "bac"}),),
    )
    said = r"c.json: 2 of its 3 images are also in b.json, such as 'b.png' \(sha256 bbbb.*would count twice"
    with pytest.raises(CalibrationError, match=said):
        merge_caches([("a.json", a), ("b.json", b), ("c.json", c)])


def test_another_graph_is_refused_with_both_hashes(model, crops):
    cache = calibrated(model, crops)
    cache.check_graph("0" * 64, "s.json")
    with pytest.raises(CalibrationError, match=f"s.json .*net.*{'0' * 64}.*{'f' * 64}.*posert calibrate"):
        cache.check_graph("f" * 64, "s.json")


def test_images_of_the_gate_are_found_by_hash_and_by_looks(model, crops, tmp_path):
    from posert.calib.looks import phash

    cv2 = pytest.importorskip("cv2")
    small = np.random.default_rng(0).integers(0, 256, (4, 12, 16, 3), np.uint8)
    pictures = [cv2.resize(p, (320, 240), interpolation=cv2.INTER_CUBIC) for p in small]
    png = [cv2.imencode(".png", p)[1].tobytes() for p in pictures]
    jpeg = cv2.imencode(".jpg", pictures[1])[1].tobytes()
    held_out = EvaluationImages(["0.png", "1.png"], lambda name: png[int(name[0])])

    def cache(data):
        import hashlib

        file = {"sha256": hashlib.sha256(data).hexdigest(), "people": [phash(data).tobytes().hex()]}
        return replace(calibrated(model, crops), sets=(described("a", 12, {"mine.jpg": file}),))

    for data, copies, other in ((png[0], 1, "0.png"), (jpeg, 0, "1.png")):
        write_cache(tmp_path / "s.json", cache(data))
        said = (
            f"s.json: of the images that it was calibrated on, {copies} are also in the evaluation set and "
            rf"{1 - copies} look like an image of it: 'mine.jpg' \(there '{other}'\)\. .*--calib and --calib-images"
        )
        with pytest.raises(CalibrationError, match=said):
            read_cache(tmp_path / "s.json").check_held_out(held_out, "s.json")
    cache(png[2]).check_held_out(held_out, "s.json")
    allowing = EvaluationImages(["0.png", "1.png"], lambda name: png[int(name[0])], allow_similar=True)
    cache(jpeg).check_held_out(allowing, "s.json")
    assert allowing.suspects == {"mine.jpg": "1.png"}
    with pytest.raises(CalibrationError, match="1 are also in the evaluation set"):
        cache(png[0]).check_held_out(allowing, "s.json")


def test_files_that_hold_something_else(model, crops, tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(CalibrationError, match=r"cannot read .*a.json: No such file"):
        read_cache(path)
    write_cache(path, calibrated(model, crops))
    good = json.loads(path.read_text())

    def broken(change):
        values = json.loads(json.dumps(good))
        change(values)
        return json.dumps(values)

    for text in (
        "",
        "[]",
        "{",
        "{}",
        "[" * 100_000,
        broken(lambda v: v.update(calibration_cache=1)),
        broken(lambda v: v.update(calibration_cache=2)),
        broken(lambda v: v["channels"].update({"relu0.out": ""})),
        broken(lambda v: v["rounded"]["conv1"].update(scales="AAAA")),
        broken(lambda v: v["rounded"]["conv1"].update(shape=[1])),
        broken(lambda v: v["ranges"]["relu0.out"].update(hi=1.5)),
        broken(lambda v: v.pop("graph")),
        broken(lambda v: v["ranges"].pop("relu0.out")),
        broken(lambda v: v["ranges"]["relu0.out"].update(hi="1")),
        broken(lambda v: v["observers"]["relu0.out"].update(state="AAAA")),
        broken(lambda v: v["observers"]["relu0.out"].pop("nonzero")),
        broken(lambda v: v["curve"].append([1])),
        broken(lambda v: v.update(sets=[])),
        *(
            broken(lambda v, phash=phash: v["sets"][0].update(files={"a.jpg": {"sha256": "0", "people": [phash]}}))
            for phash in ("no hex", "00" * 31)
        ),
        broken(lambda v: v.update(unfinished={"chunk": 1, "due": 1})),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match="a.json is not a calibration cache"):
            read_cache(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="not a calibration cache"):
        read_cache(path)
