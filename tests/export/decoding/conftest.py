"""The heatmaps of the goldens, which tests/runtime/conftest.py draws."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("posert_goldens", Path(__file__).parents[2] / "runtime" / "conftest.py")
assert _SPEC and _SPEC.loader
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)

golden_heatmaps, golden_combined = _MODULE.golden_heatmaps, _MODULE.golden_combined
