"""Foreign tools, each in a virtual environment of its own, so that their pins disturb neither ours nor each other's.

    python = environment("nncf", ["nncf==3.4.0", "openvino==2026.4.1"])
    answer = call(python, "posert.benchmarks.harness.quantize:nncf", {"model": "fp32.onnx"}, memory_gb=8)

`call` runs a function there, in a process of its own, and says what memory it took. Modules of posert can be imported
in every environment, as far as what they import is installed there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.bench.memory import resident_mb
from ...runtime.errors import PosertError

ROOT = Path("out/environments")
_PACKAGE = Path(__file__).resolve().parents[2]
_TAIL = 15  # lines of a tool's output that an error repeats
_POLL = 0.05  # seconds


class ToolError(PosertError):
    """A foreign tool that cannot be installed, that failed, or that took more memory than it may."""


@dataclass(frozen=True)
class Answer:
    """What a function in another process returned, the seconds it ran (imports not counted) and the process's peak of
    resident memory."""

    value: Any
    seconds: float
    peak_mb: float


def environment(name: str, requirements: Sequence[str], root: Path = ROOT, bare: Sequence[str] = ()) -> Path:
    """The Python of a virtual environment in which these requirements are installed; made if it is not there.

    Args:
        name: of the tool; one environment is kept for each.
        requirements: as pip takes them, pinned: the same ones are installed once.
        root: where environments are kept.
        bare: packages that are installed without what they ask for, because that cannot be had and is not needed.

    Raises:
        ToolError: pip could not install them; it says what pip said.
    """
    pins = "\n".join([sys.version, *requirements, *(f"--no-deps {package}" for package in bare)])
    folder = root.absolute() / name / hashlib.sha256(pins.encode()).hexdigest()[:12]
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if python.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Built beside, then renamed: what is there is whole. `python -m` stands the move, scripts that pip wrote do not.
    draft = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    try:
        venv.create(draft, with_pip=True)
        install = [str(draft / python.relative_to(folder)), "-m", "pip", "install", "--quiet"]
        for wanted in (requirements, ["--no-deps", *bare] if bare else ()):
            if not wanted:
                continue
            done = subprocess.run(
                [*install, "--disable-pip-version-check", *wanted], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise ToolError(f"{name} cannot be installed: pip install {' '.join(wanted)}\n{_tail(done.stderr)}")
        for old in folder.parent.iterdir():
            if not old.name.startswith(".") and not (old == folder and python.exists()):  # not another one's draft
                shutil.rmtree(old, ignore_errors=True)
        try:
            draft.rename(folder)
        except OSError:
            if not python.exists():  # another process was first: its environment is as good
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return python


def call(python: str | Path, function: str, arguments: Mapping[str, Any], *, memory_gb: float | None = None) -> Answer:
    """Call a function in a process of its own.

    Args:
        python: whose environment it runs in; `sys.executable` is this one.
        function: "package.module:function"; it takes and returns what JSON can hold.
        arguments: by keyword.
        memory_gb: the process is ended when its resident memory exceeds this (on Linux).

    Raises:
        ToolError: the function raised, its process died or took too much memory; with the end of its output.
    """
    with tempfile.TemporaryDirectory() as folder:
        request, result, log = (Path(folder, name) for name in ("request.json", "result.json", "log.txt"))
        request.write_text(json.dumps(dict(arguments)))
        command = [python, Path(__file__).with_name("_child.py"), _PACKAGE, function, request, result]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                _wait(process, function, memory_gb)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        if not result.exists():
            status = process.returncode
            ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with status {status}"
            raise ToolError(f"{function} {ended}\n{_tail(log.read_text(errors='replace'))}")
        return Answer(**json.loads(result.read_text()))


def _wait(process: subprocess.Popen[bytes], function: str, memory_gb: float | None) -> None:
    while True:
        try:
            process.wait(_POLL if memory_gb is not None else None)
            return
        except subprocess.TimeoutExpired:
            seen = (resident_mb(process.pid) or 0.0) / 1e3
            if memory_gb is not None and seen > memory_gb:
                raise ToolError(
                    f"{function} was ended at {seen:.1f} GB of memory; {memory_gb:g} GB were allowed"
                ) from None


def _tail(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if not line.startswith("WARNING")]
    return "\n".join(lines[-_TAIL:])
