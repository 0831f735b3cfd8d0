"""The reference: the checkpoint's own normalisation, and a comparison that lets nothing but rounding pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from posert.export.graph.reference import ExportError, Reference, compare, random_crops
from posert.runtime.bundle.contract import Contract

CONTRACT = Contract(
    dataset="coco", keypoints=("a", "b", "c"), flip_pairs=(), skeleton=(), sigmas=(0.1, 0.1, 0.1),
    width=12, height=16, heatmap_width=12, heatmap_height=16, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7),
)  # fmt: skip


class Gives(nn.Module):
    """A network that gives a constant."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(images), *self.value.shape[1:])


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_normalises_as_the_training_code_does(color: str) -> None:
    """OpenCV reads BGR; the training code turns it to the model's order, divides by 255, then mean and std."""
    contract = replace(CONTRACT, model_color=color)
    crops = random_crops(contract, 2)
    expected = crops.astype(np.float64)
    if color == "RGB":
        expected = expected[..., ::-1]
    expected = (expected / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
    (seen,) = Reference(nn.Identity(), contract).infer(crops)
    np.testing.assert_allclose(seen, expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-6)
    assert seen.dtype == np.float32


def test_a_network_in_training_mode_is_put_to_evaluation() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    reference = Reference(network, CONTRACT)
    crops = random_crops(CONTRACT, 2)
    np.testing.assert_array_equal(reference.infer(crops)[0], reference.infer(crops)[0])
    assert not network.training


def test_crops_are_left_alone() -> None:
    crops = random_crops(CONTRACT, 2)
    before = crops.copy()
    Reference(nn.ReLU(inplace=True), CONTRACT).infer(crops)
    np.testing.assert_array_equal(crops, before)


class TestCheckOutput:
    def test_what_the_contract_says(self) -> None:
        Reference(nn.Identity(), CONTRACT).check_output()

    @pytest.mark.parametrize(
        "value",
        [
            torch.zeros(1, 4, 16, 12),
            torch.zeros(1, 3, 12, 16),
            torch.full((1, 3, 16, 12), float("nan")),
            torch.full((1, 3, 16, 12), float("inf")),
        ],
        ids=["joints", "turned", "NaN", "infinity"],
    )
    def test_anything_else(self, value: torch.Tensor) -> None:
        with pytest.raises(ExportError, match=r"reads \(1, 3, 16, 12\)|gives NaN or infinity"):
            Reference(Gives(value), CONTRACT).check_output()


class TestCompare:
    expected = np.random.default_rng(0).normal(0, 1, (2, 3, 8, 6)).astype(np.float32)

    def test_rounding_passes_and_its_size_comes_back(self) -> None:
        seen = self.expected.copy()
        seen[1, 2, 3, 4] += 1e-5
        assert compare("graph", (seen,), (self.expected,)) == pytest.approx(1e-5, rel=0.05)

    @pytest.mark.parametrize("value", [1e-3, np.nan, np.inf, -np.inf])
    def test_more_than_rounding_does_not(self, value: float) -> None:
        """In a single cell: a mean would not see it."""
        seen = self.expected.copy()
        seen[1, 2, 3, 4] += np.float32(value)
        with pytest.raises(ExportError, match="graph differs from the PyTorch model by"):
            compare("graph", (seen,), (self.expected,))

    @pytest.mark.parametrize("part", [np.s_[:1], np.s_[:, :1], np.s_[0]])
    def test_shapes_are_not_broadcast(self, part: Any) -> None:
        same = np.ones_like(self.expected)
        with pytest.raises(ExportError, match="gives"):
            compare("graph", (same[part],), (same,))

    def test_every_output_is_compared(self) -> None:
        other = np.zeros((2, 5), np.float32)
        with pytest.raises(ExportError, match="graph differs"):
            compare("graph", (self.expected, other + 1), (self.expected, other))
        with pytest.raises(ExportError, match=r"gives \(2, 3, 8, 6\), the PyTorch model \(2, 3, 8, 6\), \(2, 5\)"):
            compare("graph", (self.expected,), (self.expected, other))


def test_random_crops_are_reproducible_and_use_all_values() -> None:
    first, again, other = random_crops(CONTRACT, 8), random_crops(CONTRACT, 8), random_crops(CONTRACT, 8, seed=1)
    assert first.shape == (8, 16, 12, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() == 0 and first.max() == 255
