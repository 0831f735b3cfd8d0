"""The contract survives JSON, and a value that no network can have is refused by name."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest

from posert.runtime.bundle.contract import Contract
from posert.runtime.datasets import dataset, datasets
from posert.runtime.errors import BundleError


def contract_of(name: str, **changes: Any) -> Contract:
    joints = dataset(name)
    values: dict[str, Any] = {
        "dataset": name,
        "keypoints": joints.keypoints,
        "flip_pairs": joints.flip_pairs,
        "skeleton": joints.skeleton,
        "sigmas": joints.sigmas,
        **{"width": 192, "height": 256, "heatmap_width": 48, "heatmap_height": 64},
    }
    return Contract(**{**values, **changes})


@pytest.mark.parametrize("name", datasets())
def test_every_data_set_survives_json(name: str) -> None:
    contract = contract_of(name, udp=True, decode="udp", model_color="BGR", mean=(0.1, 0.2, 0.3), padding=1, kernel=17)
    assert Contract.from_json(json.loads(json.dumps(contract.to_json()))) == contract
    assert Contract.from_json(contract.to_json()) == contract


def test_fields_without_a_default_are_needed_and_unknown_ones_are_refused() -> None:
    values = contract_of("coco").to_json()
    for field in fields(Contract):
        left = {k: v for k, v in values.items() if k != field.name}
        if field.default is MISSING:
            with pytest.raises(BundleError, match=f"lacks .*'{field.name}'"):
                Contract.from_json(left)
        else:
            assert Contract.from_json(left) == contract_of("coco"), field.name
    with pytest.raises(BundleError, match="unknown .*'more'"):
        Contract.from_json({**values, "more": 1})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("keypoints", [], "keypoints"),
        ("keypoints", "nose", "keypoints"),
        ("keypoints", ["no\ud800se"] * 17, "U\\+D800"),
        ("dataset", "a\udcff", "U\\+DCFF"),
        ("keypoints", [1] * 17, "keypoints"),
        ("keypoints", ["x"] * 1001, "keypoints"),
        ("sigmas", [0.1] * 16, "sigmas"),
        ("sigmas", [0] * 17, "sigmas"),
        ("sigmas", [10**400] * 17, "sigmas"),
        ("flip_pairs", [[0, 17]], "flip_pairs"),
        ("flip_pairs", [[0, -1]], "flip_pairs"),
        ("flip_pairs", [[0, 1, 2]], "flip_pairs"),
        ("flip_pairs", [0, 1], "flip_pairs"),
        ("flip_pairs", [[1, 2], [2, 3]], "flip_pairs"),
        ("flip_pairs", [[0, 0]], "flip_pairs"),
        ("skeleton", [[0.0, 1.0]], "skeleton"),
        ("skeleton", {"0": 1}, "skeleton"),
        ("width", 0, "sizes"),
        ("height", 4097, "sizes"),
        ("heatmap_width", 48.0, "heatmap_width"),
        ("heatmap_height", True, "heatmap_height"),
        ("mean", [0.1, 0.2], "mean"),
        ("mean", [0.1, float("nan"), 0.2], "mean"),
        ("std", [0.1, 0, 0.1], "std"),
        ("std", [0.1, -1, 0.1], "std"),
        ("model_color", "rgb", "model_color"),
        ("color", "RGB", "color"),
        ("padding", 0, "padding"),
        ("padding", 1e-46, "padding"),  # a crop of no size
        ("enlarge", (1.0, 1e-46), "enlarge"),
        ("padding", 11, "padding"),
        ("padding", "1.25", "padding"),
        ("udp", 1, "udp"),
        ("flip_shift", None, "flip_shift"),
        ("decode", "", "decode"),
        ("kernel", 10, "kernel"),
        ("kernel", -1, "kernel"),
        ("kernel", 101, "kernel"),
        ("kernel", 11.0, "kernel"),
        ("dataset", None, "dataset"),
    ],
)
def test_values_out_of_range(field: str, value: Any, named: str) -> None:
    with pytest.raises(BundleError, match=f"contract is not usable: .*{named}.*posert build"):
        Contract.from_json({**contract_of("coco").to_json(), field: value})
