"""The weights in a checkpoint that holds more than weights, as a training leaves it; nothing in it is executed.

MMEngine pickles its log beside the weights, as objects of numpy and of classes of its own, which torch's reader of
weights refuses. Here the pickle is read as data (`posert.export.configs.pickles`), and the tensors are taken out of the
zip around it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.errors import CheckpointError, ConfigError
from ..configs import pickles

_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter",)
_STORAGES: dict[str, torch.dtype] = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}
_LARGEST_PICKLE = 64 << 20


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: dicts, plain values and tensors; what else is in it is left out, maybe all.

    Raises CheckpointError: it is no zip of torch.save, is damaged, or a tensor in it reaches beyond its storage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            with archive.open(name) as member:
                if archive.getinfo(name).file_size > _LARGEST_PICKLE:
                    raise CheckpointError(f"{path}: the pickle in it is larger than {_LARGEST_PICKLE} bytes")
                content = pickles.load(member, str(path))
            storages = _Storages(archive, name.removesuffix("data.pkl"))
            return _tensors(content, storages) if isinstance(content, dict) else {}
    except (ConfigError, zipfile.BadZipFile, OSError, KeyError, ValueError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason}); copy or save it again") from error


class _Storages:
    """The storages of a checkpoint, each read once."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self._archive, self._folder = archive, folder
        self._read: dict[str, Tensor] = {}

    def tensor(self, record: pickles.Inert) -> Tensor:
        """A tensor from its record: storage, offset, size, strides."""
        storage, offset, size, stride = record.args[:4]
        _, kind, key, _, count = storage.args
        dtype = _STORAGES[kind.name]
        if key not in self._read:
            data = self._archive.read(f"{self._folder}data/{key}")
            if len(data) != count * dtype.itemsize:
                raise ValueError(f"the storage {key} has {len(data)} bytes, expected {count * dtype.itemsize}")
            self._read[key] = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        whole = self._read[key]
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if offset < 0 or min((*size, *stride), default=0) < 0 or (0 not in size and last >= len(whole)):
            raise ValueError(f"a tensor reaches beyond its storage {key}")
        return whole.as_strided(size, stride, offset)


def _tensors(content: Mapping[Any, Any], storages: _Storages) -> dict[str, Any]:
    """A dict and the dicts in it, with tensors for their records and without the other records."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, pickles.Inert) and value.name in _PARAMETERS and value.args:
            value = value.args[0]
        if isinstance(value, pickles.Inert):
            if value.name in _TENSORS:
                found[str(key)] = storages.tensor(value)
        elif isinstance(value, dict):
            if str(key) not in ("optimizer", "message_hub", "param_schedulers", "ema_state_dict"):
                found[str(key)] = _tensors(value, storages)
        elif value is None or isinstance(value, str | int | float):
            found[str(key)] = value
    return found
