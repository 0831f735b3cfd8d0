"""The simulated people of simulator.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def simulator() -> ModuleType:
    """simulator.py as a module: tests are no package."""
    name = "posert_tracking_simulator"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("simulator.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
