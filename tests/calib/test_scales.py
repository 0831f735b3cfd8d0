"""The file of scales: read back what was written, merge to what one run finds, refuse what does not belong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from posert.calib.histogram import Range
from posert.calib.overlap import EvaluationSet
from posert.calib.ranges import Ranges, Seen, collect
from posert.calib.scales import Scales, merge_scales, read_scales, write_scales
from posert.runtime.errors import CalibrationError


def tensors(model):
    return [n.output[0] for n in model.graph.node if n.op_type in ("Relu", "Conv")]


def described(name, people, files=None):
    return {
        "sha256": name * 64,
        "data": "made up",
        "people": people,
        "images": people,
        "strata": {"large/most/clear": people},
        "files": files or {f"{name}.png": {"sha256": name * 64, "look": None}},
    }


def calibrate(model, crops, method="mse", name="a"):
    seen = Seen()
    ranges = collect(model, [crops], tensors(model), method, seen=seen, threads=1)
    return Scales("net", "0" * 64, method, (described(name, len(crops)),), ranges, seen)


@pytest.fixture
def model(build):
    return build("residual")


@pytest.mark.parametrize("method", ["minmax", "mse", "percentile:99.9"])
def test_what_was_written_is_read_and_the_same_scales_give_the_same_bytes(model, crops, tmp_path, method):
    scales = calibrate(model, crops, method)
    write_scales(tmp_path / "a.json", scales)
    again = read_scales(tmp_path / "a.json")
    assert again.ranges == scales.ranges and again.ranges.curve == scales.ranges.curve and again.finished
    assert replace(again, ranges=scales.ranges, seen=scales.seen) == scales
    write_scales(tmp_path / "b.json", again)
    write_scales(tmp_path / "c.json", calibrate(model, crops, method))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["graph"] == "0" * 64 and values["crops"] == len(crops) and values["method"] == method
    assert values["ranges"]["relu0.out"] == {"lo": 0.0, "hi": scales.ranges["relu0.out"].hi}


@pytest.mark.parametrize("method", ["minmax", "mse", "percentile:99.9"])
def test_merging_gives_what_one_run_over_all_crops_gives(model, crops, tmp_path, method):
    whole = calibrate(model, crops, method)
    parts = []
    for name, some in (("a", crops[:3]), ("b", crops[3:10]), ("c", crops[10:])):
        write_scales(tmp_path / f"{name}.json", calibrate(model, some, method, name))
        parts.append((name, read_scales(tmp_path / f"{name}.json")))
    merged = merge_scales(parts)
    assert merged.ranges == whole.ranges
    assert [s["sha256"][0] for s in merged.sets] == ["a", "b", "c"] and merged.seen.crops == len(crops)
    ((count, change),) = merged.ranges.curve
    first = parts[0][1].ranges
    moved = [abs(r.amax - first[n].amax) / r.amax for n, r in merged.ranges.items()]
    assert count == len(crops) and change == pytest.approx(np.mean(moved))
    write_scales(tmp_path / "abc.json", merged)
    assert read_scales(tmp_path / "abc.json").ranges == whole.ranges


def test_what_cannot_be_merged(model, crops):
    a, b = calibrate(model, crops[:6]), calibrate(model, crops[6:], name="b")
    for other, message in (
        (replace(b, graph="1" * 64), "b.json holds scales of another graph.*1111.*has 0000"),
        (calibrate(model, crops[6:], "minmax", "b"), r"ranges by minmax, a.json holds \d+ by mse"),
        (replace(b, ranges=Ranges({"x": Range(0, 1)})), "same method and tensors"),
        (replace(b, finished=False), "b.json is unfinished, 6 crops"),
        (a, "aaaa are in already; they would count twice"),
    ):
        with pytest.raises(CalibrationError, match=message):
            merge_scales([("a.json", a), ("b.json", other)])
    # The same people under another sha256: a box more, or another draw, and the images are there twice.
    c = replace(
        calibrate(model, crops[6:], name="c"),
        sets=(described("c", 6, {f"{i}.png": {"sha256": i * 64, "look": None} for i in "bac"}),),
    )
    said = r"c.json: 2 of its 3 images are also in b.json, such as 'b.png' \(sha256 bbbb.*would count twice\. Give each"
    with pytest.raises(CalibrationError, match=said):
        merge_scales([("a.json", a), ("b.json", b), ("c.json", c)])
    by_joints = [(name, replace(part, method="keypoints")) for name, part in (("a.json", a), ("b.json", b))]
    with pytest.raises(CalibrationError, match="a.json holds ranges by keypoints, .* merge scales of --method mse"):
        merge_scales(by_joints)


def test_scales_of_another_graph_are_refused_with_both_hashes(model, crops):
    scales = calibrate(model, crops)
    scales.check_graph("0" * 64, "s.json")
    with pytest.raises(CalibrationError, match=f"s.json .*net.*{'0' * 64}.*{'f' * 64}.*posert calibrate"):
        scales.check_graph("f" * 64, "s.json")


def test_images_of_the_gate_are_found_by_hash_and_by_looks(model, crops, tmp_path):
    from posert.calib.overlap import fingerprint

    cv2 = pytest.importorskip("cv2")
    small = np.random.default_rng(0).integers(0, 256, (4, 12, 16, 3), np.uint8)
    pictures = [cv2.resize(p, (320, 240), interpolation=cv2.INTER_CUBIC) for p in small]
    png = [cv2.imencode(".png", p)[1].tobytes() for p in pictures]
    jpeg = cv2.imencode(".jpg", pictures[1])[1].tobytes()
    held_out = EvaluationSet(["0.png", "1.png"], lambda name: png[int(name[0])])

    def scales(data):
        import hashlib

        file = {"sha256": hashlib.sha256(data).hexdigest(), "look": fingerprint(data).tobytes().hex()}
        return replace(calibrate(model, crops), sets=(described("a", 12, {"mine.jpg": file}),))

    for data, why in ((png[0], r"'0.png' \(same sha256\)"), (jpeg, "'1.png' .the pictures differ in")):
        write_scales(tmp_path / "s.json", scales(data))
        with pytest.raises(CalibrationError, match=f"s.json: calibration image 'mine.jpg' is also in .*{why}"):
            read_scales(tmp_path / "s.json").check_held_out(held_out, "s.json")
    scales(png[2]).check_held_out(held_out, "s.json")


def test_files_that_hold_something_else(model, crops, tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(CalibrationError, match=r"cannot read .*a.json: No such file"):
        read_scales(path)
    write_scales(path, calibrate(model, crops))
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
        broken(lambda v: v.update(scales=2)),
        broken(lambda v: v.update(method="guess")),
        broken(lambda v: v.pop("graph")),
        broken(lambda v: v["ranges"].pop("relu0.out")),
        broken(lambda v: v["ranges"]["relu0.out"].update(hi="1")),
        broken(lambda v: v["seen"]["relu0.out"].update(counts="AAAA")),
        broken(lambda v: v["seen"]["relu0.out"].pop("lo")),
        broken(lambda v: v["curve"].append([1])),
        broken(lambda v: v.update(sets=[])),
        *(
            broken(lambda v, look=look: v["sets"][0].update(files={"a.jpg": {"sha256": "0", "look": look}}))
            for look in ("no hex", "00" * 31)
        ),
        broken(lambda v: v.update(unfinished={"chunk": 1, "due": 1})),
    ):
        path.write_text(text)
        with pytest.raises(CalibrationError, match="a.json is not a file of scales"):
            read_scales(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="not a file of scales"):
        read_scales(path)
