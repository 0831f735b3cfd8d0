"""Makes the compiled images of kernels.cu that ship with the package. For developers, needs no GPU and no toolkit:

    pip install nvidia-cuda-nvrtc-cu12==12.9.86
    python -m posert.runtime.cuda.compile_kernels

That compiler knows every GPU from Turing to Blackwell, and what it makes loads on every driver of CUDA 12 and 13.
Machine code runs on the later minor versions of its GPU, except on Tegra, which so has its own (sm_87, Orin). GPUs
that came later get PTX, which their driver compiles.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import BackendError

HERE = Path(__file__).parent
PACKAGE = "nvidia-cuda-nvrtc-cu12"
SHIPPED = (75, 80, 87, 90, 100, 120)
COMPILED = (75, 80, 86, 87, 89, 90, 100, 103, 120, 121)
"""All of these are compiled, to see that no register spills; those of SHIPPED are kept."""
PTX = 75
OPTIONS = ("--std=c++17", "--fmad=false")
"""Without contraction, so that results are those of the CPU."""


class Nvrtc:
    """The compiler of the pip package, through its C interface.

    Raises:
        BackendError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            self.version = metadata.version(PACKAGE)
        except metadata.PackageNotFoundError:
            raise BackendError(f"{PACKAGE} is not installed: pip install {PACKAGE}==12.9.86") from None
        files = [f for f in metadata.files(PACKAGE) or () if re.match(r"libnvrtc(-builtins)?\.so", f.name)]
        # the compiler looks for its built-ins among the libraries that are already loaded
        files.sort(key=lambda file: "builtins" not in file.name)
        self._library = [ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL) for file in files][-1]

    def compile(self, source: bytes, target: str) -> tuple[bytes, str]:
        """Image and log of one target, "sm_90" (machine code) or "compute_75" (PTX).

        Raises BackendError: the compiler refused the source.
        """
        options = [f"--gpu-architecture={target}", *OPTIONS, "--ptxas-options=-v"]
        program = ctypes.c_void_p()
        self._call("CreateProgram", ctypes.byref(program), source, b"kernels.cu", 0, None, None)
        try:
            array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
            status = self._library.nvrtcCompileProgram(program, len(options), array)
            log = self._read(program, "ProgramLog").decode()
            if status:
                raise BackendError(f"NVRTC {self.version} refused kernels.cu for {target}:\n{log}")
            return self._read(program, "CUBIN" if target.startswith("sm_") else "PTX"), log
        finally:
            self._call("DestroyProgram", ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, buffer)
        return buffer.raw if what == "CUBIN" else buffer.raw.rstrip(b"\0")

    def _call(self, name: str, *arguments: Any) -> None:
        if status := self._library[f"nvrtc{name}"](*arguments):
            raise BackendError(f"nvrtc{name} failed with {status}")


def resources_of(log: str) -> dict[str, dict[str, int]]:
    """What the assembler says about each kernel: registers per thread, bytes of stack, spills and shared memory."""
    found: dict[str, dict[str, int]] = {}
    for part in log.split("Compiling entry function '")[1:]:
        found[part.split("'")[0]] = {
            "registers": _numbers(r"Used (\d+) registers", part)[0],
            "stack": max(_numbers(r"(\d+) bytes stack frame", part)),
            "spilled": sum(_numbers(r"(\d+) bytes spill (?:stores|loads)", part)),
            "shared": sum(_numbers(r"(\d+) bytes smem", part)),
        }
    return found


def _numbers(pattern: str, text: str) -> list[int]:
    return [int(number) for number in re.findall(pattern, text)]


def compile_all() -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files to ship, by name, and the index of them."""
    nvrtc, source = Nvrtc(), (HERE / "kernels.cu").read_bytes()
    files, resources = {}, {}
    for capability in COMPILED:
        image, log = nvrtc.compile(source, f"sm_{capability}")
        resources[f"sm_{capability}"] = resources_of(log)
        if capability in SHIPPED:
            files[f"sm_{capability}.cubin"] = image
    files[f"compute_{PTX}.ptx"] = nvrtc.compile(source, f"compute_{PTX}")[0]
    index = {
        "source": hashlib.sha256(source).hexdigest(),
        "compiler": f"{PACKAGE} {nvrtc.version}",
        "options": OPTIONS,
        "cubin": SHIPPED,
        "ptx": PTX,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "resources": resources,
    }
    return files, index


def main() -> None:
    """Write the images beside the source, in place of those that are there."""
    argparse.ArgumentParser(description=__doc__.split("\n", 1)[0]).parse_args()
    files, index = compile_all()
    for old in [*HERE.glob("*.cubin"), *HERE.glob("*.ptx")]:
        old.unlink()
    for name, data in files.items():
        (HERE / name).write_bytes(data)
    (HERE / "images.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(files)} images, {sum(map(len, files.values())) / 1e3:.0f} kB, by {index['compiler']}")


if __name__ == "__main__":
    main()
