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
from .bundle.contract import Contract
from .pose.decode import decode, to_frame
from .pose.flip import merge
from .pose.preprocess import crop, crop_matrices

# People per run. A person costs less in a batch (hrnet_w32 in int8: 23.6 ms alone, 19.6 each of four, 19.0 of eight;
# benchmarks/batches), but OpenVINO keeps some 20 MB for every size of batch that it has seen, and a run of another size
# than the one before takes 6 to 11 ms more.
MAX_BATCH = 8
# A stream makes up its runs of full size, or of this one where frames have fewer people: what is under way may be held
# by who waits for its result.
COLLECTED = 4

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Flip = tuple[int, ...] | None


class CropBuffer:
    """Memory for the crops of one run, which grows to the most people seen."""

    def __init__(self, contract: Contract) -> None:
        self._crops = np.empty((0, contract.height, contract.width, 3), np.uint8)

    def rows(self, count: int) -> Image:
        """The first rows `(count, height, width, 3)` uint8, which keep what was written into them."""
        if count > len(self._crops):
            grown = np.empty((count, *self._crops.shape[1:]), np.uint8)
            grown[: len(self._crops)] = self._crops
            self._crops = grown
        return self._crops[:count]


class People:
    """The people of one frame.

    Args:
        contract: of the network.
        frame: `(H, W, 3)` uint8 BGR; it is let go of when the last crop was cut.
        center, extent: `(N, 2)` float32, px of the frame, see `preprocess`.
        flip: for a flip test, which joint stands for which in a mirror image (`flip.flip_index`); None for none.

    Attributes:
        parts: everyone, in parts that are one run each.
        error: what went wrong with them on the way.
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
        self.error: Exception | None = None
        self._unread = n

    @property
    def done(self) -> bool:
        """Whether everyone was read, or something went wrong."""
        return self._unread == 0 or self.error is not None

    def cut(self, part: slice, buffer: CropBuffer, first: int = 0) -> Image:
        """What the network takes of a part, as rows of the buffer from `first` on.

        These are the crops and, for a flip test, their mirror images behind them.
        """
        assert self._frame is not None, "everyone is cut once, in order"
        c, n = self._contract, part.stop - part.start
        crops = buffer.rows(first + (n if self._flip is None else 2 * n))[first:]
        crop(self._frame, self._matrices[part], c.width, c.height, out=crops[:n])
        if self._flip is not None:
            crops[n:] = crops[:n, :, ::-1]
        if part.stop == len(self._center):
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
        self._unread -= part.stop - part.start


class _Run:
    """One run of the network and whose crops are in it."""

    def __init__(self, request: Request, contract: Contract) -> None:
        self.request, self._buffer = request, CropBuffer(contract)
        self._shares: list[tuple[People, slice, slice]] = []
        self._rows = self.people = 0
        self._size = COLLECTED

    @property
    def full(self) -> bool:
        return self.people == self._size

    def add(self, people: People, first: int) -> int:
        """Take in people of a frame, from `first` on, as many as there is room for; gives the first one left."""
        if not self.people:
            self._size = MAX_BATCH if len(people.xy) - first >= MAX_BATCH else COLLECTED
        part = slice(first, min(first + self._size - self.people, len(people.xy)))
        rows = slice(self._rows, self._rows + len(people.cut(part, self._buffer, self._rows)))
        self._shares.append((people, part, rows))
        self._rows, self.people = rows.stop, self.people + part.stop - part.start
        return part.stop

    def start(self) -> None:
        self.request.start(self._buffer.rows(self._rows))

    def read(self) -> None:
        """Wait for the end and give everyone theirs; what goes wrong is theirs too."""
        shares, self._shares, self._rows, self.people = self._shares, [], 0, 0
        try:
            heatmaps = self.request.wait()
        except Exception as error:
            for people, *_ in shares:
                people.error = error
            return
        for people, part, rows in shares:
            try:
                people.read(part, heatmaps[rows])
            except Exception as error:
                people.error = error


def overlap(frames: Iterable[People], requests: Iterable[Request], contract: Contract) -> Iterator[People]:
    """Send frames through the network, as many runs at a time as there are requests; they come back in order.

    A run takes people of one or of several frames. What raises in `frames` raises here in its place, after the frames
    before it. When the generator ends early, it waits for what is under way.
    """
    idle = deque(_Run(request, contract) for request in requests)
    most = COLLECTED * (len(idle) + 1)  # frames under way, which bounds those without people too
    running: deque[_Run] = deque()
    waiting: deque[People] = deque()
    failure: Exception | None = None

    def start() -> None:
        """Start the run that is being filled, if there is one."""
        if idle and idle[0].people:
            running.append(idle.popleft())
            running[-1].start()

    def ended() -> Iterator[People]:
        while waiting and waiting[0].done:
            people = waiting.popleft()
            if people.error is not None:
                raise people.error
            yield people

    def read_oldest() -> Iterator[People]:
        """Wait for the oldest run and give the frames that ended with it."""
        if not running:
            start()
        running[0].read()
        idle.append(running.popleft())
        return ended()

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
            first = 0
            while first < len(people.xy):
                if not idle:
                    yield from read_oldest()
                first = idle[0].add(people, first)
                if idle[0].full:
                    start()
            yield from ended()
            while len(waiting) >= most:
                yield from read_oldest()
        start()
        while waiting:
            yield from read_oldest()
        if failure is not None:
            raise failure
    finally:
        for run in running:
            run.request.drop()
