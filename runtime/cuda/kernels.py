"""The kernels of kernels.cu as Python sees them: their arguments, the block of data that changes per frame, and the
compiled images that ship with the package."""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import BackendError
from ..pose.blur import gaussian
from ..pose.heads import head

TILE = 32
ROWS = 8
THREADS = 128
MAX_KERNEL = 99
STRIP = 2048
_TEGRA = (87,)


class Format(enum.IntEnum):
    """Pixel formats that the crop kernel reads; uint8 each. NV12 is BT.601 with limited range, as OpenCV reads it."""

    BGR = 0
    RGB = 1
    BGRA = 2
    RGBA = 3
    GREY = 4
    NV12 = 5


BYTES_PER_PIXEL = {Format.BGR: 3, Format.RGB: 3, Format.BGRA: 4, Format.RGBA: 4, Format.GREY: 1, Format.NV12: 1}


@dataclass(frozen=True)
class Image:
    """A frame on the GPU.

    Attributes:
        pixels, chroma: addresses of the first row, and (NV12) of the first row of U, V pairs.
        pitch: bytes from row to row.
        width, height: px.
        format: of its pixels.
        owner: what has to live for as long as the frame is read.
    """

    pixels: int
    chroma: int
    pitch: int
    width: int
    height: int
    format: Format
    owner: Any


_FRAME = np.dtype(
    [("pixels", np.uint64), ("chroma", np.uint64), ("pitch", np.int64)]
    + [(name, np.int32) for name in ("width", "height", "format", "people")]
)
_PERSON = np.dtype([("center", np.float32, 2), ("extent", np.float32, 2), ("inverse", np.float64, 6)])


def batch_dtype(slots: int) -> np.dtype[Any]:
    """What the kernels read per frame: one record, of the frame and of as many people as the batch has slots."""
    return np.dtype([("frame", _FRAME), ("people", _PERSON, slots)])


def describe_batch(block: NDArray[Any], image: Image, center: NDArray[np.float32], extent: NDArray[np.float32]) -> None:
    """Write a frame and the regions `(n, 2)`, px of it, of its people into a record of `batch_dtype(n)` or larger.

    Their matrices are added by the kernel `locate`.
    """
    n = len(center)
    block["frame"] = (image.pixels, image.chroma, image.pitch, image.width, image.height, int(image.format), n)
    people = block["people"]
    people["center"][:n], people["extent"][:n] = center, extent


def _addresses(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_uint64) for name in names]


def _integers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_int) for name in names]


class LocateArguments(ctypes.Structure):
    """`Locate` of kernels.cu; the address is on the device."""

    _fields_ = [*_addresses("batch"), *_integers("slots", "width", "height", "udp")]

    @classmethod
    def of(cls, contract: Contract, slots: int, batch: int) -> LocateArguments:
        """Arguments that make the matrices of up to `slots` people."""
        return cls(batch, slots, contract.width, contract.height, contract.udp)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks."""
        return -(-self.slots // THREADS), 1, 1

    block = (THREADS, 1, 1)


class WarpArguments(ctypes.Structure):
    """`Warp` of kernels.cu; addresses are on the device."""

    _fields_ = [*_addresses("batch", "crops"), *_integers("slots", "width", "height", "mirror")]

    @classmethod
    def of(cls, contract: Contract, slots: int, batch: int, crops: int, flip: bool) -> WarpArguments:
        """Arguments that cut `slots` crops, and with `flip` their mirror images as a second half of the batch."""
        return cls(batch, crops, slots, contract.width, contract.height, flip)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks."""
        return -(-self.width // TILE), -(-self.height // TILE), self.slots

    block = (TILE, ROWS, 1)


class DecodeArguments(ctypes.Structure):
    """`Decode` of kernels.cu; addresses are on the device."""

    _fields_ = [
        *_addresses("heatmaps", "vertical", "batch", "mirror", "keypoints"),
        *_integers("slots", "joints", "height", "width", "half", "rule", "kernel", "kernel_y", "udp", "shift"),
        ("gaussian", ctypes.c_double * MAX_KERNEL),
        ("wide", ctypes.c_double * (2 * MAX_KERNEL + 1)),
    ]

    @classmethod
    def of(
        cls,
        contract: Contract,
        slots: int,
        dtype: np.dtype[Any],
        *,
        outputs: Sequence[int],
        batch: int,
        keypoints: int,
        flip_index: int = 0,
    ) -> DecodeArguments:
        """Arguments that decode up to `slots` people by the contract's rule, from outputs of `dtype`.

        `outputs`, `batch` and `keypoints` are addresses of buffers, `flip_index` that of `(K,)` int32: for each joint
        the one that stands for it in the mirror; 0 without a flip test.

        Raises:
            BackendError: the rule has no kernel, or the outputs are of another type, or maps higher than it can blur.
        """
        c, rule = contract, head(contract.decode)
        if rule.cuda is None:
            raise BackendError(f"the decode rule {rule.name!r} has no CUDA kernel: decode its outputs on the CPU")
        if dtype not in (np.dtype(np.float32), np.dtype(np.float16)):
            raise BackendError(f"the network gives {dtype} outputs; the CUDA path decodes float32 and float16")
        if len(rule.shapes(c)) == 1 and c.heatmap_height > STRIP:
            raise BackendError(f"heatmaps of {c.heatmap_height} rows; the CUDA path decodes up to {STRIP}")
        first, vertical = (*outputs, 0)[:2]
        arguments = cls(first, vertical, batch, flip_index, keypoints, slots, len(c.keypoints))
        arguments.height, arguments.width = c.heatmap_height, c.heatmap_width
        arguments.half = dtype == np.dtype(np.float16)
        arguments.rule, arguments.kernel, arguments.kernel_y = rule.cuda, c.kernel, c.kernel_y or c.kernel
        arguments.udp, arguments.shift = c.map_udp, c.flip_shift
        arguments.gaussian[: c.kernel] = gaussian(c.kernel).tolist()
        wide = 2 * c.kernel + 1 if len(outputs) == 1 else arguments.kernel_y
        arguments.wide[:wide] = gaussian(wide).tolist()
        return arguments

    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks."""
        return self.joints, self.slots, 1

    block = (THREADS, 1, 1)


@cache
def image_index() -> dict[str, Any]:
    """`images.json`: from which source, by which compiler and with which use of registers the images were made."""
    index: dict[str, Any] = json.loads(_file("images.json"))
    return index


def images(capability: tuple[int, int]) -> list[bytes]:
    """The compiled kernels for a GPU, the best first: machine code, where some fits, then PTX for the driver.

    Raises BackendError: the GPU is older than everything that ships.
    """
    major, minor = capability
    index = image_index()
    exact = 10 * major + minor
    # Machine code runs on later minor versions, but not across the border between Tegra and other GPUs.
    fitting = [m for m in index["cubin"] if m == exact or (m // 10 == major and m < exact and m not in _TEGRA)]
    if exact < index["ptx"]:
        raise BackendError(
            f"this GPU has compute capability {major}.{minor}; the kernels need {index['ptx'] / 10} (Turing) or newer. "
            "Use a CPU backend: --backend openvino"
        )
    return [*(_file(f"sm_{m}.cubin") for m in sorted(fitting)[-1:]), _file(f"compute_{index['ptx']}.ptx")]


def _file(name: str) -> bytes:
    return (resources.files(__package__) / name).read_bytes()
