"""What MMPose 1.3.2's codecs make of heatmaps and SimCC vectors: peaks inside, at borders, and empty maps.

goldens/decode_mmpose1.npz holds the outputs and what `codec.decode` of the library gave, px of the crop.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posert.runtime.bundle.contract import Contract
from posert.runtime.pose.decode import decode, to_frame

GOLDENS = Path(__file__).parents[2] / "goldens" / "decode_mmpose1.npz"
with np.load(GOLDENS) as _archive:
    CASES = sorted({name.partition("/")[0] for name in _archive})


def rule_of(codec: dict[str, Any]) -> dict[str, Any]:
    """Fields of the contract, written out by hand: the reader of configs is tested elsewhere."""
    if codec["type"] == "SimCCLabel":
        kernels = {4.9: 29, 5.66: 35, 6.0: 37, 6.93: 43}  # int((sigma * 20 - 7) // 3), made odd downwards
        sigma = codec["sigma"] if isinstance(codec["sigma"], list) else [codec["sigma"]] * 2
        size = [round(codec["simcc_split_ratio"] * side) for side in codec["input_size"]]
        rule = {"decode": "simcc_dark" if codec.get("use_dark") else "simcc"}
        rule |= {"kernel": kernels[sigma[0]], "kernel_y": kernels[sigma[1]]}
    else:
        size = codec["heatmap_size"]
        name = {
            "MSRAHeatmap": "unbiased" if codec.get("unbiased") else "msra",
            "UDPHeatmap": "udp_heatmap_combined" if codec.get("heatmap_type") == "combined" else "udp_heatmap",
            "MegviiHeatmap": "megvii",
        }[codec["type"]]
        kernel = codec.get("kernel_size") or codec.get("blur_kernel_size", 11)
        rule = {"decode": name, "kernel": kernel, "heatmap_udp": codec["type"] == "UDPHeatmap"}
    return rule | dict(zip(("heatmap_width", "heatmap_height"), size, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_joints_are_those_of_the_library(case: str) -> None:
    with np.load(GOLDENS) as archive:
        golden = {name.partition("/")[2]: archive[name] for name in archive if name.startswith(f"{case}/")}
    codec = json.loads(str(golden["codec"]))
    width, height = codec["input_size"]
    joints = golden["keypoints"].shape[1]
    names = tuple(f"joint{k}" for k in range(joints))
    contract = Contract("test", names, (), (), (), width, height, **rule_of(codec))
    outputs = tuple(golden[name] for name in ("heatmaps", "simcc_x", "simcc_y") if name in golden)
    cells, score = decode(outputs, contract)
    middle, extent = np.array([[width / 2, height / 2]]), np.array([[width, height]])
    xy = to_frame(cells, middle, extent, contract.heatmap_width, contract.heatmap_height, contract.map_udp)
    # Of an empty map the library's Newton steps give a place nowhere near; its score says that it means nothing.
    found = golden["scores"] > 0
    assert found.sum() >= 5
    # single precision of a coordinate, and of the library's Newton step
    np.testing.assert_allclose(xy[found], golden["keypoints"][found], rtol=0, atol=5e-5)
    np.testing.assert_allclose(score[found], golden["scores"][found], rtol=2e-7)
    assert (score[~found] <= 0).all()
