"""OKS average precision against pycocotools, xtcocotools and the official CrowdPose and WholeBody evaluations."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from posert.runtime.datasets import dataset
from posert.runtime.errors import InputError
from posert.runtime.metrics import oks
from posert.runtime.metrics.oks import OksEvaluation, paired_interval
from posert.runtime.metrics.oks_crowd import crowdpose_metrics
from posert.runtime.metrics.oks_matching import AREAS
from posert.runtime.metrics.oks_parts import wholebody_metrics

Golden = Callable[[str], Any]
Coco = dict[str, Any]


SIGMAS = dataset("coco").sigmas


def evaluate_oks(coco: Any, results: Any, sigmas: Any = SIGMAS, **options: Any) -> OksEvaluation:
    """With COCO's constants, unless there are others."""
    return oks.evaluate_oks(coco, results, sigmas, **options)


def figures(scored: OksEvaluation) -> list[float]:
    return list(scored.metrics.values())


def with_ids_from_0(coco: Coco) -> Coco:
    return {**coco, "annotations": [{**person, "id": person["id"] - 1} for person in coco["annotations"]]}


@pytest.mark.parametrize("rules", ["pycocotools", "xtcocotools"])
@pytest.mark.parametrize("first_id", [0, 1])
def test_coco(golden: Golden, rules: str, first_id: int) -> None:
    file, expected = golden("e_coco.json.gz"), golden("e_eval.json")
    coco = file["gt"] if first_id else with_ids_from_0(file["gt"])
    key = f"coco_{rules}" + ("" if first_id else "_annotation_ids_from_0")
    assert figures(evaluate_oks(coco, file["dets"], rules=rules)) == expected[key]


def test_coco_takes_the_area_of_a_detection_from_its_bbox(golden: Golden) -> None:
    file, expected = golden("e_coco.json.gz"), golden("e_eval.json")
    results = [{**found, "bbox": [0, 0, 10, 10]} for found in file["dets"]]
    assert figures(evaluate_oks(file["gt"], results)) == expected["coco_pycocotools_when_json_has_bbox_10x10"]


def test_curves(golden: Golden) -> None:
    file, arrays = golden("e_coco.json.gz"), golden("e_eval_arrays.npz")
    scored = evaluate_oks(file["gt"], file["dets"], rules="xtcocotools")
    for area in range(len(AREAS)):
        precision, recall = scored.curves(area)
        np.testing.assert_array_equal(precision, arrays["coco_precision"][:, :, 0, area, 0])
        np.testing.assert_array_equal(recall, arrays["coco_recall"][:, 0, area, 0])


def test_left_out_detections_are_counted(golden: Golden) -> None:
    file = golden("e_coco.json.gz")
    without = [d for d in file["dets"] if any(score > 0 for score in d["keypoints"][2::3])]
    assert evaluate_oks(file["gt"], file["dets"], rules="xtcocotools").left_out == len(file["dets"]) - len(without) == 1
    assert evaluate_oks(file["gt"], file["dets"]).left_out == 0


@pytest.mark.parametrize(("protocol", "key"), [("legacy", "aic_v06_to_v010_sigmas_x2"), ("v029", "aic_v011_to_v029")])
def test_aic(golden: Golden, protocol: str, key: str) -> None:
    file = golden("e_aic.json.gz")
    sigmas = dataset("aic").sigmas_for(protocol)
    scored = evaluate_oks(file["gt"], file["dets"], sigmas, use_area=False, rules="xtcocotools")
    assert figures(scored) == golden("e_eval.json")[key]


def test_crowdpose(golden: Golden) -> None:
    file = golden("e_crowdpose.json.gz")
    seen = crowdpose_metrics(dataset("crowdpose"), file["gt"], file["dets"])
    assert list(seen) == ["AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP (E)", "AP (M)", "AP (H)"]
    assert list(seen.values()) == golden("e_eval.json")["crowdpose"]


