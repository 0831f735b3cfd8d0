"""The pipeline and the driver's layer on a driver whose GPU is the CPU: the code is the real one, down to the kernels.

The network is a function of numpy, so that the same people can be looked at by the estimator of the CPU.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from posert.export.graph.reference import random_crops
from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda import kernels, library, network
from posert.runtime.cuda.driver import Device, Event, Memory, Module, Pinned, Stream, exclusive_capture
from posert.runtime.cuda.kernels import Format
from posert.runtime.cuda.library import CudaError
from posert.runtime.cuda.network import bucket_of, timed_ms
from posert.runtime.cuda.pipeline import Pipeline
from posert.runtime.cuda.session import GpuSession
from posert.runtime.errors import BackendError, InputError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.heads import Head, Outputs, head
from posert.runtime.pose.preprocess import check_boxes, crop_matrices, crop_regions
from posert.runtime.selection import Selection

FAILS, REFUSED_IMAGES, CAPABILITY, FOREIGN = range(4)
OUT_OF_MEMORY, LOST, CAPTURE = 2, 700, 900
SIZE = (160, 120)
BOXES = [[10, 10, 60, 100], [40, 20, 90, 110], [-20, -10, 40, 60], [100, 60, 180, 130], [70, 5, 95, 50]]


def contract_of(**changes: Any) -> Contract:
    return Contract(
        dataset="test",
        keypoints=("nose", "left", "right", "top"),
        flip_pairs=((1, 2),),
        skeleton=(),
        sigmas=(0.1,) * 4,
        width=48,
        height=64,
        heatmap_width=12,
        heatmap_height=16,
        **changes,
    )


def heatmaps_of(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(N, 4, 16, 12)` of crops `(N, 64, 48, 3)`: 4x4 means, mixed into four joints."""
    cells = crops.reshape(len(crops), 16, 4, 12, 4, 3).mean(axis=(2, 4)) / 255
    mix = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.3]])
    return np.ascontiguousarray(np.einsum("nhwc,kc->nkhw", cells, mix), np.float32)


class FakeNetwork:
    """`give(crops)` in a stream; `calls` counts how often it was put there."""

    def __init__(
        self,
        library: ctypes.CDLL,
        largest: int = 8,
        capturable: bool = True,
        dtype: Any = np.float32,
        give: Callable[[NDArray[np.uint8]], Outputs] = lambda crops: (heatmaps_of(crops),),
    ) -> None:
        self.give = give
        self.shapes = tuple(output.shape[1:] for output in give(np.zeros((1, 64, 48, 3), np.uint8)))
        self.largest, self.capturable, self.dtype = largest, capturable, np.dtype(dtype)
        self._library, self._kept, self.calls, self.bound = library, [], 0, []
        self.spoil: Callable[[NDArray[Any]], None] = lambda maps: None

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        assert crop == (64, 48, 3)
        return self.shapes, self.dtype

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        self.bound.append(batch)

        def work() -> None:
            source = np.ctypeslib.as_array((ctypes.c_uint8 * (batch * 64 * 48 * 3)).from_address(crops))
            for address, output in zip(outputs, self.give(source.reshape(batch, 64, 48, 3)), strict=True):
                size = output.size * self.dtype.itemsize
                target = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(self.dtype)
                self.spoil(output)
                target[:] = output.ravel()

        callback = ctypes.CFUNCTYPE(None)(work)
        self._kept.append(callback)  # graphs go on calling it

        def run() -> None:
            self.calls += 1
            self._library.fake_run(callback, ctypes.c_void_p(stream.address))

        return run


class NumpySession:
    """The same network for the estimator of the CPU."""

    def __init__(self, give: Callable[[NDArray[np.uint8]], Outputs] = lambda crops: (heatmaps_of(crops),)) -> None:
        self.infer = give


@pytest.fixture
def frame() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8), (0, 0), 3)


def expected(frame: NDArray[np.uint8], boxes: Any, contract: Contract, flip_test: bool = False) -> Any:
    estimator = PoseEstimator.from_session(contract, NumpySession(), Selection("test", "fp32", ""), flip_test)
    return estimator(frame, boxes)


