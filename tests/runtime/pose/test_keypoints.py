"""Keypoints: selecting people, and the forms that other tools take, each made by the tool itself."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError, PosertError
from posert.runtime.pose.keypoints import Keypoints, joint_columns, person_scores

COCO = dataset("coco").keypoints


def some(count: int = 3, ids: bool = True, detected: bool = True, seed: int = 0) -> Keypoints:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 400, (count, 2))
    return Keypoints(
        rng.uniform(0, 640, (count, 17, 2)).astype(np.float32),
        rng.uniform(0, 1, (count, 17)).astype(np.float32),
        np.concatenate([corner, corner + 200], axis=1).astype(np.float32),
        COCO,
        rng.permutation(100)[:count].astype(np.int64) if ids else None,
        rng.uniform(0.3, 1, count).astype(np.float32) if detected else None,
    )


def equal(a: Keypoints, b: Keypoints) -> bool:
    """Bit for bit."""
    pairs = [(vars(a)[name], vars(b)[name]) for name in ("xy", "score", "boxes", "ids", "detection_score")]
    same = all(x is y is None or (x is not None and y is not None and x.dtype == y.dtype) for x, y in pairs)
    return same and all(np.array_equal(x, y) for x, y in pairs if x is not None) and a.names == b.names


@given(st.data())
def test_people_are_selected_as_rows_of_an_array(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 6))
    people = some(count, ids=data.draw(st.booleans()), detected=data.draw(st.booleans()))
    index = st.integers(-count, count - 1) if count else st.nothing()
    which = data.draw(
        st.one_of(
            st.lists(st.booleans(), min_size=count, max_size=count).map(lambda m: np.array(m, bool)),
            st.lists(index, max_size=8).map(lambda i: np.array(i, int)) if count else st.just(np.zeros(0, int)),
            st.slices(count),
            *([index] if count else []),
        )
    )
    found = people[which]
    rows = np.atleast_1d(np.arange(count)[which])
    assert isinstance(found, Keypoints) and len(found) == len(rows)
    np.testing.assert_array_equal(found.xy, people.xy[rows])
    np.testing.assert_array_equal(found.score, people.score[rows])
    np.testing.assert_array_equal(found.boxes, people.boxes[rows])
    assert (found.ids is None) == (people.ids is None)
    if people.ids is not None and found.ids is not None:
        np.testing.assert_array_equal(found.ids, people.ids[rows])
    if people.detection_score is not None and found.detection_score is not None:
        np.testing.assert_array_equal(found.detection_score, people.detection_score[rows])


def test_people_are_selected_as_users_write_it() -> None:
    people = some(4)
    assert equal(people[:], people)
    assert len(people[people.score.mean(1) > 2]) == 0
    assert [len(one) for one in people] == [1, 1, 1, 1]  # also ends a loop
    assert equal(people[[2, 0]], people[np.array([2, 0])])
    assert people[-1].xy.shape == (1, 17, 2)


@pytest.mark.parametrize("which", [4, -5, np.array([True, False]), [9], (0, 1)])
def test_who_is_not_there_is_an_index_error(which: Any) -> None:
    with pytest.raises(IndexError):
        some(4)[which]


def test_a_record_without_ids_is_the_one_of_old() -> None:
    people = Keypoints(
        np.array([[[1.00004, 2.5]]], np.float32), np.array([[0.33333]], np.float32), np.ones((1, 4), np.float32), ("a",)
    )
    assert json.dumps(people.to_json()) == '[{"box": [1.0, 1.0, 1.0, 1.0], "keypoints": [[1.0, 2.5, 0.3333]]}]'


def test_a_record_has_id_and_detection_score_where_they_are_known() -> None:
    people = some(2)
    assert people.ids is not None and people.detection_score is not None
    for record, number, score in zip(people.to_json(), people.ids, people.detection_score, strict=True):
        assert list(record) == ["box", "keypoints", "id", "detection_score"]
        assert record["id"] == number and record["detection_score"] == pytest.approx(score, abs=5e-5)
    assert list(some(1, detected=False).to_json()[0]) == ["box", "keypoints", "id"]
    assert json.loads(json.dumps(people.to_json())) == people.to_json()


def test_coco_records() -> None:
    people = some(2)
    assert people.ids is not None and people.detection_score is not None
    records = people.to_coco(139)
    assert [r["image_id"] for r in records] == [139, 139] and {r["category_id"] for r in records} == {1}
    assert [r["track_id"] for r in records] == people.ids.tolist() and "bbox" not in records[0]
    joints = np.array([r["keypoints"] for r in records]).reshape(2, 17, 3)
    np.testing.assert_allclose(joints[..., :2], people.xy, atol=5e-5)  # rounded to four digits
    np.testing.assert_allclose(joints[..., 2], people.score, atol=5e-5)
    means = [s[s > 0.2].mean(dtype=float) for s in people.score]
    expected = means * people.detection_score
    np.testing.assert_allclose([r["score"] for r in records], expected, rtol=1e-6)  # float32 against float64 sums
    plain = some(2, ids=False, detected=False)
    assert "track_id" not in plain.to_coco(1)[0]
    assert [r["score"] for r in plain.to_coco(1)] == person_scores(plain.score, np.ones(2)).tolist()
    parts = plain.to_coco("a.png", category_id=7, parts=(("keypoints", 0, 5), ("foot_kpts", 5, 17)))[0]
    assert (len(parts["keypoints"]), len(parts["foot_kpts"]), parts["category_id"]) == (15, 36, 7)
    assert some(0).to_coco(1) == some(0).to_json() == []


def test_supervision_draws_them() -> None:
    supervision = pytest.importorskip("supervision")
    people = some(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = people.to_supervision()
    assert isinstance(found, supervision.KeyPoints) and len(found) == 3
    np.testing.assert_array_equal(found.xy, people.xy)
    np.testing.assert_array_equal(found.keypoint_confidence, people.score)
    np.testing.assert_array_equal(found.detection_confidence, people.detection_score)
    np.testing.assert_array_equal(found.data["tracker_id"], people.ids)
    np.testing.assert_array_equal(found.data["xyxy"], people.boxes)
    kept = found[found.detection_confidence > 0.5]
    assert len(kept) == int((found.detection_confidence > 0.5).sum()) == len(kept.data["tracker_id"])
    canvas = np.zeros((700, 700, 3), np.uint8)
    assert supervision.VertexAnnotator().annotate(canvas, found).any()
    boxes = found.as_detections()
    np.testing.assert_allclose(boxes.xyxy[:, :2], people.xy.min(axis=1))
    nobody = some(0, ids=False, detected=False).to_supervision()
    assert len(nobody) == 0 and nobody.detection_confidence is None and "tracker_id" not in nobody.data


def test_what_is_not_a_person_is_not_called_one() -> None:
    supervision = pytest.importorskip("supervision")
    mice = replace(some(2), subject="instance")
    assert mice[:1].to_supervision().data["class_name"].tolist() == ["instance"]
    assert isinstance(mice.to_supervision(), supervision.KeyPoints)
    assert some(1).to_supervision().data["class_name"].tolist() == ["person"]


def test_an_old_supervision_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "0.25.1"

        class KeyPoints:
            def __init__(self, xy: Any, class_id: Any = None, confidence: Any = None, data: Any = None) -> None: ...

    monkeypatch.setitem(sys.modules, "supervision", Old())  # type: ignore[arg-type]
    with pytest.raises(PosertError, match=r"0\.29 or newer, 0\.25\.1 is installed: pip install --upgrade"):
        some().to_supervision()


@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_a_data_frame(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip(library)
    if library == "pandas":
        monkeypatch.setitem(sys.modules, "polars", None)  # as if it were not installed
    people = some(3)
    frame = people.to_dataframe()
    assert isinstance(frame, module.DataFrame) and frame.shape == (3, 1 + 1 + 4 + 1 + 3 * 17)
    columns = list(frame.columns)
    assert columns[:10] == ["person", "id", "x1", "y1", "x2", "y2", "detection_score", "nose_x", "nose_y", "nose_score"]
    for k, name in enumerate(COCO):
        np.testing.assert_array_equal(frame[f"{name}_x"].to_numpy(), people.xy[:, k, 0])
        np.testing.assert_array_equal(frame[f"{name}_y"].to_numpy(), people.xy[:, k, 1])
        np.testing.assert_array_equal(frame[f"{name}_score"].to_numpy(), people.score[:, k])
    np.testing.assert_array_equal(frame["id"].to_numpy(), people.ids)
    columns = list(replace(people, raw=people.xy + 1).to_dataframe().columns)
    assert columns[-2:] == ["right_ankle_raw_x", "right_ankle_raw_y"] and len(columns) == 7 + 5 * 17
    bare = some(0, ids=False, detected=False).to_dataframe()
    assert bare.shape == (0, 1 + 4 + 3 * 17) and "id" not in bare.columns


def test_fiftyone() -> None:
    fiftyone = pytest.importorskip("fiftyone")
    people = some(2)
    assert people.ids is not None and people.detection_score is not None
    found = people.to_fiftyone(640, 480)
    assert isinstance(found, fiftyone.Keypoints)
    for i, one in enumerate(found.keypoints):
        assert (one.label, one.index) == ("person", people.ids[i])
        assert one.detection_score == pytest.approx(people.detection_score[i])
        np.testing.assert_allclose(np.array(one.points) * (640, 480), people.xy[i], rtol=1e-6)
        np.testing.assert_allclose(one.confidence, people.score[i])
    sample = fiftyone.Sample(filepath="a.png", pose=found)
    assert len(sample["pose"].keypoints) == 2
    (plain,) = some(1, ids=False, detected=False).to_fiftyone(10, 10).keypoints
    assert plain.index is None


@pytest.mark.parametrize("method", ["to_supervision", "to_fiftyone", "to_dataframe"])
def test_a_missing_library_is_named(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("supervision", "fiftyone", "polars", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)
    arguments = (64, 64) if method == "to_fiftyone" else ()
    package = {"to_dataframe": "polars"}.get(method, method[3:])
    with pytest.raises(PosertError, match=f"{method} needs the package {package}.*: pip install {package}$"):
        getattr(some(), method)(*arguments)


def test_joints_with_one_name_make_no_table() -> None:
    for names in (("a", "a"), ("detection",), ("a_x", "a_x")):
        with pytest.raises(InputError, match="two columns"):
            joint_columns(names)
    assert joint_columns(("a",)) == ["a_x", "a_y", "a_score"]
    assert joint_columns(("a", "b"), raw=True)[6:] == ["a_raw_x", "a_raw_y", "b_raw_x", "b_raw_y"]
    with pytest.raises(InputError, match="two columns 'a_raw_x'"):
        joint_columns(("a", "a_raw"), raw=True)
