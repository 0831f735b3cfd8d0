"""Weights from files of every layout and container, from the network, and random."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from posert.export.archs import architectures, build_arch
from posert.export.archs.hrnet import HRNet
from posert.export.archs.mspn import MSPN
from posert.export.archs.simple_baseline import PoseResNet
from posert.export.weights import checkpoint
from posert.export.weights.load import random_weights
from posert.runtime.errors import CheckpointError


def small() -> HRNet:
    return HRNet(3, widths=(4, 8, 8, 8), modules=(1, 1, 1), blocks=1, stem=8, bottlenecks=1, planes=4).eval()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return small().state_dict()


def mmpose(state: dict[str, Tensor], head: str) -> dict[str, Tensor]:
    return {(f"{head}." if k.startswith("final_layer") else "backbone.") + k: v for k, v in state.items()}


CONTAINERS: dict[str, tuple[str, Callable[[dict[str, Tensor]], object]]] = {
    "bare": ("original", lambda s: s),
    "state_dict": ("original", lambda s: {"state_dict": s, "epoch": 3, "optimizer": {"state": {}}}),
    "model": ("original", lambda s: {"model": s, "best": 0.7}),
    "nested": ("original", lambda s: {"model": {"state_dict": s}}),
    "data_parallel": ("original", lambda s: {f"module.{k}": v for k, v in s.items()}),
    "trainer": ("original", lambda s: {"state_dict": {f"model.module.{k}": v for k, v in s.items()}}),
    "old_torch": ("original", lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")}),
    "float_counter": (
        "original",
        lambda s: {k: v.float() if k.endswith("num_batches_tracked") else v for k, v in s.items()},
    ),
    "mmpose-0.x": ("mmpose-0.x", lambda s: {"meta": {"CLASSES": None}, "state_dict": mmpose(s, "keypoint_head")}),
    "mmpose-1.x": (
        "mmpose-1.x",
        lambda s: {"state_dict": mmpose(s, "head") | {"data_preprocessor.mean": torch.zeros(3, 1, 1)}},
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_same_weights(name: str, weights: dict[str, Tensor], tmp_path: Path):
    layout, wrap = CONTAINERS[name]
    torch.save(wrap(weights), tmp_path / "w.pth")
    loaded = checkpoint.load(tmp_path / "w.pth", small())
    assert loaded.layout == layout
    assert loaded.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert list(loaded.state_dict) == list(weights)
    assert all(torch.equal(loaded.state_dict[k], weights[k]) for k in weights)


def test_safetensors_and_half_precision(weights: dict[str, Tensor], tmp_path: Path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in mmpose(weights, "head").items()}
    safetensors.torch.save_file(half, tmp_path / "w.safetensors")
    loaded = checkpoint.load(tmp_path / "w.safetensors", small())
    assert loaded.layout == "mmpose-1.x"
    for key, value in weights.items():
        assert loaded.state_dict[key].dtype == value.dtype
        # half has 11 bits of mantissa
        torch.testing.assert_close(loaded.state_dict[key], value, rtol=2**-11, atol=1e-7)


def refusal(content: object, path: Path, network: nn.Module | None = None) -> str:
    torch.save(content, path)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path, network or small())
    return str(caught.value)


def test_mismatch_lists_missing_unexpected_and_shapes(weights: dict[str, Tensor], tmp_path: Path):
    wrong = {k: v for k, v in weights.items() if not k.startswith("layer1")}
    wrong |= {"extra.weight": torch.zeros(1), "final_layer.weight": torch.zeros(5, 4, 1, 1)}
    wrong["bn1.weight"] = torch.ones(8, dtype=torch.int64)
    message = refusal(wrong, tmp_path / "w.pth")
    expected = [k for k in weights if k.startswith("layer1") and not k.endswith("num_batches_tracked")]
    assert f"{len(expected)} missing: {', '.join(expected[:4])} and {len(expected) - 4} more" in message
    assert "1 unexpected: extra.weight" in message
    assert "1 of another shape: final_layer.weight (5, 4, 1, 1) instead of (3, 4, 1, 1)" in message
    assert "1 of another type: bn1.weight torch.int64 instead of torch.float32" in message
    assert "looks like" not in message


@pytest.mark.parametrize(("arch", "keypoints"), [("hrnet_w48", 16), ("pose_resnet_101", 17)])
def test_mismatch_names_the_architecture(arch: str, keypoints: int, tmp_path: Path):
    with torch.device("meta"):
        shapes = build_arch(arch, keypoints).state_dict()
    # one stored zero each, stretched: the file stays small
    state = {k: torch.zeros(1).expand(v.shape) if v.ndim else torch.tensor(0) for k, v in shapes.items()}
    message = refusal({"state_dict": mmpose(state, "keypoint_head")}, tmp_path / "w.pth")
    assert f"looks like {arch} with {keypoints} keypoints" in message


def test_no_two_architectures_look_alike_but_the_caffe_ones():
    """Otherwise the hint could name the wrong one; the caffe ones cannot be told apart and come later in the table."""
    with torch.device("meta"):
        shapes = {
            name: {key: value.shape for key, value in found.build(1).state_dict().items()}
            for name, found in architectures().items()
        }
    for name, own in shapes.items():
        same = [other for other, theirs in shapes.items() if theirs == own]
        assert {n.removesuffix("_caffe") for n in same} == {name.removesuffix("_caffe")}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, weights: dict[str, Tensor], tmp_path: Path):
    bad = weights["conv2.weight"].clone()
    bad[0, 0, 0, 0] = value
    assert "conv2.weight" in refusal(weights | {"conv2.weight": bad}, tmp_path / "w.pth")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def test_weights_beside_code_are_read_and_none_runs(weights: dict[str, Tensor], tmp_path: Path):
    marker = tmp_path / "exploded"
    torch.save({"state_dict": weights, "meta": Bomb(marker)}, tmp_path / "w.pth")
    found = checkpoint._unpack(checkpoint._read(tmp_path / "w.pth"), tmp_path / "w.pth")
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert not marker.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert marker.exists()  # so the file would have


def test_a_pickled_module_is_refused(tmp_path: Path):
    message = refusal(nn.Conv2d(1, 1, 1), tmp_path / "w.pth")
    assert "needs" in message and "runs no code" in message and "torch.save(" in message


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("page.pth", b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        ("empty.pth", b"", "cannot be read|no plain file"),
        ("noise.pth", bytes(range(256)) * 4, "cannot be read|no plain file"),
        ("noise.safetensors", b"\xff" * 64, "cannot be read"),
        ("plain.pkl", pickle.dumps([1, 2], protocol=2), "cannot be read"),
    ],
)
def test_other_files_are_refused(name: str, data: bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / name, small())


def test_a_file_that_was_cut_off_is_refused(weights: dict[str, Tensor], tmp_path: Path):
    torch.save(weights, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    for keep in (100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pth").write_bytes(data[:keep])
        with pytest.raises(CheckpointError, match="cannot be read|no plain file"):
            checkpoint.load(tmp_path / "cut.pth", small())


def test_a_file_without_weights_says_what_it_holds(tmp_path: Path):
    assert "dict with epoch, loss" in refusal({"epoch": 3, "loss": 0.1}, tmp_path / "w.pth")
    assert "list" in refusal([torch.zeros(1)], tmp_path / "w.pth")
    assert "dict" in refusal({}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="no checkpoint file"):
        checkpoint.load(tmp_path / "absent.pth", small())


def test_random_weights_are_repeatable_and_keep_the_output_in_range():
    first = {k: v.clone() for k, v in random_weights(small(), seed=3).items()}
    network = small()
    again = random_weights(network, seed=3)
    other = random_weights(small(), seed=4)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not network.training
    noise = torch.randn(1, 3, 128, 96, generator=torch.Generator().manual_seed(0))
    blocks = noise[:, :, ::16, ::16].repeat_interleave(16, 2).repeat_interleave(16, 3)
    for net in (network, PoseResNet(5, blocks=(3, 4, 6, 3)), MSPN(5, stages=2)):
        random_weights(net)
        with torch.inference_mode():
            maps = [net(picture) for picture in (noise, blocks, torch.zeros_like(noise))]
        # With batch-norm's initial statistics 50 layers end near 5e2; with those of noise, channel by channel, the
        # other pictures end up to 1e6 times as high.
        assert all(0.01 < y.std() < 100 for y in maps)
        assert (maps[0] - maps[1]).abs().max() > 0.1 * maps[0].std()


def test_random_weights_fill_every_matrix_whatever_the_layer():
    """Two networks that were constructed differently are the same afterwards; attention's projection is a parameter."""
    filled = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        network = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.Flatten(2), Transposed(), layer)
        filled.append(random_weights(network, 32, 24))
    matrices = [key for key, value in filled[0].items() if value.ndim > 1]
    assert len(matrices) == 5 and all(torch.equal(filled[0][key], filled[1][key]) for key in matrices)


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape == (1, 8, 12)  # noise of the size that was asked for
        return x.transpose(1, 2)


