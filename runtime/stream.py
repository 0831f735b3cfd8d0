"""The people of a frame on their way from crops to joints, and many frames on that way at a time.

While the network runs on some frames, the joints of the one before are read and the crops of the one behind are cut.
All but the network is done in the caller's thread, frame by frame and in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from .backends import Request
from .contract import Contract
from .decode import decode, to_frame
from .flip import merge
from .preprocess import crop, crop_matrices

# People per run: bounds the memory of a crowd scene; larger batches are no faster per person.
MAX_BATCH = 32

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Flip = tuple[int, ...] | None


class CropBuffer:
    """Memory for the crops of one run, which grows to the most people seen."""

    def __init__(self, contract: Contract) -> None:
        self._crops = np.empty((0, contract.height, contract.width, 3), np.uint8)

    def rows(self, count: int) -> Image:
        """`(count, height, width, 3)` uint8; what earlier calls gave is overwritten."""
        if count > len(self._crops):
            self._crops = np.empty((count, *self._crops.shape[1:]), np.uint8)
        return self._crops[:count]


class People:
    """The people of one frame.

    Args:
        contract: of the network.
        frame: `(H, W, 3)` uint8 BGR; it is let go of when the last crop was cut.
        center, extent: `(N, 2)` float32, px of the frame, see `preprocess`.
        flip: for a flip test, which joint stands for which in a mirror image (`flip.flip_index`); None for none.

    Attributes:
        parts: the people of one run each.
        xy, score: `(N, K, 2)`, px of the frame, and `(N, K)`, both float32; filled part by part by `read`.
    """

    def __init__(self, contract: Contract, frame: Image, center: Float, extent: Float, flip: Flip) -> None:
        c, n, k = contract, len(center), len(contract.keypoints)
        self._contract, self._flip = contract, flip
        self._center, self._extent = center, extent
        self._matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
        self._frame: Image | None = frame
        self.parts = [slice(start, min(start + MAX_BATCH, n)) for start in range(0, n, MAX_BATCH)]
        self.xy, self.score = np.empty((n, k, 2), np.float32), np.empty((n, k), np.float32)
        self._read = 0

    @property
    def done(self) -> bool:
        """Whether all parts were read."""
        return self._read == len(self.parts)

    def cut(self, part: slice, buffer: CropBuffer) -> Image:
        """What the network takes of a part: its crops and, for a flip test, their mirror images behind them."""
        assert self._frame is not None, "every part is cut once, in order"
        c, n = self._contract, part.stop - part.start
        crops = buffer.rows(n if self._flip is None else 2 * n)
        crop(self._frame, self._matrices[part], c.width, c.height, out=crops[:n])
        if self._flip is not None:
            crops[n:] = crops[:n, :, ::-1]
        if part == self.parts[-1]:
            self._frame = None
        return crops

    def read(self, part: slice, heatmaps: Float) -> None:
        """Take the joints of a part out of what the network gave for it.

        Raises:
            InputError: the maps hold NaN or infinity.
        """
        c = self._contract
        if self._flip is not None:
            heatmaps = merge(heatmaps, self._flip, c.flip_shift, 3 if c.decode == "udp_combined" else 1)
        peaks, self.score[part] = decode(heatmaps, c.decode, c.kernel)
        self.xy[part] = to_frame(
            peaks, self._center[part], self._extent[part], c.heatmap_width, c.heatmap_height, c.udp
        )
        self._read += 1


def overlap(frames: Iterable[People], requests: Iterable[Request], contract: Contract) -> Iterator[People]:
    """Send frames through the network, as many runs at a time as there are requests; they come back in order.

    What raises in `frames` raises here in its place, after the frames before it. When the generator ends early, what is
    under way is cancelled.
    """
    idle = deque((request, CropBuffer(contract)) for request in requests)
    limit = len(idle)
    running: deque[tuple[Request, CropBuffer, People, slice]] = deque()
    waiting: deque[People] = deque()
    failure: Exception | None = None

    def read_oldest() -> None:
        request, buffer, people, part = running[0]
        people.read(part, request.wait())
        running.popleft()
        idle.append((request, buffer))

    source = iter(frames)
    try:
        while True:
            try:
                people = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(people)
            for part in people.parts:
                if not idle:
                    read_oldest()
                    while waiting[0].done:
                        yield waiting.popleft()
                request, buffer = idle.popleft()
                running.append((request, buffer, people, part))
                request.start(people.cut(part, buffer))
            while waiting and (waiting[0].done or len(waiting) > limit):  # frames without people need no request
                while not waiting[0].done:
                    read_oldest()
                yield waiting.popleft()
        while waiting:
            while not waiting[0].done:
                read_oldest()
            yield waiting.popleft()
        if failure is not None:
            raise failure
    finally:
        for request, *_ in running:
            request.cancel()
