"""Checkpoint -> ONNX and TorchScript graphs -> checked bundle. Making graphs needs torch; reading the catalog does not.

>>> from posert.export import Row, find
>>> find("hrnet_w32", "mpii").id
'mm_hrnet_w32_mpii_256x256'

Only the names in `__all__` are public. They are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archs import Architecture as Architecture
    from .builder.api import build as build
    from .builder.pipeline import build_bundle as build_bundle
    from .builder.plan import Build as Build
    from .builder.plan import Plan as Plan
    from .catalog import Row as Row
    from .catalog import find as find
    from .catalog import rows as rows

_HOME = {
    "Architecture": "archs",
    "Build": "builder.plan",
    "Plan": "builder.plan",
    "Row": "catalog",
    "build": "builder.api",
    "build_bundle": "builder.pipeline",
    "find": "catalog",
    "rows": "catalog",
}
__all__ = ["Architecture", "Build", "Plan", "Row", "build", "build_bundle", "find", "rows"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