def regions(boxes: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return crop_regions(check_boxes(boxes), contract_of())


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_are_those_of_the_cpu(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], flip_test: bool, capturable: bool
) -> None:
    contract, network = contract_of(), FakeNetwork(fake_gpu, capturable=capturable)
    pipeline = Pipeline(network, contract, Device(), flip_test=flip_test)
    for count in (1, 3, 5, 0, 3):
        xy, score = pipeline(frame, *regions(BOXES[:count]))
        people = expected(frame, BOXES[:count], contract, flip_test)
        np.testing.assert_array_equal(xy, people.xy)
        np.testing.assert_array_equal(score, people.score)


def test_graphs_are_captured_once(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    network = FakeNetwork(fake_gpu, largest=4)
    pipeline = Pipeline(network, contract_of(), Device())
    for _ in range(3):
        pipeline(frame, *regions(BOXES[:3]))
    assert network.bound == [4]
    assert network.calls == 2  # once to prepare itself and once into the graph, whose replays do not come by here
    pipeline(frame, *regions(BOXES))  # five: a full run of four and one of one
    assert network.bound == [4, 1]


def test_replays_can_be_timed(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    assert pipeline.replay_ms(3) == []  # nothing was run yet
    pipeline(frame, *regions(BOXES))
    assert pipeline.replay_ms(3) == [1.0] * 3  # as the fake GPU's clock goes


def test_what_is_timed_waits_on_the_gpu_and_not_for_the_host() -> None:
    """Each run is put behind another one, so that marks are passed when work ends, not when the host records them."""
    done: list[str] = []
    stream: Any = SimpleNamespace(record=lambda event: done.append("mark"))

    class Mark(Event):
        def __init__(self, timed: bool = False) -> None:
            assert timed

        def synchronize(self) -> None:
            done.append("wait")

        def ms_since(self, earlier: Event) -> float:
            return 2.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "Event", Mark)
        assert timed_ms(lambda: done.append("work"), stream, 2) == [2.0, 2.0]
    assert done == ["work", "mark", "work", "mark", "work", "mark", "wait"]


def test_half_precision_heatmaps(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    contract = contract_of(decode="none")
    xy, score = Pipeline(FakeNetwork(fake_gpu, dtype=np.float16), contract, Device())(frame, *regions(BOXES))
    people = expected(frame, BOXES, contract)
    np.testing.assert_allclose(score, people.score, rtol=2**-11)
    # rounding may join neighbouring cells into a tie
    assert (np.abs(xy - people.xy).max(axis=2) < 1e-3).mean() > 0.7


class OnDevice:
    """An array of another library "on the GPU": what `__cuda_array_interface__` or DLPack say of a numpy array."""

    def __init__(self, array: NDArray[Any], version: int = 3, **changes: Any) -> None:
        self._array = array
        self.__cuda_array_interface__ = {
            "data": (array.ctypes.data, False),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
            "version": version,
            **changes,
        }


class ByDlpack:
    """The same by DLPack; numpy makes the capsule."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array, self.streams = array, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> Any:
        self.streams.append(stream)
        return self._array.__dlpack__()


@pytest.mark.parametrize("version", [2, 3])
def test_frames_on_the_gpu_are_read_in_place(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], version: int) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    people = expected(frame, BOXES, contract_of())
    wide = np.zeros((SIZE[1], SIZE[0] + 9, 3), np.uint8)
    wide[:, :-9] = frame
    part = wide[:, :-9]  # with a pitch
    for seen in (OnDevice(frame, version), OnDevice(part, version), OnDevice(frame, version, strides=None)):
        np.testing.assert_array_equal(pipeline(seen, *regions(BOXES))[0], people.xy)
    given = ByDlpack(part)
    np.testing.assert_array_equal(pipeline(given, *regions(BOXES))[0], people.xy)
    assert given.streams == [pipeline._slots[0]._stream.address]


def test_an_array_that_does_not_name_its_stream_is_asked(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    """PyTorch and JAX write in streams that `__cuda_array_interface__` does not tell; DLPack waits for them."""

    class Both(OnDevice, ByDlpack):
        def __init__(self, array: NDArray[np.uint8], **changes: Any) -> None:
            OnDevice.__init__(self, array, **changes)
            self.streams: list[int | None] = []

    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    people, ours = expected(frame, BOXES, contract_of()), pipeline._slots[0]._stream.address
    silent, named = Both(frame, version=2), Both(frame, stream=7012)
    np.testing.assert_array_equal(pipeline(silent, *regions(BOXES))[0], people.xy)
    pipeline.into(OnDevice(np.zeros((len(BOXES), 4, 3), np.float32)), silent, *regions(BOXES))
    assert silent.streams == [ours, ours]
    pipeline(silent, *regions(BOXES), stream=7013)  # who gives one knows better
    pipeline(named, *regions(BOXES))
    assert len(silent.streams) == 2 and not named.streams
    assert waited(fake_gpu, ours, 7013) == waited(fake_gpu, ours, 7012) == 1


def waited(library: ctypes.CDLL, stream: int, earlier: int) -> int:
    return int(library.fake_waited(ctypes.c_void_p(stream), ctypes.c_void_p(earlier)))


class CudaStream:
    """As cuda.core and newer libraries show their streams."""

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 7009


STREAMS = [
    (None, 1),  # the default stream
    (7001, 7001),
    (SimpleNamespace(handle=7002), 7002),  # pycuda
    (SimpleNamespace(ptr=7003), 7003),  # CuPy
    (SimpleNamespace(cuda_stream=7004), 7004),  # PyTorch
    (SimpleNamespace(cuda_stream=0), 1),
    (SimpleNamespace(handle=ctypes.c_void_p(7005)), 7005),  # Numba
    (CudaStream(), 7009),
]


@pytest.mark.parametrize(("stream", "handle"), STREAMS)
def test_frames_are_read_when_their_stream_has_written_them(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], stream: Any, handle: int
) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    ours = pipeline._slots[0]._stream.address
    before = waited(fake_gpu, ours, handle)
    # version 2 says nothing of streams, and pycuda says None in version 3 whatever its streams do
    for version, seen in enumerate((OnDevice(frame, 2), OnDevice(frame, 3, stream=None)), 1):
        pipeline(seen, *regions(BOXES), stream=stream)
        assert waited(fake_gpu, ours, handle) == before + version
    # an array that names its stream knows better
    pipeline(OnDevice(frame, 3, stream=7010), *regions(BOXES), stream=stream)
    assert waited(fake_gpu, ours, 7010) >= 1 and waited(fake_gpu, ours, handle) == before + 2
    with pytest.raises(InputError, match="the stream is str"):
        pipeline(OnDevice(frame), *regions(BOXES), stream="main")


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("count", [1, 2, 19])
def test_joints_that_stay_on_the_gpu(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], on_device: bool, count: int
) -> None:
    """In as many runs as they need; the host waits for nothing, the user's stream for all."""
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    boxes = np.resize(BOXES, (count, 4))
    people = expected(frame, boxes, contract_of())
    out, stream = np.full((count, 4, 3), -5, np.float32), SimpleNamespace(handle=7011)
    ours = pipeline._slots[0]._stream.address
    before = waited(fake_gpu, 7011, ours), waited(fake_gpu, ours, 7011)
    pipeline.into(OnDevice(out), OnDevice(frame) if on_device else frame, *regions(boxes), stream=stream)
    np.testing.assert_array_equal(out[..., :2], people.xy)
    np.testing.assert_array_equal(out[..., 2], people.score)
    assert waited(fake_gpu, 7011, ours) == before[0] + 1
    assert waited(fake_gpu, ours, 7011) == before[1] + 1 + on_device
    np.testing.assert_array_equal(pipeline(frame, *regions(boxes))[0], people.xy)  # the slot is free again


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((2, 4, 3), np.float32), "out is ndarray; expected a float32 array of torch"),
        (OnDevice(np.zeros((2, 4, 3))), "out is <f8"),
        (OnDevice(np.zeros((3, 4, 3), np.float32)), r"expected float32 \(2, 4, 3\), contiguous"),
        (OnDevice(np.zeros((2, 4, 6), np.float32)[..., ::2]), "contiguous"),
        (OnDevice(np.zeros((2, 4, 3), np.float32), data=(64, True)), "read-only"),
    ],
)
def test_outputs_that_cannot_be_used(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], out: Any, message: str) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    with pytest.raises(InputError, match=message):
        pipeline.into(out, frame, *regions(np.resize(BOXES, (2, 4))))


