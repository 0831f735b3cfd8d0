"""What each way of calibrating costs: AP and joint drift of int8 graphs of the demo network, against PyTorch.

python -m posert.benchmarks.calibration --images 400

All graphs come from the same calibration crops and are judged on the same held-out synthetic people in OpenVINO. Joints
are decoded with DARK here, whatever the model's own rule: the quarter offset moves in steps of a quarter of a cell,
which hides most of what there is to see.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ..calib.equalize import equalize
from ..calib.fp16 import to_fp16
from ..calib.images import CalibrationSet, crops_from_coco
from ..calib.qdq import place, quantize
from ..calib.ranges import Ranges, collect
from ..export.archs import build_arch
from ..export.build import demo_frames
from ..export.catalog import find
from ..export.reference import Reference
from ..export.to_onnx import to_onnx, with_crops
from ..export.weights import DEMO_NOTE, load_weights
from ..runtime.backends import load_backend
from ..runtime.choice import Choice
from ..runtime.estimator import PoseEstimator
from ..runtime.parity import Candidate, judge

Make = Callable[[], onnx.ModelProto]


def main() -> int:
    """Entry point; prints a Markdown table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="hrnet_demo", help="an architecture with demo weights")
    parser.add_argument("--images", type=int, default=400, help="held-out images to judge on (400)")
    parser.add_argument("--people", type=int, default=128, help="people to calibrate on (128)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    row = find(args.arch)
    network = build_arch(row.arch, row.keypoints)
    load_weights(row, network, "demo")
    contract = replace(row.contract(), decode="unbiased")
    reference = Reference(network, contract)
    fp32 = with_crops(to_onnx(reference), contract)
    calibration = demo_frames(row, "calib", 200, "synthetic people")
    crops = crops_from_coco(calibration.coco, calibration.read, contract, args.people)

    def estimator(model: onnx.ModelProto) -> PoseEstimator:
        session = load_backend("openvino").Session(model.SerializeToString(), "int8")
        return PoseEstimator.from_session(contract, session, Choice("openvino", "int8", "under test"))

    candidates = [
        Candidate(
            "fp32", "pytorch", lambda: PoseEstimator.from_session(contract, reference, Choice("pytorch", "fp32", "")), 0
        )
    ]
    seconds: dict[str, float] = {}
    for name, make in settings(fp32, crops).items():
        start = time.perf_counter()
        model = make()
        seconds[name] = time.perf_counter() - start
        candidates.append(Candidate("int8", name, partial(estimator, model), 0))
    held_out = demo_frames(row, "val", args.images, DEMO_NOTE)
    result = judge(candidates, held_out, max_drop=0.005, labelled=True)
    rows = [{**asdict(r), "name": r.backend, "seconds": seconds.get(r.backend, 0.0)} for r in result.rows]
    if args.json:
        print(json.dumps({"arch": row.arch, "people": result.data["people"], "rows": rows}))
        return 0
    print(f"{row.arch} ({DEMO_NOTE}), {result.data['people']} held-out people, {args.people} to calibrate on\n")
    print("| setting | AP | AP lost (95 % interval) | drift median / p95, px | heatmap error | seconds |")
    print("|---|---|---|---|---|---|")
    for r in result.rows:
        (low, high), drop = r.ap_drop_interval or (0.0, 0.0), r.ap_drop or 0.0
        print(
            f"| {r.backend} | {r.ap:.4f} | {drop:+.4f} ({low:+.4f} to {high:+.4f}) | "
            f"{r.pixel_drift_median:.3f} / {r.pixel_drift_p95:.3f} | {r.heatmap_error:.4f} | "
            f"{seconds.get(r.backend, 0.0):.1f} |"
        )
    return 0


def settings(fp32: onnx.ModelProto, crops: CalibrationSet) -> dict[str, Make]:
    """Graphs to compare by name; each is made when it is called."""

    def ranges(model: onnx.ModelProto, method: str) -> Ranges:
        return collect(model, crops, place(model).tensors, method)

    def ours(method: str, unsigned: bool, equalized: bool = False) -> Make:
        def make() -> onnx.ModelProto:
            model = equalize(fp32, crops) if equalized else fp32
            return quantize(model, ranges(model, method), unsigned=unsigned).model

        return make

    found: dict[str, Make] = {
        "fp16": lambda: to_fp16(fp32),
        "ONNX Runtime, min-max symmetric": lambda: _ort(fp32, crops),
    }
    for method in ("minmax", "percentile:99.99", "percentile:99.9", "mse"):
        found[f"{method}, signed"] = ours(method, unsigned=False)
        found[f"{method}, unsigned"] = ours(method, unsigned=True)
    found["equalised, mse, signed"] = ours("mse", unsigned=False, equalized=True)
    found["equalised, mse, unsigned"] = ours("mse", unsigned=True, equalized=True)
    return found


def _ort(fp32: onnx.ModelProto, crops: CalibrationSet) -> onnx.ModelProto:
    """ONNX Runtime's own static quantisation: per-channel symmetric int8 with min-max ranges, float bias."""

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(crops)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"crops": batch}

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(fp32, source)
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
        return onnx.load(target)


if __name__ == "__main__":
    sys.exit(main())
