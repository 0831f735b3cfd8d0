"""Functions of benchmarks that run in a process of their own, in this environment or in another tool's.

    python = environment("nncf", ["nncf==3.4.0", "openvino==2026.4.1"])
    answer = call(python, "posert.benchmarks.quantizer_tools:nncf", {"model": "fp32.onnx"}, memory_gb=8)

Modules of posert can be imported there as far as the packages they need are installed; posert itself need not be.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.errors import PosertError
from ..runtime.system.memory import peak_mb
from ..runtime.system.process import JsonProcess, ProcessError, answer_channel

ROOT = Path("out/environments")
_TAIL = 15  # lines of pip's output that an error repeats
_PACKAGE = Path(__file__).resolve().parents[1]
# The package is the folder it is in, whatever that is called.
_MAIN = """
import importlib.util, sys
root = sys.argv[1]
spec = importlib.util.spec_from_file_location("posert", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["posert"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["posert"])
from posert.benchmarks.child import main
main(sys.argv[2])
"""


class ToolError(PosertError):
    """A tool cannot be installed, failed, or took more memory than allowed."""


@dataclass(frozen=True)
class Answer:
    """What a function in another process returned."""

    value: Any  # JSON values
    seconds: float  # that the function ran, without imports
    peak_mb: float  # peak resident memory of the process


def call(python: str | Path, function: str, arguments: Mapping[str, Any], *, memory_gb: float | None = None) -> Answer:
    """Call a function in a process of its own.

    Args:
        python: interpreter of the environment it runs in.
        function: "package.module:function"; takes JSON values by keyword, and returns some.
        memory_gb: the process is ended when its resident memory exceeds this (Linux).

    Raises:
        ToolError: the function raised, or its process ended; with the end of its output.
    """
    with closing(start(python, function, memory_gb=memory_gb)) as child:
        try:
            return Answer(**child.ask(**arguments))
        except ProcessError as error:
            raise ToolError(f"{function} {error}\n{error.output}".rstrip()) from error


def start(python: str | Path, function: str, **options: Any) -> JsonProcess:
    """A process around a function, which the first request calls with its values as arguments.

    A generator function answers many requests: it reads them with `requests` and yields the answers. `options` are
    those of `JsonProcess`.
    """
    return JsonProcess([str(python), "-c", _MAIN, str(_PACKAGE), function], **options)


def main(function: str) -> None:
    """The child's side."""
    answer = answer_channel()
    wanted = find(function)
    arguments = json.loads(sys.stdin.readline())
    begin = time.perf_counter()
    value = wanted(**arguments)
    if isinstance(value, Iterator):
        for one in value:
            answer(**one)
    else:
        answer(value=value, seconds=time.perf_counter() - begin, peak_mb=peak_mb())


def find(function: str) -> Any:
    """The function of "package.module:function"."""
    module, name = function.split(":")
    return getattr(importlib.import_module(module), name)


def requests() -> Iterator[dict[str, Any]]:
    """For a generator function in a child: what it is asked, until the parent closes."""
    return (json.loads(line) for line in sys.stdin)


def environment(name: str, requirements: Sequence[str], root: Path = ROOT, bare: Sequence[str] = ()) -> Path:
    """The Python of a virtual environment with these requirements; made if there is none, or one with others.

    Args:
        name: of the tool, whose pins disturb neither ours nor another's.
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