def test_memory_of_another_context_is_refused(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    """`pycuda.autoinit` makes a context of its own; a kernel that reads its memory would end all of ours."""
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    out = OnDevice(np.zeros((len(BOXES), 4, 3), np.float32))
    fake_gpu.fake_set(FOREIGN, 1)
    with pytest.raises(InputError, match="the frame lies in a CUDA context of its own.*import pycuda.autoprimaryctx"):
        pipeline(OnDevice(frame), *regions(BOXES))
    with pytest.raises(InputError, match="or it lies on another GPU than the network"):
        pipeline(ByDlpack(frame), *regions(BOXES))
    with pytest.raises(InputError, match="out lies in a CUDA context of its own"):
        pipeline.into(out, frame, *regions(BOXES))
    fake_gpu.fake_set(FOREIGN, 0)
    pipeline.into(out, OnDevice(frame), *regions(BOXES))


def test_a_frame_is_held_while_it_is_read(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    """The host does not wait for `into`, so the caller may drop the frame before the GPU has read it."""
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    before = sys.getrefcount(frame)
    pipeline.into(OnDevice(np.zeros((len(BOXES), 4, 3), np.float32)), OnDevice(frame), *regions(BOXES))
    assert sys.getrefcount(frame) > before
    pipeline(frame, *regions(BOXES))
    gc.collect()
    assert sys.getrefcount(frame) == before


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "is float32; expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"is \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
        (OnDevice(np.zeros((4, 4, 3), np.float32)), "<f4 on the GPU"),
        (OnDevice(np.zeros((4, 8, 3), np.uint8)[:, ::2]), "do not lie side by side"),
        (OnDevice(np.zeros((4, 8, 3), np.uint8)[::-1]), "do not lie side by side"),
        (ByDlpack(np.zeros((4, 4, 3), np.float32)), r"DLPack type \(2, 32\)"),
    ],
)
def test_frames_that_cannot_be_used(fake_gpu: ctypes.CDLL, seen: Any, message: str) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    with pytest.raises(InputError, match=message):
        pipeline(seen, *regions(BOXES))


