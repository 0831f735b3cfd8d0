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
from ...runtime.system.zip_errors import ZIP_ERRORS
from ..configs import pickles

_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")
_PARAMETERS = ("torch._utils._rebuild_parameter",)
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
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
_COMPRESSION = 4  # of a checkpoint that somebody zipped again
_LARGEST_NUMBER = 1 << 40  # of elements; a product of longer numbers takes long


def read_weights(path: Path) -> Any:
    """The content of a checkpoint: dicts, plain values and tensors; what else is in it is left out, maybe all.

    Raises CheckpointError: it is no zip of torch.save, is damaged, or a tensor in it reaches beyond its storage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(path, archive)
            (name,) = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            with archive.open(name) as member:
                if archive.getinfo(name).file_size > _LARGEST_PICKLE:
                    raise CheckpointError(f"{path}: the pickle in it is larger than {_LARGEST_PICKLE} bytes")
                content = pickles.load(member, str(path))
            storages = _Storages(archive, name.removesuffix("data.pkl"))
            if isinstance(content, pickles.Inert):
                raise _needs_code(path, content.name)
            return _tensors(content, storages) if isinstance(content, dict) else content
    except (ConfigError, *ZIP_ERRORS, LookupError, TypeError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason}); copy or save it again") from error


def read_old_weights(path: Path) -> Any:
    """The same of a file of torch.save before torch 1.6, which is no zip. Only plain tensors may be in it.

    Raises CheckpointError: it is another file, or holds objects of other classes.
    """
    try:
        with path.open("rb") as file:
            names = set[str]()
            for _ in range(5):  # a magic number, a version, the machine, the content, the keys of the storages
                names |= pickles.classes(file, str(path))
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error}); copy or save it again") from error
    allowed = {*_TENSORS, *_PARAMETERS, *_STORAGES, *pickles.DICTS}
    if others := sorted(names - allowed):
        raise _needs_code(path, others[0])
    return torch.load(path, map_location="cpu", weights_only=True)


def _needs_code(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is no plain file of weights: it needs {name:.100}, and posert runs no code from a checkpoint. Where "
        "you trust the file and have the code that wrote it, keep the weights alone: content = torch.load(FILE, "
        "weights_only=False), then torch.save(NETWORK.state_dict(), NEW_FILE)"
    )


def _check_size(path: Path, archive: zipfile.ZipFile) -> None:
    """torch.save does not compress: more in the file than it is large is an attack."""
    size = sum(member.file_size for member in archive.infolist())
    if size > _COMPRESSION * path.stat().st_size + _LARGEST_PICKLE:
        raise CheckpointError(f"{path} would be {size} bytes when it is unpacked, which no checkpoint is: download it")


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
        if not all(type(n) is int and 0 <= n <= _LARGEST_NUMBER for n in (offset, count, *size, *stride)):
            raise ValueError(f"a tensor of the storage {key} has sizes that no tensor has")
        if key not in self._read:
            seen = self._archive.getinfo(f"{self._folder}data/{key}").file_size
            if seen != count * dtype.itemsize:
                raise ValueError(f"the storage {key} has {seen} bytes, expected {count * dtype.itemsize}")
            data = self._archive.read(f"{self._folder}data/{key}")
            self._read[key] = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        whole = self._read[key]
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 not in size and last >= len(whole):
            raise ValueError(f"a tensor reaches beyond its storage {key}")
        return whole.as_strided(size, stride, offset)


def _tensors(content: Mapping[Any, Any], storages: _Storages) -> dict[str, Any]:
    """A dict and the dicts in it, with tensors for their records and without the other records."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, pickles.Inert) and value.name in _PARAMETERS and value.args:
            value = value.args[0]
        if isinstance(value, pickles.Inert) and value.name == _WITH_ATTRIBUTES and len(value.args or ()) == 4:
            value = pickles.Inert(value.args[0].name, value.args[2])
        if isinstance(value, pickles.Inert):
            if value.name in _TENSORS:
                found[str(key)] = storages.tensor(value)
        elif isinstance(value, dict):
            if str(key) not in ("optimizer", "message_hub", "param_schedulers", "ema_state_dict"):
                found[str(key)] = _tensors(value, storages)
        elif value is None or isinstance(value, str | int | float):
            found[str(key)] = value
    return found
