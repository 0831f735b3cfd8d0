"""Read a configuration that a test makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from posert.export.configs import Description, read_description
from posert.runtime.bundle.contract import Contract


def read(folder: Path, values: dict[str, Any]) -> Description:
    """The description of a configuration that sets these names."""
    (folder / "config.py").write_text("\n".join(f"{name} = {value!r}" for name, value in values.items()))
    return read_description(folder / "config.py")


def contract(folder: Path, values: dict[str, Any]) -> Contract:
    """Its contract; it has one."""
    found = read(folder, values).contract
    assert found is not None
    return found
