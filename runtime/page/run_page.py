"""The page of a run."""

from __future__ import annotations

from pathlib import Path

from ..system.files import atomic_write
from ..system.text import writable
from .collect import Collected
from .render import render


class RunPage(Collected):
    """The page of a run: drawn frames, people, joint scores, speed, failures.

    Memory does not grow with the number of frames: pictures and times are thinned out as the run goes on.

    Args:
        contract: of the network.
        title: the source, as the user named it.
        facts: what was run, by name: bundle, backend, precision, ...
        fps: frame rate of a video, for times beside frame numbers; 0 if unknown.
        threshold: joints with a lower score are not drawn, where the page draws.
        boxes: whether it draws boxes.
        program: the command that makes the page.

    Attributes:
        tiles: more figures, each with what it is.
        before, after: more sections (`document.section`), before and after those of the run.
    """

    def write(self, path: Path, interrupted: bool = False) -> None:
        """Write the page. Raises InputError: the file cannot be written."""
        text = render(self, interrupted)
        with atomic_write(path) as file:
            file.write(writable(text).encode())
