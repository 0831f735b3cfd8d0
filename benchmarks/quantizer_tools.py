"""The tools that `quantizers` compares, one function each.

Each runs in a process and an environment of its own, so libraries are imported where they are used. All take the fp32
graph (`crops` uint8 in, `heatmaps` out) and a file of crops `(N, H, W, 3)` uint8, write the quantised graph to
`target`, and return the seconds from reading the one to having written the other.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OVERFLOW_BATCHES = 2  # of eight crops: as many as a build looks at for what float16 cannot hold


def posert(
    model: str,
    crops: str,
    target: str,
    contract: dict[str, Any],
    gpu: bool = False,
    changed: dict[str, float] | None = None,
) -> float:
    """As the build does it for CPUs, or for GPUs: symmetric, and float16 where it is not int8.

    `changed` is for ablations: values for `equalise.POWER` and `clipping.CLIPPED_WEIGHT`, "rounding": 0 for the
    nearest level, and "pixels": 0 for normalised images that are quantised once more.
    """
    import onnx

    from ..calib import clipping, equalise, qdq
    from ..calib.calibrated import calibrate
    from ..calib.fp16 import activations, overflows
    from ..calib.ranges import collect

    start = time.perf_counter()
    fp32 = onnx.load(model)
    for module in (clipping, equalise):
        for name in vars(module).keys() & (changed or {}).keys():
            setattr(module, name, (changed or {})[name])
    if changed and changed.get("pixels") == 0:
        for module in (equalise, qdq):
            setattr(module, "find_pixels", lambda graph: None)  # noqa: B010 - what an import brought in
    found = calibrate(fp32, list(_batches(crops, 8)))
    if changed and changed.get("rounding") == 0:
        found = replace(found, rounded={})
    options: dict[str, Any] = {"unsigned": True}
    if gpu:
        seen = collect(fp32, islice(_batches(crops, 8), OVERFLOW_BATCHES), activations(fp32))
        options = {"unsigned": False, "fallback_dtype": "float16", "keep_fp32": overflows(fp32, seen)}
    onnx.save(qdq.quantize(fp32, found, **options).model, target)
    return time.perf_counter() - start


def onnxruntime(model: str, crops: str, target: str, method: str, unsigned: bool, bins: int | None = None) -> float:
    """ONNX Runtime's `quantize_static`: Q/DQ, int8 weights per channel; activations int8 symmetric or uint8.

    With `bins`, a calibrator with histograms of so many bins finds the ranges; `quantize_static` has no option for
    them, and reads what that calibrator found.
    """
    import onnxruntime.quantization as ort
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = _batches(crops, 1)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"crops": batch}

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepared, found, calibration = f"{folder}/prepared.onnx", None, ort.CalibrationMethod[method]
        quant_pre_process(model, prepared, skip_symbolic_shape=True)  # it cannot follow HRNet's shapes
        if bins is not None:
            calibrator = ort.create_calibrator(
                prepared,
                list({*QLinearOpsRegistry, *QDQRegistry}),  # as `quantize_static` chooses
                f"{folder}/augmented.onnx",
                calibration,
                extra_options={"num_bins": bins},
            )
            calibrator.collect_data(Reader())
            found = f"{folder}/ranges.json"
            ort.save_tensors_data(calibrator.compute_data(), found)
        ort.quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8 if unsigned else ort.QuantType.QInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=calibration,
            extra_options={"ActivationSymmetric": not unsigned, "WeightSymmetric": True},
            calibration_cache_path=found,
        )
    return time.perf_counter() - start


def nncf(
    model: str, crops: str, target: str, preset: str, accuracy: tuple[str, dict[str, Any], float] | None = None
) -> float:
    """NNCF's post-training quantisation of the OpenVINO model, for CPUs.

    With `accuracy`, a folder of validation images, a contract and a drop, it is the one with accuracy control: AP on
    the images may fall by the drop, absolute.
    """
    import nncf as tool
    import openvino as ov

    start = time.perf_counter()
    batches, network = list(_batches(crops, 1)), ov.Core().read_model(model)
    data, options = tool.Dataset(batches), {"preset": tool.QuantizationPreset[preset], "subset_size": len(batches)}
    options["target_device"] = tool.TargetDevice.CPU
    if accuracy is None:
        quantized = tool.quantize(network, data, **options)
    else:
        validation, contract, max_drop = accuracy
        held_out = Validation(validation, contract)

        def score(compiled: ov.CompiledModel, indices: Iterable[int]) -> tuple[float, None]:
            return held_out.average_precision(compiled, list(indices)), None

        everybody = tool.Dataset(range(len(held_out)))
        absolute = tool.DropType.ABSOLUTE
        quantized = tool.quantize_with_accuracy_control(
            network, data, everybody, score, max_drop=max_drop, drop_type=absolute, **options
        )
    ov.save_model(quantized, target, compress_to_fp16=False)
    return time.perf_counter() - start


def _batches(crops: str, size: int) -> Iterator[NDArray[np.uint8]]:
    pixels = np.load(crops, mmap_mode="r")
    return (np.ascontiguousarray(pixels[i : i + size]) for i in range(0, len(pixels), size))


class Validation:
    """AP of a compiled OpenVINO model on the annotated images in a folder."""

    def __init__(self, folder: str, contract: dict[str, Any]) -> None:
        from ..runtime.accuracy.frames import read_frames
        from ..runtime.bundle.contract import Contract

        self._contract = Contract.from_json(contract)
        self._frames = read_frames(Path(folder, "annotations.json"), Path(folder, "images"))

    def __len__(self) -> int:
        return len(self._frames.coco["images"])

    def average_precision(self, model: Any, images: list[int]) -> float:
        """COCO AP on some of the images, as if there were no others."""
        from ..runtime.estimator import PoseEstimator
        from ..runtime.metrics.oks import evaluate_oks
        from ..runtime.selection import Selection
        from .accuracy import keypoint_results, part_of

        class Compiled:
            def infer(self, crops: NDArray[np.uint8]) -> tuple[NDArray[np.float32], ...]:
                return (model(crops)[0],)

        pose = PoseEstimator.from_session(self._contract, Compiled(), Selection("openvino", "int8", "in the making"))
        frames = part_of(self._frames, [self._frames.coco["images"][i] for i in images])
        return evaluate_oks(frames.coco, keypoint_results(pose, frames), self._contract.sigmas).metrics["AP"]
