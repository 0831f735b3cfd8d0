"""A contract is broken in each of the usual ways: exactly this mistake is named, and none where there is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from posert.export.catalog import find
from posert.export.trial import Subjects, judge
from posert.export.trial.judgement import MIN_IMAGES
from posert.runtime.bundle.contract import Contract

RIGHT: Contract = find("hrnet_demo").contract()
IMAGENET = ["mean: [0.485, 0.456, 0.406]", "std: [0.229, 0.224, 0.225]"]
PAIRS = "flip_pairs: [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14], [15, 16]]"

BROKEN: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "the other colours": ({"model_color": "BGR"}, "colours", ["model_color: RGB"]),
    "no padding": ({"padding": 1.0}, "padding", ["padding: 1.25"]),
    "padded twice": ({"padding": 1.25**2}, "padding", ["padding: 1.25"]),
    "udp": ({"udp": True}, "crop and map", ["udp: false"]),
    "udp of the map": ({"heatmap_udp": True}, "crop and map", ["heatmap_udp: null"]),
    "raw pixels": ({"mean": (0.0,) * 3, "std": (1 / 255,) * 3}, "pixels", IMAGENET),
    "not normalised": ({"mean": (0.0,) * 3, "std": (1.0,) * 3}, "pixels", IMAGENET),
    "in 0..255": ({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}, "pixels", IMAGENET),
    "half a cell": ({"decode": "hourglass"}, "decoding", ["decode: default"]),
    "flip shift": ({"flip_shift": False}, "flip test", ["flip_shift: true"]),
    "no pairs": ({"flip_pairs": ()}, "flip test", [PAIRS]),
}


TWINS = ("padded twice", "in 0..255")  # like "no padding" and "raw pixels"


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in TWINS)) for n in BROKEN])
def test_a_mistake_is_named_alone(name: str, trying: Any) -> None:
    fields, kind, lines = BROKEN[name]
    found = judge(trying(replace(RIGHT, **fields)))
    assert [(change.kind, list(change.lines)) for change in found.found] == [(kind, lines)]
    (change,) = found.found
    assert found.mended == RIGHT
    assert change.named and change.after.distance < change.before.distance
    assert 0 < change.interval[0] <= change.gain <= change.interval[1]
    assert change.gain == pytest.approx(change.before.distance - change.after.distance)
    json.dumps(found.to_json(), allow_nan=False)


def test_nothing_is_named_for_the_right_contract(trying: Any) -> None:
    subjects = trying(RIGHT)
    found = judge(subjects)
    assert found.found == () and found.mended == RIGHT and not found.note
    assert found.agreement.pck > 0.95 and found.agreement.distance < 0.02
    assert not any(change.named for change in found.tried)
    kinds = {"colours", "pixels", "padding", "crop and map", "decoding", "joints", "flip test"}
    assert {change.kind for change in found.tried} == kinds
    # base, colours, three of pixels, two paddings, the crop by UDP once for two alternatives, mirror images
    assert subjects.runs == 9


def test_a_finer_rule_is_a_choice(trying: Any) -> None:
    """DARK brings joints nearer to exact labels, and a network that was trained for quarters of a cell is not wrong."""
    finer = {change.words for change in judge(trying(RIGHT)).tried if change.finer}
    assert "the decode rule unbiased" in finer


def test_two_mistakes_are_named_one_after_the_other(trying: Any) -> None:
    found = judge(trying(replace(RIGHT, model_color="BGR", padding=1.0)))
    assert {change.kind for change in found.found} == {"colours", "padding"} and found.mended == RIGHT
    first, second = found.found
    assert second.before == first.after


@pytest.mark.parametrize("kind", ["exchanged", "shuffled"])
def test_the_order_of_the_joints(kind: str, trying: Any) -> None:
    """Channel j of the network is really the joint `order[j]`."""
    order = list(RIGHT.flip_index) if kind == "exchanged" else np.random.default_rng(0).permutation(17).tolist()
    found = judge(trying(RIGHT, channels=order))
    assert [change.kind for change in found.found] == ["joints"]
    words = {"exchanged": "left and right exchanged", "shuffled": "the joints come in another order"}
    assert found.found[0].words == words[kind]
    assert found.mended.keypoints == tuple(RIGHT.keypoints[k] for k in order)
    named = {frozenset(found.mended.keypoints[k] for k in pair) for pair in found.mended.flip_pairs}
    assert named == {frozenset(RIGHT.keypoints[k] for k in pair) for pair in RIGHT.flip_pairs}


def test_pairs_are_not_judged_by_a_useless_flip_test(trying: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that knows no mirror images: other pairs are nearer, and a flip test stays worse than none."""
    subjects = trying(replace(RIGHT, flip_pairs=()))
    outputs = subjects.outputs

    def lost(contract: Contract, crops: Any, mirrored: bool = False, advance: Any = None) -> Any:
        found = outputs(contract, crops, mirrored, advance)
        return tuple(1.2 * np.roll(output, 7, axis=2) for output in found) if mirrored else found

    monkeypatch.setattr(subjects, "outputs", lost)
    found = judge(subjects)
    pairs = [change for change in found.tried if change.words == "other joints swap in a mirror image"]
    assert pairs and pairs[0].interval[0] > 0 and found.found == ()


def test_too_few_images(trying: Any) -> None:
    subjects: Subjects = trying(RIGHT)
    people = subjects.people
    few = people.image < MIN_IMAGES - 1
    joints = people.joints
    assert joints is not None
    subjects.people = replace(
        people,
        image=people.image[few],
        xyxy=people.xyxy[few],
        joints=joints[few],
        image_ids=people.image_ids[: int(few.sum())],
        source=people.source[few],
        box_score=people.box_score[few],
    )
    found = judge(Subjects(subjects.reference, subjects.people, subjects.load))
    assert found.found == found.tried == () and f"at least {MIN_IMAGES} are needed" in found.note
    assert found.agreement.pck > 0.9
