"""The published networks as their sources have them: names, shapes, counted work, and outputs for made-up weights.

tests/goldens/models holds what the source repositories' own code gave: `manifests.json.xz` the state dicts' keys and
shapes and the counted work, one .npz per model the output for weights that `make_tensor` makes from the keys.
"""

from __future__ import annotations

import importlib.util
import json
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

GOLDENS = Path(__file__).parents[1] / "goldens" / "models"
MANIFESTS: dict[str, dict[str, Any]] = json.loads(lzma.decompress((GOLDENS / "manifests.json.xz").read_bytes()))

# Factors on the weight and bias of some modules, without which random weights grow from layer to layer.
GAINS = {
    "hrnet": [
        (r"layer1\.\d+\.bn3$", 0.3),
        (r"branches\.\d+\.\d+\.bn2$", 0.3),
        (r"fuse_layers(\.\d+){2,3}\.1$", 0.3),
    ],
    "pose_resnet": [(r"layer[1-4]\.\d+\.bn3$", 0.3)],
    "mm_hourglass": [(r"\.bn2$", 0.3)],
    "mm_mspn": [(r"\.bn3$", 0.3), (r"\.(out_skip1|out_skip2|up_conv)\.bn$", 0.3)],
    "mg_mspn": [(r"\.conv_bn_relu3\.bn$", 0.3), (r"\.(skip1|skip2|up_conv)\.bn$", 0.3)],
    "yx_hourglass": [(r"\.conv3$", 0.3), (r"^fc\.\d+\.1$", 0.1), (r"^(fc_|score_)\.\d+$", 0.3)],
    "pu_hourglass": [
        (r"\.conv3\.conv$", 0.3),
        (r"^features\.\d+\.1\.bn$", 0.1),
        (r"^merge_(preds|features)\.\d+\.conv\.conv$", 0.3),
    ],
}


def _make_tensor(key: str, shape: list[int], family: str) -> torch.Tensor:
    module, leaf = key.rsplit(".", 1)
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if leaf == "running_mean":
        return torch.from_numpy(0.05 * z).float()
    if leaf == "running_var":
        return torch.from_numpy(1 + 0.1 * np.abs(z)).float()
    if leaf == "bias":
        value = 0.05 * z
    elif len(shape) == 1:
        value = 1 + 0.1 * z
    else:
        deconv = len(shape) == 4 and "deconv_layers." in key
        value = z * np.sqrt(2 / (shape[0] * shape[2] * shape[3] / 4 if deconv else np.prod(shape[1:])))
    gain = next((gain for pattern, gain in GAINS[family] if re.search(pattern, module)), 1)
    return torch.from_numpy(value * gain).float()


@pytest.fixture(scope="session")
def make_tensor() -> Callable[[str, list[int], str], torch.Tensor]:
    """The weights with which the goldens were made: each from its key and shape in the source repository."""
    return _make_tensor


@pytest.fixture(scope="session")
def in_container() -> Callable[[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """A source's state dict in the container in which that source's training code saves it."""

    def wrap(name: str, state: dict[str, torch.Tensor]) -> dict[str, Any]:
        if name.startswith("pu_"):
            return {"state_dict": {f"model.module.{k}": v for k, v in state.items()}, "optimizer": {}, "epoch": 9}
        if name.startswith("mm_"):
            return {"meta": {"epoch": 210}, "state_dict": state}
        return state if name.startswith(("hr_", "yx_")) else {"iteration": 96000, "model": state}

    return wrap


@pytest.fixture(scope="session")
def source_file(
    tmp_path_factory: pytest.TempPathFactory, in_container: Callable[..., dict[str, Any]]
) -> Callable[[str], Path]:
    """A golden's weights as a file of the source."""

    def write(name: str) -> Path:
        manifest = MANIFESTS[name]
        state = {key: _make_tensor(key, shape, manifest["family"]) for key, shape in manifest["state_dict"]}
        path = tmp_path_factory.mktemp(name) / "weights.pth"
        torch.save(in_container(name, state), path)
        return path

    return write


@pytest.fixture(scope="session")
def hollow_file(
    tmp_path_factory: pytest.TempPathFactory, in_container: Callable[..., dict[str, Any]]
) -> Callable[[str], Path]:
    """A file with a source's names and shapes whose weights are all one stored zero, stretched: small and quick."""

    def write(name: str) -> Path:
        state = {
            key: torch.tensor(0) if key.endswith("num_batches_tracked") else torch.zeros(()).expand(shape)
            for key, shape in MANIFESTS[name]["state_dict"]
        }
        path = tmp_path_factory.mktemp(name) / "hollow.pth"
        torch.save(in_container(name, state), path)
        return path

    return write


@pytest.fixture(scope="session")
def golden_input() -> Callable[[str], torch.Tensor]:
    """The normalised image `(1, 3, H, W)` of a golden."""

    def make(name: str) -> torch.Tensor:
        height, width = MANIFESTS[name]["input"][2:]
        return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, height, width)).astype(np.float32))

    return make


@pytest.fixture(scope="session")
def check_golden() -> Callable[[str, np.ndarray], None]:
    """Compare heatmaps `(K, h, w)` with what the source gave."""

    def check(name: str, output: np.ndarray) -> None:
        golden = np.load(GOLDENS / f"{name}.npz")
        # float32 sums in another order: 20 times the source's own distance from its float64 run, or 1e-4 of the
        # spread. The smallest mistake that was tried on the sources (eps of batch-norm 1e-3) moves a map by 8e-3 of it.
        atol = 1e-4 * golden["stats"][1] + 20 * golden["fp64_maxabs"]
        step = int(golden["sub_stride"])
        assert output.shape == tuple(golden["out_shape"][1:])
        np.testing.assert_allclose(output[:, ::step, ::step], golden["sub"], rtol=1e-4, atol=atol)
        flat = output.reshape(len(output), -1)
        np.testing.assert_allclose(flat.max(1), golden["maxval"], rtol=1e-4, atol=atol)
        clear = golden["gap"] > 2 * atol
        assert clear.any() and (flat.argmax(1) == golden["argmax"])[clear].all()

    return check


@pytest.fixture(scope="session")
def in_sandbox() -> Callable[[str, Path], dict[str, tuple[str, float, float]]]:
    """`in_sandbox(__file__, folder)`: message, seconds and megabytes of each of the module's `attempts(folder)`."""
    spec = importlib.util.spec_from_file_location("posert_sandbox", Path(__file__).with_name("sandbox.py"))
    assert spec and spec.loader
    sandbox = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sandbox)
    return lambda file, folder: sandbox.outcomes(file, folder, 300)
