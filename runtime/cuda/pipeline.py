"""From a frame and regions to keypoints without leaving the GPU: crops, network and decoding in one CUDA graph.

Per batch size one graph is captured: the people's matrices go up, crops are cut straight into the network's input, the
network runs, its outputs are decoded and taken back to the frame, and K x 3 numbers per person come down. The frame
itself goes up before that, unless it lies on the GPU already. People beyond the largest batch size wait for the next
run. A run with fewer people than its batch size is padded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

from ..bundle.contract import Contract
from ..errors import BackendError
from ..pose.heads import head
from .driver import Device, Kernel, Module, Stream
from .frames import on_device, stream_of
from .kernels import Format, images
from .network import Network
from .slot import ExecutionSlot, Float, Joints, Kernels


class Pipeline:
    """A network with its pre- and post-processing on the GPU.

    It may be called from several threads. Calls run side by side in as many slots as it has, each with a stream and
    buffers of its own. The first run of a batch size captures its graph; a thread that waits for the whole device just
    then (`torch.cuda.synchronize`) ends the capture, and both get an error: run each size once before.

    Args:
        network, contract, device: the network, what it expects, and the GPU that it is on.
        flip_test: average the heatmaps of each crop and of its mirror image.
        slots: how many runs can be in progress at the same time; with two, one frame goes up while another is computed.

    Raises:
        BackendError: the network does not give what the contract says, or the contract's decode rule has no kernel.
    """

    def __init__(
        self, network: Network, contract: Contract, device: Device, *, flip_test: bool = False, slots: int = 1
    ) -> None:
        c = contract
        expected = head(c.decode).shapes(c)
        with device.active():
            shapes, _ = network.outputs((c.height, c.width, 3))
        if shapes != expected:
            raise BackendError(f"the network's outputs have the shapes {shapes}; its contract says {expected}")
        if flip_test and network.largest < 2:
            raise BackendError("a flip test runs a person twice, and the network takes a batch of 1")
        self.contract, self.device = contract, device
        with device.active():
            module = Module(images(device.capability))
            kernels = Kernels(*(Kernel(module, name) for name in Kernels._fields))
            self._slots = [ExecutionSlot(network, contract, device, kernels, flip_test) for _ in range(slots)]

    def __call__(
        self, frame: Any, center: Float, extent: Float, *, format: Format | None = None, stream: Any = None
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
        with self._slot() as slot, self.device.active():
            return slot.run(slot.take(frame, format, _named(stream)), center, extent)

    def into(
        self, out: Any, frame: Any, center: Float, extent: Float, *, format: Format | None = None, stream: Any = None
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
        with self._slot() as slot, self.device.active():
            image = slot.take(frame, format, _named(stream))
            slot.into(out, image, center, extent, stream_of(stream))

    def video(self, frames: Iterable[tuple[Any, Float, Float]], *, format: Format | None = None) -> Iterator[Joints]:
        """Joints of frame after frame, each given with its centres and extents; see `__call__`.

        With two slots the next frame goes up while one is computed, so results are one frame late. A frame that lies on
        the GPU is read before the next one is taken from `frames`, so its memory may be used again. What raises in
        `frames` raises here in its place, after the results of the frames before it.

        All slots are reserved until it ends: other threads wait, and the one that iterates may not use this pipeline
        otherwise.
        """
        waiting: deque[Callable[[], Joints]] = deque()
        failure: Exception | None = None
        with ExitStack() as locks:
            for slot in self._slots:
                slot.acquire()
                locks.callback(slot.release)
            source = iter(frames)
            for slot in cycle(self._slots):
                if len(waiting) == len(self._slots):
                    yield waiting.popleft()()
                try:
                    frame, center, extent = next(source)
                    waiting.append(self._begin(slot, frame, center, extent, format))
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
            while waiting:
                yield waiting.popleft()()
            if failure is not None:
                raise failure

    def replay_ms(self, rounds: int) -> list[float]:
        """GPU time of the last call's last run, run again so many times: what a frame costs beside its upload."""
        with self._slot() as slot, self.device.active():
            return slot.replay_ms(rounds)

    def step(self, name: str, frame: Any) -> None:
        """One step of the last call's last run again, alone and waited for: what a benchmark times.

        It is "upload" (of `frame` and its people's matrices), "crop", "network", "decode" or "download".
        """
        with self._slot() as slot, self.device.active():
            slot.step(name, frame)

    def _begin(
        self, slot: ExecutionSlot, frame: Any, center: Float, extent: Float, format: Format | None
    ) -> Callable[[], Joints]:
        """Start a frame of a video; the result waits for its joints."""
        with self.device.active():
            image = slot.take(frame, format)
            if len(center) > slot.most or on_device(frame):  # several runs, or memory that may be used again at once
                joints = slot.run(image, center, extent)
                return lambda: joints
            slot.start(image, center, extent)

        def finish() -> Joints:
            with self.device.active():
                return slot.finish(center, extent)

        return finish

    @contextmanager
    def _slot(self) -> Iterator[ExecutionSlot]:
        """A free slot; if there is none, the first, as soon as it is free."""
        slot = next((one for one in self._slots if one.acquire(wait=False)), None)
        if slot is None:
            slot = self._slots[0]
            slot.acquire()
        try:
            yield slot
        finally:
            slot.release()


def _named(stream: Any) -> Stream | None:
    return None if stream is None else stream_of(stream)
