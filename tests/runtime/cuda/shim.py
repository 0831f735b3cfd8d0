"""The kernels of kernels.cu behind one interface: compiled by g++ and run on the CPU (`Shim`), or on a GPU (`Gpu`).

Also a program of its own, so that a sanitized library can run in a process that preloads the sanitizers:
`python shim.py LIBRARY CASES.npz OUTPUT.npz` (see `run_cases`).
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda import kernels
from posert.runtime.cuda.driver import Device, Kernel, Memory, Module, Pinned, Stream
from posert.runtime.cuda.kernels import DecodeArguments, Format, Image, LocateArguments, WarpArguments
from posert.runtime.pose.preprocess import invert

Arguments = LocateArguments | WarpArguments | DecodeArguments

HERE = Path(__file__).parent
SOURCE = Path(kernels.__file__).with_name("kernels.cu")
GUARD = 0xA5


def build(library: Path, *flags: str, source: str = "shim.cpp") -> None:
    """Compile; without contraction into fused multiply-adds, as the shipped images are."""
    line = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
    line += ["-Wno-clobbered", "-shared", "-fPIC", f'-DKERNELS="{SOURCE}"', *flags, "-o", str(library)]
    line.append(str(HERE / source))
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Plane:
    """Rows of a frame in `bytes`, `pitch` bytes from row to row."""

    bytes: NDArray[np.uint8]
    pitch: int


class Kernels:
    """Calls of the kernels from arrays to arrays. Who derives says where buffers lie and how a kernel starts."""

    def place(self, array: NDArray[Any]) -> tuple[int, Any]:
        """The address of a buffer that begins as this array, and what has to live as long."""
        raise NotImplementedError

    def fetch(self, array: NDArray[Any], owner: Any) -> None:
        """Bring a buffer back into the array that it began as."""
        raise NotImplementedError

    def launch(self, name: str, arguments: Arguments) -> None:
        """Run a kernel to its end."""
        raise NotImplementedError

    @staticmethod
    def plane_of(image: NDArray[np.uint8], padding: int = 0) -> Plane:
        """An image `(H, W[, C])` with `padding` bytes of GUARD behind each row but the last.

        The last row has no padding, as in a real allocation that ends with the picture.
        """
        rows = image.reshape(len(image), -1)
        padded = np.full((rows.shape[0], rows.shape[1] + padding), GUARD, np.uint8)
        padded[:, : rows.shape[1]] = rows
        return Plane(padded.reshape(-1)[: padded.size - padding].copy(), padded.shape[1])

    def warp(
        self,
        contract: Contract,
        plane: Plane,
        size: tuple[int, int],
        format: Format,
        matrices: NDArray[np.float64],
        slots: int | None = None,
        flip: bool = False,
    ) -> NDArray[np.uint8]:
        """Crops `(slots, H, W, 3)`, doubled with `flip`; slots without a person keep the value GUARD.

        The chroma of NV12 follows the luma.
        """
        slots = slots or len(matrices)
        crops = np.full((slots * (2 if flip else 1), contract.height, contract.width, 3), GUARD, np.uint8)
        pixels, owner = self.place(plane.bytes)
        unused = np.zeros((len(matrices), 2), np.float32)
        batch, kept = self._batch(slots, pixels, plane.pitch, size, format, unused, unused, matrices)
        address, out = self.place(crops)
        self.launch("warp", WarpArguments.of(contract, slots, batch, address, flip))
        self.fetch(crops, out)
        del owner, kept
        return crops

    def locate(
        self, contract: Contract, center: NDArray[np.float32], extent: NDArray[np.float32], slots: int | None = None
    ) -> NDArray[Any]:
        """The people `(slots,)` as the other kernels read them: `center`, `extent` and `inverse`."""
        slots = slots or len(center)
        address, (block, owner) = self._batch(slots, 0, 3, (1, 1), Format.BGR, center, extent)
        self.launch("locate", LocateArguments.of(contract, slots, address))
        self.fetch(block, owner)
        return block["people"]

    def decode(
        self,
        contract: Contract,
        outputs: Sequence[NDArray[Any]],
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        flip_index: NDArray[np.int32] | None = None,
        people: int | None = None,
    ) -> NDArray[np.float32]:
        """Keypoints `(slots, K, 3)` in px of the frame; slots without a person stay NaN."""
        slots = len(center)
        people = slots if people is None else people
        batch, kept = self._batch(slots, 0, 3, (1, 1), Format.BGR, center[:people], extent[:people])
        keypoints = np.full((slots, len(contract.keypoints), 3), np.nan, np.float32)
        placed = [self.place(output) for output in outputs]
        mirror, mirror_owner = (0, None) if flip_index is None else self.place(flip_index)
        address, out = self.place(keypoints)
        arguments = DecodeArguments.of(
            contract,
            slots,
            outputs[0].dtype,
            outputs=[output for output, _ in placed],
            batch=batch,
            keypoints=address,
            flip_index=mirror,
        )
        self.launch("decode", arguments)
        self.fetch(keypoints, out)
        del kept, placed, mirror_owner
        return keypoints

    def _batch(
        self,
        slots: int,
        pixels: int,
        pitch: int,
        size: tuple[int, int],
        format: Format,
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        matrices: NDArray[np.float64] | None = None,
    ) -> tuple[int, Any]:
        block = np.zeros((), kernels.batch_dtype(slots))
        chroma = pixels + size[1] * pitch if format == Format.NV12 else 0
        kernels.describe_batch(block, Image(pixels, chroma, pitch, *size, format, None), center, extent)
        if matrices is not None:
            block["people"]["inverse"][: len(matrices)] = invert(matrices).reshape(-1, 6)
        address, owner = self.place(block)
        return address, (block, owner)


@dataclass(frozen=True)
class Shim(Kernels):
    """The kernels of a library that g++ made; buffers are the arrays themselves.

    `reverse` runs the threads of a block in the opposite order, which only a missing barrier can notice.
    """

    library: ctypes.CDLL
    reverse: bool = False

    def place(self, array: NDArray[Any]) -> tuple[int, Any]:
        return array.ctypes.data, array

    def fetch(self, array: NDArray[Any], owner: Any) -> None:
        pass

    def launch(self, name: str, arguments: Arguments) -> None:
        three = ctypes.c_uint * 3
        function = getattr(self.library, f"launch_{name}")
        parted = function(ctypes.byref(arguments), three(*arguments.grid), three(*arguments.block), int(self.reverse))
        assert not parted, "threads of a block parted at a barrier"


class Gpu(Kernels):
    """The shipped images on the first GPU of this machine."""

    def __init__(self) -> None:
        self._device = Device()
        with self._device.active():
            self._module, self._stream = Module(kernels.images(self._device.capability)), Stream()

    def place(self, array: NDArray[Any]) -> tuple[int, Any]:
        with self._device.active():
            staging, memory = Pinned((array.nbytes,), np.uint8), Memory(array.nbytes)
            staging.array[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self._stream.upload(memory.address, staging, array.nbytes)
            self._stream.synchronize()
        return memory.address, (staging, memory)

    def fetch(self, array: NDArray[Any], owner: Any) -> None:
        staging, memory = owner
        with self._device.active():
            self._stream.download(staging, memory.address, array.nbytes)
            self._stream.synchronize()
        array.reshape(-1).view(np.uint8)[:] = staging.array

    def launch(self, name: str, arguments: Arguments) -> None:
        with self._device.active():
            self._stream.launch(Kernel(self._module, name), arguments.grid, arguments.block, arguments)
            self._stream.synchronize()


def run_cases(library: Path, cases: Path, output: Path) -> None:
    """Run recorded calls `(method, contract, arguments)`, and write their results."""
    shim = Shim(ctypes.CDLL(str(library)))
    with np.load(cases, allow_pickle=True) as archive:
        calls = archive["calls"].tolist()
    results = []
    for name, contract, arguments in calls:
        if name == "warp":
            arguments["plane"] = shim.plane_of(arguments["plane"], arguments.pop("padding"))
        results.append(getattr(shim, name)(contract, **arguments))
    np.savez(output, *results)


def main(arguments: Sequence[str]) -> None:
    run_cases(*map(Path, arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
