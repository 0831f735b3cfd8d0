"""What only a real GPU can show. Run it with `make test-gpu`; kernels are in test_kernels.py, which runs there too.

POSERT_SOAK is the number of frames of the test for growing memory (2000; 100000 takes minutes).
"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from posert.export.graph.reference import Reference
from posert.runtime.backends import installed_backends, load_backend
from posert.runtime.bundle.archive import Bundle
from posert.runtime.bundle.contract import Contract
from posert.runtime.cuda import library
from posert.runtime.cuda.driver import Device, Memory, Pinned, Stream
from posert.runtime.cuda.pipeline import Pipeline
from posert.runtime.errors import BackendError
from posert.runtime.estimator import PoseEstimator
from posert.runtime.pose.decode import decode, to_frame
from posert.runtime.pose.heads import Outputs
from posert.runtime.pose.preprocess import check_boxes, crop_regions
from posert.runtime.selection import open_session

if library.missing():
    pytest.skip(f"no GPU: {library.missing()}", allow_module_level=True)

CUDA_BACKENDS = [name for name, spec in installed_backends().items() if spec.device == "cuda"]
BOXES = [
    [100, 60, 300, 460],
    [320, 40, 520, 440],
    [-30, 100, 140, 400],
    [500, 200, 700, 500],
    [10.5, 20.5, 60.5, 140.5],
]
SOAK = int(os.environ.get("POSERT_SOAK", "2000"))


@pytest.fixture
def frame(golden_image: Callable[[int], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(golden_image(1))


class Recorded:
    """A network that a graph can hold: it gives the same heatmaps again and again."""

    largest = 8

    def __init__(self, maps: NDArray[np.float32], capturable: bool) -> None:
        self.capturable, self._shape, self._row = capturable, maps.shape[1:], maps[0].nbytes
        self._maps, staging, stream = Memory(maps.nbytes), Pinned(maps.shape, np.float32), Stream()
        staging.array[...] = maps
        stream.upload(self._maps.address, staging, maps.nbytes)
        stream.synchronize()

    def outputs(self, crop: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], np.dtype[Any]]:
        return (self._shape,), np.dtype(np.float32)

    def bind(self, batch: int, crops: int, outputs: Sequence[int], stream: Stream) -> Callable[[], None]:
        return lambda: stream.copy(outputs[0], self._maps.address, batch * self._row)


@pytest.fixture
def contract(narrow_reference: Reference) -> Contract:
    return narrow_reference.contract


@pytest.mark.parametrize("capturable", [True, False], ids=["graph", "eager"])
def test_replay_equals_eager_and_the_cpu(frame: NDArray[np.uint8], contract: Contract, capturable: bool) -> None:
    rng, device = np.random.default_rng(0), Device()
    maps = rng.uniform(-0.1, 1, (8, 17, contract.heatmap_height, contract.heatmap_width)).astype(np.float32)
    with device.active():
        network = Recorded(maps, capturable)
    pipeline = Pipeline(network, contract, device)
    center, extent = crop_regions(check_boxes(BOXES), contract)
    peaks, score = decode((maps[: len(BOXES)],), contract)
    expected = to_frame(peaks, center, extent, contract.heatmap_width, contract.heatmap_height)
    for _ in range(3):
        xy, seen = pipeline(frame, center, extent)
        np.testing.assert_array_equal(xy, expected)
        np.testing.assert_array_equal(seen, score)


@pytest.fixture(params=CUDA_BACKENDS or [None])
def session(request: pytest.FixtureRequest, narrow_bundle: Path) -> Any:
    if request.param is None:
        pytest.skip("no library here runs networks on the GPU: tensorrt, onnxruntime-gpu or torch with CUDA")
    with Bundle(narrow_bundle) as bundle:
        return open_session(bundle, request.param, "fp32")


def test_networks_give_what_pytorch_gives(session: Any, narrow_bundle: Path) -> None:
    with Bundle(narrow_bundle) as bundle:
        golden = bundle.golden()
    crops = np.concatenate([golden.crops] * 3)
    expected = np.concatenate([golden.outputs[0]] * 3)
    # float32 in another order; TensorRT may use TF32, whose 10 bits of mantissa the largest value bounds
    bound = 2e-3 * float(np.abs(expected).max())
    for n in (1, 6, 3):
        np.testing.assert_allclose(session.infer(crops[:n])[0], expected[:n], rtol=0, atol=bound)


def frames_of(frame: NDArray[np.uint8]) -> dict[str, Any]:
    """The frame on the host and in the arrays of every library that is here."""
    found: dict[str, Any] = {"numpy": frame}
    try:
        import torch

        if torch.cuda.is_available():
            found["torch"] = torch.from_numpy(frame).cuda()
    except ImportError:
        pass
    try:
        import cupy

        found["cupy"] = cupy.asarray(frame)
    except ImportError:
        pass
    try:
        import pycuda.autoprimaryctx  # noqa: F401  (makes the primary context current)
        from pycuda import gpuarray

        found["pycuda"] = gpuarray.to_gpu(frame)
    except ImportError:
        pass
    return found


@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_on_the_gpu_are_those_of_its_heatmaps(
    session: Any, frame: NDArray[np.uint8], contract: Contract, flip_test: bool
) -> None:
    """The same network, once with crops and decoding on the CPU: what differs is the road, not the network."""

    class OnTheCpu:
        def infer(self, crops: NDArray[np.uint8]) -> Outputs:
            outputs: Outputs = session.infer(crops)
            return outputs

    from posert.runtime.selection import Selection

    there = PoseEstimator.from_session(contract, session, Selection("cuda", "fp32", ""), flip_test)
    here = PoseEstimator.from_session(contract, OnTheCpu(), Selection("cuda", "fp32", ""), flip_test)
    expected = here(frame, BOXES)
    for name, seen in frames_of(frame).items():
        people = there(seen, BOXES)
        # another batch size may take another kernel, whose last bits differ: a tie may go the other way
        agree = np.abs(people.xy - expected.xy).max(axis=2) < 1e-2
        assert agree.mean() > 0.95, name
        # a joint of a random network may have a peak near zero, whose last bits are not those of 1
        np.testing.assert_allclose(people.score, expected.score, rtol=1e-3, atol=1e-4, err_msg=name)


def outputs_of(shape: tuple[int, ...]) -> dict[str, tuple[Any, Any, Callable[[Any], Any]]]:
    """Arrays of the libraries that are here, each with a stream of its own and the way back to numpy behind it."""
    found: dict[str, tuple[Any, Any, Callable[[Any], Any]]] = {}
    try:
        import torch

        if torch.cuda.is_available():
            ours = torch.cuda.Stream()

            def back(array: Any) -> Any:
                with torch.cuda.stream(ours):
                    return array.cpu().numpy()

            found["torch"] = torch.zeros(shape, device="cuda"), ours, back
            torch.cuda.synchronize()  # the zeros are written in another stream than `ours`
    except ImportError:
        pass
    try:
        import cupy

        stream = cupy.cuda.Stream(non_blocking=True)
        found["cupy"] = cupy.asarray(np.zeros(shape, np.float32)), stream, lambda array: array.get(stream=stream)
        cupy.cuda.Device().synchronize()
    except ImportError:
        pass
    try:
        import pycuda.autoprimaryctx
        import pycuda.driver
        from pycuda import gpuarray

        queue = pycuda.driver.Stream()

        def fetch(array: Any) -> Any:
            host = array.get_async(stream=queue)
            queue.synchronize()
            return host

        found["pycuda"] = gpuarray.to_gpu(np.zeros(shape, np.float32)), queue, fetch  # `zeros` would need nvcc
    except ImportError:
        pass
    return found


def test_joints_that_stay_on_the_gpu(session: Any, frame: NDArray[np.uint8], contract: Contract) -> None:
    """What follows in the user's stream finds them there, although the host never waited."""
    pipeline = Pipeline(session.network, contract, session.device)
    center, extent = crop_regions(check_boxes(BOXES), contract)
    xy, score = pipeline(frame, center, extent)
    for name, (out, stream, back) in outputs_of((len(BOXES), len(contract.keypoints), 3)).items():
        for _ in range(20):
            pipeline.into(out, frame, center, extent, stream=stream)
            joints = back(out)
            np.testing.assert_array_equal(joints[..., :2], xy, err_msg=name)
            np.testing.assert_array_equal(joints[..., 2], score, err_msg=name)