def test_wholebody(golden: Golden) -> None:
    file, expected = golden("e_wholebody.json.gz"), golden("e_eval.json")
    seen = wholebody_metrics(dataset("coco_wholebody"), file["gt"], file["dets"])
    for title, parts in {"Body": ["body"], "Foot": ["foot"], "Face": ["face"], "Whole": ["whole"]}.items():
        assert [seen[f"{title} AP"], seen[f"{title} AR"]] == [expected[f"wholebody_{parts[0]}"][i] for i in (0, 5)]
    left, right = expected["wholebody_lefthand"], expected["wholebody_righthand"]
    assert seen["Hand AP"] == pytest.approx((left[0] + right[0]) / 2, abs=1e-15)
    assert seen["Hand AR"] == pytest.approx((left[5] + right[5]) / 2, abs=1e-15)
    assert len(seen) == 10


@pytest.mark.parametrize("which", ["all", "half"])
def test_parts_are_ranked_by_their_own_scores(golden: Golden, which: str) -> None:
    """Against xtcocotools 1.14.3 on the same scores; with "half", every other result has `score` alone."""
    file, expected = golden("e_wholebody.json.gz"), golden("e_wholebody_part_scores.json")[which]
    results, rng = [], np.random.default_rng(12)
    for index, found in enumerate(file["dets"]):
        names = ("foot", "face", "lefthand", "righthand", "wholebody")
        scores = {f"{name}_score": float(s) for name, s in zip(names, rng.random(5), strict=True)}
        results.append({**found, **(scores if which == "all" or index % 2 else {})})
    seen = wholebody_metrics(dataset("coco_wholebody"), file["gt"], results)
    for title, part in {"Body": "body", "Foot": "foot", "Face": "face", "Whole": "whole"}.items():
        assert [seen[f"{title} AP"], seen[f"{title} AR"]] == expected[part]
    hands = np.mean([expected["lefthand"], expected["righthand"]], axis=0)
    assert [seen["Hand AP"], seen["Hand AR"]] == pytest.approx(hands.tolist(), abs=1e-15)
    plain = wholebody_metrics(dataset("coco_wholebody"), file["gt"], file["dets"])
    assert seen["Body AP"] == plain["Body AP"] and seen["Foot AP"] != plain["Foot AP"]


def by_pycocotools(coco: Coco, results: list[dict[str, Any]]) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy({**coco, "info": {}})
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats]


def draw_people(seed: int, images: int) -> tuple[Coco, list[dict[str, Any]]]:
    """Crowded images with ties of every kind: equal scores, equal people, exact hits, areas on the limits."""
    rng = np.random.default_rng(seed)
    people, results = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 5)):
            x, y = rng.integers(0, 300, 2)
            side = int(rng.choice([8, 32, 96, 200]))
            joints = np.concatenate([rng.integers(0, side + 1, (17, 2)) + [x, y], rng.integers(0, 3, (17, 1))], axis=1)
            if rng.random() < 0.2:
                joints[:, 2] = 0
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": int(rng.random() < 0.1),
                    "area": float(side**2),
                    "bbox": [int(x), int(y), side, side],
                    "num_keypoints": int((joints[:, 2] > 0).sum()),
                    "keypoints": joints.ravel().tolist(),
                }
            )
            for _ in range(rng.integers(0, 9)):
                found = joints.astype(np.float64)
                found[:, :2] += rng.choice([0, 0.02, 0.1]) * side * rng.normal(size=(17, 2))
                found[:, 2] = rng.random(17)
                results.append(
                    {
                        "image_id": image,
                        "category_id": 1,
                        "score": float(rng.choice([0.25, 0.5, rng.random()])),
                        "keypoints": found.ravel().tolist(),
                    }
                )
    return {"images": [{"id": i} for i in range(images)], "annotations": people, "categories": [{"id": 1}]}, results


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_equal_to_pycocotools(seed: int, images: int) -> None:
    coco, results = draw_people(seed, images)
    if results:
        assert figures(evaluate_oks(coco, results)) == by_pycocotools(coco, results)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_weights_are_repeated_images(seed: int) -> None:
    coco, results = draw_people(seed, 4)
    for index, found in enumerate(results):
        found["score"] = 1 / (1 + index)  # equal scores would be taken one by one in a repeated image
    weights = np.random.default_rng(seed).integers(0, 3, 4)
    repeated: Coco = {"images": [], "annotations": [], "categories": coco["categories"]}
    twice: list[dict[str, Any]] = []
    for image, times in enumerate(weights):
        for time in range(times):
            name = 10 * image + time
            repeated["images"].append({"id": name})
            for person in coco["annotations"]:
                if person["image_id"] == image:
                    person = {**person, "image_id": name, "id": len(repeated["annotations"]) + 1}
                    repeated["annotations"].append(person)
            for found in results:
                if found["image_id"] == image:  # a hair apart, the copies still follow one another
                    twice.append({**found, "image_id": name, "score": found["score"] - 1e-12 * time})
    _, recall = evaluate_oks(coco, results).curves(weights=weights)
    expected_precision, expected_recall = evaluate_oks(repeated, twice).curves()
    np.testing.assert_allclose(recall, expected_recall, rtol=1e-12)
    # between two copies the curve of the repeated images has one more corner
    precision, _ = evaluate_oks(coco, results).curves(weights=weights)
    assert np.abs(precision - expected_precision).mean() < 0.05