def test_formats(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    nv12 = np.random.default_rng(1).integers(0, 256, (SIZE[1] * 3 // 2, SIZE[0])).astype(np.uint8)
    cases: list[tuple[Any, Format | None, NDArray[np.uint8]]] = [
        (cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA), None, frame),
        (grey, None, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)),
        (np.ascontiguousarray(frame[..., ::-1]), Format.RGB, frame),
        (nv12, Format.NV12, cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)),
        (OnDevice(nv12), Format.NV12, cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)),
    ]
    for seen, format, bgr in cases:
        xy, _ = pipeline(seen, *regions(BOXES), format=format)
        np.testing.assert_array_equal(xy, expected(bgr, BOXES, contract_of()).xy)
    with pytest.raises(InputError, match="which is not NV12: 1 bytes per pixel"):
        pipeline(frame, *regions(BOXES), format=Format.NV12)
    with pytest.raises(InputError, match="even H and W"):
        pipeline(nv12[:-1], *regions(BOXES), format=Format.NV12)


class OnGpuOnly(GpuSession):
    """A session whose crops and heatmaps have to stay on the GPU."""

    def infer(self, crops: NDArray[np.uint8]) -> Outputs:
        raise AssertionError("the frame should stay on the GPU")


@pytest.mark.parametrize("flip_test", [False, True])
def test_the_estimator_uses_the_pipeline(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], flip_test: bool) -> None:
    session = OnGpuOnly(FakeNetwork(fake_gpu), Device())
    estimator = PoseEstimator.from_session(contract_of(), session, Selection("test", "fp32", ""), flip_test)
    for boxes in (BOXES, None, []):
        people = expected(frame, boxes, contract_of(), flip_test)
        seen = OnDevice(frame)
        seen.shape = frame.shape
        for given in (frame, seen):
            result = estimator(given, boxes)
            np.testing.assert_array_equal(result.xy, people.xy)
            np.testing.assert_array_equal(result.score, people.score)
    with pytest.raises(InputError, match="lies outside"):
        estimator(seen, [[500, 500, 600, 600]])


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_video(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], slots: int) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu, largest=4), contract_of(), Device(), slots=slots)
    frames = [np.roll(frame, 7 * i, axis=1) for i in range(6)]
    counts = [2, 0, 5, 1, 9, 3]  # more than four take several runs
    boxes = [(BOXES * 2)[:n] for n in counts]
    seen = list(pipeline.video((f, *regions(b)) for f, b in zip(frames, boxes, strict=True)))
    assert len(seen) == 6
    for (xy, _), f, b in zip(seen, frames, boxes, strict=True):
        np.testing.assert_array_equal(xy, expected(f, b, contract_of()).xy)
    np.testing.assert_array_equal(pipeline(frame, *regions(BOXES))[0], expected(frame, BOXES, contract_of()).xy)


