"""From a frame and regions to keypoints without leaving the GPU: crops, network and decoding in one CUDA graph.

Per batch size one graph is captured: the people's matrices go up, crops are cut straight into the network's input, the
network runs, its heatmaps are decoded and taken back to the frame, and K x 3 numbers per person come down. The frame
itself goes up before that, unless it lies on the GPU already. People beyond a batch size wait for the next run; a run
with fewer people than its batch size computes slots that nobody reads, which `Usage` tells.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle.contract import Contract
from ..errors import BackendError, InputError
from .driver import Device, Module, Stream
from .frames import stream_of
from .kernels import Format, images
from .lane import Joints, Kernels, Lane, Usage
from .network import Network


class Pipeline:
    """A network with its pre- and post-processing on the GPU.

    It may be called from several threads. Calls run side by side in as many lanes as it has, each with a stream and
    buffers of its own. The first run of a batch size captures its graph; a thread that waits for the whole device just
    then (`torch.cuda.synchronize`) ends the capture, and both get an error: run each size once before.

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
            kernels = Kernels(*(module.kernel(name) for name in Kernels._fields))
            self._lanes = [Lane(network, contract, device, kernels, flip_test) for _ in range(lanes)]

    def __call__(
        self,
        frame: Any,
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        *,
        format: Format | None = None,
        stream: Any = None,
    ) -> Joints:
        """Joints of N people.

        Args:
            frame: uint8 `(H, W, 3)` BGR, `(H, W, 4)` BGRA or `(H, W)` grey, on the host or on the GPU.
            center, extent: `(N, 2)` float32, px of the frame: the regions to look at, see `pose.preprocess`.
            format: of the frame, where it is another one; NV12 is `(3 * H / 2, W)`.
            stream: that writes a frame on the GPU, where the array does not say: of pycuda, CuPy, PyTorch, or a handle.
                None is PyTorch's and JAX's own current one, and else the default stream.

        Returns:
            xy `(N, K, 2)`, px of the frame, and score `(N, K)`, both float32.

        Raises:
            InputError: the frame cannot be used, a region cannot be cropped, or heatmaps were not finite.
        """
        with self._lane() as lane, self.device.active():
            return lane.run(lane.take(frame, format, _named(stream)), center, extent, self.usage)

    def into(
        self,
        out: Any,
        frame: Any,
        center: NDArray[np.float32],
        extent: NDArray[np.float32],
        *,
        format: Format | None = None,
        stream: Any = None,
    ) -> None:
        """Joints of N people into an array of the GPU; the host does not wait for them.

        Args:
            out: `(N, K, 3)` float32 on the GPU, contiguous: x and y, px of the frame, and score. NaN where heatmaps
                were not finite, or a region could not be cropped.
            frame, center, extent, format: as above.
            stream: that writes the frame and then reads `out`; None is the default stream.

        Raises:
            InputError: the frame or `out` cannot be used.
        """
        with self._lane() as lane, self.device.active():
            image = lane.take(frame, format, _named(stream))
            lane.into(out, image, center, extent, stream_of(stream), self.usage)

    def video(
        self, frames: Iterable[tuple[Any, NDArray[np.float32], NDArray[np.float32]]], *, format: Format | None = None
    ) -> Iterator[Joints]:
        """Joints of frame after frame, each given with its centres and extents; see `__call__`.

        With two lanes the next frame goes up while one is computed, so results are one frame late. It has all lanes
        until it ends: other threads wait, and the one that iterates may not use this pipeline otherwise.
        """
        waiting: deque[tuple[Lane, NDArray[np.float32], NDArray[np.float32]]] = deque()
        with ExitStack() as locks:
            for lane in self._lanes:
                lane.acquire()
                locks.callback(lane.release)
            for lane, (frame, center, extent) in zip(cycle(self._lanes), frames):
                if len(waiting) == len(self._lanes):
                    yield self._finish(*waiting.popleft())
                if len(center) > lane.most:
                    raise InputError(f"{len(center)} people in a frame of a video; the network takes {lane.most}")
                with self.device.active():
                    lane.start(lane.take(frame, format), center, extent, self.usage)
                waiting.append((lane, center, extent))
            while waiting:
                yield self._finish(*waiting.popleft())

    def replay_ms(self, rounds: int) -> list[float]:
        """GPU time of the last call's last run, run again so many times: what a frame costs beside its upload."""
        with self._lane() as lane, self.device.active():
            return lane.replay_ms(rounds)

    def step(self, name: str, frame: Any) -> None:
        """One step of the last call's last run again, alone and waited for: what a benchmark times.

        Args:
            name: "upload" (the frame and its people's matrices), "crop", "network", "decode" or "download".
            frame: that "upload" sends.
        """
        with self._lane() as lane, self.device.active():
            lane.step(name, frame)

    def _finish(self, lane: Lane, center: NDArray[np.float32], extent: NDArray[np.float32]) -> Joints:
        with self.device.active():
            return lane.finish(center, extent)

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        """A lane that nobody uses; if there is none, the first, when it is free."""
        lane = next((one for one in self._lanes if one.acquire(wait=False)), None)
        if lane is None:
            lane = self._lanes[0]
            lane.acquire()
        try:
            yield lane
        finally:
            lane.release()


def _named(stream: Any) -> Stream | None:
    return None if stream is None else stream_of(stream)