def test_unit_weights_and_order_of_records_change_nothing(golden: Golden) -> None:
    file = golden("e_coco.json.gz")
    scored = evaluate_oks(file["gt"], file["dets"])
    for area in range(3):
        ones = scored.curves(area, np.ones(len(scored.images), np.int64))
        for a, b in zip(ones, scored.curves(area), strict=True):
            np.testing.assert_array_equal(a, b)
    # images in another order: only equal scores across images could tell, and precision is made monotone over them
    turned = {**file["gt"], "images": file["gt"]["images"][::-1]}
    assert figures(evaluate_oks(turned, file["dets"])) == figures(scored)


def test_perfect_no_and_no_matching_results() -> None:
    coco, _ = draw_people(3, 6)
    people = [p for p in coco["annotations"] if p["num_keypoints"] and not p["iscrowd"]]
    coco["annotations"] = people
    perfect = [{**{k: p[k] for k in ("image_id", "category_id", "keypoints")}, "score": 1.0} for p in people]
    assert evaluate_oks(coco, perfect).metrics["AP"] == pytest.approx(1)
    assert evaluate_oks(coco, perfect).metrics["AR75"] == 1
    assert evaluate_oks(coco, []).metrics["AP"] == evaluate_oks(coco, []).metrics["AR"] == 0
    nobody = {**coco, "annotations": []}
    assert set(figures(evaluate_oks(nobody, perfect))) == set(figures(evaluate_oks(nobody, []))) == {-1.0}


def test_a_paired_interval_holds_the_difference_and_tells_models_apart() -> None:
    coco, results = draw_people(0, 60)
    rng = np.random.default_rng(0)
    worse = copy.deepcopy(results)
    for found in worse:
        joints = np.array(found["keypoints"]).reshape(17, 3)
        joints[:, :2] += rng.normal(0, 2, (17, 2))
        found["keypoints"] = joints.ravel().tolist()
    a, b = evaluate_oks(coco, results), evaluate_oks(coco, worse)
    delta, low, high = paired_interval(a, b, resamples=300)
    assert delta == a.metrics["AP"] - b.metrics["AP"]
    assert 0 < low < delta < high
    assert paired_interval(a, b, resamples=300) == (delta, low, high), "the seed fixes the draws"
    assert paired_interval(b, a, resamples=300) == pytest.approx((-delta, -high, -low), abs=1e-12)
    assert paired_interval(a, a, resamples=50) == (0, 0, 0)


def test_a_paired_interval_covers_as_often_as_it_says() -> None:
    """Halves of one population: the difference of their models is 0, and 90 % intervals hold it about 9 times in 10."""
    rng, held, trials = np.random.default_rng(1), 0, 40
    for trial in range(trials):
        coco, results = draw_people(1000 + trial, 40)
        noisy = []
        for _ in range(2):
            copies = copy.deepcopy(results)
            for found in copies:
                joints = np.array(found["keypoints"]).reshape(17, 3)
                joints[:, :2] += rng.normal(0, 1.5, (17, 2))
                found["keypoints"] = joints.ravel().tolist()
            noisy.append(evaluate_oks(coco, copies))
        _, low, high = paired_interval(*noisy, resamples=100, confidence=0.9)
        held += low <= 0 <= high
    # 36 expected; fewer than 30 have a probability of 0.2 % for a sound interval
    assert held >= 30


