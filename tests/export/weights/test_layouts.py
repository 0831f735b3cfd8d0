"""How checkpoints of configs spell the keys of their networks."""

from __future__ import annotations

import pytest
import torch

from posert.export.networks import network_of
from posert.export.weights.checkpoint import fit
from posert.export.weights.layouts import recognise
from posert.runtime.errors import CheckpointError

BACKBONE = {"type": "ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8}


def of(*keys: str) -> dict[str, torch.Tensor]:
    return {key: torch.full((1,), float(i)) for i, key in enumerate(keys)}


def test_the_convolutions_of_an_old_head_are_told_from_its_last_layer() -> None:
    """MMPose 0.x has them in one sequence, 1.x apart; its hook renames an old file in the same way."""
    state = of(*(f"keypoint_head.final_layer.{n}.weight" for n in (0, 1, 3, 4, 6)), "keypoint_head.final_layer.6.bias")
    mapped, layout = recognise(state)
    assert layout.name == "mmpose-0.x"
    names = ["conv_layers.0.weight", "conv_layers.1.weight", "conv_layers.3.weight", "conv_layers.4.weight"]
    assert list(mapped) == [*names, "final_layer.weight", "final_layer.bias"]
    assert list(mapped.values()) == list(state.values())
    plain = recognise(of("backbone.conv1.weight", "keypoint_head.final_layer.weight"))[0]
    assert list(plain) == ["conv1.weight", "final_layer.weight"]


def test_a_file_of_0_x_fits_the_network_of_either_config() -> None:
    head = {"in_channels": 64, "out_channels": 3}
    new = {"type": "HeatmapHead", **head, "deconv_out_channels": None, "conv_out_channels": [64]}
    old = {"type": "TopdownHeatmapSimpleHead", **head, "num_deconv_layers": 0, "extra": {"num_conv_layers": 1}}
    networks = [
        network_of(
            {"type": "TopdownPoseEstimator", "backbone": BACKBONE, "head": {**new, "conv_kernel_sizes": [1]}},
            "mmpose-1",
        ),
        network_of({"type": "TopDown", "backbone": BACKBONE, "keypoint_head": old}, "mmpose-0"),
    ]
    first = networks[0].build().state_dict()
    file = {}
    for key, value in first.items():
        key = (
            key.replace("conv_layers.", "final_layer.")
            if "conv_layers" in key
            else key.replace("final_layer.", "final_layer.3.")
        )
        file[("keypoint_head." if "_layer" in key else "backbone.") + key] = value
    for built in networks:
        state, layout = fit(file, built.build(), "old.pth")
        assert layout.name == "mmpose-0.x"
        assert all(torch.equal(state[key], value) for key, value in first.items())


def test_copies_of_a_moving_average_are_dropped() -> None:
    mapped, _ = recognise(of("backbone.conv1.weight", "ema_backbone_conv1_weight", "keypoint_head.final_layer.weight"))
    assert list(mapped) == ["conv1.weight", "final_layer.weight"]


def test_of_a_distillation_the_student_is_taken() -> None:
    state = of(
        "teacher.backbone.conv1.weight",
        "student.backbone.conv1.weight",
        "student.head.final_layer.weight",
        "distill_losses.loss_fea.align.weight",
        "data_preprocessor.mean",
    )
    mapped, layout = recognise(state)
    assert layout.name == "mmpose-1.x-distiller"
    assert {key: float(value) for key, value in mapped.items()} == {"conv1.weight": 1, "final_layer.weight": 2}


def test_of_the_second_stage_of_a_distillation_nothing_is_taken() -> None:
    """Its student has a trained head and a backbone that was never used."""
    state = of("teacher.backbone.conv1.weight", "student.backbone.conv1.weight", "student.head.final_layer.weight")
    with pytest.raises(CheckpointError, match="pth_transfer.py, for the second stage with --two_dis"):
        recognise(state)
