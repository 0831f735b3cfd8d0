"""From a frame and regions to keypoints without leaving the GPU: crops, network and decoding in one CUDA graph.

Per batch size one graph is captured: the people's matrices go up, crops are cut straight into the network's input, the
network runs, its heatmaps are decoded and taken back to the frame, and K x 3 numbers per person come down. The frame
itself goes up before that, unless it lies on the GPU already. People beyond a batch size wait for the next run; a run
with fewer people than its batch size computes slots that nobody reads, which `Usage` tells.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import Contract
from ..errors import BackendError, InputError
from ..flip import flip_index
from ..preprocess import crop_matrices
from .driver import Device, Memory, Module, Pinned, Stream
from .frames import Image, device_image, geometry, host_frame, image_at, on_device
from .kernels import DecodeArguments, Format, WarpArguments, batch_dtype, describe_batch, images
from .network import Network, bucket_of, record, timed_ms

Joints = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass
class Usage:
    """What was run so far: `people` in `slots` of batches, `slots - people` of them padding."""

    people: int = 0
    slots: int = 0


class Pipeline:
    """A network with its pre- and post-processing on the GPU.

    It may be called from several threads. Calls run side by side in as many lanes as it has, each with a stream and
    buffers of its own.

    Args:
        network: on this device.
        contract: of the network.
        device: the GPU.
        flip_test: average the heatmaps of each crop and of its mirror image.
        lanes: how many runs can be under way at the same time; two let one frame go up while another is computed.

    Raises:
        BackendError: the network does not give what the contract says.
    """

    def __init__(
        self, network: Network, contract: Contract, device: Device, *, flip_test: bool = False, lanes: int = 1
    ) -> None:
        c = contract
        channels = len(c.keypoints) * (3 if c.decode == "udp_combined" else 1)
        promised = (channels, c.heatmap_height, c.heatmap_width)
        with device.active():
            heatmap, _ = network.output((c.height, c.width, 3))
        if heatmap != promised:
            raise BackendError(f"the network gives heatmaps {heatmap}; its contract says {promised}")
        if flip_test and network.largest < 2:
            raise BackendError("a flip test runs a person twice, and the network takes a batch of 1")
        self.contract, self.device, self.usage = contract, device, Usage()
        with device.active():
            module = Module(images(device.capability))
            kernels = module.kernel("warp"), module.kernel("decode")
            self._lanes = [_Lane(network, contract, device, kernels, flip_test) for _ in range(lanes)]

    def __call__(
        self,
        frame: Any,
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        *,
        format: Format | None = None,
    ) -> Joints:
        """Joints of N people.

        Args:
            frame: uint8 `(H, W, 3)` BGR, `(H, W, 4)` BGRA or `(H, W)` grey, on the host or on the GPU.
            center, extent: `(N, 2)` float32, px of the frame: the regions to look at, see `posert.runtime.preprocess`.
            format: of the frame, where it is another one; NV12 is `(3 * H / 2, W)`.

        Returns:
            xy `(N, K, 2)`, px of the frame, and score `(N, K)`, both float32.

        Raises:
            InputError: the frame cannot be used, or heatmaps were not finite.
        """
        with self._lane() as lane, self.device.active():
            return lane.run(frame, center, extent, format, self.usage)

    def video(
        self, frames: Iterable[tuple[Any, NDArray[np.float32], NDArray[np.float32]]], *, format: Format | None = None
    ) -> Iterator[Joints]:
        """Joints of frame after frame, each given with its centres and extents; see `__call__`.

        With two lanes the next frame goes up while one is computed, so results are one frame late.
        """
        waiting: deque[tuple[_Lane, int]] = deque()
        with ExitStack() as locks:
            for lane in self._lanes:
                locks.enter_context(lane.lock)
            for lane, (frame, center, extent) in zip(cycle(self._lanes), frames):
                if len(waiting) == len(self._lanes):
                    yield self._finish(*waiting.popleft())
                if len(center) > lane.most:
                    raise InputError(f"{len(center)} people in a frame of a video; the network takes {lane.most}")
                with self.device.active():
                    lane.start(lane.take(frame, format), center, extent, self.usage)
                waiting.append((lane, len(center)))
            while waiting:
                yield self._finish(*waiting.popleft())

    def replay_ms(self, rounds: int) -> list[float]:
        """GPU time of the last call's last run, run again so many times: what a frame costs beside its upload."""
        with self._lane() as lane, self.device.active():
            return lane.replay_ms(rounds)

    def _finish(self, lane: _Lane, people: int) -> Joints:
        with self.device.active():
            return lane.finish(people)

    @contextmanager
    def _lane(self) -> Iterator[_Lane]:
        """A lane that nobody uses; if there is none, the first, when it is free."""
        lane = next((one for one in self._lanes if one.lock.acquire(blocking=False)), None)
        if lane is None:
            lane = self._lanes[0]
            lane.lock.acquire()
        try:
            yield lane
        finally:
            lane.lock.release()


