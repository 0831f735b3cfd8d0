"""A narrow network inside a wide one computes the same heatmaps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from posert.export import demo
from posert.export.archs import build_arch
from posert.export.demo.embed import embed
from posert.export.weights.load import random_weights
from posert.runtime.errors import CheckpointError

FILES = sorted({Path(demo.__file__).with_name(f"{name}.safetensors") for name in demo.DEMOS.values()})


@pytest.fixture(scope="module")
def narrow() -> dict[str, Tensor]:
    return random_weights(build_arch("hrnet_demo", 17), seed=3)


def heatmaps(arch: str, state: dict[str, Tensor]) -> Tensor:
    network = build_arch(arch, 17)
    network.load_state_dict(state)
    images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return network.eval()(images)


@pytest.mark.parametrize("arch", ["hrnet_w32", "hrnet_w48", "pose_resnet_50", "pose_resnet_101"])
def test_embedding_keeps_the_function(arch: str) -> None:
    small = demo.DEMOS[arch]
    narrow = random_weights(build_arch(small, 17), seed=3)
    expected = heatmaps(small, narrow)
    seen = heatmaps(arch, embed(narrow, arch))
    assert expected.std() > 0.1
    # Only the order of sums differs: 2e-6 of the range was measured, and a lost channel would move it by percents.
    assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_every_weight_of_the_narrow_network_is_used(narrow: dict[str, Tensor]) -> None:
    wide = embed(narrow, "hrnet_w32")

    def total(state: dict[str, Tensor]) -> float:
        return sum(float(v.double().abs().sum()) for k, v in state.items() if k.endswith(("weight", "bias")))

    assert total(wide) == pytest.approx(total(narrow), rel=1e-6)


def test_a_network_that_does_not_fit_is_refused(narrow: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit into hrnet_demo.*same family"):
        embed(random_weights(build_arch("hrnet_w32", 17)), "hrnet_demo")
    with pytest.raises(CheckpointError, match="does not fit into pose_resnet_50"):
        embed(narrow, "pose_resnet_50")


def test_demo_weights_load_strictly() -> None:
    for arch in ("hrnet_demo", "hrnet_w32", "pose_resnet_demo", "pose_resnet_50"):
        state = demo.demo_weights(arch)
        assert all(value.dtype == torch.float32 for key, value in state.items() if not key.endswith("tracked"))
        build_arch(arch, 17).load_state_dict(state)


def test_an_architecture_without_demo_weights_is_told_which_have_them() -> None:
    with pytest.raises(CheckpointError, match=r"no demo weights for mspn.*hrnet_demo, hrnet_w32"):
        demo.demo_weights("mspn")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_demo_file_is_small_and_its_record_is_its_own(path: Path) -> None:
    assert path.stat().st_size <= 4 * 2**20
    record = json.loads(path.with_suffix(".json").read_text())
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        stored = sum(file.get_slice(key).get_shape() != [] for key in file.keys())  # noqa: SIM118 (not a dict)
    assert stored > 100
    for key, value in facts.items():
        assert record[key] == value or record[key] == json.loads(value), key
    assert record["arch"] == path.stem and record["arch"] in demo.DEMOS
    assert record["parameters"] == sum(p.numel() for p in build_arch(record["arch"], 17).parameters())
    assert record["held_out_images"] >= 400
    assert record["AP75"] <= record["AP50"] and record["AP"] <= record["AP50"]
    # The figure that the demo promises; what it really is stands in the record.
    assert record["AP"] >= 0.9
    assert [point["samples"] for point in record["curve"]] == sorted(point["samples"] for point in record["curve"])
