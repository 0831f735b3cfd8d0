"""Networks from configs against the code bases that train them: names, shapes, parameters and outputs.

tests/goldens/networks.json.xz holds what MMPose 1.3.2, 1.0.0rc1 and 0.29.0, HRNet's repository (6f69e46) and
Microsoft's (49f3f44) built, without `backbone.`, `head.` and `keypoint_head.`: `published` one config of each of their
networks and all experiment files, with a digest of the state dict's keys and shapes; `forward` narrow networks with
what a config can vary, and values of their output for the weights that `made_up` makes from the keys.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posert.export.networks import network_of

GOLDENS = Path(__file__).parents[2] / "goldens" / "networks.json.xz"
PUBLISHED, FORWARD = json.loads(lzma.decompress(GOLDENS.read_bytes())).values()


def made_up(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    leaf = key.rsplit(".", 1)[1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    if leaf in ("running_mean", "bias"):
        value = 0.1 * z
    elif leaf == "running_var":
        value = 1 + 0.5 * np.abs(z)
    elif len(shape) == 1:
        value = 1 + 0.2 * z
    else:
        value = z * (1.5 / np.prod(shape[1:])) ** 0.5
    return torch.from_numpy(np.asarray(value)).float()


def image(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(height * 1000 + width).standard_normal((1, 3, height, width))).float()


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row['source']}-{Path(row['config']).stem}")
def test_keys_shapes_and_parameters_equal_the_source(row: dict[str, Any]) -> None:
    built = network_of(row["model"], row["source"])
    assert (built.name, built.channels, built.outputs) == (row["name"], row["channels"], 1)
    with torch.device("meta"):
        network = built.build()
    state = network.state_dict()
    lines = sorted(f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items())
    assert len(lines) == row["keys"]
    assert sum(p.numel() for p in network.parameters()) == row["params"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == row["sha256"]


def values(model: dict[str, Any], row: dict[str, Any]) -> np.ndarray:
    network = network_of(model, row["source"]).build()
    network.load_state_dict({key: made_up(key, tuple(value.shape)) for key, value in network.state_dict().items()})
    with torch.inference_mode():
        y = network(image(*row["size"])).numpy()
    assert list(y.shape) == row["shape"] and not network.training
    return y.reshape(-1)[:: row["step"]] / row["largest"]


@pytest.mark.parametrize("row", FORWARD, ids=lambda row: f"{row['source']}-{row['name']}")
def test_output_equals_the_source(row: dict[str, Any]) -> None:
    assert network_of(row["model"], row["source"]).channels == row["shape"][1]
    expected = np.array(row["values"]) / row["largest"]
    np.testing.assert_allclose(values(row["model"], row), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("resnet_50_caffe", "backbone.style", "pytorch"),
        ("hrnet_bilinear", "backbone.extra.upsample.mode", "nearest"),
        ("hrnet_corners", "backbone.extra.upsample.align_corners", False),
        ("hrnet_corners", "neck.align_corners", False),
        ("resnest_g2", "backbone.avg_down_stride", True),
    ],
)
def test_keys_that_change_no_shape_change_the_output(name: str, path: str, value: Any) -> None:
    row = next(row for row in FORWARD if row["name"] == name)
    model = copy.deepcopy(row["model"])
    *parents, last = path.split(".")
    functools.reduce(dict.__getitem__, parents, model)[last] = value
    assert np.abs(values(model, row) - np.array(row["values"]) / row["largest"]).max() > 1e-3