class _Lane:
    """A stream, its buffers and its graphs."""

    def __init__(
        self, network: Network, contract: Contract, device: Device, kernels: tuple[Any, Any], flip_test: bool
    ) -> None:
        c, self.lock = contract, threading.Lock()
        self._network, self._contract, self._kernels, self._flip = network, contract, kernels, flip_test
        self._copies = 2 if flip_test else 1
        self.most = network.largest // self._copies
        self._stream = Stream()
        heatmap, self._dtype = network.output((c.height, c.width, 3))
        self._crops = Memory(network.largest * c.height * c.width * 3)
        self._heatmaps = Memory(network.largest * int(np.prod(heatmap)) * self._dtype.itemsize)
        self._block = Pinned((), batch_dtype(self.most))
        self._keypoints = Pinned((self.most, len(c.keypoints), 3), np.float32)
        # The GPU of a Jetson reads and writes the host's memory: what goes up and down can stay where it is.
        self._shared = device.integrated
        self._block_on_device = None if self._shared else Memory(self._block.size)
        self._keypoints_on_device = None if self._shared else Memory(self._keypoints.size)
        self._mirror: Memory | None = None
        if flip_test:
            index = Pinned((len(c.keypoints),), np.int32)
            index.array[:] = flip_index(len(c.keypoints), c.flip_pairs)
            self._mirror = Memory(index.size)
            self._stream.upload(self._mirror.address, index, index.size)
            self._stream.synchronize()
        self._frame: tuple[Pinned, Memory | None] | None = None
        self._reading: Any = None
        self._graphs: dict[int, Callable[[], None]] = {}
        self._last: Callable[[], None] | None = None

    def run(
        self,
        frame: Any,
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        format: Format | None,
        usage: Usage,
    ) -> Joints:
        """A frame from start to end, in as many runs as its people need."""
        image, k = self.take(frame, format), len(self._contract.keypoints)
        xy, score = np.empty((len(center), k, 2), np.float32), np.empty((len(center), k), np.float32)
        for first in range(0, len(center), self.most):
            part = slice(first, first + self.most)
            self.start(image, center[part], extent[part], usage)
            xy[part], score[part] = self.finish(len(center[part]), first)
        self._stream.synchronize()
        self._reading = None
        return xy, score

    def take(self, frame: Any, format: Format | None) -> Image:
        """The frame on the GPU; on its way there when this returns."""
        self._stream.synchronize()  # a run that nobody waited for may still read what is written now
        if on_device(frame):
            return device_image(frame, format, self._stream)
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

    def start(self, image: Image, center: NDArray[np.float32], extent: NDArray[np.float32], usage: Usage) -> None:
        """Put one run into the stream."""
        people, c = len(center), self._contract
        if not people:
            return
        self._reading = image.owner
        describe_batch(
            self._block.array,
            pixels=image.pixels,
            chroma=image.chroma,
            pitch=image.pitch,
            size=(image.width, image.height),
            format=image.format,
            matrices=crop_matrices(center, extent, c.width, c.height, c.udp),
            center=center,
            extent=extent,
        )
        bucket = bucket_of(people, self.most)
        if bucket not in self._graphs:
            self._graphs[bucket] = self._prepare(bucket)
        self._last = self._graphs[bucket]
        self._last()
        usage.people += people
        usage.slots += bucket

    def finish(self, people: int, first: int = 0) -> Joints:
        """Wait for the run, and its joints; `first` is the number of its first person, for messages.

        Raises:
            InputError: heatmaps were not finite.
        """
        self._stream.synchronize()
        joints = self._keypoints.array[:people]
        bad = ~np.isfinite(joints).all(axis=2)
        if bad.any():
            person, joint = np.argwhere(bad)[0]
            raise InputError(
                f"the heatmaps of {int(bad.sum())} of {bad.size} joints hold NaN or infinity, the first at person "
                f"{first + person} joint {joint}: the network overflowed; use the precision fp32"
            )
        return joints[..., :2].copy(), joints[..., 2].copy()

    def replay_ms(self, rounds: int) -> list[float]:
        """See `Pipeline.replay_ms`."""
        return timed_ms(self._last, self._stream, rounds) if self._last else []

    def _prepare(self, bucket: int) -> Callable[[], None]:
        c, stream = self._contract, self._stream
        block = self._block_on_device or self._block
        keypoints = self._keypoints_on_device or self._keypoints
        network = self._network.bind(bucket * self._copies, self._crops.address, self._heatmaps.address, stream)
        warp = WarpArguments.of(c, bucket, block.address, self._crops.address, self._flip)
        decode = DecodeArguments.of(
            c,
            bucket,
            self._dtype,
            heatmaps=self._heatmaps.address,
            batch=block.address,
            keypoints=keypoints.address,
            flip_index=self._mirror.address if self._mirror else 0,
        )
        up, down = batch_dtype(bucket).itemsize, self._keypoints.array[:bucket].nbytes

        def work() -> None:
            if self._block_on_device:
                stream.upload(block.address, self._block, up)
            stream.launch(self._kernels[0], warp.grid, warp.block, warp)
            network()
            stream.launch(self._kernels[1], decode.grid, decode.block, decode)
            if self._keypoints_on_device:
                stream.download(self._keypoints, keypoints.address, down)

        return record(work, stream, self._network.capturable)
