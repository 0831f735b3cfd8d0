"""Checkpoints with more in them than weights: the tensors come out, and nothing runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from posert.export.weights import checkpoint
from posert.export.weights.training import read_weights
from posert.runtime.errors import CheckpointError


class History:
    """What a training logs; as MMEngine's HistoryBuffer a class of another package."""

    def __init__(self) -> None:
        self.values = np.arange(5.0)


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, generator=generator)
    return {
        "float": base,
        "view": base[1:5:2, 2:].T,  # of the same storage, with strides and an offset
        "half": base.half(),
        "bfloat": base.to(torch.bfloat16),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "flags": base > 0,
        "parameter": torch.nn.Parameter(base[0].clone()),
    }


def test_tensors_are_those_that_were_saved(tmp_path: Path) -> None:
    path, state = tmp_path / "epoch_1.pth", tensors()
    content = {"meta": {"epoch": 1, "seed": np.float64(3)}, "state_dict": state, "message_hub": {"loss": History()}}
    torch.save(content, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_weights(path)
    assert found["meta"]["epoch"] == 1 and "message_hub" not in found
    assert found["state_dict"].keys() == state.keys()
    for name, value in state.items():
        seen = found["state_dict"][name]
        assert seen.dtype == value.dtype and torch.equal(seen, value.detach()), name


def test_such_a_file_fits_a_network(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": network.state_dict(), "message_hub": History()}, path)
    found = checkpoint.load(path, network)
    assert all(torch.equal(found.state_dict[name], value) for name, value in network.state_dict().items())


def test_the_best_epoch_is_taken(tmp_path: Path) -> None:
    """As the HRNet repository's checkpoint.pth has it: last and best weights, and a text under `model`."""
    network = torch.nn.Conv2d(3, 4, 3)
    best = {f"module.{k}": v for k, v in network.state_dict().items()}
    last = {k: v + 1 for k, v in best.items()}
    torch.save({"model": "pose_hrnet", "state_dict": last, "best_state_dict": best}, tmp_path / "checkpoint.pth")
    found = checkpoint.load(tmp_path / "checkpoint.pth", network)
    assert torch.equal(found.state_dict["weight"], network.weight)


def test_nothing_runs(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for name, content in {
        "in the state": {"state_dict": {**tensors(), "x": Evil(f"touch {trap}")}},
        "beside it": {"state_dict": tensors(), "hooks": [Evil(f"touch {trap}")]},
        "alone": Evil(f"touch {trap}"),
    }.items():
        path = tmp_path / "evil.pth"
        torch.save(content, path)
        if name == "alone":
            with pytest.raises(CheckpointError):
                checkpoint.load(path, torch.nn.Conv2d(3, 4, 3))
        else:
            assert "float" in read_weights(path)["state_dict"]
        assert not trap.exists(), name


def rewritten(path: Path, change: dict[str, bytes | None]) -> Path:
    """The file with other members; None: without it."""
    with zipfile.ZipFile(path) as source:
        members = {n: source.read(n) for n in source.namelist()}
    for suffix, data in change.items():
        (name,) = [n for n in members if n.endswith(suffix)]
        if data is None:
            del members[name]
        else:
            members[name] = data
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as target:
        for name, data in members.items():
            target.writestr(name, data)
    path.write_bytes(stream.getvalue())
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"/data/0": b"\0" * 8}, "the storage 0 has 8 bytes, expected 192"),
        ({"/data/0": None}, "data/0"),
        ({"data.pkl": b"\x80\x02}q\x00"}, "damaged"),
        ({"data.pkl": None}, "cannot be read as a checkpoint"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, bytes | None], reason: str) -> None:
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": {"float": torch.zeros(6, 8)}, "hub": History()}, path)
    with pytest.raises(CheckpointError, match=reason):
        read_weights(rewritten(path, change))


def test_a_tensor_that_reaches_beyond_its_storage(tmp_path: Path) -> None:
    path = tmp_path / "epoch_1.pth"
    torch.save({"state_dict": {"float": torch.zeros(6, 8)}, "hub": History()}, path)
    with zipfile.ZipFile(path) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("data.pkl")]
        data = archive.read(name)
    assert data.count(b"K\x06K\x08") == 1  # its size, 6 and 8
    with pytest.raises(CheckpointError, match="a tensor reaches beyond its storage 0"):
        read_weights(rewritten(path, {"data.pkl": data.replace(b"K\x06K\x08", b"K\x07K\x08")}))
