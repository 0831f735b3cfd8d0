"""Virtual environments of other tools, so that their pins disturb neither ours nor each other's."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from .child import ToolError

ROOT = Path("out/environments")
_TAIL = 15  # lines of pip's output that an error repeats


def environment(name: str, requirements: Sequence[str], root: Path = ROOT, bare: Sequence[str] = ()) -> Path:
    """The Python of an environment with these requirements; it is made if there is none, or one with others.

    Args:
        name: of the tool; there is one environment for each.
        requirements: as pip takes them, pinned.
        root: where environments are kept.
        bare: packages to install without their dependencies, which cannot be had and are not needed.

    Raises:
        ToolError: pip could not install them; with the end of its output.
    """
    folder = root.absolute() / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    finished = folder / "installed.txt"  # written last
    wanted = "\n".join([sys.version, *requirements, "--no-deps", *bare])
    if finished.exists() and finished.read_text() == wanted:
        return python
    venv.create(folder, clear=True, with_pip=True)
    for packages in (requirements, ["--no-deps", *bare] if bare else ()):
        if packages:
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                tail = "\n".join(done.stderr.strip().splitlines()[-_TAIL:])
                raise ToolError(f"{name} cannot be installed: pip install {' '.join(packages)}\n{tail}")
    finished.write_text(wanted)
    return python
