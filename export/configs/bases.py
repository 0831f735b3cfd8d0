"""Find the files that a config builds on, without importing the packages that hold them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from ...runtime.errors import ConfigError
from . import mmpose_data
from .files import decode, is_other, is_regular, read_bytes
from .values import Budget

# What such a file says concerns the training, not the network and its input.
_NOT_NEEDED = re.compile(r"(^|[/_])(default_)?(runtime|schedules?)(_[\w-]+)?(\.py|/|$)")
_MAX_NAME = 1000
_DATASET = re.compile(r"(^|/)_base_/datasets/([\w-]+)\.py$")


class Bases:
    """The other files of one config.

    Attributes:
        budget: of all files together.
        notes: what was not found and is not needed.
    """

    def __init__(self, budget: Budget, root: Path | None) -> None:
        self.budget, self.root = budget, root
        self.notes: list[str] = []

    def read(self, path: Path, where: str) -> str:
        """The text of a file."""
        self.budget.files -= 1
        if self.budget.files < 0:
            raise ConfigError(f"{where}: this config builds on too many files")
        text = decode(read_bytes(path), str(path))
        self.budget.bytes -= len(text)
        if self.budget.bytes < 0:
            raise ConfigError(f"{where}: the files that this config builds on are too large together")
        return text

    def find(self, name: str, folder: Path, where: str) -> Path | dict[str, Any]:
        """The file of a `_base_`, or the variables that stand for one that is not there.

        Raises:
            ConfigError: it is not there, and may hold what a contract needs.
        """
        if len(name) > _MAX_NAME:
            raise ConfigError(f"{where}: the name of a base of {len(name)} characters")
        if "::" in name:
            package, rest = name.split("::", 1)
            candidates = [*_of_package(package, rest), *self._in_root(rest)]
        else:
            rest = name
            tail = re.sub(r"^(\.{1,2}/)+", "", name)
            candidates = [folder / name, *self._in_root(tail)]
        return self._first(candidates, name, rest, where)

    def find_module(self, module: str, level: int, folder: Path, where: str) -> Path | dict[str, Any]:
        """The file of a `from MODULE import *` inside `with read_base()`; see `find`."""
        parts = module.split(".")
        rest = "/".join(parts) + ".py"
        if level:
            for _ in range(level - 1):
                folder = folder.parent
            return self._first([folder / rest, *self._in_root(rest)], "." * level + module, rest, where)
        if "configs" in parts:  # mmpose.configs._base_.default_runtime: the part after `configs`
            rest = "/".join(parts[parts.index("configs") + 1 :]) + ".py"
        above = [parent / rest for parent in [folder, *folder.parents] if parent.name == "configs"]
        return self._first([*above, *_of_package(parts[0], rest), *self._in_root(rest)], module, rest, where)

    def _in_root(self, rest: str) -> list[Path]:
        return [self.root / rest, self.root / "configs" / rest] if self.root else []

    def _first(self, candidates: list[Path], name: str, rest: str, where: str) -> Path | dict[str, Any]:
        for path in candidates:
            if is_regular(path):
                return path
            if is_other(path):
                raise ConfigError(f"{where}: {str(path)[:200]} is no regular file")
        dataset = _DATASET.search(rest)
        if dataset and (info := mmpose_data.metainfo(dataset[2])):
            self.notes.append(
                f"{name[:200]} is not there; its joints are taken from posert's table of MMPose's data sets"
            )
            return {"dataset_info": info}
        if _NOT_NEEDED.search(rest):
            self.notes.append(f"{name[:200]} is not there; a file of this name holds nothing that a contract needs")
            return {}
        raise ConfigError(
            f"{where}: the base {name[:200]!r} is not there. Give the folder of its configs with --config-root DIR, or "
            "the resolved config that a training writes to its work_dirs"
        )


def _of_package(package: str, rest: str) -> list[Path]:
    """Where an installed package of OpenMMLab keeps a config."""
    try:
        spec = importlib.util.find_spec(package) if re.fullmatch(r"\w+", package) else None
    except (ImportError, ValueError):
        return []
    folders = (spec.submodule_search_locations if spec else None) or ()
    return [path for folder in folders if (path := Path(folder) / ".mim" / "configs" / rest).is_file()]
