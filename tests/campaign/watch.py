"""What a case does beside its result: memory, code that runs, files that are read though nobody named them."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import posert
from posert.runtime.system.memory import peak_mb, resident_mb

LIMIT_MB = 2000.0
DECOYS = ("weights.bin", "network.onnx.data", "model.bin", "decoy.json", "decoy.png")
"""Files in the folder in which the program runs. No input is called so, and none may be read or changed."""

# What a file must never make happen: names of sys.audit events.
_CODE = ("os.system", "os.exec", "os.posix_spawn", "socket.connect", "subprocess.Popen")
_OPENED, _CREATED, _MODIFIED = 0x20, 0x100, 0x2
_ROOT = Path(posert.__file__).parent.resolve()
# Python and its libraries, the sources, and what the system tells about itself
_READABLE = (sys.prefix, sys.base_prefix, *sys.path, _ROOT, "/proc", "/sys", "/dev", "/usr", "/lib", "/etc/ld.so")
# OpenVINO's telemetry, which it writes where it refuses a graph, and matplotlib's fonts.
_OF_LIBRARIES = tuple(str(Path.home() / name) for name in ("intel", ".cache/matplotlib", ".config/matplotlib"))
# Where no folder for temporary files takes any, such as on a full disk, Python tries the current one, by such a name.
_PROBE = re.compile(r"[a-z0-9_]{8}")


class Watch:
    """Watches this process, whose files lie in `folder`; a folder of decoys becomes the current one."""

    def __init__(self, folder: Path, may_start: bool = False) -> None:
        self._may_start = may_start
        decoys = folder / "decoys"
        decoys.mkdir(parents=True, exist_ok=True)
        for name in DECOYS:
            (decoys / name).write_bytes((name.encode() + bytes(range(256)) * 256)[:65536])
        os.chdir(decoys)
        libc = ctypes.CDLL(None, use_errno=True)
        self._notify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        libc.inotify_add_watch(self._notify, os.fsencode(decoys), _OPENED | _CREATED | _MODIFIED)
        self._own = str(folder.resolve())
        self._readable = tuple(os.path.realpath(p) for p in _READABLE if str(p))
        self._events: list[tuple[str, str]] = []
        self._active = False
        self._floor = 0.0
        sys.addaudithook(self._audit)

    def begin(self) -> None:
        """A case begins."""
        self._active = False
        self._drain()
        self._events.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak from here
        self._floor = self._floor or resident_mb(os.getpid()) or 0.0
        self._active = True

    def seen(self) -> tuple[str, str] | None:
        """Kind and detail of what the case did and must not; None if nothing."""
        self._active = False
        if touched := self._drain():
            return "read outside", f"a decoy: {', '.join(sorted(touched))}"
        if self._events:
            return self._events[0]
        used = (peak_mb() or 0.0) - self._floor
        if used > LIMIT_MB:
            return "memory", f"{used:.0f} MB more than before the first case"
        return None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if event in _CODE and not self._may_start:
            self._events.append(("ran code", f"{event} {arguments!r:.200}"))
        elif event == "open" and isinstance(arguments[0], str | bytes):
            # OpenCV, OpenVINO and others in C++ are not seen here: the decoys see them
            self._active = False
            path, mode = os.path.realpath(os.fsdecode(arguments[0])), str(arguments[1])
            if not path.startswith(self._own):
                if path.startswith(_OF_LIBRARIES):
                    pass
                elif arguments[2] & (os.O_WRONLY | os.O_RDWR) and path != os.devnull:
                    self._events.append(("wrote outside", f"{path} {mode}"))
                elif not path.startswith(self._readable):
                    self._events.append(("read outside", path))
            self._active = True

    def _drain(self) -> set[str]:
        """Names in the folder of decoys that were opened, made or changed since the last time."""
        names = set()
        try:
            while data := os.read(self._notify, 1 << 16):
                while data:
                    size = int.from_bytes(data[12:16], sys.byteorder)
                    names.add(data[16 : 16 + size].rstrip(b"\0").decode(errors="replace"))
                    data = data[16 + size :]
        except BlockingIOError:
            pass
        names -= {""}  # the folder itself
        return {name for name in names if not _PROBE.fullmatch(name)}