def test_a_call_within_a_video_is_refused_and_does_not_wait_for_itself(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]
) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device(), slots=2)
    people = regions(BOXES)
    running = pipeline.video((frame, *people) for _ in range(4))
    next(running)
    with pytest.raises(BackendError, match="a video runs through this pipeline in this thread"):
        pipeline(frame, *people)
    with pytest.raises(BackendError, match="a video runs"):
        next(pipeline.video([(frame, *people)]))
    assert len(list(running)) == 3
    np.testing.assert_array_equal(pipeline(frame, *people)[0], expected(frame, BOXES, contract_of()).xy)
    running = pipeline.video((frame, *people) for _ in range(4))
    next(running)
    running.close()
    pipeline(frame, *people)


def stream_of(
    library: ctypes.CDLL, frames: Iterable[tuple[Any, Any]], flip_test: bool = False, **changes: Any
) -> Iterator[Any]:
    session = OnGpuOnly(FakeNetwork(library, **changes), Device())
    return PoseEstimator.from_session(contract_of(), session, Selection("test", "fp32", ""), flip_test).stream(frames)


@pytest.mark.parametrize("flip_test", [False, True])
def test_a_stream_gives_what_single_calls_give(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], flip_test: bool
) -> None:
    pairs = [(np.roll(frame, 7 * i, axis=1), (BOXES * 2)[:n]) for i, n in enumerate((2, 0, 5, 1, 9, 3))]
    seen = list(stream_of(fake_gpu, iter(pairs), flip_test, largest=4))
    assert len(seen) == len(pairs)
    for people, pair in zip(seen, pairs, strict=True):
        one = expected(*pair, contract_of(), flip_test)
        for name in ("xy", "score", "boxes"):
            np.testing.assert_array_equal(getattr(people, name), getattr(one, name))
        assert people.names == one.names


def test_a_stream_sends_the_next_frame_up_while_one_is_computed(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]
) -> None:
    taken = 0

    def frames() -> Iterator[tuple[Any, Any]]:
        nonlocal taken
        for _ in range(5):
            taken += 1
            yield frame, BOXES

    behind = [taken - i for i, _ in enumerate(stream_of(fake_gpu, frames()), start=1)]
    assert behind == [1, 1, 1, 1, 0]  # two in progress, one of them done


@pytest.mark.parametrize("on_device", [False, True])
def test_frames_of_a_stream_may_be_overwritten(
    fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], on_device: bool
) -> None:
    memory = frame.copy()

    def frames() -> Iterator[tuple[Any, Any]]:
        for shift in range(4):
            memory[:] = np.roll(frame, 7 * shift, axis=1)
            seen = OnDevice(memory)
            seen.shape = memory.shape
            yield seen if on_device else memory, BOXES
            memory[:] = 0  # as a decoder does that writes every frame into the same memory

    for shift, people in enumerate(stream_of(fake_gpu, frames())):
        one = expected(np.roll(frame, 7 * shift, axis=1), BOXES, contract_of())
        np.testing.assert_array_equal(people.xy, one.xy)


@pytest.mark.parametrize("bad", [0, 1, 3])
def test_what_fails_in_a_stream_raises_in_its_place(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], bad: int) -> None:
    """A box, a frame, and the source of the frames itself."""

    def source(wrong: Any) -> Iterator[tuple[Any, Any]]:
        for i in range(5):
            if i == bad and isinstance(wrong, Exception):
                raise wrong
            yield wrong if i == bad else (frame, BOXES)

    for wrong, error in (
        ((frame, [[500, 500, 600, 600]]), InputError),
        ((frame.astype(np.float32), BOXES), InputError),
        (OSError("the camera was unplugged"), OSError),
    ):
        seen = []
        with pytest.raises(error):
            for people in stream_of(fake_gpu, source(wrong)):
                seen.append(people)
        assert len(seen) == bad