@pytest.mark.parametrize("prefix", ["net.", "pose.net.", "student.", "student.module."])
def test_any_name_of_the_network_in_a_training_script(prefix: str, tmp_path: Path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = {prefix + key: value for key, value in network.state_dict().items()}
    torch.save({**state, "loss.weight": torch.zeros(3)}, tmp_path / "w.pth")
    found = checkpoint.load(tmp_path / "w.pth", network).state_dict
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    both = {**state, **{f"other.{key}": value for key, value in network.state_dict().items()}}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"2 networks that fit, under .*other\..*torch.save"):
        checkpoint.load(tmp_path / "w.pth", network)


def test_an_old_file_whose_storages_have_other_keys_is_refused(weights: dict[str, Tensor], tmp_path: Path):
    path = tmp_path / "old.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    key = str(next(iter(weights.values())).untyped_storage()._cdata).encode()
    at = data.rindex(key)  # in the list of keys; the content has it before
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(CheckpointError, match="old.pth cannot be read as a checkpoint"):
        checkpoint.load(path, small())


def test_a_zip_that_says_it_has_several_disks_is_refused(weights: dict[str, Tensor], tmp_path: Path):
    """Python's `is_zipfile` raises for it."""
    path = tmp_path / "w.pth"
    torch.save(weights, path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x06\x07")  # disk, offset and number of disks of the 64-bit directory
    data[at + 16 : at + 20] = (2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="w.pth cannot be read as a checkpoint"):
        checkpoint.load(path, small())
