"""kernels.cu compiled by g++ and run on the CPU: addresses "on the device" are those of numpy arrays.

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

from posert.runtime.contract import Contract
from posert.runtime.cuda import kernels
from posert.runtime.cuda.kernels import DecodeArguments, Format, WarpArguments

HERE = Path(__file__).parent
SOURCE = Path(kernels.__file__).with_name("kernels.cu")
GUARD = 0xA5


def build(library: Path, *flags: str, source: str = "shim.cpp") -> None:
    """Compile; without contraction into fused multiply-adds, as the shipped images are."""
    line = [
        "g++",
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-unknown-pragmas",
        "-Wno-clobbered",
    ]
    line += ["-shared", "-fPIC", f'-DKERNELS="{SOURCE}"', *flags, "-o", str(library), str(HERE / source)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Shim:
    """The kernels of one library. `reverse` runs the threads of a block in the opposite order, which only a missing
    barrier can notice."""

    library: ctypes.CDLL
    reverse: bool = False

    @staticmethod
    def plane_of(image: NDArray[np.uint8], padding: int = 0) -> NDArray[np.uint8]:
        """An image `(H, W[, C])` as rows of bytes with `padding` bytes of GUARD behind each but the last.

        The last row has no padding, as in a real allocation that ends with the picture.
        """
        rows = image.reshape(len(image), -1)
        pitch = rows.shape[1] + padding
        flat = np.full(pitch * (len(rows) - 1) + rows.shape[1], GUARD, np.uint8)
        plane = np.lib.stride_tricks.as_strided(flat, rows.shape, (pitch, 1))
        plane[...] = rows
        return plane

    def launch(self, name: str, arguments: WarpArguments | DecodeArguments) -> None:
        three = ctypes.c_uint * 3
        function = getattr(self.library, f"launch_{name}")
        parted = function(ctypes.byref(arguments), three(*arguments.grid), three(*arguments.block), int(self.reverse))
        assert not parted, "threads of a block parted at a barrier"

    def warp(
        self,
        contract: Contract,
        plane: NDArray[np.uint8],
        size: tuple[int, int],
        format: Format,
        matrices: NDArray[np.float64],
        slots: int | None = None,
        flip: bool = False,
    ) -> NDArray[np.uint8]:
        """Crops `(slots, H, W, 3)`, doubled with `flip`; slots without a person keep the value GUARD.

        `plane` is the frame as rows of bytes `(rows, pitch)`; the chroma of NV12 follows the luma.
        """
        slots = slots or len(matrices)
        unused = np.zeros((len(matrices), 2), np.float32)
        block = batch_block(slots, plane, size, format, matrices, unused, unused)
        crops = np.full((slots * (2 if flip else 1), contract.height, contract.width, 3), GUARD, np.uint8)
        self.launch("warp", WarpArguments.of(contract, slots, block.ctypes.data, crops.ctypes.data, flip))
        return crops

    def decode(
        self,
        contract: Contract,
        heatmaps: NDArray[Any],
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        flip_index: NDArray[np.int32] | None = None,
        people: int | None = None,
    ) -> NDArray[np.float32]:
        """Keypoints `(slots, K, 3)` in px of the frame; slots without a person stay NaN."""
        slots = len(center)
        people = slots if people is None else people
        matrices = np.tile(np.eye(2, 3), (people, 1, 1))
        pixel = np.zeros((1, 3), np.uint8)
        block = batch_block(slots, pixel, (1, 1), Format.BGR, matrices, center[:people], extent[:people])
        keypoints = np.full((slots, len(contract.keypoints), 3), np.nan, np.float32)
        arguments = DecodeArguments.of(
            contract,
            slots,
            heatmaps.dtype,
            heatmaps=heatmaps.ctypes.data,
            batch=block.ctypes.data,
            keypoints=keypoints.ctypes.data,
            flip_index=0 if flip_index is None else flip_index.ctypes.data,
        )
        self.launch("decode", arguments)
        return keypoints


def batch_block(
    slots: int,
    plane: NDArray[np.uint8],
    size: tuple[int, int],
    format: Format,
    matrices: NDArray[np.float64],
    center: NDArray[np.float32],
    extent: NDArray[np.float32],
) -> NDArray[Any]:
    """The block that the kernels read, of a frame in memory."""
    block = np.zeros((), kernels.batch_dtype(slots))
    pitch = plane.strides[0]
    kernels.describe_batch(
        block,
        pixels=plane.ctypes.data,
        chroma=plane.ctypes.data + size[1] * pitch if format == Format.NV12 else 0,
        pitch=pitch,
        size=size,
        format=format,
        matrices=matrices,
        center=center,
        extent=extent,
    )
    return block


def run_cases(library: Path, cases: Path, output: Path) -> None:
    """Run recorded calls: arrays `NAME.N` of an .npz are the arguments of call N."""
    shim = Shim(ctypes.CDLL(str(library)))
    with np.load(cases, allow_pickle=True) as archive:
        calls = archive["calls"].tolist()
    results = []
    for name, contract, arguments in calls:
        if name == "warp":  # laid out anew: pickling forgets the pitch
            arguments["plane"] = shim.plane_of(arguments["plane"], arguments.pop("padding"))
        results.append(getattr(shim, name)(contract, **arguments))
    np.savez(output, *results)


def main(arguments: Sequence[str]) -> None:
    run_cases(*map(Path, arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