def test_streams_and_calls_between_do_not_touch_each_other(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    session = OnGpuOnly(FakeNetwork(fake_gpu), Device())
    pose = PoseEstimator.from_session(contract_of(), session, Selection("test", "fp32", ""))
    pairs = [(np.roll(frame, 7 * i, axis=1), BOXES[:n]) for i, n in enumerate((2, 5, 1, 3))]
    singles = [expected(*pair, contract_of()) for pair in pairs]
    for a, b, one in zip(pose.stream(pairs), pose.stream(reversed(pairs)), singles, strict=True):
        np.testing.assert_array_equal(a.xy, one.xy)
        np.testing.assert_array_equal(pose(*pairs[1]).xy, singles[1].xy)
        assert len(b) in (1, 2, 3, 5)
    gc.collect()
    settled = fake_gpu.fake_allocated()
    next(pose.stream(pairs))  # left halfway
    for seen, one in zip(pose.stream(pairs), singles, strict=True):
        np.testing.assert_array_equal(seen.xy, one.xy)
    gc.collect()
    assert fake_gpu.fake_allocated() == settled, "streams that ended hand their buffers to the next ones"


def test_a_rule_without_a_kernel_is_decoded_on_the_cpu(
    fake_gpu: ctypes.CDLL,
    frame: NDArray[np.uint8],
    add_head: Callable[[Head], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_head(replace(head("default"), name="mine", cuda=None))
    contract = contract_of(decode="mine")
    with caplog.at_level(logging.WARNING, "posert"):
        session = GpuSession(FakeNetwork(fake_gpu), Device())
        pose = PoseEstimator.from_session(contract, session, Selection("test", "fp32", ""))
        assert pose.open_pipeline() is None
        singles = [pose(frame, BOXES), pose(frame, BOXES[:2])]
        streamed = list(pose.stream([(frame, BOXES), (frame, BOXES[:2])]))
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("the decode rule 'mine' has no CUDA kernel: ") and told.endswith("decoding on the CPU")
    for seen, boxes in zip((*singles, *streamed), (BOXES, BOXES[:2]) * 2, strict=True):
        np.testing.assert_array_equal(seen.xy, expected(frame, boxes, contract_of()).xy)
    with pytest.raises(BackendError, match="'mine' has no CUDA kernel"):
        Pipeline(FakeNetwork(fake_gpu), contract, Device())(frame, *regions(BOXES))


def vectors_of(crops: NDArray[np.uint8]) -> Outputs:
    """SimCC's `(N, 4, 12)` along x and `(N, 4, 16)` along y."""
    maps = heatmaps_of(crops)
    return np.ascontiguousarray(maps.max(axis=2)), np.ascontiguousarray(maps.max(axis=3))


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("rule", ["simcc", "simcc_dark"])
def test_a_network_of_two_outputs(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8], rule: str, flip_test: bool) -> None:
    contract = contract_of(decode=rule, kernel=5, kernel_y=7)
    selection = Selection("test", "fp32", "")
    on_cpu = PoseEstimator.from_session(contract, NumpySession(vectors_of), selection, flip_test)(frame, BOXES)
    pipeline = Pipeline(FakeNetwork(fake_gpu, give=vectors_of), contract, Device(), flip_test=flip_test)
    xy, score = pipeline(frame, *regions(BOXES))
    np.testing.assert_allclose(xy, on_cpu.xy, rtol=0, atol=0 if rule == "simcc" else 1e-3)
    np.testing.assert_array_equal(score, on_cpu.score)
    session = GpuSession(FakeNetwork(fake_gpu, give=vectors_of, largest=2), Device())
    for seen, right in zip(
        session.infer(random_crops(contract, 3)), vectors_of(random_crops(contract, 3)), strict=True
    ):
        np.testing.assert_array_equal(seen, right)


def test_outputs_that_the_contract_does_not_read_are_refused(fake_gpu: ctypes.CDLL) -> None:
    with pytest.raises(
        BackendError, match=r"outputs have the shapes \(\(4, 16, 12\),\); its contract says \(\(4, 12\), "
    ):
        Pipeline(FakeNetwork(fake_gpu), contract_of(decode="simcc"), Device())


def test_two_threads(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    """Each with a pipeline of its own, and both with the same one: the fake GPU runs one kernel at a time."""
    shared = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    people, failed = expected(frame, BOXES, contract_of()), []

    def work() -> None:
        try:
            for _ in range(3):
                np.testing.assert_array_equal(shared(frame, *regions(BOXES))[0], people.xy)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_overflow_names_the_person(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    network = FakeNetwork(fake_gpu, largest=2)

    def spoil(maps: NDArray[Any]) -> None:
        maps[0, 2, 3, 3] = np.nan

    network.spoil = spoil
    pipeline = Pipeline(network, contract_of(), Device())
    with pytest.raises(InputError, match="1 of 8 joints hold NaN or infinity, the first at person 0 joint 2"):
        pipeline(frame, *regions(BOXES))
    network.spoil = lambda maps: None
    np.testing.assert_array_equal(pipeline(frame, *regions(BOXES))[0], expected(frame, BOXES, contract_of()).xy)


def test_a_region_that_cannot_be_cropped_is_told_as_on_the_cpu(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu, largest=2), contract_of(), Device())
    center, extent = regions(BOXES)
    center[3], extent[3] = (1e4, 1e4), (1e-5, 1e-5)
    with pytest.raises(InputError) as on_cpu:
        crop_matrices(center, extent, 48, 64)
    with pytest.raises(InputError) as on_gpu:
        pipeline(frame, center, extent)
    assert str(on_gpu.value) == str(on_cpu.value) and "box 3 " in str(on_gpu.value)
    out = OnDevice(np.zeros((5, 4, 3), np.float32))
    pipeline.into(out, frame, center, extent)
    assert np.isnan(out._array).any(axis=(1, 2)).tolist() == [False, False, False, True, False]


def test_nothing_is_left_behind(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    gc.collect()
    before = fake_gpu.fake_allocated()
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device(), slots=2)
    pipeline(frame, *regions(BOXES))
    settled = fake_gpu.fake_allocated()
    for _ in range(3):
        pipeline(frame, *regions(BOXES))
    assert fake_gpu.fake_allocated() == settled > before
    del pipeline
    gc.collect()
    assert fake_gpu.fake_allocated() == before


def test_networks_that_do_not_fit_their_contract(fake_gpu: ctypes.CDLL) -> None:
    with pytest.raises(BackendError, match="its contract says"):
        Pipeline(FakeNetwork(fake_gpu), contract_of(decode="udp_combined"), Device())
    with pytest.raises(BackendError, match="flip test"):
        Pipeline(FakeNetwork(fake_gpu, largest=1), contract_of(), Device(), flip_test=True)


def test_faults_of_the_gpu_are_told(fake_gpu: ctypes.CDLL, frame: NDArray[np.uint8]) -> None:
    pipeline = Pipeline(FakeNetwork(fake_gpu), contract_of(), Device())
    pipeline(frame, *regions(BOXES))
    for status, message in (
        (LOST, "CUDA_ERROR_ILLEGAL_ADDRESS.*context is lost. Restart the process"),
        (OUT_OF_MEMORY, "memory is full"),
        (CAPTURE, "graph cannot hold"),
    ):
        fake_gpu.fake_set(FAILS, status)
        with pytest.raises(CudaError, match=message) as caught, Device().active():
            Memory(64)
        assert caught.value.code == status
        fake_gpu.fake_set(FAILS, 0)
    np.testing.assert_array_equal(pipeline(frame, *regions(BOXES))[0], expected(frame, BOXES, contract_of()).xy)


def test_a_driver_that_refuses_machine_code_gets_ptx(fake_gpu: ctypes.CDLL) -> None:
    with Device().active():
        fake_gpu.fake_set(REFUSED_IMAGES, 1)
        Module(kernels.images((8, 6)))
        fake_gpu.fake_set(REFUSED_IMAGES, 2)
        with pytest.raises(BackendError, match="loads none of the kernels.*newer driver"):
            Module(kernels.images((8, 6)))


def test_a_failed_capture_leaves_the_stream_usable(fake_gpu: ctypes.CDLL) -> None:
    with Device().active():
        stream = Stream()
        with pytest.raises(ZeroDivisionError):
            stream.capture(_fail)
        stream.synchronize()


def _fail() -> None:
    raise ZeroDivisionError


def test_nothing_is_collected_during_a_capture(fake_gpu: ctypes.CDLL) -> None:
    """A buffer in a circle of references, freed in the middle, would end the capture on a real driver."""
    with Device().active():
        stream, seen = Stream(), list[bool]()
        stream.capture(lambda: seen.append(gc.isenabled()))
        assert seen == [False] and gc.isenabled()
        with pytest.raises(ZeroDivisionError):
            stream.capture(_fail)
        assert gc.isenabled()
        fake_gpu.fake_set(FAILS, CAPTURE)
        with pytest.raises(CudaError):
            stream.capture(lambda: pytest.fail("the capture did not begin"))
        assert gc.isenabled()


def test_what_is_freed_ends_no_capture_of_another_library(fake_gpu: ctypes.CDLL) -> None:
    """A buffer that goes while this thread captures, by PyTorch say, where the collector is not held off."""
    with Device().active():
        stream, kept = Stream(), [Memory(8)]
        before = fake_gpu.fake_allocated()
        stream.capture(kept.clear)
        assert fake_gpu.fake_allocated() == before - 1


def test_one_capture_at_a_time(fake_gpu: ctypes.CDLL) -> None:
    """PyTorch waits for the whole device before it captures, which would end what another thread captures."""
    begun, seen = threading.Event(), []

    def other() -> None:
        begun.set()
        with exclusive_capture():
            seen.append("other")

    with exclusive_capture():
        thread = threading.Thread(target=other)
        thread.start()
        begun.wait()
        thread.join(0.05)
        assert not seen and not gc.isenabled()
    thread.join()
    assert seen == ["other"] and gc.isenabled()


def test_context_is_left_as_it_was(fake_gpu: ctypes.CDLL) -> None:
    with pytest.raises(CudaError):  # no context is current in this thread
        Memory(8)
    device = Device()
    with device.active(), device.active():
        free, total = device.memory()
        assert 0 < free < total
    with pytest.raises(CudaError):
        Memory(8)


def test_driver_objects(fake_gpu: ctypes.CDLL) -> None:
    device = Device()
    assert (device.name, device.capability, device.driver, device.integrated) == ("Fake GPU", (8, 6), (12, 4), False)
    with device.active():
        stream, memory, pinned = Stream(), Memory(12), Pinned((3,), np.int32)
        pinned.array[:] = [1, 2, 3]
        first, second = Event(timed=True), Event(timed=True)
        stream.record(first)
        stream.upload(memory.address, pinned, 12)
        other = Memory(12)
        stream.copy(other.address, memory.address, 12)
        stream.clear(memory.address, 12)
        pinned.array[:] = 0
        stream.download(pinned, other.address, 8)
        stream.record(second)
        Stream(stream.address).synchronize()
        second.synchronize()
        assert pinned.array.tolist() == [1, 2, 0]
        assert second.ms_since(first) == 1.0


def test_arrays_through_a_network(fake_gpu: ctypes.CDLL) -> None:
    network = FakeNetwork(fake_gpu, largest=4)
    session = GpuSession(network, Device())
    crops = np.random.default_rng(0).integers(0, 256, (9, 64, 48, 3)).astype(np.uint8)
    for count in (3, 9, 1, 0):
        np.testing.assert_array_equal(session.infer(crops[:count])[0], heatmaps_of(crops[:count]))
    assert network.bound == [4, 1]
    with pytest.raises(InputError, match="crops are"):
        session.infer(crops[:, :32])


def test_batch_sizes() -> None:
    assert [bucket_of(n, 32) for n in (1, 2, 3, 5, 9, 17, 32)] == [1, 2, 4, 8, 16, 32, 32]
    assert [bucket_of(n, 6) for n in (1, 3, 5, 6)] == [1, 4, 6, 6]
    with pytest.raises(InputError, match="7 people"):
        bucket_of(7, 6)


def test_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(library.LIBRARY, raising=False)
    monkeypatch.setattr(library.ctypes, "CDLL", _no_library)
    library.symbols.cache_clear()
    try:
        assert "no NVIDIA driver here" in (library.missing() or "")
        with pytest.raises(BackendError, match="no NVIDIA driver here.*--gpus.*--backend openvino"):
            Device()
    finally:
        library.symbols.cache_clear()


def _no_library(name: str) -> Any:
    raise OSError(f"{name}: cannot open shared object file")


def test_an_old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.ctypes, "CDLL", lambda name: object())
    library.symbols.cache_clear()
    try:
        assert "older than CUDA 11.4" in (library.missing() or "")
    finally:
        library.symbols.cache_clear()
