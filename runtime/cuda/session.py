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
    the CUDA pipeline, which keeps crops and outputs on the GPU.
    """

    def __init__(self, network: Network, device: Device) -> None:
        self.network, self.device = network, device
        self._crop: tuple[int, ...] = ()
        self._runs: dict[int, Callable[[], None]] = {}  # by batch size

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        """See `posert.runtime.backends.Session.infer`.

        Raises:
            BackendError: the library failed while it ran.
            InputError: crops of another size than those of the first call.
        """
        largest = self.network.largest
        with self.device.active():
            if not self._crop:
                self._allocate(crops.shape[1:])
            if crops.shape[1:] != self._crop:
                raise InputError(f"crops are {crops.shape}; this network takes (people, {self._crop})")
            outputs = tuple([np.empty((len(crops), *one.array.shape[1:]), np.float32) for one in self._outputs])
            for start in range(0, len(crops), largest):
                part = crops[start : start + largest]
                self._crops.array[: len(part)] = part
                bucket = bucket_of(len(part), largest)
                if bucket not in self._runs:
                    self._runs[bucket] = self._prepare(bucket)
                self._runs[bucket]()
                self._stream.synchronize()
                for output, found in zip(outputs, self._outputs, strict=True):
                    output[start : start + len(part)] = found.array[: len(part)]
        return outputs

    def _allocate(self, crop: tuple[int, ...]) -> None:
        shapes, dtype = self.network.outputs(crop)
        self._stream = Stream()
        self._crops = Pinned((self.network.largest, *crop), np.uint8)
        self._outputs = [Pinned((self.network.largest, *shape), dtype) for shape in shapes]
        self._on_device = Memory(self._crops.size), [Memory(output.size) for output in self._outputs]
        self._crop = crop

    def _prepare(self, bucket: int) -> Callable[[], None]:
        crops, outputs = self._on_device
        run = self.network.bind(bucket, crops.address, [output.address for output in outputs], self._stream)
        size = self._crops.array[:bucket].nbytes

        def work() -> None:
            self._stream.upload(crops.address, self._crops, size)
            run()
            for host, device in zip(self._outputs, outputs, strict=True):
                self._stream.download(host, device.address, host.array[:bucket].nbytes)

        return record(work, self._stream, self.network.capturable)
