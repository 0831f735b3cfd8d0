"""Where the time of a run goes, by stage."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stages(dict[str, float]):
    """Seconds by stage, of `names` at first."""

    def __init__(self, *names: str) -> None:
        super().__init__(dict.fromkeys(names, 0.0))

    @contextlib.contextmanager
    def timed(self, stage: str, of: str = "") -> Iterator[None]:
        """Add the time of the block to a stage, and take it from the stage around it, `of`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self[stage] = self.get(stage, 0.0) + spent
            if of:
                self[of] -= spent
