"""A session whose network runs on the GPU: what the GPU backends open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..pose.heads import Outputs
from .driver import Device, Memory, Pinned, Stream
from .network import Network, bucket_of, record


class GpuSession:
    """A network on a GPU, see `posert.runtime.backends.Session`.

    `PoseEstimator` calls `infer` only where the decode rule has no CUDA kernel. Else it hands `network` and `device` to
    the CUDA pipeline, which keeps crops and heatmaps on the GPU.
    """

    def __init__(self, network: Network, device: Device) -> None:
        self.network, self.device = network, device
        self._crop: tuple[int, ...] = ()
        self._runs: dict[int, Callable[[], None]] = {}  # by batch size

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `posert.runtime.backends.Session.infer`.

        Raises:
            BackendError: the network has more than one output.
            InputError: crops of another size than those of the first call.
        """
        largest = self.network.largest
        with self.device.active():
            if not self._crop:
                self._allocate(crops.shape[1:])
            if crops.shape[1:] != self._crop:
                raise InputError(f"crops are {crops.shape}; this network takes (people, {self._crop})")
            heatmaps = np.empty((len(crops), *self._heatmaps.array.shape[1:]), np.float32)
            for start in range(0, len(crops), largest):
                part = crops[start : start + largest]
                self._crops.array[: len(part)] = part
                bucket = bucket_of(len(part), largest)
                if bucket not in self._runs:
                    self._runs[bucket] = self._prepare(bucket)
                self._runs[bucket]()
                self._stream.synchronize()
                heatmaps[start : start + len(part)] = self._heatmaps.array[: len(part)]
        return (heatmaps,)

    def _allocate(self, crop: tuple[int, ...]) -> None:
        heatmap, dtype = self.network.output(crop)
        self._stream = Stream()
        self._crops = Pinned((self.network.largest, *crop), np.uint8)
        self._heatmaps = Pinned((self.network.largest, *heatmap), dtype)
        self._on_device = Memory(self._crops.size), Memory(self._heatmaps.size)
        self._crop = crop

    def _prepare(self, bucket: int) -> Callable[[], None]:
        crops, heatmaps = self._on_device
        run = self.network.bind(bucket, crops.address, heatmaps.address, self._stream)
        sizes = [buffer.array[:bucket].nbytes for buffer in (self._crops, self._heatmaps)]

        def work() -> None:
            self._stream.upload(crops.address, self._crops, sizes[0])
            run()
            self._stream.download(self._heatmaps, heatmaps.address, sizes[1])

        return record(work, self._stream, self.network.capturable)
