"""One run at a time on the GPU: a stream with its buffers and, per batch size, a captured graph."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import BackendError, InputError
from ..pose.preprocess import crop_matrices
from .driver import Device, Kernel, Memory, Pinned, Stream
from .frames import device_image, device_output, geometry, host_frame, image_at, on_device
from .kernels import DecodeArguments, Format, Image, LocateArguments, WarpArguments, batch_dtype, describe_batch
from .network import Network, bucket_of, record, timed_ms

Float = NDArray[np.float32]
Joints = tuple[Float, Float]

_ALL = slice(None)


class Kernels(NamedTuple):
    """What a slot launches."""

    locate: Kernel
    warp: Kernel
    decode: Kernel


class ExecutionSlot:
    """A stream, its buffers and its graphs: what one run needs that others use at the same time."""

    def __init__(self, network: Network, contract: Contract, device: Device, kernels: Kernels, flip_test: bool) -> None:
        c, self._lock = contract, threading.Lock()
        self._holder: int | None = None
        self._network, self._contract, self._kernels, self._flip = network, contract, kernels, flip_test
        self._copies = 2 if flip_test else 1
        self.most = network.largest // self._copies
        self._stream = Stream()
        shapes, self._dtype = network.outputs((c.height, c.width, 3))
        self._crops = Memory(network.largest * c.height * c.width * 3)
        self._outputs = [Memory(network.largest * int(np.prod(shape)) * self._dtype.itemsize) for shape in shapes]
        self._block = Pinned((), batch_dtype(self.most))
        self._keypoints = Pinned((self.most, len(c.keypoints), 3), np.float32)
        # The GPU of a Jetson reads and writes the host's memory: no copies are needed.
        self._shared = device.integrated
        self._block_on_device = None if self._shared else Memory(self._block.size)
        self._keypoints_on_device = None if self._shared else Memory(self._keypoints.size)
        self._mirror: Memory | None = None
        if flip_test:
            index = Pinned((len(c.keypoints),), np.int32)
            index.array[:] = c.flip_index
            self._mirror = Memory(index.size)
            self._stream.upload(self._mirror.address, index, index.size)
            self._stream.synchronize()
        self._frame: tuple[Pinned, Memory | None] | None = None
        self._reading: Any = None
        self._graphs: dict[int, Callable[[], None]] = {}
        self._steps: dict[int, dict[str, Callable[[], None]]] = {}
        self._networks: dict[int, Callable[[], None]] = {}
        self._last: Callable[[], None] | None = None
        self._bucket = 0

    def acquire(self, wait: bool = True) -> bool:
        """Reserve the slot for this thread until `release`. Returns whether it was free, or is now.

        Raises BackendError: this thread has it already, in a video that has not ended: it would deadlock.
        """
        me = threading.get_ident()
        if wait and self._holder == me:
            raise BackendError("a video runs through this pipeline in this thread: end it first, or open another one")
        if not self._lock.acquire(blocking=wait):
            return False
        self._holder = me
        return True

    def release(self) -> None:
        """Free the slot for others."""
        self._holder = None
        self._lock.release()

    def run(self, image: Image, center: Float, extent: Float) -> Joints:
        """A frame from crops to joints, in as many runs as its people need."""
        k = len(self._contract.keypoints)
        xy, score = np.empty((len(center), k, 2), np.float32), np.empty((len(center), k), np.float32)
        for first in range(0, len(center), self.most):
            part = slice(first, first + self.most)
            self.start(image, center[part], extent[part])
            xy[part], score[part] = self.finish(center, extent, part)
        self._stream.synchronize()
        self._reading = None
        return xy, score

    def into(self, out: Any, image: Image, center: Float, extent: Float, user: Stream) -> None:
        """See `Pipeline.into`."""
        joint = self._keypoints.array[0].nbytes
        target = device_output(out, (len(center), *self._keypoints.array.shape[1:]))
        self._stream.after(user)  # which may still read what `out` holds
        for first in range(0, len(center), self.most):
            if first:
                self._stream.synchronize()  # the last run may still read the people that are written now
            part = slice(first, first + self.most)
            self.start(image, center[part], extent[part])
            source = (self._keypoints_on_device or self._keypoints).address
            self._stream.copy(target + first * joint, source, len(center[part]) * joint)
        user.after(self._stream)
        self._reading = image.owner, out

    def take(self, frame: Any, format: Format | None, writer: Stream | None = None) -> Image:
        """The frame on the GPU; on its way there when this returns."""
        self._stream.synchronize()  # an earlier run of `into` may still read what is written now
        if on_device(frame):
            return device_image(frame, format, self._stream, writer)
        image = host_frame(frame)
        geometry(image.shape, format)  # before anything is allocated
        if self._frame is None or self._frame[0].size < image.nbytes:
            staging = Pinned((image.nbytes,), np.uint8)
            self._frame = staging, None if self._shared else Memory(image.nbytes)
        staging, memory = self._frame
        np.copyto(staging.array[: image.nbytes].reshape(image.shape), image)
        if memory is None:
            return image_at(staging.address, image.shape, None, format, staging)
        self._stream.upload(memory.address, staging, image.nbytes)
        return image_at(memory.address, image.shape, None, format, memory)

    def start(self, image: Image, center: Float, extent: Float) -> None:
        """Put one run into the stream."""
        if not len(center):
            return
        self._reading = image.owner
        describe_batch(self._block.array, image, center, extent)
        bucket = bucket_of(len(center), self.most)
        if bucket not in self._graphs:
            self._graphs[bucket] = self._prepare(bucket)
        self._last, self._bucket = self._graphs[bucket], bucket
        self._last()

    def finish(self, center: Float, extent: Float, part: slice = _ALL) -> Joints:
        """Wait for the run and return its joints: those of `part` of these people.

        Raises InputError: a region cannot be cropped, or heatmaps were not finite.
        """
        self._stream.synchronize()
        joints = self._keypoints.array[: len(center[part])]
        if not np.isfinite(joints).all():
            c = self._contract
            crop_matrices(center, extent, c.width, c.height, c.udp)  # says which region it is, where that is why
            bad = ~np.isfinite(joints).all(axis=2)
            person, joint = np.argwhere(bad)[0]
            raise InputError(
                f"the heatmaps of {int(bad.sum())} of {bad.size} joints hold NaN or infinity, the first at person "
                f"{(part.start or 0) + person} joint {joint}: the network overflowed; use the precision fp32"
            )
        return joints[..., :2].copy(), joints[..., 2].copy()

    def replay_ms(self, rounds: int) -> list[float]:
        """See `Pipeline.replay_ms`."""
        return timed_ms(self._last, self._stream, rounds) if self._last else []

    def step(self, name: str, frame: Any) -> None:
        """See `Pipeline.step`."""
        steps = self._steps[self._bucket]
        if name == "upload":
            self.take(frame, None)
        elif name == "network":  # a graph of its own: kernels that are launched one by one take longer
            if self._bucket not in self._networks:
                self._networks[self._bucket] = record(steps[name], self._stream, self._network.capturable)
            steps = {name: self._networks[self._bucket]}
        if name in steps:
            steps[name]()
        self._stream.synchronize()

    def _prepare(self, bucket: int) -> Callable[[], None]:
        c, stream = self._contract, self._stream
        block = self._block_on_device or self._block
        keypoints = self._keypoints_on_device or self._keypoints
        outputs = [memory.address for memory in self._outputs]
        network = self._network.bind(bucket * self._copies, self._crops.address, outputs, stream)
        locate = LocateArguments.of(c, bucket, block.address)
        warp = WarpArguments.of(c, bucket, block.address, self._crops.address, self._flip)
        decode = DecodeArguments.of(
            c,
            bucket,
            self._dtype,
            outputs=outputs,
            batch=block.address,
            keypoints=keypoints.address,
            flip_index=self._mirror.address if self._mirror else 0,
        )
        up, down = batch_dtype(bucket).itemsize, self._keypoints.array[:bucket].nbytes

        def cut() -> None:
            stream.launch(self._kernels.locate, locate.grid, locate.block, locate)
            stream.launch(self._kernels.warp, warp.grid, warp.block, warp)

        steps: dict[str, Callable[[], None]] = {
            "crop": cut,
            "network": network,
            "decode": lambda: stream.launch(self._kernels.decode, decode.grid, decode.block, decode),
        }
        if self._block_on_device:
            steps = {"upload": lambda: stream.upload(block.address, self._block, up), **steps}
        if self._keypoints_on_device:
            steps["download"] = lambda: stream.download(self._keypoints, keypoints.address, down)
        self._steps[bucket] = steps

        def work() -> None:
            for step in steps.values():
                step()

        return record(work, stream, self._network.capturable)
