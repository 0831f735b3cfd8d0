"""What the tests of the documentation share: the demo's bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from posert.runtime.cli.main import main


@pytest.fixture(scope="session")
def demo_bundle(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """What `make demo` builds, without int8 and judged on fewer people. The tests of examples/ use the same one."""

    def make(folder: Path) -> None:
        model = ["--arch", "hrnet_demo", "--weights", "demo", "--precision", "fp32,fp16", "--limit", "20"]
        assert main(["build", *model, "--engine", "none", "--output", str(folder / "hrnet_demo.pose")]) == 0

    return made_once("demo_bundle", make) / "hrnet_demo.pose"