def test_memory_does_not_grow(session: Any, frame: NDArray[np.uint8], contract: Contract) -> None:
    pipeline = Pipeline(session.network, contract, session.device, slots=2)
    regions = [crop_regions(check_boxes(BOXES[:n]), contract) for n in range(1, 6)]

    def run(count: int) -> None:
        for _ in pipeline.video((frame, *regions[i % 5]) for i in range(count)):
            pass

    def used() -> tuple[int, int]:
        with session.device.active():
            free, total = session.device.memory()
        return total - free, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    run(200)
    before = used()
    run(SOAK)
    after = used()
    assert after[0] - before[0] < 8 << 20, "memory of the GPU"
    assert after[1] - before[1] < 64 << 20, "memory of the host"


def test_two_estimators_in_two_threads(session: Any, frame: NDArray[np.uint8], contract: Contract) -> None:
    pipelines = [Pipeline(session.network, contract, session.device) for _ in range(2)]
    center, extent = crop_regions(check_boxes(BOXES), contract)
    expected, failed = pipelines[0](frame, center, extent)[0], []
    for pipeline in pipelines:
        pipeline(frame, center, extent)  # contexts are made one after the other

    def work(pipeline: Pipeline) -> None:
        try:
            for _ in range(50):
                np.testing.assert_allclose(pipeline(frame, center, extent)[0], expected, atol=1e-2)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(p,)) for p in pipelines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_a_frame_that_is_freed_early(session: Any, frame: NDArray[np.uint8], contract: Contract) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA here")
    pipeline = Pipeline(session.network, contract, session.device, slots=2)
    center, extent = crop_regions(check_boxes(BOXES), contract)
    expected = pipeline(frame, center, extent)[0]

    def frames() -> Any:
        for _ in range(20):
            yield torch.from_numpy(frame).cuda(), center, extent
            torch.zeros(frame.shape, dtype=torch.uint8, device="cuda")  # would take its place

    for xy, _ in pipeline.video(frames()):
        np.testing.assert_array_equal(xy, expected)


def test_a_launch_that_cannot_be_is_told() -> None:
    with Device().active(), pytest.raises(BackendError, match="CUDA_ERROR"):
        Memory(1 << 50)


def test_the_backend_that_auto_takes_says_what_it_lacks() -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        try:
            lacking = load_backend(name).unavailable()
        except BackendError as error:
            assert "pip install" in str(error)
            continue
        assert lacking is None or "this GPU is" in lacking
