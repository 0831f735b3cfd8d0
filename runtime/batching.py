"""The people of a frame on their way from crops to joints, and many frames on that way at a time.

While the network runs on some frames, the joints of the frame before are decoded and the crops of the next are cut.
All but the network is done in the caller's thread, frame by frame and in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from .backends import AsyncSession, Request
from .bundle.contract import Contract
from .pose.decode import decode, to_frame
from .pose.heads import Outputs, head
from .pose.preprocess import crop, crop_matrices

# People per run. A person costs less in a batch (hrnet_w32 in int8: 23.6 ms alone, 19.6 each of four, 19.0 of eight),
# but OpenVINO keeps some 20 MB for every size of batch that it has seen, and a run of another size than the one before
# takes 6 to 11 ms more.
MAX_BATCH = 8
# `pipelined` collects people across frames up to this size; larger batches would delay earlier frames.
STREAM_BATCH = 4
_STREAM_BYTES = 1 << 28  # of frames in progress, which their owner may keep until they are done

Image = NDArray[np.uint8]
Float = NDArray[np.float32]


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


class FrameJob:
    """The people of one frame, from crops to joints.

    Args:
        contract: of the network.
        frame: `(H, W, 3)` uint8 BGR; it is released after the last crop.
        center, extent: `(N, 2)` float32, px of the frame, see `preprocess.crop_regions`.
        flip_test: run each crop's mirror image too and average.

    Attributes:
        batches: everyone, in slices that are one run each.
        error: what failed for these people.
        size: bytes of the frame.
        xy, score: `(N, K, 2)`, px of the frame, and `(N, K)`, both float32; filled batch by batch by `decode`.
    """

    def __init__(self, contract: Contract, frame: Image, center: Float, extent: Float, flip_test: bool) -> None:
        c, n, k = contract, len(center), len(contract.keypoints)
        self._contract = contract
        self._merge = head(c.decode).merge if flip_test else None
        self._center, self._extent = center, extent
        self._matrices = crop_matrices(center, extent, c.width, c.height, c.udp)
        self._frame: Image | None = frame
        self.size = frame.nbytes
        self.batches = [slice(start, min(start + MAX_BATCH, n)) for start in range(0, n, MAX_BATCH)]
        self.xy, self.score = np.empty((n, k, 2), np.float32), np.empty((n, k), np.float32)
        self.error: Exception | None = None
        self._waiting = n

    @property
    def done(self) -> bool:
        """Whether everyone was decoded, or something failed."""
        return self._waiting == 0 or self.error is not None

    def crop(self, batch: slice, buffer: CropBuffer, first: int = 0) -> Image:
        """The network's input for a batch, as rows of the buffer from `first` on. Each batch is cropped once, in order.

        These are the crops and, for a flip test, their mirror images behind them.
        """
        assert self._frame is not None, "everyone is cropped once, in order"
        c, n = self._contract, batch.stop - batch.start
        crops = buffer.rows(first + (n if self._merge is None else 2 * n))[first:]
        crop(self._frame, self._matrices[batch], c.width, c.height, out=crops[:n])
        if self._merge is not None:
            crops[n:] = crops[:n, :, ::-1]
        if batch.stop == len(self._center):
            self._frame = None
        return crops

    def decode(self, batch: slice, outputs: Outputs) -> None:
        """Take the joints of a batch out of the network's outputs for it.

        Raises InputError: the outputs hold NaN or infinity, or do not have the shapes that the decode rule reads.
        """
        c = self._contract
        if self._merge is not None:
            outputs = self._merge(outputs, c)
        cells, self.score[batch] = decode(outputs, c)
        self.xy[batch] = to_frame(
            cells, self._center[batch], self._extent[batch], c.heatmap_width, c.heatmap_height, c.map_udp
        )
        self._waiting -= batch.stop - batch.start


class _Run:
    """One run of the network and whose crops are in it."""

    def __init__(self, request: Request, contract: Contract, share: int) -> None:
        self.request, self._buffer, self._share = request, CropBuffer(contract), share
        self._shares: list[tuple[FrameJob, slice, slice]] = []
        self._rows = self.people = 0
        self._size = 0

    @property
    def full(self) -> bool:
        return self.people == self._size

    def add(self, job: FrameJob, first: int) -> int:
        """Take in people of a frame, from `first` on, as many as there is room for; returns the first one left."""
        if not self.people:
            self._size = min(self._share, MAX_BATCH if len(job.xy) - first >= MAX_BATCH else STREAM_BATCH)
        batch = slice(first, min(first + self._size - self.people, len(job.xy)))
        rows = slice(self._rows, self._rows + len(job.crop(batch, self._buffer, self._rows)))
        self._shares.append((job, batch, rows))
        self._rows, self.people = rows.stop, self.people + batch.stop - batch.start
        return batch.stop

    def start(self) -> None:
        self.request.start(self._buffer.rows(self._rows))

    def finish(self) -> None:
        """Wait for the end and decode everyone; a failure is noted for the frames that it concerns."""
        shares, self._shares, self._rows, self.people = self._shares, [], 0, 0
        try:
            outputs = self.request.wait()
        except Exception as error:
            for job, *_ in shares:
                job.error = error
            return
        for job, batch, rows in shares:
            try:
                job.decode(batch, tuple([output[rows] for output in outputs]))
            except Exception as error:
                job.error = error


def pipelined(
    jobs: Iterable[FrameJob], requests: Iterable[Request], contract: Contract, share: int = MAX_BATCH
) -> Generator[FrameJob]:
    """Send frames through the network, as many runs at a time as there are requests; they come back in order.

    A run takes people of one or of several frames, at most `share` of them. What raises in `jobs` raises here in its
    place, after the frames before it. When the generator ends early, it waits for the runs that were started.
    """
    idle = deque(_Run(request, contract, share) for request in requests)
    frames = STREAM_BATCH * (len(idle) + 1)  # in progress, which bounds those without people too
    running: deque[_Run] = deque()
    waiting: deque[FrameJob] = deque()
    failure: Exception | None = None

    def start() -> None:
        """Start the run that is being filled, if there is one."""
        if idle and idle[0].people:
            running.append(idle.popleft())
            running[-1].start()

    def ended() -> Iterator[FrameJob]:
        while waiting and waiting[0].done:
            job = waiting.popleft()
            if job.error is not None:
                raise job.error
            yield job

    def finish_oldest() -> Iterator[FrameJob]:
        """Wait for the oldest run, and yield the frames that ended with it."""
        if not running:
            start()
        running[0].finish()
        idle.append(running.popleft())
        return ended()

    source = iter(jobs)
    try:
        while True:
            try:
                job = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(job)
            first = 0
            while first < len(job.xy):
                if not idle:
                    yield from finish_oldest()
                first = idle[0].add(job, first)
                if idle[0].full:
                    start()
            yield from ended()
            while len(waiting) >= frames or sum(job.size for job in waiting) > _STREAM_BYTES:
                yield from finish_oldest()
        start()
        while waiting:
            yield from finish_oldest()
        if failure is not None:
            raise failure
    finally:
        for run in running:
            run.request.drop()


class Streams:
    """Streams through a session that can have several runs under way at a time.

    A stream's requests are kept for the next one: making them takes longer than a run of a small network.
    """

    def __init__(self, session: AsyncSession, contract: Contract, flip_test: bool) -> None:
        self._session, self._contract, self._flip_test = session, contract, flip_test
        self._spare: list[list[Request]] = []

    def run(self, regions: Iterable[tuple[Image, Float, Float]], people: int | None) -> Iterator[tuple[Float, Float]]:
        """Joints `(N, K, 2)` and scores `(N, K)` of each frame with the centers and extents of its people, in order.

        `people` is how many there are in all, if that is known: each processor then gets its share of few.
        """
        try:
            requests = self._spare.pop()  # which other threads do, too
        except IndexError:
            requests = self._session.requests()
        at_a_time = max(1, len(requests) - 1)  # one is being filled or read
        share = MAX_BATCH if people is None else max(1, -(-people // at_a_time))
        jobs = (FrameJob(self._contract, *region, self._flip_test) for region in regions)
        running = pipelined(jobs, requests, self._contract, share)
        try:
            for job in running:
                yield job.xy, job.score
        finally:
            running.close()  # waits for runs that were started
            self._spare.append(requests)