def test_evaluations_of_different_annotations_do_not_pair() -> None:
    a = evaluate_oks(*draw_people(0, 5))
    with pytest.raises(InputError, match="different annotations"):
        paired_interval(a, evaluate_oks(*draw_people(0, 6)))


def spoil(coco: Coco, results: list[dict[str, Any]], where: str, field: str, value: Any) -> None:
    entry = {"annotations": coco["annotations"], "results": results, "images": coco["images"]}[where][2]
    if value is KeyError:
        del entry[field]
    else:
        entry[field] = value


NAN = float("nan")


@pytest.mark.parametrize(
    ("where", "field", "value", "message"),
    [
        ("results", "keypoints", KeyError, r"results\[2\] lacks 'keypoints' \(it has .*\); 1 of \d+ results"),
        ("results", "score", KeyError, r"results\[2\] lacks 'score'"),
        ("results", "image_id", 99, r"results\[2\] is in image 99, which is not annotated"),
        ("results", "category_id", 18, r"results\[2\] has the category 18, the annotations know \[1\]"),
        ("results", "keypoints", [1.0] * 42, r"results\[2\] has 42 numbers in 'keypoints', expected 51 numbers \(17"),
        ("results", "keypoints", [1.0] * 50 + [NAN], r"results\[2\] has values in 'keypoints' that are not finite"),
        ("results", "keypoints", [1.0] * 50 + ["x"], r"results\[2\] has values in 'keypoints'"),
        ("results", "keypoints", None, r"results\[2\] has None in 'keypoints'"),
        ("results", "score", NAN, r"results\[2\] has nan in 'score', expected a finite number"),
        ("results", "score", None, r"results\[2\] has None in 'score', expected a finite number"),
        (
            "annotations",
            "keypoints",
            [0] * 42,
            r"annotations\[2\] \(id 3\) has 42 numbers in 'keypoints', expected 51",
        ),
        ("annotations", "area", KeyError, r"annotations\[2\] \(id 3\) lacks 'area'"),
        ("annotations", "bbox", [0, 0, 1], r"annotations\[2\] \(id 3\) has 3 numbers in 'bbox'"),
        ("annotations", "num_keypoints", KeyError, r"lacks 'num_keypoints'"),
        ("annotations", "image_id", 77, r"annotations\[2\] \(id 3\) is in image 77"),
        ("annotations", "id", 1, r"annotations: the id 1 occurs more than once"),
        ("images", "id", KeyError, r"images\[2\] lacks 'id'"),
        ("images", "id", 0, r"images: the id 0 occurs more than once"),
        ("images", "id", "two", r"image ids must be all numbers or all names"),
    ],
)
def test_bad_records_are_named(where: str, field: str, value: Any, message: str) -> None:
    coco, results = draw_people(5, 6)
    spoil(coco, results, where, field, value)
    with pytest.raises(InputError, match=message):
        evaluate_oks(coco, results)


def test_bad_files_are_named() -> None:
    coco, results = draw_people(5, 6)
    with pytest.raises(InputError, match="holds the lists `images` and `annotations`, this one has list"):
        evaluate_oks(results, results)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="results must be a list, not dict"):
        evaluate_oks(coco, coco)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"results\[0\] is int, expected an object with"):
        evaluate_oks(coco, [1])  # type: ignore[list-item]
    with pytest.raises(InputError, match="unknown OKS rules 'coco'"):
        evaluate_oks(coco, results, rules="coco")


def test_crowdpose_without_crowding_is_named(golden: Golden) -> None:
    file = copy.deepcopy(golden("e_crowdpose.json.gz"))
    del file["gt"]["images"][4]["crowdIndex"]
    with pytest.raises(InputError, match=r"images\[4\].*lacks 'crowdIndex'.*1 of 60"):
        crowdpose_metrics(dataset("crowdpose"), file["gt"], file["dets"])
